"""What is the organization's: every store reads it, nobody else's is read, and a copy of it is the
store's own."""

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
from sqlmodel import Session, SQLModel, col, select

from app.api.auth.identity import mint
from app.domain.callers import EVERY_SCOPE
from app.domain.errors import NotFound
from app.domain.filters import Condition, Conditions, Operator
from app.domain.hierarchies import Owner, node_id
from app.domain.jobs import Duplication
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
from app.storage.hierarchies import NEWEST_FIRST
from app.storage.jobs import JobFilter
from app.storage.nodes import TreeNode
from app.storage.sql.keyset import Key, KeysetPage, KeysetWindow
from app.storage.sql.offset import OffsetPage, OffsetWindow
from app.storage.tables import Hierarchy, Job, JobError, Product
from tests import factories
from tests.support.clients import GraphQLClient, http_client
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
    """What one store has: some of everything."""

    store: str
    hierarchy: Hierarchy
    product: Product
    job: Job
    """One that waits."""
    failed: Job
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
    """A garden, a job that copies it one day, one that failed."""
    lost = await factories.hierarchy(database, {}, store=store)
    failed = await factories.pending_duplication(database, lost, store=store)
    await factories.deleted(database, lost)
    await factories.ran_job(database, store=store)
    id = await factories.hierarchy(
        database,
        {"Trees": {"Oaks": {}}},
        name=f"Garden of {store}",
        store=store,
        # The same skus in every store, and one of its own.
        products={"Oaks": ["a", "b", own_sku(store)]},
        curated={"Oaks": ["b"]},
    )
    asked = Requester(store, request_id="given"), Duplication(id), KEY
    job = (await database.write(services.request_duplication, *asked)).job

    def as_a_retry(session: Session) -> None:
        session.get_one(Job, job.pk).retry_of = failed.id

    await database.write(as_a_retry)

    def found(session: Session) -> Stock:
        product = select(Product).where(Product.store == store, Product.sku == "b")
        return Stock(
            store,
            session.exec(select(Hierarchy).where(Hierarchy.id == id)).one(),
            session.exec(product).one(),
            session.get_one(Job, job.pk),
            session.exec(select(Job).where(Job.id == failed.id)).one(),
            session.exec(select(JobError).where(JobError.job_pk == failed.pk)).one(),
        )

    return await database.read(found)


def own_sku(store: str) -> str:
    return f"c of {store}"


def ids(page: KeysetPage[Any]) -> list[UUID]:
    return [row.id for _, row in page.rows]


def shown(span: OffsetPage[Any]) -> list[UUID]:
    """What a span shows, which counts no other things."""
    assert span.total == len(span.rows)
    return [row.id for row in span.rows]


Read = Callable[[Session, str, Stock], Any]
"""What a store gets, if anything, that asks for what may be another one's."""

