"""Relay types: object identification, connections and pages."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID

import strawberry

from app.api.graphql.fields.attribute import attribute
from app.api.graphql.fields.connection import count_field, page_field
from app.api.graphql.fields.expression import expression
from app.api.graphql.fields.source import NO_COLUMNS, ROW_KEY
from app.api.graphql.strawberry_seam import lazy_type
from app.domain.callers import Caller, Scope
from app.storage import hierarchies, job_errors, jobs, nodes, products
from app.storage.engine.transaction import Transaction
from app.storage.nodes import TreeNode
from app.storage.tables import HierarchyRow, JobErrorRow, JobRow, ProductRow

NodeT = TypeVar("NodeT")

PRIMARY_KEY = frozenset({"pk"})
ROW_KEY_ONLY = frozenset({ROW_KEY})


@strawberry.type(description="Position of a page in its list.")
class PageInfo:
    has_next_page: bool = expression(
        lambda page: page.page.has_next, "True if more rows follow this page.", NO_COLUMNS
    )
    has_previous_page: bool = expression(
        lambda page: page.page.has_previous,
        "True if rows precede this page. When paging forward: true if the page began after a "
        "cursor.",
        NO_COLUMNS,
    )
    start_cursor: str | None = expression(
        lambda page: page.start_cursor,
        "Cursor of the first row; null if the page is empty.",
        ROW_KEY_ONLY,
    )
    end_cursor: str | None = expression(
        lambda page: page.end_cursor,
        "Cursor of the last row; null if the page is empty.",
        ROW_KEY_ONLY,
    )


@strawberry.type(description="A row of a page with its cursor.")
class Edge(Generic[NodeT]):
    cursor: str = expression(
        lambda row: row.cursor, "Opaque cursor of this row, for `after` or `before`.", ROW_KEY_ONLY
    )
    node: NodeT = attribute("row", "The row.")


@strawberry.type(description="A page of a list.")
class Connection(Generic[NodeT]):
    edges: list[Edge[NodeT]] = page_field(
        lambda page: page.edges, "Rows of this page with their cursors."
    )
    nodes: list[NodeT] = page_field(lambda page: page.nodes, "Rows of this page.")
    page_info: PageInfo = page_field(lambda page: page, "Position of this page in the list.")
    total_count: int = count_field("Number of rows on all pages; counted only if selected.")


def lazy_connection(name: str, module: str) -> object:
    """Connection of a type that is imported when the schema is built, to avoid a cycle."""
    generic: Any = Connection
    return generic[lazy_type(name, module)]


@strawberry.interface(
    description="Relay object identification. IDs are UUID strings, the same as in the REST API."
)
class Node:
    id: strawberry.ID = attribute("id", "Opaque UUID.", convert=str)


IdentifiedRow = HierarchyRow | TreeNode | JobRow | ProductRow | JobErrorRow
"""A row of a Node type."""

_READERS: tuple[
    tuple[Scope, Callable[[Transaction, str, Sequence[UUID]], Mapping[UUID, IdentifiedRow]]], ...
] = (
    (Scope.HIERARCHIES_READ, hierarchies.by_ids),
    (Scope.HIERARCHIES_READ, nodes.by_ids),
    (Scope.JOBS_READ, jobs.by_ids),
    (Scope.HIERARCHIES_READ, products.by_ids),
    (Scope.JOBS_READ, job_errors.by_ids),
)
"""One reader per Node type, with the scope it needs."""


def rows_by_ids(tx: Transaction, caller: Caller, ids: Sequence[UUID]) -> dict[UUID, IdentifiedRow]:
    """Read the rows of any type that the caller may see, with one statement per type."""
    rows: dict[UUID, IdentifiedRow] = {}
    for scope, by_ids in _READERS:
        missing = [id for id in ids if id not in rows]
        if missing and scope in caller.scopes:
            rows |= by_ids(tx, caller.store, missing)
    return rows
