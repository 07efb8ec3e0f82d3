"""Products, as far as trees need them: a number of the shop's own, and a name."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.attributes import checked_label, checked_name
from app.domain.errors import InvalidInput

SKU_LIMIT = 255
"""Characters a sku may have."""

MAX_NEW_PRODUCTS = 100
"""Products that can be created at a time."""


@dataclass(frozen=True, slots=True)
class NewProduct:
    """A product to create."""

    sku: str
    name: str


def checked_new(new: Sequence[NewProduct], *path: str) -> Sequence[NewProduct]:
    """The products themselves, or InvalidInput naming `path`: 1 to 100, each with a name and a sku
    that no other of them has."""
    if not 1 <= len(new) <= MAX_NEW_PRODUCTS:
        raise InvalidInput(
            f"{len(new)} products are given; 1 to {MAX_NEW_PRODUCTS} are allowed.", path
        )
    first: dict[str, int] = {}
    for place, product in enumerate(new):
        here = (*path, str(place))
        checked_label("sku", product.sku, SKU_LIMIT, *here, "sku")
        checked_name(product.name, *here, "name")
        if first.setdefault(product.sku, place) != place:
            reason = f"The sku {product.sku} is that of products.{first[product.sku]} too."
            raise InvalidInput(reason, (*here, "sku"))
    return new
