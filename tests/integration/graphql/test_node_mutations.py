"""Creating, updating, moving and deleting nodes over HTTP, and each refusal."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from app.domain.hierarchies import LAST_NODE_NO, node_id, node_ref
from app.main import Gateway
from app.queue.sweeper import Sweeper
from tests import factories
from tests.support.authoring import (
    BAD_ATTRIBUTES,
    ODD_ATTRIBUTES,
    Author,
    Input,
    everything,
    hidden_hierarchy,
)
from tests.support.clients import GraphQLClient

FULL: Input = {
    "name": "Trees",
    "description": "All that is tall",
    "slug": "trees",
    "sortOrder": 7,
    "localizations": [
        {"locale": "de-DE", "name": "Bäume", "description": None},
        {"locale": "fr", "name": None, "description": "Tout"},
    ],
}
CLEARED: Input = {"description": None, "slug": None, "sortOrder": None, "localizations": []}


@pytest.fixture
def author(idle_gateway: Gateway, idle_client: GraphQLClient) -> Author:
    """A mutation client of a gateway whose queue does not run."""
    return Author(idle_client, idle_gateway.database)


@pytest.fixture
async def garden(author: Author) -> str:
    """The id of an empty hierarchy."""
    id: str = (await author.make("createHierarchy", name="Garden", slug="garden"))["id"]
    return id


async def test_a_created_node_has_the_input_attributes(author: Author, garden: str) -> None:
    node = await author.make("createNode", parentId=garden, **FULL)
    steps = [{"id": garden, "name": "Garden", "slug": "garden"}]
    steps.append({"id": node["id"], "name": "Trees", "slug": "trees"})
    assert node == {
        **FULL,
        "id": node["id"],
        "owner": "STORE",
        "breadcrumbs": steps,
        "parent": {"id": garden},
        "hierarchy": {"id": garden, "nodeCount": 1},
        "depth": 1,
        "products": {"edges": [], "totalCount": 0},
        "createdAt": node["createdAt"],
        "updatedAt": node["createdAt"],
    }
    assert await author.seen(node["id"]) == node
    child = await author.make("createNode", parentId=node["id"], **FULL)
    assert (child["parent"], child["depth"]) == ({"id": node["id"]}, 2)
    assert child["breadcrumbs"] == [*steps, {**steps[-1], "id": child["id"]}]
    assert await author.counts(garden) == (2, 0)


async def test_a_node_requires_only_a_name(author: Author, garden: str) -> None:
    for number, attributes in enumerate(
        ({}, CLEARED, {"localizations": None}, {"description": "", "sortOrder": None})
    ):
        node = await author.make("createNode", parentId=garden, name=f"{number}", **attributes)
        assert {name: node[name] for name in CLEARED} == CLEARED, attributes


async def test_omitted_attributes_stay_and_null_clears(author: Author, garden: str) -> None:
    changes: list[Input] = [
        {},
        {"name": "Shrubs"},
        {"name": "Trees"},
        {"description": "Low"},
        {"description": None},
        {"slug": "shrubs"},
        {"slug": None},
        {"sortOrder": -(2**31)},
        {"sortOrder": 0},
        {"sortOrder": None},
        {"localizations": [{"locale": "fr", "name": "Arbres", "description": None}]},
        {"localizations": []},
        {"name": "Shrubs", **CLEARED},
    ]
    for change in changes:
        parent = (await author.make("createHierarchy", name="Park"))["id"]
        node = await author.aged(await author.node(parent, **FULL))
        updated = await author.make("updateNode", nodeId=node["id"], **change)
        assert await author.seen(node["id"]) == updated
        assert {name: updated[name] for name in FULL} == FULL | change
        assert updated["createdAt"] == node["createdAt"]
        assert (updated["updatedAt"] > node["updatedAt"]) is bool(change), change
        others = ("id", "parent", "depth", "hierarchy", "owner")
        assert [updated[name] for name in others] == [node[name] for name in others]
    for change in ({"description": ""}, {"localizations": None}):
        parent = (await author.make("createHierarchy", name="Park"))["id"]
        id = await author.node(parent, **FULL)
        updated = await author.make("updateNode", nodeId=id, **change)
        assert [updated[name] for name in change] == [CLEARED[name] for name in change]


async def test_invalid_attributes_are_refused(author: Author, garden: str) -> None:
    id = await author.node(garden, **FULL)
    for bad, path in BAD_ATTRIBUTES.values():
        new = {"parentId": garden, "name": "Shrubs", **bad}
        await author.refused("InvalidInput", path, "createNode", **new)
        await author.refused("InvalidInput", path, "updateNode", nodeId=id, **bad)
    message = await author.refused("InvalidInput", "name", "updateNode", nodeId=id, name=None)
    assert message == "The name can not be empty."


async def test_unusual_attributes_are_stored_unchanged(author: Author, garden: str) -> None:
    for attributes in ODD_ATTRIBUTES:
        created = await author.make("createNode", parentId=garden, **attributes)
        assert {name: created[name] for name in attributes} == attributes
        other = await author.node(created["id"], "Other")
        updated = await author.make("updateNode", nodeId=other, **attributes)
        assert {name: updated[name] for name in attributes} == attributes
        assert await author.seen(other) == updated


async def test_siblings_cannot_share_a_name_or_slug(author: Author, garden: str) -> None:
    await author.node(garden, "Trees", slug="trees")
    roses = await author.node(garden, "Roses", slug="roses")
    below = await author.node(roses, "Trees", slug="trees")
    refusals: list[tuple[str, str, Input]] = [
        ("name", "createNode", {"parentId": garden, "name": "Trees"}),
        ("name", "createNode", {"parentId": garden, "name": "Trees", "slug": "trees"}),
        ("slug", "createNode", {"parentId": garden, "name": "Others", "slug": "trees"}),
        ("name", "updateNode", {"nodeId": roses, "name": "Trees"}),
        ("slug", "updateNode", {"nodeId": roses, "slug": "trees"}),
    ]
    for path, mutation, input in refusals:
        message = await author.refused("InvalidInput", path, mutation, **input)
        taken = {"name": "Trees", "slug": "trees"}[path]
        assert message == f"A sibling has the {path} {taken!r} already."
    message = await author.refused(
        "InvalidInput", "parentId", "moveNode", nodeId=below, parentId=garden
    )
    assert message == "A sibling has the name 'Trees' already."
    await author.make("updateNode", nodeId=below, name="Others")
    message = await author.refused(
        "InvalidInput", "parentId", "moveNode", nodeId=below, parentId=garden
    )
    assert message == "A sibling has the slug 'trees' already."
    await author.make("updateNode", nodeId=below, slug=None)
    await author.make("moveNode", nodeId=below, parentId=garden)
    assert await author.children(garden) == ["Others", "Roses", "Trees"]


async def test_nodes_that_are_not_siblings_can_share_a_name_and_slug(
    author: Author, garden: str
) -> None:
    same = {"name": "Garden", "slug": "garden"}
    top = await author.node(garden, **same)
    await author.node(await author.node(top, **same), **same)
    other = (await author.make("createHierarchy", **same))["id"]
    await author.node(other, **same)
    # Names are compared exactly, and nodes without a slug never clash.
    for name in ("garden", "Garden ", "Gärden", "GARDEN"):
        await author.node(top, name)
    # A node does not clash with itself.
    updated = await author.make("updateNode", nodeId=top, **same)
    assert await author.make("moveNode", nodeId=top, parentId=garden) == {
        **updated,
        "updatedAt": (await author.seen(top))["updatedAt"],
    }


async def test_a_name_is_available_again_after_rename_move_or_deletion(
    author: Author, garden: str
) -> None:
    same = {"name": "Trees", "slug": "trees"}
    first = await author.node(garden, **same)
    await author.make("updateNode", nodeId=first, name="Old trees", slug="old")
    second = await author.node(garden, **same)
    await author.make("moveNode", nodeId=second, parentId=first)
    third = await author.node(garden, **same)
    await author.make("deleteNode", nodeId=third)
    await author.node(garden, **same)
    assert await author.children(garden) == ["Trees", "Old trees"]


async def test_siblings_are_ordered_by_sort_order_then_latest_edit(
    author: Author, garden: str
) -> None:
    ids = {
        name: await author.node(garden, name, sortOrder=order)
        for name, order in (("a", None), ("b", 1), ("c", 2**31 - 1), ("d", None), ("e", -(2**31)))
    }
    apart = await author.node(garden, "apart")
    ids["f"] = await author.node(apart, "f", sortOrder=1)
    await author.make("deleteNode", nodeId=await author.node(garden, "gone"))
    steps: list[tuple[str, Input, str]] = [
        ("updateNode", {"nodeId": apart, "sortOrder": 2**31 - 1}, "apart c b e d a"),
        ("updateNode", {"nodeId": ids["a"], "name": "a"}, "apart c b e a d"),
        ("updateNode", {"nodeId": ids["d"]}, "apart c b e a d"),
        ("updateNode", {"nodeId": ids["c"], "sortOrder": None}, "apart b e c a d"),
        ("updateNode", {"nodeId": ids["d"], "description": "last"}, "apart b e d c a"),
        ("moveNode", {"nodeId": ids["f"], "parentId": garden}, "apart f b e d c a"),
        ("updateNode", {"nodeId": ids["b"], "localizations": []}, "apart b f e d c a"),
        ("moveNode", {"nodeId": ids["a"], "parentId": garden}, "apart b f e a d c"),
        ("moveNode", {"nodeId": apart, "parentId": garden, "sortOrder": 0}, "b f apart e a d c"),
        ("moveNode", {"nodeId": ids["b"], "parentId": apart}, "f apart e a d c"),
        (
            "moveNode",
            {"nodeId": ids["b"], "parentId": garden, "sortOrder": None},
            "f apart e b a d c",
        ),
    ]
    for mutation, input, order in steps:
        await author.make(mutation, **input)
        assert await author.children(garden) == order.split(), (mutation, input)


async def test_siblings_in_a_copy_are_ordered_by_latest_edit_too(
    author: Author, garden: str
) -> None:
    for name in "abc":
        await author.node(garden, name)
    await factories.pending_duplication(author.database, UUID(garden))
    await factories.ran_job(author.database)
    listed = await author.client.data("{ hierarchies { nodes { id } } }")
    copy = UUID(listed["hierarchies"]["nodes"][0]["id"])
    assert str(copy) != garden
    assert await author.children(copy) == ["c", "b", "a"]
    await author.make("updateNode", nodeId=node_id(copy, 1), description="edited")
    assert await author.children(copy) == ["a", "c", "b"]
    await author.node(copy, "d")
    assert await author.children(copy) == ["d", "a", "c", "b"]
    assert await author.children(garden) == ["c", "b", "a"]


async def test_an_unreadable_parent_is_refused_as_not_found_without_a_reason(
    author: Author, garden: str
) -> None:
    (a,) = await author.chain(garden, "a")
    theirs = await factories.hierarchy(author.database, {"Roses": {}}, store="other")
    hidden = await hidden_hierarchy(author.database)
    gone = await author.node(a, "gone")
    await author.make("deleteNode", nodeId=gone)
    unseen = {
        "unknown": uuid4(),
        "malformed": "garden",
        "a number that no node has": node_id(UUID(garden), 99),
        "deleted": gone,
        "of another store": theirs,
        "a node of another store": node_id(theirs, 1),
        "a number that no node of another store has": node_id(theirs, 99),
        "hidden": hidden,
        "a node of a hidden one": node_id(hidden, 1),
    }
    for id in unseen.values():
        for mutation, input in (("createNode", {"name": "b"}), ("moveNode", {"nodeId": a})):
            message = await author.refused("NotFound", "parentId", mutation, parentId=id, **input)
            assert message == f"No hierarchy or node has the id {id}."


async def test_an_unreadable_node_is_refused_as_not_found_without_a_reason(
    author: Author, garden: str
) -> None:
    theirs = await factories.hierarchy(author.database, {"Roses": {}}, store="other")
    hidden = await hidden_hierarchy(author.database)
    unseen = {
        "unknown": uuid4(),
        "malformed": "garden",
        "a hierarchy": garden,
        "a number that no node has": node_id(UUID(garden), 99),
        "a hierarchy of another store": theirs,
        "a node of another store": node_id(theirs, 1),
        "a hidden hierarchy": hidden,
    }
    changes: dict[str, Input] = {
        "updateNode": {"name": "b"},
        "moveNode": {"parentId": garden},
        "deleteNode": {},
        "attachProducts": {"productIds": [str(uuid4())]},
        "detachProducts": {"productIds": [str(uuid4())]},
    }
    for id in unseen.values():
        for mutation, input in changes.items():
            message = await author.refused("NotFound", "nodeId", mutation, nodeId=id, **input)
            assert message == f"No node has the id {id}."


async def test_deleting_a_node_deletes_its_descendants_and_nothing_else(author: Author) -> None:
    database = author.database
    tree: dict[str, Any] = {"a": {"b": {"c": {}, "d": {}}}, "e": {"f": {}}}
    stock = {"a": ["1"], "b": ["1", "2"], "d": ["2", "3"], "e": ["1"], "f": ["2", "3"]}
    garden = await factories.hierarchy(database, tree, products=stock, curated={"d": ["3"]})
    await factories.hierarchy(database, tree, products=stock)
    before = await everything(database)
    assert await author.counts(garden) == (6, 8)
    ids = {row.name: node_id(garden, row.node_no) for row in before["node"]}
    root = next(row for row in before["hierarchy"] if row.id == garden)
    deleted = {node_ref(ids[name]).node_no for name in "bcd"}

    assert await author.make("deleteNode", nodeId=ids["b"]) == str(ids["b"])
    assert await author.counts(garden) == (3, 4)
    products = [str(row.id) for row in sorted(before["product"], key=lambda row: row.sku)]
    nodes_by_product = [await author.held_by(product) for product in products]
    # Nodes left in this hierarchy + nodes in the other one, where nothing was deleted.
    assert [len(nodes) for nodes in nodes_by_product] == [2 + 3, 1 + 3, 1 + 2]
    await Sweeper(database).sweep()
    after = await everything(database)
    for table in ("node", "node_product", "product_node"):
        assert after[table] == [
            row
            for row in before[table]
            if row.hierarchy_pk != root.pk or row.node_no not in deleted
        ]
    assert [await author.held_by(product) for product in products] == nodes_by_product
    for name, node in ids.items():
        assert (await author.seen(node) is None) is (name in "bcd")
    assert await author.children(ids["a"]) == []
    for name in "bcd":
        await author.refused("NotFound", "nodeId", "deleteNode", nodeId=ids[name])
    for name in "ea":
        await author.make("deleteNode", nodeId=ids[name])
    assert await author.counts(garden) == (0, 0)


async def test_node_ids_are_never_reused(author: Author, garden: str) -> None:
    ids = [await author.node(garden, name) for name in "abc"]

    async def create_and_delete(parent: object = garden) -> None:
        ids.append(await author.node(parent, "new"))
        await author.make("deleteNode", nodeId=ids[-1])
        assert len(set(ids)) == len(ids)

    # Delete the newest node, then all, then a subtree with the highest number.
    await create_and_delete()
    await author.make("deleteNode", nodeId=ids[2])
    await create_and_delete()
    for id in ids[:2]:
        await author.make("deleteNode", nodeId=id)
    await create_and_delete()
    top = await author.node(garden, "top")
    ids += [top, await author.node(top, "below")]
    await author.make("deleteNode", nodeId=top)
    await create_and_delete()
    # A number is not reused after a refused creation either.
    await author.refused("InvalidInput", "name", "createNode", parentId=garden, name="")
    await create_and_delete()


async def test_new_nodes_in_copies_and_imports_are_numbered_after_the_last(author: Author) -> None:
    database = author.database
    imported = await factories.hierarchy(database, {"a": {"b": {}}, "c": {}})
    assert await author.node(imported, "d") == str(node_id(imported, 4))
    await author.make("deleteNode", nodeId=node_id(imported, 4))
    await factories.pending_duplication(database, imported)
    await factories.ran_job(database)
    listed = await author.client.data("{ hierarchies { nodes { id } } }")
    copy = UUID(listed["hierarchies"]["nodes"][0]["id"])
    assert copy != imported
    assert await author.node(copy, "d") == str(node_id(copy, 4))
    assert await author.node(imported, "d") == str(node_id(imported, 5))
    assert await author.counts(copy) == await author.counts(imported) == (4, 0)


async def test_a_hierarchy_out_of_node_numbers_accepts_no_more_nodes(
    author: Author, garden: str
) -> None:
    await factories.edited(author.database, UUID(garden), last_node_no=LAST_NODE_NO - 1)
    last = await author.node(garden, "last")
    assert node_ref(UUID(last)).node_no == LAST_NODE_NO
    assert (await author.seen(last))["name"] == "last"
    for parent in (garden, last):
        await author.refused("InvalidInput", "parentId", "createNode", parentId=parent, name="more")
    await author.make("deleteNode", nodeId=last)
    await author.refused("InvalidInput", "parentId", "createNode", parentId=garden, name="more")
