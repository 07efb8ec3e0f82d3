"""Differences between a hierarchy and its copy."""

from enum import StrEnum


class DifferenceKind(StrEnum):
    """The kind of a difference of one item."""

    ONLY_IN_SOURCE = "only-in-source"
    ONLY_IN_COPY = "only-in-copy"
    CHANGED = "changed"


class DifferenceAspect(StrEnum):
    """An attribute that differs in an item of both."""

    NAME = "name"
    SLUG = "slug"
    DESCRIPTION = "description"
    LOCALIZATIONS = "localizations"
    ADMIN_ATTRIBUTES = "admin-attributes"
    SHOPPER_ATTRIBUTES = "shopper-attributes"
    SORT_ORDER = "sort-order"
    PARENT = "parent"
    PRODUCTS = "products"
    CURATION = "curation"
