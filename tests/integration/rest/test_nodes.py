"""Nodes over REST: create, update, move, delete, products; the same over GraphQL."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import pytest
from sqlmodel import select

from app.domain.hierarchies import node_id
from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.storage.engine.transaction import Transaction
from app.storage.tables import Node, Product
from tests import factories
from tests.support.authoring import BAD_ATTRIBUTES, LONG_AGO, ODD_ATTRIBUTES, Author
from tests.support.clients import GraphQLClient
from tests.support.entities import session_of
from tests.support.rest_client import (
    UNKNOWN,
    UUID_FORMAT,
    RestClient,
    errors_of,
    ids_of,
    node,
    reference,
    references,
    rest_of,
)
from tests.support.rest_documents import breadcrumb, in_documents, unchanged_but

EMPTY: dict[str, Any] = {"locales": {}, "curated_products": []}
"""The attributes besides the name of a node without them."""
FULL: dict[str, Any] = {
    "name": "Oaks",
    "slug": "oaks",
    "description": "All of them",
    "locales": {"fr-FR": {"name": "Chênes"}},
    "sort_order": 7,
}
NOT_FOUND = {"status": "404", "title": "Not Found"}


@pytest.fixture
async def rest(idle_gateway: Gateway) -> AsyncIterator[RestClient]:
    """A client of a gateway without a queue runner."""
    async with rest_of(idle_gateway) as client:
        yield client


@pytest.fixture
def author(idle_client: GraphQLClient, idle_gateway: Gateway) -> Author:
    """The same operations over GraphQL."""
    return Author(idle_client, idle_gateway.database)


@pytest.fixture
async def garden(rest: RestClient) -> UUID:
    """A hierarchy with Trees (Oaks, Firs) and Herbs; Oaks has four products."""
    tree: factories.Tree = {"Trees": {"Oaks": {}, "Firs": {}}, "Herbs": {}}
    skus = ["a", "b", "c", "d"]
    return await factories.hierarchy(rest.database, tree, products={"Oaks": skus})


TREES, OAKS, FIRS, HERBS = 1, 2, 3, 4


def at(garden: UUID, no: int | None = None) -> str:
    """The path of a node, or of all nodes."""
    return f"/hierarchies/{garden}/nodes" + (f"/{node_id(garden, no)}" if no else "")


async def new_node(rest: RestClient, garden: UUID, name: str, *more: Any, **attributes: Any) -> Any:
    """Create a node."""
    return await rest.data("POST", at(garden), node(name, *more, **attributes), status=201)


async def products_of(rest: RestClient, path: str) -> list[tuple[str, bool]]:
    """The SKUs of a node in order, each with its curation flag."""
    page = await rest.list(f"{path}/products", limit=100)
    assert page["meta"]["results"]["total"] == len(page["data"])
    for row in page["data"]:
        assert row.keys() == {"id", "type", "attributes", "meta"}
        assert row["type"] == "product"
        assert row["attributes"].keys() - {"curated_product"} == {"sku", "name"}
        assert row["attributes"].get("curated_product", True) is True
        assert row["meta"].keys() == {"owner"}
    return [
        (row["attributes"]["sku"], row["attributes"].get("curated_product", False))
        for row in page["data"]
    ]


async def ids_by_sku(rest: RestClient, path: str) -> dict[str, str]:
    """The ids of a node's products."""
    page = await rest.list(f"{path}/products", limit=100)
    return {row["attributes"]["sku"]: row["id"] for row in page["data"]}


