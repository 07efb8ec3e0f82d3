"""Fields that are a row of an earlier time, with a value that belongs to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from app.api.graphql.fields.loaders import BatchRead, KeyT, ValueT, current_loaders
from app.api.graphql.fields.source import (
    BatchLoad,
    Column,
    ColumnValues,
    Declared,
    FieldSource,
    ReadContext,
    Rows,
    SelectedField,
)


@dataclass(frozen=True)
class SnapshotField(FieldSource, Generic[KeyT, ValueT]):
    """A row that its parent has, and a value as of the same time.

    The row's fields that `batch` loads read that value, not the present one.
    """

    row: Callable[..., object]
    batch: BatchRead[KeyT, ValueT]
    loaded: Callable[..., tuple[KeyT, ValueT] | None]

    def resolver(self) -> Callable[..., object]:
        def resolve(root: object) -> object:
            loaded = self.loaded(root)
            if loaded is not None:
                current_loaders.get().prime(self.batch, *loaded)
            return self.row(root)

        return resolve

    def column(self, selected: SelectedField) -> Column:
        row, load, loaded_of = self.row, BatchLoad(self.batch), self.loaded

        def column(run: ReadContext, rows: Rows) -> ColumnValues:
            for loaded in map(loaded_of, rows):
                if loaded is not None:
                    run.prime(load, *loaded)
            return [*map(row, rows)]

        return column


def snapshot(
    row: Callable[..., object],
    batch: BatchRead[KeyT, ValueT],
    loaded: Callable[..., tuple[KeyT, ValueT] | None],
    description: str,
) -> Declared:
    """Declare a field that is a row of an earlier time.

    `loaded` returns the key and the value that `batch` would have read then, if known.
    """
    return SnapshotField(row, batch, loaded).declare(description)
