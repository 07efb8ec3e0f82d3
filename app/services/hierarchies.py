"""Hierarchies as wholes: made, changed and deleted. Each function is one transaction's work."""

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
    """A new hierarchy with nothing below its root. Raises InvalidInput."""
    said = checked_attributes({"name": None, **attributes})
    return hierarchies.add(session, store, HierarchyState.READY, **said)


def update(session: Session, store: str, id: UUID, changes: Attributes) -> Hierarchy:
    """The hierarchy with these changes. Raises NotFound, Forbidden, InvalidInput."""
    hierarchy = begin_edit(session, store, id, _missing(id))
    for name, value in checked_attributes(changes).items():
        setattr(hierarchy, name, value)
    if changes:
        hierarchy.updated_at = now(session)
    return hierarchy


def delete(session: Session, store: str, id: UUID) -> UUID:
    """Take the hierarchy of that id from everybody's sight; the sweep deletes its rows.

    Raises NotFound, Forbidden.
    """
    begin_edit(session, store, id, _missing(id)).state = HierarchyState.DISCARDED
    return id


def begin_edit(session: Session, store: str, id: UUID, missing: NotFound) -> Hierarchy:
    """The hierarchy, at its next revision, for the store to change: nobody else does until the
    transaction ends.

    Raises `missing` where there is none, OwnedByOrganization where the store can only read it.
    """
    hierarchy = hierarchies.lock(session, store, id)
    if hierarchy is None:
        raise missing
    if hierarchy.store != store:
        raise OwnedByOrganization(missing.path)
    hierarchy.revision += 1
    return hierarchy


def begin_node_edit(session: Session, store: str, id: UUID) -> TreeNode:
    """The node, in its hierarchy at its next revision, for the store to change.

    Raises NotFound, also for the id of a hierarchy, and OwnedByOrganization.
    """
    place = node_ref(id)
    missing = NotFound("node", str(id), ("nodeId",))
    hierarchy = begin_edit(session, store, place.hierarchy_id, missing)
    assert hierarchy.pk is not None
    node = nodes.in_hierarchy(session, hierarchy.pk, place.node_no)
    if node is None:
        raise missing
    return TreeNode(node, hierarchy)


def _missing(id: UUID) -> NotFound:
    return NotFound("hierarchy", str(id), ("hierarchyId",))
