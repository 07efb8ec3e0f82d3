"""Ownership: stores read their own rows and the catalogue of the organization.

A copy of a hierarchy of the organization belongs to the store.
"""

import inspect
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlmodel import SQLModel, col, select

from app.api.auth.identity import mint
from app.domain.callers import EVERY_SCOPE
from app.domain.errors import NotFound
from app.domain.filters import Condition, Conditions, Operator
from app.domain.hierarchies import Owner, node_id
from app.domain.job_types.hierarchy_duplicate import Duplication
from app.domain.stores import ORGANIZATION, owner_of, readable_by
from app.main import Gateway
from app.services import jobs as services
from app.services.jobs import Requester
from app.settings import Settings
from app.storage import (
    ancestors,
    associations,
    events,
    hierarchies,
    idempotency,
    job_errors,
    job_stats,
    jobs,
    lanes,
    nodes,
    products,
)
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.hierarchies import NEWEST_FIRST
from app.storage.jobs import JobFilter
from app.storage.nodes import TreeNode
from app.storage.sql.keyset import Key, KeysetPage, KeysetWindow
from app.storage.sql.offset import OffsetPage, OffsetWindow
from app.storage.tables import Hierarchy, HierarchyRow, Job, JobError, JobErrorRow, JobRow, Product
from tests import factories
from tests.support.clients import GraphQLClient, http_client
from tests.support.entities import session_of
from tests.support.gateway import gateway_of

STORE, OTHER = factories.STORE, "other"
STORES = (STORE, OTHER, ORGANIZATION)
START = datetime(2026, 11, 22, tzinfo=UTC)
ALL = KeysetWindow(100)
SPAN = OffsetWindow(0, 100)
KEY = "the same for all"
NODE = 2
"""The number of the node with products."""


@dataclass(frozen=True)
class Stock:
    """Rows of one store, of every kind."""

    store: str
    hierarchy: Hierarchy
    product: Product
    job: JobRow
    """A pending job."""
    failed: JobRow
    error: JobError

    @property
    def pk(self) -> int:
        assert self.hierarchy.pk is not None
        return self.hierarchy.pk

    @property
    def product_pk(self) -> int:
        assert self.product.pk is not None
        return self.product.pk

    @property
    def job_pk(self) -> int:
        assert self.job.pk is not None
        return self.job.pk

    @property
    def failed_version(self) -> tuple[int, int]:
        assert self.failed.pk is not None
        return self.failed.pk, self.failed.version


async def stocked(database: Database, store: str) -> Stock:
    """Create a hierarchy with a pending duplication, and a failed job."""
    deleted = await factories.hierarchy(database, {}, store=store)
    failed = await factories.pending_duplication(database, deleted, store=store)
    await factories.deleted(database, deleted)
    await factories.ran_job(database, store=store)
    id = await factories.hierarchy(
        database,
        {"Trees": {"Oaks": {}}},
        name=f"Garden of {store}",
        store=store,
        # Two skus are the same in every store, one is unique to it.
        products={"Oaks": ["a", "b", own_sku(store)]},
        curated={"Oaks": ["b"]},
    )
    request = Requester(store, request_id="given"), Duplication(id), KEY
    job = (await database.write(services.request, *request)).job

    def mark_as_retry(tx: Transaction) -> None:
        tx.changed(sa.update(Job).where(col(Job.pk) == job.pk).values(retry_of=failed.id))

    await database.write(mark_as_retry)

    def read_stock(tx: Transaction) -> Stock:
        product = select(Product).where(Product.store == store, Product.sku == "b")
        return Stock(
            store,
            session_of(tx).exec(select(Hierarchy).where(Hierarchy.id == id)).one(),
            session_of(tx).exec(product).one(),
            session_of(tx).get_one(Job, job.pk),
            session_of(tx).exec(select(Job).where(Job.id == failed.id)).one(),
            session_of(tx).exec(select(JobError).where(JobError.job_pk == failed.pk)).one(),
        )

    return await database.read(read_stock)


def own_sku(store: str) -> str:
    return f"c of {store}"


def ids(page: KeysetPage[Any]) -> list[UUID]:
    return [row.id for _, row in page.rows]


def shown(page: OffsetPage[Any]) -> list[UUID]:
    """The ids of a page, whose total equals its rows."""
    assert page.total == len(page.rows)
    return [row.id for row in page.rows]


