"""duplicationDiff equals a plain comparison of source and copy after any edits of either.

Only succeeded duplications of the caller's store have a diff.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import given as forall
from hypothesis import strategies as st
from sqlmodel import col, select

from app.domain import differences as differences_domain
from app.domain.errors import DomainError
from app.domain.hierarchies import node_id
from app.domain.products import NewProduct
from app.main import Gateway
from app.queue.sweeper import Sweeper
from app.services import attempts, hierarchies, jobs, nodes, products
from app.settings import Settings
from app.storage import differences
from app.storage.engine.statements import BindValues
from app.storage.engine.transaction import NO_VALUES, Transaction
from app.storage.tables import DeletedNode, Hierarchy, Job, Node, NodeProduct
from app.wiring import open_database
from tests import factories
from tests.support.clients import GraphQLClient
from tests.support.databases import DATABASES, NewDatabase, postgresql_is_long
from tests.support.entities import session_of
from tests.support.large_hierarchy import large_hierarchy

SOURCE, COPY = "source", "copy"
NOTHING: dict[str, Any] = {"onlyInSource": 0, "onlyInCopy": 0, "changed": 0, "differences": []}

DIFF = """
    query ($id: ID!) {
        duplicationDiff(jobId: $id) {
            source { id }
            copy { id }
            onlyInSource onlyInCopy changed
            differences { kind aspects path item { id name } }
        }
    }
