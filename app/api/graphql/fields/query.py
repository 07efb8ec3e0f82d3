"""Fields that are the result of a read."""

from collections.abc import Callable
from dataclasses import dataclass

from app.api.graphql.fields.loaders import current_loaders
from app.api.graphql.fields.source import (
    Column,
    ColumnValues,
    Declared,
    FieldSource,
    ReadContext,
    Rows,
    SelectedField,
    parameters_of,
    with_arguments,
)
from app.domain.callers import Caller
from app.storage.engine.transaction import Transaction

Read = Callable[[Transaction, Caller], object]


@dataclass(frozen=True)
class QueryField(FieldSource):
    """The result of the read that `read_for` returns for the field's arguments."""

    read_for: Callable[..., Read]

    def resolver(self) -> Callable[..., object]:
        async def resolve(root: object, **arguments: object) -> object:
            loaders = current_loaders.get()
            return await loaders.read(self.read_for(**arguments), loaders.caller)

        return with_arguments(resolve, parameters_of(self.read_for))

    def column(self, selected: SelectedField) -> Column:
        arguments = selected.arguments

        def column(run: ReadContext, rows: Rows) -> ColumnValues:
            read = self.read_for(**arguments(run.variables))
            return [read(run.tx, run.caller)] * len(rows)

        return column


def query(read_for: Callable[..., Read], description: str) -> Declared:
    """Declare a field that is the result of a read, which `read_for` returns for the arguments."""
    return QueryField(read_for).declare(description)
