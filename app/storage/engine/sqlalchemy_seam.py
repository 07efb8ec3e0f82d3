"""Every internal of SQLAlchemy that the gateway relies on.

Documented names are imported where they are used. tests/contract/test_seams.py names each internal,
so that an upgrade that changes one fails with its name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import TypedReturnsRows as TypedStatement

__all__ = ["TypedStatement"]

Processor = Callable[[Any], Any]
"""Converts a value on its way to or from the driver."""

ColumnType = sa.types.TypeEngine[Any]
"""A column type, for values of any Python type."""


class DriverStatement(NamedTuple):
    """A statement's text and parameters in the form that a driver takes."""

    text: str
    positional: bool
    """Parameters are a sequence rather than a mapping."""
    names: Sequence[str]
    """The parameters' names, in the order of their positions."""
    processors: Sequence[Processor | None]
    """The conversion of each parameter, None where the driver takes its value as it is."""
    constants: Mapping[str, object]
    """Values of the parameters that the statement itself gives."""


def driver_statement(statement: sa.Executable, dialect: sa.Dialect) -> DriverStatement:
    """Compile a statement in which no parameter stands for several values."""
    assert isinstance(statement, sa.ClauseElement)
    compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    assert isinstance(compiled, SQLCompiler)
    names = list((compiled.positiontup or ()) if compiled.positional else compiled.params)
    return DriverStatement(
        compiled.string,
        compiled.positional,
        names,
        [compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names],
        {name: value for name, value in compiled.params.items() if value is not None},
    )


def result_decoder(type_: ColumnType, dialect: sa.Dialect) -> Processor | None:
    """Return the conversion of a column type's raw values, None for values used as they are."""
    if isinstance(type_, sa.Float):
        # SQLAlchemy's needs the type code of a result's column; both drivers return floats.
        return None
    processor: Processor | None = type_.dialect_impl(dialect).result_processor(dialect, None)
    return processor


def has_statement_listeners(engine: sa.Engine) -> bool:
    """Return True if an event listener sees each statement that the engine runs."""
    return bool(engine.dispatch.before_cursor_execute)


def is_derived(engine: sa.Engine) -> bool:
    """Return True for an engine made by `execution_options`, which shares its parent's events."""
    return isinstance(engine, sa.engine.base.OptionEngine)


def driver_error(dialect: sa.Dialect) -> type[Exception]:
    """Return the root of the driver's exceptions."""
    error: type[Exception] = dialect.loaded_dbapi.Error
    return error


def is_connection_lost(connection: sa.Connection, driver: object, error: Exception) -> bool:
    """Return True if the error means that the driver's connection is lost."""
    dialect: Any = connection.dialect
    lost: bool = dialect.is_disconnect(error, driver, None)
    return lost


def as_sqlalchemy_error(error: Exception) -> sa.exc.DBAPIError:
    """Wrap an error of the driver, without its statement and parameters."""
    return sa.exc.DBAPIError(None, None, error, hide_parameters=True)
