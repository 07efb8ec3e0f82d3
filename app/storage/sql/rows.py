"""Rows of tables: the driver's tuples, with an attribute per column.

A value is decoded when it is read. A row has the columns of its projection only.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum, auto
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import (
    ClassVar,
    Generic,
    NamedTuple,
    NoReturn,
    TypeVar,
    cast,
    dataclass_transform,
)
from uuid import UUID

import sqlalchemy as sa
from orjson import loads
from sqlmodel import Field, SQLModel

from app.storage.engine.sqlalchemy_seam import ColumnType, result_decoder
from app.storage.engine.statements import (
    AnyColumn,
    AnyQuery,
    AnyRow,
    AnySelect,
    BindValues,
    PreparedQuery,
)
from app.storage.engine.transaction import Transaction
from app.storage.sql.column_types import Instant, UnsetLast

RowT = TypeVar("RowT", bound="Row")

Reader = Callable[[AnyRow], object]
"""Reads a column's value from a row."""


class Projection(NamedTuple):
    """The columns to read."""

    columns: frozenset[str] | None = None
    """Names of attributes, None for all."""
    keys: bool = True
    """Read the keys of rows in their list too."""

    def union(self, other: "Projection") -> "Projection":
        """Return the columns of both."""
        columns = None
        if self.columns is not None and other.columns is not None:
            columns = self.columns | other.columns
        return Projection(columns, self.keys or other.keys)


MAX_CACHED_DOCUMENT = 4_096
"""Characters of a JSON document whose decoded value is cached."""

ALL_COLUMNS = Projection()
ID_COLUMN = Projection(frozenset({"id"}), keys=False)


class RawForm(Enum):
    """The representation of a column's values by the driver."""

    PLAIN = auto()
    """Values as they are."""
    INSTANT_TEXT = auto()
    """`2026-01-31 12:00:00.000000`, in UTC."""
    INSTANT = auto()
    UUID_TEXT = auto()
    """32 hexadecimal digits."""
    UUID = auto()
    ENUM = auto()
    """Values of members."""
    UNSET_LAST = auto()
    """A number, or UNSET for None."""
    OTHER = auto()
    """Any other: values have to be decoded."""


class RawColumn(NamedTuple):
    """A column of a row class as the driver returns it."""

    position: int
    form: RawForm
    names: Mapping[str | None, str | None] = {}
    """Names of an enum's members by their values, None for None."""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
