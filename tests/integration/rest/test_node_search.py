"""Nodes of all hierarchies, nodes of a product, and products of a filter on several nodes."""

import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import pytest
from fastapi import Response
from starlette.requests import Request

from app.api.rest.models import ResponseModel
from app.api.rest.pagination import ListRequest
from app.domain.hierarchies import node_id
from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.services import nodes
from tests import factories
from tests.support.databases import postgresql_is_long
from tests.support.gateway import reads_of
from tests.support.rest_client import UNKNOWN, RestClient, ids_of, node, rest_of

SEARCH = "/hierarchies/nodes"


@pytest.fixture
async def rest(idle_gateway: Gateway) -> AsyncIterator[RestClient]:
    """A client of a gateway without a queue runner."""
    async with rest_of(idle_gateway) as client:
        yield client


@pytest.fixture
async def gardens(rest: RestClient) -> Sequence[UUID]:
    """Two hierarchies of the store, one of the organization, one of another store."""
    tree: factories.Tree = {"Trees": {"Oaks": {}}}
    create = factories.hierarchy
    return [
        await create(rest.database, tree, name="First", products={"Oaks": ["a", "b", "ba"]}),
        await create(rest.database, tree, name="Second"),
        await create(rest.database, tree, name="Third", store=ORGANIZATION),
        await create(rest.database, tree, name="Fourth", store="another", products={"Oaks": ["z"]}),
    ]


TREES, OAKS = 1, 2


async def test_nodes_of_all_readable_hierarchies_are_listed(
    rest: RestClient, gardens: Sequence[UUID]
) -> None:
    mine = gardens[:3]
    page = await rest.list(SEARCH)
    assert ids_of(page) == [str(node_id(garden, no)) for garden in mine for no in (TREES, OAKS)]
    assert {row["type"] for row in page["data"]} == {"node"}
    for row in page["data"]:
        assert row == await rest.get(
            f"/hierarchies/{row['meta']['hierarchy_id']}/nodes/{row['id']}"
        )
    page = await rest.list(SEARCH, include_hierarchies="true")
    assert ids_of(page) == [str(node_id(garden, no)) for garden in mine for no in range(3)]
    assert page["meta"]["results"]["total"] == 9
    for row in page["data"][::3]:
        assert row == await rest.get(f"/hierarchies/{row['id']}")
    for falsy in ("false", "0"):
        assert len(ids_of(await rest.list(SEARCH, include_hierarchies=falsy))) == 6
    await rest.refused(400, "GET", SEARCH, params={"include_hierarchies": "x"})


FOUND: Sequence[tuple[str, list[str]]] = (
    ("eq(id,{0}-2)", ["Oaks"]),
    ("in(id,{0}-2,{1}-1,{3}-1)", ["Oaks", "Trees"]),
    ("eq(id,{0}-0)", ["First"]),
    ("eq(id,{3}-1)", []),
    ("eq(hierarchy_id,{1}-0)", ["Second", "Trees", "Oaks"]),
    ("eq(parent_id,{1}-0)", ["Trees"]),
    ("in(parent_id,{0}-1,{1}-0)", ["Oaks", "Trees"]),
    ("eq(parent_id,{0}-1):eq(hierarchy_id,{1}-0)", []),
    ("eq(breadcrumbs.[id],{1}-1)", ["Trees", "Oaks"]),
    ("eq(breadcrumbs.id,{1}-0)", ["Second", "Trees", "Oaks"]),
    ("in(breadcrumbs.id,{0}-2,{2}-2,{3}-2)", ["Oaks", "Oaks"]),
    ("ilike(breadcrumbs.name,*second)", ["Second", "Trees", "Oaks"]),
    ("like(breadcrumbs.name,*second)", []),
    ("eq(breadcrumbs.name,Oaks):eq(owner,organization)", ["Oaks"]),
    ("eq(has_children,false)", ["Oaks"] * 3),
    ("ge(id,{0}-2):le(id,{0}-2)", ["Oaks"]),
    ("gt(id,{0}-0):lt(id,{0}-2)", ["Trees"]),
    ("gt(parent_id,{0}-0):le(parent_id,{0}-1)", ["Oaks"]),
)
"""Filters, in which {1}-2 is node 2 of the second hierarchy, and the names of the matches."""


