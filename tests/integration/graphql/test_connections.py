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
from sqlmodel import col, select

from app.domain.hierarchies import node_id
from app.main import Gateway
from app.settings import Settings
from app.storage import job_errors
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.tables import Hierarchy, JobError, Product
from tests import factories
from tests.support.clients import GraphQLClient, client_of
from tests.support.databases import NewDatabase, postgresql_is_long
from tests.support.entities import session_of
from tests.support.gateway import gateway_of, reads_of

pytestmark = pytest.mark.usefixtures("unhurried_reads")

MAX_ROWS = 100
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
    """A connection field and the ids of its rows, in order."""

    field: str
    ids: Sequence[str]
    holder: str = "*"
    """The enclosing selection; `*` marks the position of the field."""
    also: str = ""
    """Further arguments than those of the page."""

    def document(self, selected: str) -> str:
        window = "first: $first, after: $after, last: $last, before: $before"
        connection = f"list: {self.field}({window} {self.also}) {{ {selected} }}"
        return f"""
            query ($first: Int, $after: String, $last: Int, $before: String) {{
                {self.holder.replace("*", connection)}
            }}
        """

    async def of(
        self, client: GraphQLClient, *, selected: str = ALL, **window: Any
    ) -> dict[str, Any]:
        data = await client.data(self.document(selected), **window)
        while "list" not in data:
            (data,) = data.values()
        connection: dict[str, Any] = data["list"]
        return connection

    async def cursors(self, client: GraphQLClient) -> list[str]:
        edges = (await self.of(client, selected="edges { cursor }", first=MAX_ROWS))["edges"]
        return [edge["cursor"] for edge in edges]

    async def refusal(self, client: GraphQLClient, **window: Any) -> dict[str, Any]:
        """The extensions of the only error."""
        extensions: dict[str, Any] = (await client.refusal(self.document(ALL), **window))[
            "extensions"
        ]
        return extensions


def refused(argument: str) -> dict[str, Any]:
    return {"code": "INVALID_INPUT", "argument": [argument]}


def field_of(id: object, kind: str, field: str, ids: Iterable[object]) -> Listed:
    return Listed(field, list(map(str, ids)), f'node(id: "{id}") {{ ... on {kind} {{ * }} }}')


