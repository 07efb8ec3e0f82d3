"""What only nodes below a root have: an order among their siblings, a place, and products.

Source: domain.md, "Hierarchy".
"""

from collections.abc import Sequence

from app.domain.attributes import Attributes
from app.domain.errors import InvalidInput

MAX_CURATED = 20
"""Products of a node that can be curated."""

MAX_PRODUCTS = 1000
"""Products that can be attached to a node, or detached from it, at a time."""

_ORDERS = range(-(2**31), 2**31)


class NodeAttributes(Attributes, total=False):
    """Attributes as nodes have them. `curated_product_ids` are as clients write ids, in order."""

    sort_order: int | None
    curated_product_ids: Sequence[str] | None


def checked_sort_order(order: int | None, *path: str) -> int | None:
    """`order` itself, or InvalidInput naming `path`: None or a number of 32 bits."""
    if order is not None and order not in _ORDERS:
        reason = f"A sort order is between {_ORDERS[0]} and {_ORDERS[-1]}."
        raise InvalidInput(reason, path)
    return order


def checked_curation(product_ids: Sequence[str], *path: str) -> Sequence[str]:
    """The ids themselves, or InvalidInput naming `path`: at most 20, each once."""
    if len(product_ids) > MAX_CURATED:
        reason = f"{len(product_ids)} products are named; at most {MAX_CURATED} can be curated."
        raise InvalidInput(reason, path)
    if len(set(product_ids)) < len(product_ids):
        raise InvalidInput("A product can be curated once only.", path)
    return product_ids


def checked_products(product_ids: Sequence[str], *path: str) -> Sequence[str]:
    """The ids, each once, or InvalidInput naming `path`: 1 to 1000."""
    if not 1 <= len(product_ids) <= MAX_PRODUCTS:
        reason = f"{len(product_ids)} products are named; 1 to {MAX_PRODUCTS} are allowed."
        raise InvalidInput(reason, path)
    return list(dict.fromkeys(product_ids))
