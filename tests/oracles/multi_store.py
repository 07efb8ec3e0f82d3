"""A gateway with several stores, each with rows of every kind that carry the store's marker."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import sqlalchemy as sa
from pydantic import SecretStr
from sqlmodel import SQLModel, col, select

from app.api.auth.identity import mint
from app.domain.callers import EVERY_SCOPE, Scope
from app.domain.hierarchies import node_id
from app.domain.job_types.hierarchy_duplicate import Duplication
from app.domain.jobs import JobStatus, JobType
from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.services import attempts, jobs, nodes
from app.services.attempts import Step
from app.services.jobs import Requester
from app.settings import Settings
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.job_errors import add
from app.storage.tables import (
    Hierarchy,
    Job,
    JobError,
    JobRow,
    Node,
    Product,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookPosition,
)
from tests import factories
from tests.oracles.schema_walk import Material
from tests.support.clients import http_client
from tests.support.clock import HourClock
from tests.support.entities import read_transaction, session_of
from tests.support.gateway import gateway_of

SECRET = "a secret that only these tests know"
ALPHA, BETA = "alpha", "beta"
OTHER_STORES = (BETA, ORGANIZATION)
LOCALE = "fr-FR"
NODE = 2
"""The number of the node with products."""
UNKNOWN_ID = UUID(int=0xDEAD << 32)
"""An id of no row; with a number in its low bits, of no node."""


@dataclass(frozen=True)
class StoreData:
    """Ids of a store's rows, whose texts all contain the store's marker."""

    store: str
    marker: str
    hierarchy: UUID
    pending: UUID
    key: str
    """An idempotency key of a job."""


async def populate(database: Database, store: str, shared: UUID | None = None) -> StoreData:
    """Create rows of every kind, and a copy of the `shared` hierarchy, in a store."""
    marker = f"only-{store.strip('@')}s"
    tree: factories.Tree = {
        f"{marker} trees": {f"{marker} oaks": {}, f"{marker} firs": {}},
        f"{marker} herbs": {},
        f"{marker} weeds": {},
    }
    source = await factories.hierarchy(
        database,
        tree,
        store=store,
        name=f"{marker} garden",
        slug=f"{marker}-garden",
        description=f"{marker} description",
        locales={LOCALE: {"name": f"{marker} jardin", "description": f"{marker} texte"}},
        products={
            f"{marker} oaks": [f"{marker}-{n}" for n in range(1, 6)],
            f"{marker} weeds": [f"{marker}-1"],
        },
        curated={f"{marker} oaks": [f"{marker}-4", f"{marker}-2"]},
    )
    for no in range(1, 5):
        await factories.edited(
            database,
            node_id(source, no),
            description=f"{marker} description {no}",
            sort_order=no,
            locales={LOCALE: {"name": f"{marker} nom {no}", "description": f"{marker} texte {no}"}},
            admin_attributes={f"{marker} key {no}": f"{marker} value {no}"},
            shopper_attributes={f"{marker} key {no}": f"{marker} value {no}"},
        )
    custom = {f"{marker} key": f"{marker} value"}
    await factories.edited(database, source, admin_attributes=custom, shopper_attributes=custom)
    await database.write(nodes.delete, store, node_id(source, 5))
    requester = Requester(store, f"{marker}-request", f"{marker}-robot")

    async def request_duplication(id: UUID, key: str | None = None) -> JobRow:
        duplication = Duplication(id, f"{marker} copy", f"{marker} copied", include_products=True)
        return (await database.write(jobs.request, requester, duplication, key)).job

    for id in (source, shared or source):
        await request_duplication(id)
        await factories.ran_job(database, store=store)
    await request_duplication(source)
    failing = await factories.claimed_job(database, store=store)
    await database.write(_add_errors, failing, marker)
    await database.write(jobs.retry, requester, failing.id, lambda _: None)
    await factories.ran_job(database, store=store)
    await database.write(_add_delivery, store)
    await database.write(jobs.cancel, store, (await request_duplication(source)).id)
    await request_duplication(source)
    started = await factories.claimed_job(database, store=store)
    await database.write(attempts.advance, started, lambda: Step({}, 3, 9))
    key = f"{marker}-key"
    pending = await request_duplication(source, key)
    await request_duplication(shared or source)
    await factories.pending_job(database, JobType.PRODUCT_EXPORT, store=store)
    return StoreData(store, marker, source, pending.id, key)


def _add_delivery(tx: Transaction, store: str) -> None:
    url = "https://example.com/all"
    endpoint = sa.select(col(WebhookEndpoint.pk)).where(col(WebhookEndpoint.url) == url)
    if not tx.rows(endpoint):
        tx.changed(sa.insert(WebhookEndpoint).values(url=url, created_at=tx.now()))
    [(endpoint_pk,)] = tx.rows(endpoint)
    shared = {"endpoint_pk": endpoint_pk, "store": store, "seq": 1}
    tx.changed(sa.insert(WebhookPosition).values(shared))
    tx.changed(sa.insert(WebhookDelivery).values(id=uuid4(), created_at=tx.now(), **shared))


def _add_errors(tx: Transaction, failing: JobRow, marker: str) -> None:
    job = attempts.fail(tx, failing, f"{marker}-code", f"{marker} went wrong", lambda: None)
    for no in range(2):
        add(tx, job, f"{marker}-code-{no}", f"{marker} went worse", tx.now())


async def material_of(database: Database, store: str) -> Material:
    """The arguments of operations on a store: ids of each kind, texts and times."""

    def read(tx: Transaction) -> Material:
        def ids(entity: Any, *where: Any) -> list[str]:
            rows = session_of(tx).exec(select(entity.id).where(entity.store == store, *where))
            return [str(id) for id in rows]

        hierarchies = ids(Hierarchy)
        started, failed, done = (
            ids(Job, col(Job.status) == status)[0]
            for status in (JobStatus.STARTED, JobStatus.FAILED, JobStatus.SUCCESS)
        )
        error = (
            session_of(tx)
            .exec(select(JobError.id).where(JobError.job_pk == Job.pk, Job.store == store))
            .first()
        )
        job = session_of(tx).exec(select(Job).where(col(Job.id) == UUID(started))).one()
        tree = (
            session_of(tx).exec(select(Hierarchy).where(Hierarchy.id == UUID(hierarchies[0]))).one()
        )
        node = node_id(tree.id, NODE)
        product = session_of(tx).exec(select(Product).where(Product.store == store)).first()
        assert product
        assert product.sku
        return Material(
            kinds={
                **dict.fromkeys((hierarchies[0], hierarchies[-1]), "Hierarchy"),
                str(node): "HierarchyNode",
                str(product.id): "Product",
                **dict.fromkeys((started, failed, done), "Job"),
                str(error): "JobError",
            },
            texts=[tree.name, tree.slug or "", product.sku, f"*{tree.name[:8]}*"],
            instants=[job.created_at.isoformat()],
            locale=LOCALE,
            fitting=[
                {
                    "hierarchyId": hierarchies[0],
                    "parentId": hierarchies[0],
                    "nodeId": str(node),
                    "productIds": str(product.id),
                    "jobId": started,
                }
            ],
        )

    return await database.read(read)


def public_ids(database: Database, store: str) -> set[str]:
    """The ids of all rows of a store."""

    def read(tx: Transaction) -> set[str]:
        ids: list[UUID] = []
        for entity in (Hierarchy, Product, Job):
            ids += session_of(tx).exec(select(entity.id).where(entity.store == store))
        ids += session_of(tx).exec(
            select(JobError.id).where(JobError.job_pk == Job.pk, Job.store == store)
        )
        nodes = session_of(tx).exec(
            select(Hierarchy.id, Node.node_no).where(
                Node.hierarchy_pk == Hierarchy.pk, Hierarchy.store == store
            )
        )
        ids += [node_id(id, no) for id, no in nodes]
        return {str(id) for id in ids}

    with read_transaction(database) as tx:
        return read(tx)


def rows_of_store(store: str) -> Iterator[tuple[sa.Table, sa.ColumnElement[bool]]]:
    """Every table with the condition for the store's rows, referring tables first."""
    hierarchies = sa.select(col(Hierarchy.pk)).where(col(Hierarchy.store) == store)
    jobs = sa.select(col(Job.pk)).where(col(Job.store) == store)
    for table in reversed(SQLModel.metadata.sorted_tables):
        if "store" in table.c:
            continue
        if "hierarchy_pk" in table.c:
            yield table, table.c.hierarchy_pk.in_(hierarchies)
        elif "job_pk" in table.c:
            yield table, table.c.job_pk.in_(jobs)
        else:
            # Webhook endpoints are shared by all stores.
            assert table.name == "webhook_endpoint"
    for table in reversed(SQLModel.metadata.sorted_tables):
        if "store" in table.c:
            yield table, table.c.store == store


