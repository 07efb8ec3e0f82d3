"""A hierarchy read from somewhere else, line by line, hidden until it is whole.

The caller brings the lines in chunks, one transaction each, then publishes or discards the whole.
What a killed import leaves behind is swept after ABANDONED_AFTER.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar
from uuid import UUID, uuid4

from sqlmodel import Session

from app.domain.attributes import Locales, checked_locale, checked_name, checked_text
from app.domain.errors import DomainError, InvalidInput
from app.domain.hierarchies import ROOT_NO, HierarchyState, node_id
from app.storage import hierarchies, nodes, products
from app.storage.engine.database import now
from app.storage.import_scratch import ImportedNode, ImportScratch
from app.storage.nodes import Leaf
from app.storage.tables import Hierarchy

ABANDONED_AFTER = timedelta(hours=1)
"""How long an import may add nothing before it counts as dead."""


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
    """One node as the file tells it. A parent of None hangs it below the root."""

    id: str
    parent: str | None
    name: str
    slug: str | None = None
    description: str | None = None
    locales: Locales = field(default_factory=dict)
    level: int | None = None


@dataclass(frozen=True, slots=True)
class PlacedLine:
    """A line that passed, and its place in the new tree."""

    line: Line
    node_no: int
    parent_no: int
    depth: int


@dataclass(frozen=True, slots=True)
class Attachment:
    """A product for a node, found by its sku or made; curated_position 1..20 where curated."""

    node_no: int
    sku: str
    name: str
    curated_position: int | None = None


class Placement:
    """Gives the lines of one file their places, in order, and refuses those that have none."""

    def __init__(self, scratch: ImportScratch) -> None:
        self._scratch = scratch
        self._node_no = ROOT_NO

    def place(self, line_no: int, line: Line) -> PlacedLine:
        """The place of the next line. Raises BadLine: an unknown parent, an id seen before, a name
        or slug a sibling has, a level that is not the parent's plus one, a bad name or locale."""
        parent = ImportedNode(ROOT_NO, 0)
        if line.parent is not None:
            known = self._scratch.placed(line.parent)
            if known is None:
                raise BadLine(line_no, f"the parent {line.parent!r} is on no line before this one")
            parent = known
        if line.level is not None and line.level != parent.depth:
            raise BadLine(line_no, f"level is {line.level}, but its parent makes it {parent.depth}")
        try:
            checked_name(line.name, "name")
            checked_text(line.slug or "", "slug")
            checked_text(line.description or "", "description")
            for locale, said in line.locales.items():
                checked_locale(locale, "name")
                if "name" in said:
                    checked_name(said["name"], "name", locale)
        except InvalidInput as error:
            raise BadLine(line_no, f"{'.'.join(error.path)}: {error.reason}") from error
        self._node_no += 1
        placed = ImportedNode(self._node_no, parent.depth + 1)
        if not self._scratch.place(line.id, placed):
            raise BadLine(line_no, f"the id {line.id!r} is on a line before this one")
        for what, value in (("name", line.name), ("slug", line.slug)):
            if value is not None and not self._scratch.take(parent.node_no, what, value):
                raise BadLine(line_no, f"a sibling has the {what} {value!r} already")
        return PlacedLine(line, placed.node_no, parent.node_no, placed.depth)


def begin(
    session: Session,
    store: str,
    name: str,
    slug: str | None = None,
    description: str | None = None,
    locales: Locales | None = None,
) -> int:
    """Make the hidden hierarchy that the import fills, and return its key. Raises InvalidInput."""
    hierarchy = hierarchies.add(
        session,
        store,
        HierarchyState.IMPORTING,
        name=checked_name(name, "name"),
        slug=slug,
        description=description,
        locales=dict(locales or {}),
    )
    assert hierarchy.pk is not None
    return hierarchy.pk


def add_nodes(session: Session, hierarchy_pk: int, placed: Sequence[PlacedLine]) -> None:
    """Write a chunk of nodes."""
    hierarchy = _importing(session, hierarchy_pk)
    hierarchy.node_count += len(placed)
    nodes.add(
        session,
        [
            {
                "hierarchy_pk": hierarchy_pk,
                "node_no": place.node_no,
                "parent_no": place.parent_no,
                "depth": place.depth,
                "name": place.line.name,
                "slug": place.line.slug,
                "description": place.line.description,
                "sort_order": None,
                "touched": -place.node_no,
                "locales": dict(place.line.locales),
                "created_at": hierarchy.updated_at,
                "updated_at": hierarchy.updated_at,
            }
            for place in placed
        ],
    )


def attach(session: Session, hierarchy_pk: int, attachments: Sequence[Attachment]) -> None:
    """Attach a chunk of products to nodes that were added before. A pair comes once."""
    hierarchy = _importing(session, hierarchy_pk)
    hierarchy.association_count += len(attachments)
    keys = _product_keys(session, hierarchy.store, {a.sku: a.name for a in attachments})
    products.associate(
        session,
        [
            {
                "hierarchy_pk": hierarchy_pk,
                "node_no": attachment.node_no,
                "product_pk": keys[attachment.sku],
                "curated_position": attachment.curated_position,
            }
            for attachment in attachments
        ],
    )


def attach_generated(
    session: Session, hierarchy_pk: int, leaves: Sequence[Leaf], per_leaf: int
) -> None:
    """Make `per_leaf` products for each of these leaves, which go with the import if it fails."""
    hierarchy_id = _importing(session, hierarchy_pk).id
    attach(
        session,
        hierarchy_pk,
        [
            Attachment(
                leaf.node_no, f"{node_id(hierarchy_id, leaf.node_no)}-{i}", f"{leaf.name} {i}"
            )
            for leaf in leaves
            for i in range(1, per_leaf + 1)
        ],
    )


def publish(session: Session, hierarchy_pk: int) -> UUID:
    """Make the hierarchy visible and return its id."""
    hierarchy = _importing(session, hierarchy_pk)
    hierarchy.state = HierarchyState.READY
    hierarchy.created_at = hierarchy.updated_at
    hierarchy.last_node_no = nodes.last_no(session, hierarchy_pk)
    return hierarchy.id


def abandon(session: Session, hierarchy_pk: int) -> None:
    """Give all the import has written to the sweep."""
    hierarchies.abandon_import(session, hierarchy_pk)


def abandon_idle(session: Session) -> None:
    """Give what dead imports have written to the sweep."""
    hierarchies.abandon_idle_imports(session, now(session) - ABANDONED_AFTER)


def _importing(session: Session, hierarchy_pk: int) -> Hierarchy:
    """The hierarchy, marked as alive."""
    hierarchy = session.get_one(Hierarchy, hierarchy_pk)
    if hierarchy.state is not HierarchyState.IMPORTING:
        raise InvalidInput("The import was idle for too long and was given up.")
    hierarchy.updated_at = now(session)
    return hierarchy


def _product_keys(session: Session, store: str, names: Mapping[str, str]) -> dict[str, int]:
    keys = products.keys_by_sku(session, store, names)
    missing = [
        {"id": uuid4(), "store": store, "sku": sku, "name": name}
        # In one order, so that two imports at once never wait for each other.
        for sku, name in sorted(names.items())
        if sku not in keys
    ]
    if missing:
        products.add(session, missing)
        keys = products.keys_by_sku(session, store, names)
    return keys