async def test_a_node_is_created_below_the_root(rest: RestClient, garden: UUID) -> None:
    data = await new_node(rest, garden, **FULL)
    id = data["id"]
    assert UUID_FORMAT.fullmatch(id)
    here = f"/hierarchies/{garden}/nodes/{id}"
    assert data == {
        "id": id,
        "type": "node",
        "attributes": {
            "name": "Oaks",
            "slug": "oaks",
            "description": "All of them",
            "locales": {"fr-FR": {"name": "Chênes"}},
            "curated_products": [],
        },
        # Only a node below another node has a parent.
        "relationships": {
            "children": {"data": [], "links": {"related": f"{here}/children"}},
            "products": {"data": [], "links": {"related": f"{here}/products"}},
        },
        "meta": {
            "sort_order": 7,
            "created_at": data["meta"]["created_at"],
            "updated_at": data["meta"]["created_at"],
            "owner": "store",
            "hierarchy_id": str(garden),
            "has_children": False,
            "breadcrumbs": [
                breadcrumb(garden, "Garden"),
                breadcrumb(**{**data["attributes"], "id": id}),
            ],
        },
    }
    assert await rest.get(here) == data
    for path in (at(garden), f"/hierarchies/{garden}/children"):
        assert data in (await rest.list(path))["data"]
    for relation in data["relationships"].values():
        assert (await rest.list(relation["links"]["related"]))["data"] == []


async def test_a_node_is_created_below_another_node(rest: RestClient, garden: UUID) -> None:
    data = await new_node(rest, garden, "Red oaks", node_id(garden, OAKS))
    parent = {"data": {"type": "node", "id": str(node_id(garden, OAKS))}}
    assert data["relationships"]["parent"] == parent
    meta = {"created_at", "updated_at", "owner", "hierarchy_id", "has_children", "breadcrumbs"}
    assert data["meta"].keys() == meta | {"parent_name"}
    assert data["meta"]["parent_name"] == "Oaks"
    assert [crumb["name"] for crumb in data["meta"]["breadcrumbs"]] == [
        *("Garden", "Trees", "Oaks", "Red oaks")
    ]
    ids = [garden, node_id(garden, TREES), node_id(garden, OAKS), data["id"]]
    assert [crumb["id"] for crumb in data["meta"]["breadcrumbs"]] == list(map(str, ids))
    assert (await rest.get(at(garden, OAKS)))["meta"]["has_children"] is True
    assert data["attributes"] == {"name": "Red oaks", **EMPTY}
    assert (await rest.list(f"{at(garden, OAKS)}/children"))["data"] == [data]
    assert await rest.names(at(garden)) == ["Trees", "Herbs", "Oaks", "Firs", "Red oaks"]


async def test_a_node_below_the_root_can_name_it_as_its_parent(
    rest: RestClient, garden: UUID
) -> None:
    parents: list[Any] = [
        {"parent": {"data": reference(garden)}},
        {"parent": {"data": None}},
        {"parent": None},
        {},
        None,
    ]
    for no, relationships in enumerate(parents):
        document = {**node(f"Ferns {no}"), "relationships": relationships, "meta": None}
        data = await rest.data("POST", at(garden), document, status=201)
        assert "parent" not in data["relationships"]
        assert "parent_name" not in data["meta"]


async def test_an_unknown_parent_is_refused_with_its_id(rest: RestClient, garden: UUID) -> None:
    other = await factories.hierarchy(rest.database, {"a": {}})
    theirs = await factories.hierarchy(rest.database, {"a": {}}, store="another")
    for id in (UNKNOWN, "x", "", node_id(garden, 99), node_id(other, 1), node_id(theirs, 1)):
        error = await rest.refused(404, "POST", at(garden), node("a", id))
        assert error == {**NOT_FOUND, "meta": {"missing_ids": [str(id)]}}


async def test_unusual_attributes_are_returned_unchanged(rest: RestClient, garden: UUID) -> None:
    for no, attributes in enumerate(map(in_documents, ODD_ATTRIBUTES)):
        parent = (await new_node(rest, garden, str(no)))["id"]
        data = await new_node(rest, garden, parent=parent, **attributes)
        assert data["attributes"] == {**EMPTY, **attributes}
        assert await rest.get(f"{at(garden)}/{data['id']}") == data


BAD = {
    what: in_documents(attributes)
    for what, (attributes, _) in BAD_ATTRIBUTES.items()
    if what not in ("localizations: a locale twice", "localizations: no locale")
}


