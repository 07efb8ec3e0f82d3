"""Upper and lower case of letters, by Unicode's simple case folding.

The tables are Python's, so that a comparison does not depend on the locale of a database. Simple
folding maps a letter to one letter, independent of its neighbours: sigma is one letter also at the
end of a word, the Turkish i without a dot is not i, and ß is not ss.
"""

from collections import defaultdict
from functools import cache

CASED_LETTERS = range(0x20000)
"""Code points that include all letters with case."""


def folded(letter: str) -> str:
    """Return the letter that stands for all cases of `letter`."""
    # Python has full case folding only, which maps some letters to several.
    for mapped in (letter.casefold(), letter.lower()):
        if len(mapped) == 1:
            return mapped
    return letter


def cases_of(letter: str) -> str:
    """Return `letter` in all its cases, in order of code points."""
    return _cases().get(folded(letter), letter)


@cache
def _cases() -> dict[str, str]:
    # `folded` for all code points takes 0.3 s, for those that casefold() changes 0.03 s.
    changed = [letter for letter in map(chr, CASED_LETTERS) if letter.casefold() != letter]
    cases: dict[str, set[str]] = defaultdict(set)
    for letter in changed:
        cases[folded(letter)] |= {folded(letter), letter}
    return {letter: "".join(sorted(letters)) for letter, letters in cases.items()}