Read = Callable[[Transaction, str, Stock], Any]
"""Reads rows of a stock on behalf of a store; falsy if the store cannot read them."""

SHARED_READS: Mapping[Callable[..., Any], Read] = {
    hierarchies.by_ids: lambda s, store, stock: hierarchies.by_ids(s, store, [stock.hierarchy.id]),
    hierarchies.by_pks: lambda s, store, stock: hierarchies.by_pks(
        s, store, [stock.hierarchy.pk or 0]
    ),
    hierarchies.by_id: lambda s, store, stock: hierarchies.by_id(s, store, stock.hierarchy.id),
    hierarchies.revision: lambda s, store, stock: (
        hierarchies.revision(s, store, stock.hierarchy.id) is not None
    ),
    hierarchies.listing: lambda s, store, stock: (
        stock.hierarchy.id in ids(hierarchies.listing(s, store, [], ALL))
    ),
    hierarchies.offset_page: lambda s, store, stock: (
        stock.hierarchy.id in shown(hierarchies.offset_page(s, store, [], NEWEST_FIRST, SPAN))
    ),
    hierarchies.count: lambda s, store, stock: hierarchies.count(
        s, store, [named(stock.hierarchy.name)]
    ),
    hierarchies.node_counts: lambda s, store, stock: hierarchies.node_counts(s, store, [stock.pk]),
    hierarchies.visible_pks: lambda s, store, stock: hierarchies.visible_pks(s, store, [stock.pk]),
    nodes.by_ids: lambda s, store, stock: nodes.by_ids(
        s, store, [node_id(stock.hierarchy.id, NODE)]
    ),
    nodes.items_by_keys: lambda s, store, stock: nodes.items_by_keys(
        s, store, [(stock.pk, 0), (stock.pk, NODE)]
    ),
    nodes.visible_hierarchies: lambda s, store, stock: nodes.visible_hierarchies(
        s, store, [(stock.pk, NODE)]
    ),
    nodes.children: lambda s, store, stock: (
        nodes.children(s, store, [(stock.pk, 0)], ALL)[stock.pk, 0].rows
    ),
    nodes.children_counts: lambda s, store, stock: nodes.children_counts(s, store, [(stock.pk, 0)])[
        stock.pk, 0
    ],
    nodes.of_hierarchies: lambda s, store, stock: (
        nodes.of_hierarchies(s, store, [stock.pk], ALL)[stock.pk].rows
    ),
    associations.nodes_of_products: lambda s, store, stock: (
        associations.nodes_of_products(s, store, [stock.product_pk], ALL)[stock.product_pk].rows
    ),
    associations.nodes_page: lambda s, store, stock: (
        associations.nodes_page(s, store, stock.product_pk, SPAN).rows
    ),
    associations.counts_of_products: lambda s, store, stock: associations.counts_of_products(
        s, store, [stock.product_pk]
    )[stock.product_pk],
    ancestors.of_nodes: lambda s, store, stock: ancestors.of_nodes(s, store, [(stock.pk, NODE)])[
        stock.pk, NODE
    ],
    products.by_ids: lambda s, store, stock: products.by_ids(s, store, [stock.product.id]),
    products.listing: lambda s, store, stock: (
        stock.product.id in ids(products.listing(s, store, [], ALL))
    ),
    products.ids: lambda s, store, stock: stock.product.id in products.ids(s, store, [], 1_000),
    products.count: lambda s, store, stock: products.count(
        s, store, [numbered(own_sku(stock.store))]
    ),
    associations.of_nodes: lambda s, store, stock: (
        associations.of_nodes(s, store, [(stock.pk, NODE)], ALL)[stock.pk, NODE].rows
    ),
    associations.counts_of_nodes: lambda s, store, stock: associations.counts_of_nodes(
        s, store, [(stock.pk, NODE)]
    )[stock.pk, NODE],
    associations.offset_page: lambda s, store, stock: (
        associations.offset_page(s, store, (stock.pk, NODE), SPAN).rows
    ),
}
"""Reads of the catalogue, which the organization shares with all stores."""

