"""Subtrees: edits and deletion of a node with all its descendants.

An edit takes the same number of statements for one node as for a million. The caller holds the lock
of the hierarchy. Nodes with associations leave a tombstone (DeletedNode) for the sweeper.
"""

from collections.abc import Mapping
from typing import NamedTuple

import sqlalchemy as sa
from sqlmodel import SQLModel, col

from app.storage.engine.statements import PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.tables import DeletedNode, Node, NodeProduct, ProductNode

MAX_DELETED_NODES = 500
"""Deleted nodes that one call of `purge_deleted` reads at most."""


class DeletedSubtree(NamedTuple):
    """The numbers of deleted rows, those left to the sweeper included."""

    nodes: int
    associations: int


def delete(tx: Transaction, hierarchy_pk: int, node_no: int) -> DeletedSubtree:
    """Delete the subtree of a node.

    The associations of its nodes become invisible at once; the sweeper deletes their rows, since a
    million of them take ten times as long as their nodes.
    """
    statements = _STATEMENTS[tx.dialect.name]
    keys = {"tree": hierarchy_pk, "top": node_no}
    [(associations,)] = tx.rows(statements["count"], keys)
    if associations:
        tx.changed(statements["mark"], keys)
    return DeletedSubtree(tx.changed(statements["delete"], keys), int(associations))


def shift_depth(tx: Transaction, hierarchy_pk: int, node_no: int, levels: int) -> None:
    """Add `levels` to the depth of the subtree's nodes."""
    keys = {"tree": hierarchy_pk, "top": node_no}
    tx.changed(_STATEMENTS[tx.dialect.name]["shift"], {**keys, "levels": levels})


def deepest(tx: Transaction, hierarchy_pk: int, node_no: int) -> int:
    """Return the greatest depth of the subtree's nodes."""
    keys = {"tree": hierarchy_pk, "top": node_no}
    [(depth,)] = tx.rows(_STATEMENTS[tx.dialect.name]["deepest"], keys)
    return int(depth)


def contains(tx: Transaction, hierarchy_pk: int, node_no: int, other_no: int) -> bool:
    """Return True if the node `other_no` is in the subtree of `node_no`."""
    keys = {"tree": hierarchy_pk, "top": other_no, "sought": node_no}
    return bool(tx.rows(_FIND_ANCESTOR, keys))


def has_deleted_nodes(tx: Transaction, hierarchy_pk: int) -> bool:
    """Return True if associations of deleted nodes are left to purge."""
    return bool(tx.rows(_ANY_DELETED_NODE, {"hierarchy_pk": hierarchy_pk}))


_ANY_DELETED_NODE = PreparedQuery(
    lambda _: (
        sa.select(col(DeletedNode.node_no))
        .where(col(DeletedNode.hierarchy_pk) == sa.bindparam("hierarchy_pk"))
        .limit(1)
    )
)


def is_deleted(table: type[Node | NodeProduct | ProductNode]) -> sa.ColumnElement[bool]:
    """Condition that the node of a row, such as an association, was deleted."""
    return sa.exists().where(
        col(DeletedNode.hierarchy_pk) == col(table.hierarchy_pk),
        col(DeletedNode.node_no) == col(table.node_no),
    )


def purge_deleted(tx: Transaction, rows: int) -> bool:
    """Delete up to `rows` associations of deleted nodes. Return False if none remain."""
    deleted = tx.rows(
        sa.select(col(DeletedNode.hierarchy_pk), col(DeletedNode.node_no))
        .order_by(col(DeletedNode.hierarchy_pk), col(DeletedNode.node_no))
        .limit(MAX_DELETED_NODES)
        # Locked ones are being purged by another process.
        .with_for_update(skip_locked=True)
    )
    if not deleted:
        return False
    pk, _ = deleted[0]
    numbers = [node_no for hierarchy_pk, node_no in deleted if hierarchy_pk == pk]
    of_deleted = col(NodeProduct.hierarchy_pk) == pk, col(NodeProduct.node_no).in_(numbers)
    key = col(NodeProduct.node_no), col(NodeProduct.product_pk)
    keys = tx.rows(sa.select(*key).where(*of_deleted).order_by(*key).limit(rows))
    if keys:
        reverse = [{"tree": pk, "no": no, "product": product} for no, product in keys]
        tx.changed(_DELETE_REVERSE, reverse)
        up_to = sa.tuple_(*key) <= sa.tuple_(*keys[-1])
        tx.changed(sa.delete(NodeProduct).where(*of_deleted, up_to))
        # The node of the last key may have more associations.
        numbers = [no for no in numbers if no < keys[-1][0]]
    tx.changed(
        sa.delete(DeletedNode).where(
            col(DeletedNode.hierarchy_pk) == pk, col(DeletedNode.node_no).in_(numbers)
        )
    )
    return True


