"""Settings from flags and the environment, or every mistake in them at once.

No setting is listed here: its flag and its help are made from its field in `app.settings`.
"""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le
from pydantic import SecretStr
from rich.markup import escape

from app.settings import (
    Mistake,
    Settings,
    WrongSettings,
    group_of,
    is_secret,
    read,
    unknown_variables,
    variable,
)

WHERE = "In brackets: environment variable, default, limits. A flag wins over its variable."

_KINDS = {int: "INTEGER", float: "NUMBER", Path: "PATH", frozenset: "LIST"}


def takes_settings(
    wanted: Callable[[str], bool] = lambda _: True,
    check: Callable[[Settings], object] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the settings that are wanted as flags, and all of them, from flags and
    environment, as its argument `settings`.

    A mistake in the settings ends the command with 2; `check` is told of in `app.settings.read`.
    """
    fields = {
        f"{name}_file" if is_secret(name) else name: name
        for name in filter(wanted, Settings.model_fields)
    }

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_flags(**arguments: Any) -> None:
            flags = {name: arguments.pop(parameter) for parameter, name in fields.items()}
            with reporting_mistakes(flags):
                command(settings=_read(flags, check), **arguments)

        own = inspect.signature(command).parameters
        parameters = [
            *(parameter for name, parameter in own.items() if name != "settings"),
            *(
                inspect.Parameter(
                    parameter,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=None,
                    annotation=Annotated[
                        (bool if _kind(name) is bool else str) | None, option(name)
                    ],
                )
                for parameter, name in fields.items()
            ),
        ]
        with_flags.__doc__ = f"{inspect.getdoc(command)}\n\n{WHERE}"
        with_flags.__annotations__ = {each.name: each.annotation for each in parameters}
        with_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return with_flags

    return decorated


def option(name: str) -> Any:
    """A setting as an option of a command. It takes any text: mistakes are told all at once."""
    return typer.Option(
        flag(name),
        help=escape(f"{description(name)} [{', '.join((variable(name), *limits(name)))}]"),
        metavar=_metavar(name),
        rich_help_panel=group_of(name),
    )


def flag(name: str) -> str:
    """The flag of a setting, as help shows it. That of a secret names a file: other users of the
    machine see what a command was started with."""
    dashed = name.replace("_", "-")
    if is_secret(name):
        return f"--{dashed}-file"
    return f"--{dashed}/--no-{dashed}" if _kind(name) is bool else f"--{dashed}"


def description(name: str) -> str:
    """What a setting is, in a line."""
    said = " ".join((Settings.model_fields[name].description or "").split())
    return (
        f"{said} As a flag, a file with it: `ps` shows flags to everybody."
        if is_secret(name)
        else said
    )


def limits(name: str) -> tuple[str, ...]:
    """The default of a setting, and what its values keep to."""
    field = Settings.model_fields[name]
    match field.get_default(call_default_factory=True):
        case None | frozenset():
            default = "none"
        case bool(value):
            default = "yes" if value else "no"
        case value:
            default = str(value)
    match [bound for bound in field.metadata if isinstance(bound, (Ge, Gt, Le))]:
        case [Ge(ge=low), Le(le=high)]:
            return (default, f"{low} to {high}")
        case [Ge(ge=low)]:
            return (default, f"{low} or more")
        case [Gt(gt=low)]:
            return (default, f"more than {low}")
    return (default,)


def read_settings(**flags: Any) -> Settings:
    """The settings, where a flag that is not None wins. Ends the command with 2 on a mistake."""
    with reporting_mistakes(flags):
        return _read(flags)


@contextmanager
def reporting_mistakes(flags: Mapping[str, Any]) -> Iterator[None]:
    """Ends the command with 2 when the settings are wrong, and says what is, a line each."""
    for name, nearest in unknown_variables(os.environ):
        print(f"{name} is no setting. Is {nearest} meant?", file=sys.stderr)
    try:
        yield
    except WrongSettings as error:
        given = {name for name, value in flags.items() if value is not None}
        for mistake in error.mistakes:
            print(told(mistake, given), file=sys.stderr)
        raise typer.Exit(2) from None


def told(mistake: Mistake, given: Collection[str]) -> str:
    """A mistake in a line, its settings named as they were set: by flag, or else by variable."""
    names = [
        flag(name).partition("/")[0] if name in given else variable(name)
        for name in mistake.settings
    ]
    return f"{', '.join(names) or 'Settings'}: {mistake.message}"


def _read(flags: Mapping[str, Any], check: Callable[[Settings], object] | None = None) -> Settings:
    given = {name: value for name, value in flags.items() if value is not None}
    unreadable = []
    for name in filter(is_secret, list(given)):
        try:
            given[name] = SecretStr(Path(given[name]).read_text("utf-8").rstrip("\r\n"))
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            unreadable.append(Mistake((name,), f"{given.pop(name)} cannot be read: {why}."))
    return read(given, check, unreadable)


def _kind(name: str) -> Any:
    """The type of a setting's value, where it has one."""
    annotation = Settings.model_fields[name].annotation
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    return next(kind for kind in get_args(annotation) if kind is not NoneType)


def _metavar(name: str) -> str | None:
    kind = _kind(name)
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if kind is bool:
        return None
    return "FILE" if is_secret(name) else _KINDS.get(get_origin(kind) or kind, "TEXT")
