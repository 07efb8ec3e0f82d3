"""The words of style.md: docstrings, comments, texts for people and documents in plain English."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import COMMANDS, cli

ROOT = Path(__file__).parents[2]

IDIOM = re.compile(
    r"""
    \b(?:
        told | tells? | telling | ask(?:s|ed|ing)? | wanted
      | (?:who|what|when|where|how)ever | (?:some|no|any|every)body
      | anew | likewise | so\ many | for\ ever | can\ not
      | what\ (?:came|comes|became|becomes|is|was|will\ be)\ (?:of|there|asked|found|made|said)
      | is\ none | are\ none | be\ none | none\ is
      | beside | behind | the\ like
    )\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Words of the idiom that style.md replaces: rules 1 to 10."""

OPENING = re.compile(r"(?:What|Whether|Who|Whom|Whose|How|Where|When|Which|Of|As)\b")
"""A docstring begins with an imperative verb or a noun phrase (rule 2)."""

ALLOWED = {
    "can not be empty": "the reference documents fix this text",
}
"""Phrases that stay, each with its reason."""

MEMBERS = [f"client {name}" for name in ("add", "list", "remove")]
"""Commands of groups."""

DOCUMENTS = [ROOT / "README.md", ROOT / "schema.graphql", ROOT / "CHANGELOG.md"]
FOLDERS = {"app": (".py", ".js", ".html", ".css"), "docs": (".md",), ".github": (".md",)}


def texts_of_python(source: str) -> Iterator[tuple[int, str, bool]]:
    """Yield the line, the text and True for a docstring, of strings with blanks and comments."""
    tree = ast.parse(source)
    docstrings: set[int] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for statement in body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                docstrings.add(id(statement.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_docstring = id(node) in docstrings
            if is_docstring or " " in node.value:
                yield node.lineno, node.value, is_docstring
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string, False


def texts_of_file(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield line, text and whether it is a docstring."""
    if path.suffix == ".py":
        yield from texts_of_python(path.read_text())
        return
    fenced = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if path.suffix == ".md" and line.lstrip().startswith("```"):
            fenced = not fenced
        if not fenced:
            yield number, line, False


def faults(path: Path, root: Path = ROOT) -> list[str]:
    """Return one line per use of the idiom in a file."""
    name = path.relative_to(root)
    found = []
    for line, text, is_docstring in texts_of_file(path):
        for phrase in ALLOWED:
            text = text.replace(phrase, "")
        for match in IDIOM.finditer(text):
            found.append(f"{name}:{line}: {match[0]!r} in {text[:90]!r}")
        if is_docstring and OPENING.match(text):
            found.append(f"{name}:{line}: opens with {text[:60]!r}")
    return found


def files() -> list[Path]:
    """Return every file whose words are checked."""
    return [
        *DOCUMENTS,
        *(
            path
            for folder, suffixes in FOLDERS.items()
            for path in sorted((ROOT / folder).rglob("*"))
            if path.suffix in suffixes
        ),
    ]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_in_plain_english(path: Path) -> None:
    assert faults(path) == []


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ('"""What came of an attempt."""', 2),
        ('"""The outcome of an attempt."""', 0),
        ("x = 1  # whoever is further behind", 2),
        ("x = 'Events told to subscribers'", 1),
        ("x = 'A name can not be empty'", 0),
        ("told = 1", 0),
    ],
)
def test_the_idiom_is_counted(tmp_path: Path, source: str, number: int) -> None:
    path = tmp_path / "example.py"
    path.write_text(source)
    assert len(faults(path, tmp_path)) == number


@pytest.mark.parametrize("command", ["", *COMMANDS, *MEMBERS])
def test_the_help_of_a_command_is_in_plain_english(command: str) -> None:
    arguments = [*command.split(), "--help"]
    text = CliRunner().invoke(cli, arguments, env={"COLUMNS": "300"}).stdout
    assert "Usage" in text
    assert [match[0] for match in IDIOM.finditer(text)] == []
