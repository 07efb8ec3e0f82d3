"""Requests that schemathesis makes from the OpenAPI document, all its checks made on every answer:
statuses and shapes are those of the document, what it does not allow is refused, what is deleted is
gone, and nobody is let in without a token where tokens are asked for."""

import asyncio
import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from jsonschema_rs import meta
from pydantic import SecretStr
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from app.api.auth.identity import mint
from app.domain.callers import EVERY_SCOPE
from app.domain.hierarchies import node_id
from app.domain.jobs import JobType
from app.main import Gateway
from app.settings import Settings
from app.storage import products
from app.storage.sql.keyset import KeysetWindow
from tests import factories
from tests.support.clients import GraphQLClient, http_client
from tests.support.databases import NewDatabase
from tests.support.gateway import gateway_of

SECRET = "a secret that only these tests know"

BODIES_WITH_RULES = (
    *("create_hierarchy", "update_hierarchy", "create_node", "update_node"),
    *("add_children", "set_parent", "attach_products", "detach_products", "duplicate_hierarchy"),
)
"""422 may be the answer to what their schemas allow. No schema tells that a name has something to
be seen, that a text has no NUL, that no sibling has the name or the slug, that the id in the body
is the one in the path, that what is curated is attached, that nothing hangs below itself."""

CHANGES_WITH_RULES = ("cancel_job", "unset_parent")
"""422 may be their answer, and they have no body: only a pending job can be cancelled, and below
the root there may be a node of the same name."""

FILTERED = ("list_jobs", "list_hierarchies", "list_nodes", "list_root_children", "list_children")
"""400 may be the answer to what the schemas of their parameters allow: a filter is a text with a
grammar, of which a schema tells nothing."""

NAMING_OTHERS = ("add_children", "set_parent", "attach_products", "detach_products", "create_node")
"""404 may be their answer for a thing that was just made: it is said of the other ids, those in the
body."""

REFUSED = ("400", "404", "405", "413", "415", "422")
"""How a request may be refused that the document does not allow, or that is too long to be read."""

DOOMED = 40
"""Hierarchies, and nodes, that are there to be deleted."""

SENSE = 0.8
"""How many of the ids are those of something: as random has them, none would be."""

IDS = {
    "path.hierarchy_id": "hierarchies",
    "path.node_id": "nodes",
    "path.job_id": "jobs",
}
"""Where an id is asked for, and of what."""

IDS_OF_ONE = {
    "delete_hierarchy": {"path.hierarchy_id": "doomed_hierarchies"},
    "update_hierarchy": {"body.data.id": "hierarchies"},
    "delete_node": {"path.node_id": "doomed_nodes"},
    "update_node": {"path.node_id": "oaks", "body.data.id": "oaks"},
    "cancel_job": {"path.job_id": "waiting"},
    "attach_products": {"body.data[*].id": "products"},
    "detach_products": {"body.data[*].id": "products"},
    "add_children": {"body.data[*].id": "doomed_nodes"},
    "set_parent": {"path.node_id": "doomed_nodes", "body.data.id": "nodes"},
    "create_node": {"body.data.relationships.parent.data.id": "nodes"},
}
"""The same, where one operation is best asked of others than all are."""


async def furnished(gateway: Gateway) -> Mapping[str, Sequence[str]]:
    """Hierarchies with nodes and products, jobs in every status; the ids by what they are of."""
    database = gateway.database
    source = await factories.hierarchy(
        database,
        {"Trees": {"Oaks": {}, "Firs": {}}, "Herbs": {}, **{f"{no}": {} for no in range(DOOMED)}},
        locales={"fr-FR": {"name": "Jardin"}},
        products={"Oaks": ["a", "b", "c"]},
        curated={"Oaks": ["c"]},
    )
    lost = await factories.hierarchy(database, {})
    done = await factories.pending_duplication(database, source, include_products=True)
    await factories.ran_job(database)
    failed = await factories.pending_duplication(database, lost)
    await factories.deleted(database, lost)
    await factories.ran_job(database)
    started = await factories.pending_duplication(database, source)
    await factories.claimed_job(database)
    waiting = [await factories.pending_duplication(database, source) for _ in range(DOOMED)]
    jobs = [done, failed, started, await factories.pending_job(database, JobType.PRODUCT_EXPORT)]
    found = await database.read(products.listing, factories.STORE, [], KeysetWindow(100))
    doomed = [await factories.hierarchy(database, {}) for _ in range(DOOMED)]
    ids: Mapping[str, Sequence[UUID]] = {
        "hierarchies": [source],
        "nodes": [node_id(source, no) for no in range(1, 5)],
        "oaks": [node_id(source, 2)],
        "products": [product.id for _, product in found.rows],
        "jobs": [job.id for job in (*jobs, *waiting)],
        "waiting": [job.id for job in waiting],
        "doomed_hierarchies": doomed,
        "doomed_nodes": [node_id(source, no) for no in range(5, 5 + DOOMED)],
    }
    return {of: list(map(str, some)) for of, some in ids.items()}


