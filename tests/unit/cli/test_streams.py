"""Printed text is escaped, and JSON stays JSON in every encoding."""

import io
import json
import sys

import pytest

from app.cli.streams import print_json, print_line, print_notice

NAME = "Bäume → 東京 \U0001f333\x1b[2J\x9b\u202e"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_json_in_any_encoding_is_json_without_controls(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    print_json({"name": NAME})
    text = written.getvalue().decode(encoding)
    assert json.loads(text) == {"name": NAME}
    assert text.rstrip("\n").isprintable()


def test_lines_and_notices_are_printed_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(f"{NAME}\nsecond")
    print_notice(f"{NAME}\nsecond")
    printed = capsys.readouterr()
    assert printed.out == "Bäume → 東京 \U0001f333\\x1b[2J\\x9b\\u202e\nsecond\n"
    assert printed.err == "Bäume → 東京 \U0001f333\\x1b[2J\\x9b\\u202e second\n"
