"""Isolation of stores over REST.

Every endpoint of the OpenAPI document, with another store's ids in paths, bodies and filters.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_plus

import pytest

from app.domain.hierarchies import node_id
from app.settings import Settings
from tests.oracles.multi_store import (
    ALPHA,
    NODE,
    OTHER_STORES,
    Client,
    MultiStore,
    delete_store,
    dump,
    material_of,
    populated_multi_store,
    public_ids,
    with_unknown_ids,
    without_ids,
)
from tests.oracles.schema_walk import NEW, Material
from tests.support.databases import postgresql_is_long

Ids = Mapping[str, str]
"""Ids by path parameter, or by the kind of entity in a body."""


@pytest.fixture
async def multi_store_gateway(settings: Settings) -> AsyncIterator[MultiStore]:
    """A gateway with the data of all stores."""
    async with populated_multi_store(settings) as multi_store_gateway:
        yield multi_store_gateway


@dataclass(frozen=True)
class Endpoint:
    """An operation of the OpenAPI document."""

    name: str
    method: str
    path: str
    parameters: frozenset[str]
    """The names of its path parameters."""
    is_list: bool
    is_filtered: bool
    has_body: bool

    def at(self, ids: Ids) -> str:
        """The path with `ids` filled in."""
        return f"/pcm{self.path.format(**ids)}"


async def endpoints(client: Client) -> list[Endpoint]:
    """All endpoints; those that delete nodes and hierarchies are last."""
    document = (await client.answer("GET", "/pcm/openapi.json")).json()
    listed = [
        Endpoint(
            operation["operationId"],
            method.upper(),
            path,
            frozenset(re.findall(r"{(\w+)}", path)),
            "page[limit]"
            in (named := {parameter["name"] for parameter in operation.get("parameters", ())}),
            "filter" in named,
            "requestBody" in operation,
        )
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    assert len(listed) > 20, "the document is incomplete"
    deleting = ("delete_node", "delete_hierarchy")
    return sorted(
        listed, key=lambda endpoint: [endpoint.name == name for name in reversed(deleting)]
    )


ATTRIBUTES = {"name": NEW}
BODIES: Mapping[str, Mapping[str, Callable[[str], Any]]] = {
    "duplicate_hierarchy": {"": lambda _: {"type": "hierarchy"}},
    "create_hierarchy": {"": lambda _: {"type": "hierarchy", "attributes": ATTRIBUTES}},
    "update_hierarchy": {
        "hierarchy": lambda id: {"type": "hierarchy", "id": id, "attributes": {"slug": NEW}}
    },
    "create_node": {
        "parent": lambda id: {
            "type": "node",
            "attributes": ATTRIBUTES,
            "relationships": {"parent": {"data": {"type": "node", "id": id}}},
        },
    },
    "update_node": {
        "node": lambda id: {"type": "node", "id": id, "attributes": {"slug": NEW}},
        "product": lambda id: {"type": "node", "attributes": {"curated_products": [id]}},
    },
    "add_children": {"child": lambda id: [{"type": "node", "id": id}]},
    "add_root_children": {"child": lambda id: [{"type": "node", "id": id}]},
    "set_parent": {"parent": lambda id: {"type": "node", "id": id}},
    "attach_products": {"product": lambda id: [{"type": "product", "id": id}]},
    "detach_products": {"product": lambda id: [{"type": "product", "id": id}]},
    "attach_nodes": {"node": lambda id: {"filter": "like(sku,*)", "node_ids": [id]}},
    "detach_nodes": {"node": lambda id: {"filter": "like(sku,*)", "node_ids": [id]}},
}
"""The request data of each endpoint, by the kind of entity whose id it contains."""


def bodies(endpoint: Endpoint) -> Mapping[str, Callable[[str], Any]]:
    """The request data of `endpoint`; KeyError if BODIES lacks it."""
    return BODIES[endpoint.name] if endpoint.has_body else {}


def own_ids(multi_store_gateway: MultiStore, store: str, material: Material) -> Ids:
    """The ids of a store's own entities."""
    own = multi_store_gateway.store_data[store]
    (product,) = (id for id, kind in material.kinds.items() if kind == "Product")
    return {
        "hierarchy_id": str(own.hierarchy),
        "node_id": str(node_id(own.hierarchy, NODE)),
        "job_id": str(own.pending),
        "product_id": product,
        "hierarchy": str(own.hierarchy),
        "node": str(node_id(own.hierarchy, NODE)),
        "child": str(node_id(own.hierarchy, NODE + 1)),
        "parent": str(node_id(own.hierarchy, NODE + 2)),
        "product": product,
    }