_DELETE_REVERSE = sa.delete(SQLModel.metadata.tables["product_node"]).where(
    col(ProductNode.hierarchy_pk) == sa.bindparam("tree"),
    col(ProductNode.product_pk) == sa.bindparam("product"),
    col(ProductNode.node_no) == sa.bindparam("no"),
)


_FIND_ANCESTOR = sa.text("""
    WITH RECURSIVE up(hierarchy_pk, node_no) AS (
        SELECT CAST(:tree AS bigint), CAST(:top AS bigint)
        UNION ALL
        SELECT node.hierarchy_pk, node.parent_no FROM up
        JOIN node ON node.hierarchy_pk = up.hierarchy_pk AND node.node_no = up.node_no
    )
    SELECT node_no FROM up WHERE node_no = :sought
""")

_SUBTREE_ON_SQLITE = """
    WITH RECURSIVE branch(hierarchy_pk, node_no) AS (
        SELECT :tree, :top
        UNION ALL
        SELECT node.hierarchy_pk, node.node_no FROM branch CROSS JOIN node
        ON node.hierarchy_pk = branch.hierarchy_pk AND node.parent_no = branch.node_no
    )
"""

# LATERAL and OFFSET 0 make PostgreSQL look up each row by its index, and `ctid` update it by its
# physical location. `branch` carries the hierarchy's pk instead of a constant: without table
# statistics PostgreSQL would read the whole tree for each node.
_SUBTREE_ON_POSTGRESQL = """
    WITH RECURSIVE branch(hierarchy_pk, node_no) AS (
        SELECT CAST(:tree AS bigint), CAST(:top AS bigint)
        UNION ALL
        SELECT below.hierarchy_pk, below.node_no FROM branch CROSS JOIN LATERAL (
            SELECT hierarchy_pk, node_no FROM node
            WHERE hierarchy_pk = branch.hierarchy_pk AND parent_no = branch.node_no
            ORDER BY sort_order, touched OFFSET 0
        ) below
    )
"""

_IN_SUBTREE = {
    "sqlite": f"""
        hierarchy_pk = :tree AND node_no IN ({_SUBTREE_ON_SQLITE} SELECT node_no FROM branch)
    """,
    "postgresql": f"""
        ctid = ANY (ARRAY(
            {_SUBTREE_ON_POSTGRESQL} SELECT found.place FROM branch CROSS JOIN LATERAL (
                SELECT ctid AS place FROM node
                WHERE hierarchy_pk = branch.hierarchy_pk AND node_no = branch.node_no OFFSET 0
            ) found
        ))
    """,
}

_NODE_ASSOCIATIONS = """
    FROM node_product
    WHERE hierarchy_pk = branch.hierarchy_pk AND node_no = branch.node_no
"""

_STATEMENTS: Mapping[str, Mapping[str, sa.TextClause]] = {
    dialect: {
        "count": sa.text(
            f"{branch} SELECT coalesce(sum((SELECT count(*) {_NODE_ASSOCIATIONS})), 0) FROM branch"
        ),
        "mark": sa.text(
            f"INSERT INTO cut_node {branch} SELECT hierarchy_pk, node_no FROM branch "
            f"WHERE (SELECT product_pk {_NODE_ASSOCIATIONS} LIMIT 1) IS NOT NULL"
        ),
        # The sqlite3 module has no rowcount for statements that begin with WITH.
        "delete": sa.text(f"DELETE FROM node WHERE {_IN_SUBTREE[dialect]}"),
        "deepest": sa.text(f"SELECT max(depth) FROM node WHERE {_IN_SUBTREE[dialect]}"),
        "shift": sa.text(f"UPDATE node SET depth = depth + :levels WHERE {_IN_SUBTREE[dialect]}"),
    }
    for dialect, branch in (("sqlite", _SUBTREE_ON_SQLITE), ("postgresql", _SUBTREE_ON_POSTGRESQL))
}
