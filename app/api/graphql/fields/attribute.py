"""Fields that are an attribute of their row."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from strawberry.types.field import StrawberryField

from app.api.graphql.fields.encoders import encoders_of
from app.api.graphql.fields.source import (
    FIELD_SOURCE,
    Column,
    ColumnValues,
    Declared,
    EncodedColumn,
    FieldSource,
    ReadContext,
    RequiredColumns,
    Rows,
    SelectedField,
    union,
)
from app.api.graphql.strawberry_seam import has_resolver


@dataclass(frozen=True)
class AttributeField(FieldSource):
    """An attribute of the row, or of the object that `owner` returns for it.

    `convert` makes a value that GraphQL serializes.
    """

    name: str
    owner: Callable[..., object] | None = None
    convert: Callable[..., object] | None = None

    def resolver(self) -> Callable[..., object]:
        name, owner, convert = self.name, self.owner, self.convert

        def resolve(root: object) -> object:
            value = getattr(owner(root) if owner else root, name)
            return convert(value) if convert else value

        return resolve

    def column(self, selected: SelectedField) -> Column:
        owner, convert = self.owner, self.convert
        value, encoders = attrgetter(self.name), encoders_of(self.name)

        def column(run: ReadContext, rows: Rows) -> ColumnValues:
            if owner is not None:
                rows = run.owners(rows, owner)
            if len({*map(type, rows)}) == 1:
                encode = encoders[type(rows[0])]
                if encode is not None:
                    return EncodedColumn(encode(rows))
            return [convert(value(row)) for row in rows] if convert else [*map(value, rows)]

        return column

    def requires(self, selected: SelectedField) -> RequiredColumns:
        return union(frozenset({self.name}), selected.required_below)


def attribute(
    name: str,
    description: str,
    *,
    owner: Callable[..., object] | None = None,
    convert: Callable[..., object] | None = None,
) -> Declared:
    """Declare a field that is an attribute of its row, or of the row's `owner`."""
    return AttributeField(name, owner, convert).declare(description)


def source_of(field: StrawberryField) -> FieldSource:
    """Return a field's source: as declared, or the attribute of its name."""
    source: FieldSource | None = field.metadata.get(FIELD_SOURCE)
    if source is not None:
        return source
    if has_resolver(field):
        raise TypeError(f"{field.name} has a resolver but does not declare its source")
    return AttributeField(field.python_name)
