"""Operations that schemathesis makes from the schema: every answer is one that the schema and the
GraphQL specification allow, and none is a bug."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
import schemathesis
from graphql import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    IntValueNode,
    ListValueNode,
    NameNode,
    NullValueNode,
    ObjectFieldNode,
    ObjectValueNode,
    StringValueNode,
    visit,
)
from graphql.language import Visitor
from hypothesis import HealthCheck, Phase, given
from hypothesis import seed as grown_from
from hypothesis import settings as tried
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.graphql import nodes
from schemathesis.graphql.checks import GraphQLClientError, GraphQLServerError

from app.domain.hierarchies import node_id
from app.domain.jobs import JobType
from app.main import Gateway, Settings
from tests import given as made
from tests.conftest import NewDatabase, gateway_of

REFUSALS = {"INVALID_INPUT", "COST_LIMIT_EXCEEDED", "ALIAS_LIMIT_EXCEEDED", "TOKEN_LIMIT_EXCEEDED"}
"""What the gateway may say to an operation that the schema allows: it has rules that a schema can
not tell. schemathesis takes any error for a fault of the server or of its own."""

ACCEPTED = ("application/json", "application/graphql-response+json")

SENSIBLE = 0.8
"""How many of the arguments with such a rule are made to keep it: as random has them, few would,
and few operations would come to any data."""


class Sense(Visitor):
    """Makes most arguments of an operation such as somebody would give."""

    def __init__(self, ids: Sequence[str], random: Random) -> None:
        super().__init__()
        self._ids = ids
        self._random = random

    def leave_field(self, node: FieldNode, *_: object) -> FieldNode:
        """Pages in one direction, from the start or the end of a list."""
        names = [argument.name.value for argument in node.arguments or ()]
        left_out = {"after", "before", "last" if "first" in names else ""}
        if not left_out & set(names) or self._random.random() > SENSIBLE:
            return node
        kept = tuple(one for one in node.arguments or () if one.name.value not in left_out)
        return FieldNode(
            alias=node.alias,
            name=node.name,
            arguments=kept,
            directives=node.directives,
            selection_set=node.selection_set,
        )

    def leave_argument(self, node: ArgumentNode, *_: object) -> ArgumentNode:
        """Pages that there are, and ids of what there is."""
        return ArgumentNode(name=node.name, value=self._value(node.name.value, node.value))

    def leave_object_field(self, node: ObjectFieldNode, *_: object) -> ObjectFieldNode:
        """Ids of what there is, and exactly one condition on a text: that an input is @oneOf is
        more than hypothesis-graphql knows of."""
        value = node.value
        if node.name.value in ("name", "slug") and isinstance(value, ObjectValueNode):
            said = [one for one in value.fields if not isinstance(one.value, NullValueNode)]
            value = ObjectValueNode(fields=tuple(said[:1]) or (LIKE_ANYTHING,))
        return ObjectFieldNode(name=node.name, value=self._value(node.name.value, value))

    def _value(self, name: str, value: Any) -> Any:
        if self._random.random() > SENSIBLE:
            return value
        match name, value:
            case (("first" | "last"), IntValueNode()):
                return nodes.Int(self._random.randint(1, 10))
            case (("id" | "hierarchyId" | "jobId"), (StringValueNode() | IntValueNode())):
                return nodes.String(self._random.choice(self._ids))
            case "ids", ListValueNode():
                return ListValueNode(values=tuple(map(nodes.String, self._ids)))
        return value


LIKE_ANYTHING = ObjectFieldNode(name=NameNode(value="like"), value=nodes.String("*"))


async def furnished(gateway: Gateway) -> list[str]:
    """Hierarchies with products, jobs in every status; the ids of some of it."""
    database = gateway.database
    source = await made.hierarchy(
        database,
        {"Trees": {"Oaks": {}, "Firs": {}}, "Herbs": {}},
        locales={"fr-FR": {"name": "Jardin"}},
        products={"Oaks": ["a", "b", "c"]},
        curated={"Oaks": ["c"]},
    )
    lost = await made.hierarchy(database, {})
    done = await made.pending_duplication(database, source, include_products=True)
    await made.ran_job(database)
    failed = await made.pending_duplication(database, lost)
    await made.deleted(database, lost)
    await made.ran_job(database)
    started = await made.pending_duplication(database, source)
    await made.claimed_job(database)
    waiting = [await made.pending_duplication(database, source) for _ in range(3)]
    export = await made.pending_job(database, JobType.PRODUCT_EXPORT)
    jobs = [done, failed, started, *waiting, export]
    return [str(id) for id in (source, node_id(source, 2), *(job.id for job in jobs))]


class Trial:
    """Examples of every operation, and what became of them."""

    def __init__(self, url: str, ids: Sequence[str], seed: int) -> None:
        self._schema = schemathesis.graphql.from_url(f"{url}/graphql")
        self._seed = seed
        self._mode = GenerationMode.POSITIVE
        self.outcomes: Counter[str] = Counter()

        @self._schema.hook("map_body")
        def sensible(_context: object, body: DocumentNode) -> DocumentNode:
            if self._mode is GenerationMode.NEGATIVE:
                return body
            changed: DocumentNode = visit(body, Sense(ids, Random(str(body.to_dict()))))
            return changed

    def run(self, examples: int) -> None:
        """So many examples of each operation that the schema allows, and as many of each that it
        does not."""
        for found in self._schema.get_all_operations():
            assert isinstance(found, Ok)
            operation = found.ok()
            for self._mode in GenerationMode:

                @grown_from(self._seed)
                @tried(
                    max_examples=examples,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(operation.as_strategy(generation_mode=self._mode))
                def judged(case: Case[Any]) -> None:
                    self._judge(case)

                judged()

    def _judge(self, case: Case[Any]) -> None:
        # The two media types differ in the status of what is refused.
        accept = ACCEPTED[self.outcomes["examples"] % len(ACCEPTED)]
        response = case.call(headers={"Accept": accept})
        answer = response.json()
        codes = {error["extensions"]["code"] for error in answer.get("errors", [])}
        assert response.status_code == 200 or (400 <= response.status_code < 500 and codes)
        assert "INTERNAL_SERVER_ERROR" not in codes
        for code in codes or {"no error"}:
            self.outcomes[code] += 1
        self.outcomes[f"status {response.status_code}"] += 1
        self.outcomes["examples"] += 1
        try:
            case.validate_response(response)
        except FailureGroup as group:
            for failure in group.exceptions:
                if not isinstance(failure, GraphQLServerError | GraphQLClientError):
                    raise
            if not codes <= REFUSALS:
                raise


@pytest.mark.timeout(3600)
async def test_no_operation_is_answered_against_the_schema(
    new_database: NewDatabase,
    counted: Callable[[int, int], int],
    seed: int,
    report: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(
        database_url=new_database("sqlite"), port=0, runner=False, max_requests_per_second=0
    )
    async with gateway_of(settings) as gateway:
        ids = await furnished(gateway)
        trial = await asyncio.to_thread(Trial, gateway.url, ids, seed)
        await asyncio.to_thread(trial.run, counted(4, 60))
    report(f"{dict(trial.outcomes.most_common())}, failures 0")
    assert trial.outcomes["no error"]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