async def test_bad_attributes_are_refused_with_their_field(rest: RestClient, garden: UUID) -> None:
    for what, bad in BAD.items():
        field = "locales" if "locales" in bad else next(iter(bad))
        data = {"type": "node", "attributes": {"name": "a", **bad}}
        for method, path in (("POST", at(garden)), ("PUT", at(garden, OAKS))):
            error = await rest.refused(422, method, path, data)
            assert error["detail"].startswith(field), what


async def test_a_malformed_node_document_is_refused(rest: RestClient, garden: UUID) -> None:
    document = {"type": "node", "attributes": {"name": "a"}}
    many = [UNKNOWN.replace("1111", f"{no:04}") for no in range(21)]
    for data, detail in (
        ({**document, "type": "hierarchy"}, "type: "),
        ({"attributes": {"name": "a"}}, "type can not be empty"),
        ({"type": "node", "attributes": {"name": "a", "x": 1}}, "x: "),
        ({"type": "node", "attributes": {"name": "a", "sort_order": 1}}, "sort_order: "),
        ({"type": "node", "attributes": {"name": "a", "parent_id": "a"}}, "parent_id: "),
        ({**document, "meta": {"sort_order": "1"}}, "meta.sort_order: "),
        ({**document, "meta": {"sort_order": 1.5}}, "meta.sort_order: "),
        ({**document, "meta": {"sort_order": True}}, "meta.sort_order: "),
        ({**document, "meta": {"sort_order": 2**31}}, "meta.sort_order: "),
        ({**document, "meta": {"sort_order": -(2**31) - 1}}, "meta.sort_order: "),
        ({**document, "meta": []}, "meta: "),
        ({"type": "node", "attributes": {"name": "a", "curated_products": "a"}}, "curated_produ"),
        ({"type": "node", "attributes": {"name": "a", "curated_products": [1]}}, "curated_produ"),
        ({"type": "node", "attributes": {"name": "a", "curated_products": ["a"]}}, "curated_prod"),
        ({"type": "node", "attributes": {"name": "a", "curated_products": many}}, "curated_prod"),
    ):
        for method, path in (("POST", at(garden)), ("PUT", at(garden, OAKS))):
            error = await rest.refused(422, method, path, data)
            assert error["detail"].startswith(detail), (data, error)
    root = {"type": "hierarchy", "id": str(garden)}
    wrong: list[Any] = [{}, {"data": {}}, {"data": root}, []]
    for parent in wrong:
        data = {**document, "relationships": {"parent": parent}}
        errors_of(await rest.send("POST", at(garden), data), 422)
    await rest.refused(422, "POST", at(garden), {"type": "node"})


async def test_names_and_slugs_are_unique_among_siblings(rest: RestClient, garden: UUID) -> None:
    trees = node_id(garden, TREES)
    for data in (node("Oaks", trees), node("a", trees, slug="oaks")):
        error = await rest.refused(422, "POST", at(garden), data)
        assert error["detail"].startswith(("name: ", "slug: "))
    for attributes in ({"name": "Oaks"}, {"slug": "oaks"}):
        data = {"type": "node", "attributes": attributes}
        await rest.refused(422, "PUT", at(garden, FIRS), data)
        # A node may keep its own name and slug.
        await rest.ask("PUT", at(garden, OAKS), data)
    await new_node(rest, garden, "Oaks", slug="oaks")


NULLABLE = ("slug", "description", "locales", "curated_products", "shopper_attributes")
"""Optional attributes: null counts as not given (domain.md, "REST endpoints and statuses")."""


