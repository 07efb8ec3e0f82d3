"""Creating, updating and deleting hierarchies over HTTP, and each refusal."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from app.domain.hierarchies import node_id
from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.queue.sweeper import Sweeper
from tests import factories
from tests.support.authoring import (
    BAD_ATTRIBUTES,
    ODD_ATTRIBUTES,
    PRODUCT,
    Author,
    Input,
    everything,
    hidden_hierarchy,
)
from tests.support.clients import GraphQLClient

FULL: Input = {
    "name": "Garden",
    "description": "All that grows",
    "slug": "garden",
    "localizations": [
        {"locale": "de-DE", "name": "Garten", "description": None},
        {"locale": "fr", "name": "Jardin", "description": "Tout"},
    ],
}
CLEARED: Input = {"description": None, "slug": None, "localizations": []}


@pytest.fixture
def author(idle_gateway: Gateway, idle_client: GraphQLClient) -> Author:
    """A mutation client of a gateway whose queue does not run."""
    return Author(idle_client, idle_gateway.database)


async def test_a_created_hierarchy_has_the_input_attributes(author: Author) -> None:
    hierarchy = await author.make("createHierarchy", **FULL)
    assert hierarchy == {
        **FULL,
        "id": hierarchy["id"],
        "owner": "STORE",
        "nodeCount": 0,
        "copiedFrom": None,
        "breadcrumbs": [{"id": hierarchy["id"], "name": "Garden", "slug": "garden"}],
        "createdAt": hierarchy["createdAt"],
        "updatedAt": hierarchy["createdAt"],
    }
    assert await author.seen(hierarchy["id"]) == hierarchy
    assert await author.children(hierarchy["id"]) == []
    other = await author.make("createHierarchy", name="Park")
    listed = await author.client.data("{ hierarchies { nodes { id } totalCount } }")
    assert listed["hierarchies"]["totalCount"] == 2
    assert {row["id"] for row in listed["hierarchies"]["nodes"]} == {hierarchy["id"], other["id"]}


async def test_a_hierarchy_requires_only_a_name(author: Author) -> None:
    for attributes in ({}, CLEARED, {"localizations": None}, {"description": ""}):
        hierarchy = await author.make("createHierarchy", name="Garden", **attributes)
        assert {name: hierarchy[name] for name in CLEARED} == CLEARED, attributes


async def test_hierarchies_can_share_names_and_slugs(author: Author) -> None:
    equal = [await author.make("createHierarchy", **FULL) for _ in range(2)]
    other = await author.make("createHierarchy", name="Park", slug="park")
    await author.make("updateHierarchy", hierarchyId=other["id"], name="Garden", slug="garden")
    seen = [await author.seen(id) for id in (equal[0]["id"], equal[1]["id"], other["id"])]
    assert {(hierarchy["name"], hierarchy["slug"]) for hierarchy in seen} == {("Garden", "garden")}


async def test_omitted_attributes_stay_and_null_clears(author: Author) -> None:
    changes: list[Input] = [
        {},
        {"name": "Park"},
        {"description": "Trees"},
        {"description": None},
        {"slug": "park"},
        {"slug": None},
        {"localizations": [{"locale": "fr", "name": None, "description": "Parc"}]},
        {"localizations": []},
        {"name": "Park", **CLEARED},
    ]
    for change in changes:
        hierarchy = await author.aged((await author.make("createHierarchy", **FULL))["id"])
        updated = await author.make("updateHierarchy", hierarchyId=hierarchy["id"], **change)
        assert await author.seen(hierarchy["id"]) == updated
        assert {name: updated[name] for name in FULL} == FULL | change
        assert updated["createdAt"] == hierarchy["createdAt"]
        assert (updated["updatedAt"] > hierarchy["updatedAt"]) is bool(change), change
    for change in ({"description": ""}, {"localizations": None}):
        hierarchy = await author.make("createHierarchy", **FULL)
        updated = await author.make("updateHierarchy", hierarchyId=hierarchy["id"], **change)
        assert [updated[name] for name in change] == [CLEARED[name] for name in change]


async def test_translations_can_be_read_immediately(author: Author) -> None:
    hierarchy = await author.make("createHierarchy", **FULL)
    document = 'query ($id: ID!) { hierarchy(id: $id) { name(locale: "fr-CA") } }'
    canadian = [{"locale": "fr-CA", "name": "Jardin du Québec"}]
    for name, localizations in (("Jardin", None), ("Jardin du Québec", canadian), ("Garden", [])):
        if localizations is not None:
            await author.make(
                "updateHierarchy", hierarchyId=hierarchy["id"], localizations=localizations
            )
        data = await author.client.data(document, id=hierarchy["id"])
        assert data["hierarchy"]["name"] == name


async def test_invalid_attributes_are_refused(author: Author) -> None:
    id = (await author.make("createHierarchy", **FULL))["id"]
    for bad, path in BAD_ATTRIBUTES.values():
        new = {"name": "Park", **bad}
        await author.refused("InvalidInput", path, "createHierarchy", **new)
        await author.refused("InvalidInput", path, "updateHierarchy", hierarchyId=id, **bad)
    nameless = {"hierarchyId": id, "name": None}
    message = await author.refused("InvalidInput", "name", "updateHierarchy", **nameless)
    assert message == "The name can not be empty."


async def test_unusual_attributes_are_stored_unchanged(author: Author) -> None:
    for attributes in ODD_ATTRIBUTES:
        created = await author.make("createHierarchy", **attributes)
        assert {name: created[name] for name in attributes} == attributes
        other = await author.make("createHierarchy", name="Garden")
        updated = await author.make("updateHierarchy", hierarchyId=other["id"], **attributes)
        assert {name: updated[name] for name in attributes} == attributes
        assert await author.seen(other["id"]) == updated


@pytest.mark.parametrize("mutation", ["updateHierarchy", "deleteHierarchy"])
async def test_unreadable_ids_are_refused_as_not_found_without_a_reason(
    author: Author, mutation: str
) -> None:
    garden = await factories.hierarchy(author.database, {"Roses": {}})
    unseen = {
        "unknown": uuid4(),
        "malformed": "garden",
        "of a node": node_id(garden, 1),
        "of another store": await factories.hierarchy(author.database, {}, store="other"),
        "hidden": await hidden_hierarchy(author.database),
    }
    for id in unseen.values():
        message = await author.refused("NotFound", "hierarchyId", mutation, hierarchyId=id)
        assert message == f"No hierarchy has the id {id}."


async def query_references(author: Author, hierarchy_id: object, product: str) -> dict[str, Any]:
    """Query every field that can lead to a hierarchy."""
    return await author.client.data(
        f"""
        query ($id: ID!, $root: ID!, $product: ID!) {{
            hierarchy(id: $root) {{ id }}
            root: node(id: $root) {{ id }}
            node(id: $id) {{ id }}
            nodes(ids: [$root, $id]) {{ id }}
            product: node(id: $product) {{ ... on Product {{ {PRODUCT} }} }}
            duplicationPreview(hierarchyId: $root) {{ nodeCount }}
            hierarchies {{ nodes {{ id }} totalCount }}
            jobs {{ nodes {{ status duplication {{ source {{ id }} }} }} }}
        }}
        """,
        root=str(hierarchy_id),
        id=str(node_id(UUID(str(hierarchy_id)), 2)),
        product=product,
    )


async def test_a_deleted_hierarchy_disappears_everywhere_and_its_copies_stay(
    author: Author,
) -> None:
    database = author.database
    garden = await factories.hierarchy(
        database, {"Trees": {"Oaks": {}}}, products={"Oaks": ["a"]}, curated={"Oaks": ["a"]}
    )
    await factories.pending_duplication(database, garden, include_products=True)
    await factories.ran_job(database)
    waiting = await factories.pending_duplication(database, garden)
    listed = await author.client.data("{ hierarchies { nodes { id copiedFrom { id } } } }")
    copy, source = listed["hierarchies"]["nodes"]
    assert (source["id"], copy["copiedFrom"]) == (str(garden), {"id": str(garden)})
    (edge,) = (await author.seen(node_id(garden, 2)))["products"]["edges"]
    product = edge["node"]["id"]
    before = await query_references(author, garden, product)
    assert before["product"]["nodes"]["totalCount"] == 2
    assert None not in [before["hierarchy"], before["root"], before["node"], *before["nodes"]]

    assert await author.make("deleteHierarchy", hierarchyId=garden) == str(garden)
    copied_node = str(node_id(UUID(copy["id"]), 2))
    assert await query_references(author, garden, product) == {
        "hierarchy": None,
        "root": None,
        "node": None,
        "nodes": [None, None],
        "product": before["product"] | {"nodes": {"nodes": [{"id": copied_node}], "totalCount": 1}},
        "duplicationPreview": None,
        "hierarchies": {"nodes": [{"id": copy["id"]}], "totalCount": 1},
        "jobs": {
            "nodes": [
                {"status": "PENDING", "duplication": {"source": None}},
                {"status": "SUCCESS", "duplication": {"source": None}},
            ]
        },
    }
    assert (await author.seen(copy["id"]))["copiedFrom"] is None
    assert (await author.seen(copied_node))["products"]["edges"] == [edge]

    for mutation in ("updateHierarchy", "deleteHierarchy"):
        await author.refused("NotFound", "hierarchyId", mutation, hierarchyId=garden)
    for parent in (garden, node_id(garden, 1)):
        await author.refused("NotFound", "parentId", "createNode", parentId=parent, name="Ferns")
    await author.refused("NotFound", "nodeId", "deleteNode", nodeId=node_id(garden, 1))

    assert await factories.ran_job(database) == waiting.id
    document = "query ($id: ID!) { job(id: $id) { status errors { nodes { code message } } } }"
    failed = (await author.client.data(document, id=str(waiting.id)))["job"]
    assert failed["status"] == "FAILED"
    (error,) = failed["errors"]["nodes"]
    assert error["code"] == "NOT_FOUND"
    assert str(garden) in error["message"]


async def test_only_the_rows_of_a_deleted_hierarchy_are_swept(author: Author) -> None:
    database = author.database
    trees: dict[str, Any] = {"Trees": {"Oaks": {}, "Elms": {}}}
    stock: dict[str, Any] = {"products": {"Oaks": ["a", "b"]}, "curated": {"Oaks": ["b"]}}
    await factories.hierarchy(database, trees, **stock)
    await factories.hierarchy(database, trees, store=ORGANIZATION, **stock)
    before = await everything(database)
    garden = await author.make("createHierarchy", name="Short-lived")
    elms = await author.node(await author.node(garden["id"], "Trees"), "Elms")
    product_ids = [str(row.id) for row in before["product"] if row.store == factories.STORE]
    await author.make("attachProducts", nodeId=elms, productIds=product_ids)
    await author.make("updateNode", nodeId=elms, curatedProductIds=product_ids[:1])
    filled = await everything(database)
    for table in ("hierarchy", "node", "node_product", "product_node"):
        assert len(filled[table]) > len(before[table])

    await author.make("deleteHierarchy", hierarchyId=garden["id"])
    await Sweeper(database).sweep()
    assert await everything(database) == before
