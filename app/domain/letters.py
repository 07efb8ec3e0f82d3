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
    cases: dict[str, list[str]] = defaultdict(list)
    for code in CASED_LETTERS:
        cases[folded(chr(code))].append(chr(code))
    return {letter: "".join(letters) for letter, letters in cases.items() if len(letters) > 1}
