"""Every connection of the schema: its pages, its cursors, and what it reads."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import hypothesis
import orjson
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck
from hypothesis import given as forall
from hypothesis import strategies as st
from sqlmodel import Session, col, select

from app.domain.hierarchies import node_id
from app.main import Gateway
from app.settings import Settings
from app.storage import job_errors
from app.storage.engine.database import Database, now
from app.storage.tables import Hierarchy, JobError, Product
from tests import factories
from tests.support.clients import GraphQLClient, client_of
from tests.support.databases import NewDatabase
from tests.support.gateway import gateway_of, reads_of

MOST = 100
ALL = """
    edges { cursor node { id } }
    nodes { id }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    totalCount
"""
LISTS = [
    "hierarchies",
    "jobs",
    "jobs, oldest first",
    "children of a root",
    "children of a node",
    "nodes of a hierarchy",
    "jobs of a hierarchy",
    "products of a node",
    "nodes of a product",
    "errors of a job",
]


@dataclass(frozen=True)
class Listed:
    """A connection field, and the ids of the rows in it, in their order."""

    field: str
    ids: Sequence[str]
    holder: str = "*"
    """The selection that the field stands in, at the place of the `*`."""
    also: str = ""
    """Arguments beside those that choose the page."""

    def document(self, selected: str) -> str:
        window = "first: $first, after: $after, last: $last, before: $before"
        listed = f"list: {self.field}({window} {self.also}) {{ {selected} }}"
        return f"""
            query ($first: Int, $after: String, $last: Int, $before: String) {{
                {self.holder.replace("*", listed)}
            }}
        """

    async def of(
        self, client: GraphQLClient, *, selected: str = ALL, **window: Any
    ) -> dict[str, Any]:
        found = await client.data(self.document(selected), **window)
        while "list" not in found:
            (found,) = found.values()
        listed: dict[str, Any] = found["list"]
        return listed

    async def cursors(self, client: GraphQLClient) -> list[str]:
        edges = (await self.of(client, selected="edges { cursor }", first=MOST))["edges"]
        return [edge["cursor"] for edge in edges]

    async def refusal(self, client: GraphQLClient, **window: Any) -> dict[str, Any]:
        """What the one error says of itself."""
        extensions: dict[str, Any] = (await client.refusal(self.document(ALL), **window))[
            "extensions"
        ]
        return extensions


def refused(argument: str) -> dict[str, Any]:
    return {"code": "INVALID_INPUT", "argument": [argument]}


def field_of(id: object, kind: str, field: str, ids: Iterable[object]) -> Listed:
    return Listed(field, list(map(str, ids)), f'node(id: "{id}") {{ ... on {kind} {{ * }} }}')


async def stocked(database: Database) -> dict[str, Listed]:
    """A store with some of everything, and its lists. Another store has as much of its own."""
    await stocked_store(database, "other")
    return await stocked_store(database, factories.STORE)


async def stocked_store(database: Database, store: str) -> dict[str, Listed]:
    garden = await factories.hierarchy(
        database,
        {"a": {two: {} for two in ("aa", "ab", "ac", "ad", "ae", "af")}, "b": {}, "c": {}, "d": {}},
        store=store,
        products={"a": [f"sku {n}" for n in range(6)], "ab": ["sku 0"], "d": ["sku 0"]},
        curated={"a": ["sku 5", "sku 1", "sku 3"]},
    )
    parks = [
        await factories.hierarchy(database, {"p": {}}, store=store, products={"p": ["sku 0"]})
        for _ in range(5)
    ]
    a, aa, ab, ac, ad, ae, af, b, c, d = (node_id(garden, no) for no in range(1, 11))
    # Siblings: by sort order, then the latest edit, then as they were imported.
    await factories.edited(database, c)
    for node, sort_order in ((d, 1), (ad, 0), (af, -1), (ab, -1)):
        await factories.edited(database, node, sort_order=sort_order)

    about_garden = [await factories.pending_duplication(database, garden, store=store)]
    await factories.ran_job(database, store=store)
    failed = await factories.pending_duplication(database, parks[0], store=store)
    await factories.deleted(database, parks[0])
    await factories.ran_job(database, store=store)
    about_garden += [
        await factories.pending_duplication(database, garden, store=store) for _ in range(4)
    ]

    def rest(session: Session) -> tuple[Sequence[Hierarchy], Sequence[UUID], Sequence[UUID]]:
        # Two and two of one instant: only their ids tell them apart.
        for pair in (parks[1:3], parks[3:5]):
            session.exec(
                sa.update(Hierarchy)
                .where(col(Hierarchy.id).in_(pair))
                .values(created_at=now(session))
            )
        for number in range(4):
            job_errors.add(session, failed, f"CODE_{number}", "It did not work.", now(session))
        hierarchies = select(Hierarchy).where(Hierarchy.store == store)
        products = select(Product.id).where(Product.store == store).order_by(col(Product.sku))
        errors = select(JobError.id).where(JobError.job_pk == failed.pk).order_by(col(JobError.pk))
        return (
            session.exec(hierarchies).all(),
            session.exec(products).all(),
            session.exec(errors).all(),
        )

    hierarchies, products, errors = await database.write(rest)
    newest_first = sorted(hierarchies, key=lambda row: (row.created_at, row.id), reverse=True)
    asked = [str(job.id) for job in (about_garden[0], failed, *about_garden[1:])]
    return {
        "hierarchies": Listed(
            "hierarchies", [str(row.id) for row in newest_first if row.id != parks[0]]
        ),
        "jobs": Listed("jobs", asked[::-1]),
        "jobs, oldest first": Listed("jobs", asked, also="orderBy: CREATED_AT_ASC"),
        "children of a root": field_of(garden, "Hierarchy", "children", [d, c, a, b]),
        "children of a node": field_of(a, "HierarchyNode", "children", [ad, ab, af, aa, ac, ae]),
        "nodes of a hierarchy": field_of(
            garden, "Hierarchy", "nodes", [a, b, c, d, aa, ab, ac, ad, ae, af]
        ),
        "jobs of a hierarchy": field_of(
            garden, "Hierarchy", "jobs", [job.id for job in reversed(about_garden)]
        ),
        "products of a node": field_of(
            a, "HierarchyNode", "products", [products[n] for n in (5, 1, 3, 0, 2, 4)]
        ),
        "nodes of a product": field_of(
            products[0],
            "Product",
            "nodes",
            [a, ab, d, *(node_id(park, 1) for park in parks[1:])],
        ),
        "errors of a job": field_of(failed.id, "Job", "errors", errors),
    }


@dataclass(frozen=True)
class Shop:
    """A gateway over a stocked store, shared by tests that only read."""

    gateway: Gateway
    client: GraphQLClient
    lists: dict[str, Listed]


@pytest.fixture(scope="module")
async def shop(new_database: NewDatabase) -> AsyncIterator[Shop]:
    settings = Settings(database_url=new_database("sqlite"), port=0, runner=False)
    async with gateway_of(settings) as gateway, client_of(gateway) as client:
        yield Shop(gateway, client, await stocked(gateway.database))


async def walk(client: GraphQLClient, listed: Listed, size: int) -> None:
    """Go through the list and back again, so many rows a page."""
    ids = list(listed.ids)
    cursor: str | None = None
    for start in range(0, len(ids), size):
        page = await listed.of(client, first=size, **({"after": cursor} if cursor else {}))
        assert [row["id"] for row in page["nodes"]] == ids[start : start + size]
        assert page["pageInfo"]["hasNextPage"] is (start + size < len(ids))
        assert page["pageInfo"]["hasPreviousPage"] is (start > 0)
        check_page(page, len(ids))
        cursor = page["pageInfo"]["endCursor"]
    cursor = None
    for end in range(len(ids), 0, -size):
        page = await listed.of(client, last=size, **({"before": cursor} if cursor else {}))
        assert [row["id"] for row in page["nodes"]] == ids[max(0, end - size) : end]
        assert page["pageInfo"]["hasPreviousPage"] is (end - size > 0)
        assert page["pageInfo"]["hasNextPage"] is (end < len(ids))
        check_page(page, len(ids))
        cursor = page["pageInfo"]["startCursor"]


def check_page(page: dict[str, Any], total: int) -> None:
    """What holds of any page, however it was come by."""
    edges, info = page["edges"], page["pageInfo"]
    assert [edge["node"] for edge in edges] == page["nodes"]
    cursors = [edge["cursor"] for edge in edges]
    assert len(set(cursors)) == len(cursors)
    assert info["startCursor"] == (cursors[0] if cursors else None)
    assert info["endCursor"] == (cursors[-1] if cursors else None)
    assert page["totalCount"] == total


@pytest.mark.parametrize("kind", LISTS)
async def test_a_walk_either_way_visits_every_row_once_in_the_same_order(
    shop: Shop, kind: str
) -> None:
    listed = shop.lists[kind]
    for size in (1, 2, len(listed.ids) - 1, len(listed.ids), MOST):
        await walk(shop.client, listed, size)


@pytest.mark.parametrize("kind", LISTS)
async def test_between_two_cursors_lies_what_the_list_has_between_them(
    shop: Shop, kind: str
) -> None:
    listed = shop.lists[kind]
    ids, cursors = list(listed.ids), await listed.cursors(shop.client)
    for after, before in ((0, 3), (0, len(ids) - 1), (1, 2), (2, 1), (1, 1)):
        between = ids[after + 1 : before]
        bounds = {"after": cursors[after], "before": cursors[before]}
        windows: list[tuple[dict[str, Any], list[str]]] = [
            ({}, between),
            ({"first": 1}, between[:1]),
            ({"last": 1}, between[-1:]),
        ]
        for window, expected in windows:
            page = await listed.of(shop.client, **bounds, **window)
            assert [row["id"] for row in page["nodes"]] == expected, (after, before, window)
            check_page(page, len(ids))


@pytest.mark.parametrize("kind", LISTS)
async def test_behind_the_last_row_and_before_the_first_there_is_nothing(
    shop: Shop, kind: str
) -> None:
    listed = shop.lists[kind]
    cursors = await listed.cursors(shop.client)
    empty = {"startCursor": None, "endCursor": None}
    behind = await listed.of(shop.client, after=cursors[-1])
    assert behind["edges"] == behind["nodes"] == []
    assert behind["pageInfo"] == {"hasNextPage": False, "hasPreviousPage": True, **empty}
    ahead = await listed.of(shop.client, last=5, before=cursors[0])
    assert ahead["edges"] == ahead["nodes"] == []
    assert ahead["pageInfo"] == {"hasNextPage": True, "hasPreviousPage": False, **empty}


@pytest.mark.parametrize("kind", LISTS)
async def test_bad_arguments_are_one_clear_error_that_names_them(shop: Shop, kind: str) -> None:
    listed = shop.lists[kind]
    for rows in (0, -1, MOST + 1, 2**31 - 1, -(2**31)):
        assert await listed.refusal(shop.client, first=rows) == refused("first"), rows
        assert await listed.refusal(shop.client, last=rows) == refused("last"), rows
    assert await listed.refusal(shop.client, first=1, last=1) == refused("last")

    other = shop.lists["hierarchies" if kind.startswith("jobs") else "jobs"]
    elsewhere = (await other.cursors(shop.client))[0]
    nothing = [urlsafe_b64encode(text).decode() for text in (b"[]", b"7", b"{}", b"null", b"\xff")]
    for cursor in ("", "garbage", "é", "=", "A" * 2000, elsewhere, *nothing):
        assert await listed.refusal(shop.client, after=cursor) == refused("after"), cursor
        assert await listed.refusal(shop.client, before=cursor) == refused("before"), cursor


@pytest.mark.parametrize("kind", LISTS)
async def test_a_cursor_with_wrong_parts_is_refused_or_harmless(shop: Shop, kind: str) -> None:
    listed = shop.lists[kind]
    parts = orjson.loads(urlsafe_b64decode((await listed.cursors(shop.client))[0] + "=="))

    async def extensions(forged: list[Any]) -> dict[str, Any] | None:
        cursor = urlsafe_b64encode(orjson.dumps(forged)).decode().rstrip("=")
        answer = await shop.client.answer(listed.document("nodes { id }"), after=cursor)
        errors = answer.get("errors", [])
        assert len(errors) <= 1
        return errors[0]["extensions"] if errors else None

    never_right = [True, 0.5, [], {}, [1], 2**63, 2**64 - 1]
    sometimes_right = [
        None,
        0,
        2**63 - 1,
        -(2**63),
        "",
        "x",
        "2026-11-22T00:00:00",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
    ]
    for place in range(1, len(parts)):
        for value in never_right + sometimes_right:
            forged = [*parts[:place], value, *parts[place + 1 :]]
            said = await extensions(forged)
            assert said == refused("after") or (said is None and value in sometimes_right), forged
    for forged in (parts[:-1], [*parts, 1], [parts[0]], parts[1:]):
        assert await extensions(forged) == refused("after"), forged


async def test_a_bad_argument_below_many_rows_is_still_one_error(shop: Shop) -> None:
    document = "{ hierarchies { nodes { nodes { nodes { children(first: 0) { totalCount } } } } } }"
    error = await shop.client.refusal(document)
    assert error["extensions"] == refused("first")


@pytest.mark.parametrize("kind", LISTS)
async def test_a_count_or_a_page_is_read_only_when_it_is_asked_for(shop: Shop, kind: str) -> None:
    listed = shop.lists[kind]

    async def reads(selected: str) -> list[str]:
        with reads_of(shop.gateway) as statements:
            await listed.of(shop.client, selected=selected)
        return statements

    for_holder = await reads("__typename")
    assert listed.holder != "*" or not for_holder
    for_page = (await reads("nodes { __typename }"))[len(for_holder) :]
    for_count = (await reads("totalCount"))[len(for_holder) :]
    # The rows, and where they are nodes, their hierarchies; jobs of a hierarchy have two sides.
    assert 1 <= len(for_page) <= 2
    assert 1 <= len(for_count) <= 2
    assert not set(for_page) & set(for_count)
    for_all = (await reads(ALL))[len(for_holder) :]
    # Which columns are read depends on what is told of the rows.
    sought = [statement.partition("FROM")[2] for statement in for_page + for_count]
    assert sorted(statement.partition("FROM")[2] for statement in for_all) == sorted(sought)


async def test_null_for_an_argument_is_as_good_as_none(shop: Shop) -> None:
    for listed in shop.lists.values():
        nulls: dict[str, Any] = dict.fromkeys(("first", "after", "last", "before"))
        assert await listed.of(shop.client, **nulls) == await listed.of(shop.client)


async def test_25_rows_come_when_no_number_is_given(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    wide = factories.wide_tree(30, children=30)
    hierarchy = await factories.hierarchy(idle_gateway.database, wide)
    ids = [node_id(hierarchy, no) for no in range(1, 31)]
    listed = field_of(hierarchy, "Hierarchy", "children", ids)
    page = await listed.of(idle_client)
    assert [row["id"] for row in page["nodes"]] == listed.ids[:25]
    assert page["pageInfo"]["hasNextPage"] is True
    behind = await listed.of(idle_client, after=page["pageInfo"]["endCursor"])
    assert [row["id"] for row in behind["nodes"]] == listed.ids[25:]


async def test_what_comes_and_goes_during_a_walk_moves_no_other_row(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database = idle_gateway.database
    made = [await factories.hierarchy(database, {}) for _ in range(6)]
    listed = Listed("hierarchies", [])
    page = await listed.of(idle_client, first=3)
    seen = [row["id"] for row in page["nodes"]]
    await factories.deleted(database, UUID(seen[-1]))
    await factories.hierarchy(database, {})
    page = await listed.of(idle_client, first=10, after=page["pageInfo"]["endCursor"])
    seen += [row["id"] for row in page["nodes"]]
    assert len(seen) == len(made)
    assert set(seen) == {str(id) for id in made}


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int | None]]]:
    """The parent of each node (0 is the root), and edits: a node and its new sort order."""
    parents = [draw(st.integers(0, no)) for no in range(draw(st.integers(1, 14)))]
    orders = st.none() | st.integers(-2, 2) | st.sampled_from([-(2**31), 2**31 - 1])
    edits = st.tuples(st.integers(1, len(parents)), orders)
    return parents, draw(st.lists(edits, max_size=10))


@hypothesis.settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@forall(tree=trees(), size=st.integers(1, 5))
async def test_any_tree_is_walked_as_a_plain_sort_of_it_has_it(
    idle_gateway: Gateway,
    idle_client: GraphQLClient,
    tree: tuple[list[int], list[tuple[int, int | None]]],
    size: int,
) -> None:
    # Nodes are numbered in the order they are made, which here is that of their first mention.
    parents, edits = tree
    below: dict[int, dict[str, Any]] = {0: {}}
    for drawn, parent in enumerate(parents, 1):
        below[drawn] = below[parent].setdefault(str(drawn), {})
    numbers = {int(p.line.name): p.node_no for p in factories.placed_lines(below[0])} | {0: 0}
    hierarchy = await factories.hierarchy(idle_gateway.database, below[0])
    touched = {no: -no for no in numbers.values()}
    order: dict[int, int | None] = {}
    for revision, (drawn, sort_order) in enumerate(edits, 1):
        no = numbers[drawn]
        await factories.edited(idle_gateway.database, node_id(hierarchy, no), sort_order=sort_order)
        touched[no], order[no] = revision, sort_order

    def place(no: int) -> tuple[bool, int, int]:
        sort_order = order.get(no)
        return sort_order is None, -(sort_order or 0), -touched[no]

    for parent in {0, *parents}:
        siblings = [numbers[drawn] for drawn, its in enumerate(parents, 1) if its == parent]
        ids = [node_id(hierarchy, no) for no in sorted(siblings, key=place)]
        holder = node_id(hierarchy, numbers[parent])
        await walk(idle_client, field_of(holder, "TreeItem", "children", ids), size)

    depth = {0: 0}
    for drawn, parent in enumerate(parents, 1):
        depth[drawn] = depth[parent] + 1
    by_depth = sorted((depth[drawn], numbers[drawn]) for drawn in range(1, len(parents) + 1))
    ids = [node_id(hierarchy, no) for _, no in by_depth]
    await walk(idle_client, field_of(hierarchy, "Hierarchy", "nodes", ids), size)


async def test_a_cursor_in_a_hierarchy_that_is_gone_is_refused_and_the_list_can_begin_again(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database = idle_gateway.database
    trees = [
        await factories.hierarchy(database, {"Roses": {}}, name=name, products={"Roses": ["a"]})
        for name in ("Garden", "Park")
    ]
    list_nodes = """
        query ($id: ID!, $after: String) {
            node(id: $id) { ... on Product { nodes(first: 1, after: $after) {
                edges { cursor node { hierarchy { name } } }
            } } }
        }
    """
    found = await idle_client.data(
        "query ($id: ID!) { hierarchy(id: $id) { nodes { nodes { products { nodes { id } } } } } }",
        id=str(trees[0]),
    )
    (node,) = found["hierarchy"]["nodes"]["nodes"]
    (product,) = node["products"]["nodes"]
    first = await idle_client.data(list_nodes, id=product["id"])
    (edge,) = first["node"]["nodes"]["edges"]
    assert edge["node"]["hierarchy"]["name"] == "Garden"
    await factories.deleted(database, trees[0])
    error = await idle_client.refusal(list_nodes, id=product["id"], after=edge["cursor"])
    assert error["extensions"] == {"code": "INVALID_INPUT", "argument": ["after"]}
    again = await idle_client.data(list_nodes, id=product["id"])
    (edge,) = again["node"]["nodes"]["edges"]
    assert edge["node"]["hierarchy"]["name"] == "Park"
