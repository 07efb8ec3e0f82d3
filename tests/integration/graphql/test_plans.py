"""Compiled plans return the same responses as the reference executor, to the order of keys.

Operations are generated at random over the whole schema. Each query runs twice, for any of two
stores and the organization, on random trees and jobs.
"""

import asyncio
import gc
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any, cast
from uuid import UUID, uuid4

import hypothesis
import orjson
import pytest
import sqlalchemy as sa
import uvloop
from graphql import ExecutionResult
from hypothesis import HealthCheck, Phase, assume
from hypothesis import given as forall
from sqlmodel import col, select

from app.api.auth.limits import Limits
from app.api.graphql.admission.documents import Documents
from app.api.graphql.admission.request import GraphQLRequest
from app.api.graphql.context import Context
from app.api.graphql.executor import Executor
from app.api.graphql.fields.attribute import source_of
from app.api.graphql.fields.reference import ReferenceField
from app.api.graphql.plans import run as plan_run
from app.api.graphql.plans.events import EventExecutor, EventResult
from app.api.graphql.plans.planner import Planner, ReferenceExecutor
from app.api.graphql.plans.run import PlanRun
from app.api.graphql.schema import graphql_schema as schema
from app.api.graphql.schema import schema as strawberry_schema
from app.api.graphql.shared_subscriptions import SharedSubscriptions
from app.api.http.refusals import Refused
from app.domain.callers import Caller
from app.domain.events import JobEventType
from app.domain.hierarchies import node_id
from app.domain.job_types.hierarchy_duplicate import Duplication
from app.domain.jobs import JobType
from app.domain.stores import ORGANIZATION, readable_by
from app.observability import metrics
from app.services import attempts, jobs, nodes, products, queue
from app.services.attempts import Step
from app.services.feed import Feed, FeedEvent
from app.services.jobs import Requester
from app.storage import job_errors, lanes
from app.storage import jobs as stored_jobs
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.migrations import upgrade
from app.storage.tables import Hierarchy, Job, JobError, JobRow, Node, Product
from tests import factories
from tests.conftest import SEED
from tests.oracles.multi_store import ALPHA, BETA
from tests.oracles.operations import (
    Execution,
    OperationCase,
    Stock,
    literal,
    operation_cases,
    possible,
)
from tests.oracles.schema_walk import Coordinate, coordinates, fields
from tests.support import postgres
from tests.support.clock import Clock
from tests.support.databases import NewDatabase
from tests.support.entities import session_of

pytestmark = [
    pytest.mark.timeout(3600),
    # graphql-core never awaits coroutines begun before a sibling raises: 1 of 40,000 responses.
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    # The same, where the garbage is collected in code without `__import__`.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

STORES = (ALPHA, BETA, ORGANIZATION)

REQUEST = "the same request"

UUIDS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Furnished:
    """A database with rows of every kind and no open connections."""

    url: str
    at: datetime
    """Time at which the last row was created."""
    stocks: dict[str, Stock]

    @contextmanager
    def opened(self, url: str | None = None, clock: Clock | None = None) -> Iterator[Database]:
        """Connect to it, or to its copy at `url`; the clock stands still unless advanced."""
        with closing(connect(url or self.url, clock=clock or self.clock())) as database:
            yield database

    def clock(self) -> Clock:
        """A clock that begins at the time of the last row."""
        clock = Clock()
        clock.now = self.at
        return clock


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)]
)
def furnished(request: pytest.FixtureRequest, new_database: NewDatabase) -> Furnished:
    """All stores with random rows of every kind."""
    seed_option: int | None = request.config.getoption("--seed")
    url, clock = new_database(request.param), Clock()
    with closing(connect(url, clock=clock)) as database, uvloop_runner() as runner:
        upgrade(database)
        furnisher = Furnisher(database, clock, Random(SEED if seed_option is None else seed_option))
        runner.run(furnisher.furnish())
        return Furnished(url, clock.now, runner.run(stocks_of(database, furnisher.rich)))


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """Collect the coroutines that were never awaited here, where their warnings are ignored."""
    yield
    gc.collect()


def uvloop_runner() -> asyncio.Runner:
    """A runner with the event loop of the server."""
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


RACES = 200
"""Max executions until the reference executor reports the same error as the plan.

Of several errors that null the same field graphql-core reports the first, which varies: in one of
25 runs the error of the second root field.
"""


