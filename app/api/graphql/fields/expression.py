"""Fields that are computed from their row."""

from collections.abc import Callable
from dataclasses import dataclass

from app.api.graphql.fields.attribute import AttributeField
from app.api.graphql.fields.source import (
    Column,
    ColumnValues,
    Declared,
    FieldSource,
    ReadContext,
    RequiredColumns,
    Rows,
    SelectedField,
    parameters_of,
    union,
    with_arguments,
)


@dataclass(frozen=True)
class ExpressionField(FieldSource):
    """A value computed from the row, and from the field's arguments if it has any."""

    value: Callable[..., object]
    columns: RequiredColumns = None
    without_arguments: AttributeField | None = None
    """The same value as an attribute, used if the arguments are omitted."""
    length: int | None = None
    full_length: int | None = None

    def resolver(self) -> Callable[..., object]:
        value = self.value
        _row, *parameters = parameters_of(value)
        return with_arguments(lambda root, **arguments: value(root, **arguments), parameters)

    def column(self, selected: SelectedField) -> Column:
        if self.without_arguments and not selected.has_arguments:
            return self.without_arguments.column(selected)
        value, arguments = self.value, selected.arguments
        is_decoded = self.full_length is not None

        def column(run: ReadContext, rows: Rows) -> ColumnValues:
            values = arguments(run.variables)
            computed = [value(row, **values) for row in rows] if values else [*map(value, rows)]
            if is_decoded and run.counts_texts:
                # All fields of a level are computed before the texts below them are counted.
                run.budget.read(computed)
            return computed

        return column

    def requires(self, selected: SelectedField) -> RequiredColumns:
        if self.without_arguments and not selected.has_arguments:
            return self.without_arguments.requires(selected)
        return union(self.columns, selected.required_below)


def expression(
    value: Callable[..., object],
    description: str,
    requires: RequiredColumns = None,
    without_arguments: AttributeField | None = None,
    *,
    length: int | None = None,
    full_length: int | None = None,
) -> Declared:
    """Declare a field computed from its row, and from the arguments that `value` has after it.

    `without_arguments` is the attribute with the same value if the arguments are omitted. `length`
    is the greatest length of a list, for its price, and `full_length` that of one that is usually
    short.
    """
    source = ExpressionField(value, requires, without_arguments, length, full_length)
    return source.declare(description)
