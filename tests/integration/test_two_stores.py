"""A store finds nothing of another one: the walk of every field of the schema, with every id, every
cursor and every text of the other store in every argument that can carry one."""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlmodel import Session, SQLModel, col, select

from app.api.admission.identity import mint
from app.api.jobs import EVENTS
from app.api.schema import graphql_schema as schema
from app.domain.callers import EVERY_SCOPE, Scope
from app.domain.hierarchies import node_id
from app.domain.jobs import Duplication, JobStatus, JobType
from app.domain.stores import ORGANIZATION
from app.main import Gateway, Settings
from app.services import jobs
from app.services.jobs import Requester, Step
from app.storage import lanes
from app.storage.database import Database, now
from app.storage.jobs import add_error
from app.storage.tables import Hierarchy, Job, JobError, Node, Product
from tests import given
from tests.conftest import gateway_of
from tests.subscriber import BEGINNING, Subscriber, subscriber
from tests.walk import (
    Material,
    Operation,
    Seen,
    Way,
    coordinates,
    fields,
    literal,
    maximal_ways,
    operations,
    probing_ways,
    written,
)

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
    tree: given.Tree = {
        f"{marker} trees": {f"{marker} oaks": {}, f"{marker} firs": {}},
        f"{marker} herbs": {},
    }
    source = await given.hierarchy(
        database,
        tree,
        store=store,
        name=f"{marker} garden",
        slug=f"{marker}-garden",
        description=f"{marker} description",
        locales={LOCALE: {"name": f"{marker} jardin", "description": f"{marker} texte"}},
        products={f"{marker} oaks": [f"{marker}-{n}" for n in range(1, 6)]},
        curated={f"{marker} oaks": [f"{marker}-4", f"{marker}-2"]},
    )
    for no in range(1, 5):
        await given.edited(
            database,
            node_id(source, no),
            description=f"{marker} description {no}",
            sort_order=no,
            locales={LOCALE: {"name": f"{marker} nom {no}", "description": f"{marker} texte {no}"}},
        )
    requester = Requester(store, f"{marker}-request", f"{marker}-robot")

    async def asked(id: UUID, key: str | None = None) -> Job:
        wanted = Duplication(id, f"{marker} copy", f"{marker} copied", include_products=True)
        return (await database.write(jobs.request_duplication, requester, wanted, key)).job

    for id in (source, shared or source):
        await asked(id)
        await given.ran_job(database, store=store)
    await asked(source)
    failing = await given.claimed_job(database, store=store)
    await database.write(_with_errors, failing, marker)
    await database.write(jobs.cancel, store, (await asked(source)).id)
    await asked(source)
    started = await given.claimed_job(database, store=store)
    await database.write(jobs.advance, started, lambda: Step({}, 3, 9))
    key = f"{marker}-key"
    waiting = await asked(source, key)
    await asked(shared or source)
    await given.pending_job(database, JobType.PRODUCT_EXPORT, store=store)
    return Belongings(store, marker, source, waiting.id, key)


def _with_errors(session: Session, failing: Job, marker: str) -> None:
    job = jobs.fail(session, failing, f"{marker}-code", f"{marker} went wrong", lambda: None)
    for no in range(2):
        add_error(session, job, f"{marker}-code-{no}", f"{marker} went worse", now(session))


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
        return Material(
            kinds={
                **dict.fromkeys((hierarchies[0], hierarchies[-1]), "Hierarchy"),
                str(node): "HierarchyNode",
                ids(Product)[0]: "Product",
                **dict.fromkeys((started, failed, done), "Job"),
                str(error): "JobError",
            },
            texts=[tree.name, tree.slug or "", f"*{tree.name[:8]}*"],
            instants=[job.created_at.isoformat()],
            locale=LOCALE,
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
        else:
            yield table, table.c.job_pk.in_(owned)
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
        response = await self._http.post(
            "/graphql",
            content=orjson.dumps({"query": query}),
            headers={**self.authorization, "Content-Type": "application/json"},
        )
        return response.text

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
        httpx.AsyncClient(base_url=gateway.url, timeout=30) as http,
    ):
        yield House(gateway, http, {})


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    """All stores furnished."""
    async with housed(settings) as house:
        shared = await furnished(house.database, ORGANIZATION)
        house.belongings[ORGANIZATION] = shared
        for store in (ALPHA, BETA):
            house.belongings[store] = await furnished(house.database, store, shared.hierarchy)
        yield house


def is_a_place_unknown(error: dict[str, Any]) -> bool:
    """Whether it refuses a cursor that stands for an id of somebody else's."""
    return "cursor is gone" in error["message"] and error["path"][-2:-1] in (["nodes"], ["errors"])


