"""A gateway where several stores live, each with some of everything, marked as its own."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import orjson
import sqlalchemy as sa
from pydantic import SecretStr
from sqlmodel import Session, SQLModel, col, select

from app.api.auth.identity import mint
from app.domain.callers import EVERY_SCOPE, Scope
from app.domain.hierarchies import node_id
from app.domain.jobs import Duplication, JobStatus, JobType
from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.services import attempts, jobs, nodes
from app.services.attempts import Step
from app.services.jobs import Requester
from app.settings import Settings
from app.storage.engine.database import Database, now
from app.storage.job_errors import add
from app.storage.tables import (
    Hierarchy,
    Job,
    JobError,
    Node,
    Product,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookPosition,
)
from tests import factories
from tests.oracles.schema_walk import Material
from tests.support.clients import http_client
from tests.support.gateway import gateway_of

SECRET = "a secret that only these tests know"
ALPHA, BETA = "alpha", "beta"
STRANGERS = (BETA, ORGANIZATION)
LOCALE = "fr-FR"
NODE = 2
"""The number of the node that has products."""
NEVER = UUID(int=0xDEAD << 32)
"""An id of nothing at all; with a number in its low bits, of no node."""


@dataclass(frozen=True)
class Belongings:
    """What a store was given, every text of it with the store's marker in it."""

    store: str
    marker: str
    hierarchy: UUID
    pending: UUID
    key: str
    """An idempotency key that stands for a job."""


async def furnished(database: Database, store: str, shared: UUID | None = None) -> Belongings:
    """A store with some of everything, and a copy of the organization's hierarchy."""
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
        )
    await database.write(nodes.delete, store, node_id(source, 5))
    requester = Requester(store, f"{marker}-request", f"{marker}-robot")

    async def asked(id: UUID, key: str | None = None) -> Job:
        wanted = Duplication(id, f"{marker} copy", f"{marker} copied", include_products=True)
        return (await database.write(jobs.request_duplication, requester, wanted, key)).job

    for id in (source, shared or source):
        await asked(id)
        await factories.ran_job(database, store=store)
    await asked(source)
    failing = await factories.claimed_job(database, store=store)
    await database.write(_with_errors, failing, marker)
    await database.write(jobs.retry, requester, failing.id)
    await factories.ran_job(database, store=store)
    await database.write(_with_a_delivery, store)
    await database.write(jobs.cancel, store, (await asked(source)).id)
    await asked(source)
    started = await factories.claimed_job(database, store=store)
    await database.write(attempts.advance, started, lambda: Step({}, 3, 9))
    key = f"{marker}-key"
    waiting = await asked(source, key)
    await asked(shared or source)
    await factories.pending_job(database, JobType.PRODUCT_EXPORT, store=store)
    return Belongings(store, marker, source, waiting.id, key)


def _with_a_delivery(session: Session, store: str) -> None:
    url = "https://example.com/all"
    endpoint = session.exec(select(WebhookEndpoint).where(WebhookEndpoint.url == url)).first()
    if endpoint is None:
        endpoint = WebhookEndpoint(url=url, created_at=now(session))
        session.add(endpoint)
        session.flush()
    assert endpoint.pk
    session.add(WebhookPosition(endpoint_pk=endpoint.pk, store=store, seq=1))
    session.add(
        WebhookDelivery(endpoint_pk=endpoint.pk, store=store, seq=1, created_at=now(session))
    )


def _with_errors(session: Session, failing: Job, marker: str) -> None:
    job = attempts.fail(session, failing, f"{marker}-code", f"{marker} went wrong", lambda: None)
    for no in range(2):
        add(session, job, f"{marker}-code-{no}", f"{marker} went worse", now(session))


async def material_of(database: Database, store: str) -> Material:
    """What a store may be asked for by: one of each kind of thing, its texts and times."""

    def read(session: Session) -> Material:
        def ids(entity: Any, *where: Any) -> list[str]:
            found = session.exec(select(entity.id).where(entity.store == store, *where))
            return [str(id) for id in found]

        hierarchies = ids(Hierarchy)
        started, failed, done = (
            ids(Job, col(Job.status) == status)[0]
            for status in (JobStatus.STARTED, JobStatus.FAILED, JobStatus.SUCCESS)
        )
        error = session.exec(
            select(JobError.id).where(JobError.job_pk == Job.pk, Job.store == store)
        ).first()
        job = session.exec(select(Job).where(col(Job.id) == UUID(started))).one()
        tree = session.exec(select(Hierarchy).where(Hierarchy.id == UUID(hierarchies[0]))).one()
        node = node_id(tree.id, NODE)
        product = session.exec(select(Product).where(Product.store == store)).first()
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
    """The ids of all that a store has."""

    def read(session: Session) -> set[str]:
        found: list[UUID] = []
        for entity in (Hierarchy, Product, Job):
            found += session.exec(select(entity.id).where(entity.store == store))
        found += session.exec(
            select(JobError.id).where(JobError.job_pk == Job.pk, Job.store == store)
        )
        nodes = session.exec(
            select(Hierarchy.id, Node.node_no).where(
                Node.hierarchy_pk == Hierarchy.pk, Hierarchy.store == store
            )
        )
        found += [node_id(id, no) for id, no in nodes]
        return {str(id) for id in found}

    with Session(database.read_engine) as session:
        return read(session)