PRIVATE_READS: Mapping[Callable[..., Any], Read] = {
    hierarchies.begin_edit: lambda s, store, stock: hierarchies.begin_edit(
        s, store, stock.hierarchy.id
    ),
    products.pks_by_sku: lambda s, store, stock: (
        stock.product_pk in products.pks_by_sku(s, store, ["b"]).values()
    ),
    jobs.by_ids: lambda s, store, stock: jobs.by_ids(s, store, [stock.job.id]),
    jobs.by_id: lambda s, store, stock: jobs.by_id(s, store, stock.job.id),
    jobs.listing: lambda s, store, stock: (
        stock.job.id in ids(jobs.listing(s, store, JobFilter(), False, ALL))
    ),
    jobs.offset_page: lambda s, store, stock: (
        stock.job.id in shown(jobs.offset_page(s, store, [], jobs.NEWEST_FIRST, SPAN))
    ),
    jobs.count: lambda s, store, stock: jobs.count(
        s, store, JobFilter(hierarchy_id=stock.hierarchy.id)
    ),
    jobs.of_hierarchies: lambda s, store, stock: (
        jobs.of_hierarchies(s, store, [stock.hierarchy.id], ALL)[stock.hierarchy.id].rows
    ),
    jobs.counts_of_hierarchies: lambda s, store, stock: jobs.counts_of_hierarchies(
        s, store, [stock.hierarchy.id]
    )[stock.hierarchy.id],
    jobs.first_pending: lambda s, store, stock: (
        getattr(jobs.first_pending(s, store), "id", None) == stock.job.id
    ),
    jobs.queued: lambda s, store, stock: stock.job.id in ids(jobs.queued(s, store, ALL)),
    jobs.newest_retries: lambda s, store, stock: jobs.newest_retries(s, store, [stock.failed.id]),
    job_errors.by_ids: lambda s, store, stock: job_errors.by_ids(s, store, [stock.error.id]),
    job_errors.of_jobs: lambda s, store, stock: (
        job_errors.of_jobs(s, store, [stock.failed_version], ALL)[stock.failed_version].rows
    ),
    job_errors.counts_of_jobs: lambda s, store, stock: job_errors.counts_of_jobs(
        s, store, [stock.failed_version]
    )[stock.failed_version],
    idempotency.find: lambda s, store, stock: (
        stock.job.id == idempotency.find(s, store, KEY, START - timedelta(days=999))[0].id  # type: ignore[index]
    ),
    events.after: lambda s, store, stock: (
        stock.job_pk in [event.job_pk for event in events.after(s, store, 0, 100).events]
    ),
    events.oldest: lambda s, store, stock: (
        stock.job_pk
        in [
            event.job_pk
            for event in events.oldest(s, store, stock.job.created_at + timedelta(days=1), 100)
        ]
    ),
    lanes.queue_positions: lambda s, store, stock: lanes.queue_positions(s, store, [stock.job_pk]),
}
"""Reads of rows that only their own store can read, including the organization."""

OTHER_FUNCTIONS = {
    # Inserts a row, reads none.
    hierarchies.add,
    # Running jobs and statistics have tests of their own.
    jobs.started,
    job_stats.by_hour,
    jobs.oldest_pending_at,
    # These read or change only the lane of the store.
    lanes.lock,
    lanes.log_bounds,
    lanes.event_head,
    lanes.extend_lease,
    lanes.release,
    lanes.queue_state,
}


def test_every_storage_function_with_a_store_parameter_is_covered_here() -> None:
    def functions_with_store(module: ModuleType) -> set[Callable[..., Any]]:
        return {
            function
            for name, function in inspect.getmembers(module, inspect.isfunction)
            if function.__module__ == module.__name__
            and not name.startswith("_")
            and list(inspect.signature(function).parameters)[:2] == ["tx", "store"]
        }

    functions = set[Callable[..., Any]]()
    for module in (
        ancestors,
        associations,
        events,
        hierarchies,
        idempotency,
        job_errors,
        job_stats,
        jobs,
        lanes,
        nodes,
        products,
    ):
        functions |= functions_with_store(module)
    assert functions == SHARED_READS.keys() | PRIVATE_READS.keys() | OTHER_FUNCTIONS


