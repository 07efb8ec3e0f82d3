"""Branches: a node and all that is below it, changed as one, in as many statements for a million
nodes as for one.

Whoever changes one has locked its hierarchy.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlmodel import Session, SQLModel, col, select

from app.storage.sql.dialects import dialect_of
from app.storage.tables import DeletedNode, NodeProduct, ProductNode

CUT_AT_A_TIME = 500
"""Deleted nodes that the sweep looks at together."""


class DeletedSubtree(NamedTuple):
    """What went with a branch."""

    nodes: int
    associations: int


def delete(session: Session, hierarchy_pk: int, node_no: int) -> DeletedSubtree:
    """Delete the branch. The associations of its nodes are no longer there for anybody, and their
    rows for the sweep: a million of them took ten times as long as the nodes that had them."""
    associations = _run(session, "count", hierarchy_pk, node_no).scalar_one()
    if associations:
        _run(session, "cut", hierarchy_pk, node_no)
    return DeletedSubtree(
        _run(session, "delete", hierarchy_pk, node_no).rowcount, int(associations)
    )


def shift(session: Session, hierarchy_pk: int, node_no: int, levels: int) -> None:
    """Note that the branch hangs so many levels deeper than before."""
    _run(session, "shift", hierarchy_pk, node_no, levels=levels)


def holds(session: Session, hierarchy_pk: int, node_no: int, other_no: int) -> bool:
    """Whether the other node is in the branch."""
    keys = {"tree": hierarchy_pk, "top": other_no, "sought": node_no}
    return session.connection().execute(_ON_THE_WAY_UP, keys).first() is not None


def any_cut(session: Session, hierarchy_pk: int) -> bool:
    """Whether associations of deleted nodes are still to be swept."""
    cut = select(DeletedNode.node_no).where(DeletedNode.hierarchy_pk == hierarchy_pk).limit(1)
    return session.exec(cut).first() is not None


def sweep(session: Session, rows: int) -> bool:
    """Delete up to `rows` associations of deleted nodes; whether any were left to delete."""
    cut = session.exec(
        select(DeletedNode)
        .order_by(col(DeletedNode.hierarchy_pk), col(DeletedNode.node_no))
        .limit(CUT_AT_A_TIME)
        # Another process sweeps the others.
        .with_for_update(skip_locked=True)
    ).all()
    if not cut:
        return False
    pk = cut[0].hierarchy_pk
    numbers = [one.node_no for one in cut if one.hierarchy_pk == pk]
    of_cut = col(NodeProduct.hierarchy_pk) == pk, col(NodeProduct.node_no).in_(numbers)
    key = col(NodeProduct.node_no), col(NodeProduct.product_pk)
    found = session.execute(sa.select(*key).where(*of_cut).order_by(*key).limit(rows)).all()
    if found:
        reverse = [{"tree": pk, "no": no, "product": product} for no, product in found]
        session.connection().execute(_DELETE_REVERSE, reverse)
        up_to = sa.tuple_(*key) <= sa.tuple_(*found[-1])
        session.exec(sa.delete(NodeProduct).where(*of_cut, up_to))
        # The last of them may have more.
        numbers = [no for no in numbers if no < found[-1][0]]
    session.exec(
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


def _run(session: Session, what: str, hierarchy_pk: int, node_no: int, **values: int) -> Any:
    statement = _STATEMENTS[dialect_of(session)][what]
    keys = {"tree": hierarchy_pk, "top": node_no}
    return session.connection().execute(statement, {**keys, **values})


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
    WITH RECURSIVE branch(hierarchy_pk, node_no) AS (
        SELECT :tree, :top
        UNION ALL
        SELECT node.hierarchy_pk, node.node_no FROM branch CROSS JOIN node
        ON node.hierarchy_pk = branch.hierarchy_pk AND node.parent_no = branch.node_no
    )
"""

# PostgreSQL is led to every row by the index that has it, and back to it by its place on disk, and
# is not told beforehand which hierarchy it is: where it knew too little of the tables it read a
# whole tree for each node.
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

_IN_BRANCH = {
    "sqlite": f"""
        hierarchy_pk = :tree AND node_no IN ({_BRANCH_ON_SQLITE} SELECT node_no FROM branch)
    """,
    "postgresql": f"""
        ctid = ANY (ARRAY(
            {_BRANCH_ON_POSTGRESQL} SELECT found.place FROM branch CROSS JOIN LATERAL (
                SELECT ctid AS place FROM node
                WHERE hierarchy_pk = branch.hierarchy_pk AND node_no = branch.node_no OFFSET 0
            ) found
        ))
    """,
}

_OF_NODE = """
    FROM node_product
    WHERE hierarchy_pk = branch.hierarchy_pk AND node_no = branch.node_no
"""

_STATEMENTS: Mapping[str, Mapping[str, sa.TextClause]] = {
    dialect: {
        "count": sa.text(
            f"{branch} SELECT coalesce(sum((SELECT count(*) {_OF_NODE})), 0) FROM branch"
        ),
        "cut": sa.text(
            f"INSERT INTO cut_node {branch} SELECT hierarchy_pk, node_no FROM branch "
            f"WHERE (SELECT product_pk {_OF_NODE} LIMIT 1) IS NOT NULL"
        ),
        # SQLite's driver counts rows only where the statement begins with its verb.
        "delete": sa.text(f"DELETE FROM node WHERE {_IN_BRANCH[dialect]}"),
        "shift": sa.text(f"UPDATE node SET depth = depth + :levels WHERE {_IN_BRANCH[dialect]}"),
    }
    for dialect, branch in (("sqlite", _BRANCH_ON_SQLITE), ("postgresql", _BRANCH_ON_POSTGRESQL))
}
