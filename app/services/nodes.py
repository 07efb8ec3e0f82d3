"""Nodes: create, update, move, delete. Each function runs in one transaction.

Every edit of a tree locks its hierarchy first and increments its revision: edits of a tree are
serialized, and a copy detects them.
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
    """Create a node below a hierarchy's root or one of its nodes.

    Raises NotFound, OwnedByOrganization, InvalidInput.
    """
    attributes = {"name": None, **attributes}
    parent = node_ref(parent_id)
    missing = NotFound("hierarchy or node", str(parent_id), ("parent_id",))
    hierarchy = begin_edit(session, store, parent.hierarchy_id, missing)
    depth = _depth(session, hierarchy, parent, missing) + 1
    if hierarchy.last_node_no >= LAST_NODE_NO:
        raise InvalidInput("The hierarchy has no node numbers left.", ("parent_id",))
    hierarchy.last_node_no += 1
    hierarchy.node_count += 1
    at = now(session)
    assert hierarchy.pk is not None
    node = Node(
        hierarchy_pk=hierarchy.pk,
        node_no=hierarchy.last_node_no,
        parent_no=parent.node_no,
        depth=depth,
        sort_order=checked_sort_order(attributes.get("sort_order"), "sort_order"),
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
    """Apply the changes. Raises NotFound, OwnedByOrganization, InvalidInput."""
    tree_node = begin_node_edit(session, store, id)
    node = tree_node.node
    values: dict[str, Any] = {**checked_attributes(changes), **_order(changes)}
    if "name" in values or "slug" in values:
        name, slug = values.get("name", node.name), values.get("slug", node.slug)
        _check_siblings(session, node, node.parent_no, name, slug)
    if "curated_product_ids" in changes:
        products.curate(session, tree_node, changes["curated_product_ids"] or ())
    if changes:
        _write(session, tree_node, values)
    return tree_node


def move(
    session: Session, store: str, id: UUID, parent_id: UUID, changes: NodeAttributes
) -> TreeNode:
    """Move the node, with its subtree, below the root or another node of its hierarchy.

    Of `changes` only the sort order is applied. Raises NotFound, OwnedByOrganization, InvalidInput.
    """
    tree_node = begin_node_edit(session, store, id)
    node, hierarchy = tree_node.node, tree_node.hierarchy
    parent = node_ref(parent_id)
    missing = NotFound("hierarchy or node", str(parent_id), ("parent_id",))
    if parent.hierarchy_id != hierarchy.id:
        if not _exists(session, store, parent_id):
            raise missing
        raise InvalidInput("A node cannot move to another hierarchy.", ("parent_id",))
    depth = _depth(session, hierarchy, parent, missing) + 1
    if subtrees.contains(session, *tree_node.key, parent.node_no):
        raise InvalidInput("A node cannot move below itself.", ("parent_id",))
    _check_siblings(session, node, parent.node_no, node.name, node.slug, "parent_id")
    if levels := depth - node.depth:
        subtrees.shift_depth(session, *tree_node.key, levels)
    _write(session, tree_node, {"parent_no": parent.node_no, **_order(changes)})
    return tree_node


def delete(session: Session, store: str, id: UUID) -> UUID:
    """Delete the node with its subtree and their product associations. Return its id.

    Raises NotFound, OwnedByOrganization.
    """
    tree_node = begin_node_edit(session, store, id)
    deleted = subtrees.delete(session, *tree_node.key)
    tree_node.hierarchy.node_count -= deleted.nodes
    tree_node.hierarchy.association_count -= deleted.associations
    return id


def _depth(session: Session, hierarchy: Hierarchy, ref: NodeRef, missing: NotFound) -> int:
    """Return the depth of a node, 0 for the root. Raises `missing` if it does not exist."""
    if ref.node_no == ROOT_NO:
        return 0
    assert hierarchy.pk is not None
    node = nodes.by_no(session, hierarchy.pk, ref.node_no)
    if node is None:
        raise missing
    return node.depth


def _exists(session: Session, store: str, id: UUID) -> bool:
    return bool(hierarchies.by_id(session, store, id) or nodes.by_ids(session, store, [id]))


def _check_siblings(
    session: Session, node: Node, parent_no: int, name: str, slug: str | None, *path: str
) -> None:
    """Raise InvalidInput if another node below the parent has this name or slug.

    The error's path is `path`, or else the attribute.
    """
    sibling = nodes.sibling_with(
        session, node.hierarchy_pk, parent_no, name, slug, except_no=node.node_no
    )
    if sibling:
        attribute, value = ("name", name) if sibling.name == name else ("slug", slug)
        raise InvalidInput(
            f"A sibling has the {attribute} {value!r} already.", path or (attribute,)
        )


def _order(changes: NodeAttributes) -> dict[str, int | None]:
    if "sort_order" not in changes:
        return {}
    return {"sort_order": checked_sort_order(changes["sort_order"], "sort_order")}


def _write(session: Session, tree_node: TreeNode, values: dict[str, Any]) -> None:
    """Write the values. The node moves to the front of the siblings with its sort order."""
    touched = tree_node.hierarchy.revision
    nodes.update(session, tree_node.node, **values, touched=touched, updated_at=now(session))