"""


@dataclass(frozen=True)
class Copied:
    """A finished duplication."""

    job: UUID
    source: UUID
    copy: UUID
    copied: frozenset[int]
    """The numbers of the copied nodes."""


@dataclass(frozen=True)
class TreeItem:
    """A node, or the root as number 0."""

    parent: int
    attributes: Mapping[str, Any]
    products: frozenset[int] = frozenset()
    curated: tuple[int, ...] = ()


Tree = dict[int, TreeItem]


def tree_of(tx: Transaction, id: UUID) -> Tree:
    """Read a hierarchy: its items by node number."""
    root = session_of(tx).exec(select(Hierarchy).where(Hierarchy.id == id)).one()
    held: dict[int, dict[int, int | None]] = {}
    for association in session_of(tx).exec(
        select(NodeProduct).where(NodeProduct.hierarchy_pk == root.pk)
    ):
        held.setdefault(association.node_no, {})[association.product_pk] = (
            association.curated_position
        )

    def attributes(row: Hierarchy | Node) -> dict[str, Any]:
        return {
            "NAME": row.name,
            "SLUG": row.slug,
            "DESCRIPTION": row.description,
            "LOCALIZATIONS": row.locales,
        }

    tree = {0: TreeItem(0, attributes(root))}
    for node in session_of(tx).exec(select(Node).where(Node.hierarchy_pk == root.pk)):
        attached = held.get(node.node_no, {})
        curated = {at: pk for pk, at in attached.items() if at is not None}
        tree[node.node_no] = TreeItem(
            node.parent_no,
            {**attributes(node), "SORT_ORDER": node.sort_order},
            frozenset(attached),
            tuple(curated[at] for at in sorted(curated)),
        )
    return tree


def path(tree: Tree, number: int) -> list[str]:
    """The names from the root to the node."""
    item = tree[number]
    names = path(tree, item.parent) if number else []
    return [*names, item.attributes["NAME"]]


def compared(duplication: Copied, source: Tree, copy: Tree, with_products: bool) -> dict[str, Any]:
    """The expected duplicationDiff, by comparing item by item."""
    common = (source.keys() & copy.keys()) & (duplication.copied | {0})
    rows: list[tuple[int, str, list[str]]] = []
    for number in sorted(source.keys() | copy.keys()):
        if number not in common:
            rows += [
                (number, kind, [])
                for kind, tree in (("ONLY_IN_COPY", copy), ("ONLY_IN_SOURCE", source))
                if number in tree
            ]
            continue
        in_source, in_copy = source[number], copy[number]
        aspects = [
            name
            for name in in_source.attributes
            if in_source.attributes[name] != in_copy.attributes[name]
        ]
        # Parents created after the copy are different nodes even with equal numbers.
        if in_source.parent != in_copy.parent or in_source.parent not in common:
            aspects.append("PARENT")
        if with_products and in_source.products != in_copy.products:
            aspects.append("PRODUCTS")
        if with_products and in_source.curated != in_copy.curated:
            aspects.append("CURATION")
        if aspects:
            rows.append((number, "CHANGED", aspects))
    kinds = Counter(kind for _, kind, _ in rows)

    def difference(number: int, kind: str, aspects: list[str]) -> dict[str, Any]:
        hierarchy, tree = (
            (duplication.copy, copy) if kind == "ONLY_IN_COPY" else (duplication.source, source)
        )
        names = path(tree, number)
        item = {"id": str(node_id(hierarchy, number)), "name": names[-1]}
        return {"kind": kind, "aspects": aspects, "path": names, "item": item}

    return {
        "onlyInSource": kinds["ONLY_IN_SOURCE"],
        "onlyInCopy": kinds["ONLY_IN_COPY"],
        "changed": kinds["CHANGED"],
        "differences": [difference(*row) for row in rows[:100]],
    }


async def duplicated(gateway: Gateway, source: UUID, **options: Any) -> Copied:
    """Duplicate a hierarchy with the real worker."""
    database = gateway.database
    job = await factories.pending_duplication(database, source, **options)
    await factories.ran_job(database)
    finished = await database.read(_job, job.id)
    assert finished.result_id
    copied = await database.read(tree_of, finished.result_id)
    return Copied(job.id, source, finished.result_id, frozenset(copied) - {0})


async def diff(client: GraphQLClient, job: object) -> dict[str, Any] | None:
    """Query duplicationDiff."""
    payload: dict[str, Any] | None = (await client.data(DIFF, id=str(job)))["duplicationDiff"]
    return payload


async def checked(
    gateway: Gateway,
    client: GraphQLClient,
    duplication: Copied,
    with_products: bool = True,
) -> dict[str, Any]:
    """Query duplicationDiff and check it against the comparison."""
    payload = await diff(client, duplication.job)
    assert payload
    assert payload.pop("source") == {"id": str(duplication.source)}
    assert payload.pop("copy") == {"id": str(duplication.copy)}
    source = await gateway.database.read(tree_of, duplication.source)
    copy = await gateway.database.read(tree_of, duplication.copy)
    assert payload == compared(duplication, source, copy, with_products)
    return payload


@pytest.fixture
async def wares(idle_gateway: Gateway) -> list[str]:
    """The ids of six products."""
    new = [NewProduct(f"new-{number}", f"New {number}") for number in range(6)]
    created = await idle_gateway.database.write(products.create, factories.STORE, new)
    return [str(product.id) for product in created]


FRENCH, GERMAN = {"name": "Arbre"}, {"name": "Baum", "description": ""}
CHANGES: Sequence[dict[str, Any]] = (
    {"name": "Renamed"},
    {"name": "Renamed again"},
    {"slug": "slug"},
    {"slug": None},
    {"description": "said"},
    {"description": ""},
    {"sort_order": 0},
    {"sort_order": 7},
    {"sort_order": None},
    {"locales": {}},
    {"locales": {"fr-FR": FRENCH, "de": GERMAN}},
    {"locales": {"de": dict(reversed(GERMAN.items())), "fr-FR": FRENCH}},
)

Edit = tuple[str, str, int, int, int]
"""Side, kind of edit, and three numbers that select its arguments."""


async def edit(gateway: Gateway, duplication: Copied, wares: list[str], drawn: Edit) -> None:
    """Apply an edit through the services; a refused edit changes nothing."""
    side, kind, first, second, third = drawn
    hierarchy = duplication.source if side == SOURCE else duplication.copy
    database = gateway.database
    numbers = sorted(await database.read(tree_of, hierarchy))
    item = node_id(hierarchy, numbers[first % len(numbers)])
    parent = node_id(hierarchy, numbers[second % len(numbers)])
    product_ids = [wares[(second + offset) % len(wares)] for offset in range(1 + third % 4)]
    change: Any = CHANGES[second % len(CHANGES)]
    edits: dict[str, Callable[..., Any]] = {
        "create": partial(nodes.create, attributes={"name": f"New {third}"}, parent_id=item),
        "update": partial(nodes.update, id=item, changes=change),
        "update root": partial(hierarchies.update, id=hierarchy, changes=change),
        "move": partial(nodes.move, id=item, parent_id=parent, changes={}),
        "delete": partial(nodes.delete, id=item),
        "attach": partial(products.attach, node_id=item, product_ids=product_ids),
        "detach": partial(products.detach, node_id=item, product_ids=product_ids),
        "curate": partial(nodes.update, id=item, changes={"curated_product_ids": product_ids}),
    }

    def act(tx: Transaction) -> None:
        edits[kind](tx, store=factories.STORE)

    with suppress(DomainError):
        await database.write(act)


names = st.sampled_from([f"n{number}" for number in range(9)])
edits = st.lists(
    st.tuples(
        st.sampled_from([SOURCE, COPY]),
        st.sampled_from(
            ("create", "update root", "delete", "attach", "detach", "move", "update", "curate")
        ),
        *(st.integers(0, 40) for _ in range(3)),
    ),
    max_size=25,
)


@postgresql_is_long
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@forall(
    parents=st.lists(st.integers(0, 8), max_size=9),
    earlier=edits,
    later=edits,
    with_products=st.booleans(),
)
async def test_a_diff_equals_a_plain_comparison_of_the_two_trees(
    idle_gateway: Gateway,
    idle_client: GraphQLClient,
    wares: list[str],
    parents: list[int],
    earlier: list[Edit],
    later: list[Edit],
    with_products: bool,
) -> None:
    database = idle_gateway.database
    trees: list[dict[str, Any]] = [{}]
    for number, parent in enumerate(parents):
        trees.append({})
        trees[parent % (number + 1)][f"n{number}"] = trees[number + 1]
    source = await factories.hierarchy(
        database,
        trees[0],
        slug="same",
        products={f"n{number}": ["a", "b", "c"][: number % 4] for number in range(len(parents))},
        curated={f"n{number}": ["b", "a"] for number in range(2, len(parents), 4)},
    )
    before = Copied(UUID(int=0), source, source, frozenset())
    for drawn in earlier:
        await edit(idle_gateway, before, wares, drawn)
    duplication = await duplicated(idle_gateway, source, include_products=with_products)
    for drawn in later:
        await edit(idle_gateway, duplication, wares, drawn)
    await checked(idle_gateway, idle_client, duplication, with_products)


@pytest.fixture
async def duplication(idle_gateway: Gateway) -> Copied:
    """A duplication with products of: trees (with oaks below), herbs."""
    source = await factories.hierarchy(
        idle_gateway.database,
        {"trees": {"oaks": {}}, "herbs": {}},
        products={"trees": ["a", "b", "c"], "oaks": ["a"]},
        curated={"trees": ["a", "b"]},
    )
    return await duplicated(idle_gateway, source, include_products=True)


TREES, OAKS, HERBS, NEXT = 1, 2, 3, 4


async def skus(gateway: Gateway, *skus: str) -> list[str]:
    """The ids of the products with these skus."""

    def read(tx: Transaction) -> list[str]:
        table = sa.text("SELECT sku, id FROM product")
        ids = {sku: str(UUID(str(id))) for sku, id in tx.rows(table)}
        return [ids[sku] for sku in skus]

    return await gateway.database.read(read)


async def test_nothing_differs_right_after_the_copy(
    idle_gateway: Gateway, idle_client: GraphQLClient, duplication: Copied
) -> None:
    assert await checked(idle_gateway, idle_client, duplication) == NOTHING


async def test_a_new_name_and_description_change_the_root(
    idle_gateway: Gateway, idle_client: GraphQLClient, duplication: Copied
) -> None:
    renamed = await duplicated(idle_gateway, duplication.source, name="Park", description="Green.")
    payload = await checked(idle_gateway, idle_client, renamed, with_products=False)
    assert payload["changed"] == 1
    assert payload["differences"][0]["aspects"] == ["NAME", "DESCRIPTION"]
    assert payload["differences"][0]["path"] == ["Garden"]


async def test_nodes_created_on_both_sides_are_different_nodes_even_with_equal_numbers(
    idle_gateway: Gateway, idle_client: GraphQLClient, duplication: Copied
) -> None:
    write = idle_gateway.database.write
    for hierarchy in (duplication.source, duplication.copy):
        new = await write(nodes.create, factories.STORE, hierarchy, {"name": "new"})
        assert new.node.node_no == NEXT
        herbs = node_id(hierarchy, HERBS)
        await write(nodes.move, factories.STORE, herbs, node_id(hierarchy, NEXT), {})
    payload = await checked(idle_gateway, idle_client, duplication)
    assert (payload["onlyInSource"], payload["onlyInCopy"]) == (1, 1)
    # Their parents have the same number and name but are different nodes.
    assert payload["differences"][0]["aspects"] == ["PARENT"]
    assert payload["differences"][0]["path"] == ["Garden", "new", "herbs"]


async def test_translations_in_another_order_are_equal(
    idle_gateway: Gateway, idle_client: GraphQLClient, duplication: Copied
) -> None:
    for hierarchy, locales in (
        (
            duplication.source,
            {"fr": {"name": "Arbres", "description": ""}, "de": {"name": "Bäume"}},
        ),
        (duplication.copy, {"de": {"name": "Bäume"}, "fr": {"description": "", "name": "Arbres"}}),
    ):
        for number in (0, TREES):
            await factories.edited(
                idle_gateway.database, node_id(hierarchy, number), locales=locales
            )
    assert await checked(idle_gateway, idle_client, duplication) == NOTHING
    await factories.edited(
        idle_gateway.database,
        node_id(duplication.copy, TREES),
        locales={"de": {"name": "Bäume"}, "fr": {"name": "Arbres"}},
    )
    assert (await checked(idle_gateway, idle_client, duplication))["changed"] == 1


async def test_curation_with_gaps_in_its_positions_is_equal(
    idle_gateway: Gateway, idle_client: GraphQLClient, duplication: Copied
) -> None:
    write, (a, b) = idle_gateway.database.write, await skus(idle_gateway, "a", "b")
    # Detaching leaves a gap in the positions of the source; curating again closes it in the copy.
    for hierarchy in (duplication.source, duplication.copy):
        await write(products.detach, factories.STORE, node_id(hierarchy, TREES), [a])
    curated: Any = {"curated_product_ids": [b]}
    await write(nodes.update, factories.STORE, node_id(duplication.copy, TREES), curated)
    assert await checked(idle_gateway, idle_client, duplication) == NOTHING
    # Detaching a product also ends its curation.
    await write(products.detach, factories.STORE, node_id(duplication.copy, TREES), [b])
    payload = await checked(idle_gateway, idle_client, duplication)
    assert payload["differences"][0]["aspects"] == ["PRODUCTS", "CURATION"]


async def test_products_that_were_not_copied_are_not_compared(
    idle_gateway: Gateway, idle_client: GraphQLClient, duplication: Copied
) -> None:
    bare = await duplicated(idle_gateway, duplication.source, include_products=False)
    assert await checked(idle_gateway, idle_client, bare, with_products=False) == NOTHING
    (a,) = await skus(idle_gateway, "a")
    await idle_gateway.database.write(
        products.attach, factories.STORE, node_id(bare.copy, HERBS), [a]
    )
    assert await checked(idle_gateway, idle_client, bare, with_products=False) == NOTHING


@pytest.mark.parametrize("sides", [(SOURCE,), (COPY,), (SOURCE, COPY)])
async def test_products_of_deleted_nodes_are_ignored_before_and_after_the_sweep(
    idle_gateway: Gateway,
    idle_client: GraphQLClient,
    duplication: Copied,
    sides: Sequence[str],
) -> None:
    database = idle_gateway.database
    for side in sides:
        hierarchy = duplication.source if side == SOURCE else duplication.copy
        await database.write(nodes.delete, factories.STORE, node_id(hierarchy, TREES))
    tombstones = sa.select(sa.func.count()).select_from(DeletedNode)
    assert await database.read(_number, tombstones)
    before = await checked(idle_gateway, idle_client, duplication)
    assert before["changed"] == 0
    assert before["onlyInSource"] == (2 if sides == (COPY,) else 0)
    assert before["onlyInCopy"] == (2 if sides == (SOURCE,) else 0)
    await Sweeper(database).sweep()
    assert not await database.read(_number, tombstones)
    assert await checked(idle_gateway, idle_client, duplication) == before


async def test_the_first_100_differences_are_listed_and_all_are_counted(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    source = await factories.hierarchy(idle_gateway.database, factories.wide_tree(150))
    duplication = await duplicated(idle_gateway, source)

    def rename_all(tx: Transaction) -> None:
        pk = select(Hierarchy.pk).where(Hierarchy.id == duplication.copy).scalar_subquery()
        tx.changed(
            sa.update(Node)
            .where(col(Node.hierarchy_pk) == pk)
            .values(name=col(Node.name).concat("!"))
        )

    await idle_gateway.database.write(rename_all)
    payload = await checked(idle_gateway, idle_client, duplication)
    assert (payload["changed"], len(payload["differences"])) == (150, 100)
    await idle_gateway.database.write(
        hierarchies.update, factories.STORE, duplication.copy, {"name": "Also the root"}
    )
    payload = await checked(idle_gateway, idle_client, duplication)
    assert (payload["changed"], len(payload["differences"])) == (151, 100)
    assert payload["differences"][0]["path"] == ["Garden"]


async def test_a_copy_of_a_copy_is_compared_with_its_own_source(
    idle_gateway: Gateway, idle_client: GraphQLClient, duplication: Copied
) -> None:
    write = idle_gateway.database.write
    await write(nodes.create, factories.STORE, duplication.copy, {"name": "only in the first copy"})
    second = await duplicated(idle_gateway, duplication.copy, include_products=True)
    assert await checked(idle_gateway, idle_client, second) == NOTHING
    await write(nodes.delete, factories.STORE, node_id(duplication.copy, NEXT))
    assert (await checked(idle_gateway, idle_client, second))["onlyInCopy"] == 1
    assert await checked(idle_gateway, idle_client, duplication) == NOTHING


async def test_only_a_succeeded_duplication_has_a_diff(
    idle_gateway: Gateway, idle_client: GraphQLClient, duplication: Copied
) -> None:
    database = idle_gateway.database
    pending = await factories.pending_duplication(database, duplication.source)
    assert await diff(idle_client, pending.id) is None
    claimed = await factories.claimed_job(database)
    assert await diff(idle_client, claimed.id) is None
    await database.write(attempts.fail, claimed, "BROKEN", "It broke.", lambda: None)
    assert await diff(idle_client, claimed.id) is None
    cancelled = await factories.pending_duplication(database, duplication.source)
    await database.write(jobs.cancel, factories.STORE, cancelled.id)
    assert await diff(idle_client, cancelled.id) is None
    for unknown in (uuid4(), duplication.source, "no id", ""):
        assert await diff(idle_client, unknown) is None
    assert await diff(idle_client, str(duplication.job).upper())


async def test_a_duplication_of_another_store_has_no_diff(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database = idle_gateway.database
    source = await factories.hierarchy(database, {"a": {}}, store="other")
    job = await factories.pending_duplication(database, source, store="other")
    await factories.ran_job(database, store="other")
    assert await diff(idle_client, job.id) is None
    own_diff = await database.scan(differences.of_duplication, "other", job.id, 100)
    assert own_diff is not None
    assert own_diff.counts == {}


@pytest.mark.parametrize("side", [SOURCE, COPY])
async def test_there_is_no_diff_once_the_source_or_the_copy_is_deleted(
    idle_gateway: Gateway, idle_client: GraphQLClient, duplication: Copied, side: str
) -> None:
    deleted = duplication.source if side == SOURCE else duplication.copy
    await idle_gateway.database.write(hierarchies.delete, factories.STORE, deleted)
    assert await diff(idle_client, duplication.job) is None


LARGE, PRODUCTS_PER_NODE = 100_000, 1
MAX_READS_PER_ROW = 30
"""Maximum reads per row: a nested loop reads each row thousands of times."""


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", DATABASES)
async def test_large_trees_without_table_statistics_are_compared_in_linear_time(
    new_database: NewDatabase, report: Callable[[str], None], kind: str
) -> None:
    database = open_database(Settings(database_url=new_database(kind)))
    try:
        for table in ("hierarchy", "node", "node_product", "product_node", "job"):
            if kind == "postgresql":
                off = f"ALTER TABLE {table} SET (autovacuum_enabled = off)"
                await database.write(_execute, off)
        source = await large_hierarchy(database, LARGE, PRODUCTS_PER_NODE, products=10_000)
        job = await factories.pending_duplication(database, source, include_products=True)
        await factories.ran_job(database)
        result = (await database.read(_job, job.id)).result_id
        assert result
        copy = await database.read(lambda s: _hierarchy(s, result).pk)
        for statement in CHANGES_OF_COPY:
            await database.write(_execute, statement, {"copy": copy})

        def compared(tx: Transaction) -> tuple[differences.Differences | None, int]:
            rows = differences.of_duplication(tx, factories.STORE, job.id, 100)
            if kind != "postgresql":
                return rows, 0
            [(rows_read,)] = tx.rows(ROWS_READ)
            return rows, rows_read

        diff, rows = await database.scan(compared)
        assert diff
        # Every tenth node was renamed, every seventh lost its first product.
        changed = {no for no in range(1, LARGE + 1) if no % 10 == 0 or no % 7 == 0}
        assert diff.counts == {differences_domain.DifferenceKind.CHANGED: len(changed)}
        items: list[Any] = [difference.item for difference in diff.first]
        assert [item.node.node_no for item in items] == sorted(changed)[:100]
        total = 2 * LARGE * (1 + PRODUCTS_PER_NODE)
        if rows:
            report(f"{rows / total:.1f} reads of each of {total:,} rows")
        assert rows <= MAX_READS_PER_ROW * total
    finally:
        database.close()


_OF_COPY = "hierarchy_pk = :copy"
CHANGES_OF_COPY = (
    f"UPDATE node SET name = name || '!' WHERE {_OF_COPY} AND node_no % 10 = 0",
    f"""DELETE FROM node_product AS one WHERE {_OF_COPY} AND node_no % 7 = 0
        AND curated_position = 1""",
)
ROWS_READ = sa.text(
    "SELECT sum(pg_stat_get_xact_tuples_returned(oid))::bigint"
    " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')"
)


def _execute(tx: Transaction, statement: str, values: BindValues = NO_VALUES) -> None:
    tx.changed(sa.text(statement), values)


def _number(tx: Transaction, query: sa.Select[int]) -> int:
    [(number,)] = tx.rows(query)
    return number


def _hierarchy(tx: Transaction, id: UUID) -> Hierarchy:
    return session_of(tx).exec(select(Hierarchy).where(Hierarchy.id == id)).one()


def _job(tx: Transaction, id: UUID) -> Job:
    return session_of(tx).exec(select(Job).where(Job.id == id)).one()
