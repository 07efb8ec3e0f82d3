"""Breadcrumbs: the path from a root to a node. Source: domain.md, "REST endpoints and statuses"."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from app.api.http.refusals import BadRequest
from app.api.rest.models import ResponseModel, optional_field
from app.domain.hierarchies import node_id
from app.storage.nodes import NodeKey, TreeNode
from app.storage.tables import HierarchyRow, NodeRow

MAX_CHARACTERS = 4 * 1024 * 1024
"""Approximate length of the breadcrumbs on one page.

100 nodes at depth 100 whose ancestors have 100 translations would have 10,000 times 100 names."""

_CHARACTERS_OF_KEYS = 80
"""Characters of a breadcrumb without its texts."""


class Breadcrumb(ResponseModel):
    """The root or a node on the path to an object."""

    id: UUID
    name: str
    slug: str = optional_field()
    locales: dict[str, dict[str, str]] = optional_field(
        description="Translated names by language tag."
    )


class BreadcrumbsTooLong(BadRequest):
    """A page whose breadcrumbs would have more than MAX_CHARACTERS."""

    def __init__(self) -> None:
        super().__init__(
            f"page[limit]: the breadcrumbs of these nodes have more than {MAX_CHARACTERS:,} "
            "characters; request fewer nodes per page."
        )


def breadcrumb(id: UUID, row: HierarchyRow | NodeRow) -> Breadcrumb:
    """Build the breadcrumb of a root or a node with this public id."""
    values: dict[str, object] = {"id": id, "name": row.name}
    if row.slug is not None:
        values["slug"] = row.slug
    names = {
        locale: {"name": translation["name"]}
        for locale, translation in row.locales.items()
        if "name" in translation
    }
    if names:
        values["locales"] = names
    return Breadcrumb.model_validate(values)


def paths_of(
    rows: Sequence[TreeNode], ancestors: Mapping[NodeKey, NodeRow]
) -> list[list[Breadcrumb]]:
    """Build the breadcrumbs of each node; `ancestors` has the nodes above them.

    Raises BreadcrumbsTooLong, never for a single node.
    """
    paths: dict[NodeKey, tuple[list[Breadcrumb], int]] = {}
    characters = 0
    for row in rows:
        unknown: list[NodeRow] = []
        node: NodeRow | None = row.node
        while node and (node.hierarchy_pk, node.node_no) not in paths:
            unknown.append(node)
            node = ancestors.get((node.hierarchy_pk, node.parent_no))
        if node:
            path, length = paths[node.hierarchy_pk, node.node_no]
        else:
            path, length = [breadcrumb(row.hierarchy.id, row.hierarchy)], _length(row.hierarchy)
        for node in reversed(unknown):
            path = [*path, breadcrumb(node_id(row.hierarchy.id, node.node_no), node)]
            length += _length(node)
            paths[node.hierarchy_pk, node.node_no] = path, length
        characters += length
        if characters > MAX_CHARACTERS and len(rows) > 1:
            raise BreadcrumbsTooLong
    return [paths[row.key][0] for row in rows]


def _length(row: HierarchyRow | NodeRow) -> int:
    """Return the approximate number of characters of a breadcrumb."""
    names = sum(len(translation.get("name", "")) + 20 for translation in row.locales.values())
    return _CHARACTERS_OF_KEYS + len(row.name) + len(row.slug or "") + names
