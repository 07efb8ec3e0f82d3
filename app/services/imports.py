"""Imports of hierarchies, written in chunks and hidden until complete.

The caller writes chunks, one transaction each, then publishes or abandons the import. The sweeper
deletes a killed import after ABANDONED_AFTER.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from sqlmodel import Session

from app.domain.attributes import Translations, checked_name
from app.domain.errors import InvalidInput
from app.domain.hierarchies import HierarchyState, node_id
from app.services.placement import PlacedLine
from app.storage import associations, hierarchies, nodes, products
from app.storage.engine.database import now
from app.storage.nodes import Leaf
from app.storage.tables import Hierarchy

ABANDONED_AFTER = timedelta(hours=1)
"""Idle time after which an import counts as dead."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A product for a node, created if its sku is new. `curated_position`: 1 to 20 if curated."""

    node_no: int
    sku: str
    name: str
    curated_position: int | None = None


def begin(
    session: Session,
    store: str,
    name: str,
    slug: str | None = None,
    description: str | None = None,
    locales: Translations | None = None,
) -> int:
    """Create the hidden hierarchy that the import fills. Return its key. Raises InvalidInput."""
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


def add_nodes(session: Session, hierarchy_pk: int, lines: Sequence[PlacedLine]) -> None:
    """Write a chunk of nodes."""
    hierarchy = _importing(session, hierarchy_pk)
    hierarchy.node_count += len(lines)
    nodes.add(
        session,
        [
            {
                "hierarchy_pk": hierarchy_pk,
                "node_no": placed.node_no,
                "parent_no": placed.parent_no,
                "depth": placed.depth,
                "name": placed.line.name,
                "slug": placed.line.slug,
                "description": placed.line.description,
                "sort_order": None,
                "touched": -placed.node_no,
                "locales": dict(placed.line.locales),
                "created_at": hierarchy.updated_at,
                "updated_at": hierarchy.updated_at,
            }
            for placed in lines
        ],
    )


def attach(session: Session, hierarchy_pk: int, attachments: Sequence[Attachment]) -> None:
    """Attach a chunk of products to nodes of earlier chunks. Pairs must be unique."""
    hierarchy = _importing(session, hierarchy_pk)
    hierarchy.association_count += len(attachments)
    keys = _product_keys(session, hierarchy.store, {a.sku: a.name for a in attachments})
    associations.add(
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
    """Create `per_leaf` products per leaf. They are deleted with the import if it fails."""
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
    """Make the hierarchy visible. Return its id."""
    hierarchy = _importing(session, hierarchy_pk)
    hierarchy.state = HierarchyState.READY
    hierarchy.created_at = hierarchy.updated_at
    hierarchy.last_node_no = nodes.last_no(session, hierarchy_pk)
    return hierarchy.id


def abandon(session: Session, hierarchy_pk: int) -> None:
    """Abandon the import; the sweeper deletes its rows."""
    hierarchies.abandon_import(session, hierarchy_pk)


def abandon_idle(session: Session) -> None:
    """Abandon imports that have been idle for ABANDONED_AFTER."""
    hierarchies.abandon_idle_imports(session, now(session) - ABANDONED_AFTER)


def _importing(session: Session, hierarchy_pk: int) -> Hierarchy:
    """Read the hierarchy and mark the import as alive. Raises InvalidInput if abandoned."""
    # Locked: an import that is abandoned meanwhile must not keep this transaction's rows.
    hierarchy = session.get_one(Hierarchy, hierarchy_pk, with_for_update=True)
    if hierarchy.state is not HierarchyState.IMPORTING:
        raise InvalidInput("The import was idle for too long and was abandoned.")
    hierarchy.updated_at = now(session)
    return hierarchy


def _product_keys(session: Session, store: str, names: Mapping[str, str]) -> dict[str, int]:
    keys = products.pks_by_sku(session, store, names)
    missing = [
        {"id": uuid4(), "store": store, "sku": sku, "name": name}
        # In sku order, so that concurrent imports cannot deadlock.
        for sku, name in sorted(names.items())
        if sku not in keys
    ]
    if missing:
        products.add(session, missing)
        keys = products.pks_by_sku(session, store, names)
    return keys
