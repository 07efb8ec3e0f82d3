"""A store finds nothing of another one over REST either: every endpoint that the OpenAPI document
tells of, with the other store's ids in paths, bodies and filters."""

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

Ids = Mapping[str, str]
"""By the name of a parameter of a path, or of what a body has an id of, that id."""


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[MultiStore]:
    """All stores furnished."""
    async with populated_multi_store(settings) as house:
        yield house


@dataclass(frozen=True)
class Endpoint:
    """One method at one path, as the document tells of it."""

    name: str
    method: str
    path: str
    parameters: frozenset[str]
    """In the path."""
    is_list: bool
    is_filtered: bool
    has_body: bool

    def at(self, ids: Ids) -> str:
        """The path with these ids."""
        return f"/pcm{self.path.format(**ids)}"


async def endpoints(client: Client) -> list[Endpoint]:
    """All there are, with those that delete nodes and hierarchies behind the others."""
    document = (await client.answer("GET", "/pcm/openapi.json")).json()
    found = [
        Endpoint(
            operation["operationId"],
            method.upper(),
            path,
            frozenset(re.findall(r"{(\w+)}", path)),
            "page[limit]" in (named := {one["name"] for one in operation.get("parameters", ())}),
            "filter" in named,
            "requestBody" in operation,
        )
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    assert len(found) > 20, "the document was not read whole"
    deleting = ("delete_node", "delete_hierarchy")
    return sorted(found, key=lambda one: [one.name == name for name in reversed(deleting)])


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
    "set_parent": {"parent": lambda id: {"type": "node", "id": id}},
    "attach_products": {"product": lambda id: [{"type": "product", "id": id}]},
    "detach_products": {"product": lambda id: [{"type": "product", "id": id}]},
}
"""What each endpoint takes, by what it has an id of."""


def bodies(endpoint: Endpoint) -> Mapping[str, Callable[[str], Any]]:
    """What it takes, if anything. An endpoint that is not in BODIES is one nobody thought of."""
    return BODIES[endpoint.name] if endpoint.has_body else {}


def belonging(house: MultiStore, store: str, material: Material) -> Ids:
    """What a store can ask for of its own."""
    own = house.store_data[store]
    (product,) = (id for id, kind in material.kinds.items() if kind == "Product")
    return {
        "hierarchy_id": str(own.hierarchy),
        "node_id": str(node_id(own.hierarchy, NODE)),
        "job_id": str(own.pending),
        "hierarchy": str(own.hierarchy),
        "node": str(node_id(own.hierarchy, NODE)),
        "child": str(node_id(own.hierarchy, NODE + 1)),
        "parent": str(node_id(own.hierarchy, NODE + 2)),
        "product": product,
    }


async def test_no_endpoint_does_anything_with_what_is_another_stores(
    house: MultiStore, report: Callable[[str], None]
) -> None:
    database = house.database
    alphas = await material_of(database, ALPHA)
    theirs = belonging(house, ALPHA, alphas)
    alphas.kinds |= {theirs["job_id"]: "Job", theirs["node_id"]: "HierarchyNode"}
    marker, ids = house.store_data[ALPHA].marker, public_ids(database, ALPHA)
    before = await dump(database, ALPHA)
    looked_at = 0
    for stranger in OTHER_STORES:
        client = house.client(stranger)
        own = belonging(house, stranger, await material_of(database, stranger))
        untouched = await dump(database, stranger)
        for endpoint in await endpoints(client):
            for path, body in _strange(endpoint, alphas.ids, theirs, own):
                answer = await client.answer(endpoint.method, path, body)
                assert answer.status_code in (404, 422), (endpoint, path, body, answer.text)
                shown = without_ids(answer.text, f"{path} {body}", ids)
                assert [one for one in (marker, *ids) if one in shown] == []
                no_path = with_unknown_ids(path, alphas.ids)
                no_body = {"data": _unheard_of(body["data"], alphas.ids)} if body else None
                nothing = await client.answer(endpoint.method, no_path, no_body)
                assert with_unknown_ids(answer.text, alphas.ids) == nothing.text
                assert answer.status_code == nothing.status_code
                looked_at += 1
        assert await dump(database, stranger) == untouched
    assert await dump(database, ALPHA) == before
    report(f"{looked_at} answers looked at, leaks 0")


def _unheard_of(said: Any, ids: Iterable[str]) -> Any:
    if isinstance(said, str):
        return with_unknown_ids(said, ids)
    if isinstance(said, list):
        return [_unheard_of(one, ids) for one in said]
    return {name: _unheard_of(one, ids) for name, one in said.items()}


