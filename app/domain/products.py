"""Products: sku and name."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.attributes import checked_label, checked_name
from app.domain.errors import InvalidInput

SKU_LIMIT = 255
"""Characters of a sku."""

MAX_NEW_PRODUCTS = 100
"""Products per request that creates them."""


@dataclass(frozen=True, slots=True)
class NewProduct:
    """A product to create."""

    sku: str
    name: str


def checked_product(product: NewProduct, *path: str) -> NewProduct:
    """Validate the sku and the name of a product. Raises InvalidInput(path)."""
    checked_label("sku", product.sku, SKU_LIMIT, *path, "sku")
    checked_name(product.name, *path, "name")
    return product


def checked_new_products(products: Sequence[NewProduct], *path: str) -> Sequence[NewProduct]:
    """Validate 1 to 100 products with distinct skus. Raises InvalidInput(path)."""
    if not 1 <= len(products) <= MAX_NEW_PRODUCTS:
        raise InvalidInput(
            f"There are {len(products)} products; 1 to {MAX_NEW_PRODUCTS} are allowed.", path
        )
    index_of_sku: dict[str, int] = {}
    for index, product in enumerate(products):
        product_path = (*path, str(index))
        checked_product(product, *product_path)
        first = index_of_sku.setdefault(product.sku, index)
        if first != index:
            reason = f"The sku {product.sku} is that of products.{first} too."
            raise InvalidInput(reason, (*product_path, "sku"))
    return products