async def answers_to(client: Client, asked: Iterable[Operation]) -> list[str]:
    """The answers to these operations, one after the other."""
    return [await client.text(operation.text) for operation in asked]


def timeless(answer: str) -> str:
    """An answer without what depends on when it was asked for."""
    return re.sub(r'"estimatedStartAt":"[^"]+"', '"estimatedStartAt":"known"', answer)


@pytest.mark.timeout(900)
async def test_a_walk_of_every_field_finds_nothing_of_another_store(
    house: House, counted: Callable[[int, int], int], report: Callable[[str], None]
) -> None:
    steps = counted(4, 5)
    database = house.database
    alphas = await material_of(database, ALPHA)
    marker, ids = house.belongings[ALPHA].marker, public_ids(database, ALPHA)

    # Its owner finds it all by the same operations: what follows is no empty test.
    owner, seen, probed = house.client(ALPHA), Seen(), Seen()
    for operation in operations("query", maximal_ways("Query", steps, alphas), alphas):
        data = await owner.data(operation.text)
        for way in operation.ways:
            seen.note(way, data, alphas)
    for operation in operations(
        "query", probing_ways("Query", steps - 1, alphas, alphas), alphas, 1
    ):
        data = await owner.data(operation.text)
        for way in operation.ways:
            seen.note(way, data)
            probed.note(way, data)
    assert seen.selected == coordinates("Query")
    assert seen.selected == seen.found
    assert probed.found >= set(alphas.cursors)

    before = await dump(database, ALPHA)
    walks: list[tuple[Client, list[Operation], list[str]]] = []
    for stranger in STRANGERS:
        client = house.client(stranger)
        steps -= stranger == ORGANIZATION
        for operation in operations("query", by_id(maximal_ways("Query", 1, alphas)), alphas):
            answer = await client.text(operation.text)
            (found,) = json.loads(answer)["data"].values()
            assert found in (None, [None] * len(alphas.ids))
            assert answer == await client.text(unheard_of(operation.text, alphas.ids))
        theirs = await material_of(database, stranger)
        # Alpha has copied this, so that its copy hangs on what all can read.
        shared = await material_of(database, ORGANIZATION)
        theirs.kinds |= {
            id: kind for id, kind in shared.kinds.items() if kind in ("Hierarchy", "Product")
        }
        asked = [
            *operations("query", by_id(maximal_ways("Query", steps, alphas)), alphas),
            *operations("query", maximal_ways("Query", steps, theirs), theirs),
            *operations("query", probing_ways("Query", steps - 1, theirs, alphas), theirs, 1),
        ]
        answers = await answers_to(client, asked)
        for operation, answer in zip(asked, answers, strict=True):
            assert all(map(is_a_place_unknown, json.loads(answer).get("errors", []))), answer
            leaks = [one for one in (marker, *ids) if one in answer]
            assert leaks == [], (stranger, operation.text, answer)
        walks.append((client, asked, answers))
    assert await dump(database, ALPHA) == before

    # Nor is anything of it counted: all is the same, word for word, once it has never been.
    await database.write(forget, ALPHA)
    for client, asked, answers in walks:
        again = await answers_to(client, asked)
        for operation, first, second in zip(asked, answers, again, strict=True):
            assert timeless(first) == timeless(second), operation.text
    looked_at = sum(len(answers) for _, _, answers in walks)
    report(f"{len(seen.selected)} fields visited, {looked_at} answers looked at, leaks 0")


def by_id(ways: Iterable[Way]) -> Iterator[Way]:
    """Those that begin with an id."""
    return (way for way in ways if way[0].needs_id)


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


async def test_no_mutation_does_anything_with_what_is_another_stores(
    house: House, report: Callable[[str], None]
) -> None:
    database = house.database
    alphas, alpha = await material_of(database, ALPHA), house.belongings[ALPHA]
    alphas.kinds[str(alpha.pending)] = "Job"
    alphas.keys += [alpha.key, "a key of nobody's"]
    ids = public_ids(database, ALPHA)
    before = await dump(database, ALPHA)
    looked_at = 0
    for stranger in STRANGERS:
        client = house.client(stranger)
        for operation in operations("mutation", maximal_ways("Mutation", 4, alphas), alphas):
            answer = await client.text(operation.text)
            (payload,) = json.loads(answer)["data"].values()
            assert payload.get("job") is None
            assert [error["__typename"] for error in payload.get("errors", [])] in (
                [],
                ["NotFound"],
            )
            shown = without(answer, operation.text, ids)
            assert [one for one in (alpha.marker, *ids) if one in shown] == []
            asked = unheard_of(operation.text, alphas.ids)
            assert unheard_of(answer, alphas.ids) == await client.text(asked)
            looked_at += 1

        own = house.belongings[stranger].hierarchy
        keyed = f'{{hierarchyId: "{own}", idempotencyKey: "{alpha.key}"}}'
        query = f"mutation {{ duplicateHierarchy(input: {keyed}) {{ replayed job {{ id }} }} }}"
        first, again = [(await client.data(query))["duplicateHierarchy"] for _ in range(2)]
        assert not first["replayed"]
        assert again == {**first, "replayed": True}
    assert await dump(database, ALPHA) == before
    report(f"{looked_at} answers looked at, leaks 0")


