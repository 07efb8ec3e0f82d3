"""Ancestors of nodes, for breadcrumbs."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import col

from app.domain.hierarchies import MAX_PATH_ITEMS, ROOT_NO, PathsTooLong, node_id
from app.storage import nodes
from app.storage.engine.statements import AnySelect, PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.nodes import NodeKey, TreeNode, visible_hierarchies
from app.storage.sql.dialects import key_table, key_table_values
from app.storage.sql.keyset import ROW_LIMIT
from app.storage.tables import Node, NodeRow


class Ancestor(NamedTuple):
    """A root or node on the path to a node, itself included."""

    id: UUID
    name: str
    slug: str | None


def of_nodes(tx: Transaction, store: str, keys: Sequence[NodeKey]) -> dict[NodeKey, list[Ancestor]]:
    """The path from the root to each node, both included.

    Empty for nodes of hierarchies that are not visible. Raises PathsTooLong.
    """
    hierarchies = visible_hierarchies(tx, store, keys)
    visible_nodes = [key for key in keys if key[0] in hierarchies]
    paths: dict[NodeKey, list[Ancestor]] = {key: [] for key in keys}
    for pk, no in visible_nodes:
        root = hierarchies[pk]
        paths[pk, no].append(Ancestor(root.id, root.name, root.slug))
    if visible_nodes:
        values = key_table_values(tx.dialect.name, visible_nodes)
        rows = tx.rows(_PATHS, {"rows": MAX_PATH_ITEMS + 1, **values})
        if len(rows) > MAX_PATH_ITEMS:
            raise PathsTooLong
        for number, node_no, name, slug in rows:
            node = visible_nodes[int(number)]
            paths[node].append(Ancestor(node_id(hierarchies[node[0]].id, node_no), name, slug))
    return paths


def nodes_above(tx: Transaction, rows: Sequence[TreeNode]) -> dict[NodeKey, NodeRow]:
    """The nodes above these, each once, by key. Roots are not among them."""
    parents = {(row.node.hierarchy_pk, row.node.parent_no) for row in rows}
    parents = {key for key in parents if key[1] != ROOT_NO}
    if not parents:
        return {}
    keys = tx.rows(_KEYS_ABOVE, key_table_values(tx.dialect.name, list(parents)))
    above = nodes.by_keys(tx, [(pk, no) for pk, no in keys])
    return {(node.hierarchy_pk, node.node_no): node for node in above}


def _keys_above(dialect: str) -> sa.Select[int, int]:
    """The keys of nodes and of all nodes above them.

    Keys alone, and each once: the nodes of a page mostly have the same ancestors.
    """
    keys = key_table(dialect, (int, int))
    hierarchy_pk, node_no = keys.parts
    node = aliased(Node)
    columns = col(node.hierarchy_pk), col(node.node_no), col(node.parent_no)
    up = (
        sa.select(*columns)
        .join_from(
            keys.rows,
            sa.inspect(node).selectable,
            sa.and_(col(node.hierarchy_pk) == hierarchy_pk, col(node.node_no) == node_no),
        )
        .cte("up", recursive=True)
    )
    up = up.union(
        sa.select(*columns).where(
            col(node.hierarchy_pk) == up.c.hierarchy_pk, col(node.node_no) == up.c.parent_no
        )
    )
    return sa.select(up.c.hierarchy_pk, up.c.node_no)


_KEYS_ABOVE = PreparedQuery(_keys_above)


def _paths(dialect: str) -> AnySelect:
    """The path to each node without the root, from the top down.

    The recursive part reads every selected column: PostgreSQL may read all nodes if they are
    joined at the end. The limit ends the recursion, which comes before the order.
    """
    keys = key_table(dialect, (int, int))
    hierarchy_pk, node_no = keys.parts
    node = aliased(Node)
    columns = (
        col(node.hierarchy_pk),
        col(node.node_no),
        col(node.parent_no),
        col(node.depth),
        col(node.name),
        col(node.slug),
    )
    up = (
        sa.select(keys.number.label("number"), *columns)
        .join_from(
            keys.rows,
            sa.inspect(node).selectable,
            sa.and_(col(node.hierarchy_pk) == hierarchy_pk, col(node.node_no) == node_no),
        )
        .cte("up", recursive=True)
    )
    up = up.union_all(
        sa.select(up.c.number, *columns).where(
            col(node.hierarchy_pk) == up.c.hierarchy_pk, col(node.node_no) == up.c.parent_no
        )
    )
    items = sa.select(up).limit(ROW_LIMIT).subquery()
    return sa.select(items.c.number, items.c.node_no, items.c.name, items.c.slug).order_by(
        items.c.number, items.c.depth
    )


_PATHS = PreparedQuery(_paths)
