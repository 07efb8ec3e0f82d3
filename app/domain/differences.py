"""How a hierarchy and its copy can differ."""

from enum import StrEnum


class DifferenceKind(StrEnum):
    """How an item differs."""

    ONLY_IN_SOURCE = "only-in-source"
    ONLY_IN_COPY = "only-in-copy"
    CHANGED = "changed"


class DifferenceAspect(StrEnum):
    """What of an item that both have differs."""

    NAME = "name"
    SLUG = "slug"
    DESCRIPTION = "description"
    LOCALIZATIONS = "localizations"
    SORT_ORDER = "sort-order"
    PARENT = "parent"
    PRODUCTS = "products"
    CURATION = "curation"