class Comparison:
    """Executes operations with the reference executor and with plans.

    Both use the same database, or each its own.
    """

    def __init__(self, runner: asyncio.Runner, reference: Database, planned: Database) -> None:
        self.outcome = Counter[str]()
        """Counts per outcome of plans for the last operation."""
        self._runner = runner
        self._documents = Documents(schema, Limits())
        self._executors = [
            Executor(database, Feed(database), Limits(), plans=plans)
            for database, plans in ((reference, False), (planned, True))
        ]

    def answers(self, case: OperationCase, execution: Execution) -> list[dict[str, Any]]:
        """Return the responses of the reference executor and of plans. Raises Refused."""
        request = GraphQLRequest(case.text, None, case.operation_name, execution.variables)
        caller = Caller(execution.store, "a subject")
        operation = self._runner.run(self._documents.admit(request, caller))

        async def execute_both() -> list[Any]:
            # Each operation runs in its own task.
            return [
                await asyncio.create_task(executor.execute(operation, caller, REQUEST))
                for executor in self._executors
            ]

        before = outcomes()
        expected, planned = map(response_of, self._runner.run(execute_both()))
        for _ in range(RACES):
            if expected["data"] != planned["data"] or comparable(expected) == comparable(planned):
                break
            expected, _planned = map(response_of, self._runner.run(execute_both()))
        # If both fail, equality shows nothing; after a plan breaks, the reference executor
        # produces both responses.
        assert "INTERNAL_SERVER_ERROR" not in str(expected)
        self.outcome = outcomes() - before
        assert self.outcome["broke"] == 0
        # A null variable can prevent a plan without any effect on the response.
        if (
            self.outcome["ordinary"] or self.outcome["split"]
        ) and None not in execution.variables.values():
            assert any(uses_reference_executor(*at) for at in case.selected)
        return [expected, planned]


def uses_reference_executor(type_: str, name: str) -> bool:
    """Return True if a field has no plan: declared so, introspection, or a mutation's `__typename`.

    The plan of a mutation has only its mutation fields.
    """
    if name.startswith("__"):
        return name != "__typename" or type_ == "Mutation"
    if type_.startswith("__"):
        return False
    field = fields(schema.type_map[type_])[name]
    return isinstance(source_of(field.extensions["strawberry-definition"]), ReferenceField)


def response_of(answer: Any) -> dict[str, Any]:
    """Decode an executor's result as a client receives it."""
    response: dict[str, Any] = orjson.loads(orjson.dumps(answer))
    return response


def outcomes() -> Counter[str]:
    """Count the operations so far per outcome of plans."""
    (metric,) = metrics.PLANS.collect()
    return Counter(
        {
            sample.labels["outcome"]: int(sample.value)
            for sample in metric.samples
            if sample.name.endswith("_total")
        }
    )


def comparable(response: dict[str, Any]) -> dict[str, Any]:
    """Convert a response to the form in which two responses must be equal.

    The data becomes text, as the order of its keys counts. Errors are sorted, as they come in the
    order of their occurrence.
    """
    data = {"data": orjson.dumps(response["data"]).decode()} if "data" in response else {}
    errors = [
        orjson.dumps(error, option=orjson.OPT_SORT_KEYS) for error in response.get("errors", ())
    ]
    return {**response, **data, "errors": sorted(errors)}


def test_plans_answer_every_query_like_the_reference_executor(
    furnished: Furnished,
    seed: int,
    scaled: Callable[[int, int, int], int],
    report: Callable[[str], None],
) -> None:
    tally, roots, selected = Counter[str](), Counter[str](), set[Coordinate]()
    with furnished.opened() as database, uvloop_runner() as runner:
        comparison = Comparison(runner, database, database)

        def check(case: OperationCase) -> None:
            for execution in case.executions:
                hypothesis.note(f"{execution.store}:\n{case}")
                try:
                    expected, planned = comparison.answers(case, execution)
                except Refused:
                    assume(False)
                assert comparable(planned) == comparable(expected)
                tally.update(comparison.outcome)
                tally["answers"] += 1
                tally["with errors"] += "errors" in expected
                tally["without data"] += expected["data"] is None
            tally["examples"] += 1
            roots.update(set(case.roots))
            selected.update(case.selected)

        check_cases(
            "query", check, furnished, seed, scaled(60, 500, 20_000), roots, (Phase.shrink,)
        )
    schema_fields = coordinates("Query")
    report(joined_counts(tally))
    covered = len(selected & schema_fields)
    report(f"{covered} of {len(schema_fields)} fields; examples with {joined_counts(roots)}")


