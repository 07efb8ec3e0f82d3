"""Requests that schemathesis generates from the OpenAPI document, with all its checks: statuses and
shapes conform to the document, invalid requests are refused, deleted resources are gone, and a
gateway with authentication refuses requests without a token."""

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
    "add_root_children",
)
"""Operations that may refuse bodies valid by their schemas with 422. No schema expresses that a
name has a visible character, that a text has no NUL, that no sibling has the same name or slug,
that the ids in body and path are equal, that curated products are attached, or that no node is
below itself."""

CHANGES_WITH_RULES = ("cancel_job", "unset_parent")
"""Operations without a body that may be refused with 422: only a pending job can be cancelled, and
a child of the root may have the same name."""

FILTERED = (
    *("list_jobs", "list_hierarchies", "list_nodes", "list_root_children", "list_children"),
    "search_nodes",
)
"""Operations that may refuse parameters valid by their schemas with 400: no schema expresses the
grammar of filters."""

FILTERED_WITH_RULES = ("attach_nodes", "detach_nodes")
"""Operations of both kinds."""

NAMING_OTHERS = (
    *("add_children", "add_root_children", "set_parent", "create_node"),
    *("attach_products", "detach_products"),
)
"""Operations that may respond 404 for a new resource, because of the other ids, in the body."""

REFUSED = ("400", "404", "405", "413", "415", "422")
"""Statuses that refuse invalid or too large requests."""

DOOMED = 40
"""Number of hierarchies, and of nodes, created for deletion."""

KNOWN_ID_SHARE = 0.8
"""Share of the ids that exist; random ids never do."""

IDS = {
    "path.hierarchy_id": "hierarchies",
    "path.node_id": "nodes",
    "path.job_id": "jobs",
    "path.product_id": "products",
}
"""The kind of resource per id parameter."""

IDS_PER_OPERATION = {
    "delete_hierarchy": {"path.hierarchy_id": "doomed_hierarchies"},
    "update_hierarchy": {"body.data.id": "hierarchies"},
    "delete_node": {"path.node_id": "doomed_nodes"},
    "update_node": {"path.node_id": "oaks", "body.data.id": "oaks"},
    "cancel_job": {"path.job_id": "waiting"},
    "attach_products": {"body.data[*].id": "products"},
    "detach_products": {"body.data[*].id": "products"},
    "add_children": {"body.data[*].id": "doomed_nodes"},
    "add_root_children": {"body.data[*].id": "doomed_nodes"},
    "attach_nodes": {"body.data.node_ids[*]": "nodes"},
    "detach_nodes": {"body.data.node_ids[*]": "nodes"},
    "set_parent": {"path.node_id": "doomed_nodes", "body.data.id": "nodes"},
    "create_node": {"body.data.relationships.parent.data.id": "nodes"},
}
"""Exceptions from IDS for single operations."""


async def furnished(gateway: Gateway) -> Mapping[str, Sequence[str]]:
    """Create hierarchies with nodes and products, and jobs in every status. Return ids per kind."""
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
    page = await database.read(products.listing, factories.STORE, [], KeysetWindow(100))
    doomed = [await factories.hierarchy(database, {}) for _ in range(DOOMED)]
    ids: Mapping[str, Sequence[UUID]] = {
        "hierarchies": [source],
        "nodes": [node_id(source, no) for no in range(1, 5)],
        "oaks": [node_id(source, 2)],
        "products": [product.id for _, product in page.rows],
        "jobs": [job.id for job in (*jobs, *waiting)],
        "waiting": [job.id for job in waiting],
        "doomed_hierarchies": doomed,
        "doomed_nodes": [node_id(source, no) for no in range(5, 5 + DOOMED)],
    }
    return {kind: list(map(str, kind_ids)) for kind, kind_ids in ids.items()}