async def stocked(database: Database) -> dict[str, Listed]:
    """Populate two stores with rows of every kind; return the lists of the default store."""
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
    # Siblings are ordered by sort order, then latest edit, then import order.
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

    def rest(tx: Transaction) -> tuple[Sequence[Hierarchy], Sequence[UUID], Sequence[UUID]]:
        # Two pairs share an instant: only their ids order them.
        for pair in (parks[1:3], parks[3:5]):
            tx.changed(
                sa.update(Hierarchy).where(col(Hierarchy.id).in_(pair)).values(created_at=tx.now())
            )
        for number in range(4):
            job_errors.add(tx, failed, f"CODE_{number}", "It did not work.", tx.now())
        hierarchies = select(Hierarchy).where(Hierarchy.store == store)
        products = select(Product.id).where(Product.store == store).order_by(col(Product.sku))
        errors = select(JobError.id).where(JobError.job_pk == failed.pk).order_by(col(JobError.pk))
        return (
            session_of(tx).exec(hierarchies).all(),
            session_of(tx).exec(products).all(),
            session_of(tx).exec(errors).all(),
        )

    hierarchies, products, errors = await database.write(rest)
    newest_first = sorted(hierarchies, key=lambda row: (row.created_at, row.id), reverse=True)
    job_ids = [str(job.id) for job in (about_garden[0], failed, *about_garden[1:])]
    return {
        "hierarchies": Listed(
            "hierarchies", [str(row.id) for row in newest_first if row.id != parks[0]]
        ),
        "jobs": Listed("jobs", job_ids[::-1]),
        "jobs, oldest first": Listed("jobs", job_ids, also="orderBy: CREATED_AT_ASC"),
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
    """A gateway with a populated store, shared by read-only tests."""

    gateway: Gateway
    client: GraphQLClient
    lists: dict[str, Listed]


@pytest.fixture(scope="module")
async def shop(new_database: NewDatabase) -> AsyncIterator[Shop]:
    settings = Settings(database_url=new_database("sqlite"), port=0, runner=False)
    async with gateway_of(settings) as gateway, client_of(gateway) as client:
        yield Shop(gateway, client, await stocked(gateway.database))


async def walk(client: GraphQLClient, listed: Listed, size: int) -> None:
    """Page through the list forward and backward, `size` rows per page."""
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
    """Check the invariants of a page."""
    edges, info = page["edges"], page["pageInfo"]
    assert [edge["node"] for edge in edges] == page["nodes"]
    cursors = [edge["cursor"] for edge in edges]
    assert len(set(cursors)) == len(cursors)
    assert info["startCursor"] == (cursors[0] if cursors else None)
    assert info["endCursor"] == (cursors[-1] if cursors else None)
    assert page["totalCount"] == total


@pytest.mark.parametrize("kind", LISTS)
async def test_paging_in_either_direction_visits_every_row_once_in_order(
    shop: Shop, kind: str
) -> None:
    listed = shop.lists[kind]
    for size in (1, 2, len(listed.ids) - 1, len(listed.ids), MAX_ROWS):
        await walk(shop.client, listed, size)


@pytest.mark.parametrize("kind", LISTS)
async def test_a_page_between_two_cursors_has_the_rows_between_them(shop: Shop, kind: str) -> None:
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
async def test_pages_after_the_last_row_and_before_the_first_are_empty(
    shop: Shop, kind: str
) -> None:
    listed = shop.lists[kind]
    cursors = await listed.cursors(shop.client)
    empty = {"startCursor": None, "endCursor": None}
    after_last = await listed.of(shop.client, after=cursors[-1])
    assert after_last["edges"] == after_last["nodes"] == []
    assert after_last["pageInfo"] == {"hasNextPage": False, "hasPreviousPage": True, **empty}
    before_first = await listed.of(shop.client, last=5, before=cursors[0])
    assert before_first["edges"] == before_first["nodes"] == []
    assert before_first["pageInfo"] == {"hasNextPage": True, "hasPreviousPage": False, **empty}


@pytest.mark.parametrize("kind", LISTS)
async def test_a_page_of_zero_rows_is_empty_and_counts_the_list(shop: Shop, kind: str) -> None:
    listed = shop.lists[kind]
    first, *_, last = await listed.cursors(shop.client)
    nothing = {"startCursor": None, "endCursor": None}
    for window, has_next, has_previous in (
        ({"first": 0}, True, False),
        ({"last": 0}, False, True),
        ({"first": 0, "after": first}, True, True),
        ({"first": 0, "after": last}, False, True),
        ({"last": 0, "before": last}, True, True),
        ({"last": 0, "before": first}, True, False),
    ):
        page = await listed.of(shop.client, **window)
        check_page(page, len(listed.ids))
        assert page["edges"] == []
        info = {"hasNextPage": has_next, "hasPreviousPage": has_previous, **nothing}
        assert page["pageInfo"] == info, window


@pytest.mark.parametrize("kind", LISTS)
async def test_each_bad_argument_is_reported_as_one_error_with_its_path(
    shop: Shop, kind: str
) -> None:
    listed = shop.lists[kind]
    for rows in (-1, MAX_ROWS + 1, 2**31 - 1, -(2**31)):
        assert await listed.refusal(shop.client, first=rows) == refused("first"), rows
        assert await listed.refusal(shop.client, last=rows) == refused("last"), rows
    assert await listed.refusal(shop.client, first=1, last=1) == refused("last")

    other = shop.lists["hierarchies" if kind.startswith("jobs") else "jobs"]
    foreign_cursor = (await other.cursors(shop.client))[0]
    malformed = [
        urlsafe_b64encode(text).decode() for text in (b"[]", b"7", b"{}", b"null", b"\xff")
    ]
    for cursor in ("", "garbage", "é", "=", "A" * 2000, foreign_cursor, *malformed):
        assert await listed.refusal(shop.client, after=cursor) == refused("after"), cursor
        assert await listed.refusal(shop.client, before=cursor) == refused("before"), cursor


@pytest.mark.parametrize("kind", LISTS)
async def test_a_forged_cursor_is_refused_or_harmless(shop: Shop, kind: str) -> None:
    listed = shop.lists[kind]
    parts = orjson.loads(urlsafe_b64decode((await listed.cursors(shop.client))[0] + "=="))

    async def extensions(forged: list[Any]) -> dict[str, Any] | None:
        cursor = urlsafe_b64encode(orjson.dumps(forged)).decode().rstrip("=")
        answer = await shop.client.answer(listed.document("nodes { id }"), after=cursor)
        errors = answer.get("errors", [])
        assert len(errors) <= 1
        return errors[0]["extensions"] if errors else None

    never_valid = [True, 0.5, [], {}, [1], 2**63, 2**64 - 1]
    sometimes_valid = [
        None,
        0,
        2**31,
        -(2**31) - 1,
        2**63 - 1,
        -(2**63),
        "",
        "x",
        "2026-11-22T00:00:00",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
    ]
    for index in range(1, len(parts)):
        for value in never_valid + sometimes_valid:
            forged = [*parts[:index], value, *parts[index + 1 :]]
            refusal = await extensions(forged)
            assert refusal == refused("after") or (refusal is None and value in sometimes_valid), (
                forged
            )
    for forged in (parts[:-1], [*parts, 1], [parts[0]], parts[1:]):
        assert await extensions(forged) == refused("after"), forged


@pytest.mark.parametrize(
    ("kind", "index"),
    [("nodes of a hierarchy", 1), ("children of a root", 1), ("products of a node", 1)],
)
async def test_a_cursor_number_beyond_the_bits_of_its_column_is_refused(
    shop: Shop, kind: str, index: int
) -> None:
    listed = shop.lists[kind]
    parts = orjson.loads(urlsafe_b64decode((await listed.cursors(shop.client))[0] + "=="))
    for number in (2**31, -(2**31) - 1, 2**63 - 1):
        forged = [*parts[:index], number, *parts[index + 1 :]]
        cursor = urlsafe_b64encode(orjson.dumps(forged)).decode().rstrip("=")
        assert await listed.refusal(shop.client, after=cursor) == refused("after")


async def test_a_bad_argument_below_many_rows_is_reported_once(shop: Shop) -> None:
    children = "children(first: -1) { totalCount }"
    document = f"{{ hierarchies {{ nodes {{ nodes {{ nodes {{ {children} }} }} }} }} }}"
    error = await shop.client.refusal(document)
    assert error["extensions"] == refused("first")


@pytest.mark.parametrize("kind", LISTS)
async def test_a_count_or_a_page_is_read_only_if_selected(shop: Shop, kind: str) -> None:
    listed = shop.lists[kind]

    async def reads(selected: str) -> list[str]:
        with reads_of(shop.gateway) as statements:
            await listed.of(shop.client, selected=selected)
        return statements

    for_holder = await reads("__typename")
    assert listed.holder != "*" or not for_holder
    for_page = (await reads("nodes { __typename }"))[len(for_holder) :]
    for_count = (await reads("totalCount"))[len(for_holder) :]
    # The rows and, for nodes, their hierarchies; jobs of a hierarchy are read by source and copy.
    assert 1 <= len(for_page) <= 2
    assert 1 <= len(for_count) <= 2
    assert not set(for_page) & set(for_count)
    for_all = (await reads(ALL))[len(for_holder) :]
    # The columns depend on the selection; the tables and conditions do not.
    sources = [statement.partition("FROM")[2] for statement in for_page + for_count]
    assert sorted(statement.partition("FROM")[2] for statement in for_all) == sorted(sources)


async def test_a_null_argument_equals_an_omitted_one(shop: Shop) -> None:
    for listed in shop.lists.values():
        nulls: dict[str, Any] = dict.fromkeys(("first", "after", "last", "before"))
        assert await listed.of(shop.client, **nulls) == await listed.of(shop.client)


async def test_the_default_page_size_is_25_rows(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    wide = factories.wide_tree(30, children=30)
    hierarchy = await factories.hierarchy(idle_gateway.database, wide)
    ids = [node_id(hierarchy, no) for no in range(1, 31)]
    listed = field_of(hierarchy, "Hierarchy", "children", ids)
    page = await listed.of(idle_client)
    assert [row["id"] for row in page["nodes"]] == listed.ids[:25]
    assert page["pageInfo"]["hasNextPage"] is True
    next_page = await listed.of(idle_client, after=page["pageInfo"]["endCursor"])
    assert [row["id"] for row in next_page["nodes"]] == listed.ids[25:]


async def test_rows_added_or_deleted_while_paging_do_not_shift_other_rows(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database = idle_gateway.database
    created = [await factories.hierarchy(database, {}) for _ in range(6)]
    listed = Listed("hierarchies", [])
    page = await listed.of(idle_client, first=3)
    seen = [row["id"] for row in page["nodes"]]
    await factories.deleted(database, UUID(seen[-1]))
    await factories.hierarchy(database, {})
    page = await listed.of(idle_client, first=10, after=page["pageInfo"]["endCursor"])
    seen += [row["id"] for row in page["nodes"]]
    assert len(seen) == len(created)
    assert set(seen) == {str(id) for id in created}


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int | None]]]:
    """The parent of each node (0: root), and edits as pairs of node and new sort order."""
    parents = [draw(st.integers(0, no)) for no in range(draw(st.integers(1, 14)))]
    orders = st.none() | st.integers(-2, 2) | st.sampled_from([-(2**31), 2**31 - 1])
    edits = st.tuples(st.integers(1, len(parents)), orders)
    return parents, draw(st.lists(edits, max_size=10))