READING = (Scope.HIERARCHIES_READ, Scope.JOBS_READ)


async def test_the_owner_gets_every_field_of_the_same_mutations(house: House) -> None:
    alphas, alpha = await material_of(house.database, ALPHA), house.belongings[ALPHA]
    alphas.kinds[str(alpha.pending)] = "Job"
    alphas.keys += [alpha.key, "a key of nobody's", ""]
    seen = Seen()
    for client in (house.client(ALPHA), house.client(ALPHA, READING)):
        for operation in operations("mutation", maximal_ways("Mutation", 4, alphas), alphas):
            data = await client.data(operation.text)
            for way in operation.ways:
                seen.note(way, data)
    new = coordinates("Mutation") - coordinates("Query")
    assert new <= seen.selected
    assert new <= seen.found


async def head_of(database: Database, store: str) -> int:
    """The number of the last event of a store."""
    return await database.read(lanes.event_head, store)


async def test_no_subscription_tells_of_another_store(
    house: House, report: Callable[[str], None]
) -> None:
    database = house.database
    alphas, alpha = await material_of(database, ALPHA), house.belongings[ALPHA]
    head = EVENTS.encode((await database.read(lanes.event_head, ALPHA),))
    for name in fields(schema.type_map["Subscription"]):
        alphas.cursors["Subscription", name] = [BEGINNING, head]
    followed = [
        *operations("subscription", maximal_ways("Subscription", 2, alphas), alphas),
        *operations("subscription", probing_ways("Subscription", 1, alphas, alphas), alphas, 1),
    ]
    by_id = [operation for operation in followed if operation.ways[0][0].needs_id]
    of_all = [operation for operation in followed if not operation.ways[0][0].needs_id]
    looked_at = 0
    for stranger in STRANGERS:
        client = house.client(stranger)
        heard: list[tuple[str, str]] = []
        async with socket_of(house, client) as socket:
            for operation in by_id:
                asked = (operation.text, unheard_of(operation.text, alphas.ids))
                refusal, same = [await only_message(socket, text) for text in asked]
                assert json.loads(refusal)["type"] == "error"
                assert "NOT_FOUND" in refusal
                assert unheard_of(refusal, alphas.ids) == same
                heard.append((operation.text, refusal))
        for operation in by_id:
            async with client.stream(operation.text, head) as lines:
                streamed = "\n".join([line async for line in lines])
            assert "NOT_FOUND" in streamed
            heard.append((operation.text, streamed))

        # What is open while others are busy hears of its own store and of nothing else.
        async with socket_of(house, client) as socket:
            for operation in of_all:
                await socket.subscribe(operation.text)
            end = EVENTS.encode((await database.read(lanes.event_head, stranger),))
            await socket.subscribe(
                f'subscription {{ jobEvents(after: "{end}") {{ job {{ requestId }} }} }}'
            )
            for last in ("the last but one", LAST):
                await busy(house, stranger, last)
                while last not in (message := json.dumps(await socket.receive())):
                    assert alpha.marker not in message
                    heard.append(("", message))
        for cursor in (BEGINNING, head):
            query = "subscription { jobEvents { cursor job { id requestId } } }"
            async with client.stream(query, cursor) as lines:
                async for line in lines:
                    assert alpha.marker not in line
                    heard.append((query, line))
                    if LAST in line or "errors" in line:
                        break
        new = public_ids(database, ALPHA)
        for asked_for, answer in heard:
            shown = without(answer, asked_for, new)
            assert [one for one in (alpha.marker, *new) if one in shown] == [], answer
        looked_at += len(heard)
    report(f"{len(followed)} subscriptions, {looked_at} messages looked at, leaks 0")


LAST = "the last request"


