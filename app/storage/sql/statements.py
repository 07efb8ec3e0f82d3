"""Statements that are compiled once and run by the driver itself.

What SQLAlchemy does for each run of a statement (a connection, a cache key, a context, a result,
entities) took ten times as long as SQLite took to find one row by its key.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session

from app.storage.sql.sqlalchemy_seam import Processor, driver_statement, result_decoder

BindValues = Mapping[str, Any]
StatementRunner = Callable[[str, Any], Any]
"""Runs a text with its parameters, and returns the cursor."""

STATEMENT_RUNNER = "run"
"""Under which a session's info has its Run, if SQLAlchemy is not to run what it runs."""


class CompiledStatement:
    """A statement that is written for a dialect when it is first run there.

    `write` is given the dialect's name, and writes it with a parameter for all that changes from
    run to run; none may stand for several values.
    """

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write = write
        self._compiled: dict[str, _Compiled] = {}

    def rows(self, session: Session, values: BindValues) -> Sequence[tuple[Any, ...]]:
        """What is found, as the driver gives it."""
        found: Sequence[tuple[Any, ...]] = self._run(session, values).fetchall()
        return found

    def changed(self, session: Session, values: BindValues) -> int:
        """How many rows were changed."""
        count: int = self._run(session, values).rowcount
        return count

    def processors(self, session: Session) -> Sequence[Processor | None]:
        """What makes the value of each column of what the driver gives; None where it is that."""
        return self._of(session).results

    def _run(self, session: Session, values: BindValues) -> Any:
        # What entities have been given and do not say yet, as a query through the session would.
        session.flush()
        compiled = self._of(session)
        bound = compiled.bound(values)
        run: StatementRunner | None = session.info.get(STATEMENT_RUNNER)
        if run is None:
            return session.connection().exec_driver_sql(compiled.text, bound)
        return run(compiled.text, bound)

    def _of(self, session: Session) -> "_Compiled":
        dialect = session.get_bind().dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = _Compiled(self._write(dialect.name), dialect)
            self._compiled[dialect.name] = compiled
        return compiled


class _Compiled:
    """The text of a statement and how its parameters are bound."""

    def __init__(self, statement: Any, dialect: sa.Dialect) -> None:
        compiled = driver_statement(statement, dialect)
        self.text = compiled.text
        self._names = compiled.names
        self._processors = compiled.processors
        self._constants = compiled.constants
        self._positional = compiled.positional
        self.results: Sequence[Processor | None] = [
            result_decoder(column.type, dialect)
            for column in getattr(statement, "selected_columns", ())
        ]

    def bound(self, values: BindValues) -> Any:
        """Return the parameters in the form that the driver takes."""
        all_values = {**self._constants, **values} if self._constants else values
        bound = [
            process(all_values[name]) if process else all_values[name]
            for name, process in zip(self._names, self._processors, strict=True)
        ]
        return tuple(bound) if self._positional else dict(zip(self._names, bound, strict=True))
