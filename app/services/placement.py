"""Placement of an import's lines: each becomes a node with a number, parent and depth."""

from dataclasses import dataclass, field
from typing import ClassVar

from app.domain.attributes import Translations, ValidatedAttributes, checked_attributes
from app.domain.errors import DomainError, InvalidInput
from app.domain.hierarchies import MAX_TREE_DEPTH, ROOT_NO, check_depth
from app.storage.import_scratch import ImportedNode, ImportScratch


@dataclass(eq=False)
class BadLine(DomainError):
    """A line that cannot become a node."""

    code: ClassVar[str] = "BAD_LINE"
    line_no: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line_no}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Line:
    """A node in the file. A parent of None places it below the root."""

    id: str
    parent: str | None
    name: str
    slug: str | None = None
    description: str | None = None
    locales: Translations = field(default_factory=dict)
    level: int | None = None


@dataclass(frozen=True, slots=True)
class PlacedLine:
    """The attributes of a valid line, and its position in the new tree."""

    attributes: ValidatedAttributes
    node_no: int
    parent_no: int
    depth: int


class Placement:
    """Assigns positions to the lines of one file, in order, and refuses invalid lines."""

    def __init__(self, scratch: ImportScratch, max_depth: int = MAX_TREE_DEPTH) -> None:
        self._scratch = scratch
        self._max_depth = max_depth
        self._node_no = ROOT_NO

    def place(self, line_no: int, line: Line) -> PlacedLine:
        """Validate the next line and assign its position.

        Raises BadLine: an unknown parent, a repeated id, a name or slug that a sibling has, a level
        that is not the parent's plus one or too deep, an invalid attribute.
        """
        parent = ImportedNode(ROOT_NO, 0)
        if line.parent is not None:
            known = self._scratch.find(line.parent)
            if known is None:
                raise BadLine(line_no, f"the parent {line.parent!r} is on no line before this one")
            parent = known
        if line.level is not None and line.level != parent.depth:
            raise BadLine(line_no, f"level is {line.level}, but its parent makes it {parent.depth}")
        try:
            check_depth(parent.depth + 1, self._max_depth)
        except InvalidInput as error:
            raise BadLine(line_no, f"parent: {error.reason}") from error
        try:
            attributes = checked_attributes(
                {
                    "name": line.name,
                    "slug": line.slug,
                    "description": line.description,
                    "locales": line.locales,
                }
            )
        except InvalidInput as error:
            raise BadLine(line_no, f"{_path_in_line(error, line)}: {error.reason}") from error
        self._node_no += 1
        placed = ImportedNode(self._node_no, parent.depth + 1)
        if not self._scratch.add(line.id, placed):
            raise BadLine(line_no, f"the id {line.id!r} is on a line before this one")
        for attribute, value in (("name", line.name), ("slug", line.slug)):
            if value is not None and not self._scratch.claim(parent.node_no, attribute, value):
                raise BadLine(line_no, f"a sibling has the {attribute} {value!r} already")
        return PlacedLine(attributes, placed.node_no, parent.node_no, placed.depth)


def _path_in_line(error: InvalidInput, line: Line) -> str:
    """Name the input at fault as a line has it: names and descriptions by language."""
    match error.path:
        case "locales", locale, attribute:
            return f"{attribute}.{locale}"
        case "locales", locale:
            return next(iter(line.locales[locale]), "name")
        case ("locales",):
            return "name"
    return ".".join(error.path)