async def test_a_store_reads_only_its_own_rows_and_the_catalogue_of_the_organization(
    database: Database,
) -> None:
    stocks = {store: await stocked(database, store) for store in STORES}
    for reads, owners_read_by in (
        (SHARED_READS, readable_by),
        (PRIVATE_READS, lambda store: (store,)),
    ):
        for function, read in reads.items():
            seen = {
                (store, owner)
                for store in STORES
                for owner, stock in stocks.items()
                # In a write transaction, since one of them locks its row.
                if await database.write(read, store, stock)
            }
            expected = {(store, owner) for store in STORES for owner in owners_read_by(store)}
            assert seen == expected, function


async def test_a_running_job_is_visible_only_to_its_own_store(database: Database) -> None:
    for store in STORES:
        stock = await stocked(database, store)
        assert (await factories.claimed_job(database, store=store)).id == stock.job.id
    running = [await database.read(jobs.started, store) for store in STORES]
    assert [job and job.store for job in running] == list(STORES)
    queues = [await database.read(lanes.queue_state, store) for store in STORES]
    assert [queue.running for queue in queues] == running


async def test_an_invisible_hierarchy_is_hidden_from_every_store(database: Database) -> None:
    stock = await stocked(database, ORGANIZATION)
    await factories.deleted(database, stock.hierarchy.id)
    seen = {
        function
        for function, read in SHARED_READS.items()
        for store in STORES
        if await database.write(read, store, stock)
    }
    # Products do not belong to a hierarchy.
    assert seen == {products.by_ids, products.ids, products.listing, products.count}


def owned_by(owner: Owner) -> Condition:
    return Condition("owner", Operator.EQ, [owner])


def named(name: str) -> Condition:
    return Condition("name", Operator.EQ, [name])


def numbered(sku: str) -> Condition:
    return Condition("sku", Operator.EQ, [sku])


@dataclass(frozen=True)
class Interleaved:
    """Hierarchies created alternately by all stores, several at the same instant."""

    newest_first: list[tuple[Key, str, str]]
    """Key, store and name per hierarchy."""

    def seen_by(self, store: str, filter: Conditions) -> list[Key]:
        """The expected keys for the store."""
        return [
            key
            for key, owner, name in self.newest_first
            if owner in readable_by(store)
            and all(
                {"owner": owner_of(owner), "name": name}[condition.attribute] in condition.values
                for condition in filter
            )
        ]

    def page(self, store: str, filter: Conditions, window: KeysetWindow) -> KeysetPage[Any]:
        """The expected page for the store."""
        rows = [
            (key, key[1])
            for key in self.seen_by(store, filter)
            if (window.after is None or key < window.after)
            and (window.before is None or key > window.before)
        ]
        more = len(rows) > window.limit
        if window.backward:
            return KeysetPage(rows[-window.limit :], window.before is not None, more)
        return KeysetPage(rows[: window.limit], more, window.after is not None)


async def interleaved_in(database: Database, seed: int) -> Interleaved:
    rng = random.Random(seed)
    rows = []
    for number in range(36):
        store, name = STORES[number % 3], rng.choice(("Garden", "Park"))
        id = await factories.hierarchy(database, {}, name=name, store=store)
        created_at = START + timedelta(seconds=rng.randrange(8))
        await factories.edited(database, id, created_at=created_at)
        rows.append(((created_at, id), store, name))
    return Interleaved(sorted(rows, reverse=True))


FILTERS = [
    [],
    [owned_by(Owner.STORE)],
    [owned_by(Owner.ORGANIZATION)],
    [named("Park")],
    [named("Park"), owned_by(Owner.ORGANIZATION)],
]


async def test_own_hierarchies_and_those_of_the_organization_are_one_list(
    database: Database, seed: int
) -> None:
    interleaved = await interleaved_in(database, seed)
    rng = random.Random(seed)
    bounds = [None, *(key for key, _, _ in interleaved.newest_first)]
    for store in STORES:
        for filter in FILTERS:
            whole = interleaved.page(store, filter, ALL)
            assert len(whole.rows) == await database.read(hierarchies.count, store, filter)
            windows = [ALL, KeysetWindow(100, backward=True)] + [
                KeysetWindow(
                    rng.randint(1, 14),
                    rng.choice(bounds),
                    rng.choice(bounds),
                    rng.random() < 0.5,
                )
                for _ in range(20)
            ]
            for window in windows:
                page = await database.read(hierarchies.listing, store, filter, window)
                assert page.map(lambda row: row.id) == interleaved.page(store, filter, window), (
                    store,
                    filter,
                    window,
                )


