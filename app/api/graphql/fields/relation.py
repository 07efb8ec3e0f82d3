"""Fields that are looked up by a key of their row."""

from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Generic, cast

from app.api.graphql.fields.loaders import BatchRead, KeyT, ValueT, current_loaders
from app.api.graphql.fields.source import (
    AnyRead,
    BatchLoad,
    Column,
    ColumnValues,
    Declared,
    FieldSource,
    ReadContext,
    RequiredColumns,
    Rows,
    SelectedField,
    parameters_of,
    with_arguments,
)


@dataclass(frozen=True)
class RelationField(FieldSource, Generic[KeyT, ValueT]):
    """A value looked up by a key of the row, or of the arguments.

    Null without a key, or if the key is unknown.
    """

    batch: BatchRead[KeyT, ValueT]
    key: Callable[..., KeyT | None]
    value: Callable[[ValueT], object]
    columns: RequiredColumns
    projected: bool
    full_length: int | None = None
    is_path: bool = False

    @property
    def projected_read(self) -> AnyRead | None:
        return self.batch if self.projected else None

    def resolver(self) -> Callable[..., object]:
        async def resolve(root: object, **arguments: object) -> object:
            key = self.key(root, **arguments)
            loaders = current_loaders.get()
            related = None if key is None else await loaders.load(self.batch, key)
            if self.is_path and related is not None:
                loaders.budget.return_paths([cast(Sized, related)])
            return None if related is None else self.value(related)

        _row, *parameters = parameters_of(self.key)
        return with_arguments(resolve, parameters)

    def column(self, selected: SelectedField) -> Column:
        is_path = self.is_path
        load, key, value, arguments = (
            BatchLoad(self.batch),
            self.key,
            self.value,
            selected.arguments,
        )

        def column(run: ReadContext, rows: Rows) -> Callable[[], ColumnValues]:
            values = arguments(run.variables)
            keys = [key(row, **values) for row in rows]
            run.request(load, keys)

            def results() -> ColumnValues:
                loaded = run.loaded(load, keys)
                if is_path:
                    run.budget.return_paths(path for path in loaded if path is not None)
                return [None if related is None else value(related) for related in loaded]

            return results

        return column

    def requires(self, selected: SelectedField) -> RequiredColumns:
        return self.columns


def relation(
    batch: BatchRead[KeyT, ValueT],
    key: Callable[..., KeyT | None],
    description: str,
    value: Callable[[ValueT], object] = lambda related: related,
    requires: RequiredColumns = None,
    *,
    projected: bool = False,
    full_length: int | None = None,
    is_path: bool = False,
) -> Declared:
    """Declare a field looked up by a key of its row, or of the arguments that `key` has after it.

    `value` computes the field from the related row. `projected`: `batch` reads a projection.
    `full_length` is the greatest length of a list that is usually short. `is_path`: related values
    are paths, whose items the operation's budget counts.
    """
    source = RelationField(batch, key, value, requires, projected, full_length, is_path)
    return source.declare(description)