@postgresql_is_long
@hypothesis.settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@forall(tree=trees(), size=st.integers(1, 5))
async def test_pages_of_any_tree_follow_the_order_of_a_plain_sort(
    idle_gateway: Gateway,
    idle_client: GraphQLClient,
    tree: tuple[list[int], list[tuple[int, int | None]]],
    size: int,
) -> None:
    # Nodes are numbered in creation order, which here is the order of first mention.
    parents, edits = tree
    below: dict[int, dict[str, Any]] = {0: {}}
    for drawn, parent in enumerate(parents, 1):
        below[drawn] = below[parent].setdefault(str(drawn), {})
    numbers = {int(p.attributes["name"]): p.node_no for p in factories.placed_lines(below[0])} | {
        0: 0
    }
    hierarchy = await factories.hierarchy(idle_gateway.database, below[0])
    edited = {no: -no for no in numbers.values()}
    order: dict[int, int | None] = {}
    for revision, (drawn, sort_order) in enumerate(edits, 1):
        no = numbers[drawn]
        await factories.edited(idle_gateway.database, node_id(hierarchy, no), sort_order=sort_order)
        edited[no], order[no] = revision, sort_order

    def rank(no: int) -> tuple[bool, int, int]:
        sort_order = order.get(no)
        return sort_order is None, -(sort_order or 0), -edited[no]

    for parent in {0, *parents}:
        siblings = [numbers[drawn] for drawn, above in enumerate(parents, 1) if above == parent]
        ids = [node_id(hierarchy, no) for no in sorted(siblings, key=rank)]
        holder = node_id(hierarchy, numbers[parent])
        await walk(idle_client, field_of(holder, "TreeItem", "children", ids), size)

    depth = {0: 0}
    for drawn, parent in enumerate(parents, 1):
        depth[drawn] = depth[parent] + 1
    by_depth = sorted((depth[drawn], numbers[drawn]) for drawn in range(1, len(parents) + 1))
    ids = [node_id(hierarchy, no) for _, no in by_depth]
    await walk(idle_client, field_of(hierarchy, "Hierarchy", "nodes", ids), size)


async def test_a_cursor_in_a_deleted_hierarchy_is_refused_and_paging_can_restart(
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
    data = await idle_client.data(
        "query ($id: ID!) { hierarchy(id: $id) { nodes { nodes { products { nodes { id } } } } } }",
        id=str(trees[0]),
    )
    (node,) = data["hierarchy"]["nodes"]["nodes"]
    (product,) = node["products"]["nodes"]
    first = await idle_client.data(list_nodes, id=product["id"])
    (edge,) = first["node"]["nodes"]["edges"]
    assert edge["node"]["hierarchy"]["name"] == "Garden"
    await factories.deleted(database, trees[0])
    error = await idle_client.refusal(list_nodes, id=product["id"], after=edge["cursor"])
    assert error["extensions"] == {"code": "INVALID_INPUT", "argument": ["after"]}
    restarted = await idle_client.data(list_nodes, id=product["id"])
    (edge,) = restarted["node"]["nodes"]["edges"]
    assert edge["node"]["hierarchy"]["name"] == "Park"
