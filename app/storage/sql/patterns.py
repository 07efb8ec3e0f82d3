"""Patterns of the operators `like` and `ilike`, which match alike on every database and locale.

A database compares code points only. Which letters differ in case only is decided here, for the
letters of the pattern: PostgreSQL's own comparison depends on the locale of the database (in
Turkish ones I is no capital i), and SQLite's knows the case of ASCII letters only.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from app.domain.letters import cases_of, folded
from app.domain.patterns import WILDCARD, matches_pattern
from app.storage.engine.statements import AnyColumn

MAX_GLOB_LETTERS = 32
"""Letters of a pattern that SQLite compares itself. Its GLOB takes up to 16 ns per letter of the
text and letter of the pattern: with 499 letters 9 ms for a name, 2 s for 128 KiB of description."""


class by_code_points(FunctionElement[str]):
    """A text that is compared and sorted by code points, as SQLite does."""

    inherit_cache = True
    type = sa.Text()


@compiles(by_code_points, "sqlite")
def _by_code_points_on_sqlite(
    element: by_code_points, compiler: SQLCompiler, **rest: object
) -> str:
    return compiler.process(element.clauses, **rest)


@compiles(by_code_points, "postgresql")
def _by_code_points_on_postgresql(
    element: by_code_points, compiler: SQLCompiler, **rest: object
) -> str:
    return f'{compiler.process(element.clauses, **rest)} COLLATE "C"'


class _PatternMatch(FunctionElement[bool]):
    """A text and the parameters of its pattern, of which each database uses some."""

    # Without a type: SQLAlchemy renders a Boolean as `= 1` on SQLite.
    inherit_cache = True

    def __init__(self, column: AnyColumn, prefix: str) -> None:
        names = ("glob", "like", "pattern", "cases", "letters")
        parameters = [sa.bindparam(f"{prefix}_{name}", type_=sa.Text()) for name in names]
        length = sa.bindparam(f"{prefix}_length", type_=sa.Integer())
        super().__init__(column, *parameters, length)


class like(_PatternMatch):
    """The condition that a text matches the pattern of the parameters `prefix`."""

    inherit_cache = True


class ilike(_PatternMatch):
    """The condition that a text matches a pattern, in any case."""

    inherit_cache = True


@compiles(like, "sqlite")
@compiles(ilike, "sqlite")
def _match_on_sqlite(element: _PatternMatch, compiler: SQLCompiler, **rest: object) -> str:
    text, glob, _, pattern, cases, letters, length = (
        compiler.process(part, **rest) for part in element.clauses
    )
    return (
        f"CASE WHEN {length} <= {MAX_GLOB_LETTERS} THEN {text} GLOB {glob}"
        f" ELSE {matches_pattern.__name__}({text}, {pattern}, {cases}, {letters}) END"
    )


@compiles(like, "postgresql")
def _like_on_postgresql(element: like, compiler: SQLCompiler, **rest: object) -> str:
    column, _, pattern, *_ = element.clauses
    return (
        f'{compiler.process(column, **rest)} COLLATE "C" LIKE {compiler.process(pattern, **rest)}'
    )


@compiles(ilike, "postgresql")
def _ilike_on_postgresql(element: ilike, compiler: SQLCompiler, **rest: object) -> str:
    text, _, pattern, _, cases, letters, length = (
        compiler.process(part, **rest) for part in element.clauses
    )
    # Shorter texts are excluded first: the cost of translate() grows with text and pattern.
    return (
        f"(char_length({text}) >= {length}"
        f' AND translate({text}, {cases}, {letters}) COLLATE "C" LIKE {pattern})'
    )


def pattern_values(prefix: str, pattern: str, *, any_case: bool) -> dict[str, object]:
    """Return the values of the parameters of `like`, or of `ilike` if `any_case`."""
    replaced: dict[str, str] = {}
    if any_case:
        replaced = {
            case: folded(letter)
            for letter in pattern
            for case in cases_of(letter)
            if case != folded(letter)
        }
        pattern = "".join(map(folded, pattern))
    return {
        f"{prefix}_glob": "".join(_glob(pattern, any_case)),
        f"{prefix}_like": "".join(_like(pattern)),
        f"{prefix}_pattern": pattern,
        f"{prefix}_cases": "".join(replaced),
        f"{prefix}_letters": "".join(replaced.values()),
        f"{prefix}_length": len(pattern.replace(WILDCARD, "")),
    }


def _glob(pattern: str, any_case: bool) -> Iterator[str]:
    """Yield the parts of a pattern of GLOB, in which brackets list characters."""
    for character in pattern:
        cases = cases_of(character) if any_case else character
        if len(cases) > 1 or character in "?[":
            yield f"[{cases}]"
        else:
            yield character


def _like(pattern: str) -> Iterator[str]:
    """Yield the parts of a pattern of LIKE, whose escape character is the backslash."""
    for character in pattern:
        if character == WILDCARD:
            yield "%"
        else:
            yield f"\\{character}" if character in "\\%_" else character
