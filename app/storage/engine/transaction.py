"""Transactions, as services and storage receive them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, overload

import sqlalchemy as sa

from app.domain.answers import SHORT_TEXT, AnswerBudget
from app.domain.lanes import LockedLane
from app.storage.engine.client_reads import ReadLimit
from app.storage.engine.sqlalchemy_seam import TypedStatement
from app.storage.engine.statements import (
    AnyRow,
    BindValues,
    Columns,
    DriverText,
    DriverValues,
    Prepared,
    PreparedChange,
    PreparedQuery,
)

NO_VALUES: BindValues = {}

COUNTED_ROWS = 64
COUNTED_LONG_ROWS = 8
"""Rows that are read before their texts are counted; the latter at first and after a long one."""


class DriverCursor(Protocol):
    """The result of a statement that the driver ran."""

    @property
    def rowcount(self) -> int: ...

    def fetchall(self) -> Sequence[AnyRow]: ...

    def fetchmany(self, size: int, /) -> Sequence[AnyRow]: ...

    def close(self) -> object: ...


StatementRunner = Callable[[str, DriverValues], DriverCursor]
"""Runs SQL with the driver's parameters."""


class Transaction:
    """One transaction of a database.

    Statements are prepared ones, which the driver runs, or those of SQLAlchemy, which it compiles
    and runs.
    """

    def __init__(
        self,
        connection: sa.Connection,
        clock: "Clock",
        run: StatementRunner | None = None,
    ) -> None:
        self.dialect = connection.dialect
        self.connection = connection
        self.locked_lanes: dict[str, LockedLane] = {}
        """The lanes that this transaction has locked, by store."""
        self.announced: set[str] = set()
        self.callbacks: list[Callable[[], None]] = []
        self.limit: ReadLimit | None = None
        """The end of a client's read."""
        self.budget: AnswerBudget | None = None
        """Counts the texts that a client's read reads."""
        self._writes: list[Callable[[], None]] = []
        self._clock = clock
        self._run = run or connection.exec_driver_sql

    @overload
    def rows(
        self, statement: PreparedQuery[*Columns], values: BindValues = NO_VALUES
    ) -> Sequence[tuple[*Columns]]: ...

    @overload
    def rows(
        self, statement: TypedStatement[*Columns], values: BindValues = NO_VALUES
    ) -> Sequence[tuple[*Columns]]: ...

    @overload
    def rows(
        self, statement: sa.TextClause, values: BindValues = NO_VALUES
    ) -> Sequence[AnyRow]: ...

    def rows(
        self, statement: Prepared | sa.Executable, values: BindValues = NO_VALUES
    ) -> Sequence[AnyRow]:
        """Run a statement, and return its rows."""
        if not isinstance(statement, Prepared):
            return list(map(tuple, self.connection.execute(statement, values)))
        text = statement.for_dialect(self.dialect)
        rows = self._fetch(text, values)
        return rows if text.is_raw else list(map(text.decoded, rows))

    def raw_rows(self, statement: PreparedQuery[*Columns], values: BindValues) -> Sequence[AnyRow]:
        """Run a statement, and return the driver's rows as they are."""
        return self._fetch(statement.for_dialect(self.dialect), values)

    def _fetch(self, text: DriverText, values: BindValues) -> Sequence[AnyRow]:
        """Run a statement. Raises TextsTooLong before its rows take too much memory."""
        cursor = self._run(text.text, text.bound(values))
        if self.budget is None or not (text.unlimited_texts or text.unlimited_json):
            return cursor.fetchall()
        rows: list[AnyRow] = []
        size = COUNTED_LONG_ROWS
        try:
            while chunk := cursor.fetchmany(size):
                _count_texts(self.budget, text, chunk)
                rows += chunk
                if self.limit is not None:
                    self.limit.check_characters(self.budget.characters_read)
                if len(chunk) < size:
                    break
                size = COUNTED_LONG_ROWS if self.budget.counts_texts else COUNTED_ROWS
        finally:
            # Until then the statement would keep its snapshot.
            cursor.close()
        return rows

    def changed(
        self,
        statement: PreparedChange | sa.UpdateBase | sa.TextClause,
        values: BindValues | Sequence[BindValues] = NO_VALUES,
    ) -> int:
        """Run a statement, and return the number of changed rows."""
        if isinstance(statement, PreparedChange):
            assert isinstance(values, Mapping)
            text = statement.for_dialect(self.dialect)
            return self._run(text.text, text.bound(values)).rowcount
        result = self.connection.execute(
            statement, values, execution_options={"preserve_rowcount": True}
        )
        return result.rowcount

    def now(self) -> datetime:
        """Return the time of the database's clock in UTC, in whole milliseconds.

        Clients see milliseconds, so the values they read compare equal to the stored ones.
        """
        instant = self._clock(self)
        return instant.replace(microsecond=instant.microsecond // 1000 * 1000)

    def check_limit(self) -> None:
        """Raise ReadTooLong if a client's read has reached its limit.

        For long computations between statements, which are interrupted by themselves.
        """
        if self.limit is not None:
            self.limit.check()

    def announce(self, store: str) -> None:
        """Notify listeners of a change in `store` when this transaction commits."""
        self.announced.add(store)

    def before_commit(self, write: Callable[[], None]) -> None:
        """Call `write` as the last action of this transaction before it commits."""
        self._writes.append(write)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` after this transaction commits, in its thread; it must be quick."""
        self.callbacks.append(callback)

    def finish(self) -> None:
        """Call the functions that `before_commit` registered."""
        for write in self._writes:
            write()


def _count_texts(budget: AnswerBudget, text: DriverText, rows: Sequence[AnyRow]) -> None:
    for text_of in text.unlimited_texts:
        longest = max(map(len, filter(None, map(text_of, rows))), default=0)
        if longest <= SHORT_TEXT:
            # Their exact sum would take as long again.
            budget.read_short(longest * len(rows), longest)
        else:
            budget.read(filter(None, map(text_of, rows)))
    for json_of in text.unlimited_json:
        budget.read(map(json_of, rows))


Clock = Callable[[Transaction], datetime]
