"""Hierarchies over REST: create, read, update, delete; the same over GraphQL."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from app.main import Gateway
from tests import factories
from tests.support.authoring import BAD_ATTRIBUTES, LONG_AGO, ODD_ATTRIBUTES, Author
from tests.support.clients import GraphQLClient
from tests.support.rest_client import (
    INSTANT_FORMAT,
    UNKNOWN,
    UUID_FORMAT,
    RestClient,
    errors_of,
    hierarchy,
    node,
    rest_of,
)
from tests.support.rest_documents import breadcrumb, in_documents, unchanged_but

FULL: dict[str, Any] = {
    "name": "Garden",
    "slug": "garden",
    "description": "All that grows",
    "locales": {"fr-FR": {"name": "Jardin", "description": "Tout"}, "de": {"name": "Garten"}},
}
EMPTY: dict[str, Any] = {"locales": {}}
"""The attributes besides the name of a hierarchy without them."""


@pytest.fixture
async def rest(idle_gateway: Gateway) -> AsyncIterator[RestClient]:
    """A client of a gateway without a queue runner."""
    async with rest_of(idle_gateway) as client:
        yield client


@pytest.fixture
def author(idle_client: GraphQLClient, idle_gateway: Gateway) -> Author:
    """The same operations over GraphQL."""
    return Author(idle_client, idle_gateway.database)


async def new_hierarchy(rest: RestClient, **attributes: Any) -> str:
    """Create a hierarchy with old timestamps; return its id."""
    values = {**FULL, **attributes}
    data = await rest.data("POST", "/hierarchies", hierarchy(**values), status=201)
    id: str = data["id"]
    await factories.edited(rest.database, UUID(id), created_at=LONG_AGO, updated_at=LONG_AGO)
    return id


async def test_a_hierarchy_is_created_and_read(rest: RestClient) -> None:
    data = await rest.data("POST", "/hierarchies", hierarchy(**FULL), status=201)
    id = data["id"]
    assert UUID_FORMAT.fullmatch(id)
    assert INSTANT_FORMAT.fullmatch(data["meta"]["created_at"])
    assert data == {
        "id": id,
        "type": "hierarchy",
        "attributes": FULL,
        "relationships": {
            "children": {"data": [], "links": {"related": f"/hierarchies/{id}/children"}}
        },
        "meta": {
            "created_at": data["meta"]["created_at"],
            "updated_at": data["meta"]["created_at"],
            "owner": "store",
            "breadcrumbs": [breadcrumb(id, **FULL)],
        },
    }
    assert await rest.get(f"/hierarchies/{id}") == data
    assert (await rest.list("/hierarchies"))["data"] == [data]
    # The link works.
    assert (await rest.list(data["relationships"]["children"]["links"]["related"]))["data"] == []


async def test_a_hierarchy_requires_only_a_name(rest: RestClient) -> None:
    data = await rest.data("POST", "/hierarchies", hierarchy("a"), status=201)
    assert data["attributes"] == {"name": "a", **EMPTY}
    nulls: dict[str, Any] = {"description": "", "slug": None, "locales": None}
    data = await rest.data("POST", "/hierarchies", hierarchy("a", **nulls), status=201)
    assert data["attributes"] == {"name": "a", **EMPTY}


async def test_two_hierarchies_can_have_the_same_name_and_slug(rest: RestClient) -> None:
    assert await new_hierarchy(rest) != await new_hierarchy(rest)


async def test_unusual_attributes_are_returned_unchanged(rest: RestClient) -> None:
    for attributes in map(in_documents, ODD_ATTRIBUTES):
        data = await rest.data("POST", "/hierarchies", hierarchy(**attributes), status=201)
        assert data["attributes"] == {**EMPTY, **attributes}
        assert await rest.get(f"/hierarchies/{data['id']}") == data


FRENCH = {"locales": {"fr": {"name": "b"}}}
BAD = {
    what: in_documents(attributes)
    for what, (attributes, _) in BAD_ATTRIBUTES.items()
    # Documents cannot express these.
    if what not in ("localizations: a locale twice", "localizations: no locale")
}


@pytest.mark.parametrize("what", BAD)
async def test_bad_attributes_are_refused_with_their_field(what: str, rest: RestClient) -> None:
    id = await new_hierarchy(rest)
    field = "locales" if "locales" in BAD[what] else next(iter(BAD[what]))
    document = {"type": "hierarchy", "attributes": {"name": "a", **BAD[what]}}
    for method, path in (("POST", "/hierarchies"), ("PUT", f"/hierarchies/{id}")):
        error = await rest.refused(422, method, path, document)
        assert error["detail"].startswith(field), error
        if what.startswith(("an empty", "a blank")):
            assert error["detail"] == f"{field} can not be empty"


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_malformed_hierarchy_document_is_refused(method: str, rest: RestClient) -> None:
    path = "/hierarchies" if method == "POST" else f"/hierarchies/{await new_hierarchy(rest)}"
    refused: list[tuple[Any, str]] = [
        ({"type": "node", "attributes": {"name": "a"}}, "type: "),
        ({"attributes": {"name": "a"}}, "type can not be empty"),
        ({"type": "", "attributes": {"name": "a"}}, "type can not be empty"),
        ({"type": "hierarchy", "attributes": {"name": "a", "colour": "red"}}, "colour: "),
        ({"type": "hierarchy", "attributes": {"name": "a", "sort_order": 1}}, "sort_order: "),
        ({"type": "hierarchy", "attributes": {"name": "a", "owner": "store"}}, "owner: "),
        ({"type": "hierarchy", "attributes": {"name": 1}}, "name: "),
        ({"type": "hierarchy", "attributes": {"name": ["a"]}}, "name: "),
        ({"type": "hierarchy", "attributes": {"name": "a", "slug": True}}, "slug: "),
        ({"type": "hierarchy", "attributes": {"name": "a", "locales": []}}, "locales: "),
        (
            {"type": "hierarchy", "attributes": {"name": "a", "locales": {"fr": {"slug": "a"}}}},
            "locales.fr.slug: ",
        ),
        ({"type": "hierarchy", "attributes": []}, "attributes: "),
        ([], "data: "),
        ("hierarchy", "data: "),
    ]
    for data, detail in refused:
        error = await rest.refused(422, method, path, data)
        assert error["detail"].startswith(detail), (data, error)
    bodies: list[Any] = [{}, {"data": None}, [], "a", 1]
    for body in bodies:
        errors_of(await rest.send(method, path, json=body), 422)
    if method == "POST":
        nameless: list[Any] = [{}, {"attributes": {}}, {"attributes": None}]
        for attributes in (*nameless, {"attributes": {"name": None, "slug": "a"}}):
            data = {"type": "hierarchy", **attributes}
            error = await rest.refused(422, method, path, data)
            assert error["detail"].endswith("can not be empty")


async def test_a_refusal_lists_up_to_10_errors_of_a_document(rest: RestClient) -> None:
    data = {"type": "x", "attributes": {"name": 1, "a": 1, "b": 2}}
    errors = errors_of(await rest.send("POST", "/hierarchies", data), 422)
    assert {error["detail"].split(":")[0] for error in errors} == {"type", "name", "a", "b"}
    data = {"type": "hierarchy", "attributes": {"name": "a", **{f"x{no}": 1 for no in range(99)}}}
    assert len(errors_of(await rest.send("POST", "/hierarchies", data), 422)) == 10


@pytest.mark.parametrize(
    ("change", "then"),
    [
        ({"name": "b"}, {"name": "b"}),
        ({"slug": "b"}, {"slug": "b"}),
        ({"description": "b"}, {"description": "b"}),
        ({"description": ""}, {"description": None}),
        ({"locales": {"es": {"name": "b"}}}, {"locales": {"es": {"name": "b"}}}),
        ({"locales": {}}, {"locales": {}}),
        # Null counts as not given (domain.md, "REST endpoints and statuses").
        ({"name": "b", "slug": None, "description": None, "locales": None}, {"name": "b"}),
        ({"name": None, "slug": "b"}, {"slug": "b"}),
        (
            {"locales": {"fr": {"name": "b", "description": None}}},
            {"locales": {"fr": {"name": "b"}}},
        ),
    ],
    ids=str,
)
async def test_an_update_changes_only_the_sent_attributes(
    change: dict[str, Any], then: dict[str, Any], rest: RestClient
) -> None:
    id = await new_hierarchy(rest)
    before = await rest.get(f"/hierarchies/{id}")
    after = await rest.data(
        "PUT", f"/hierarchies/{id}", {"type": "hierarchy", "attributes": change}
    )
    assert await rest.get(f"/hierarchies/{id}") == after
    unchanged_but(before, after, **then)


@pytest.mark.parametrize("has_id", [True, False], ids=["with its id", "without"])
async def test_an_empty_update_changes_nothing(has_id: bool, rest: RestClient) -> None:
    id = await new_hierarchy(rest)
    before = await rest.get(f"/hierarchies/{id}")
    data = {"type": "hierarchy", **({"id": id} if has_id else {})}
    nulls = dict.fromkeys(("name", "slug", "description", "locales", "admin_attributes"))
    further: list[Any] = [{}, {"attributes": {}}, {"attributes": None}, {"attributes": nulls}]
    further += [{"meta": {}, "relationships": {}}, {"meta": None, "relationships": None}]
    for more in further:
        assert await rest.data("PUT", f"/hierarchies/{id}", {**data, **more}) == before
    assert await rest.get(f"/hierarchies/{id}") == before


async def test_sending_back_a_read_document_changes_only_its_update_time(
    rest: RestClient,
) -> None:
    for id in (
        await new_hierarchy(rest),
        await new_hierarchy(rest, slug=None, description=None, locales=None),
    ):
        answer = await rest.ask("GET", f"/hierarchies/{id}")
        after = await rest.ask("PUT", f"/hierarchies/{id}", json=answer)
        unchanged_but(answer["data"], after["data"])


async def test_the_id_of_a_document_must_match_its_path(rest: RestClient) -> None:
    id, other = await new_hierarchy(rest), await new_hierarchy(rest)
    change = {"type": "hierarchy", "attributes": {"name": "b"}}
    for wrong in (other, UNKNOWN, "x", "", None, 1):
        error = await rest.refused(422, "PUT", f"/hierarchies/{id}", {**change, "id": wrong})
        assert error["detail"].startswith("id"), error
    for same in (id.upper(), id.replace("-", "")):
        await rest.ask("PUT", f"/hierarchies/{id}", {**change, "id": same})


async def test_deleting_a_hierarchy_deletes_its_nodes(rest: RestClient) -> None:
    id, other = await new_hierarchy(rest), await new_hierarchy(rest)
    below = await rest.data("POST", f"/hierarchies/{id}/nodes", node("a"), status=201)
    await rest.ask("DELETE", f"/hierarchies/{id}", status=204)
    gone = [f"/hierarchies/{id}{path}" for path in ("", "/nodes", "/children")]
    gone += [
        f"/hierarchies/{id}/nodes/{below['id']}{path}" for path in ("", "/children", "/products")
    ]
    for path in gone:
        assert await rest.refused(404, "GET", path) == {"status": "404", "title": "Not Found"}
    await rest.refused(404, "DELETE", f"/hierarchies/{id}")
    await rest.refused(404, "PUT", f"/hierarchies/{id}", {"type": "hierarchy"})
    await rest.refused(404, "POST", f"/hierarchies/{id}/nodes", node("a"))
    await rest.refused(404, "POST", f"/hierarchies/{id}/duplicate_job")
    assert [row["id"] for row in (await rest.list("/hierarchies"))["data"]] == [other]


@pytest.mark.parametrize("id", [UNKNOWN, "x", "%00", "1", "-", "null", "a b", "%2e%2e", "🌱"])
async def test_an_unknown_hierarchy_is_not_found(id: str, rest: RestClient) -> None:
    for method, path, data in (
        ("GET", "", None),
        ("PUT", "", {"type": "hierarchy", "attributes": {"name": "a"}}),
        ("DELETE", "", None),
        ("GET", "/nodes", None),
        ("POST", "/nodes", node("a")),
        ("GET", "/children", None),
        ("POST", "/duplicate_job", {"type": "hierarchy"}),
        ("GET", f"/nodes/{UNKNOWN}", None),
    ):
        response = await rest.send(method, f"/hierarchies/{id}{path}", data)
        assert errors_of(response, 404) == [{"status": "404", "title": "Not Found"}]


async def test_a_node_id_is_not_a_hierarchy_id(rest: RestClient) -> None:
    id = await new_hierarchy(rest)
    below = (await rest.data("POST", f"/hierarchies/{id}/nodes", node("a"), status=201))["id"]
    for method, data in (("GET", None), ("DELETE", None), ("PUT", {"type": "hierarchy"})):
        await rest.refused(404, method, f"/hierarchies/{below}", data)
    await rest.refused(404, "POST", f"/hierarchies/{below}/duplicate_job")
    await rest.refused(404, "GET", f"/hierarchies/{below}/nodes")


async def test_graphql_reads_what_rest_wrote(rest: RestClient, author: Author) -> None:
    id = (await rest.data("POST", "/hierarchies", hierarchy(**FULL), status=201))["id"]
    await rest.ask("PUT", f"/hierarchies/{id}", {"type": "hierarchy", "attributes": {"slug": "b"}})
    check_alike(await rest.get(f"/hierarchies/{id}"), await author.seen(id))
    await rest.ask("DELETE", f"/hierarchies/{id}", status=204)
    assert await author.seen(id) is None


async def test_rest_reads_what_graphql_wrote(rest: RestClient, author: Author) -> None:
    localizations = [{"locale": locale, **texts} for locale, texts in FULL["locales"].items()]
    fields = {name: FULL[name] for name in ("name", "slug", "description")}
    id = (await author.make("createHierarchy", **fields, localizations=localizations))["id"]
    data = await rest.get(f"/hierarchies/{id}")
    assert data["attributes"] == FULL
    check_alike(data, await author.seen(id))
    changed = await author.make("updateHierarchy", hierarchyId=id, description=None)
    data = await rest.get(f"/hierarchies/{id}")
    assert data["attributes"] == {name: FULL[name] for name in FULL if name != "description"}
    check_alike(data, changed)
    await author.make("deleteHierarchy", hierarchyId=id)
    await rest.refused(404, "GET", f"/hierarchies/{id}")


def check_alike(data: Any, seen: Any) -> None:
    """Check that REST and GraphQL return the same hierarchy."""
    attributes, meta = data["attributes"], data["meta"]
    assert seen["id"] == data["id"]
    assert {name: seen[name] for name in ("name", "slug", "description")} == {
        name: attributes.get(name) for name in ("name", "slug", "description")
    }
    assert {
        text["locale"]: {key: text[key] for key in ("name", "description") if text[key] is not None}
        for text in seen["localizations"]
    } == attributes["locales"]
    assert (seen["createdAt"], seen["updatedAt"]) == (meta["created_at"], meta["updated_at"])
    assert seen["owner"].lower() == meta["owner"]
