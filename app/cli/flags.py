"""Settings as flags: parse flags and environment, and report all mistakes at once.

Flags and their help are generated from the fields of `app.settings`.
"""

import functools
import inspect
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le
from pydantic import SecretStr
from rich.markup import escape

from app.cli.streams import print_notice
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

FLAGS_HELP = "In brackets: environment variable, default, limits. A flag overrides its variable."

_KINDS: Mapping[object, str] = {
    int: "INTEGER",
    float: "NUMBER",
    Path: "PATH",
    frozenset: "LIST",
    tuple: "LIST",
}


def takes_settings(
    is_flag: Callable[[str], bool] = lambda _: True,
    check: Callable[[Settings], object] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command: add the flags of the settings `is_flag` selects, and pass it `settings`.

    `check`: see `app.settings.read`. A mistake in the settings ends the command with exit code 2.
    """
    fields = {
        f"{name}_file" if is_secret(name) else name: name
        for name in filter(is_flag, Settings.model_fields)
    }

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_flags(**arguments: object) -> None:
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
        with_flags.__doc__ = f"{inspect.getdoc(command)}\n\n{FLAGS_HELP}"
        with_flags.__annotations__ = {
            parameter.name: parameter.annotation for parameter in parameters
        }
        with_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return with_flags

    return decorated


def option(name: str) -> object:
    """Return a setting as an option of a command.

    It takes any text, so that all mistakes are reported at once.
    """
    return typer.Option(
        flag(name),
        help=escape(f"{description(name)} [{', '.join((variable(name), *limits(name)))}]"),
        metavar=_metavar(name),
        rich_help_panel=group_of(name),
    )


def flag(name: str) -> str:
    """Return the flag of a setting, as help shows it.

    The flag of a secret names a file: other users of the machine can read a command line.
    """
    dashed = name.replace("_", "-")
    if is_secret(name):
        return f"--{dashed}-file"
    return f"--{dashed}/--no-{dashed}" if _kind(name) is bool else f"--{dashed}"


def description(name: str) -> str:
    """Return a setting's description on one line."""
    text = " ".join((Settings.model_fields[name].description or "").split())
    return (
        f"{text} The flag names a file with it: `ps` shows flags to other users."
        if is_secret(name)
        else text
    )


def limits(name: str) -> tuple[str, ...]:
    """Return a setting's default, and the limits of its values if it has some."""
    field = Settings.model_fields[name]
    match field.get_default(call_default_factory=True):
        case None | frozenset() | ():
            default = "none"
        case tuple(names):
            default = ", ".join(names)
        case bool(value):
            default = "yes" if value else "no"
        case value:
            default = str(value)
    match [bound for bound in field.metadata if isinstance(bound, (Ge, Gt, Le))]:
        case [Ge(ge=low), Le(le=high)]:
            return (default, f"{low:.15g} to {high:.15g}")
        case [Ge(ge=low)]:
            return (default, f"{low} or more")
        case [Gt(gt=low)]:
            return (default, f"more than {low}")
    return (default,)


def read_settings(**flags: object) -> Settings:
    """Read the settings; flags that are not None override. Exits with 2 on mistakes."""
    with reporting_mistakes(flags):
        return _read(flags)


@contextmanager
def reporting_mistakes(flags: Mapping[str, object]) -> Iterator[None]:
    """Print mistakes in settings to stderr, one per line, and exit with 2."""
    for name, nearest in unknown_variables(os.environ):
        print_notice(unknown_variable_line(name, nearest))
    try:
        yield
    except WrongSettings as error:
        used_flags = {name for name, value in flags.items() if value is not None}
        for mistake in error.mistakes:
            print_notice(mistake_line(mistake, used_flags))
        raise typer.Exit(2) from None


def unknown_variable_line(name: str, nearest: str) -> str:
    """Return the warning for an environment variable that is not a setting."""
    return f"{name} is not a setting. Did you mean {nearest}?"


def mistake_line(mistake: Mistake, flags: Collection[str]) -> str:
    """Return a mistake on one line; settings in `flags` are named by flag, others by variable."""
    names = [
        flag(name).partition("/")[0] if name in flags else variable(name)
        for name in mistake.settings
    ]
    return f"{', '.join(names) or 'Settings'}: {mistake.message}"


def _read(
    flags: Mapping[str, object], check: Callable[[Settings], object] | None = None
) -> Settings:
    values = {name: value for name, value in flags.items() if value is not None}
    unreadable = []
    for name in filter(is_secret, list(values)):
        try:
            values[name] = SecretStr(Path(str(values[name])).read_text("utf-8").rstrip("\r\n"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            mistake = f"{values.pop(name)} cannot be read: {reason}."
            unreadable.append(Mistake((name,), mistake))
    return read(values, check, unreadable)


def _kind(name: str) -> object:
    """Return the type of a setting's value, without None."""
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