OF_ALL: Mapping[Callable[..., Any], Read] = {
    hierarchies.by_ids: lambda s, store, of: hierarchies.by_ids(s, store, [of.hierarchy.id]),
    hierarchies.by_pks: lambda s, store, of: hierarchies.by_pks(s, store, [of.hierarchy.pk or 0]),
    hierarchies.by_id: lambda s, store, of: hierarchies.by_id(s, store, of.hierarchy.id),
    hierarchies.revision: lambda s, store, of: (
        hierarchies.revision(s, store, of.hierarchy.id) is not None
    ),
    hierarchies.listing: lambda s, store, of: (
        of.hierarchy.id in ids(hierarchies.listing(s, store, [], ALL))
    ),
    hierarchies.lock: lambda s, store, of: hierarchies.lock(s, store, of.hierarchy.id),
    hierarchies.offset_page: lambda s, store, of: (
        of.hierarchy.id in shown(hierarchies.offset_page(s, store, [], NEWEST_FIRST, SPAN))
    ),
    hierarchies.count: lambda s, store, of: hierarchies.count(s, store, [named(of.hierarchy.name)]),
    hierarchies.node_counts: lambda s, store, of: hierarchies.node_counts(s, store, [of.pk]),
    hierarchies.visible_pks: lambda s, store, of: hierarchies.visible_pks(s, store, [of.pk]),
    nodes.by_ids: lambda s, store, of: nodes.by_ids(s, store, [node_id(of.hierarchy.id, NODE)]),
    nodes.items_by_keys: lambda s, store, of: nodes.items_by_keys(
        s, store, [(of.pk, 0), (of.pk, NODE)]
    ),
    nodes.visible_hierarchies: lambda s, store, of: nodes.visible_hierarchies(
        s, store, [(of.pk, NODE)]
    ),
    nodes.children: lambda s, store, of: nodes.children(s, store, [(of.pk, 0)], ALL)[of.pk, 0].rows,
    nodes.children_counts: lambda s, store, of: nodes.children_counts(s, store, [(of.pk, 0)])[
        of.pk, 0
    ],
    nodes.of_hierarchies: lambda s, store, of: (
        nodes.of_hierarchies(s, store, [of.pk], ALL)[of.pk].rows
    ),
    associations.nodes_of_products: lambda s, store, of: (
        associations.nodes_of_products(s, store, [of.product_pk], ALL)[of.product_pk].rows
    ),
    associations.counts_of_products: lambda s, store, of: associations.counts_of_products(
        s, store, [of.product_pk]
    )[of.product_pk],
    ancestors.of_nodes: lambda s, store, of: ancestors.of_nodes(s, store, [(of.pk, NODE)])[
        of.pk, NODE
    ],
    products.by_ids: lambda s, store, of: products.by_ids(s, store, [of.product.id]),
    products.listing: lambda s, store, of: (
        of.product.id in ids(products.listing(s, store, [], ALL))
    ),
    products.count: lambda s, store, of: products.count(s, store, [numbered(own_sku(of.store))]),
    associations.of_nodes: lambda s, store, of: (
        associations.of_nodes(s, store, [(of.pk, NODE)], ALL)[of.pk, NODE].rows
    ),
    associations.counts_of_nodes: lambda s, store, of: associations.counts_of_nodes(
        s, store, [(of.pk, NODE)]
    )[of.pk, NODE],
    associations.offset_page: lambda s, store, of: (
        associations.offset_page(s, store, (of.pk, NODE), SPAN).rows
    ),
}
"""Reads of what the organization lets all stores read."""

ITS_OWN: Mapping[Callable[..., Any], Read] = {
    products.pks_by_sku: lambda s, store, of: (
        of.product_pk in products.pks_by_sku(s, store, ["b"]).values()
    ),
    jobs.by_ids: lambda s, store, of: jobs.by_ids(s, store, [of.job.id]),
    jobs.by_id: lambda s, store, of: jobs.by_id(s, store, of.job.id),
    jobs.listing: lambda s, store, of: (
        of.job.id in ids(jobs.listing(s, store, JobFilter(), False, ALL))
    ),
    jobs.offset_page: lambda s, store, of: (
        of.job.id in shown(jobs.offset_page(s, store, [], jobs.NEWEST_FIRST, SPAN))
    ),
    jobs.count: lambda s, store, of: jobs.count(s, store, JobFilter(hierarchy_id=of.hierarchy.id)),
    jobs.of_hierarchies: lambda s, store, of: (
        jobs.of_hierarchies(s, store, [of.hierarchy.id], ALL)[of.hierarchy.id].rows
    ),
    jobs.counts_of_hierarchies: lambda s, store, of: jobs.counts_of_hierarchies(
        s, store, [of.hierarchy.id]
    )[of.hierarchy.id],
    jobs.first_pending: lambda s, store, of: (
        getattr(jobs.first_pending(s, store), "id", None) == of.job.id
    ),
    jobs.queued: lambda s, store, of: of.job.id in ids(jobs.queued(s, store, ALL)),
    jobs.newest_retries: lambda s, store, of: jobs.newest_retries(s, store, [of.failed.id]),
    job_errors.by_ids: lambda s, store, of: job_errors.by_ids(s, store, [of.error.id]),
    job_errors.of_jobs: lambda s, store, of: (
        job_errors.of_jobs(s, store, [of.failed_version], ALL)[of.failed_version].rows
    ),
    job_errors.counts_of_jobs: lambda s, store, of: job_errors.counts_of_jobs(
        s, store, [of.failed_version]
    )[of.failed_version],
    idempotency.find: lambda s, store, of: (
        of.job.id == idempotency.find(s, store, KEY, START - timedelta(days=999))[0].id  # type: ignore[index]
    ),
    events.after: lambda s, store, of: (
        of.job_pk in [event.job_pk for event in events.after(s, store, 0, 100).events]
    ),
    events.oldest: lambda s, store, of: (
        of.job_pk
        in [
            event.job_pk
            for event in events.oldest(s, store, of.job.created_at + timedelta(days=1), 100)
        ]
    ),
    lanes.queue_positions: lambda s, store, of: lanes.queue_positions(s, store, [of.job_pk]),
}
"""Reads of what is each store's alone, also the organization's."""