def check_cases(
    kind: str,
    check: Callable[[OperationCase], None],
    furnished: Furnished,
    seed: int,
    examples: int,
    roots: Counter[str],
    phases: tuple[Phase, ...],
) -> None:
    """Check random operations, then two of each root field that they did not select.

    `check` counts the root fields of each operation in `roots`.
    """

    def check_examples(examples: int, root: str | None) -> None:
        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=(Phase.generate, *phases),
            suppress_health_check=list(HealthCheck),
        )
        @forall(operation_cases(kind, furnished.stocks, 1 if kind == "mutation" else 2, root))
        def check_each(case: OperationCase) -> None:
            check(case)

        check_each()

    check_examples(examples, None)
    all_roots = fields(schema.type_map[kind.capitalize()]).keys()
    for root in sorted(all_roots - roots.keys()):
        check_examples(2, root)
    assert roots.keys() == all_roots


def joined_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in sorted(counts.items()))


def test_plans_answer_every_mutation_like_the_reference_executor(
    furnished: Furnished,
    postgresql_server: str,
    seed: int,
    scaled: Callable[[int, int, int], int],
    report: Callable[[str], None],
) -> None:
    tally, roots = Counter[str](), Counter[str]()
    known_ids = {
        id for stock in furnished.stocks.values() for ids in stock.ids.values() for id in ids
    }
    clock = furnished.clock()
    with (
        copied(furnished.url, postgresql_server) as first_url,
        copied(furnished.url, postgresql_server) as second_url,
        furnished.opened(first_url, clock) as first,
        furnished.opened(second_url, clock) as second,
        uvloop_runner() as runner,
    ):
        comparison = Comparison(runner, first, second)

        def check(case: OperationCase) -> None:
            (execution,) = case.executions
            hypothesis.note(str(case))
            # Rows of one mutation are older than the rows of the next.
            clock.advance(timedelta(seconds=1))
            try:
                expected, planned = comparison.answers(case, execution)
            except Refused:
                assume(False)
            assert numbered(planned, known_ids) == numbered(expected, known_ids)
            tally.update(comparison.outcome)
            tally["answers"] += 1
            tally["with errors"] += "errors" in expected
            roots.update(set(case.roots))

        # A mutation changes the databases, so shrinking could not reproduce it.
        check_cases("mutation", check, furnished, seed, scaled(50, 120, 2_000), roots, ())
    report(f"{joined_counts(tally)}; examples with {joined_counts(roots)}")


def numbered(response: dict[str, Any], known_ids: set[str]) -> str:
    """The comparable form of a response, with new ids as numbers: they differ per database."""
    new: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        id = match.group()
        return id if id in known_ids else new.setdefault(id, f"new {len(new)}")

    return UUIDS.sub(number, str(comparable(response)))


@contextmanager
def copied(url: str, postgresql_server: str) -> Iterator[str]:
    """Copy a database without open connections; yield the URL of the copy."""
    path = sa.make_url(url).database
    if url.startswith("sqlite"):
        copy = f"{path}-{uuid4()}"
        shutil.copy(str(path), copy)
        yield f"sqlite:///{copy}"
        return
    copy = postgres.new_database(postgresql_server, template=url)
    try:
        yield copy
    finally:
        postgres.drop_database(copy, postgresql_server)


