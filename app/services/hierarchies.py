"""Hierarchies: create, update, delete, lock. Each function runs in one transaction."""

from uuid import UUID

from sqlmodel import Session

from app.domain.attributes import Attributes, checked_attributes
from app.domain.errors import NotFound
from app.domain.hierarchies import HierarchyState, node_ref
from app.domain.stores import OwnedByOrganization
from app.storage import hierarchies, nodes
from app.storage.engine.database import now
from app.storage.nodes import TreeNode
from app.storage.tables import Hierarchy


def create(session: Session, store: str, attributes: Attributes) -> Hierarchy:
    """Create an empty hierarchy. Raises InvalidInput."""
    values = checked_attributes({"name": None, **attributes})
    return hierarchies.add(session, store, HierarchyState.READY, **values)


def update(session: Session, store: str, id: UUID, changes: Attributes) -> Hierarchy:
    """Apply the changes. Raises NotFound, OwnedByOrganization, InvalidInput."""
    hierarchy = begin_edit(session, store, id, _missing(id))
    for name, value in checked_attributes(changes).items():
        setattr(hierarchy, name, value)
    if changes:
        hierarchy.updated_at = now(session)
    return hierarchy


def delete(session: Session, store: str, id: UUID) -> UUID:
    """Hide the hierarchy; the sweeper deletes its rows. Return its id.

    Raises NotFound, OwnedByOrganization.
    """
    begin_edit(session, store, id, _missing(id)).state = HierarchyState.DISCARDED
    return id


def begin_edit(session: Session, store: str, id: UUID, missing: NotFound) -> Hierarchy:
    """Lock the hierarchy until the transaction ends and increment its revision.

    Raises `missing` if it does not exist, OwnedByOrganization if the store can only read it.
    """
    hierarchy = hierarchies.lock(session, store, id)
    if hierarchy is None:
        raise missing
    if hierarchy.store != store:
        raise OwnedByOrganization(missing.path)
    hierarchy.revision += 1
    return hierarchy


def begin_node_edit(session: Session, store: str, id: UUID) -> TreeNode:
    """Lock the node's hierarchy, increment its revision, and return both.

    Raises NotFound, also for the id of a hierarchy, or OwnedByOrganization.
    """
    ref = node_ref(id)
    missing = NotFound("node", str(id), ("node_id",))
    hierarchy = begin_edit(session, store, ref.hierarchy_id, missing)
    assert hierarchy.pk is not None
    node = nodes.by_no(session, hierarchy.pk, ref.node_no)
    if node is None:
        raise missing
    return TreeNode(node, hierarchy)


def _missing(id: UUID) -> NotFound:
    return NotFound("hierarchy", str(id), ("hierarchy_id",))
