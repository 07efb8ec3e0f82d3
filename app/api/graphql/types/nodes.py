"""Nodes of hierarchies, and what roots and nodes share."""

from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import strawberry
from strawberry import UNSET

from app.api.graphql.cursors import Cursors, given, maybe_whole, whole
from app.api.graphql.fields.declarations import (
    NO_COLUMNS,
    AttributeField,
    attribute,
    connection,
    expression,
    relation,
)
from app.api.graphql.scalars import describe
from app.api.graphql.strawberry_seam import lazy_type
from app.api.graphql.types.products import PK, PRODUCTS_OF_NODE, NodeProductConnection
from app.api.graphql.types.relay import Connection, Node
from app.domain.attributes import translation
from app.domain.hierarchies import ROOT_NO, Owner
from app.storage import nodes, products
from app.storage.nodes import ParentKey, TreeNode

describe(
    Owner,
    "Whose a hierarchy is.",
    {
        Owner.STORE: "One store's own.",
        Owner.ORGANIZATION: "The organization's, above all its stores.",
    },
)


_CHILDREN = Cursors("children", maybe_whole, whole, whole)


Locale = Annotated[
    str | None,
    strawberry.argument(
        description="Such as fr-FR. A wider translation serves where there is none for it: "
        "fr for fr-CA, but not fr-FR for fr. The default text serves where there is neither."
    ),
]


@strawberry.type(description="A translation.")
class Localization:
    locale: str = strawberry.field(description="A key such as fr-FR.")
    name: str | None = strawberry.field(description="The name in this locale.")
    description: str | None = strawberry.field(description="The description in this locale.")


@strawberry.type(description="One ancestor: root first, self last.")
class Breadcrumb:
    id: strawberry.ID = attribute("id", "The id of the hierarchy or node.", made=str)
    name: str = strawberry.field(description="Its default name.")
    slug: str | None = strawberry.field(description="Its slug.")


def _said(row: Any) -> Any:
    """The row that holds what roots and nodes alike say of themselves."""
    return row.node if isinstance(row, TreeNode) else row


def _key(row: Any) -> ParentKey:
    return row.key if isinstance(row, TreeNode) else (row.pk, ROOT_NO)


class TranslationRow(NamedTuple):
    """What a localization resolves from."""

    locale: str
    name: str | None
    description: str | None


def _localizations(row: Any) -> list[TranslationRow]:
    return [
        TranslationRow(locale, said.get("name"), said.get("description"))
        for locale, said in sorted(_said(row).locales.items())
    ]


def _name(root: Any, locale: Locale = UNSET) -> Any:
    return _localized(root, "name", locale)


def _description(root: Any, locale: Locale = UNSET) -> Any:
    return _localized(root, "description", locale)


def _localized(row: Any, attribute: Literal["name", "description"], locale: str | None) -> Any:
    said = _said(row)
    translated = translation(said.locales, locale) if given(locale) else None
    if translated and attribute in translated:
        return translated[attribute]
    return getattr(said, attribute)


@strawberry.interface(description="What the root of a tree and every node below it share.")
class TreeItem(Node):
    name: str = expression(
        _name,
        "Localized when locale is given and a translation exists, else the default. "
        "At most 1000 characters.",
        frozenset({"name", "locales"}),
        bare=AttributeField("name", _said),
    )
    description: str | None = expression(
        _description,
        "Localized when locale is given and a translation exists, else the default.",
        frozenset({"description", "locales"}),
        bare=AttributeField("description", _said),
    )
    slug: str | None = attribute(
        "slug",
        "Unique among siblings, not across hierarchies: a duplicate keeps its source's slug.",
        of=_said,
    )
    localizations: list[Localization] = expression(
        _localizations, "All translations, by locale.", frozenset({"locales"})
    )
    owner: Owner = attribute(
        "owner",
        "Whose it is.",
        of=lambda row: row.hierarchy if isinstance(row, TreeNode) else row,
    )
    breadcrumbs: list[Breadcrumb] = relation(
        nodes.ancestors, _key, "The way from the root to here, both included.", needs=PK
    )
    children: Connection[Annotated["HierarchyNode", strawberry.lazy(__name__)]] = connection(
        _CHILDREN,
        nodes.children,
        nodes.children_counts,
        _key,
        "The nodes right below: sortOrder descending, unset last, then updatedAt descending.",
        PK,
    )
    created_at: datetime = attribute(
        "created_at", "When it was made; of a copy, when it was copied.", of=_said
    )
    updated_at: datetime = attribute("updated_at", "When it was last changed.", of=_said)


@strawberry.type(description="A category inside a hierarchy.")
class HierarchyNode(TreeItem, Node):
    hierarchy: Any = strawberry.field(
        description="The hierarchy the node hangs in.",
        graphql_type=lazy_type("Hierarchy", "app.api.graphql.types.hierarchies"),
    )
    parent: TreeItem = relation(
        nodes.items_by_keys,
        lambda row: (row.node.hierarchy_pk, row.node.parent_no),
        "The node right above, or the hierarchy.",
        needs=frozenset({"parent_no"}),
    )
    depth: int = attribute("depth", "1 = child of the root.", of=_said)
    sort_order: int | None = attribute(
        "sort_order", "Siblings with a higher one come first; unset comes last.", of=_said
    )
    products: NodeProductConnection = connection(
        PRODUCTS_OF_NODE,
        products.of_nodes,
        products.counts_of_nodes,
        _key,
        "Curated first, in curated order (at most 20), then by sku.",
        NO_COLUMNS,
    )

    @classmethod
    def is_type_of(cls, row: Any, _info: Any) -> bool:
        """Whether a row is one of these."""
        return isinstance(row, TreeNode)
