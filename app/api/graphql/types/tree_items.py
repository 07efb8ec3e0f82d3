"""Fields that hierarchies and nodes share."""

from datetime import datetime
from typing import Literal

import strawberry
from strawberry import UNSET

from app.api.graphql.cursors import Cursors, int_part, none_if_unset, optional_short_int_part
from app.api.graphql.fields.attribute import AttributeField, attribute
from app.api.graphql.fields.connection import connection
from app.api.graphql.fields.expression import expression
from app.api.graphql.fields.relation import relation
from app.api.graphql.fields.source import Declared
from app.api.graphql.scalars import describe_enum
from app.api.graphql.types.custom_attributes import (
    CustomAttribute,
    CustomAttributeRow,
    custom_attribute_rows,
)
from app.api.graphql.types.relay import PRIMARY_KEY, Node, lazy_connection
from app.api.graphql.types.translations import (
    Locale,
    Localization,
    TranslationRow,
    translation_rows,
)
from app.domain.attributes import MAX_CUSTOM_ATTRIBUTES, MAX_TRANSLATIONS, translation
from app.domain.hierarchies import MAX_TREE_DEPTH, ROOT_NO, Owner
from app.storage import ancestors, nodes
from app.storage.nodes import NodeKey, TreeNode
from app.storage.tables import HierarchyRow, NodeRow

describe_enum(
    Owner,
    "Owner of a hierarchy.",
    {
        Owner.STORE: "A single store.",
        Owner.ORGANIZATION: "The organization above all stores; a store cannot change it.",
    },
)

_CHILDREN = Cursors("children", optional_short_int_part, int_part, int_part)


@strawberry.type(description="One ancestor of an item, or the item itself: root first, item last.")
class Breadcrumb:
    id: strawberry.ID = attribute("id", "ID of the hierarchy or node.", convert=str)
    name: str = strawberry.field(description="Default name.")
    slug: str | None = strawberry.field(description="Slug.")


TreeItemRow = TreeNode | HierarchyRow
"""The row of a node, or of a hierarchy, which is its root."""


def attributes_row(row: TreeItemRow) -> NodeRow | HierarchyRow:
    """Return the table row with the shared attributes: of a node, or of the hierarchy itself."""
    return row.node if isinstance(row, TreeNode) else row


def parent_key(row: TreeItemRow) -> NodeKey:
    """Return the key under which the children of a node or root are stored."""
    return row.key if isinstance(row, TreeNode) else (row.pk, ROOT_NO)


def _localizations(row: TreeItemRow) -> list[TranslationRow]:
    return translation_rows(attributes_row(row).locales)


def _admin_attributes(row: TreeItemRow) -> list[CustomAttributeRow]:
    return custom_attribute_rows(attributes_row(row).admin_attributes)


def _shopper_attributes(row: TreeItemRow) -> list[CustomAttributeRow]:
    return custom_attribute_rows(attributes_row(row).shopper_attributes)


def _name(root: TreeItemRow, locale: Locale = UNSET) -> str | None:
    return _translated(root, "name", locale)


def _description(root: TreeItemRow, locale: Locale = UNSET) -> str | None:
    return _translated(root, "description", locale)


def _translated(
    row: TreeItemRow, attribute: Literal["name", "description"], locale: str | None
) -> str | None:
    attributes = attributes_row(row)
    translated = translation(attributes.locales, locale) if none_if_unset(locale) else None
    if translated and attribute in translated:
        return translated[attribute]
    return attributes.name if attribute == "name" else attributes.description


@strawberry.interface(
    description="Fields shared by a hierarchy, which is the root of its tree, and its nodes."
)
class TreeItem(Node):
    name: str = expression(
        _name,
        "Name in `locale` if translated, else the default name. At most 1000 characters.",
        frozenset({"name", "locales"}),
        without_arguments=AttributeField("name", attributes_row),
    )
    description: str | None = expression(
        _description,
        "Description in `locale` if translated, else the default description.",
        frozenset({"description", "locales"}),
        without_arguments=AttributeField("description", attributes_row),
    )
    slug: str | None = attribute(
        "slug",
        "Unique among siblings, not across hierarchies: a copy keeps its source's slug.",
        owner=attributes_row,
    )
    localizations: list[Localization] = expression(
        _localizations,
        "All translations, sorted by locale.",
        frozenset({"locales"}),
        full_length=MAX_TRANSLATIONS,
    )
    admin_attributes: list[CustomAttribute] = expression(
        _admin_attributes,
        "Custom attributes for administrators, sorted by key.",
        frozenset({"admin_attributes"}),
        full_length=MAX_CUSTOM_ATTRIBUTES,
    )
    shopper_attributes: list[CustomAttribute] = expression(
        _shopper_attributes,
        "Custom attributes for shoppers too, sorted by key.",
        frozenset({"shopper_attributes"}),
        full_length=MAX_CUSTOM_ATTRIBUTES,
    )
    owner: Owner = attribute(
        "owner",
        "Owner of the hierarchy.",
        owner=lambda row: row.hierarchy if isinstance(row, TreeNode) else row,
    )
    breadcrumbs: list[Breadcrumb] = relation(
        ancestors.of_nodes,
        parent_key,
        "Path from the root to this item, both included.",
        requires=PRIMARY_KEY,
        full_length=MAX_TREE_DEPTH,
        is_path=True,
    )
    children: Declared = connection(
        _CHILDREN,
        nodes.children,
        nodes.children_counts,
        parent_key,
        "Direct children: sortOrder descending, unset last, then updatedAt descending.",
        PRIMARY_KEY,
        projected=True,
        type=lazy_connection("HierarchyNode", "app.api.graphql.types.nodes"),
    )
    created_at: datetime = attribute(
        "created_at", "Time of creation; for a copy, the time of copying.", owner=attributes_row
    )
    updated_at: datetime = attribute("updated_at", "Time of the last change.", owner=attributes_row)
