import pytest

from app.domain.errors import InvalidInput
from app.domain.products import MAX_NEW_PRODUCTS, SKU_LIMIT, NewProduct, checked_new_products


def new(*skus: str) -> list[NewProduct]:
    return [NewProduct(sku, "A rose") for sku in skus]


@pytest.mark.parametrize(
    "products",
    [
        new("a"),
        new("b", "a", "A", " a", "ä"),
        new("s" * SKU_LIMIT, "花" * SKU_LIMIT),
        new(*(f"{number}" for number in range(MAX_NEW_PRODUCTS))),
        [NewProduct("a", "n" * 1000), NewProduct("b", "n" * 1000)],
    ],
)
def test_1_to_100_products_with_different_skus_are_accepted(products: list[NewProduct]) -> None:
    assert checked_new_products(products, "products") == products


@pytest.mark.parametrize(
    ("products", "path"),
    [
        ([], ""),
        (new(*(f"{number}" for number in range(MAX_NEW_PRODUCTS + 1))), ""),
        (new("a", ""), "1.sku"),
        (new(" \u200b"), "0.sku"),
        (new("a", "s" * (SKU_LIMIT + 1)), "1.sku"),
        (new("a\0"), "0.sku"),
        (new("a", "b", "c", "b", "a"), "3.sku"),
        ([*new("a"), NewProduct("b", "")], "1.name"),
        ([NewProduct("a", " ")], "0.name"),
        ([NewProduct("a", "n" * 1001)], "0.name"),
        ([NewProduct("a", "\0")], "0.name"),
    ],
)
def test_other_products_are_refused_naming_the_first_fault(
    products: list[NewProduct], path: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_new_products(products, "products")
    assert ".".join(refused.value.path) == f"products.{path}".rstrip(".")


def test_a_repeated_sku_is_reported_with_its_first_index() -> None:
    with pytest.raises(InvalidInput, match=r"The sku b is that of products\.1 too\."):
        checked_new_products(new("a", "b", "b"), "products")