def test_plans_execute_every_event_like_the_reference_executor(
    furnished: Furnished,
    seed: int,
    scaled: Callable[[int, int, int], int],
    report: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    tally, roots, selected = Counter[str](), Counter[str](), set[Coordinate]()
    documents = Documents(schema, Limits())
    by_reference: list[object] = []
    with furnished.opened() as database, uvloop_runner() as runner:
        planner = Planner(strawberry_schema, database, cast(ReferenceExecutor, None))
        events = {store: runner.run(events_of(database, store)) for store in STORES}

        async def result_of(execute: EventExecutor, event: FeedEvent) -> bytes:
            result = execute(event)
            completed = result if isinstance(result, ExecutionResult) else await result
            response: dict[str, Any] = {"data": completed.data}
            if completed.errors:
                response["errors"] = sorted(str(error.formatted) for error in completed.errors)
            return orjson.dumps(response)

        async def compare(
            executor: Callable[[EventExecutor], EventExecutor],
            reference: EventExecutor,
            sample: list[FeedEvent],
            *,
            has_null: bool,
        ) -> None:
            def spied(event: object) -> EventResult:
                by_reference.append(event)
                return reference(event)

            for event in sample:
                by_reference.clear()
                # Each event is executed in its own task.
                planned, expected = [
                    await asyncio.create_task(result_of(execute, event))
                    for execute in (executor(spied), reference)
                ]
                if has_null and expected.startswith(b'{"data":null'):
                    # An argument is null that may not be: such a subscription does not start.
                    continue
                assert planned == expected
                # A null variable can prevent a plan without any effect on the response.
                assert not by_reference or b'"errors"' in expected or has_null
                tally["events"] += 1
                tally["with errors"] += bool(by_reference)

        def check(case: OperationCase) -> None:
            for execution in case.executions:
                hypothesis.note(f"{execution.store}:\n{case}")
                request = GraphQLRequest(case.text, None, case.operation_name, execution.variables)
                caller = Caller(execution.store, "a subject")
                try:
                    operation = runner.run(documents.admit(request, caller))
                except Refused:
                    assume(False)
                context = Context(
                    database, Feed(database), caller, REQUEST, operation.document.tree
                )
                reference = SharedSubscriptions(None)._executor(operation, context)
                executor = partial(planner.event_executor, operation, context)
                sample = Random(case.text).sample(events[execution.store], 8)
                has_null = None in execution.variables.values()
                runner.run(compare(executor, reference, sample, has_null=has_null))
            roots.update(set(case.roots))
            selected.update(case.selected)

        check_cases("subscription", check, furnished, seed, scaled(30, 200, 5_000), roots, ())
    assert "a plan failed" not in caplog.text
    report(f"{joined_counts(tally)}; {len(selected)} fields")


async def events_of(database: Database, store: str) -> list[FeedEvent]:
    """Return the logged events of a store, and a snapshot of each job that they show."""
    logged: list[FeedEvent] = []
    async with (
        asyncio.timeout(60),
        aclosing(await Feed(database).job_events(store, stored_jobs.JobFilter(), 0)) as events,
    ):
        head = await database.read(lanes.event_head, store)
        async for event in events:
            logged.append(event)
            if event.seq == head:
                break
    ids = {event.job.id for event in logged}
    jobs_by_id = await database.read(stored_jobs.by_ids, store, ids)
    return logged + [
        FeedEvent(head, JobEventType.SNAPSHOT, job.updated_at, job) for job in jobs_by_id.values()
    ]


DEEP = """{
    hierarchies(first: 10) {
        nodes {
            children(first: 2) { totalCount nodes { id breadcrumbs { id } parent { id } } }
            nodes(last: 30) { nodes { name products(first: 2) { nodes { nodes { totalCount } } } } }
            copiedFrom { id }
        }
    }
}"""


def test_a_plan_limits_the_number_of_keys_per_statement(
    furnished: Furnished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_run, "MAX_BATCH_KEYS", 3)
    with furnished.opened() as database, uvloop_runner() as runner:
        comparison = Comparison(runner, database, database)
        expected, planned = comparison.answers(*once(DEEP))
    assert comparable(planned) == comparable(expected)
    assert comparison.outcome == {"planned": 1}


def once(text: str) -> tuple[OperationCase, Execution]:
    """A document without variables, requested by alpha; it may use introspection."""
    execution = Execution(ALPHA, {})
    case = OperationCase(text, None, (execution,), (), frozenset({("Query", "__schema")}))
    return case, execution


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("{ job(id: 5) { id } }", "planned"),
        ("{ jobs(first: -1) { totalCount } }", "refused"),
        ("{ __schema { queryType { name } } }", "ordinary"),
    ],
)
def test_the_outcome_of_each_query_is_counted(
    furnished: Furnished, text: str, outcome: str
) -> None:
    with furnished.opened() as database, uvloop_runner() as runner:
        comparison = Comparison(runner, database, database)
        comparison.answers(*once(text))
    # One count: the reference executor runs without plans.
    assert comparison.outcome == {outcome: 1}


HOURS = "jobQueue { cursor hours(hours: 168) { begins pending } }"