@pytest.mark.parametrize(
    ("change", "then"),
    [
        ({"attributes": {"name": "b"}}, {"name": "b"}),
        ({"attributes": {"description": ""}}, {"description": None}),
        ({"attributes": {"locales": {}}}, {"locales": {}}),
        ({"attributes": {"name": "b", **dict.fromkeys(NULLABLE)}, "meta": None}, {"name": "b"}),
        ({"attributes": None, "meta": {"sort_order": -3.0}}, {"sort_order": -3}),
        ({"meta": {"sort_order": None}}, {"sort_order": None}),
        ({"attributes": {}, "meta": {"sort_order": 0}}, {"sort_order": 0}),
        ({"attributes": {"name": "b"}, "meta": {}}, {"name": "b"}),
    ],
    ids=str,
)
async def test_an_update_changes_only_the_sent_attributes(
    change: dict[str, Any], then: dict[str, Any], rest: RestClient, garden: UUID
) -> None:
    id = (await new_node(rest, garden, parent=node_id(garden, HERBS), **FULL))["id"]
    await factories.edited(rest.database, UUID(id), created_at=LONG_AGO, updated_at=LONG_AGO)
    before = await rest.get(f"{at(garden)}/{id}")
    after = await rest.data("PUT", f"{at(garden)}/{id}", {"type": "node", **change})
    assert await rest.get(f"{at(garden)}/{id}") == after
    if "sort_order" in then:
        before["meta"].pop("sort_order")
        assert after["meta"].pop("sort_order", None) == then["sort_order"]
    unchanged_but(before, after, **{key: then[key] for key in then if key != "sort_order"})


async def test_an_empty_update_changes_nothing(rest: RestClient, garden: UUID) -> None:
    path = at(garden, OAKS)
    before = await rest.get(path)
    id = str(node_id(garden, OAKS))
    further: list[Any] = [{}, {"attributes": {}}, {"meta": {}}, {"id": id}]
    for more in further:
        assert await rest.data("PUT", path, {"type": "node", **more}) == before
    assert await rest.get(path) == before


@pytest.mark.parametrize("no", [TREES, OAKS, HERBS])
async def test_sending_back_a_read_document_changes_only_its_update_time(
    no: int, rest: RestClient, garden: UUID
) -> None:
    path = at(garden, no)
    if no == OAKS:
        ids = list((await ids_by_sku(rest, path)).values())
        curation = {"type": "node", "attributes": {"curated_products": ids[::-1]}}
        await rest.ask("PUT", path, curation)
    await factories.edited(rest.database, node_id(garden, no), updated_at=LONG_AGO)
    answer = await rest.ask("GET", path)
    products = await products_of(rest, path)
    after = await rest.ask("PUT", path, json=answer)
    unchanged_but(answer["data"], after["data"])
    assert await products_of(rest, path) == products


async def test_the_id_of_a_document_must_match_its_path(rest: RestClient, garden: UUID) -> None:
    for wrong in (str(node_id(garden, FIRS)), str(garden), UNKNOWN, "x", "", None):
        data = {"type": "node", "id": wrong, "attributes": {"name": "b"}}
        error = await rest.refused(422, "PUT", at(garden, OAKS), data)
        assert error["detail"].startswith("id")


async def test_deleting_a_node_deletes_its_branch(rest: RestClient, garden: UUID) -> None:
    await rest.ask("DELETE", at(garden, TREES), status=204)
    assert await rest.names(at(garden)) == ["Herbs"]
    for no in (TREES, OAKS, FIRS):
        for path in ("", "/children", "/products"):
            assert await rest.refused(404, "GET", at(garden, no) + path) == NOT_FOUND
    await rest.refused(404, "DELETE", at(garden, TREES))


async def test_children_are_in_sibling_order(rest: RestClient, garden: UUID) -> None:
    below = node_id(garden, HERBS)
    for name, order in (("a", 1), ("b", None), ("c", 2), ("d", None), ("e", -1)):
        attributes = {} if order is None else {"sort_order": order}
        await new_node(rest, garden, name, below, **attributes)
    path = f"{at(garden, HERBS)}/children"
    assert await rest.names(path) == ["c", "a", "e", "d", "b"]
    assert await rest.names(path, limit=2, offset=1) == ["a", "e"]
    assert await rest.names(path, sort="name") == ["a", "b", "c", "d", "e"]
    assert await rest.names(f"/hierarchies/{garden}/children") == ["Trees", "Herbs"]


# Moves.


async def parents(rest: RestClient, garden: UUID) -> dict[str, str | None]:
    """Each node's parent name; None for children of the root."""
    page = await rest.list(at(garden), limit=100)
    names: dict[str, str | None] = {}
    for row in page["data"]:
        parent = row["relationships"].get("parent")
        name = row["meta"].get("parent_name")
        assert (parent is None) == (name is None)
        if parent:
            above = await rest.get(f"{at(garden)}/{parent['data']['id']}")
            assert above["attributes"]["name"] == name
        names[row["attributes"]["name"]] = name
    return names