@pytest.mark.long
@postgresql_is_long
async def test_no_endpoint_reads_or_changes_entities_of_another_store(
    multi_store_gateway: MultiStore, report: Callable[[str], None]
) -> None:
    database = multi_store_gateway.database
    alphas = await material_of(database, ALPHA)
    theirs = own_ids(multi_store_gateway, ALPHA, alphas)
    alphas.kinds |= {theirs["job_id"]: "Job", theirs["node_id"]: "HierarchyNode"}
    marker, ids = multi_store_gateway.store_data[ALPHA].marker, public_ids(database, ALPHA)
    before = await dump(database, ALPHA)
    checked = 0
    for stranger in OTHER_STORES:
        client = multi_store_gateway.client(stranger)
        own = own_ids(multi_store_gateway, stranger, await material_of(database, stranger))
        untouched = await dump(database, stranger)
        for endpoint in await endpoints(client):
            for path, body in _foreign_requests(endpoint, alphas.ids, theirs, own):
                answer = await client.answer(endpoint.method, path, body)
                if endpoint.name in ("attach_nodes", "detach_nodes"):
                    [changed, missing] = answer.json()["meta"].values()
                    assert (changed, missing) == (0, body["data"]["node_ids"])
                else:
                    assert answer.status_code in (404, 422), (endpoint, path, body, answer.text)
                shown = without_ids(answer.text, f"{path} {body}", ids)
                assert [secret for secret in (marker, *ids) if secret in shown] == []
                no_path = with_unknown_ids(path, alphas.ids)
                no_body = {"data": _replace_ids(body["data"], alphas.ids)} if body else None
                nothing = await client.answer(endpoint.method, no_path, no_body)
                assert with_unknown_ids(answer.text, alphas.ids) == nothing.text
                assert answer.status_code == nothing.status_code
                checked += 1
        assert await dump(database, stranger) == untouched
    assert await dump(database, ALPHA) == before
    report(f"{checked} responses checked, leaks 0")


def _replace_ids(data: Any, ids: Iterable[str]) -> Any:
    if isinstance(data, str):
        return with_unknown_ids(data, ids)
    if isinstance(data, list):
        return [_replace_ids(item, ids) for item in data]
    return {name: _replace_ids(item, ids) for name, item in data.items()}


def _foreign_requests(
    endpoint: Endpoint, ids: Iterable[str], theirs: Ids, own: Ids
) -> Iterator[tuple[str, Any]]:
    """Requests with a foreign id in each path parameter or in the body."""
    requests = dict[str, Any]()
    for id in ids:
        for path_ids in (own, theirs):
            for parameter in endpoint.parameters:
                path = endpoint.at({**path_ids, parameter: id})
                for kind, data_for in (bodies(endpoint) or {"": lambda _: None}).items():
                    for body_ids in (own, theirs):
                        request_data = data_for(body_ids.get(kind, ""))
                        body = None if request_data is None else {"data": request_data}
                        requests[f"{path} {body}"] = path, body
        for kind, data_for in bodies(endpoint).items():
            if kind:
                body = {"data": data_for(id)}
                path = endpoint.at(own)
                requests[f"{path} {body}"] = path, body
    yield from requests.values()


@postgresql_is_long
async def test_the_owner_can_use_every_endpoint(multi_store_gateway: MultiStore) -> None:
    client = multi_store_gateway.client(ALPHA)
    own = own_ids(
        multi_store_gateway, ALPHA, await material_of(multi_store_gateway.database, ALPHA)
    )
    for endpoint in await endpoints(client):
        for kind, data_for in (bodies(endpoint) or {"": lambda _: None}).items():
            data = data_for(own.get(kind, ""))
            body = None if data is None else {"data": data}
            answer = await client.answer(endpoint.method, endpoint.at(own), body)
            assert answer.status_code in (200, 201, 204), (endpoint, answer.text)
            assert (answer.status_code == 204) == (answer.text == "")


