"""Nodes: create, update, move, delete. Each function runs in one transaction.

Every edit of a tree locks its hierarchy first and increments its revision: edits of a tree are
serialized, and a copy detects them.
"""

from collections.abc import Mapping
from uuid import UUID

from app.domain.attributes import checked_attributes
from app.domain.errors import InvalidInput, NotFound
from app.domain.hierarchies import (
    LAST_NODE_NO,
    MAX_TREE_DEPTH,
    ROOT_NO,
    NodeRef,
    check_depth,
    node_ref,
)
from app.domain.nodes import NodeAttributes, checked_sort_order
from app.services import products
from app.services.hierarchies import begin_edit, begin_node_edit
from app.storage import hierarchies, nodes, subtrees
from app.storage.engine.transaction import Transaction
from app.storage.nodes import NodeKey, TreeNode
from app.storage.tables import HierarchyRow


def create(
    tx: Transaction,
    store: str,
    parent_id: UUID,
    attributes: NodeAttributes,
    max_depth: int = MAX_TREE_DEPTH,
) -> TreeNode:
    """Create a node below a hierarchy's root or one of its nodes.

    Raises NotFound, OwnedByOrganization, InvalidInput.
    """
    attributes = {"name": None, **attributes}
    parent = node_ref(parent_id)
    missing = NotFound("hierarchy or node", str(parent_id), ("parent_id",))
    hierarchy = begin_edit(tx, store, parent.hierarchy_id, missing)
    depth = _depth(tx, hierarchy, parent, missing) + 1
    check_depth(depth, max_depth)
    if hierarchy.last_node_no >= LAST_NODE_NO:
        raise InvalidInput("The hierarchy has no node numbers left.", ("parent_id",))
    node_no = hierarchy.last_node_no + 1
    hierarchy = hierarchies.update(
        tx, hierarchy.pk, last_node_no=node_no, node_count=hierarchy.node_count + 1
    )
    at = tx.now()
    sort_order = checked_sort_order(attributes.get("sort_order"), "sort_order")
    valid = checked_attributes(attributes)
    key = hierarchy.pk, node_no
    _check_siblings(tx, key, parent.node_no, valid["name"], valid.get("slug"))
    node = nodes.insert(
        tx,
        hierarchy_pk=hierarchy.pk,
        node_no=node_no,
        parent_no=parent.node_no,
        depth=depth,
        sort_order=sort_order,
        touched=hierarchy.revision,
        created_at=at,
        updated_at=at,
        **valid,
    )
    created = TreeNode(node, hierarchy)
    if curated := attributes.get("curated_product_ids"):
        products.curate(tx, created, curated)
    return created


def update(tx: Transaction, store: str, id: UUID, changes: NodeAttributes) -> TreeNode:
    """Apply the changes. Raises NotFound, OwnedByOrganization, InvalidInput."""
    tree_node = begin_node_edit(tx, store, id)
    node = tree_node.node
    valid, order = checked_attributes(changes), _order(changes)
    if "name" in valid or "slug" in valid:
        name, slug = valid.get("name", node.name), valid.get("slug", node.slug)
        _check_siblings(tx, tree_node.key, node.parent_no, name, slug)
    if "curated_product_ids" in changes:
        products.curate(tx, tree_node, changes["curated_product_ids"] or ())
    return _write(tx, tree_node, {**valid, **order}) if changes else tree_node


def move(
    tx: Transaction,
    store: str,
    id: UUID,
    parent_id: UUID,
    changes: NodeAttributes,
    max_depth: int = MAX_TREE_DEPTH,
) -> TreeNode:
    """Move the node, with its subtree, below the root or another node of its hierarchy.

    Of `changes` only the sort order is applied. Raises NotFound, OwnedByOrganization, InvalidInput.
    """
    tree_node = begin_node_edit(tx, store, id)
    node, hierarchy = tree_node.node, tree_node.hierarchy
    parent = node_ref(parent_id)
    missing = NotFound("hierarchy or node", str(parent_id), ("parent_id",))
    if parent.hierarchy_id != hierarchy.id:
        if not _exists(tx, store, parent_id):
            raise missing
        raise InvalidInput("A node cannot move to another hierarchy.", ("parent_id",))
    depth = _depth(tx, hierarchy, parent, missing) + 1
    if subtrees.contains(tx, *tree_node.key, parent.node_no):
        raise InvalidInput("A node cannot move below itself.", ("parent_id",))
    _check_siblings(tx, tree_node.key, parent.node_no, node.name, node.slug, "parent_id")
    levels = depth - node.depth
    if levels > 0:
        # Upwards even a tree from before the limit can move.
        check_depth(subtrees.deepest(tx, *tree_node.key) + levels, max_depth)
    if levels:
        subtrees.shift_depth(tx, *tree_node.key, levels)
    return _write(tx, tree_node, {"parent_no": parent.node_no, **_order(changes)})


def delete(tx: Transaction, store: str, id: UUID) -> UUID:
    """Delete the node with its subtree and their product associations. Return its id.

    Raises NotFound, OwnedByOrganization.
    """
    tree_node = begin_node_edit(tx, store, id)
    deleted = subtrees.delete(tx, *tree_node.key)
    hierarchy = tree_node.hierarchy
    hierarchies.update(
        tx,
        hierarchy.pk,
        node_count=hierarchy.node_count - deleted.nodes,
        association_count=hierarchy.association_count - deleted.associations,
    )
    return id


def _depth(tx: Transaction, hierarchy: HierarchyRow, ref: NodeRef, missing: NotFound) -> int:
    """Return the depth of a node, 0 for the root. Raises `missing` if it does not exist."""
    if ref.node_no == ROOT_NO:
        return 0
    node = nodes.by_no(tx, hierarchy.pk, ref.node_no)
    if node is None:
        raise missing
    return node.depth


def _exists(tx: Transaction, store: str, id: UUID) -> bool:
    return bool(hierarchies.by_id(tx, store, id) or nodes.by_ids(tx, store, [id]))


def _check_siblings(
    tx: Transaction, key: NodeKey, parent_no: int, name: str, slug: str | None, *path: str
) -> None:
    """Raise InvalidInput if another node than `key` below the parent has this name or slug.

    The error's path is `path`, or else the attribute.
    """
    hierarchy_pk, node_no = key
    sibling = nodes.sibling_with(tx, hierarchy_pk, parent_no, name, slug, except_no=node_no)
    if sibling:
        attribute, value = ("name", name) if sibling.name == name else ("slug", slug)
        raise InvalidInput(
            f"A sibling has the {attribute} {value!r} already.", path or (attribute,)
        )


def _order(changes: NodeAttributes) -> dict[str, int | None]:
    if "sort_order" not in changes:
        return {}
    return {"sort_order": checked_sort_order(changes["sort_order"], "sort_order")}


def _write(tx: Transaction, tree_node: TreeNode, values: Mapping[str, object]) -> TreeNode:
    """Write the values. The node moves to the front of the siblings with its sort order."""
    hierarchy = tree_node.hierarchy
    values = {**values, "touched": hierarchy.revision, "updated_at": tx.now()}
    return TreeNode(nodes.update(tx, tree_node.key, **values), hierarchy)
