"""Nodes: made, changed, moved and deleted. Each function is one transaction's work.

Whatever changes a tree locks its hierarchy first and lets its revision grow: edits of one tree come
one after the other, and a copy sees that there was one.
"""

from typing import Any
from uuid import UUID

from sqlmodel import Session

from app.domain.attributes import checked_attributes
from app.domain.errors import InvalidInput, NotFound
from app.domain.hierarchies import LAST_NODE_NO, ROOT_NO, NodeRef, node_ref
from app.domain.nodes import NodeAttributes, checked_sort_order
from app.services import products
from app.services.hierarchies import begin_edit, begin_node_edit
from app.storage import hierarchies, nodes, subtrees
from app.storage.engine.database import now
from app.storage.nodes import TreeNode
from app.storage.tables import Hierarchy, Node


def create(session: Session, store: str, parent_id: UUID, attributes: NodeAttributes) -> TreeNode:
    """A new node below a hierarchy's root or one of its nodes.

    Raises NotFound, Forbidden, InvalidInput.
    """
    attributes = {"name": None, **attributes}
    place = node_ref(parent_id)
    missing = NotFound("hierarchy or node", str(parent_id), ("parentId",))
    hierarchy = begin_edit(session, store, place.hierarchy_id, missing)
    depth = _depth(session, hierarchy, place, missing) + 1
    if hierarchy.last_node_no >= LAST_NODE_NO:
        raise InvalidInput("The hierarchy has had as many nodes as it can have.", ("parentId",))
    hierarchy.last_node_no += 1
    hierarchy.node_count += 1
    at = now(session)
    assert hierarchy.pk is not None
    node = Node(
        hierarchy_pk=hierarchy.pk,
        node_no=hierarchy.last_node_no,
        parent_no=place.node_no,
        depth=depth,
        sort_order=checked_sort_order(attributes.get("sort_order"), "sortOrder"),
        touched=hierarchy.revision,
        created_at=at,
        updated_at=at,
        **checked_attributes(attributes),
    )
    _check_siblings(session, node, node.parent_no, node.name, node.slug)
    session.add(node)
    created = TreeNode(node, hierarchy)
    if curated := attributes.get("curated_product_ids"):
        products.curate(session, created, curated)
    return created


def update(session: Session, store: str, id: UUID, changes: NodeAttributes) -> TreeNode:
    """The node with these changes. Raises NotFound, Forbidden, InvalidInput."""
    found = begin_node_edit(session, store, id)
    node = found.node
    values: dict[str, Any] = {**checked_attributes(changes), **_order(changes)}
    if "name" in values or "slug" in values:
        name, slug = values.get("name", node.name), values.get("slug", node.slug)
        _check_siblings(session, node, node.parent_no, name, slug)
    if "curated_product_ids" in changes:
        products.curate(session, found, changes["curated_product_ids"] or ())
    if changes:
        _edit(session, found, values)
    return found


def move(
    session: Session, store: str, id: UUID, parent_id: UUID, changes: NodeAttributes
) -> TreeNode:
    """The node, with all below it, below another parent in its hierarchy, the root or a node; of
    the changes only the sort order counts.

    Raises NotFound, Forbidden, InvalidInput.
    """
    found = begin_node_edit(session, store, id)
    node, hierarchy = found.node, found.hierarchy
    place = node_ref(parent_id)
    missing = NotFound("hierarchy or node", str(parent_id), ("parentId",))
    if place.hierarchy_id != hierarchy.id:
        if not _is_there(session, store, parent_id):
            raise missing
        raise InvalidInput("A node can not move to another hierarchy.", ("parentId",))
    depth = _depth(session, hierarchy, place, missing) + 1
    if subtrees.holds(session, *found.key, place.node_no):
        raise InvalidInput("A node can not move below itself.", ("parentId",))
    _check_siblings(session, node, place.node_no, node.name, node.slug, "parentId")
    if levels := depth - node.depth:
        subtrees.shift(session, *found.key, levels)
    _edit(session, found, {"parent_no": place.node_no, **_order(changes)})
    return found


def delete(session: Session, store: str, id: UUID) -> UUID:
    """Delete the node of that id with all below it, and their associations with products.

    Raises NotFound, Forbidden.
    """
    found = begin_node_edit(session, store, id)
    cut = subtrees.delete(session, *found.key)
    found.hierarchy.node_count -= cut.nodes
    found.hierarchy.association_count -= cut.associations
    return id


def _depth(session: Session, hierarchy: Hierarchy, place: NodeRef, missing: NotFound) -> int:
    """How deep the root, or the node, of that place hangs. Raises `missing` where there is none."""
    if place.node_no == ROOT_NO:
        return 0
    assert hierarchy.pk is not None
    node = nodes.in_hierarchy(session, hierarchy.pk, place.node_no)
    if node is None:
        raise missing
    return node.depth


def _is_there(session: Session, store: str, id: UUID) -> bool:
    return bool(hierarchies.by_id(session, store, id) or nodes.by_ids(session, store, [id]))


def _check_siblings(
    session: Session, node: Node, parent_no: int, name: str, slug: str | None, *path: str
) -> None:
    """Raises InvalidInput when another node below that parent has this name or this slug: naming
    `path`, or else the one of them."""
    other = nodes.sibling_with(
        session, node.hierarchy_pk, parent_no, name, slug, except_no=node.node_no
    )
    if other:
        what, said = ("name", name) if other.name == name else ("slug", slug)
        raise InvalidInput(f"A sibling has the {what} {said!r} already.", path or (what,))


def _order(changes: NodeAttributes) -> dict[str, int | None]:
    if "sort_order" not in changes:
        return {}
    return {"sort_order": checked_sort_order(changes["sort_order"], "sortOrder")}


def _edit(session: Session, found: TreeNode, values: dict[str, Any]) -> None:
    """Write the values: it comes first among the siblings of its sort order from now on."""
    touched = found.hierarchy.revision
    nodes.change(session, found.node, **values, touched=touched, updated_at=now(session))
