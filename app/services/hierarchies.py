"""Hierarchies: create, update, delete, lock. Each function runs in one transaction."""

from uuid import UUID

from app.domain.attributes import Attributes, checked_attributes
from app.domain.errors import NotFound
from app.domain.hierarchies import HierarchyState, node_ref
from app.domain.stores import OwnedByOrganization
from app.storage import hierarchies, nodes
from app.storage.engine.transaction import Transaction
from app.storage.nodes import TreeNode
from app.storage.tables import HierarchyRow


def create(tx: Transaction, store: str, attributes: Attributes) -> HierarchyRow:
    """Create an empty hierarchy. Raises InvalidInput."""
    values = checked_attributes({"name": None, **attributes})
    return hierarchies.add(tx, store, HierarchyState.READY, **values)


def update(tx: Transaction, store: str, id: UUID, changes: Attributes) -> HierarchyRow:
    """Apply the changes. Raises NotFound, OwnedByOrganization, InvalidInput."""
    hierarchy = begin_edit(tx, store, id, _missing(id))
    values = checked_attributes(changes)
    if not changes:
        return hierarchy
    return hierarchies.update(tx, hierarchy.pk, **values, updated_at=tx.now())


def delete(tx: Transaction, store: str, id: UUID) -> UUID:
    """Hide the hierarchy; the sweeper deletes its rows. Return its id.

    Raises NotFound, OwnedByOrganization.
    """
    hierarchy = begin_edit(tx, store, id, _missing(id))
    hierarchies.update(tx, hierarchy.pk, state=HierarchyState.DISCARDED)
    return id


def begin_edit(tx: Transaction, store: str, id: UUID, missing: NotFound) -> HierarchyRow:
    """Lock the hierarchy until the transaction ends and increment its revision.

    Raises `missing` if it does not exist, OwnedByOrganization if the store can only read it.
    """
    hierarchy = hierarchies.begin_edit(tx, store, id)
    if hierarchy is None:
        if hierarchies.by_id(tx, store, id) is None:
            raise missing
        raise OwnedByOrganization(missing.path)
    return hierarchy


def begin_node_edit(tx: Transaction, store: str, id: UUID) -> TreeNode:
    """Lock the node's hierarchy, increment its revision, and return both.

    Raises NotFound, also for the id of a hierarchy, or OwnedByOrganization.
    """
    ref = node_ref(id)
    missing = NotFound("node", str(id), ("node_id",))
    hierarchy = begin_edit(tx, store, ref.hierarchy_id, missing)
    node = nodes.by_no(tx, hierarchy.pk, ref.node_no)
    if node is None:
        raise missing
    return TreeNode(node, hierarchy)


def _missing(id: UUID) -> NotFound:
    return NotFound("hierarchy", str(id), ("hierarchy_id",))