def _strange(
    endpoint: Endpoint, ids: Iterable[str], theirs: Ids, own: Ids
) -> Iterator[tuple[str, Any]]:
    """All paths with somebody else's id in any place, and own paths with one in the body."""
    found = dict[str, Any]()
    for id in ids:
        for beside in (own, theirs):
            for parameter in endpoint.parameters:
                path = endpoint.at({**beside, parameter: id})
                for place, said in (bodies(endpoint) or {"": lambda _: None}).items():
                    for fitting in (own, theirs):
                        data = said(fitting.get(place, ""))
                        body = None if data is None else {"data": data}
                        found[f"{path} {body}"] = path, body
        for place, said in bodies(endpoint).items():
            if place:
                body = {"data": said(id)}
                path = endpoint.at(own)
                found[f"{path} {body}"] = path, body
    yield from found.values()


async def test_the_owner_can_do_all_of_it(house: MultiStore) -> None:
    client = house.client(ALPHA)
    own = belonging(house, ALPHA, await material_of(house.database, ALPHA))
    for endpoint in await endpoints(client):
        for place, said in (bodies(endpoint) or {"": lambda _: None}).items():
            data = said(own.get(place, ""))
            body = None if data is None else {"data": data}
            answer = await client.answer(endpoint.method, endpoint.at(own), body)
            assert answer.status_code in (200, 201, 204), (endpoint, answer.text)
            assert (answer.status_code == 204) == (answer.text == "")


CONDITIONS = {
    "eq({0},{1})": ("id", "parent_id", "name", "slug", "description"),
    "in({0},{1},nothing)": ("name", "slug"),
    "like({0},{1})": ("name", "slug", "description"),
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
    """Conditions on what is alpha's."""
    return [
        condition.format(attribute, value)
        for condition, attributes in CONDITIONS.items()
        for attribute in attributes
        for value in (
            alphas.ids
            if attribute in ("id", "parent_id")
            else alphas.instants
            if attribute.endswith("_at")
            else alphas.texts
        )
    ]


def lists_of(all_of_them: Iterable[Endpoint], own: Ids, alphas: Material) -> Iterator[str]:
    """Every list of a store's own things, by every condition there may be on what is alpha's."""
    for endpoint in all_of_them:
        if endpoint.is_list:
            path = endpoint.at(own)
            yield path
            if endpoint.is_filtered:
                yield from (f"{path}?filter={quote(one)}" for one in filters(alphas))
                yield from (f"{path}?{one}" for one in OTHERS)


async def test_no_list_shows_or_counts_anything_of_another_store(
    house: MultiStore, report: Callable[[str], None]
) -> None:
    database = house.database
    alphas = await material_of(database, ALPHA)
    belonging_to_alpha = belonging(house, ALPHA, alphas)
    alphas.kinds |= {belonging_to_alpha["node_id"]: "HierarchyNode"}
    marker, ids = house.store_data[ALPHA].marker, public_ids(database, ALPHA)

    # Its owner finds it by the same conditions.
    owner = house.client(ALPHA)
    all_of_them = await endpoints(owner)
    found = set[str]()
    for path in lists_of(all_of_them, belonging_to_alpha, alphas):
        answer = await owner.answer("GET", path)
        if answer.status_code == 200 and answer.json()["data"]:
            found.add(re.sub(r",.*", "", unquote_plus(path.rpartition("?")[2])))
    said = [re.sub(r",.*", "", f"filter={one}") for one in filters(alphas)]
    assert {one for one in said if "description" not in one} <= found

    walks: list[tuple[Client, dict[str, str]]] = []
    for stranger in OTHER_STORES:
        client = house.client(stranger)
        own = belonging(house, stranger, await material_of(database, stranger))
        answers = {}
        for path in lists_of(all_of_them, own, alphas):
            answer = await client.answer("GET", path)
            assert answer.status_code in (200, 400), answer.text
            shown, asked = unquote_plus(answer.text), unquote_plus(path)
            for one in (*ids, *sorted(alphas.texts, key=len, reverse=True)):
                if one in asked:
                    shown = shown.replace(one, "")
            assert [one for one in (marker, *ids) if one in shown] == [], (path, answer.text)
            answers[path] = answer.text
        walks.append((client, answers))

    # Nor is anything of it counted: all is the same once it has never been.
    await database.write(delete_store, ALPHA)
    for client, answers in walks:
        for path, first in answers.items():
            assert (await client.answer("GET", path)).text == first, path
    report(f"{sum(len(answers) for _, answers in walks)} lists looked at, leaks 0")
