"""Hierarchies made, changed and deleted over HTTP: what is read then, and every rule broken."""

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
    """Somebody who changes the catalogue of a gateway whose queue nobody runs."""
    return Author(idle_client, idle_gateway.database)


async def test_a_hierarchy_is_made_as_it_was_asked_for(author: Author) -> None:
    made = await author.make("createHierarchy", **FULL)
    assert made == {
        **FULL,
        "id": made["id"],
        "owner": "STORE",
        "nodeCount": 0,
        "copiedFrom": None,
        "breadcrumbs": [{"id": made["id"], "name": "Garden", "slug": "garden"}],
        "createdAt": made["createdAt"],
        "updatedAt": made["createdAt"],
    }
    assert await author.seen(made["id"]) == made
    assert await author.children(made["id"]) == []
    other = await author.make("createHierarchy", name="Park")
    listed = await author.client.data("{ hierarchies { nodes { id } totalCount } }")
    assert listed["hierarchies"]["totalCount"] == 2
    assert {row["id"] for row in listed["hierarchies"]["nodes"]} == {made["id"], other["id"]}


async def test_a_hierarchy_needs_no_more_than_a_name(author: Author) -> None:
    for said in ({}, CLEARED, {"localizations": None}, {"description": ""}):
        made = await author.make("createHierarchy", name="Garden", **said)
        assert {name: made[name] for name in CLEARED} == CLEARED, said


async def test_roots_may_share_everything(author: Author) -> None:
    made = [await author.make("createHierarchy", **FULL) for _ in range(2)]
    other = await author.make("createHierarchy", name="Park", slug="park")
    await author.make("updateHierarchy", hierarchyId=other["id"], name="Garden", slug="garden")
    seen = [await author.seen(id) for id in (made[0]["id"], made[1]["id"], other["id"])]
    assert {(one["name"], one["slug"]) for one in seen} == {("Garden", "garden")}


async def test_what_is_omitted_stays_and_null_clears(author: Author) -> None:
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
        made = await author.aged((await author.make("createHierarchy", **FULL))["id"])
        updated = await author.make("updateHierarchy", hierarchyId=made["id"], **change)
        assert await author.seen(made["id"]) == updated
        assert {name: updated[name] for name in FULL} == FULL | change
        assert updated["createdAt"] == made["createdAt"]
        assert (updated["updatedAt"] > made["updatedAt"]) is bool(change), change
    for change in ({"description": ""}, {"localizations": None}):
        made = await author.make("createHierarchy", **FULL)
        updated = await author.make("updateHierarchy", hierarchyId=made["id"], **change)
        assert [updated[name] for name in change] == [CLEARED[name] for name in change]


async def test_translations_are_read_by_their_locales_at_once(author: Author) -> None:
    made = await author.make("createHierarchy", **FULL)
    document = 'query ($id: ID!) { hierarchy(id: $id) { name(locale: "fr-CA") } }'
    said = [{"locale": "fr-CA", "name": "Jardin du Québec"}]
    for name, localizations in (("Jardin", None), ("Jardin du Québec", said), ("Garden", [])):
        if localizations is not None:
            await author.make(
                "updateHierarchy", hierarchyId=made["id"], localizations=localizations
            )
        found = await author.client.data(document, id=made["id"])
        assert found["hierarchy"]["name"] == name


async def test_a_hierarchy_refuses_what_it_can_not_be(author: Author) -> None:
    id = (await author.make("createHierarchy", **FULL))["id"]
    for bad, path in BAD_ATTRIBUTES.values():
        new = {"name": "Park", **bad}
        await author.refused("InvalidInput", path, "createHierarchy", **new)
        await author.refused("InvalidInput", path, "updateHierarchy", hierarchyId=id, **bad)
    nameless = {"hierarchyId": id, "name": None}
    message = await author.refused("InvalidInput", "name", "updateHierarchy", **nameless)
    assert message == "The name can not be empty."


async def test_odd_attributes_are_kept_as_they_are(author: Author) -> None:
    for odd in ODD_ATTRIBUTES:
        made = await author.make("createHierarchy", **odd)
        assert {name: made[name] for name in odd} == odd
        other = await author.make("createHierarchy", name="Garden")
        updated = await author.make("updateHierarchy", hierarchyId=other["id"], **odd)
        assert {name: updated[name] for name in odd} == odd
        assert await author.seen(other["id"]) == updated


@pytest.mark.parametrize("mutation", ["updateHierarchy", "deleteHierarchy"])
async def test_what_is_not_seen_can_not_be_changed_and_nothing_is_said_of_why(
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


async def all_that_hangs_on(author: Author, hierarchy_id: object, product: str) -> dict[str, Any]:
    """Where a hierarchy is to be met besides the list of all."""
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


async def test_a_deleted_hierarchy_is_met_nowhere_and_its_copies_stay(author: Author) -> None:
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
    (held,) = (await author.seen(node_id(garden, 2)))["products"]["edges"]
    product = held["node"]["id"]
    before = await all_that_hangs_on(author, garden, product)
    assert before["product"]["nodes"]["totalCount"] == 2
    assert None not in [before["hierarchy"], before["root"], before["node"], *before["nodes"]]

    assert await author.make("deleteHierarchy", hierarchyId=garden) == str(garden)
    kept = str(node_id(UUID(copy["id"]), 2))
    assert await all_that_hangs_on(author, garden, product) == {
        "hierarchy": None,
        "root": None,
        "node": None,
        "nodes": [None, None],
        "product": before["product"] | {"nodes": {"nodes": [{"id": kept}], "totalCount": 1}},
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
    assert (await author.seen(kept))["products"]["edges"] == [held]

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


async def test_the_rows_of_a_deleted_hierarchy_are_swept_and_no_others(author: Author) -> None:
    database = author.database
    trees: dict[str, Any] = {"Trees": {"Oaks": {}, "Elms": {}}}
    stock: dict[str, Any] = {"products": {"Oaks": ["a", "b"]}, "curated": {"Oaks": ["b"]}}
    await factories.hierarchy(database, trees, **stock)
    await factories.hierarchy(database, trees, store=ORGANIZATION, **stock)
    before = await everything(database)
    garden = await author.make("createHierarchy", name="Short-lived")
    elms = await author.node(await author.node(garden["id"], "Trees"), "Elms")
    known = [str(row.id) for row in before["product"] if row.store == factories.STORE]
    await author.make("attachProducts", nodeId=elms, productIds=known)
    await author.make("updateNode", nodeId=elms, curatedProductIds=known[:1])
    grown = await everything(database)
    for table in ("hierarchy", "node", "node_product", "product_node"):
        assert len(grown[table]) > len(before[table])

    await author.make("deleteHierarchy", hierarchyId=garden["id"])
    await Sweeper(database).sweep()
    assert await everything(database) == before