def of_store(store: str) -> Iterator[tuple[sa.Table, sa.ColumnElement[bool]]]:
    """Every table, and which of its rows are the store's; those that refer to others come first."""
    hierarchies = sa.select(col(Hierarchy.pk)).where(col(Hierarchy.store) == store)
    owned = sa.select(col(Job.pk)).where(col(Job.store) == store)
    for table in reversed(SQLModel.metadata.sorted_tables):
        if "store" in table.c:
            continue
        if "hierarchy_pk" in table.c:
            yield table, table.c.hierarchy_pk.in_(hierarchies)
        elif "job_pk" in table.c:
            yield table, table.c.job_pk.in_(owned)
        else:
            # Where messages go to is the same for all stores.
            assert table.name == "webhook_endpoint"
    for table in reversed(SQLModel.metadata.sorted_tables):
        if "store" in table.c:
            yield table, table.c.store == store


async def dump(database: Database, store: str) -> dict[str, list[str]]:
    """Every row of a store, in every table."""

    def rows(session: Session) -> dict[str, list[str]]:
        return {
            table.name: sorted(map(repr, session.execute(sa.select(table).where(mine)).all()))
            for table, mine in of_store(store)
        }

    found = await database.read(rows)
    assert all(found.values()), "a table that the store has no rows in shows nothing"
    return found


def forget(session: Session, store: str) -> None:
    """Make it that a store has never been."""
    for table, mine in of_store(store):
        session.execute(sa.delete(table).where(mine))


class Client:
    """Somebody with a token."""

    def __init__(self, http: httpx.AsyncClient, token: str) -> None:
        self.token = token
        self._http = http

    async def text(self, query: str) -> str:
        """The whole answer."""
        return (await self.answer("POST", "/graphql", {"query": query})).text

    async def answer(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """What a request is answered."""
        headers, content = self.authorization, None
        if body is not None:
            headers["Content-Type"], content = "application/json", orjson.dumps(body)
        return await self._http.request(method, path, content=content, headers=headers)

    async def data(self, query: str) -> Any:
        """The data of an answer without errors."""
        answer = json.loads(await self.text(query))
        assert "errors" not in answer, (query, answer)
        return answer["data"]

    @asynccontextmanager
    async def stream(self, query: str, last_event_id: str) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of a stream of events that goes on behind a cursor."""
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
    """A token of somebody in a store, or in the organization."""
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
class House:
    """A gateway where the organization, alpha and beta live."""

    gateway: Gateway
    http: httpx.AsyncClient
    belongings: dict[str, Belongings]

    @property
    def database(self) -> Database:
        return self.gateway.database

    def client(self, store: str, scopes: Iterable[Scope] = EVERY_SCOPE) -> Client:
        """A client of that store."""
        return Client(self.http, token_of(store, scopes))


@asynccontextmanager
async def housed(settings: Settings) -> AsyncIterator[House]:
    """An empty gateway whose queue nobody runs."""
    walked = settings.model_copy(
        update={"jwt_secret": SecretStr(SECRET), "runner": False, "max_requests_per_second": 0}
    )
    async with (
        gateway_of(walked) as gateway,
        http_client(gateway.url) as http,
    ):
        yield House(gateway, http, {})


@asynccontextmanager
async def furnished_house(settings: Settings) -> AsyncIterator[House]:
    """All stores furnished."""
    async with housed(settings) as house:
        shared = await furnished(house.database, ORGANIZATION)
        house.belongings[ORGANIZATION] = shared
        for store in (ALPHA, BETA):
            house.belongings[store] = await furnished(house.database, store, shared.hierarchy)
        yield house


def unheard_of(query: str, ids: Iterable[str]) -> str:
    """The same operation with ids that nothing ever had."""
    for no, id in enumerate(ids):
        query = query.replace(id, str(UUID(int=NEVER.int + no)))
    return query


def without(answer: str, asked: str, ids: Iterable[str]) -> str:
    """An answer without the ids that were in what was asked."""
    for id in ids:
        if id in asked:
            answer = answer.replace(id, "")
    return answer