NO_READS_OF_ROWS = {
    # It makes a row, and reads none.
    hierarchies.add,
    # What runs is shown in its own test, and so is what is told of all jobs together.
    jobs.started,
    job_stats.by_hour,
    jobs.oldest_pending_at,
    # The store's lane and nothing else is what they are given.
    lanes.lock,
    lanes.log_bounds,
    lanes.event_head,
    lanes.extend_lease,
    lanes.release,
    lanes.queue_state,
}


def test_every_function_of_storage_that_is_given_a_store_is_tried_here() -> None:
    def of_a_store(module: ModuleType) -> set[Callable[..., Any]]:
        return {
            function
            for name, function in inspect.getmembers(module, inspect.isfunction)
            if function.__module__ == module.__name__
            and not name.startswith("_")
            and list(inspect.signature(function).parameters)[:2] == ["session", "store"]
        }

    of_stores = set[Callable[..., Any]]()
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
        of_stores |= of_a_store(module)
    assert of_stores == OF_ALL.keys() | ITS_OWN.keys() | NO_READS_OF_ROWS


async def test_a_store_sees_what_is_its_own_and_of_others_only_what_the_organization_lets_all_read(
    database: Database,
) -> None:
    stock = {store: await stocked(database, store) for store in STORES}
    for reads, whose in ((OF_ALL, readable_by), (ITS_OWN, lambda store: (store,))):
        for function, read in reads.items():
            seen = {
                (store, owner)
                for store in STORES
                for owner, of in stock.items()
                # Written, since one of them locks what it finds.
                if await database.write(read, store, of)
            }
            expected = {(store, owner) for store in STORES for owner in whose(store)}
            assert seen == expected, function


async def test_the_job_that_runs_is_shown_to_its_own_store_only(database: Database) -> None:
    for store in STORES:
        stock = await stocked(database, store)
        assert (await factories.claimed_job(database, store=store)).id == stock.job.id
    running = [await database.read(jobs.started, store) for store in STORES]
    assert [job and job.store for job in running] == list(STORES)
    queues = [await database.read(lanes.queue_state, store) for store in STORES]
    assert [queue.running for queue in queues] == running


async def test_what_is_not_whole_yet_is_shown_to_nobody(database: Database) -> None:
    of = await stocked(database, ORGANIZATION)
    await factories.deleted(database, of.hierarchy.id)
    seen = {
        function
        for function, read in OF_ALL.items()
        for store in STORES
        if await database.write(read, store, of)
    }
    # A product is no part of a hierarchy.
    assert seen == {products.by_ids, products.listing, products.count}


def owned_by(owner: Owner) -> Condition:
    return Condition("owner", Operator.EQ, [owner])


def named(name: str) -> Condition:
    return Condition("name", Operator.EQ, [name])


def numbered(sku: str) -> Condition:
    return Condition("sku", Operator.EQ, [sku])