def configuration(ids: Mapping[str, Sequence[str]]) -> str:
    """What schemathesis is told in a file: which ids there are, and which answers are right."""
    lines = []
    for of, some in ids.items():
        lines += [f"[dictionaries.{of}]", f"values = {json.dumps(some)}"]
    lines += ["[parameters]"]
    for place, of in IDS.items():
        lines += [f'"{place}" = {{ dictionary = "{of}", probability = {SENSE} }}']
    lines += [
        "[checks]",
        'positive_data_acceptance.expected-statuses = ["2xx", "404", "413"]',
        f"negative_data_rejection.expected-statuses = {json.dumps(REFUSED)}",
    ]
    for operations, status in (
        ((*BODIES_WITH_RULES, *CHANGES_WITH_RULES), "422"),
        (FILTERED, "400"),
    ):
        lines += [
            "[[operations]]",
            f"include-operation-id = {json.dumps(operations)}",
            "checks.positive_data_acceptance.expected-statuses = "
            f'["2xx", "404", "413", "{status}"]',
        ]
    lines += [
        "[[operations]]",
        f"include-operation-id = {json.dumps(NAMING_OTHERS)}",
        "checks.ensure_resource_availability.enabled = false",
    ]
    for operation, places in IDS_OF_ONE.items():
        lines += ["[[operations]]", f'include-operation-id = "{operation}"']
        for place, of in places.items():
            lines += [f'parameters."{place}" = {{ dictionary = "{of}", probability = {SENSE} }}']
    return "\n".join(lines)


