"""Text for people: control characters escaped, secrets in URLs hidden."""

import re
import unicodedata
from functools import lru_cache

_IGNORABLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Letters and marks without a glyph, which Unicode counts among no category of their own."""

_JOINERS = frozenset("\u200c\u200d")
"""Zero-width joiners: Persian, Indic scripts and emoji need them, and they reorder nothing."""

_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls (C0, DEL, C1), formats (bidi, zero-width, tags), surrogates, line separators."""

_SUSPECT = re.compile(r"[^\x20-\x7e]")

_AUTHORITY = re.compile(r"(?:\[[^\]]*\]|[^:/?#\[\]]*)(?::\d*)?(?=[/?#]|$)")
"""A host and a port. Anything else before the path may be part of a password."""


_USER = re.compile(r"[^:/?#@]*")
_LINES = re.compile(r"[^\n\t]+")


def is_escaped(character: str) -> bool:
    """Return True for characters that control a terminal, reorder text, or are invisible."""
    if character in _JOINERS:
        return False
    return character in _IGNORABLE or unicodedata.category(character) in _ESCAPED_CATEGORIES


def printable(text: str) -> str:
    r"""Return the text on one line: breaks as blanks, `is_escaped` as \x1b or \u202e."""
    return _SUSPECT.sub(lambda match: _escaped(match[0]), text)


def printable_lines(text: str) -> str:
    """Return the text as `printable` does, with its line breaks and tabs."""
    return _LINES.sub(lambda part: printable(part[0]), text)


def printable_json(json: str) -> str:
    r"""Return JSON of the same value, with \u escapes for `is_escaped`."""
    return _SUSPECT.sub(_escape_json, json)


def ascii_json(json: str) -> str:
    r"""Return JSON of the same value in ASCII."""
    return _SUSPECT.sub(lambda match: _json_escape(match[0]), json)


@lru_cache(4096)
def _escaped(character: str) -> str:
    if character.isspace() and is_escaped(character):
        return " "
    if not is_escaped(character):
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()


def _escape_json(match: re.Match[str]) -> str:
    # A line break between two values of JSON is not part of a string.
    character = match[0]
    return _json_escape(character) if is_escaped(character) and character != "\n" else character


def _json_escape(character: str) -> str:
    if character == "\n":
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def shown_url(url: str) -> str:
    """Return a URL without its password, query and fragment, which may hold secrets.

    The URL need not be valid: what could be a part of a password is hidden.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    credentials, at, rest = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    shown = f"{scheme}{separator}"
    # A @ after ? or # ends a password or is part of one.
    if re.search(r"[?#]", credentials) or (scheme and not _AUTHORITY.match(rest)):
        return printable(f"{shown}***")
    if at:
        # A user without a password may be a token.
        shown += f"{user}:***@" if colon and _USER.fullmatch(user) else "***@"
    rest = re.sub(r"([?#]).*", r"\1***", rest, flags=re.DOTALL)
    return printable(shown + rest)
