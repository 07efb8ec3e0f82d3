"""The list of the nodes of all hierarchies. Source: domain.md, "REST endpoints and statuses"."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.api.rest.context import HierarchiesRead, RestRoute
from app.api.rest.errors import error_responses
from app.api.rest.hierarchies import HierarchyData, hierarchy_data
from app.api.rest.nodes import NodeData, NodeListRequest, nodes_data
from app.api.rest.pagination import FilteredListRequest, ListDocument
from app.storage import node_search
from app.storage.engine.transaction import Transaction
from app.storage.nodes import TreeNode

router = APIRouter(route_class=RestRoute, tags=["Nodes"])


class NodeSearchDocument(ListDocument[NodeData | HierarchyData]):
    """A page of nodes, and of hierarchies if they are included."""


IncludeHierarchies = Annotated[
    bool, Query(description="True to list hierarchies, which are roots, too. Default: false.")
]


def _search(
    tx: Transaction, store: str, list_request: FilteredListRequest, include_hierarchies: bool
) -> Response:
    page = node_search.offset_page(
        tx,
        store,
        list_request.filter,
        list_request.sort,
        list_request.window,
        include_roots=include_hierarchies,
    )
    nodes: Sequence[TreeNode] = [item for item in page.rows if isinstance(item, TreeNode)]
    data = {node.key: item for node, item in zip(nodes, nodes_data(tx, nodes), strict=True)}
    return list_request.response(
        [
            data[item.key] if isinstance(item, TreeNode) else hierarchy_data(item)
            for item in page.rows
        ],
        page.total,
    )


@router.get(
    "/hierarchies/nodes",
    response_model=NodeSearchDocument,
    summary="Get the nodes of all hierarchies",
    responses=error_responses(400, 403),
)
async def search_nodes(
    context: HierarchiesRead,
    list_request: NodeListRequest,
    include_hierarchies: IncludeHierarchies = False,
) -> Response:
    """List the nodes of all hierarchies of the store and of the organization, by default hierarchy
    by hierarchy, each in the order of creation with its root first."""
    return await context.scan(_search, context.store, list_request, include_hierarchies)
