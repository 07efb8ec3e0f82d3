"""Imports of hierarchies, written in chunks and hidden until complete.

The caller writes chunks, one transaction each, then publishes or abandons the import. The sweeper
deletes a killed import after ABANDONED_AFTER.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from app.domain.attributes import NAME_LIMIT, Translations, checked_attributes
from app.domain.errors import InvalidInput
from app.domain.hierarchies import HierarchyState, node_id
from app.domain.nodes import checked_curated_position
from app.domain.products import NewProduct, checked_product
from app.services.placement import PlacedLine
from app.storage import associations, hierarchies, nodes, products
from app.storage.engine.transaction import Transaction
from app.storage.nodes import Leaf
from app.storage.tables import HierarchyRow

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
    tx: Transaction,
    store: str,
    name: str,
    slug: str | None = None,
    description: str | None = None,
    locales: Translations | None = None,
) -> int:
    """Create the hidden hierarchy that the import fills. Return its key. Raises InvalidInput."""
    attributes = checked_attributes(
        {"name": name, "slug": slug, "description": description, "locales": locales}
    )
    return hierarchies.add(tx, store, HierarchyState.IMPORTING, **attributes).pk


def add_nodes(tx: Transaction, hierarchy_pk: int, lines: Sequence[PlacedLine]) -> None:
    """Write a chunk of nodes."""
    hierarchy = _lock_importing(tx, hierarchy_pk)
    at = tx.now()
    hierarchies.update(
        tx, hierarchy_pk, node_count=hierarchy.node_count + len(lines), updated_at=at
    )
    nodes.add(
        tx,
        [
            {
                "hierarchy_pk": hierarchy_pk,
                "node_no": placed.node_no,
                "parent_no": placed.parent_no,
                "depth": placed.depth,
                "sort_order": None,
                "touched": -placed.node_no,
                **placed.attributes,
                "created_at": at,
                "updated_at": at,
            }
            for placed in lines
        ],
    )


def attach(tx: Transaction, hierarchy_pk: int, attachments: Sequence[Attachment]) -> None:
    """Attach a chunk of products to nodes of earlier chunks. Pairs must be unique.

    Raises InvalidInput for an invalid product, or a curated position beyond 1 to 20.
    """
    for attachment in attachments:
        checked_product(NewProduct(attachment.sku, attachment.name), "products")
        checked_curated_position(attachment.curated_position, "curated_product_ids")
    hierarchy = _lock_importing(tx, hierarchy_pk)
    count = hierarchy.association_count + len(attachments)
    hierarchies.update(tx, hierarchy_pk, association_count=count, updated_at=tx.now())
    keys = _product_keys(tx, hierarchy.store, {a.sku: a.name for a in attachments})
    associations.add(
        tx,
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
    tx: Transaction, hierarchy_pk: int, leaves: Sequence[Leaf], per_leaf: int
) -> None:
    """Create `per_leaf` products per leaf. They are deleted with the import if it fails."""
    hierarchy_id = _lock_importing(tx, hierarchy_pk).id
    attach(
        tx,
        hierarchy_pk,
        [
            Attachment(
                leaf.node_no,
                f"{node_id(hierarchy_id, leaf.node_no)}-{i}",
                # A leaf's name may be as long as a product's without the number.
                f"{leaf.name[: NAME_LIMIT - 1 - len(str(i))]} {i}",
            )
            for leaf in leaves
            for i in range(1, per_leaf + 1)
        ],
    )


def publish(tx: Transaction, hierarchy_pk: int) -> UUID:
    """Make the hierarchy visible. Return its id."""
    _lock_importing(tx, hierarchy_pk)
    at = tx.now()
    hierarchy = hierarchies.update(
        tx,
        hierarchy_pk,
        state=HierarchyState.READY,
        created_at=at,
        updated_at=at,
        last_node_no=nodes.last_no(tx, hierarchy_pk),
    )
    return hierarchy.id


def abandon(tx: Transaction, hierarchy_pk: int) -> None:
    """Abandon the import; the sweeper deletes its rows."""
    hierarchies.abandon_import(tx, hierarchy_pk)


def abandon_idle(tx: Transaction) -> None:
    """Abandon imports that have been idle for ABANDONED_AFTER."""
    hierarchies.abandon_idle_imports(tx, tx.now() - ABANDONED_AFTER)


def _lock_importing(tx: Transaction, hierarchy_pk: int) -> HierarchyRow:
    """Lock the hierarchy of an import. Raises InvalidInput if the import was abandoned.

    An import that is abandoned meanwhile must not keep this transaction's rows.
    """
    hierarchy = hierarchies.lock_unfinished(tx, hierarchy_pk)
    if hierarchy.state is not HierarchyState.IMPORTING:
        raise InvalidInput("The import was idle for too long and was abandoned.")
    return hierarchy


def _product_keys(tx: Transaction, store: str, names: Mapping[str, str]) -> dict[str, int]:
    keys = products.pks_by_sku(tx, store, names)
    missing = [
        {"id": uuid4(), "store": store, "sku": sku, "name": name}
        # In sku order, so that concurrent imports cannot deadlock.
        for sku, name in sorted(names.items())
        if sku not in keys
    ]
    if missing:
        products.add(tx, missing)
        keys = products.pks_by_sku(tx, store, names)
    return keys
