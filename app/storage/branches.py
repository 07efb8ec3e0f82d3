"""Branches: a node and all that is below it, changed as one, in as many statements for a million
nodes as for one.

Whoever changes one has locked its hierarchy.
"""

from collections.abc import Mapping
from typing import NamedTuple

import sqlalchemy as sa
from sqlmodel import Session

from app.storage.dialects import dialect_of


class Cut(NamedTuple):
    """What went with a branch."""

    nodes: int
    associations: int


def delete(session: Session, hierarchy_pk: int, node_no: int) -> Cut:
    """Delete the branch and the associations of its nodes."""
    _change(session, "product_node", hierarchy_pk, node_no)
    associations = _change(session, "node_product", hierarchy_pk, node_no)
    return Cut(_change(session, "node", hierarchy_pk, node_no), associations)


def shift(session: Session, hierarchy_pk: int, node_no: int, levels: int) -> None:
    """Note that the branch hangs so many levels deeper than before."""
    _change(session, "shift", hierarchy_pk, node_no, levels=levels)


def holds(session: Session, hierarchy_pk: int, node_no: int, other_no: int) -> bool:
    """Whether the other node is in the branch."""
    keys = {"tree": hierarchy_pk, "top": other_no, "sought": node_no}
    return session.connection().execute(_ON_THE_WAY_UP, keys).first() is not None


def _change(session: Session, what: str, hierarchy_pk: int, node_no: int, **values: int) -> int:
    statement = _CHANGES[dialect_of(session)][what]
    keys = {"tree": hierarchy_pk, "top": node_no}
    return session.connection().execute(statement, {**keys, **values}).rowcount


_ON_THE_WAY_UP = sa.text("""
    WITH RECURSIVE up(hierarchy_pk, node_no) AS (
        SELECT CAST(:tree AS bigint), CAST(:top AS bigint)
        UNION ALL
        SELECT node.hierarchy_pk, node.parent_no FROM up
        JOIN node ON node.hierarchy_pk = up.hierarchy_pk AND node.node_no = up.node_no
    )
    SELECT node_no FROM up WHERE node_no = :sought
""")

_BRANCH_ON_SQLITE = """
    WITH RECURSIVE branch(node_no) AS (
        SELECT :top
        UNION ALL
        SELECT node.node_no FROM branch
        CROSS JOIN node ON node.hierarchy_pk = :tree AND node.parent_no = branch.node_no
    )
"""

# Its driver tells how many rows there were only where the statement begins with its verb.
_ON_SQLITE = {
    "product_node": f"""
        DELETE FROM product_node WHERE (hierarchy_pk, product_pk, node_no) IN (
            {_BRANCH_ON_SQLITE} SELECT :tree, product_pk, node_no FROM branch
            CROSS JOIN node_product USING (node_no) WHERE hierarchy_pk = :tree
        )
    """,
    "node_product": f"""
        DELETE FROM node_product
        WHERE hierarchy_pk = :tree AND node_no IN ({_BRANCH_ON_SQLITE} SELECT node_no FROM branch)
    """,
    "node": f"""
        DELETE FROM node
        WHERE hierarchy_pk = :tree AND node_no IN ({_BRANCH_ON_SQLITE} SELECT node_no FROM branch)
    """,
    "shift": f"""
        UPDATE node SET depth = depth + :levels
        WHERE hierarchy_pk = :tree AND node_no IN ({_BRANCH_ON_SQLITE} SELECT node_no FROM branch)
    """,
}

# PostgreSQL is led to every row by the index that has it, and back to it by its place on disk, and
# is not told beforehand which hierarchy it is: where it knew too little of the tables it read all
# associations, or a whole tree for each node.
_BRANCH_ON_POSTGRESQL = """
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

_NODES_ON_POSTGRESQL = f"""
    {_BRANCH_ON_POSTGRESQL} SELECT found.place FROM branch CROSS JOIN LATERAL (
        SELECT ctid AS place FROM node
        WHERE hierarchy_pk = branch.hierarchy_pk AND node_no = branch.node_no OFFSET 0
    ) found
"""

_ON_POSTGRESQL = {
    "product_node": f"""
        DELETE FROM product_node WHERE ctid = ANY (ARRAY(
            {_BRANCH_ON_POSTGRESQL} SELECT found.place FROM branch CROSS JOIN LATERAL (
                SELECT product_pk FROM node_product
                WHERE hierarchy_pk = branch.hierarchy_pk AND node_no = branch.node_no OFFSET 0
            ) held CROSS JOIN LATERAL (
                SELECT ctid AS place FROM product_node
                WHERE hierarchy_pk = branch.hierarchy_pk AND product_pk = held.product_pk
                AND node_no = branch.node_no OFFSET 0
            ) found
        ))
    """,
    "node_product": f"""
        DELETE FROM node_product WHERE ctid = ANY (ARRAY(
            {_BRANCH_ON_POSTGRESQL} SELECT found.place FROM branch CROSS JOIN LATERAL (
                SELECT ctid AS place FROM node_product
                WHERE hierarchy_pk = branch.hierarchy_pk AND node_no = branch.node_no OFFSET 0
            ) found
        ))
    """,
    "node": f"DELETE FROM node WHERE ctid = ANY (ARRAY({_NODES_ON_POSTGRESQL}))",
    "shift": f"""
        UPDATE node SET depth = depth + :levels WHERE ctid = ANY (ARRAY({_NODES_ON_POSTGRESQL}))
    """,
}

_CHANGES: Mapping[str, Mapping[str, sa.TextClause]] = {
    dialect: {what: sa.text(words) for what, words in said.items()}
    for dialect, said in (("sqlite", _ON_SQLITE), ("postgresql", _ON_POSTGRESQL))
}