async def busy(house: House, store: str, request_id: str) -> None:
    """Alpha asks for something, and then the store does."""
    for one, id in ((ALPHA, house.belongings[ALPHA].marker), (store, request_id)):
        await house.database.write(
            jobs.request_duplication,
            Requester(one, id),
            Duplication(house.belongings[one].hierarchy),
        )


@asynccontextmanager
async def socket_of(house: House, client: Client) -> AsyncIterator[Subscriber]:
    """A socket of that client."""
    async with subscriber(house.gateway.url, additional_headers=client.authorization) as socket:
        yield socket


async def only_message(socket: Subscriber, query: str) -> str:
    """What is said to an operation that does not begin."""
    await socket.send(id="refused", type="subscribe", payload={"query": query})
    return json.dumps(await socket.receive())


async def test_the_owner_gets_every_field_of_the_same_subscriptions(house: House) -> None:
    alphas, seen = await material_of(house.database, ALPHA), Seen()
    head = await house.database.read(lanes.event_head, ALPHA)
    async with socket_of(house, house.client(ALPHA)) as socket:
        for way in maximal_ways("Subscription", 3, alphas):
            root = way[0]
            if alphas.kinds.get(root.id or "", "Job") != "Job":
                continue
            events = 1
            if not root.needs_id:
                after = written({"after": literal(BEGINNING)})
                way, events = (replace(root, arguments=after), *way[1:]), head
            (operation,) = operations("subscription", [way], alphas)
            happening = await socket.subscribe(operation.text)
            assert root.field
            for event in await happening.take(events):
                seen.note(way, {root.field: event})
            await happening.stop()
    new = coordinates("Subscription") - coordinates("Query")
    assert new <= seen.selected
    assert new <= seen.found


async def test_the_jobs_of_others_do_not_touch_a_stores_queue(settings: Settings) -> None:
    async with housed(settings) as house:
        database = house.database
        own = await given.hierarchy(database, {"Trees": {}}, store=BETA)
        client = house.client(BETA)

        async def told() -> Any:
            return await client.data(QUEUE.replace("$id", str(own)))

        nothing = await told()
        await furnished(database, ALPHA)
        slow = await given.hierarchy(database, {"Trees": {}}, store=ALPHA)
        await given.pending_duplication(database, slow, store=ALPHA)
        assert await told() == nothing
        assert nothing["jobQueue"]["pending"] == 0
        assert nothing["duplicationPreview"] == {
            "nodeCount": 1,
            "productAssociationCount": 0,
            "queuePosition": 1,
            "estimatedSeconds": None,
        }
        for _ in range(2):
            await given.pending_duplication(database, own, store=BETA)
        queued = await told()
        # Nothing is known of how long the first one takes, however long it took others.
        assert queued["jobs"]["nodes"][0] == {"queuePosition": 2, "estimatedStartAt": None}
        assert queued["jobs"]["totalCount"] == 2
        assert queued["duplicationPreview"]["queuePosition"] == 3
        # The other way round it tells.
        assert (await house.client(ALPHA).data(QUEUE.replace("$id", str(slow))))[
            "duplicationPreview"
        ]["estimatedSeconds"] is not None


QUEUE = """{
    jobQueue { pending running { id } oldestPendingAt cursor }
    duplicationPreview(hierarchyId: "$id") {
        nodeCount productAssociationCount queuePosition estimatedSeconds
    }
    jobs { totalCount nodes { queuePosition estimatedStartAt } }
}"""


async def test_no_cursor_counts_what_other_stores_have(settings: Settings) -> None:
    """A cursor can be read, opaque or not: two stores with the same things have the same numbers
    in theirs, however much there was before."""
    async with housed(settings) as house:
        shared = await furnished(house.database, ORGANIZATION)
        numbers = []
        for store in (ALPHA, BETA):
            await furnished(house.database, store, shared.hierarchy)
            client, theirs = house.client(store), await material_of(house.database, store)
            for operation in operations("query", maximal_ways("Query", 4, theirs), theirs):
                data = await client.data(operation.text)
                for way in operation.ways:
                    Seen().note(way, data, theirs)
            numbers.append(
                {
                    at: [list(filter(is_number, read_cursor(cursor))) for cursor in cursors]
                    for at, cursors in theirs.cursors.items()
                }
            )
        first, second = numbers
        assert first.keys() == second.keys()
        different = {at: (first[at], second[at]) for at in first if first[at] != second[at]}
        assert different == {}


def read_cursor(cursor: str) -> list[Any]:
    """What a cursor is made of."""
    parts: list[Any] = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    return parts


def is_number(part: Any) -> bool:
    return isinstance(part, int)
