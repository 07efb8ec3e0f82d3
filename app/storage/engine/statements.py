"""Statements that are compiled once per dialect and run by the driver itself.

SQLAlchemy's work per execution (a connection, a cache key, a context, a result) took ten times as
long as SQLite took to find one row by its key.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVarTuple

import sqlalchemy as sa

from app.storage.engine.sqlalchemy_seam import (
    Processor,
    TypedStatement,
    driver_statement,
    result_decoder,
)

Columns = TypeVarTuple("Columns")

BindValues = Mapping[str, object]
"""Values of a statement's parameters by name, of any type that a column can have."""

DriverValues = tuple[object, ...] | dict[str, object]
"""Values of a statement's parameters, by position or by name as the driver takes them."""

AnyRow = tuple[Any, ...]
"""A row whose columns are known when the statement is built."""

ValueGetter = Callable[[AnyRow], Any]
"""Returns the value of one column of a row."""

AnyColumn = sa.SQLColumnExpression[Any]
"""A column of a table, of an alias or of a subquery, or an expression in place of one."""


class UnlimitedText(sa.Text):
    """A text whose length has no limit."""


class DriverText:
    """A statement's text for one dialect, and the conversion of its values."""

    def __init__(self, statement: sa.Executable, dialect: sa.Dialect) -> None:
        compiled = driver_statement(statement, dialect)
        self.text = compiled.text
        self._names = compiled.names
        self._processors = compiled.processors
        self._constants = compiled.constants
        self._positional = compiled.positional
        self.decoders: Sequence[Processor | None] = [
            result_decoder(column.type, dialect)
            for column in getattr(statement, "selected_columns", ())
        ]
        """The conversion of each column's raw values, None for values used as they are."""
        self.is_raw = not any(self.decoders)
        """True if no value has to be converted."""
        texts, json = _unlimited_columns(statement)
        # SQLite's driver returns JSON as its text.
        is_decoded = dialect.name != "sqlite"
        self.unlimited_texts = texts if is_decoded else [*texts, *json]
        """Getters of the texts in a row whose length has no limit."""
        self.unlimited_json = json if is_decoded else []
        """Getters of the decoded JSON in a row."""

    def bound(self, values: BindValues) -> DriverValues:
        """Return the parameters in the form that the driver takes."""
        all_values = {**self._constants, **values} if self._constants else values
        bound = [
            process(all_values[name]) if process else all_values[name]
            for name, process in zip(self._names, self._processors, strict=True)
        ]
        return tuple(bound) if self._positional else dict(zip(self._names, bound, strict=True))

    def decoded(self, row: AnyRow) -> AnyRow:
        """Convert a row of the driver."""
        return tuple(
            decode(value) if decode else value
            for decode, value in zip(self.decoders, row, strict=True)
        )


def _unlimited_columns(statement: sa.Executable) -> tuple[list[ValueGetter], list[ValueGetter]]:
    """Return the getters of texts without a limit, and of JSON."""
    texts, json = list[ValueGetter](), list[ValueGetter]()
    for position, column in enumerate(getattr(statement, "selected_columns", ())):
        if isinstance(column.type, sa.JSON):
            json.append(itemgetter(position))
        elif isinstance(column.type, UnlimitedText):
            texts.append(itemgetter(position))
    return texts, json


class Prepared:
    """A statement that is compiled when a dialect first runs it.

    `build` makes the statement for a dialect's name, with a parameter for each value that changes
    from run to run. No parameter may stand for several values.
    """

    def __init__(self, build: Callable[[str], sa.Executable]) -> None:
        self._build = build
        self._texts: dict[str, DriverText] = {}

    def for_dialect(self, dialect: sa.Dialect) -> DriverText:
        text = self._texts.get(dialect.name)
        if text is None:
            text = self._texts[dialect.name] = DriverText(self._build(dialect.name), dialect)
        return text


class PreparedQuery(Prepared, Generic[*Columns]):
    """A prepared statement that returns rows with columns of these types."""

    def __init__(self, build: Callable[[str], TypedStatement[*Columns]]) -> None:
        super().__init__(build)


class PreparedChange(Prepared):
    """A prepared statement that changes rows and returns none."""


AnySelect = sa.Select[*AnyRow]
"""A SELECT whose columns are known when it is built."""

AnyQuery = PreparedQuery[*AnyRow]
"""A prepared query whose columns are known when it is built."""