def configuration(ids: Mapping[str, Sequence[str]]) -> str:
    """Return the configuration file of schemathesis: existing ids and expected statuses."""
    lines = []
    for kind, kind_ids in ids.items():
        lines += [f"[dictionaries.{kind}]", f"values = {json.dumps(kind_ids)}"]
    lines += ["[parameters]"]
    for name, kind in IDS.items():
        lines += [f'"{name}" = {{ dictionary = "{kind}", probability = {KNOWN_ID_SHARE} }}']
    lines += [
        "[checks]",
        'positive_data_acceptance.expected-statuses = ["2xx", "404", "413"]',
        f"negative_data_rejection.expected-statuses = {json.dumps(REFUSED)}",
    ]
    for operations, refusals in (
        ((*BODIES_WITH_RULES, *CHANGES_WITH_RULES), ["422"]),
        (FILTERED, ["400"]),
        (FILTERED_WITH_RULES, ["400", "422"]),
    ):
        lines += [
            "[[operations]]",
            f"include-operation-id = {json.dumps(operations)}",
            "checks.positive_data_acceptance.expected-statuses = "
            f"{json.dumps(['2xx', '404', '413', *refusals])}",
        ]
    lines += [
        # PUT and DELETE of its path are those of a hierarchy by id.
        "[[operations]]",
        'include-operation-id = "search_nodes"',
        "checks.unsupported_method.enabled = false",
        "checks.allow_header_conformance.enabled = false",
        "[[operations]]",
        f"include-operation-id = {json.dumps(NAMING_OTHERS)}",
        "checks.ensure_resource_availability.enabled = false",
    ]
    for operation, parameters in IDS_PER_OPERATION.items():
        lines += ["[[operations]]", f'include-operation-id = "{operation}"']
        for name, kind in parameters.items():
            value = f'{{ dictionary = "{kind}", probability = {KNOWN_ID_SHARE} }}'
            lines += [f'parameters."{name}" = {value}']
    return "\n".join(lines)


