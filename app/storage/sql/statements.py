"""Statements that are compiled once per dialect and run by the driver itself.

SQLAlchemy's work per execution (a connection, a cache key, a context, a result, entities) took ten
times as long as SQLite took to find one row by its key.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session

from app.storage.sql.sqlalchemy_seam import Processor, driver_statement, result_decoder

BindValues = Mapping[str, Any]
StatementRunner = Callable[[str, Any], Any]
"""Runs SQL with the driver's parameters, and returns the cursor."""

STATEMENT_RUNNER = "run"
"""Key of a session's StatementRunner in its `info`; without one SQLAlchemy runs statements."""


class CompiledStatement:
    """A statement that is compiled when a dialect first runs it.

    `build` makes the statement for a dialect's name, with a parameter for each value that changes
    from run to run. No parameter may stand for several values.
    """

    def __init__(self, build: Callable[[str], Any]) -> None:
        self._build = build
        self._compiled: dict[str, _Compiled] = {}

    def rows(self, session: Session, values: BindValues) -> Sequence[tuple[Any, ...]]:
        """Run the statement, and return the driver's rows."""
        rows: Sequence[tuple[Any, ...]] = self._run(session, values).fetchall()
        return rows

    def changed(self, session: Session, values: BindValues) -> int:
        """Run the statement, and return the number of changed rows."""
        count: int = self._run(session, values).rowcount
        return count

    def decoders(self, session: Session) -> Sequence[Processor | None]:
        """Return the conversion of each column's raw values, None for values used as they are."""
        return self._for_dialect_of(session).decoders

    def _run(self, session: Session, values: BindValues) -> Any:
        # Write pending changes of entities first, as a query through the session would.
        session.flush()
        compiled = self._for_dialect_of(session)
        bound = compiled.bound(values)
        run: StatementRunner | None = session.info.get(STATEMENT_RUNNER)
        if run is None:
            return session.connection().exec_driver_sql(compiled.text, bound)
        return run(compiled.text, bound)

    def _for_dialect_of(self, session: Session) -> "_Compiled":
        dialect = session.get_bind().dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = _Compiled(self._build(dialect.name), dialect)
            self._compiled[dialect.name] = compiled
        return compiled


class _Compiled:
    """A statement's text for one dialect, and the conversion of its values."""

    def __init__(self, statement: Any, dialect: sa.Dialect) -> None:
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

    def bound(self, values: BindValues) -> Any:
        """Return the parameters in the form that the driver takes."""
        all_values = {**self._constants, **values} if self._constants else values
        bound = [
            process(all_values[name]) if process else all_values[name]
            for name, process in zip(self._names, self._processors, strict=True)
        ]
        return tuple(bound) if self._positional else dict(zip(self._names, bound, strict=True))