@dataclass(frozen=True)
class Interleaved:
    """Hierarchies of all stores made in turns, several of them at the same instant."""

    newest_first: list[tuple[Key, str, str]]
    """The key, store and name of each."""

    def seen_by(self, store: str, filter: Conditions) -> list[Key]:
        """The keys of all that the store should find."""
        return [
            key
            for key, owner, name in self.newest_first
            if owner in readable_by(store)
            and all(
                {"owner": owner_of(owner), "name": name}[asked.attribute] in asked.values
                for asked in filter
            )
        ]

    def page(self, store: str, filter: Conditions, window: KeysetWindow) -> KeysetPage[Any]:
        """The page that the store should find."""
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
    chance = random.Random(seed)
    made = []
    for number in range(36):
        store, name = STORES[number % 3], chance.choice(("Garden", "Park"))
        id = await factories.hierarchy(database, {}, name=name, store=store)
        created_at = START + timedelta(seconds=chance.randrange(8))
        await factories.edited(database, id, created_at=created_at)
        made.append(((created_at, id), store, name))
    return Interleaved(sorted(made, reverse=True))


FILTERS = [
    [],
    [owned_by(Owner.STORE)],
    [owned_by(Owner.ORGANIZATION)],
    [named("Park")],
    [named("Park"), owned_by(Owner.ORGANIZATION)],
]


