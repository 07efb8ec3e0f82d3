"""Attributes of nodes below a root: sort order, products and curation.

Source: domain.md, "Hierarchy".
"""

from collections.abc import Sequence

from app.domain.attributes import Attributes
from app.domain.errors import InvalidInput

MAX_CURATED = 20
"""Curated products of a node."""

MAX_PRODUCTS = 1000
"""Products per request that attaches or detaches them."""

_SORT_ORDERS = range(-(2**31), 2**31)


class NodeAttributes(Attributes, total=False):
    """New attributes of a node. `curated_product_ids` are unparsed, in order."""

    sort_order: int | None
    curated_product_ids: Sequence[str] | None


def checked_sort_order(order: int | None, *path: str) -> int | None:
    """Validate a sort order: None or a signed 32-bit number. Raises InvalidInput(path)."""
    if order is not None and order not in _SORT_ORDERS:
        reason = f"A sort order is between {_SORT_ORDERS[0]} and {_SORT_ORDERS[-1]}."
        raise InvalidInput(reason, path)
    return order


def checked_curation(product_ids: Sequence[str], *path: str) -> Sequence[str]:
    """Validate at most 20 distinct ids. Raises InvalidInput(path)."""
    if len(product_ids) > MAX_CURATED:
        reason = f"{len(product_ids)} products are named; at most {MAX_CURATED} can be curated."
        raise InvalidInput(reason, path)
    if len(set(product_ids)) < len(product_ids):
        raise InvalidInput("A product can be curated once only.", path)
    return product_ids


def checked_curated_position(position: int | None, *path: str) -> int | None:
    """Validate a product's place among the curated ones: None or 1 to 20.

    Raises InvalidInput(path).
    """
    if position is not None and not 1 <= position <= MAX_CURATED:
        raise InvalidInput(f"A curated product has a position from 1 to {MAX_CURATED}.", path)
    return position


def checked_products(product_ids: Sequence[str], *path: str) -> Sequence[str]:
    """Validate 1 to 1000 ids, and return the distinct ones. Raises InvalidInput(path)."""
    if not 1 <= len(product_ids) <= MAX_PRODUCTS:
        reason = f"{len(product_ids)} products are named; 1 to {MAX_PRODUCTS} are allowed."
        raise InvalidInput(reason, path)
    return list(dict.fromkeys(product_ids))