async def tried(
    gateway: Gateway, folder: Path, examples: int, seed: int, *arguments: str
) -> tuple[str, Any]:
    """What schemathesis says, and what it reports, after so many examples of each operation."""
    config, told = folder / "schemathesis.toml", folder / "report.json"
    config.write_text(configuration(await furnished(gateway)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", f"--config-file={config}", "run"),
        *(f"{gateway.url}/pcm/openapi.json", f"--max-examples={examples}", f"--seed={seed}"),
        *("--continue-on-failure", "--no-color", f"--report-json-path={told}", *arguments),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    assert told.exists(), printed.decode()
    return printed.decode(), json.loads(told.read_text())


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("authenticated", [False, True], ids=["open", "with tokens"])
async def test_no_request_is_answered_against_the_document(
    authenticated: bool,
    new_database: NewDatabase,
    tmp_path: Path,
    counted: Callable[[int, int], int],
    seed: int,
    report: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(
        database_url=new_database("sqlite"),
        port=0,
        runner=False,
        max_requests_per_second=0,
        jwt_secret=SecretStr(SECRET) if authenticated else None,
    )
    # Without --full the phase that goes through the bounds of every schema is run once.
    phases = counted(0, 1) or not authenticated
    arguments = [] if phases else ["--phases=examples,fuzzing,stateful"]
    if authenticated:
        arguments.append(f"--header=Authorization: Bearer {token()}")
    async with gateway_of(settings) as gateway:
        printed, told = await tried(gateway, tmp_path, counted(2, 200), seed, *arguments)
    cases = told["test_cases"]
    report(f"{cases['generated']} requests, failures {cases['with_failures']}")
    assert told["failures"] == [], printed
    assert told["errors"] == [], printed
    assert told["complete"]
    assert told["exit_code"] == 0, printed
    assert told["operations"]["tested"] == told["operations"]["total"] == OPERATIONS
    assert {phase["status"] for name, phase in told["phases"].items() if name in ALWAYS} == {
        "success"
    }
    for operation, accepted in accepted_by_phase(told).items():
        # One that nothing comes through to shows little.
        assert accepted or not counted(0, 1), operation
    if authenticated:
        assert told["auth"]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


DRAFT = "https://json-schema.org/draft/2020-12/schema"
"""What OpenAPI 3.1 writes its schemas in."""

OPERATIONS = 23
"""Those in the table of domain.md."""

ALWAYS = ("fuzzing", "stateful")


def token() -> str:
    """A token that allows everything in the store."""
    return mint(
        SECRET,
        issuer="jobs-gateway",
        audience="jobs-gateway",
        subject="ada",
        store=factories.STORE,
        scopes=EVERY_SCOPE,
        lifetime=timedelta(hours=2),
    )


def accepted_by_phase(told: Any) -> Counter[str]:
    """How many requests that the document allows were accepted, by operation."""
    accepted: Counter[str] = Counter()
    for operation, phases in told["valid_rates"].items():
        accepted[operation] += sum(phase["accepted"] for phase in phases.values())
    return accepted


@pytest.fixture
def settings(new_database: NewDatabase) -> Settings:
    """Which database is behind the gateway makes no difference to the document."""
    return Settings(database_url=new_database("sqlite"), port=0)


@pytest.fixture
async def document(idle_client: GraphQLClient) -> Any:
    """The OpenAPI document of a gateway."""
    response = await idle_client.http.get("/pcm/openapi.json")
    assert response.status_code == 200
    return response.json()


def operations_of(document: Any) -> Mapping[str, Any]:
    """The operations by method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


async def test_the_document_is_one_of_openapi_3_1(document: Any) -> None:
    assert document["openapi"].startswith("3.1.")
    faults = [str(fault) for fault in OPENAPI_31_VALIDATOR.iter_errors(document)]
    assert faults == []
    for name, schema in document["components"]["schemas"].items():
        meta.validate({"$schema": DRAFT, **schema})
        # Names that somebody who generates a client can live with.
        assert len(name) <= 40, name


async def test_the_document_refers_to_nothing_that_is_not_there(document: Any) -> None:
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names == document["components"]["schemas"].keys()


async def test_every_operation_describes_itself_and_its_parameters(document: Any) -> None:
    operations = operations_of(document)
    assert len(operations) == OPERATIONS
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(set(ids)) == len(ids)
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"].endswith("."), name
        for parameter in operation.get("parameters", []):
            assert parameter["description"], name
        in_path = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", name)), name


async def test_every_operation_tells_every_refusal_in_one_shape(document: Any) -> None:
    errors = {"$ref": "#/components/schemas/Errors"}
    for name, operation in operations_of(document).items():
        responses = operation["responses"]
        refusals = {status for status in responses if status >= "400"}
        expected = {"400", "401", "403", "408", "413", "429", "500", "503"}
        if "{" in name:
            expected.add("404")
        if "requestBody" in operation:
            expected |= {"415", "422"}
        if operation["operationId"] in CHANGES_WITH_RULES:
            expected.add("422")
        assert refusals == expected, name
        assert len(responses) == len(refusals) + 1, name
        for status in refusals:
            assert responses[status]["content"] == {"application/json": {"schema": errors}}, name


@pytest.mark.parametrize("authenticated", [False, True], ids=["open", "with tokens"])
async def test_the_document_asks_for_tokens_where_the_gateway_does(
    authenticated: bool, settings: Settings
) -> None:
    secret = SecretStr(SECRET) if authenticated else None
    asked = settings.model_copy(update={"runner": False, "jwt_secret": secret})
    async with gateway_of(asked) as gateway, http_client(gateway.url) as http:
        refused = await http.get("/pcm/openapi.json")
        headers = {"Authorization": f"Bearer {token()}"} if authenticated else {}
        document = (await http.get("/pcm/openapi.json", headers=headers)).json()
    schemes = document["components"].get("securitySchemes", {})
    assert refused.status_code == (401 if authenticated else 200)
    assert [scheme["scheme"] for scheme in schemes.values()] == ["bearer"] * authenticated
    assert document.get("security", []) == [{name: []} for name in schemes]


async def test_the_document_can_be_kept_from_clients(settings: Settings) -> None:
    silent = settings.model_copy(update={"runner": False, "introspection": False})
    async with gateway_of(silent) as gateway, http_client(gateway.url) as http:
        response = await http.get("/pcm/openapi.json")
        assert response.status_code == 404
        assert response.json() == {"errors": [{"status": "404", "title": "Not Found"}]}
        assert (await http.get("/pcm/jobs")).status_code == 200