@postgresql_is_long
async def test_nodes_are_found_by_ids_and_paths(rest: RestClient, gardens: Sequence[UUID]) -> None:
    for template, found in FOUND:
        filter = template
        for index, garden in enumerate(gardens):
            for no in range(3):
                filter = filter.replace(f"{{{index}}}-{no}", str(node_id(garden, no)))
        names = await rest.names(SEARCH, filter=filter, include_hierarchies="true")
        assert names == found, template
        assert await rest.names(SEARCH, filter=filter) == [
            name for name in found if name in ("Trees", "Oaks")
        ]


async def test_a_search_is_sorted_over_nodes_and_roots(
    rest: RestClient, gardens: Sequence[UUID]
) -> None:
    names = ["First", *["Oaks"] * 3, "Second", "Third", *["Trees"] * 3]
    for sort, expected in (("name", names), ("-name", names[::-1])):
        assert await rest.names(SEARCH, sort=sort, include_hierarchies="true") == expected
        page = await rest.list(SEARCH, sort=sort, include_hierarchies="true", offset=2, limit=4)
        assert [row["attributes"]["name"] for row in page["data"]] == expected[2:6]


async def test_a_page_of_too_long_breadcrumbs_is_refused(rest: RestClient) -> None:
    """Each of 100 nodes would repeat the translations of the root, which are 100 KB."""
    locales = {f"fr-{no:03}": {"name": "n" * 1000} for no in range(100)}
    tree: factories.Tree = {f"{no}": {} for no in range(60)}
    id = await factories.hierarchy(rest.database, tree, locales=locales)
    path = f"/hierarchies/{id}/nodes"
    error = await rest.refused(400, "GET", path, params={"page[limit]": 60})
    assert error["detail"].startswith("page[limit]: the breadcrumbs of these nodes")
    page = await rest.list(path, limit=10)
    assert len(page["data"]) == 10
    assert page["data"][0]["meta"]["breadcrumbs"][0]["locales"] == locales


async def test_breadcrumbs_of_one_node_have_no_translations_if_they_are_too_long(
    rest: RestClient,
) -> None:
    """Each ancestor has names of 100 KB; a single node can only be requested as it is."""
    depth = 15
    id = await factories.hierarchy(rest.database, factories.deep_tree(depth))
    names = {f"fr-{no:03}": {"name": "n" * 1000, "description": "d" * 5000} for no in range(100)}
    for no in range(1, depth):
        await factories.edited(rest.database, node_id(id, no), locales=names)
    shallow = await rest.get(f"/hierarchies/{id}/nodes/{node_id(id, 2)}")
    assert shallow["meta"]["breadcrumbs"][1]["locales"] == {
        locale: {"name": "n" * 1000} for locale in names
    }
    path = f"/hierarchies/{id}/nodes/{node_id(id, depth)}"
    response = await rest.send("GET", path)
    assert len(response.content) < 2**14
    crumbs = response.json()["data"]["meta"]["breadcrumbs"]
    assert [crumb["name"] for crumb in crumbs] == ["Garden", *map(str, range(1, depth + 1))]
    assert not any("locales" in crumb for crumb in crumbs)


