"""product and products: a store's own and the organization's products, by id, sku and filter."""

from typing import Any

import pytest

from app.domain.products import NewProduct
from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.services import products
from tests.factories import STORE
from tests.support.clients import GraphQLClient

LIST = """query ($first: Int, $after: String, $last: Int, $before: String, $filter: ProductFilter) {
    products(first: $first, after: $after, last: $last, before: $before, filter: $filter) {
        nodes { id sku name } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    }
}"""
ONE = "query ($id: ID!) { product(id: $id) { id sku name nodes { totalCount } } }"
OWN = ["B-1", "a-1", "b_1", "b%1", "Ä-1", "z-9"]
SHARED = ["A-0", "b-1", "z-9"]


@pytest.fixture
async def skus(idle_gateway: Gateway) -> dict[str, str]:
    """Product ids by owner and sku, one of the owners being another store."""
    ids: dict[str, str] = {}
    for store, owned in ((STORE, OWN), (ORGANIZATION, SHARED), ("another", ["b-1", "secret"])):
        new = [NewProduct(sku, f"Product {sku}") for sku in owned]
        for product in await idle_gateway.database.write(products.create, store, new):
            ids[f"{store} {product.sku}"] = str(product.id)
    return ids


async def listed(client: GraphQLClient, **variables: Any) -> list[str]:
    page = (await client.data(LIST, **variables))["products"]
    assert page["totalCount"] == len(page["nodes"])
    return [product["sku"] for product in page["nodes"]]


async def test_the_list_is_ordered_by_sku_and_includes_products_of_the_organization(
    skus: dict[str, str], idle_client: GraphQLClient
) -> None:
    assert await listed(idle_client) == sorted(OWN + SHARED)


@pytest.mark.parametrize("size", [1, 2, 4])
async def test_paging_in_either_direction_visits_each_product_once(
    skus: dict[str, str], idle_client: GraphQLClient, size: int
) -> None:
    expected = sorted(OWN + SHARED)
    for count, bound, more, edge in (
        ("first", "after", "hasNextPage", "endCursor"),
        ("last", "before", "hasPreviousPage", "startCursor"),
    ):
        visited: list[str] = []
        variables: dict[str, Any] = {count: size}
        while True:
            page = (await idle_client.data(LIST, **variables))["products"]
            skus_of_page = [product["sku"] for product in page["nodes"]]
            visited = visited + skus_of_page if count == "first" else skus_of_page + visited
            if not page["pageInfo"][more]:
                break
            variables[bound] = page["pageInfo"][edge]
        assert visited == expected


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"sku": {"eq": "b-1"}}, ["b-1"]),
        ({"sku": {"eq": "secret"}}, []),
        ({"sku": {"in": ["z-9", "a-1", "none"]}}, ["a-1", "z-9", "z-9"]),
        ({"sku": {"in": []}}, []),
        ({"sku": {"like": "B*1"}}, ["B-1", "b%1", "b-1", "b_1"]),
        ({"sku": {"like": "b_1"}}, ["b_1"]),
        ({"sku": {"like": "b%1"}}, ["b%1"]),
        ({"sku": {"like": "ä*"}}, ["Ä-1"]),
        ({"name": {"like": "*Z-9"}, "sku": {"like": "z*"}}, ["z-9", "z-9"]),
        ({"name": {"eq": "Product a-1"}, "sku": {"eq": "b-1"}}, []),
    ],
)
async def test_a_filter_selects_products(
    skus: dict[str, str], idle_client: GraphQLClient, filter: dict[str, Any], expected: list[str]
) -> None:
    assert await listed(idle_client, filter=filter) == expected


async def test_a_product_is_returned_by_id_unless_another_store_owns_it(
    skus: dict[str, str], idle_client: GraphQLClient
) -> None:
    for key, id in skus.items():
        product = (await idle_client.data(ONE, id=id))["product"]
        store, sku = key.split(" ")
        if store == "another":
            assert product is None
        else:
            name = f"Product {sku}"
            assert product == {"id": id, "sku": sku, "name": name, "nodes": {"totalCount": 0}}
    for unknown in ("", "b-1", "00000000-0000-0000-0000-000000000000"):
        assert (await idle_client.data(ONE, id=unknown))["product"] is None


async def test_an_invalid_argument_is_refused_with_its_path(
    skus: dict[str, str], idle_client: GraphQLClient
) -> None:
    error = await idle_client.refusal(LIST, filter={"sku": {"in": ["a"] * 101}})
    assert error["extensions"] == {
        "code": "INVALID_INPUT",
        "argument": ["filter", "sku", "in"],
    }
    error = await idle_client.refusal(LIST, after="nonsense")
    assert error["extensions"]["argument"] == ["after"]
