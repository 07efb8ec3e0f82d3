"""Patterns of the operators `like` and `ilike`, in which `*` matches any text."""

from functools import lru_cache

WILDCARD = "*"


def matches_pattern(text: str | None, pattern: str, cases: str, letters: str) -> bool:
    """Return True if `text`, with `letters` in place of `cases`, matches. A null does not.

    Takes time in proportion to the text's length, where the operators of databases multiply it by
    the pattern's.
    """
    if text is None:
        return False
    text = text.translate(_replacements(cases, letters))
    start, *parts = pattern.split(WILDCARD)
    if not parts:
        return text == start
    *parts, end = parts
    position = len(start) if text.startswith(start) else -1
    for part in parts:
        if position >= 0 and (position := text.find(part, position)) >= 0:
            position += len(part)
    return position >= 0 and text.endswith(end, position)


@lru_cache(maxsize=16)
def _replacements(cases: str, letters: str) -> dict[int, int]:
    return str.maketrans(cases, letters)