async def test_lists_with_long_texts_are_encoded_off_the_event_loop(
    rest: RestClient, gardens: Sequence[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    respond = ListRequest.response

    def noted(request: ListRequest, data: Sequence[ResponseModel], total: int) -> Response:
        threads.append(threading.get_ident())
        return respond(request, data, total)

    monkeypatch.setattr(ListRequest, "response", noted)
    garden, oaks = gardens[0], node_id(gardens[0], OAKS)
    product = (await rest.list(f"/hierarchies/{garden}/nodes/{oaks}/products"))["data"][0]["id"]
    for path in (
        SEARCH,
        "/hierarchies",
        f"/hierarchies/{garden}/nodes",
        f"/hierarchies/{garden}/children",
        f"/hierarchies/{garden}/nodes/{node_id(garden, TREES)}/children",
        f"/products/{product}/nodes",
    ):
        assert (await rest.list(path))["data"]
        assert threads.pop() != threading.get_ident()


async def test_breadcrumbs_read_neither_descriptions_nor_custom_attributes(
    rest: RestClient, idle_gateway: Gateway
) -> None:
    id = await factories.hierarchy(rest.database, factories.deep_tree(5))
    with reads_of(idle_gateway) as statements:
        await rest.get(f"/hierarchies/{id}/nodes/{node_id(id, 5)}")
    # Of the node and of its hierarchy.
    assert sum("description" in statement for statement in statements) == 2


async def product_ids(rest: RestClient, garden: UUID) -> dict[str, str]:
    page = await rest.list(f"/hierarchies/{garden}/nodes/{node_id(garden, OAKS)}/products")
    return {row["attributes"]["sku"]: row["id"] for row in page["data"]}


async def test_the_nodes_of_a_product_are_listed(rest: RestClient, gardens: Sequence[UUID]) -> None:
    first, second, *_ = gardens
    ids = await product_ids(rest, first)
    trees = node_id(second, TREES)
    path = f"/hierarchies/{second}/nodes/{trees}/relationships/products"
    await rest.ask("POST", path, [{"type": "product", "id": ids["a"]}], status=201)
    page = await rest.list(f"/products/{ids['a']}/nodes")
    assert ids_of(page) == [str(node_id(first, OAKS)), str(trees)]
    assert page["data"][1] == await rest.get(f"/hierarchies/{second}/nodes/{trees}")
    page = await rest.list(f"/products/{ids['a']}/nodes", offset=1, limit=1)
    assert (ids_of(page), page["meta"]["results"]["total"]) == ([str(trees)], 2)
    await rest.ask("DELETE", f"/hierarchies/{second}", status=204)
    assert ids_of(await rest.list(f"/products/{ids['a']}/nodes")) == [str(node_id(first, OAKS))]
    for unknown in (UNKNOWN, "x", node_id(first, OAKS)):
        await rest.refused(404, "GET", f"/products/{unknown}/nodes")


async def test_products_of_a_filter_are_attached_and_detached(
    rest: RestClient, gardens: Sequence[UUID]
) -> None:
    first, second, _, another = gardens
    below = await rest.data("POST", f"/hierarchies/{second}/nodes", node("New"), status=201)
    node_ids = [str(node_id(first, TREES)), below["id"]]
    missing = [UNKNOWN, "x", str(first), str(node_id(another, OAKS))]
    data = {"filter": "like(sku,b*)", "node_ids": [*node_ids, *missing, node_ids[0]]}

    async def skus(id: str) -> list[str]:
        hierarchy_id = str(UUID(int=UUID(id).int >> 32 << 32))
        page = await rest.list(f"/hierarchies/{hierarchy_id}/nodes/{id}/products")
        return [row["attributes"]["sku"] for row in page["data"]]

    for _ in range(2):
        answer = await rest.ask("POST", "/products/attach_nodes", data)
        assert answer == {"meta": {"nodes_attached": 2, "nodes_not_found": missing}}
        assert [await skus(id) for id in node_ids] == [["b", "ba"]] * 2
    for _ in range(2):
        answer = await rest.ask("POST", "/products/detach_nodes", {**data, "filter": "eq(sku,b)"})
        assert answer == {"meta": {"nodes_detached": 2, "nodes_not_found": missing}}
        assert [await skus(id) for id in node_ids] == [["ba"]] * 2
    nothing = {"filter": "eq(owner,organization)", "node_ids": node_ids}
    answer = await rest.ask("POST", "/products/attach_nodes", nothing)
    assert answer == {"meta": {"nodes_attached": 0, "nodes_not_found": []}}
    assert await skus(str(node_id(first, OAKS))) == ["a", "b", "ba"]
    ids = await product_ids(rest, first)
    one = {"filter": f"eq(id,{ids['a']}):eq(owner,store):eq(name,a)", "node_ids": node_ids[:1]}
    await rest.ask("POST", "/products/attach_nodes", one)


async def test_invalid_requests_change_no_products(
    rest: RestClient, gardens: Sequence[UUID]
) -> None:
    first, _, third, _ = gardens
    id, theirs = str(node_id(first, TREES)), str(node_id(third, TREES))
    for path in ("/products/attach_nodes", "/products/detach_nodes"):
        for filter in ("", "eq(x,a)", "eq(sku", "eq(slug,a)", "lt(sku,a)"):
            await rest.refused(400, "POST", path, {"filter": filter, "node_ids": [id]})
        wrong: list[Any] = [
            {"filter": "eq(sku,a)"},
            {"node_ids": [id]},
            {"filter": "eq(sku,a)", "node_ids": []},
            {"filter": "eq(sku,a)", "node_ids": [id] * 101},
            {"filter": "eq(sku,a)", "node_ids": [1]},
            {"filter": None, "node_ids": [id]},
            [],
        ]
        for data in wrong:
            await rest.refused(422, "POST", path, data)
        error = await rest.refused(
            403, "POST", path, {"filter": "eq(sku,a)", "node_ids": [id, theirs]}
        )
        assert error["detail"] == "entity owned by organization"


async def test_a_filter_of_more_than_1000_products_changes_none(rest: RestClient) -> None:
    skus = [f"{no:04}" for no in range(1001)]
    id = await factories.hierarchy(rest.database, {"a": {}, "b": {}}, products={"a": skus})
    data = {"filter": "like(sku,*)", "node_ids": [str(node_id(id, 2))]}
    error = await rest.refused(422, "POST", "/products/attach_nodes", data)
    assert error["detail"] == "filter: It matches more than 1000 products."


async def test_a_node_deleted_before_its_turn_is_reported_as_unknown(
    rest: RestClient, gardens: Sequence[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = gardens
    node_ids = [str(node_id(first, number)) for number in (TREES, OAKS)]
    scan = rest.database.client_scan

    async def deleted_after(*args: Any) -> object:
        result = await scan(*args)
        await rest.database.write(nodes.delete, factories.STORE, node_id(first, OAKS))
        return result

    monkeypatch.setattr(rest.database, "client_scan", deleted_after)
    data = {"filter": "eq(sku,b)", "node_ids": node_ids}
    answer = await rest.ask("POST", "/products/attach_nodes", data)
    assert answer == {"meta": {"nodes_attached": 1, "nodes_not_found": node_ids[1:]}}


async def test_products_are_attached_until_their_client_leaves(
    rest: RestClient, gardens: Sequence[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = gardens
    node_ids = [str(node_id(second, number)) for number in (TREES, OAKS)]
    ids = await product_ids(rest, first)
    left = iter([False, True])

    async def is_disconnected(_request: Request) -> bool:
        return next(left)

    monkeypatch.setattr(Request, "is_disconnected", is_disconnected)
    data = {"filter": "eq(sku,b)", "node_ids": node_ids}
    response = await rest.send("POST", "/products/attach_nodes", data)
    assert response.status_code == 400
    page = await rest.list(f"/products/{ids['b']}/nodes")
    assert ids_of(page) == [str(node_id(first, OAKS)), str(node_id(second, TREES))]


async def test_the_case_of_a_locale_in_a_filter_is_ignored(rest: RestClient) -> None:
    locales = {"fr-FR": {"name": "Jardin"}, "fr": {"name": "Verger"}, "az-AZI": {"name": "Bağ"}}
    id = await factories.hierarchy(rest.database, {}, name="Garden", locales=locales)
    for path in (SEARCH, "/hierarchies"):
        parameters = {"include_hierarchies": "true"} if path == SEARCH else {}
        for filter in (
            *(f"eq(locales.[{locale}].name,Jardin)" for locale in ("fr-FR", "fr-fr", "FR-FR")),
            "eq(locales.az-azi.name,Bağ)",
            "ilike(locales.FR.name,verger)",
        ):
            assert ids_of(await rest.list(path, filter=filter, **parameters)) == [str(id)], filter
        nothing = "eq(locales.fr-FR.name,Verger)"
        assert ids_of(await rest.list(path, filter=nothing, **parameters)) == []
    below = "eq(breadcrumbs.locales.[FR-fr].name,Jardin)"
    assert ids_of(await rest.list(SEARCH, filter=below, include_hierarchies="true")) == [str(id)]
