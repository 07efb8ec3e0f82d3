"""Rows of tables as the driver gives them: read by attribute like the tables' own entities, each
value decoded when it is read, and only the columns that are wanted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from orjson import loads
from sqlmodel import Session, SQLModel

from app.domain.instants import instant_text
from app.storage.sql.column_types import UNSET, Instant, UnsetLast
from app.storage.sql.statements import BindValues, CompiledStatement, result_of

ColumnEncoder = Callable[[Sequence[Any]], list[Any]]
"""Says of each of some rows what a client is told of it: an attribute, as JSON has it."""


class Projection(NamedTuple):
    """What is read of each row."""

    columns: frozenset[str] | None = None
    """Names of attributes; all where None."""
    keys: bool = True
    """Whether to read where a row stands in its list."""

    def together(self, other: "Projection") -> "Projection":
        """What either of the two wants."""
        columns = None
        if self.columns is not None and other.columns is not None:
            columns = self.columns | other.columns
        return Projection(columns, self.keys or other.keys)


MAX_CACHED_DOCUMENT = 4_096
"""Characters of a document that is kept when it was read."""

ALL_COLUMNS = Projection()
ID_COLUMN = Projection(frozenset({"id"}), keys=False)


class TableRow(tuple[Any, ...]):
    """A row of a table. What was not wanted of it, it does not have."""

    __slots__ = ()
    table: ClassVar[type[SQLModel]]
    told: ClassVar[Mapping[str, ColumnEncoder]]
    """What tells of each attribute, without the way over its value: of an instant or an id, that
    takes ten times as long."""


def is_row_of(row: object, table: type[SQLModel]) -> bool:
    """Whether it is a row of this table, in either form."""
    return isinstance(row, table) or getattr(row, "table", None) is table


@lru_cache(maxsize=512)
def columns_of(table: type[SQLModel], wanted: Projection) -> tuple[str, ...]:
    """The attributes that are wanted of a table, in its order."""
    names = [attribute.key for attribute in sa.inspect(table).column_attrs]
    some = tuple(name for name in names if wanted.columns is None or name in wanted.columns)
    # A statement reads something.
    return some or (names[0],)


def row_of(session: Session, table: type[SQLModel], names: Sequence[str]) -> Any:
    """The class of rows of a table which have these attributes, in this order."""
    return _row_class(_Dialect(session.get_bind().dialect), table, tuple(names))


class RowQuery:
    """Finds the rows of a table that meet a condition, which is written for a dialect when it is
    first asked there."""

    def __init__(
        self, table: type[SQLModel], condition: Callable[[str], sa.ColumnElement[bool]]
    ) -> None:
        self._table = table
        self._condition = condition
        # As many as there are sets of columns that somebody wants.
        self._statement = lru_cache(maxsize=128)(self._selecting)

    def rows(
        self, session: Session, values: BindValues, wanted: Projection = ALL_COLUMNS
    ) -> list[Any]:
        """The rows that meet it, given the values of its parameters."""
        names = columns_of(self._table, wanted)
        found = self._statement(names).rows(session, values)
        return list(map(row_of(session, self._table, names), found))

    def _selecting(self, names: tuple[str, ...]) -> CompiledStatement:
        columns = [getattr(self._table, name) for name in names]
        return CompiledStatement(
            lambda dialect: sa.select(*columns).where(self._condition(dialect))
        )


class _Dialect:
    """A dialect, equal to others of its name: an engine's own would be kept for ever."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self.dialect = dialect

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Dialect) and other.dialect.name == self.dialect.name

    def __hash__(self) -> int:
        return hash(self.dialect.name)


@lru_cache(maxsize=512)
def _row_class(of: _Dialect, table: type[SQLModel], names: tuple[str, ...]) -> type[TableRow]:
    columns = {name: getattr(table, name).type for name in names}
    decoded = {
        name: _decoded(place, type_, of) for place, (name, type_) in enumerate(columns.items())
    }
    told = {
        name: _told(place, type_, of.dialect.name, decoded[name])
        for place, (name, type_) in enumerate(columns.items())
    }
    attributes = {name: property(read) for name, read in decoded.items()}
    namespace = {"__slots__": (), "table": table, "told": told, **attributes}
    return type(f"{table.__name__}Row", (TableRow,), namespace)


def _decoded(place: int, type_: Any, of: _Dialect) -> Callable[[Any], Any]:
    process = result_of(type_, of.dialect)
    if process is None:
        return itemgetter(place)
    if isinstance(type_, sa.JSON) and of.dialect.name == "sqlite":
        process = _document
    return lambda row: process(row[place])


def _told(place: int, type_: Any, dialect: str, decoded: Callable[[Any], Any]) -> ColumnEncoder:
    stored = dialect == "sqlite"
    texts: Callable[[Iterable[Any]], list[Any]]
    match type_:
        case Instant():
            texts = _instants_stored if stored else _instants_read
        case sa.Uuid():
            texts = _ids_stored if stored else _ids_read
        case sa.Enum():
            names = _names_by_value(type_)
            texts = lambda values: [names[value] for value in values]  # noqa: E731, one of six
        case UnsetLast():
            texts = _numbers_stored
        case sa.Text() | sa.String() | sa.Integer():
            texts = list
        case _:
            return lambda rows: [decoded(row) for row in rows]
    value = itemgetter(place)
    return lambda rows: texts(map(value, rows))


def _names_by_value(type_: sa.Enum) -> Mapping[str | None, str | None]:
    members = type_.enum_class.__members__ if type_.enum_class else {}
    return {None: None, **{member.value: name for name, member in members.items()}}


def _instants_stored(texts: Iterable[str | None]) -> list[Any]:
    return [None if text is None else f"{text[:10]}T{text[11:23]}Z" for text in texts]


def _instants_read(instants: Iterable[datetime | None]) -> list[Any]:
    return [None if instant is None else instant_text(instant) for instant in instants]


def _ids_stored(ids: Iterable[str | None]) -> list[Any]:
    return [id and f"{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}" for id in ids]


def _ids_read(ids: Iterable[UUID | None]) -> list[Any]:
    return [None if id is None else str(id) for id in ids]


def _numbers_stored(numbers: Iterable[int]) -> list[Any]:
    return [None if number == UNSET else number for number in numbers]


def _document(text: str | None) -> Any:
    return (
        None
        if text is None
        else _read_document(text)
        if len(text) < MAX_CACHED_DOCUMENT
        else loads(text)
    )


_read_document = lru_cache(maxsize=256)(loads)
"""Reads a document that several fields of a row, one after the other, are told of."""