async def test_nodes_are_moved_below_another_node(rest: RestClient, garden: UUID) -> None:
    path = f"{at(garden, HERBS)}/relationships/children"
    trees, oaks = node_id(garden, TREES), node_id(garden, OAKS)
    parent = await rest.data("POST", path, [reference(oaks, sort_order=3), reference(trees)])
    assert parent == await rest.get(at(garden, HERBS))
    moved = (await rest.list(f"{at(garden, HERBS)}/children"))["data"]
    assert ids_of({"data": moved}) == [str(oaks), str(trees)]
    assert [row["meta"].get("sort_order") for row in moved] == [3, None]
    assert await parents(rest, garden) == {
        "Herbs": None,
        "Trees": "Herbs",
        "Oaks": "Herbs",
        "Firs": "Trees",
    }
    assert await rest.names(f"{at(garden, HERBS)}/children") == ["Oaks", "Trees"]
    for order, then in ((None, None), (3.0, 3)):
        await rest.ask("POST", path, [reference(oaks, sort_order=order)])
        assert (await rest.get(at(garden, OAKS)))["meta"].get("sort_order") == then
    for kept in (reference(oaks), {**reference(oaks), "meta": None}):
        await rest.ask("POST", path, [kept])
        assert (await rest.get(at(garden, OAKS)))["meta"]["sort_order"] == 3


async def test_nodes_are_moved_below_the_root(rest: RestClient, garden: UUID) -> None:
    path = f"/hierarchies/{garden}/relationships/children"
    oaks, firs = node_id(garden, OAKS), node_id(garden, FIRS)
    root = await rest.data("POST", path, [reference(oaks, sort_order=3), reference(firs)])
    assert root == await rest.get(f"/hierarchies/{garden}")
    assert await rest.names(f"/hierarchies/{garden}/children") == ["Oaks", "Firs", "Trees", "Herbs"]
    other = await factories.hierarchy(rest.database, {"a": {}})
    missing = (UNKNOWN, node_id(garden, 99))
    error = await rest.refused(404, "POST", path, references([oaks, *missing], "node"))
    assert error == {**NOT_FOUND, "meta": {"missing_ids": [str(id) for id in missing]}}
    await rest.refused(422, "POST", path, references([node_id(other, 1)], "node"))
    unknown = f"/hierarchies/{UNKNOWN}/relationships/children"
    assert await rest.refused(404, "POST", unknown, references([oaks], "node")) == NOT_FOUND


async def test_nodes_of_one_branch_are_moved_one_after_the_other(
    rest: RestClient, garden: UUID
) -> None:
    middle = await new_node(rest, garden, "Middle", node_id(garden, FIRS))
    deepest = (await new_node(rest, garden, "Deep", middle["id"]))["id"]
    path = f"{at(garden, HERBS)}/relationships/children"
    ids = [node_id(garden, TREES), node_id(garden, FIRS), deepest]
    await rest.ask("POST", path, references(ids, "node"))

    def depths(tx: Transaction) -> dict[str, int]:
        nodes = session_of(tx).exec(select(Node.name, Node.depth)).all()
        return dict(nodes)

    assert await rest.database.read(depths) == {
        "Herbs": 1,
        "Trees": 2,
        "Oaks": 3,
        "Firs": 2,
        "Middle": 3,
        "Deep": 2,
    }


