"""admin_attributes and shopper_attributes of hierarchies and nodes, over REST and GraphQL."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.main import Gateway
from tests import factories
from tests.support.authoring import Author
from tests.support.clients import GraphQLClient
from tests.support.databases import postgresql_is_long
from tests.support.rest_client import RestClient, hierarchy, hierarchy_of, node, rest_of

CUSTOM: dict[str, Any] = {
    "admin_attributes": {"cost_of_goods": "42.0", "été.[a]": 'ä "b" \\'},
    "shopper_attributes": {"colour": "red", "empty": ""},
}

READ = """
    query ($id: ID!) {
        node(id: $id) {
            ... on TreeItem {
                adminAttributes { key value }
                shopperAttributes { key value }
            }
        }
    }
"""
DIFF = "query ($id: ID!) { duplicationDiff(jobId: $id) { differences { aspects } } }"
ADMIN, SHOPPER = "adminAttributes", "shopperAttributes"


@pytest.fixture
async def rest(idle_gateway: Gateway) -> AsyncIterator[RestClient]:
    """A client of a gateway without a queue runner."""
    async with rest_of(idle_gateway) as client:
        yield client


@pytest.fixture
def author(idle_client: GraphQLClient, idle_gateway: Gateway) -> Author:
    """The same operations over GraphQL."""
    return Author(idle_client, idle_gateway.database)


async def created(rest: RestClient, **attributes: Any) -> list[tuple[str, Any]]:
    """Create a hierarchy and a node of it, and return path and data of each."""
    root = await rest.data("POST", "/hierarchies", hierarchy("a", **attributes), status=201)
    path = f"/hierarchies/{root['id']}"
    child = await rest.data("POST", f"{path}/nodes", node("b", **attributes), status=201)
    return [(path, root), (f"{path}/nodes/{child['id']}", child)]


def custom(data: Any) -> dict[str, Any]:
    """The custom attributes of a resource."""
    return {name: value for name, value in data["attributes"].items() if name in CUSTOM}


def pairs(attributes: dict[str, str]) -> list[dict[str, str]]:
    """Attributes as GraphQL has them."""
    return [{"key": key, "value": value} for key, value in sorted(attributes.items())]


async def test_custom_attributes_are_stored_and_replaced(rest: RestClient) -> None:
    for path, data in await created(rest, **CUSTOM):
        assert custom(data) == CUSTOM
        for change, then in (
            ({"name": "c"}, CUSTOM),
            (dict.fromkeys(CUSTOM), CUSTOM),
            (
                {"admin_attributes": {"a": "b", "c": None}},
                {**CUSTOM, "admin_attributes": {"a": "b"}},
            ),
            ({"shopper_attributes": {}}, {"admin_attributes": {"a": "b"}}),
            ({"admin_attributes": {"c": None}}, {}),
        ):
            changed = await rest.data("PUT", path, {"type": data["type"], "attributes": change})
            assert custom(changed) == then
            assert await rest.get(path) == changed


async def test_a_resource_without_custom_attributes_has_none(rest: RestClient) -> None:
    empty: list[dict[str, Any]] = [
        {},
        dict.fromkeys(CUSTOM),
        {name: {} for name in CUSTOM},
        {"admin_attributes": {}},
    ]
    for attributes in empty:
        for path, data in await created(rest, **attributes):
            assert custom(data) == custom(await rest.get(path)) == {}


@postgresql_is_long
async def test_invalid_custom_attributes_are_refused(rest: RestClient) -> None:
    [(root, _), (below, _)] = await created(rest, **CUSTOM)
    bad: list[tuple[Any, str]] = [
        ({f"{no}": "a" for no in range(101)}, ": There are 101 keys; at most 100 are allowed."),
        ({"": "a"}, ". can not be empty"),
        ({" ": "a"}, ". can not be empty"),
        ({"k" * 256: "a"}, f".{'k' * 256}: "),
        ({"k\0": "a"}, ".k\0: "),
        ({"k": "a\0"}, ".k: "),
        ({"k": 1}, ".k: "),
        ({"k": {"a": "b"}}, ".k: "),
        ([], ": "),
        ("a", ": "),
    ]
    for name in CUSTOM:
        for attributes, detail in bad:
            for method, path, type in (
                ("POST", "/hierarchies", "hierarchy"),
                ("PUT", root, "hierarchy"),
                ("POST", root + "/nodes", "node"),
                ("PUT", below, "node"),
            ):
                data = {"type": type, "attributes": {"name": "z", name: attributes}}
                error = await rest.refused(422, method, path, data)
                assert error["detail"].startswith(name), error
                assert detail.strip(".") in error["detail"], error
        most = {"k" * 255: "v" * 100_000, **{f"{no}": "" for no in range(99)}}
        data = {"type": "node", "attributes": {name: most}}
        assert custom(await rest.data("PUT", below, data))[name] == most


@postgresql_is_long
async def test_both_apis_read_and_write_the_same(rest: RestClient, author: Author) -> None:
    for _, data in await created(rest, **CUSTOM):
        read = (await author.client.data(READ, id=data["id"]))["node"]
        assert read == {
            ADMIN: pairs(CUSTOM["admin_attributes"]),
            SHOPPER: pairs(CUSTOM["shopper_attributes"]),
        }
    written = {ADMIN: pairs({"a": "b"}), SHOPPER: pairs({"c": "d", "e": ""})}
    root = (await author.make("createHierarchy", name="a", **written))["id"]
    below = await author.node(root, "b", **written)
    paths = f"/hierarchies/{root}", f"/hierarchies/{root}/nodes/{below}"
    for path in paths:
        assert custom(await rest.get(path)) == {
            "admin_attributes": {"a": "b"},
            "shopper_attributes": {"c": "d", "e": ""},
        }
    await author.make("updateHierarchy", hierarchyId=root, **{ADMIN: None})
    await author.make("updateNode", nodeId=below, **{ADMIN: []})
    for path in paths:
        assert custom(await rest.get(path)) == {"shopper_attributes": {"c": "d", "e": ""}}
    twice = [{"key": "a", "value": "b"}] * 2
    await author.refused(
        "InvalidInput", f"{ADMIN}.1.key", "updateNode", nodeId=below, **{ADMIN: twice}
    )
    for bad in ({"key": " ", "value": "b"}, {"key": "a", "value": "\0"}):
        pair = [{"key": "x", "value": ""}, bad]
        await author.refused(
            "InvalidInput", f"{SHOPPER}.1", "createHierarchy", name="a", **{SHOPPER: pair}
        )


async def test_a_copy_keeps_custom_attributes_and_a_diff_shows_edits(
    rest: RestClient, author: Author
) -> None:
    [(root, _), (below, _)] = await created(rest, **CUSTOM)
    job = await rest.data("POST", f"{root}/duplicate_job", status=201)
    await factories.ran_job(rest.database)
    copy = (await rest.get(f"/jobs/{job['id']}"))["meta"]["hierarchy_id"]
    [copied] = (await rest.list(f"/hierarchies/{copy}/nodes"))["data"]
    for data in (await rest.get(f"/hierarchies/{copy}"), copied):
        assert custom(data) == CUSTOM

    async def differences() -> list[Any]:
        diff = (await author.client.data(DIFF, id=job["id"]))["duplicationDiff"]
        return [difference["aspects"] for difference in diff["differences"]]

    assert await differences() == []
    assert str(hierarchy_of(copied["id"])) == copy
    other_order = dict(reversed(CUSTOM["admin_attributes"].items()))
    await author.make("updateNode", nodeId=copied["id"], **{ADMIN: pairs(other_order)[::-1]})
    assert await differences() == []
    await author.make("updateHierarchy", hierarchyId=copy, **{ADMIN: None})
    await author.make("updateNode", nodeId=copied["id"], **{SHOPPER: []})
    assert await differences() == [["ADMIN_ATTRIBUTES"], ["SHOPPER_ATTRIBUTES"]]
    await rest.ask("PUT", below, {"type": "node", "attributes": {"shopper_attributes": {}}})
    assert await differences() == [["ADMIN_ATTRIBUTES"]]
