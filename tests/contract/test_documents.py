"""The documents agree with the program and each other. tests/e2e/test_documents.py runs them."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli import COMMANDS
from app.settings import Settings, variable
from tests.support import node_js, reference_pages
from tests.support.markdown import (
    PAGES,
    SHELLS,
    anchors_of,
    blocks,
    code_of,
    links_of,
    name_of,
    text_of,
)
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))

MAX_LINES = {"README.md": 150, "CHANGELOG.md": None}
MAX_LINES_OF_PAGE = 200
MAX_LINES_OF_DECISION = 45

CLIENT_VARIABLES = {"JOBS_GATEWAY_URL", "JOBS_GATEWAY_TOKEN"}

CODE = re.compile(r"[A-Z]+(?:_[A-Z]+)+")
ONE_WORD_CODES = {"UNAUTHENTICATED", "FORBIDDEN"}
NOT_CODES = re.compile(
    r"JOBS_GATEWAY_.*|OTEL_.*|DATABASE_URL|[A-Z]+_ID|HIERARCHY_DUPLICATE|NO_PROXY"
)
"""Constants of the same form: variables, placeholders of arguments, enum members."""


def line_limit(page: Path) -> int | None:
    if page in DECISIONS:
        return MAX_LINES_OF_DECISION
    return MAX_LINES.get(name_of(page), MAX_LINES_OF_PAGE)


def test_pages_are_short() -> None:
    lengths = {page: len(text_of(page).splitlines()) for page in PAGES}
    too_long = {
        name_of(page): length
        for page, length in lengths.items()
        if (limit := line_limit(page)) is not None and length > limit
    }
    assert too_long == {}


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    broken = []
    for page in PAGES:
        for link in links_of(page):
            if re.match(r"https?:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors_of(target)):
                broken.append(f"{name_of(page)}: {link}")
    assert broken == []


def test_every_page_is_reachable_from_the_readme() -> None:
    seen: set[Path] = set()
    new = [ROOT / "README.md"]
    while new:
        page = new.pop()
        seen.add(page)
        targets = {
            (page.parent / link.partition("#")[0]).resolve()
            for link in links_of(page)
            if not link.startswith("http")
        }
        new += [target for target in targets if target.suffix == ".md" and target not in seen]
    assert [name_of(page) for page in PAGES if page not in seen] == []


def paths_in(page: Path) -> Iterator[str]:
    """Yield the paths of the repository that a page names."""
    for code in code_of(page):
        if re.fullmatch(r"(?:app|docs|tests)/[\w./*<>-]+", code) and "<" not in code:
            yield code
    for block in blocks(*SHELLS, page=page):
        yield from re.findall(r"(?<![\w/.])(?:app|docs|tests)/[\w./-]+", block.text)


def test_every_path_exists() -> None:
    missing = [
        f"{name_of(page)}: {path}"
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for path in paths_in(page)
        if not any(ROOT.glob(path.rstrip("/")))
    ]
    assert missing == []


def test_every_variable_is_a_setting() -> None:
    known = {*map(variable, Settings.model_fields), *CLIENT_VARIABLES}
    unknown = {
        f"{name_of(page)}: {name}"
        for page in PAGES
        for name in re.findall(r"JOBS_GATEWAY_[A-Z_]+[A-Z]", text_of(page))
        if name not in known
    }
    assert unknown == set()


def test_every_command_exists() -> None:
    unknown = {
        f"{name_of(page)}: {name}"
        for page in PAGES
        for name in re.findall(r"jobs-gateway ([a-z][a-z-]+)\b", "\n".join(code_of(page)))
        if name not in COMMANDS
    }
    assert unknown == set()


def test_every_metric_exists() -> None:
    shown = {metric.name for metric in reference_pages.shown_metrics()}
    unknown = {
        f"{block.page}: {name}"
        for block in blocks("yaml", *SHELLS)
        for name in re.findall(r"jobs_gateway_[a-z_]+", block.text)
        if name.removesuffix("_total") not in shown
    }
    assert unknown == set()


@pytest.mark.parametrize("name", reference_pages.PARTS)
def test_a_page_of_the_reference_is_as_generated(name: str) -> None:
    page = (reference_pages.REFERENCE / name).read_text("utf-8")
    _, part, _ = reference_pages.split_page(page)
    # If they differ, run `python -m tests.support.reference_pages`.
    assert part.strip() == reference_pages.PARTS[name]().strip()


def codes_in(folder: Path) -> set[str]:
    """Return every error code in the source of the program."""
    constants = {
        node.value
        for path in folder.rglob("*.py")
        if "migrations" not in path.parts and "cli" not in path.parts
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {
        text
        for text in constants
        if (CODE.fullmatch(text) and not NOT_CODES.fullmatch(text)) or text in ONE_WORD_CODES
    }


def test_every_error_code_is_on_its_page_and_no_other() -> None:
    page = DOCS / "reference" / "error-codes.md"
    described = {
        code
        for code in code_of(page)
        if (CODE.fullmatch(code) and not NOT_CODES.fullmatch(code)) or code in ONE_WORD_CODES
    }
    assert described == codes_in(ROOT / "app")


def test_decisions_have_a_number_and_the_same_sections() -> None:
    index = links_of(DOCS / "decisions" / "README.md")
    for number, page in enumerate(DECISIONS, 1):
        text = text_of(page)
        assert page.name.startswith(f"{number:04d}-")
        assert text.startswith(f"# {number:04d}. ")
        sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert sections[:3] == ["Context", "Decision", "Consequences"], page.name
        assert sections[3:] in ([], ["Figures"]), page.name
        assert page.name in index


SNIPPETS = ("typescript.md", "apollo.md", "urql.md", "relay.md")


def test_the_snippets_of_the_clients_are_the_code_of_the_tested_scripts() -> None:
    snippets = [
        block
        for name in SNIPPETS
        for block in blocks("ts", "js", "json", page=DOCS / "how-to" / name)
    ]
    assert len(snippets) >= 6
    code = [path.read_text("utf-8") for path in node_js.SCRIPTS.rglob("*") if path.is_file()]
    unknown = [each for each in snippets if not any(each.text in text for text in code)]
    assert unknown == []


def test_json_blocks_are_json() -> None:
    for block in blocks("json"):
        json.loads(block.text)


def test_the_commands_that_set_up_are_those_of_ci() -> None:
    readme = blocks("sh", page=ROOT / "README.md")
    one, two = [block.text.strip() for block in readme if block.name == ""]
    assert one == (
        "python3 -m venv .venv && .venv/bin/pip install -q -e . && "
        ".venv/bin/jobs-gateway serve --demo"
    )
    assert two == (
        "python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]' && .venv/bin/pytest -q"
    )
    assert two in (ROOT / ".ci" / "run").read_text("utf-8")