@pytest.mark.parametrize(
    ("text", "planned_keys"),
    [
        (f"{{ {HOURS} hierarchies {{ nodes {{ id }} }} }}", ["hierarchies"]),
        (f"{{ a: jobs {{ totalCount }} __typename {HOURS} }}", ["a", "__typename"]),
        (
            f"query {{ ...F jobs {{ nodes {{ id }} }} {HOURS} }} "
            "fragment F on Query { jobQueue { pending } jobs { totalCount } }",
            ["jobs"],
        ),
        (
            f"query ($no: Boolean = false) {{ {HOURS} ... @include(if: $no) {{ a: __typename }} "
            "b: jobs { totalCount } jobQueue @skip(if: $no) { running { id } } }",
            ["b"],
        ),
        (
            "{ __schema { queryType { name } } jobs { totalCount } "
            'duplicationDiff(jobId: "unknown") { changed } }',
            ["jobs"],
        ),
        # Null propagates from the field of the reference executor to data.
        ("{ jobQueue { hours(hours: 0) { begins } } jobs { totalCount } }", ["jobs"]),
        (f"{{ {HOURS} jobs(first: -1) {{ totalCount }} }}", []),
    ],
)
def test_neighbours_of_a_field_without_a_plan_run_by_plan(
    furnished: Furnished, monkeypatch: pytest.MonkeyPatch, text: str, planned_keys: list[str]
) -> None:
    by_plan: list[str] = []
    run = PlanRun.data

    def recorded(self: PlanRun, root: object = None) -> dict[str, Any]:
        data = run(self, root)
        by_plan.extend(data)
        return data

    monkeypatch.setattr(PlanRun, "data", recorded)
    with furnished.opened() as database, uvloop_runner() as runner:
        comparison = Comparison(runner, database, database)
        expected, planned = comparison.answers(*once(text))
    assert comparable(planned) == comparable(expected)
    assert by_plan == planned_keys
    assert comparison.outcome == {"split": 1}