async def dump(database: Database, store: str) -> dict[str, list[str]]:
    """Every row of a store, in every table."""

    def rows(tx: Transaction) -> dict[str, list[str]]:
        return {
            table.name: sorted(map(repr, tx.rows(sa.select(table).where(mine))))
            for table, mine in rows_of_store(store)
        }

    tables = await database.read(rows)
    assert all(tables.values()), "every table must have rows of the store"
    return tables


def delete_store(tx: Transaction, store: str) -> None:
    """Delete every row of a store."""
    for table, mine in rows_of_store(store):
        tx.changed(sa.delete(table).where(mine))


class Client:
    """A client with a token."""

    def __init__(self, http: httpx.AsyncClient, token: str) -> None:
        self.token = token
        self._http = http

    async def text(self, query: str) -> str:
        """Send a query; return the text of the response."""
        return (await self.answer("POST", "/graphql", {"query": query})).text

    async def answer(self, method: str, path: str, body: Any = None) -> httpx.Response:
        headers, content = self.authorization, None
        if body is not None:
            headers["Content-Type"], content = "application/json", orjson.dumps(body)
        return await self._http.request(method, path, content=content, headers=headers)

    async def data(self, query: str) -> Any:
        """Send a query that must succeed; return its data."""
        answer = json.loads(await self.text(query))
        assert "errors" not in answer, (query, answer)
        return answer["data"]

    @asynccontextmanager
    async def stream(self, query: str, last_event_id: str) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of an event stream resumed after `last_event_id`."""
        async with self._http.stream(
            "POST",
            "/graphql",
            json={"query": query},
            headers={
                **self.authorization,
                "Accept": "text/event-stream",
                "Last-Event-ID": last_event_id,
            },
        ) as response:
            yield response.aiter_lines()

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def token_of(store: str, scopes: Iterable[Scope] = EVERY_SCOPE) -> str:
    """A token for a store or for the organization."""
    organization = store == ORGANIZATION
    return mint(
        SECRET,
        issuer="jobs-gateway",
        audience="jobs-gateway",
        subject="walker",
        store=None if organization else store,
        organization=organization,
        scopes=scopes,
        lifetime=timedelta(hours=1),
    )


@dataclass
class MultiStore:
    """A gateway with the stores organization, alpha and beta."""

    gateway: Gateway
    http: httpx.AsyncClient
    store_data: dict[str, StoreData]

    @property
    def database(self) -> Database:
        return self.gateway.database

    def client(self, store: str, scopes: Iterable[Scope] = EVERY_SCOPE) -> Client:
        return Client(self.http, token_of(store, scopes))


@asynccontextmanager
async def empty_multi_store(settings: Settings) -> AsyncIterator[MultiStore]:
    """An empty gateway that runs no queue. Statistics by hour do not change while it is open."""
    walked = settings.model_copy(
        update={
            "jwt_secret": SecretStr(SECRET),
            "runner": False,
            "max_requests_per_second": 0,
            # The walks select every field below duplicationDiff, which has a price of its own.
            "max_cost": 100_000,
        }
    )
    async with (
        gateway_of(walked, HourClock()) as gateway,
        http_client(gateway.url) as http,
    ):
        yield MultiStore(gateway, http, {})


@asynccontextmanager
async def populated_multi_store(settings: Settings) -> AsyncIterator[MultiStore]:
    """A gateway whose stores have rows of every kind."""
    async with empty_multi_store(settings) as stores:
        shared = await populate(stores.database, ORGANIZATION)
        stores.store_data[ORGANIZATION] = shared
        for store in (ALPHA, BETA):
            stores.store_data[store] = await populate(stores.database, store, shared.hierarchy)
        yield stores


def with_unknown_ids(query: str, ids: Iterable[str]) -> str:
    """Replace the ids in an operation by ids of no row."""
    for no, id in enumerate(ids):
        query = query.replace(id, str(UUID(int=UNKNOWN_ID.int + no)))
    return query


def without_ids(answer: str, request: str, ids: Iterable[str]) -> str:
    """Remove the ids of the request from its response."""
    for id in ids:
        if id in request:
            answer = answer.replace(id, "")
    return answer