async def test_a_move_of_several_nodes_is_atomic(rest: RestClient, garden: UUID) -> None:
    path = f"{at(garden, HERBS)}/relationships/children"
    other = await factories.hierarchy(rest.database, {"a": {}})
    theirs = await factories.hierarchy(rest.database, {"a": {}}, store="another")
    oaks = node_id(garden, OAKS)
    missing: Sequence[object] = (UNKNOWN, "x", node_id(garden, 99), node_id(theirs, 1), garden)
    error = await rest.refused(404, "POST", path, references([oaks, *missing], "node"))
    assert error == {**NOT_FOUND, "meta": {"missing_ids": [str(id) for id in missing]}}
    for bad in (
        references([oaks, node_id(other, 1)], "node"),
        references([oaks, node_id(garden, HERBS)], "node"),
        references([oaks], "product"),
        [],
        reference(oaks),
        [{"type": "node"}],
        [reference(oaks, sort_order="1")],
        references([oaks] * 101, "node"),
    ):
        await rest.refused(422, "POST", path, bad)
    below = f"{at(garden, OAKS)}/relationships/children"
    await rest.refused(422, "POST", below, references([node_id(garden, TREES)], "node"))


async def test_a_node_is_moved_below_a_parent_and_below_the_root_again(
    rest: RestClient, garden: UUID
) -> None:
    path = f"{at(garden, OAKS)}/relationships/parent"
    await rest.ask("PUT", path, reference(node_id(garden, HERBS)), status=204)
    assert (await parents(rest, garden))["Oaks"] == "Herbs"
    await rest.ask("DELETE", path, status=204)
    assert (await parents(rest, garden))["Oaks"] is None
    await rest.ask("DELETE", path, status=204)
    await rest.ask("PUT", path, reference(node_id(garden, TREES)), status=204)
    await rest.ask("PUT", path, reference(garden), status=204)
    assert (await parents(rest, garden))["Oaks"] is None


async def test_an_invalid_move_is_refused(rest: RestClient, garden: UUID) -> None:
    other = await factories.hierarchy(rest.database, {"a": {}})
    path = f"{at(garden, TREES)}/relationships/parent"
    for parent in (node_id(garden, TREES), node_id(garden, OAKS), node_id(other, 1), other):
        error = await rest.refused(422, "PUT", path, reference(parent))
        assert error["detail"].startswith("parent: ")
    for unknown in (UNKNOWN, "x", str(node_id(garden, 99))):
        error = await rest.refused(404, "PUT", path, reference(unknown))
        assert error == {**NOT_FOUND, "meta": {"missing_ids": [unknown]}}
    wrong: list[Any] = [None, [], {"type": "node"}, reference(garden, "hierarchy"), "a"]
    for bad in wrong:
        await rest.refused(422, "PUT", path, json={"data": bad})
    await new_node(rest, garden, "Oaks")
    down = f"{at(garden, OAKS)}/relationships/parent"
    error = await rest.refused(422, "DELETE", down)
    assert error["detail"] == "parent: A sibling has the name 'Oaks' already."
    await rest.refused(422, "PUT", down, reference(garden))


# Products.


async def test_products_are_attached_and_detached(rest: RestClient, garden: UUID) -> None:
    path = f"{at(garden, FIRS)}/relationships/products"
    ids = await ids_by_sku(rest, at(garden, OAKS))
    body = references([ids["c"], ids["a"], ids["c"]])
    data = await rest.data("POST", path, body, status=201)
    assert data["id"] == str(node_id(garden, FIRS))
    assert await products_of(rest, at(garden, FIRS)) == [("a", False), ("c", False)]
    await rest.ask("POST", path, references([ids["b"], ids["a"]]), status=201)
    await rest.ask("DELETE", path, references([ids["a"], ids["d"]]))
    assert await products_of(rest, at(garden, FIRS)) == [("b", False), ("c", False)]


def _product_of(tx: Transaction, store: str) -> UUID:
    return session_of(tx).exec(select(Product.id).where(Product.store == store)).one()


async def test_a_refusal_lists_all_unknown_products(rest: RestClient, garden: UUID) -> None:
    path = f"{at(garden, FIRS)}/relationships/products"
    ids = await ids_by_sku(rest, at(garden, OAKS))
    await factories.hierarchy(rest.database, {"a": {}}, store="another", products={"a": ["z"]})
    their_product = str(await rest.database.read(_product_of, "another"))
    missing = [UNKNOWN, "x", "", str(garden), their_product]
    for method in ("POST", "DELETE"):
        body = references([ids["a"], *missing, UNKNOWN])
        error = await rest.refused(404, method, path, body)
        assert error == {**NOT_FOUND, "meta": {"missing_ids": missing}}
        for bad in (
            [],
            reference(ids["a"], "product"),
            references([ids["a"]], "node"),
            [{"type": "product"}],
            references([ids["a"]] * 1001),
        ):
            await rest.refused(422, method, path, bad)


