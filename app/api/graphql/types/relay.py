"""Relay connections, as types."""

from typing import Any, Generic, TypeVar

import strawberry

from app.api.graphql.fields.declarations import (
    NO_COLUMNS,
    ROW_KEY,
    attribute,
    count_field,
    expression,
    page_field,
)
from app.api.graphql.strawberry_seam import lazy_type

NodeT = TypeVar("NodeT")
ROW_KEY_ONLY = frozenset({ROW_KEY})


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    has_next_page: bool = expression(
        lambda placed: placed.page.has_next, "Whether more follows the page.", NO_COLUMNS
    )
    has_previous_page: bool = expression(
        lambda placed: placed.page.has_previous,
        "Whether more comes before the page; when paging forward: whether it began "
        "behind a cursor.",
        NO_COLUMNS,
    )
    start_cursor: str | None = expression(
        lambda placed: placed.start_cursor, "The first row's cursor.", ROW_KEY_ONLY
    )
    end_cursor: str | None = expression(
        lambda placed: placed.end_cursor, "The last row's cursor.", ROW_KEY_ONLY
    )


@strawberry.type(description="One row of a page and its cursor.")
class Edge(Generic[NodeT]):
    cursor: str = expression(
        lambda placed: placed.cursor, "Opaque: pass it as after or before.", ROW_KEY_ONLY
    )
    node: NodeT = attribute("row", "The row itself.")


@strawberry.type(description="A page of a list.")
class Connection(Generic[NodeT]):
    edges: list[Edge[NodeT]] = page_field(
        lambda placed: placed.edges, "The rows of the page with their cursors."
    )
    nodes: list[NodeT] = page_field(lambda placed: placed.nodes, "The rows of the page.")
    page_info: PageInfo = page_field(lambda placed: placed, "Where the page lies in the list.")
    total_count: int = count_field(
        "How many rows the whole list has, on all pages; counted only when asked for."
    )


@strawberry.interface(
    description="Relay object identification. Ids are UUID strings, the same that the REST "
    "surface shows."
)
class Node:
    id: strawberry.ID = attribute("id", "A UUID. Opaque: nothing can be read from it.", made=str)


def lazy_connection(name: str, module: str) -> Any:
    """A connection of a type that is imported when the schema is built."""
    generic: Any = Connection
    return generic[lazy_type(name, module)]