class Row:
    """A row of a table. A subclass per table declares the columns, and the table inherits them.

    Queries return instances, which are read-only. Reading a column that the projection lacks raises
    AttributeError.
    """

    __slots__ = ()
    table: ClassVar[type[SQLModel]]
    raw_columns: ClassVar[Mapping[str, RawColumn]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if issubclass(cls, SQLModel):
            row_class_of(cls).table = cls


def row_class_of(table: type[SQLModel]) -> type[Row]:
    """Return the class that declares the table's columns."""
    [declared] = (base for base in table.__bases__ if issubclass(base, Row))
    return declared


@lru_cache(maxsize=512)
def column_names(table: type[SQLModel], projection: Projection) -> tuple[str, ...]:
    """Return the attributes of a projection in the table's order, at least one."""
    names = [attribute.key for attribute in sa.inspect(table).column_attrs]
    columns = projection.columns
    projected = tuple(name for name in names if columns is None or name in columns)
    # A statement must select something.
    return projected or (names[0],)


def all_columns(entity: type[SQLModel]) -> list[AnyColumn]:
    """Return the columns of a table, or of an alias of it, in the table's order."""
    table = sa.inspect(entity).mapper.class_
    return [getattr(entity, name) for name in column_names(table, ALL_COLUMNS)]


def row_maker(
    dialect: sa.Dialect, row: type[RowT], names: Sequence[str] | None = None
) -> Callable[[Sequence[object]], RowT]:
    """Return the conversion of the driver's rows with these columns, in this order.

    By default with all columns, in the table's order.
    """
    if names is None:
        names = column_names(row.table, ALL_COLUMNS)
    # Types in quotes: evaluating them takes 4 us.
    return cast(
        "Callable[[Sequence[object]], RowT]", _row_class(_Dialect(dialect), row.table, tuple(names))
    )


def row_of(row: type[RowT], values: Sequence[object]) -> RowT:
    """Return a row with these values of all columns, in the table's order."""
    return cast("Callable[[Sequence[object]], RowT]", _value_row_class(row.table))(values)


def row_from_json(row: type[RowT], document: Mapping[str, object]) -> RowT:
    """Return a row with the values of a JSON document; missing columns have their defaults."""
    fields = row.table.model_fields
    names = column_names(row.table, ALL_COLUMNS)
    values = [
        document[name] if name in document else fields[name].get_default(call_default_factory=True)
        for name in names
    ]
    return cast("Callable[[Sequence[object]], RowT]", _json_row_class(row.table))(values)


class RowQuery(Generic[RowT]):
    """A query of a table's rows by a condition; `condition` makes it for a dialect's name.

    `extend` adds an order, a limit or a lock.
    """

    def __init__(
        self,
        row: type[RowT],
        condition: Callable[[str], sa.ColumnElement[bool]],
        extend: Callable[[AnySelect], AnySelect] = lambda query: query,
    ) -> None:
        self._row = row
        self._condition = condition
        self._extend = extend
        # One statement per set of columns.
        self._statement = lru_cache(maxsize=128)(self._select)

    def rows(
        self, tx: Transaction, values: BindValues, projection: Projection = ALL_COLUMNS
    ) -> list[RowT]:
        """Return the rows that meet the condition with these values of its parameters."""
        names = column_names(self._row.table, projection)
        rows = tx.raw_rows(self._statement(names), values)
        return list(map(row_maker(tx.dialect, self._row, names), rows))

    def first(self, tx: Transaction, values: BindValues) -> RowT | None:
        """Return a row that meets the condition, if any does."""
        rows = self.rows(tx, values)
        return rows[0] if rows else None

    def _select(self, names: tuple[str, ...]) -> AnyQuery:
        columns = [getattr(self._row.table, name) for name in names]
        return PreparedQuery(
            lambda dialect: self._extend(sa.select(*columns).where(self._condition(dialect)))
        )


class RowInsert(Generic[RowT]):
    """Inserts a row of a table and returns it. Columns without a value have their defaults."""

    def __init__(self, row: type[RowT]) -> None:
        self._row = row
        self._statement = lru_cache(maxsize=16)(self._insert)

    def row(self, tx: Transaction, **values: object) -> RowT:
        constants, factories = self._defaults
        row = {**constants, **values}
        for name, factory in factories.items():
            if name not in values:
                row[name] = factory()
        [raw] = tx.raw_rows(self._statement(tuple(row)), row)
        return row_maker(tx.dialect, self._row)(raw)

    @cached_property
    def _defaults(self) -> tuple[dict[str, object], dict[str, Callable[[], object]]]:
        """The default of each column that has one: values, and functions that make them."""
        constants: dict[str, object] = {}
        factories: dict[str, Callable[[], object]] = {}
        for name, field in self._row.table.model_fields.items():
            if field.default_factory is not None:
                # Not by pydantic, which inspects its signature at each call (80 µs).
                factories[name] = cast("Callable[[], object]", field.default_factory)
            elif not field.is_required():
                constants[name] = field.default
        return constants, factories

    def _insert(self, names: tuple[str, ...]) -> AnyQuery:
        insert = sa.insert(self._row.table).values(dict.fromkeys(names))
        return PreparedQuery(lambda _: insert.returning(*all_columns(self._row.table)))


class RowUpdate(Generic[RowT]):
    """Updates the row of a table that meets a condition, and returns it.

    `condition` makes the condition for a dialect's name; none of its parameters may have the name
    of a column. `computed` are values that the database computes.
    """

    def __init__(
        self,
        row: type[RowT],
        condition: Callable[[str], sa.ColumnElement[bool]],
        **computed: AnyColumn,
    ) -> None:
        self._row = row
        self._condition = condition
        self._computed = computed
        # One statement per set of columns that callers update, a fixed few.
        self._statement = lru_cache(maxsize=64)(self._update)

    def row(self, tx: Transaction, bound: BindValues, **values: object) -> RowT | None:
        """Write `values`; `bound` are the condition's. Return None if no row meets it."""
        rows = tx.raw_rows(self._statement(tuple(values)), {**bound, **values})
        return row_maker(tx.dialect, self._row)(rows[0]) if rows else None

    def _update(self, names: tuple[str, ...]) -> AnyQuery:
        table = self._row.table
        return PreparedQuery(
            lambda dialect: (
                sa.update(table)
                .where(self._condition(dialect))
                .values(**dict.fromkeys(names), **self._computed)
                .returning(*all_columns(table))
            )
        )


class _Dialect:
    """A dialect as a cache key, by name: a key per engine would keep every engine's dialect."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self.dialect = dialect

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Dialect) and other.dialect.name == self.dialect.name

    def __hash__(self) -> int:
        return hash(self.dialect.name)


@lru_cache(maxsize=512)
def _row_class(key: _Dialect, table: type[SQLModel], names: tuple[str, ...]) -> type[Row]:
    dialect = key.dialect
    types = {name: getattr(table, name).type for name in names}
    readers = [
        _value_reader(position, type_, dialect) for position, type_ in enumerate(types.values())
    ]
    raw_columns = {
        name: _raw_column(position, type_, dialect.name)
        for position, (name, type_) in enumerate(types.items())
    }
    return _tuple_class(table, dict(zip(names, readers, strict=True)), raw_columns)


@lru_cache(maxsize=32)
def _json_row_class(table: type[SQLModel]) -> type[Row]:
    names = column_names(table, ALL_COLUMNS)
    readers = {
        name: _json_reader(position, getattr(table, name).type)
        for position, name in enumerate(names)
    }
    return _tuple_class(table, readers, {})


@lru_cache(maxsize=32)
def _value_row_class(table: type[SQLModel]) -> type[Row]:
    names = column_names(table, ALL_COLUMNS)
    readers = {name: itemgetter(position) for position, name in enumerate(names)}
    return _tuple_class(table, readers, {})


def _tuple_class(
    table: type[SQLModel],
    readers: Mapping[str, Reader],
    raw_columns: Mapping[str, RawColumn],
) -> type[Row]:
    """Return a class of tuples whose attributes are read by `readers`."""
    row = row_class_of(table)
    unread = set(column_names(table, ALL_COLUMNS)) - readers.keys()
    attributes = {**readers, **{name: _refuse(name) for name in unread}}
    namespace = {name: property(reader) for name, reader in attributes.items()}
    return type(
        row.__name__, (tuple, row), {"__slots__": (), "raw_columns": raw_columns, **namespace}
    )


def _refuse(name: str) -> Callable[[object], NoReturn]:
    def refuse(row: object) -> NoReturn:
        raise AttributeError(f"{type(row).__name__} was read without {name}")

    return refuse


def _value_reader(position: int, type_: ColumnType, dialect: sa.Dialect) -> Reader:
    decode = result_decoder(type_, dialect)
    if decode is None:
        return itemgetter(position)
    if isinstance(type_, sa.JSON) and dialect.name == "sqlite":
        decode = _decode_json
    return lambda row: decode(row[position])


def _json_reader(position: int, type_: ColumnType) -> Reader:
    decode: Callable[[str], object]
    match type_:
        case Instant():
            decode = datetime.fromisoformat
        case sa.Uuid():
            decode = UUID
        case sa.Enum():
            assert type_.enum_class is not None
            decode = type_.enum_class
        case _:
            return itemgetter(position)
    return lambda row: None if row[position] is None else decode(row[position])


def _raw_column(position: int, type_: ColumnType, dialect: str) -> RawColumn:
    as_text = dialect == "sqlite"
    match type_:
        case Instant():
            return RawColumn(position, RawForm.INSTANT_TEXT if as_text else RawForm.INSTANT)
        case sa.Uuid():
            return RawColumn(position, RawForm.UUID_TEXT if as_text else RawForm.UUID)
        case sa.Enum():
            members = type_.enum_class.__members__ if type_.enum_class else {}
            names = {member.value: name for name, member in members.items()}
            return RawColumn(position, RawForm.ENUM, {None: None, **names})
        case UnsetLast():
            return RawColumn(position, RawForm.UNSET_LAST)
        case sa.Text() | sa.String() | sa.Integer():
            return RawColumn(position, RawForm.PLAIN)
        case _:
            return RawColumn(position, RawForm.OTHER)


def _decode_json(text: str | None) -> object:
    if text is None:
        return None
    return _cached_json(text) if len(text) < MAX_CACHED_DOCUMENT else loads(text)


_cached_json = lru_cache(maxsize=256)(loads)
"""Decodes a document that several fields of a row need one after the other."""
