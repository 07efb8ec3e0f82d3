"""The documents of the repository: their pages, links, headings and fenced blocks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / ".github").glob("*.md"), *(ROOT / "docs").rglob("*.md")]
)
"""Every page, the README included."""

SHELLS = ("sh", "bash", "shell", "console")

_FENCE = re.compile(r"^```(\S*)[ ]?(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    page: str
    """The path of its page from the root of the repository."""
    language: str
    name: str
    """The rest of the line that opens the block."""
    text: str


def name_of(page: Path) -> str:
    """Return the path of a page from the root of the repository."""
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    """Return the text of a page."""
    return page.read_text("utf-8")


def blocks(*languages: str, page: Path | None = None) -> Iterator[Block]:
    """Yield the fenced blocks in these languages, of one page or of all."""
    for path in PAGES if page is None else [page]:
        for language, name, text in _FENCE.findall(text_of(path)):
            if language in languages:
                yield Block(name_of(path), language, name, text)


def script(page: str, name: str) -> str:
    """Return the shell blocks of that name on a page as one script."""
    texts = [block.text for block in blocks(*SHELLS, page=ROOT / page) if block.name == name]
    assert texts, f"{page} has no shell block named {name}"
    return "".join(texts)


def prose_of(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


def links_of(page: Path) -> list[str]:
    """Return the targets of a page's links and images."""
    return _LINK.findall(_CODE.sub("", prose_of(page)))


def code_of(page: Path) -> list[str]:
    """Return the inline code of a page."""
    return [code.strip("`") for code in _CODE.findall(prose_of(page))]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub names them."""
    anchors: set[str] = set()
    for heading in _HEADING.findall(prose_of(page)):
        words = re.sub(r"[^\w\- ]", "", heading.replace("`", "")).lower().replace(" ", "-")
        number = sum(1 for anchor in anchors if re.fullmatch(rf"{words}(-\d+)?", anchor))
        anchors.add(f"{words}-{number}" if number else words)
    return anchors