class Furnisher:
    """Creates trees, copies of them, and jobs in every state."""

    def __init__(self, database: Database, clock: Clock, random: Random) -> None:
        self._database = database
        self._clock = clock
        self._random = random
        self.rich = set[str]()
        """Ids that lead to the most rows."""

    async def furnish(self) -> None:
        shared = [await self._hierarchy(ORGANIZATION, size) for size in (9, 1)]
        for store, sizes in ((BETA, (12, 0)), (ALPHA, (40, 18, 7, 3, 1, 0))):
            own = [await self._hierarchy(store, size) for size in sizes]
            await self._copies(store, own, shared)
            await self._failures(store, own[0])
            await self._waiting(store, [*own, *shared])
        await self._copies(ORGANIZATION, shared, shared)
        await self._waiting(ORGANIZATION, shared)
        await self._write(queue.pause, Requester(BETA, "pausing", "who paused"), "a reason")
        gone = await self._hierarchy(ALPHA, 4)
        await factories.pending_duplication(self._database, gone, store=ALPHA)
        await factories.deleted(self._database, gone)

    async def _write(self, fn: Callable[..., Any], *arguments: Any) -> Any:
        self._clock.advance(timedelta(milliseconds=self._random.choice((0, 1, 999, 60_000))))
        return await self._database.write(fn, *arguments)

    async def _hierarchy(self, store: str, size: int) -> UUID:
        """Create a tree of `size` nodes, at most six levels deep."""
        random = self._random
        self._clock.advance(timedelta(minutes=random.randrange(3)))
        branches: list[tuple[str, dict[str, Any], int]] = [("", {}, 0)]
        tree = branches[0][1]
        for number in range(size):
            _, below, depth = random.choice([branch for branch in branches if branch[2] < 6])
            name = f"{random.choice(('Oak', 'oak', 'Fir', 'Ångström', 'a*b'))} {number}"
            branches.append((name, below.setdefault(name, {}), depth + 1))
        names = [name for name, *_ in branches[1:]]
        skus = [f"{store}-{number:02}" for number in range(32)]
        carried = {name: random.sample(skus, random.randrange(5)) for name in names}
        if names:
            carried[names[0]] = skus[:28]
        id = await factories.hierarchy(
            self._database,
            tree,
            store=store,
            name=random.choice(("Garden", "garden of *", "Ödland")),
            slug=random.choice((None, "garden", "a-slug")),
            description=random.choice((None, "what it is")),
            locales=self._locales(),
            products=carried,
            curated={
                name: random.sample(attached, min(20, len(attached)))[::2]
                for name, attached in carried.items()
            },
        )
        for number in range(1, size + 1):
            if random.randrange(3):
                at = node_id(id, number)
                await self._write(
                    nodes.update,
                    store,
                    at,
                    {
                        "sort_order": random.choice((None, 0, 1, 1, -7)),
                        "description": random.choice((None, f"about {number}")),
                        "slug": random.choice((None, f"slug-{number}")),
                        "locales": self._locales(),
                    },
                )
        return id

    def _locales(self) -> dict[str, dict[str, str]]:
        translations = {
            "de": {"name": "Garten", "description": "was es ist"},
            "fr": {"name": "jardin"},
            "fr-CA": {"description": "ce que c'est"},
            "de-AT": {"name": "Gartl"},
        }
        return {
            tag: translation
            for tag, translation in translations.items()
            if not self._random.randrange(2)
        }

    async def _request(self, store: str, source: UUID, **options: Any) -> JobRow:
        by = self._random.choice((None, "a robot"))
        requester = Requester(store, f"request {self._random.randrange(100)}", by)
        requested = await self._write(jobs.request, requester, Duplication(source, **options))
        job: JobRow = requested.job
        return job

    async def _copied(self, store: str, source: UUID, **options: Any) -> UUID:
        """Duplicate a hierarchy with a real worker; return the id of the copy."""
        job = await self._request(store, source, **options)
        self._clock.advance(timedelta(seconds=7))
        await factories.ran_job(self._database, store=store)
        done = (await self._database.read(stored_jobs.by_ids, store, [job.id]))[job.id]
        assert done.result_id
        self.rich.add(str(job.id))
        return done.result_id

    async def _copies(self, store: str, own: list[UUID], shared: list[UUID]) -> None:
        """Create copies: edited, deleted, and with a deleted source."""
        edited = await self._copied(store, own[0], include_products=True)
        self.rich |= {str(id) for id in (own[0], edited, node_id(own[0], 1), node_id(edited, 1))}
        for number, change in ((1, "name"), (2, "slug"), (3, "description")):
            await self._write(nodes.update, store, node_id(edited, number), {change: "edited"})
        await self._write(nodes.delete, store, node_id(edited, 4))
        await self._write(nodes.create, store, edited, {"name": "only in the copy"})
        await self._write(nodes.create, store, own[0], {"name": "only in the source"})
        nameless = await self._write(_add_nameless_product, store)
        await self._write(products.attach, store, node_id(edited, 1), [str(nameless)])
        await self._copied(store, shared[0], name="a copy of what is shared", description="")
        await self._copied(store, edited, name="a copy of a copy")
        await factories.deleted(self._database, await self._copied(store, own[-1]))
        source = await self._hierarchy(store, 3)
        await self._copied(store, source, include_products=True)
        await factories.deleted(self._database, source)

    async def _failures(self, store: str, source: UUID) -> None:
        """Create failed jobs with one error or many, retried with and without success."""
        requester = Requester(store, "again", "a robot")
        for errors in (1, 30):
            await self._request(store, source)
            failed = await self._failed(store, errors)
            self.rich.add(str(failed.id))
            await self._write(jobs.retry, requester, failed.id, lambda _: None)
            again = await self._failed(store, 2)
            await self._write(jobs.retry, requester, again.id, lambda _: None)
            await factories.ran_job(self._database, store=store)
        await self._request(store, source)
        forgotten = await self._failed(store, 1)
        await self._write(jobs.retry, requester, forgotten.id, lambda _: None)
        await self._write(stored_jobs.delete, [forgotten.pk])

    async def _failed(self, store: str, errors: int) -> JobRow:
        failing = await factories.claimed_job(self._database, store=store)

        def fail(tx: Transaction) -> JobRow:
            job = attempts.fail(tx, failing, "CODE-0", "It went wrong.", lambda: None)
            for number in range(1, errors):
                job_errors.add(tx, job, f"CODE-{number}", "Worse.", tx.now())
            return job

        job: JobRow = await self._write(fail)
        return job

    async def _waiting(self, store: str, sources: list[UUID]) -> None:
        """Create running, pending and cancelled jobs."""
        await self._request(store, sources[0])
        if store == ALPHA:
            started = await factories.claimed_job(self._database, store=store)
            self._clock.advance(timedelta(seconds=3))
            await self._write(attempts.advance, started, lambda: Step({}, 3, 9))
        for number in range(32 if store == ALPHA else 5):
            job = await self._request(
                store,
                self._random.choice(sources),
                name=self._random.choice((None, "a new name")),
                include_products=bool(number % 2),
            )
            if not number % 4:
                await self._write(jobs.cancel, store, job.id)
            elif not number % 5:
                await self._write(queue.move_to_front, store, job.id)
        for kind in set(JobType) - {JobType.HIERARCHY_DUPLICATE}:
            await factories.pending_job(self._database, kind, store=store)


