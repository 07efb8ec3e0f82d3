"""What others sent is logged escaped, for people and as JSON."""

import json
import logging
import sys

import pytest

from app.cli.logs import _formatter

SENT = "Gone\x1b[2J\x9b\u202e\nnext"


def line(*, for_people: bool, sent: str = SENT) -> str:
    """Format a log line with a text of a webhook's receiver and an exception that quotes it."""
    try:
        raise ValueError(sent)
    except ValueError:
        record = logging.LogRecord("app", logging.INFO, "", 0, "%s", (sent,), sys.exc_info())
    record.reason = sent
    return _formatter(for_people=for_people).format(record)


def test_a_line_for_people_has_no_control_of_others() -> None:
    text = line(for_people=True)
    assert r"Gone\x1b[2J\x9b\u202e next" in text
    assert "ValueError: Gone\\x1b[2J\\x9b\\u202e\nnext" in text
    assert "\x9b" not in text
    assert "\u202e" not in text
    assert "\x1b[2J" not in text


@pytest.mark.parametrize("sent", [SENT, "name\udcff"])
def test_a_line_of_json_is_json_without_controls(sent: str) -> None:
    text = line(for_people=False, sent=sent)
    assert text.isprintable()
    assert json.loads(text)["reason"] == sent