async def test_the_organizations_products_can_be_attached(
    rest: RestClient, garden: UUID, author: Author
) -> None:
    theirs = await factories.hierarchy(
        rest.database, {"a": {}}, store=ORGANIZATION, products={"a": ["o"]}
    )
    (id,) = (await ids_by_sku(rest, at(theirs, 1))).values()
    path = f"{at(garden, FIRS)}/relationships/products"
    await rest.ask("POST", path, references([id]), status=201)
    assert await products_of(rest, at(garden, FIRS)) == [("o", False)]


async def test_curated_products_come_first_in_their_order(rest: RestClient, garden: UUID) -> None:
    path = at(garden, OAKS)
    ids = await ids_by_sku(rest, path)

    async def curate(*skus: str) -> Any:
        curated = [ids[sku] for sku in skus]
        data = {"type": "node", "attributes": {"curated_products": curated}}
        answer = await rest.data("PUT", path, data)
        assert answer["attributes"]["curated_products"] == curated
        return answer

    await curate("d", "b")
    assert await products_of(rest, path) == [
        *(("d", True), ("b", True), ("a", False), ("c", False))
    ]
    page = await rest.list(f"{path}/products", limit=1, offset=1)
    assert ids_of(page) == [ids["b"]]
    await curate("b", "c", "d")
    assert [sku for sku, _ in await products_of(rest, path)] == ["b", "c", "d", "a"]
    # Detaching a product ends its curation.
    products = f"{path}/relationships/products"
    data = await rest.data("DELETE", products, references([ids["c"]]))
    assert data["attributes"]["curated_products"] == [ids["b"], ids["d"]]
    data = await rest.data("POST", products, references([ids["c"]]), status=201)
    assert data["attributes"]["curated_products"] == [ids["b"], ids["d"]]
    await curate()
    assert not any(curated for _, curated in await products_of(rest, path))
    nothing = {"type": "node", "attributes": {"curated_products": None}}
    await curate("a")
    kept = await rest.data("PUT", path, nothing)
    assert kept["attributes"]["curated_products"] == [ids["a"]]


async def test_only_attached_products_are_curated_each_once(rest: RestClient, garden: UUID) -> None:
    ids = await ids_by_sku(rest, at(garden, OAKS))
    for path, curated in (
        (at(garden, FIRS), [ids["a"]]),
        (at(garden, OAKS), [ids["a"], UNKNOWN]),
        (at(garden, OAKS), [ids["a"], ids["a"]]),
    ):
        data = {"type": "node", "attributes": {"name": "b", "curated_products": curated}}
        error = await rest.refused(422, "PUT", path, data)
        assert error["detail"].startswith("curated_products: ")


# Unknown nodes.


async def test_a_node_is_visible_only_in_its_own_hierarchy(rest: RestClient, garden: UUID) -> None:
    other = await factories.hierarchy(rest.database, {"a": {}})
    product_references = references([UNKNOWN])
    for hierarchy_id, id in (
        (other, node_id(garden, OAKS)),
        (garden, garden),
        (garden, node_id(garden, 99)),
        (garden, node_id(other, 1)),
        (garden, "x"),
        ("x", node_id(garden, OAKS)),
        (UNKNOWN, UNKNOWN),
    ):
        path = f"/hierarchies/{hierarchy_id}/nodes/{id}"
        requests: Sequence[tuple[str, str, Any]] = (
            ("GET", "", None),
            ("PUT", "", {"type": "node", "attributes": {"name": "b"}}),
            ("DELETE", "", None),
            ("GET", "/products", None),
            ("POST", "/relationships/products", product_references),
            ("DELETE", "/relationships/products", product_references),
            ("DELETE", "/relationships/parent", None),
        )
        for method, further, data in requests:
            response = await rest.send(method, f"{path}{further}", data)
            assert errors_of(response, 404) == [NOT_FOUND], (method, path, further)
        for method, further, data in (
            ("PUT", "/relationships/parent", reference(UNKNOWN)),
            ("POST", "/relationships/children", references([UNKNOWN], "node")),
        ):
            errors_of(await rest.send(method, f"{path}{further}", data), 404)
        if id != garden:
            await rest.refused(404, "GET", f"{path}/children")
    assert len((await rest.list(at(garden)))["data"]) == 4