def _add_nameless_product(tx: Transaction, store: str) -> UUID:
    id = uuid4()
    tx.changed(sa.insert(Product).values(id=id, store=store, sku=f"{store} has no name for it"))
    return id


async def stocks_of(database: Database, rich: set[str]) -> dict[str, Stock]:
    """Arguments for generated operations per store, ids of `rich` first."""
    return {store: await _stock_of(database, store, rich) for store in STORES}


async def _stock_of(database: Database, store: str, rich: set[str]) -> Stock:
    def read(tx: Transaction) -> Stock:
        ids: dict[str, list[str]] = {}
        for owner in readable_by(store):
            for entity in (Hierarchy, Product):
                rows = session_of(tx).exec(
                    select(entity.id).where(entity.store == owner).order_by(col(entity.pk))
                )
                ids.setdefault(entity.__name__, []).extend(map(str, rows))
            refs = session_of(tx).exec(
                select(Hierarchy.id, Node.node_no)
                .where(Node.hierarchy_pk == Hierarchy.pk, Hierarchy.store == owner)
                .order_by(col(Hierarchy.pk), col(Node.node_no))
            )
            ids.setdefault("HierarchyNode", []).extend(str(node_id(*ref)) for ref in refs)
        ids["Job"] = [
            str(id)
            for id in session_of(tx).exec(
                select(Job.id).where(Job.store == store).order_by(col(Job.job_seq))
            )
        ]
        ids["JobError"] = [
            str(id)
            for id in session_of(tx).exec(
                select(JobError.id)
                .where(JobError.job_pk == Job.pk, Job.store == store)
                .order_by(col(JobError.pk))
            )
        ]
        moments = session_of(tx).exec(select(Job.created_at).where(Job.store == store)).all()
        return Stock(
            {
                kind: sorted(kind_ids, key=lambda id: id not in rich)
                for kind, kind_ids in ids.items()
            },
            texts=[
                "Garden",
                "*",
                "g*",
                f"{store}-0*",
                f"{store}-01",
                "garden",
                "*%*",
                "Ö*",
                "",
                "x",
            ],
            instants=[moments[len(moments) // 2].isoformat(), "2026-11-22", "1999-01-01T00:00:00Z"],
        )

    stock = await database.read(read)
    stock.cursors = await _cursors(database, store, stock)
    return stock


async def _cursors(
    database: Database, store: str, stock: Stock
) -> dict[tuple[str, str], list[str]]:
    """Cursors of each list, as the store receives them."""
    executor, caller = Executor(database, Feed(database), Limits(), plans=False), Caller(store)
    documents = Documents(schema, Limits())
    cursors: dict[tuple[str, str], list[str]] = {}
    for type_ in schema.type_map.values():
        for name, field in fields(type_).items():
            if "after" not in field.args or type_.name == "Subscription":
                continue
            inside = f"{name}(first: 30) {{ edges {{ cursor }} }}"
            if type_.name != "Query":
                kinds = sorted(possible(type_) & stock.ids.keys())
                ids = [id for kind in kinds for id in stock.ids[kind][:40]]
                of_type = f"... on {type_.name} {{ {inside} }}"
                inside = f"nodes(ids: {literal(ids)}) {{ {of_type} }}"
            request = GraphQLRequest(f"{{ {inside} }}", None, None, {})
            answer = await executor.execute(await documents.admit(request, caller), caller, REQUEST)
            text = orjson.dumps(response_of(answer)).decode()
            cursors[type_.name, name] = list(dict.fromkeys(re.findall(r'"cursor":"([^"]+)"', text)))
    return cursors
