"""Case of letters, by Unicode's simple case folding."""

import pytest

from app.domain import letters
from app.domain.letters import CASED_LETTERS, cases_of, folded


@pytest.mark.parametrize(
    ("letter", "cases"),
    [
        ("a", "Aa"),
        ("S", "Ss\N{LATIN SMALL LETTER LONG S}"),
        ("k", "Kk\N{KELVIN SIGN}"),
        ("ς", "Σςσ"),
        ("ß", "ßẞ"),
        ("ǅ", "Ǆǅǆ"),
        ("i", "Ii"),
        ("\N{LATIN SMALL LETTER DOTLESS I}", "\N{LATIN SMALL LETTER DOTLESS I}"),
        ("İ", "İ"),
        ("1", "1"),
        ("*", "*"),
    ],
)
def test_the_cases_of_a_letter(letter: str, cases: str) -> None:
    assert cases_of(letter) == cases


def test_every_case_of_a_letter_has_the_same_cases() -> None:
    for code in CASED_LETTERS:
        cases = cases_of(chr(code))
        assert chr(code) in cases
        assert {cases_of(case) for case in cases} == {cases}
        assert folded(chr(code)) in cases


def test_the_first_lookup_does_not_fold_every_code_point(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []

    def counted(letter: str) -> str:
        looked_up.append(letter)
        return folded(letter)

    letters._cases.cache_clear()
    monkeypatch.setattr(letters, "folded", counted)
    assert cases_of("a") == "Aa"
    assert len(looked_up) < 10_000


def test_no_letter_beyond_the_examined_ones_has_another_case() -> None:
    for code in range(CASED_LETTERS.stop, 0x110000):
        letter = chr(code)
        assert letter == letter.lower() == letter.upper() == letter.casefold()
