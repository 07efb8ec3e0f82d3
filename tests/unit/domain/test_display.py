"""Text for people shows what it contains, and no URL shows its secrets."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.display import (
    ascii_json,
    is_escaped,
    printable,
    printable_json,
    printable_lines,
    shown_url,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe 7, 東京 👩‍🌾 می‌خواهم", "Größe 7, 東京 👩‍🌾 می‌خواهم"),
        ("two\nlines\r\nand\ta tab\u2028end", "two lines  and a tab end"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("a\u202eb\u2066c\u200fd", r"a\u202eb\u2066c\u200fd"),
        ("z\u200bero\ufeff\u00ad", r"z\u200bero\ufeff\xad"),
        ("\u3164\U000e0041", r"\u3164\U000e0041"),
        ("\udcff", r"\udcff"),
    ],
)
def test_controls_and_invisible_characters_are_shown_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_traceback_keeps_its_lines() -> None:
    assert printable_lines("a\n\tb\x1bc\n\n") == "a\n\tb\\x1bc\n\n"


@given(st.text())
def test_printable_text_has_nothing_to_escape_and_one_line(text: str) -> None:
    shown = printable(text)
    assert not any(map(is_escaped, shown))
    assert len(shown.splitlines()) <= 1


JSON = st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(JSON)
def test_escaped_json_has_the_same_value(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    shown = printable_json(text)
    assert not any(map(is_escaped, shown))
    assert json.loads(shown) == value
    assert ascii_json(text).isascii()
    assert json.loads(ascii_json(text)) == value


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://shop.example:8443/a/b", "https://shop.example:8443/a/b"),
        ("http://[::1]:8000/x", "http://[::1]:8000/x"),
        ("postgresql+psycopg://me@host,other/db", "postgresql+psycopg://***@host,other/db"),
        ("postgresql://me:s3cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:s3/c@r@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:s3/c?r#e@t@host/db", "postgresql://***"),
        ("postgresql://host/db?password=s3cret", "postgresql://host/db?***"),
        ("https://s3cret@host/x", "https://***@host/x"),
        ("https://host/x#s3cret", "https://host/x#***"),
        ("https://me:s3cret", "https://***"),
        ("https://me:s3 cret/x", "https://***"),
        ("https:/me:s3cret@host/x", "https:***@host/x"),
        ("sqlite:////folder/jobs.db", "sqlite:////folder/jobs.db"),
        ("https://host/\x1b[2J", r"https://host/\x1b[2J"),
        ("plain words", "plain words"),
    ],
)
def test_a_url_is_shown_without_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@given(
    st.sampled_from(("https", "postgresql", "http")),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
def test_no_password_is_shown_however_it_is_written(scheme: str, text: str) -> None:
    password = f"s3cret{text}s3cret"
    assert "s3cret" not in shown_url(f"{scheme}://me:{password}@host/db")
    assert "s3cret" not in shown_url(f"{scheme}://host/db?password={password}")