async def run_schemathesis(
    gateway: Gateway, folder: Path, examples: int, seed: int, *arguments: str
) -> tuple[str, Any]:
    """Run schemathesis with `examples` per operation. Return its output and its JSON report."""
    config, result_path = folder / "schemathesis.toml", folder / "report.json"
    config.write_text(configuration(await furnished(gateway)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", f"--config-file={config}", "run"),
        *(f"{gateway.url}/pcm/openapi.json", f"--max-examples={examples}", f"--seed={seed}"),
        *("--continue-on-failure", "--no-color", f"--report-json-path={result_path}", *arguments),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    assert result_path.exists(), printed.decode()
    return printed.decode(), json.loads(result_path.read_text())


@pytest.mark.generated
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("authenticated", [False, True], ids=["open", "with tokens"])
async def test_every_answer_conforms_to_the_document(
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
    # Without --full the phase that tries the bounds of every schema runs in one of the two cases.
    phases = counted(0, 1) or not authenticated
    arguments = [] if phases else ["--phases=examples,fuzzing,stateful"]
    if authenticated:
        arguments.append(f"--header=Authorization: Bearer {token()}")
    async with gateway_of(settings) as gateway:
        printed, result = await run_schemathesis(
            gateway, tmp_path, counted(2, 200), seed, *arguments
        )
    cases = result["test_cases"]
    report(f"{cases['generated']} requests, failures {cases['with_failures']}")
    assert result["failures"] == [], printed
    assert result["errors"] == [], printed
    assert result["complete"]
    assert result["exit_code"] == 0, printed
    assert result["operations"]["tested"] == result["operations"]["total"] == OPERATIONS
    assert {phase["status"] for name, phase in result["phases"].items() if name in ALWAYS} == {
        "success"
    }
    for operation, accepted in accepted_by_phase(result).items():
        # An operation without an accepted request is hardly tested.
        assert accepted or not counted(0, 1), operation
    if authenticated:
        assert result["auth"]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


DRAFT = "https://json-schema.org/draft/2020-12/schema"
"""The JSON Schema dialect of OpenAPI 3.1."""

OPERATIONS = 28
"""Number of operations in the table of domain.md."""

ALWAYS = ("fuzzing", "stateful")


def token() -> str:
    """Mint a token with every scope of the store."""
    return mint(
        SECRET,
        issuer="jobs-gateway",
        audience="jobs-gateway",
        subject="ada",
        store=factories.STORE,
        scopes=EVERY_SCOPE,
        lifetime=timedelta(hours=2),
    )


def accepted_by_phase(result: Any) -> Counter[str]:
    """Count the accepted valid requests per operation."""
    accepted: Counter[str] = Counter()
    for operation, phases in result["valid_rates"].items():
        accepted[operation] += sum(phase["accepted"] for phase in phases.values())
    return accepted


@pytest.fixture
def database_kind() -> str:
    """SQLite alone: the document does not depend on the database."""
    return "sqlite"


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


async def test_the_document_is_valid_openapi_3_1(document: Any) -> None:
    assert document["openapi"].startswith("3.1.")
    faults = [str(fault) for fault in OPENAPI_31_VALIDATOR.iter_errors(document)]
    assert faults == []
    for name, schema in document["components"]["schemas"].items():
        meta.validate({"$schema": DRAFT, **schema})
        # Generated clients use these names.
        assert len(name) <= 40, name


async def test_the_document_refers_only_to_its_own_schemas(document: Any) -> None:
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names == document["components"]["schemas"].keys()


async def test_only_the_times_of_a_job_can_be_null_in_a_response(document: Any) -> None:
    schemas = document["components"]["schemas"]
    shown = {
        name
        for operation in operations_of(document).values()
        for name in referred(schemas, operation["responses"])
    }
    nullable = {
        (name, field)
        for name in shown
        for field, schema in schemas[name].get("properties", {}).items()
        if {"type": "null"} in schema.get("anyOf", [])
    }
    assert nullable == {("JobAttributes", "started_at"), ("JobAttributes", "completed_at")}


def referred(schemas: Any, document: Any) -> set[str]:
    """The names of the schemas that a part of the document refers to, also through others."""
    names: set[str] = set()
    new = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    while new:
        names |= new
        parts = [schemas[name] for name in new]
        new = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(parts))) - names
    return names


async def test_every_operation_and_parameter_is_described(document: Any) -> None:
    operations = operations_of(document)
    assert len(operations) == OPERATIONS
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(set(ids)) == len(ids)
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"].endswith("."), name
        for parameter in operation.get("parameters", []):
            assert parameter["description"], name
        in_path = {
            parameter["name"]
            for parameter in operation.get("parameters", [])
            if parameter["in"] == "path"
        }
        assert in_path == set(re.findall(r"{(\w+)}", name)), name


async def test_every_operation_documents_its_refusals_in_one_shape(document: Any) -> None:
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
async def test_the_document_requires_tokens_if_the_gateway_does(
    authenticated: bool, settings: Settings
) -> None:
    secret = SecretStr(SECRET) if authenticated else None
    changed = settings.model_copy(update={"runner": False, "jwt_secret": secret})
    async with gateway_of(changed) as gateway, http_client(gateway.url) as http:
        refused = await http.get("/pcm/openapi.json")
        headers = {"Authorization": f"Bearer {token()}"} if authenticated else {}
        document = (await http.get("/pcm/openapi.json", headers=headers)).json()
    schemes = document["components"].get("securitySchemes", {})
    assert refused.status_code == (401 if authenticated else 200)
    assert [scheme["scheme"] for scheme in schemes.values()] == ["bearer"] * authenticated
    assert document.get("security", []) == [{name: []} for name in schemes]


async def test_the_document_is_hidden_without_introspection(settings: Settings) -> None:
    silent = settings.model_copy(update={"runner": False, "introspection": False})
    async with gateway_of(silent) as gateway, http_client(gateway.url) as http:
        response = await http.get("/pcm/openapi.json")
        assert response.status_code == 404
        assert response.json() == {"errors": [{"status": "404", "title": "Not Found"}]}
        assert (await http.get("/pcm/jobs")).status_code == 200
