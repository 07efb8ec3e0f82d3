"""Operations that schemathesis generates from the schema: every answer conforms to the schema and
the GraphQL specification, and is no unexpected error."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from hypothesis import seed as with_seed
from hypothesis import settings as with_settings
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.graphql import nodes
from schemathesis.graphql.checks import GraphQLClientError, GraphQLServerError
from sqlmodel import select

from app.domain.hierarchies import node_id
from app.domain.jobs import JobType
from app.main import Gateway
from app.settings import Settings
from app.storage.tables import Product
from tests import factories
from tests.support.databases import NewDatabase
from tests.support.entities import session_of
from tests.support.gateway import gateway_of

REFUSALS = {"INVALID_INPUT", "COST_LIMIT_EXCEEDED", "ALIAS_LIMIT_EXCEEDED", "TOKEN_LIMIT_EXCEEDED"}
"""Codes that operations valid by the schema may be refused with: some rules cannot be expressed in
a schema. schemathesis counts every error as a failure."""

TEXTS = ("name", "slug", "sku")
"""Filter fields that take exactly one condition on a text."""

UNCONDITIONAL_FIELDS = ("errors", "__typename")
"""Payload fields that are not null even if the mutation did nothing."""

ACCEPTED = ("application/json", "application/graphql-response+json")

SENSIBLE_SHARE = 0.8
"""Share of the arguments that are replaced by sensible ones; with random ones alone few operations
would return data."""


class SensibleArguments(Visitor):
    """Replaces most arguments of an operation by sensible ones."""

    def __init__(self, known: "Known", random: Random) -> None:
        super().__init__()
        self._known = known
        self._random = random

    def leave_field(self, node: FieldNode, *_: object) -> FieldNode:
        """Page in one direction, from the start or the end of a list."""
        names = [argument.name.value for argument in node.arguments or ()]
        left_out = {"after", "before", "last" if "first" in names else ""}
        if not left_out & set(names) or self._random.random() > SENSIBLE_SHARE:
            return node
        kept = tuple(
            argument for argument in node.arguments or () if argument.name.value not in left_out
        )
        return FieldNode(
            alias=node.alias,
            name=node.name,
            arguments=kept,
            directives=node.directives,
            selection_set=node.selection_set,
        )

    def leave_argument(self, node: ArgumentNode, *_: object) -> ArgumentNode:
        """Use existing pages and ids."""
        return ArgumentNode(name=node.name, value=self._value(node.name.value, node.value))

    def leave_object_field(self, node: ObjectFieldNode, *_: object) -> ObjectFieldNode:
        """Use existing ids, and exactly one condition on a text: hypothesis-graphql does not
        support @oneOf."""
        value = node.value
        if node.name.value in TEXTS and isinstance(value, ObjectValueNode):
            fields = [field for field in value.fields if not isinstance(field.value, NullValueNode)]
            value = ObjectValueNode(fields=tuple(fields[:1]) or (LIKE_ANYTHING,))
        return ObjectFieldNode(name=node.name, value=self._value(node.name.value, value))

    def _value(self, name: str, value: Any) -> Any:
        if self._random.random() > SENSIBLE_SHARE:
            return value
        match name, value:
            case (("first" | "last"), IntValueNode()):
                return nodes.Int(self._random.randint(1, 10))
            case "id", (StringValueNode() | IntValueNode()):
                return nodes.String(self._random.choice(self._known.ids))
            case (
                ("hierarchyId" | "nodeId" | "parentId" | "jobId"),
                (StringValueNode() | IntValueNode()),
            ):
                return nodes.String(self._random.choice(self._known.fitting[name]))
            case "ids", ListValueNode():
                return ListValueNode(values=tuple(map(nodes.String, self._known.ids)))
            case (("productIds" | "curatedProductIds"), ListValueNode()):
                ids = self._random.sample(self._known.fitting[name], 2)
                return ListValueNode(values=tuple(map(nodes.String, ids)))
            case (("name" | "sku" | "slug"), StringValueNode()):
                return nodes.String(f"{name} {self._random.randrange(1000)}")
            case "locale", StringValueNode():
                return nodes.String(self._random.choice(("de-DE", "fr-FR")))
        return value


LIKE_ANYTHING = ObjectFieldNode(name=NameNode(value="like"), value=nodes.String("*"))


@dataclass(frozen=True)
class Known:
    """The ids in the database."""

    ids: Sequence[str]
    """Ids of every kind."""
    fitting: Mapping[str, Sequence[str]]
    """The valid ids per input name."""


async def furnished(gateway: Gateway) -> Known:
    """Create hierarchies with products, and jobs in every status."""
    database = gateway.database
    sources = [
        await factories.hierarchy(
            database,
            {"Trees": {"Oaks": {}, "Firs": {}}, "Herbs": {}},
            locales={"fr-FR": {"name": "Jardin"}},
            products={"Oaks": ["a", "b", "c"]},
            curated={"Oaks": ["c"]},
        )
        for _ in range(4)
    ]
    source = sources[0]
    lost = await factories.hierarchy(database, {})
    done = await factories.pending_duplication(database, source, include_products=True)
    await factories.ran_job(database)
    failed = await factories.pending_duplication(database, lost)
    await factories.deleted(database, lost)
    await factories.ran_job(database)
    started = await factories.pending_duplication(database, source)
    await factories.claimed_job(database)
    waiting = [await factories.pending_duplication(database, source) for _ in range(3)]
    export = await factories.pending_job(database, JobType.PRODUCT_EXPORT)
    jobs = [str(job.id) for job in (done, failed, started, *waiting, export)]
    products = await database.read(lambda tx: session_of(tx).exec(select(Product.id)).all())
    hierarchies = list(map(str, sources))
    # Oaks, which hold the products, and their siblings.
    below = [str(node_id(id, no)) for id in sources for no in (2, 2, 3)]
    return Known(
        [hierarchies[0], below[0], str(products[0]), *jobs],
        {
            "hierarchyId": hierarchies,
            "nodeId": below,
            "parentId": [*hierarchies, *(str(node_id(id, 1)) for id in sources)],
            "productIds": list(map(str, products)),
            "curatedProductIds": list(map(str, products)),
            "jobId": jobs,
        },
    )


class Trial:
    """Examples of every operation, with their outcomes."""

    def __init__(self, url: str, known: Known, seed: int) -> None:
        self._schema = schemathesis.graphql.from_url(f"{url}/graphql")
        self._seed = seed
        self._mode = GenerationMode.POSITIVE
        self.outcomes: Counter[str] = Counter()
        self.effective = set[str]()
        """Mutations that succeeded at least once."""

        @self._schema.hook("map_body")
        def sensible(_context: object, body: DocumentNode) -> DocumentNode:
            if self._mode is GenerationMode.NEGATIVE:
                return body
            changed: DocumentNode = visit(
                body, SensibleArguments(known, Random(str(body.to_dict())))
            )
            return changed

    def run(self, examples: int) -> None:
        """Try `examples` valid examples and as many invalid ones of each operation."""
        operations = [
            result.ok() for result in self._schema.get_all_operations() if isinstance(result, Ok)
        ]
        # Deletions come last: the other operations need the deleted objects.
        deleting = ("Mutation.deleteHierarchy", "Mutation.deleteNode")
        operations.sort(key=lambda operation: [operation.label == name for name in deleting])
        assert len(operations) > 20
        for operation in operations:
            for self._mode in GenerationMode:

                @with_seed(self._seed)
                @with_settings(
                    max_examples=examples,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(operation.as_strategy(generation_mode=self._mode))
                def check(case: Case[Any]) -> None:
                    self._judge(case)

                check()

    def _judge(self, case: Case[Any]) -> None:
        # The two media types differ in the status of a response with data and errors.
        accept = ACCEPTED[self.outcomes["examples"] % len(ACCEPTED)]
        response = case.call(headers={"Accept": accept})
        answer = response.json()
        codes = {error["extensions"]["code"] for error in answer.get("errors", [])}
        if not codes and case.operation.label.startswith("Mutation"):
            self.effective |= {
                case.operation.label
                for payload in answer["data"].values()
                if any(value for name, value in payload.items() if name not in UNCONDITIONAL_FIELDS)
            }
        if "data" in answer:
            assert response.status_code == (294 if codes and accept == ACCEPTED[1] else 200)
        else:
            assert 400 <= response.status_code < 500
            assert codes
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


@pytest.mark.generated
@pytest.mark.timeout(3600)
async def test_every_answer_conforms_to_the_schema(
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
        known = await furnished(gateway)
        trial = await asyncio.to_thread(Trial, gateway.url, known, seed)
        await asyncio.to_thread(trial.run, counted(4, 60))
    report(
        f"outcomes {dict(trial.outcomes.most_common())}, "
        f"mutations that succeeded {sorted(trial.effective)}, failures 0"
    )
    assert trial.outcomes["no error"]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