# REST and GraphQL.


async def check_alike(rest: RestClient, author: Author, garden: UUID) -> None:
    """Check that REST and GraphQL return the same nodes."""
    for data in (await rest.list(at(garden), limit=100))["data"]:
        seen = await author.seen(data["id"])
        attributes, meta = data["attributes"], data["meta"]
        for name in ("name", "slug", "description"):
            assert seen[name] == attributes.get(name)
        assert (seen["createdAt"], seen["updatedAt"]) == (meta["created_at"], meta["updated_at"])
        assert seen["sortOrder"] == meta.get("sort_order")
        parent = data["relationships"].get("parent", {"data": {"id": str(garden)}})
        assert seen["parent"]["id"] == parent["data"]["id"]
        edges = seen["products"]["edges"]
        assert [(edge["node"]["sku"], edge["curated"]) for edge in edges] == await products_of(
            rest, f"{at(garden)}/{data['id']}"
        )
        assert [edge["node"]["id"] for edge in edges if edge["curated"]] == attributes[
            "curated_products"
        ]
        below = await rest.names(f"{at(garden)}/{data['id']}/children")
        assert await author.children(data["id"]) == below
    assert await author.children(garden) == await rest.names(f"/hierarchies/{garden}/children")


async def test_graphql_reads_what_rest_wrote(
    rest: RestClient, author: Author, garden: UUID
) -> None:
    ids = await ids_by_sku(rest, at(garden, OAKS))
    new = await new_node(rest, garden, "Elms", node_id(garden, TREES), sort_order=4)
    path = f"{at(garden)}/{new['id']}"
    await rest.ask(
        "POST", f"{path}/relationships/products", references([*ids.values()]), status=201
    )
    changed = {"attributes": {"name": "Elm", "curated_products": [ids["b"]]}, "meta": {}}
    await rest.ask("PUT", path, {"type": "node", **changed})
    await rest.ask(
        "PUT",
        f"{at(garden, OAKS)}/relationships/parent",
        reference(node_id(garden, HERBS)),
        status=204,
    )
    await check_alike(rest, author, garden)
    assert await author.way(node_id(garden, OAKS)) == ["Garden", "Herbs", "Oaks"]
    assert await author.counts(garden) == (5, 8)
    await rest.ask("DELETE", at(garden, TREES), status=204)
    await check_alike(rest, author, garden)
    assert await author.counts(garden) == (2, 4)


async def test_rest_reads_what_graphql_wrote(
    rest: RestClient, author: Author, garden: UUID
) -> None:
    ids = await ids_by_sku(rest, at(garden, OAKS))
    elms = await author.node(node_id(garden, TREES), "Elms", sortOrder=4, slug="elms")
    await author.make("attachProducts", nodeId=elms, productIds=[ids["a"], ids["c"]])
    await author.make("updateNode", nodeId=elms, curatedProductIds=[ids["c"]], description="Tall")
    await author.make("moveNode", nodeId=node_id(garden, OAKS), parentId=node_id(garden, HERBS))
    await check_alike(rest, author, garden)
    assert (await rest.get(f"{at(garden)}/{elms}"))["attributes"] == {
        "name": "Elms",
        "slug": "elms",
        "description": "Tall",
        "locales": {},
        "curated_products": [ids["c"]],
    }
    await author.make("detachProducts", nodeId=elms, productIds=[ids["c"]])
    await author.make("deleteNode", nodeId=node_id(garden, OAKS))
    await check_alike(rest, author, garden)
    await rest.refused(404, "GET", at(garden, OAKS))
