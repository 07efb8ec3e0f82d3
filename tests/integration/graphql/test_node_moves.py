"""moveNode: descendants move along, breadcrumbs follow immediately, and no cycle can form."""

from typing import Any

import pytest

from app.main import Gateway
from tests.support.authoring import NODE, Author
from tests.support.clients import GraphQLClient


@pytest.fixture
def author(idle_gateway: Gateway, idle_client: GraphQLClient) -> Author:
    """A mutation client of a gateway whose queue does not run."""
    return Author(idle_client, idle_gateway.database)


@pytest.fixture
async def garden(author: Author) -> str:
    """The id of an empty hierarchy."""
    id: str = (await author.make("createHierarchy", name="Garden"))["id"]
    return id


async def test_breadcrumbs_follow_every_rename_and_move_immediately(
    author: Author, garden: str
) -> None:
    a, b, c, d = await author.chain(garden, "abcd")
    (x,) = await author.chain(garden, "x")
    assert await author.way(d) == ["Garden", "a", "b", "c", "d"]
    await author.make("updateNode", nodeId=a, name="A")
    assert await author.way(d) == ["Garden", "A", "b", "c", "d"]
    await author.make("updateHierarchy", hierarchyId=garden, name="Park")
    assert await author.way(d) == ["Park", "A", "b", "c", "d"]
    await author.make("moveNode", nodeId=b, parentId=x)
    assert await author.way(d) == ["Park", "x", "b", "c", "d"]
    await author.make("moveNode", nodeId=c, parentId=garden)
    assert await author.way(d) == ["Park", "c", "d"]
    assert await author.way(b) == ["Park", "x", "b"]


async def test_descendants_move_with_their_node_and_have_new_depths(
    author: Author, garden: str
) -> None:
    a, b, c, d = await author.chain(garden, "abcd")
    y = await author.node(c, "y", sortOrder=3)
    x, z = await author.chain(garden, "xz")

    async def depths() -> list[int]:
        return [(await author.seen(id))["depth"] for id in (a, b, c, d, y, x, z)]

    assert await depths() == [1, 2, 3, 4, 4, 1, 2]
    before = await author.aged(b)
    moved = await author.make("moveNode", nodeId=b, parentId=z)
    assert moved == await author.seen(b)
    assert moved["updatedAt"] > before["updatedAt"]
    assert moved["parent"] == {"id": z}
    changed = ("parent", "depth", "breadcrumbs", "updatedAt")
    assert {**moved, **{name: before[name] for name in changed}} == before
    assert await depths() == [1, 3, 4, 5, 5, 1, 2]
    assert [await author.children(id) for id in (garden, a, z, c)] == [
        ["x", "a"],
        [],
        ["b"],
        ["y", "d"],
    ]
    await author.make("moveNode", nodeId=c, parentId=garden)
    assert await depths() == [1, 3, 1, 2, 2, 1, 2]
    await author.make("moveNode", nodeId=x, parentId=a)
    assert await depths() == [1, 4, 1, 2, 2, 2, 3]
    assert await author.counts(garden) == (7, 0)
    document = "query ($id: ID!) { hierarchy(id: $id) { nodes { nodes { name depth } } } }"
    nodes = (await author.client.data(document, id=garden))["hierarchy"]["nodes"]["nodes"]
    assert [node["depth"] for node in nodes] == [1, 1, 2, 2, 2, 3, 4]


async def test_each_mutation_of_a_request_returns_the_tree_as_it_left_it(
    author: Author, garden: str
) -> None:
    a, b, _ = await author.chain(garden, "abc")
    x = await author.node(garden, "x")
    document = f"""
        mutation ($garden: ID!, $a: ID!, $b: ID!, $x: ID!) {{
            renamed: updateNode(input: {{nodeId: $a, name: "A"}}) {{ ...Shown }}
            moved: moveNode(input: {{nodeId: $b, parentId: $x}}) {{ ...Shown }}
            clash: moveNode(input: {{nodeId: $x, parentId: $b}}) {{ ...Shown }}
            added: createNode(input: {{parentId: $b, name: "new"}}) {{ ...Shown }}
            named: updateHierarchy(input: {{hierarchyId: $garden, name: "Park"}}) {{
                hierarchy {{ ...Tree }}
            }}
            deleted: deleteNode(input: {{nodeId: $b}}) {{ deletedId }}
            last: updateNode(input: {{nodeId: $x, name: "X"}}) {{ ...Shown }}
        }}
        fragment Shown on NodePayload {{
            errors {{ __typename }} node {{ hierarchy {{ ...Tree }} ...Names }}
        }}
        fragment Names on HierarchyNode {{ {NODE} }}
        fragment Tree on Hierarchy {{ nodeCount nodes {{ nodes {{ breadcrumbs {{ name }} }} }} }}
    """
    data = await author.client.data(document, garden=garden, a=a, b=b, x=x)

    def paths(hierarchy: Any) -> list[str]:
        nodes = hierarchy["nodes"]["nodes"]
        assert hierarchy["nodeCount"] == len(nodes)
        return sorted("/".join(step["name"] for step in node["breadcrumbs"]) for node in nodes)

    shown = {
        "renamed": ["Garden/A", "Garden/A/b", "Garden/A/b/c", "Garden/x"],
        "moved": ["Garden/A", "Garden/x", "Garden/x/b", "Garden/x/b/c"],
        "added": ["Garden/A", "Garden/x", "Garden/x/b", "Garden/x/b/c", "Garden/x/b/new"],
        "last": ["Park/A", "Park/X"],
    }
    for alias, expected in shown.items():
        assert data[alias]["errors"] == []
        assert paths(data[alias]["node"]["hierarchy"]) == expected, alias
    assert data["clash"] == {"node": None, "errors": [{"__typename": "InvalidInput"}]}
    assert paths(data["named"]["hierarchy"]) == [
        path.replace("Garden", "Park") for path in shown["added"]
    ]
    assert data["deleted"] == {"deletedId": b}


async def test_a_node_cannot_move_below_itself(author: Author, garden: str) -> None:
    a, b, c, d = await author.chain(garden, "abcd")
    for node, parent in ((a, a), (a, b), (a, d), (b, d), (c, c)):
        message = await author.refused(
            "InvalidInput", "parentId", "moveNode", nodeId=node, parentId=parent, sortOrder=1
        )
        assert message == "A node cannot move below itself."


async def test_a_node_cannot_move_to_another_hierarchy(author: Author, garden: str) -> None:
    (a,) = await author.chain(garden, "a")
    park = (await author.make("createHierarchy", name="Park"))["id"]
    (b,) = await author.chain(park, "b")
    for parent in (park, b):
        message = await author.refused(
            "InvalidInput", "parentId", "moveNode", nodeId=a, parentId=parent
        )
        assert message == "A node cannot move to another hierarchy."
