"""Relay connections, as types."""

from typing import Generic, TypeVar

import strawberry

from app.api.graphql.fields.declarations import (
    KEY,
    NOTHING,
    attribute,
    expression,
    of_count,
    of_page,
)

NodeT = TypeVar("NodeT")
PLACE = frozenset({KEY})


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    has_next_page: bool = expression(
        lambda placed: placed.page.has_next, "Whether more follows the page.", NOTHING
    )
    has_previous_page: bool = expression(
        lambda placed: placed.page.has_previous,
        "Whether more comes before the page; when paging forward: whether it began "
        "behind a cursor.",
        NOTHING,
    )
    start_cursor: str | None = expression(
        lambda placed: placed.start_cursor, "The first row's cursor.", PLACE
    )
    end_cursor: str | None = expression(
        lambda placed: placed.end_cursor, "The last row's cursor.", PLACE
    )


@strawberry.type(description="One row of a page and its cursor.")
class Edge(Generic[NodeT]):
    cursor: str = expression(
        lambda placed: placed.cursor, "Opaque: pass it as after or before.", PLACE
    )
    node: NodeT = attribute("row", "The row itself.")


@strawberry.type(description="A page of a list.")
class Connection(Generic[NodeT]):
    edges: list[Edge[NodeT]] = of_page(
        lambda placed: placed.edges, "The rows of the page with their cursors."
    )
    nodes: list[NodeT] = of_page(lambda placed: placed.nodes, "The rows of the page.")
    page_info: PageInfo = of_page(lambda placed: placed, "Where the page lies in the list.")
    total_count: int = of_count(
        "How many rows the whole list has, on all pages; counted only when asked for."
    )


@strawberry.interface(
    description="Relay object identification. Ids are UUID strings, the same that the REST "
    "surface shows."
)
class Node:
    id: strawberry.ID = attribute("id", "A UUID. Opaque: nothing can be read from it.", made=str)