LIST = """
query ($first: Int, $after: String, $last: Int, $before: String, $filter: HierarchyFilter) {
    hierarchies(first: $first, after: $after, last: $last, before: $before, filter: $filter) {
        nodes { id } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    }
}
"""


async def test_clients_page_through_hierarchies_of_both_owners_once(
    idle_gateway: Gateway, idle_client: GraphQLClient, seed: int
) -> None:
    interleaved = await interleaved_in(idle_gateway.database, seed)
    for owner in (None, *Owner):
        seen = interleaved.seen_by(STORE, [owned_by(owner)] if owner else [])
        expected = [str(id) for _, id in seen]
        filter = {"owner": owner and owner.name}
        assert await ids_forward(idle_client, filter) == expected
        assert await ids_backward(idle_client, filter) == expected


async def ids_forward(client: GraphQLClient, filter: dict[str, Any]) -> list[str]:
    """The ids of all pages, read from the first to the last."""
    ids: list[str] = []
    after, more = None, True
    while more:
        page = (await client.data(LIST, first=5, after=after, filter=filter))["hierarchies"]
        ids += [row["id"] for row in page["nodes"]]
        after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    assert page["totalCount"] == len(ids)
    return ids


async def ids_backward(client: GraphQLClient, filter: dict[str, Any]) -> list[str]:
    """The ids of all pages, read from the last to the first."""
    ids: list[str] = []
    before, more = None, True
    while more:
        page = (await client.data(LIST, last=5, before=before, filter=filter))["hierarchies"]
        ids = [row["id"] for row in page["nodes"]] + ids
        before, more = page["pageInfo"]["startCursor"], page["pageInfo"]["hasPreviousPage"]
    assert page["totalCount"] == len(ids)
    return ids


async def copied(database: Database, source: UUID, store: str) -> Hierarchy:
    """Duplicate `source` with products for `store` with a real worker."""
    await factories.pending_duplication(database, source, store=store, include_products=True)
    job_id = await factories.ran_job(database, store=store)

    def copy(tx: Transaction) -> Hierarchy:
        job = session_of(tx).exec(select(Job).where(Job.id == job_id)).one()
        return session_of(tx).exec(select(Hierarchy).where(Hierarchy.id == job.result_id)).one()

    return await database.read(copy)


async def products_of(database: Database, store: str, hierarchy: HierarchyRow) -> list[Any]:
    """The products of node `NODE` that the store can read: owner, sku, curated."""
    assert hierarchy.pk is not None
    key = hierarchy.pk, NODE
    page = (await database.read(associations.of_nodes, store, [key], ALL))[key]
    counted = (await database.read(associations.counts_of_nodes, store, [key]))[key]
    assert len(page.rows) == counted
    return [(row.product.store, row.product.sku, row.curated) for _, row in page.rows]


async def catalogue(database: Database, store: str) -> UUID:
    """Create a hierarchy with two products, one of them curated."""
    return await factories.hierarchy(
        database,
        {"Trees": {"Oaks": {}}},
        store=store,
        products={"Oaks": ["a", "b"]},
        curated={"Oaks": ["b"]},
    )


async def test_a_copy_of_a_hierarchy_of_the_organization_belongs_to_the_store(
    database: Database,
) -> None:
    source = await catalogue(database, ORGANIZATION)
    copy = await copied(database, source, STORE)
    assert (copy.store, copy.owner, copy.copied_from) == (STORE, Owner.STORE, source)
    assert (copy.node_count, copy.association_count) == (2, 2)
    seen = [await database.read(hierarchies.by_id, store, copy.id) for store in STORES]
    assert [hierarchy is not None for hierarchy in seen] == [True, False, False]

    shown = [(ORGANIZATION, "b", True), (ORGANIZATION, "a", False)]
    assert await products_of(database, STORE, copy) == shown
    for store in (OTHER, ORGANIZATION):
        assert await products_of(database, store, copy) == []


