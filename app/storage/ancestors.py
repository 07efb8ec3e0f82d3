"""Ancestors of nodes, for breadcrumbs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import col

from app.domain.answers import MAX_PATH_ITEMS, PathsTooLong
from app.domain.hierarchies import node_id
from app.storage.engine.statements import PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.nodes import NodeKey, TreeNode, visible_hierarchies
from app.storage.sql.dialects import key_table, key_table_values
from app.storage.sql.keyset import ROW_LIMIT
from app.storage.sql.translations import translated_names
from app.storage.tables import HierarchyRow, Node

NO_LIMIT = 2**31 - 1
"""The limit of a statement that returns all rows."""


class Ancestor(NamedTuple):
    """A root or node on the path to a node, itself included."""

    id: UUID
    name: str
    slug: str | None
    names: Mapping[str, str] = {}
    """Translated names by locale; empty unless they were requested."""


def of_nodes(tx: Transaction, store: str, keys: Sequence[NodeKey]) -> dict[NodeKey, list[Ancestor]]:
    """The path from the root to each node, both included, without translated names.

    Empty for nodes of hierarchies that are not visible. Raises PathsTooLong.
    """
    hierarchies = visible_hierarchies(tx, store, keys)
    paths = _paths(tx, hierarchies, [key for key in keys if key[0] in hierarchies], names=False)
    return {key: paths.get(key, []) for key in keys}


def of_rows(
    tx: Transaction, rows: Sequence[TreeNode], *, names: bool
) -> dict[NodeKey, list[Ancestor]]:
    """The path from the root to each of these nodes, with translated names if `names`.

    Raises PathsTooLong.
    """
    hierarchies = {row.hierarchy.pk: row.hierarchy for row in rows}
    return _paths(tx, hierarchies, [row.key for row in rows], names=names)


def root_ancestor(root: HierarchyRow) -> Ancestor:
    """Return a hierarchy's root as an ancestor, with its translated names."""
    names = {
        locale: translation["name"]
        for locale, translation in root.locales.items()
        if "name" in translation
    }
    return Ancestor(root.id, root.name, root.slug, names)


def _paths(
    tx: Transaction,
    hierarchies: Mapping[int, HierarchyRow],
    keys: Sequence[NodeKey],
    *,
    names: bool,
) -> dict[NodeKey, list[Ancestor]]:
    if not keys:
        return {}
    # One path is never too long: a client cannot request less.
    is_single = len(keys) == 1
    limit = NO_LIMIT if is_single else MAX_PATH_ITEMS + 1
    rows = tx.rows(_ABOVE, {"rows": limit, **key_table_values(tx.dialect.name, keys)})
    if len(rows) == limit:
        raise PathsTooLong
    above = {(pk, no): (parent_no, name, slug) for pk, no, parent_no, name, slug in rows}
    names_of = _translated_names(tx, list(above)) if names else {}
    roots = {
        pk: root_ancestor(root) if names else Ancestor(root.id, root.name, root.slug)
        for pk, root in hierarchies.items()
    }
    ancestors = {
        (pk, no): Ancestor(node_id(roots[pk].id, no), name, slug, names_of.get((pk, no), {}))
        for (pk, no), (_, name, slug) in above.items()
    }
    paths: dict[NodeKey, list[Ancestor]] = {}
    items = 0
    for pk, node_no in keys:
        path, no = [], node_no
        while (pk, no) in above:
            path.append(ancestors[pk, no])
            no = above[pk, no][0]
        paths[pk, node_no] = [roots[pk], *reversed(path)]
        items += len(path) + 1
        if items > MAX_PATH_ITEMS and not is_single:
            raise PathsTooLong
    return paths


def _translated_names(tx: Transaction, keys: Sequence[NodeKey]) -> dict[NodeKey, Mapping[str, str]]:
    rows = tx.rows(_TRANSLATED_NAMES, key_table_values(tx.dialect.name, keys)) if keys else ()
    return {(pk, no): names for pk, no, names in rows if names}


def _above(dialect: str) -> sa.Select[int, int, int, str, str | None]:
    """These nodes and all nodes above them, each once: those of a page mostly have the same.

    The recursive part reads every selected column: PostgreSQL may read all nodes if they are
    joined at the end. The limit ends the recursion.
    """
    keys = key_table(dialect, (int, int))
    hierarchy_pk, node_no = keys.parts
    node = aliased(Node)
    columns = (
        col(node.hierarchy_pk),
        col(node.node_no),
        col(node.parent_no),
        col(node.name),
        col(node.slug),
    )
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
    return sa.select(up.c.hierarchy_pk, up.c.node_no, up.c.parent_no, up.c.name, up.c.slug).limit(
        ROW_LIMIT
    )


_ABOVE = PreparedQuery(_above)


def _select_translated_names(dialect: str) -> sa.Select[int, int, Mapping[str, str] | None]:
    """The names alone: descriptions in the same documents can be a thousand times longer."""
    keys = key_table(dialect, (int, int))
    hierarchy_pk, node_no = keys.parts
    return sa.select(
        col(Node.hierarchy_pk), col(Node.node_no), translated_names(col(Node.locales))
    ).join_from(
        keys.rows,
        Node,
        sa.and_(col(Node.hierarchy_pk) == hierarchy_pk, col(Node.node_no) == node_no),
    )


_TRANSLATED_NAMES = PreparedQuery(_select_translated_names)