async def test_own_hierarchies_and_the_organizations_are_one_list(
    database: Database, seed: int
) -> None:
    interleaved = await interleaved_in(database, seed)
    chance = random.Random(seed)
    bounds = [None, *(key for key, _, _ in interleaved.newest_first)]
    for store in STORES:
        for filter in FILTERS:
            whole = interleaved.page(store, filter, ALL)
            assert len(whole.rows) == await database.read(hierarchies.count, store, filter)
            windows = [ALL, KeysetWindow(100, backward=True)] + [
                KeysetWindow(
                    chance.randint(1, 14),
                    chance.choice(bounds),
                    chance.choice(bounds),
                    chance.random() < 0.5,
                )
                for _ in range(20)
            ]
            for window in windows:
                found = await database.read(hierarchies.listing, store, filter, window)
                assert found.map(lambda row: row.id) == interleaved.page(store, filter, window), (
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


async def test_clients_page_through_both_and_meet_each_once(
    idle_gateway: Gateway, idle_client: GraphQLClient, seed: int
) -> None:
    interleaved = await interleaved_in(idle_gateway.database, seed)
    for owner in (None, *Owner):
        seen = interleaved.seen_by(STORE, [owned_by(owner)] if owner else [])
        expected = [str(id) for _, id in seen]
        named = {"owner": owner and owner.name}
        assert await met_forward(idle_client, named) == expected
        assert await met_backward(idle_client, named) == expected


async def met_forward(client: GraphQLClient, filter: dict[str, Any]) -> list[str]:
    """What a client meets that goes from the first page to the last."""
    met: list[str] = []
    after, more = None, True
    while more:
        page = (await client.data(LIST, first=5, after=after, filter=filter))["hierarchies"]
        met += [row["id"] for row in page["nodes"]]
        after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    assert page["totalCount"] == len(met)
    return met


async def met_backward(client: GraphQLClient, filter: dict[str, Any]) -> list[str]:
    """What a client meets that goes from the last page to the first."""
    met: list[str] = []
    before, more = None, True
    while more:
        page = (await client.data(LIST, last=5, before=before, filter=filter))["hierarchies"]
        met = [row["id"] for row in page["nodes"]] + met
        before, more = page["pageInfo"]["startCursor"], page["pageInfo"]["hasPreviousPage"]
    assert page["totalCount"] == len(met)
    return met


async def copied(database: Database, source: UUID, store: str) -> Hierarchy:
    """The copy, with products, that a real worker makes for that store."""
    await factories.pending_duplication(database, source, store=store, include_products=True)
    job_id = await factories.ran_job(database, store=store)

    def copy(session: Session) -> Hierarchy:
        job = session.exec(select(Job).where(Job.id == job_id)).one()
        return session.exec(select(Hierarchy).where(Hierarchy.id == job.result_id)).one()

    return await database.read(copy)


async def products_of(database: Database, store: str, hierarchy: Hierarchy) -> list[Any]:
    """What the store sees of the products at the node that has some."""
    assert hierarchy.pk is not None
    key = hierarchy.pk, NODE
    page = (await database.read(associations.of_nodes, store, [key], ALL))[key]
    counted = (await database.read(associations.counts_of_nodes, store, [key]))[key]
    assert len(page.rows) == counted
    return [(row.product.store, row.product.sku, row.curated) for _, row in page.rows]


async def catalogue(database: Database, store: str) -> UUID:
    """A hierarchy with products, one of them curated."""
    return await factories.hierarchy(
        database,
        {"Trees": {"Oaks": {}}},
        store=store,
        products={"Oaks": ["a", "b"]},
        curated={"Oaks": ["b"]},
    )


async def test_what_a_store_copies_from_the_organization_is_its_own(database: Database) -> None:
    source = await catalogue(database, ORGANIZATION)
    copy = await copied(database, source, STORE)
    assert (copy.store, copy.owner, copy.copied_from) == (STORE, Owner.STORE, source)
    assert (copy.node_count, copy.association_count) == (2, 2)
    seen = [await database.read(hierarchies.by_id, store, copy.id) for store in STORES]
    assert [found is not None for found in seen] == [True, False, False]

    shown = [(ORGANIZATION, "b", True), (ORGANIZATION, "a", False)]
    assert await products_of(database, STORE, copy) == shown
    for store in (OTHER, ORGANIZATION):
        assert await products_of(database, store, copy) == []


async def test_a_product_of_the_organization_is_at_its_nodes_in_what_the_store_sees(
    database: Database,
) -> None:
    source = await catalogue(database, ORGANIZATION)
    copies = {store: (await copied(database, source, store)).id for store in STORES}
    product = await database.read(
        lambda session: session.exec(select(Product.pk).where(col(Product.sku) == "b")).one()
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
        found = [row for _, row in page.rows]
        assert all(isinstance(row, TreeNode) for row in found)
        assert [row.hierarchy.id for row in found] == expected[store]
        counts = await database.read(associations.counts_of_products, store, [product])
        assert counts == {product: len(found)}


async def test_what_the_organization_copies_is_the_organizations(database: Database) -> None:
    source = await catalogue(database, ORGANIZATION)
    copy = await copied(database, source, ORGANIZATION)
    assert (copy.store, copy.owner) == (ORGANIZATION, Owner.ORGANIZATION)
    for store in STORES:
        assert await database.read(hierarchies.by_id, store, copy.id) is not None
        assert len(await products_of(database, store, copy)) == 2


@pytest.mark.parametrize(
    ("asking", "owner"),
    [(STORE, OTHER), (OTHER, STORE), (ORGANIZATION, STORE), (ORGANIZATION, OTHER)],
)
async def test_nobody_copies_what_another_store_owns(
    database: Database, asking: str, owner: str
) -> None:
    source = await factories.hierarchy(database, {}, store=owner)
    with pytest.raises(NotFound):
        await factories.pending_duplication(database, source, store=asking)
    assert await database.read(jobs.count, asking, JobFilter()) == 0


async def test_a_copy_that_was_asked_for_fails_when_the_organization_deletes_the_source(
    database: Database,
) -> None:
    source = await factories.hierarchy(database, {"Trees": {}}, store=ORGANIZATION)
    await factories.pending_duplication(database, source)
    await factories.deleted(database, source)
    id = await factories.ran_job(database)
    (error,) = (await database.read(errors_of, id)).rows
    assert error[1].code == "NOT_FOUND"
    assert await database.read(hierarchies.count, STORE, []) == 0


def errors_of(session: Session, job_id: UUID) -> KeysetPage[JobError]:
    job = jobs.by_id(session, STORE, job_id)
    assert job
    assert job.pk is not None
    version = job.pk, job.version
    return job_errors.of_jobs(session, STORE, [version], ALL)[version]


async def test_each_store_sees_its_own_jobs_of_what_is_the_organizations(
    database: Database,
) -> None:
    source = await factories.hierarchy(database, {}, store=ORGANIZATION)
    made = {
        store: (await factories.pending_duplication(database, source, store=store)).id
        for store in STORES
    }
    for store in STORES:
        page = (await database.read(jobs.of_hierarchies, store, [source], ALL))[source]
        assert ids(page) == [made[store]]
        counts = await database.read(jobs.counts_of_hierarchies, store, [source])
        assert counts == {source: 1}
        assert await database.read(jobs.count, store, JobFilter(hierarchy_id=source)) == 1


async def test_one_key_stands_for_a_job_in_each_store(database: Database) -> None:
    source = await factories.hierarchy(database, {}, store=ORGANIZATION)
    for _ in range(2):
        made = [
            await database.write(
                services.request_duplication,
                Requester(store, request_id="given"),
                Duplication(source),
                KEY,
            )
            for store in STORES
        ]
        assert len({requested.job.id for requested in made}) == len(STORES)
    assert all(requested.replayed for requested in made)


async def test_a_sku_is_one_product_in_each_store(database: Database) -> None:
    for store in (ORGANIZATION, STORE):
        await catalogue(database, store)
    found = await database.read(lambda session: session.exec(select(Product)).all())
    assert sorted((product.store, product.sku) for product in found) == [
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


async def test_clients_see_what_their_store_may(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database = idle_gateway.database
    source = await catalogue(database, ORGANIZATION)
    asked_for = (await idle_client.data(DUPLICATE, id=str(source)))["duplicateHierarchy"]
    assert asked_for["errors"] == []
    await factories.ran_job(database)
    (job,) = (await database.read(jobs.listing, STORE, JobFilter(), True, ALL)).rows
    copy = job[1].result_id
    assert copy
    theirs = (await copied(database, source, OTHER)).id
    stock = await stocked(database, OTHER)
    asked = [source, copy, *await organizations_products(database)]
    hidden = [
        theirs,
        node_id(theirs, NODE),
        stock.hierarchy.id,
        stock.product.id,
        stock.job.id,
        stock.error.id,
    ]
    found = (await idle_client.data(SEEN, ids=[str(id) for id in [*asked, *hidden]]))["nodes"]
    assert found[len(asked) :] == [None] * len(hidden)

    of_jobs = {"nodes": [{"id": asked_for["job"]["id"]}], "totalCount": 1}
    shown = {
        "edges": [
            {"curated": True, "node": {"sku": "b"}},
            {"curated": False, "node": {"sku": "a"}},
        ],
        "totalCount": 2,
    }
    nothing = {"edges": [], "totalCount": 0}
    for at, id, owner, origin in (
        (0, source, "ORGANIZATION", None),
        (1, copy, "STORE", {"id": str(source), "owner": "ORGANIZATION"}),
    ):
        assert found[at] == {
            "__typename": "Hierarchy",
            "id": str(id),
            "owner": owner,
            "nodeCount": 2,
            "copiedFrom": origin,
            "jobs": of_jobs,
            "nodes": {
                "nodes": [
                    {"name": "Trees", "owner": owner, "products": nothing},
                    {"name": "Oaks", "owner": owner, "products": shown},
                ]
            },
        }
    for product in found[2 : len(asked)]:
        assert product["nodes"] == {
            "nodes": [{"hierarchy": {"id": str(id)}} for id in (source, copy)],
            "totalCount": 2,
        }


async def organizations_products(database: Database) -> list[UUID]:
    return await database.read(
        lambda session: list(
            session.exec(select(Product.id).where(col(Product.store) == ORGANIZATION))
        )
    )


SECRET = "a secret that only these tests know"


def token_of(store: str) -> str:
    """A token of somebody in a store, or in the organization."""
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
    """What somebody asks for to change something, as one of the two doors takes it."""

    method: str
    path: str
    body: Any = None

    @classmethod
    def mutation(cls, name: str, /, **input: Any) -> "Change":
        """It is asked for through GraphQL."""
        said = ", ".join(f"{field}: {json.dumps(value)}" for field, value in input.items())
        query = f"mutation {{ made: {name}(input: {{{said}}}) {{ errors {{ __typename }} }} }}"
        return cls("POST", "/graphql", {"query": query})

    @classmethod
    def request(cls, method: str, path: str, data: Any = None) -> "Change":
        """It is asked for through REST."""
        return cls(method, f"/pcm/hierarchies/{path}", None if data is None else {"data": data})

    async def asked(self, http: httpx.AsyncClient, store: str) -> str:
        """What becomes of it when somebody of that store asks."""
        headers = {"Authorization": f"Bearer {token_of(store)}"}
        answer = await http.request(self.method, self.path, json=self.body, headers=headers)
        if self.path != "/graphql":
            return answer.reason_phrase
        refusals = answer.json()["data"]["made"]["errors"]
        return ", ".join(refusal["__typename"] for refusal in refusals) or "OK"


def mutations_of(of: Stock) -> list[Change]:
    """Every mutation that changes a hierarchy; what deletes comes last."""
    root, node, leaf = (str(node_id(of.hierarchy.id, no)) for no in (0, 1, NODE))
    product = str(of.product.id)
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


def requests_of(of: Stock) -> list[Change]:
    """The same through REST."""
    root, node, leaf = (str(node_id(of.hierarchy.id, no)) for no in (0, 1, NODE))
    held = [{"type": "product", "id": str(of.product.id)}]
    named = {"type": "node", "attributes": {"name": "Herbs"}}
    one = {"type": "node", "id": leaf}
    return [
        Change.request("PUT", root, {"type": "hierarchy", "attributes": {"slug": "garden"}}),
        Change.request("POST", f"{root}/nodes", named),
        Change.request("PUT", f"{root}/nodes/{leaf}", {**one, "meta": {"sort_order": 1}}),
        Change.request("DELETE", f"{root}/nodes/{leaf}/relationships/parent"),
        Change.request(
            "PUT", f"{root}/nodes/{leaf}/relationships/parent", {"type": "node", "id": node}
        ),
        Change.request("POST", f"{root}/nodes/{node}/relationships/children", [one]),
        Change.request("DELETE", f"{root}/nodes/{leaf}/relationships/products", held),
        Change.request("POST", f"{root}/nodes/{leaf}/relationships/products", held),
        Change.request("DELETE", f"{root}/nodes/{leaf}"),
        Change.request("DELETE", root),
    ]


CHANGES = {"GraphQL": mutations_of, "REST": requests_of}


@pytest.mark.parametrize("door", CHANGES)
async def test_a_hierarchy_of_the_organization_is_changed_by_the_organization_alone(
    settings: Settings, door: str
) -> None:
    guarded = settings.model_copy(update={"jwt_secret": SecretStr(SECRET), "runner": False})
    async with (
        gateway_of(guarded) as gateway,
        http_client(gateway.url) as http,
    ):
        of = await stocked(gateway.database, ORGANIZATION)
        changes = CHANGES[door](of)
        before = await gateway.database.read(rows_of, of)
        assert len(before) > 4
        for change in changes:
            for store in (STORE, OTHER):
                assert await change.asked(http, store) == "Forbidden", change
        assert await gateway.database.read(rows_of, of) == before
        # It is not that these changes are none.
        for change in changes:
            assert await change.asked(http, ORGANIZATION) in ("OK", "Created", "No Content"), change
            now = await gateway.database.read(rows_of, of)
            assert now != before, change
            before = now


def rows_of(session: Session, of: Stock) -> list[str]:
    """What there is of a hierarchy."""
    tables = SQLModel.metadata.tables
    keys = ("hierarchy", "pk"), ("node", "hierarchy_pk"), ("node_product", "hierarchy_pk")
    return [
        repr(row)
        for name, key in keys
        for row in session.execute(sa.select(tables[name]).where(tables[name].c[key] == of.pk))
    ]