async def test_a_product_of_the_organization_lists_only_nodes_readable_by_the_store(
    database: Database,
) -> None:
    source = await catalogue(database, ORGANIZATION)
    copies = {store: (await copied(database, source, store)).id for store in STORES}
    product = await database.read(
        lambda tx: session_of(tx).exec(select(Product.pk).where(col(Product.sku) == "b")).one()
    )
    assert product is not None
    expected = {
        STORE: [source, copies[STORE]],
        OTHER: [source, copies[OTHER]],
        ORGANIZATION: [source, copies[ORGANIZATION]],
    }
    for store in (STORE, OTHER):
        expected[store].append(copies[ORGANIZATION])
    for store in STORES:
        page = (await database.read(associations.nodes_of_products, store, [product], ALL))[product]
        nodes = [row for _, row in page.rows]
        assert all(isinstance(row, TreeNode) for row in nodes)
        assert [row.hierarchy.id for row in nodes] == expected[store]
        counts = await database.read(associations.counts_of_products, store, [product])
        assert counts == {product: len(nodes)}


async def test_a_copy_created_by_the_organization_belongs_to_the_organization(
    database: Database,
) -> None:
    source = await catalogue(database, ORGANIZATION)
    copy = await copied(database, source, ORGANIZATION)
    assert (copy.store, copy.owner) == (ORGANIZATION, Owner.ORGANIZATION)
    for store in STORES:
        assert await database.read(hierarchies.by_id, store, copy.id) is not None
        assert len(await products_of(database, store, copy)) == 2


@pytest.mark.parametrize(
    ("caller", "owner"),
    [(STORE, OTHER), (OTHER, STORE), (ORGANIZATION, STORE), (ORGANIZATION, OTHER)],
)
async def test_a_hierarchy_of_another_store_cannot_be_copied(
    database: Database, caller: str, owner: str
) -> None:
    source = await factories.hierarchy(database, {}, store=owner)
    with pytest.raises(NotFound):
        await factories.pending_duplication(database, source, store=caller)
    assert await database.read(jobs.count, caller, JobFilter()) == 0


async def test_a_pending_copy_fails_when_the_organization_deletes_the_source(
    database: Database,
) -> None:
    source = await factories.hierarchy(database, {"Trees": {}}, store=ORGANIZATION)
    await factories.pending_duplication(database, source)
    await factories.deleted(database, source)
    id = await factories.ran_job(database)
    (error,) = (await database.read(errors_of, id)).rows
    assert error[1].code == "NOT_FOUND"
    assert await database.read(hierarchies.count, STORE, []) == 0


def errors_of(tx: Transaction, job_id: UUID) -> KeysetPage[JobErrorRow]:
    job = jobs.by_id(tx, STORE, job_id)
    assert job
    assert job.pk is not None
    version = job.pk, job.version
    return job_errors.of_jobs(tx, STORE, [version], ALL)[version]


async def test_a_hierarchy_of_the_organization_lists_only_the_jobs_of_the_reading_store(
    database: Database,
) -> None:
    source = await factories.hierarchy(database, {}, store=ORGANIZATION)
    job_ids = {
        store: (await factories.pending_duplication(database, source, store=store)).id
        for store in STORES
    }
    for store in STORES:
        page = (await database.read(jobs.of_hierarchies, store, [source], ALL))[source]
        assert ids(page) == [job_ids[store]]
        counts = await database.read(jobs.counts_of_hierarchies, store, [source])
        assert counts == {source: 1}
        assert await database.read(jobs.count, store, JobFilter(hierarchy_id=source)) == 1


async def test_one_idempotency_key_identifies_one_job_per_store(database: Database) -> None:
    source = await factories.hierarchy(database, {}, store=ORGANIZATION)
    for _ in range(2):
        requests = [
            await database.write(
                services.request,
                Requester(store, request_id="given"),
                Duplication(source),
                KEY,
            )
            for store in STORES
        ]
        assert len({requested.job.id for requested in requests}) == len(STORES)
    assert all(requested.replayed for requested in requests)


async def test_a_sku_identifies_one_product_per_store(database: Database) -> None:
    for store in (ORGANIZATION, STORE):
        await catalogue(database, store)
    products = await database.read(lambda tx: session_of(tx).exec(select(Product)).all())
    assert sorted((product.store, product.sku) for product in products) == [
        (store, sku) for store in sorted((ORGANIZATION, STORE)) for sku in "ab"
    ]
    newest = await database.read(hierarchies.listing, STORE, [], ALL)
    for _, hierarchy in newest.rows:
        shown = [(hierarchy.store, "b", True), (hierarchy.store, "a", False)]
        assert await products_of(database, STORE, hierarchy) == shown
    assert len(newest.rows) == 2