IDS = ("id", "parent_id", "hierarchy_id", "breadcrumbs.id")
CONDITIONS = {
    "eq({0},{1})": (*IDS, "name", "slug", "description"),
    "in({0},{1},nothing)": ("name", "slug"),
    "like({0},{1})": ("name", "slug", "description"),
    "ilike({0},{1})": ("name", "slug", "description"),
    "gt({0},{1})": ("created_at", "updated_at"),
    "le({0},{1})": ("created_at", "updated_at"),
}
OTHERS = (
    "filter=eq(owner,store)",
    "sort=created_at",
    "sort=-updated_at",
    "sort=name",
    "page[limit]=1",
)


def filters(alphas: Material) -> list[str]:
    """Filters on the attributes of alpha's entities."""
    return [
        condition.format(attribute, value)
        for condition, attributes in CONDITIONS.items()
        for attribute in attributes
        for value in (
            alphas.ids
            if attribute in IDS
            else alphas.instants
            if attribute.endswith("_at")
            else alphas.texts
        )
    ]


def lists_of(all_endpoints: Iterable[Endpoint], own: Ids, alphas: Material) -> Iterator[str]:
    """Every list of a store's own entities, with every filter on alpha's."""
    for endpoint in all_endpoints:
        if endpoint.is_list:
            path = endpoint.at(own)
            yield path
            if endpoint.is_filtered:
                yield from (f"{path}?filter={quote(condition)}" for condition in filters(alphas))
                yield from (f"{path}?{query}" for query in OTHERS)


@pytest.mark.long
@postgresql_is_long
async def test_no_list_shows_or_counts_anything_of_another_store(
    multi_store_gateway: MultiStore, report: Callable[[str], None]
) -> None:
    database = multi_store_gateway.database
    alphas = await material_of(database, ALPHA)
    alpha_ids = own_ids(multi_store_gateway, ALPHA, alphas)
    alphas.kinds |= {alpha_ids["node_id"]: "HierarchyNode"}
    marker, ids = multi_store_gateway.store_data[ALPHA].marker, public_ids(database, ALPHA)

    # The same filters match for the owner.
    owner = multi_store_gateway.client(ALPHA)
    all_endpoints = await endpoints(owner)
    matched = set[str]()
    for path in lists_of(all_endpoints, alpha_ids, alphas):
        answer = await owner.answer("GET", path)
        if answer.status_code == 200 and answer.json()["data"]:
            matched.add(re.sub(r",.*", "", unquote_plus(path.rpartition("?")[2])))
    filter_names = [re.sub(r",.*", "", f"filter={condition}") for condition in filters(alphas)]
    assert {name for name in filter_names if "description" not in name} <= matched

    walks: list[tuple[Client, dict[str, str]]] = []
    for stranger in OTHER_STORES:
        client = multi_store_gateway.client(stranger)
        own = own_ids(multi_store_gateway, stranger, await material_of(database, stranger))
        answers = {}
        for path in lists_of(all_endpoints, own, alphas):
            answer = await client.answer("GET", path)
            assert answer.status_code in (200, 400), answer.text
            shown, query = unquote_plus(answer.text), unquote_plus(path)
            for text in (*ids, *sorted(alphas.texts, key=len, reverse=True)):
                if text in query:
                    shown = shown.replace(text, "")
            assert [secret for secret in (marker, *ids) if secret in shown] == [], (
                path,
                answer.text,
            )
            answers[path] = answer.text
        walks.append((client, answers))

    # Totals exclude it too: without the store, all responses are the same.
    await database.write(delete_store, ALPHA)
    for client, answers in walks:
        for path, first in answers.items():
            assert (await client.answer("GET", path)).text == first, path
    report(f"{sum(len(answers) for _, answers in walks)} lists checked, leaks 0")