SEEN = """
query ($ids: [ID!]!) {
    nodes(ids: $ids) {
        __typename
        id
        ... on Hierarchy {
            owner nodeCount copiedFrom { id owner }
            jobs(first: 5) { nodes { id } totalCount }
            nodes(first: 5) {
                nodes {
                    name
                    owner
                    products(first: 5) { edges { curated node { sku } } totalCount }
                }
            }
        }
        ... on Product { nodes(first: 5) { nodes { hierarchy { id } } totalCount } }
    }
}
"""


DUPLICATE = """
mutation ($id: ID!) {
    duplicateHierarchy(input: {hierarchyId: $id, includeProducts: true}) {
        job { id } errors { __typename }
    }
}
"""


async def test_clients_read_only_what_their_store_can_read(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database = idle_gateway.database
    source = await catalogue(database, ORGANIZATION)
    requested = (await idle_client.data(DUPLICATE, id=str(source)))["duplicateHierarchy"]
    assert requested["errors"] == []
    await factories.ran_job(database)
    (job,) = (await database.read(jobs.listing, STORE, JobFilter(), True, ALL)).rows
    copy = job[1].result_id
    assert copy
    copy_of_other = (await copied(database, source, OTHER)).id
    stock = await stocked(database, OTHER)
    readable = [source, copy, *await organizations_products(database)]
    hidden = [
        copy_of_other,
        node_id(copy_of_other, NODE),
        stock.hierarchy.id,
        stock.product.id,
        stock.job.id,
        stock.error.id,
    ]
    nodes = (await idle_client.data(SEEN, ids=[str(id) for id in [*readable, *hidden]]))["nodes"]
    assert nodes[len(readable) :] == [None] * len(hidden)

    jobs_of_source = {"nodes": [{"id": requested["job"]["id"]}], "totalCount": 1}
    shown = {
        "edges": [
            {"curated": True, "node": {"sku": "b"}},
            {"curated": False, "node": {"sku": "a"}},
        ],
        "totalCount": 2,
    }
    nothing = {"edges": [], "totalCount": 0}
    for index, id, owner, origin in (
        (0, source, "ORGANIZATION", None),
        (1, copy, "STORE", {"id": str(source), "owner": "ORGANIZATION"}),
    ):
        assert nodes[index] == {
            "__typename": "Hierarchy",
            "id": str(id),
            "owner": owner,
            "nodeCount": 2,
            "copiedFrom": origin,
            "jobs": jobs_of_source,
            "nodes": {
                "nodes": [
                    {"name": "Trees", "owner": owner, "products": nothing},
                    {"name": "Oaks", "owner": owner, "products": shown},
                ]
            },
        }
    for product in nodes[2 : len(readable)]:
        assert product["nodes"] == {
            "nodes": [{"hierarchy": {"id": str(id)}} for id in (source, copy)],
            "totalCount": 2,
        }


async def organizations_products(database: Database) -> list[UUID]:
    return await database.read(
        lambda tx: list(
            session_of(tx).exec(select(Product.id).where(col(Product.store) == ORGANIZATION))
        )
    )


SECRET = "a secret that only these tests know"


def token_of(store: str) -> str:
    """A token for a store or for the organization."""
    organization = store == ORGANIZATION
    return mint(
        SECRET,
        issuer="jobs-gateway",
        audience="jobs-gateway",
        subject="ada",
        store=None if organization else store,
        organization=organization,
        scopes=EVERY_SCOPE,
        lifetime=timedelta(hours=1),
    )


@dataclass(frozen=True)
class Change:
    """A request that changes a hierarchy, through GraphQL or REST."""

    method: str
    path: str
    body: Any = None

    @classmethod
    def mutation(cls, name: str, /, **input: Any) -> "Change":
        arguments = ", ".join(f"{field}: {json.dumps(value)}" for field, value in input.items())
        query = (
            f"mutation {{ result: {name}(input: {{{arguments}}}) {{ errors {{ __typename }} }} }}"
        )
        return cls("POST", "/graphql", {"query": query})

    @classmethod
    def request(cls, method: str, path: str, data: Any = None) -> "Change":
        return cls(method, f"/pcm/hierarchies/{path}", None if data is None else {"data": data})

    async def send(self, http: httpx.AsyncClient, store: str) -> str:
        """Send the request for a store; return the status phrase or the GraphQL refusals."""
        headers = {"Authorization": f"Bearer {token_of(store)}"}
        answer = await http.request(self.method, self.path, json=self.body, headers=headers)
        if self.path != "/graphql":
            return answer.reason_phrase
        refusals = answer.json()["data"]["result"]["errors"]
        return ", ".join(refusal["__typename"] for refusal in refusals) or "OK"


def mutations_of(stock: Stock) -> list[Change]:
    """Every mutation that changes a hierarchy; deletions come last."""
    root, node, leaf = (str(node_id(stock.hierarchy.id, no)) for no in (0, 1, NODE))
    product = str(stock.product.id)
    return [
        Change.mutation("updateHierarchy", hierarchyId=root, slug="garden"),
        Change.mutation("createNode", parentId=root, name="Herbs"),
        Change.mutation("createNode", parentId=node, name="Elms"),
        Change.mutation("updateNode", nodeId=leaf, curatedProductIds=[product]),
        Change.mutation("moveNode", nodeId=leaf, parentId=root),
        Change.mutation("detachProducts", nodeId=leaf, productIds=[product]),
        Change.mutation("attachProducts", nodeId=leaf, productIds=[product]),
        Change.mutation("deleteNode", nodeId=leaf),
        Change.mutation("deleteHierarchy", hierarchyId=root),
    ]


def requests_of(stock: Stock) -> list[Change]:
    """Every REST request that changes a hierarchy; deletions come last."""
    root, node, leaf = (str(node_id(stock.hierarchy.id, no)) for no in (0, 1, NODE))
    products = [{"type": "product", "id": str(stock.product.id)}]
    new_node = {"type": "node", "attributes": {"name": "Herbs"}}
    reference = {"type": "node", "id": leaf}
    return [
        Change.request("PUT", root, {"type": "hierarchy", "attributes": {"slug": "garden"}}),
        Change.request("POST", f"{root}/nodes", new_node),
        Change.request("PUT", f"{root}/nodes/{leaf}", {**reference, "meta": {"sort_order": 1}}),
        Change.request("DELETE", f"{root}/nodes/{leaf}/relationships/parent"),
        Change.request(
            "PUT", f"{root}/nodes/{leaf}/relationships/parent", {"type": "node", "id": node}
        ),
        Change.request("POST", f"{root}/nodes/{node}/relationships/children", [reference]),
        Change.request("DELETE", f"{root}/nodes/{leaf}/relationships/products", products),
        Change.request("POST", f"{root}/nodes/{leaf}/relationships/products", products),
        Change.request("DELETE", f"{root}/nodes/{leaf}"),
        Change.request("DELETE", root),
    ]


CHANGES = {"GraphQL": mutations_of, "REST": requests_of}


@pytest.mark.parametrize("api", CHANGES)
async def test_only_the_organization_can_change_its_hierarchies(
    settings: Settings, api: str
) -> None:
    guarded = settings.model_copy(update={"jwt_secret": SecretStr(SECRET), "runner": False})
    async with (
        gateway_of(guarded) as gateway,
        http_client(gateway.url) as http,
    ):
        stock = await stocked(gateway.database, ORGANIZATION)
        changes = CHANGES[api](stock)
        before = await gateway.database.read(rows_of, stock)
        assert len(before) > 4
        for change in changes:
            for store in (STORE, OTHER):
                assert await change.send(http, store) == "Forbidden", change
        assert await gateway.database.read(rows_of, stock) == before
        # The same requests succeed for the organization.
        for change in changes:
            assert await change.send(http, ORGANIZATION) in ("OK", "Created", "No Content"), change
            now = await gateway.database.read(rows_of, stock)
            assert now != before, change
            before = now


def rows_of(tx: Transaction, stock: Stock) -> list[str]:
    """The rows of a hierarchy, its nodes and its associations."""
    tables = SQLModel.metadata.tables
    keys = ("hierarchy", "pk"), ("node", "hierarchy_pk"), ("node_product", "hierarchy_pk")
    return [
        repr(row)
        for name, key in keys
        for row in tx.rows(sa.select(tables[name]).where(tables[name].c[key] == stock.pk))
    ]
