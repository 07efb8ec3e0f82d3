"""Every query and the value of every field."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from app.domain.hierarchies import node_id
from app.domain.jobs import JobType
from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.services import attempts, copies, jobs
from app.services.attempts import Step
from app.services.copies import CopyPhase
from app.settings import Settings
from app.storage import jobs as stored_jobs
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.tables import Job, JobError, JobRow, Product
from tests import factories
from tests.support.clients import GraphQLClient, client_of
from tests.support.databases import NewDatabase
from tests.support.entities import session_of
from tests.support.gateway import gateway_of
from tests.support.subscriber import JOB_EVENTS, subscriber

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

HIERARCHY = """
    __typename id name description slug owner nodeCount createdAt updatedAt
    localizations { locale name description }
    breadcrumbs { id name slug }
    children { nodes { name } }
    nodes { nodes { name } }
    copiedFrom { id }
    jobs { nodes { id } totalCount }
"""
NODE = """
    __typename id name description slug owner depth sortOrder createdAt updatedAt
    localizations { locale name description }
    breadcrumbs { id name slug }
    children { nodes { name } }
    hierarchy { id name }
    parent { __typename id name }
    products { edges { curated node { id sku name } } nodes { sku } totalCount }
"""
JOB = """
    __typename id type status createdAt startedAt completedAt updatedAt
    requestId requestedBy version canCancel queuePosition estimatedStartAt
    progress { completed total ratio estimatedCompletionAt }
    duplication {
        sourceId name description includeProducts source { id } result { id copiedFrom { id } }
    }
    errors { edges { cursor } nodes { __typename id code message createdAt } totalCount }
"""


@dataclass(frozen=True)
class Shop:
    """A gateway with a populated store, shared by read-only tests."""

    client: GraphQLClient
    garden: UUID
    copy: UUID
    copied: UUID
    """The job that created the copy."""
    failed: UUID
    error: UUID
    rose: UUID
    """A product."""
    theirs: dict[str, UUID]
    """Ids of another store, by kind."""

    def node(self, number: int) -> UUID:
        return node_id(self.garden, number)


@pytest.fixture(scope="module")
async def shop(new_database: NewDatabase) -> AsyncIterator[Shop]:
    settings = Settings(database_url=new_database("sqlite"), port=0, runner=False)
    async with gateway_of(settings) as gateway, client_of(gateway) as client:
        theirs = await stocked(gateway.database, "other")
        ours = await stocked(gateway.database, factories.STORE)
        yield Shop(client, **ours, theirs=theirs)


async def stocked(database: Database, store: str) -> dict[str, UUID]:
    """Create a hierarchy, its copy and a failed duplication; return their ids."""
    garden = await factories.hierarchy(
        database,
        {"Roses": {"Climbers": {}, "Tea roses": {}}, "Herbs": {}, "Trees": {}},
        name="Garden",
        store=store,
        slug="garden",
        description="All that grows",
        locales={
            "fr": {"name": "Jardin", "description": "Tout"},
            "fr-FR": {"name": "Jardin de France"},
            "de-DE": {"description": "Alles"},
        },
        products={"Tea roses": ["a", "b", "c", "d"], "Herbs": ["b"], "Roses": ["b"]},
        curated={"Tea roses": ["d", "b"]},
    )
    await factories.edited(database, node_id(garden, 4), sort_order=7)
    await factories.edited(
        database, node_id(garden, 3), locales={"fr": {"name": "Roses thé"}}, description="Scented"
    )
    copied = await factories.pending_duplication(
        database, garden, store=store, name="Park", description="", include_products=True
    )
    await factories.ran_job(database, store=store)
    deleted = await factories.hierarchy(database, {}, store=store)
    failed = await factories.pending_duplication(database, deleted, store=store)
    await factories.deleted(database, deleted)
    await factories.ran_job(database, store=store)

    def ids(tx: Transaction) -> dict[str, UUID]:
        copy = session_of(tx).exec(select(Job.result_id).where(Job.id == copied.id)).one()
        assert copy
        products = select(Product.id).where(Product.store == store, Product.sku == "b")
        return {
            "garden": garden,
            "copy": copy,
            "copied": copied.id,
            "failed": failed.id,
            "error": session_of(tx)
            .exec(select(JobError.id).where(JobError.job_pk == failed.pk))
            .one(),
            "rose": session_of(tx).exec(products).one(),
        }

    return await database.read(ids)


def names(connection: dict[str, Any]) -> list[str]:
    return [row["name"] for row in connection["nodes"]]


def instant(text: str) -> datetime:
    """Parse an instant in the format of the API."""
    assert INSTANT.fullmatch(text), text
    return datetime.fromisoformat(text)


async def test_a_hierarchy_returns_all_its_fields(shop: Shop) -> None:
    data = await shop.client.data(f'{{ hierarchy(id: "{shop.garden}") {{ {HIERARCHY} }} }}')
    hierarchy = data["hierarchy"]
    assert (
        instant(hierarchy.pop("createdAt"))
        <= instant(hierarchy.pop("updatedAt"))
        <= datetime.now(UTC)
    )
    assert hierarchy == {
        "__typename": "Hierarchy",
        "id": str(shop.garden),
        "name": "Garden",
        "description": "All that grows",
        "slug": "garden",
        "owner": "STORE",
        "nodeCount": 5,
        "localizations": [
            {"locale": "de-DE", "name": None, "description": "Alles"},
            {"locale": "fr", "name": "Jardin", "description": "Tout"},
            {"locale": "fr-FR", "name": "Jardin de France", "description": None},
        ],
        "breadcrumbs": [{"id": str(shop.garden), "name": "Garden", "slug": "garden"}],
        "children": {"nodes": [{"name": "Herbs"}, {"name": "Roses"}, {"name": "Trees"}]},
        "nodes": {
            "nodes": [
                {"name": name} for name in ("Roses", "Herbs", "Trees", "Climbers", "Tea roses")
            ]
        },
        "copiedFrom": None,
        "jobs": {"nodes": [{"id": str(shop.copied)}], "totalCount": 1},
    }


async def test_a_node_returns_all_its_fields(shop: Shop) -> None:
    data = await shop.client.data(
        f'{{ node(id: "{shop.node(3)}") {{ ... on HierarchyNode {{ {NODE} }} }} }}'
    )
    node = data["node"]
    assert instant(node.pop("createdAt")) <= instant(node.pop("updatedAt")) <= datetime.now(UTC)
    products = node.pop("products")
    assert node == {
        "__typename": "HierarchyNode",
        "id": str(shop.node(3)),
        "name": "Tea roses",
        "description": "Scented",
        "slug": "tea-roses",
        "owner": "STORE",
        "depth": 2,
        "sortOrder": None,
        "localizations": [{"locale": "fr", "name": "Roses thé", "description": None}],
        "breadcrumbs": [
            {"id": str(shop.garden), "name": "Garden", "slug": "garden"},
            {"id": str(shop.node(1)), "name": "Roses", "slug": "roses"},
            {"id": str(shop.node(3)), "name": "Tea roses", "slug": "tea-roses"},
        ],
        "children": {"nodes": []},
        "hierarchy": {"id": str(shop.garden), "name": "Garden"},
        "parent": {"__typename": "HierarchyNode", "id": str(shop.node(1)), "name": "Roses"},
    }
    shown = [(edge["node"]["sku"], edge["curated"]) for edge in products["edges"]]
    assert shown == [("d", True), ("b", True), ("a", False), ("c", False)]
    assert [product["sku"] for product in products["nodes"]] == ["d", "b", "a", "c"]
    assert products["totalCount"] == 4
    assert products["edges"][1]["node"] == {"id": str(shop.rose), "sku": "b", "name": "Product b"}


async def test_the_parent_of_a_top_level_node_is_the_hierarchy(shop: Shop) -> None:
    document = """
        query ($id: ID!) {
            node(id: $id) {
                ... on HierarchyNode { depth sortOrder parent { __typename id children { nodes {
                    id name
                } } } }
            }
        }
    """
    node = (await shop.client.data(document, id=str(shop.node(4))))["node"]
    assert (node["depth"], node["sortOrder"]) == (1, 7)
    assert (node["parent"]["__typename"], node["parent"]["id"]) == ("Hierarchy", str(shop.garden))
    assert names(node["parent"]["children"]) == ["Herbs", "Roses", "Trees"]


async def test_a_product_lists_its_nodes_in_all_hierarchies(shop: Shop) -> None:
    document = """
        query ($id: ID!) {
            node(id: $id) {
                __typename
                ... on Product { id sku name nodes { nodes { name hierarchy { id } } totalCount } }
            }
        }
    """
    product = (await shop.client.data(document, id=str(shop.rose)))["node"]
    nodes = product.pop("nodes")
    assert product == {
        "__typename": "Product",
        "id": str(shop.rose),
        "sku": "b",
        "name": "Product b",
    }
    assert nodes["totalCount"] == 6
    positions = [(node["name"], UUID(node["hierarchy"]["id"])) for node in nodes["nodes"]]
    assert positions == [
        (name, hierarchy)
        for hierarchy in (shop.garden, shop.copy)
        for name in ("Roses", "Tea roses", "Herbs")
    ]


async def test_a_copy_has_its_source_and_its_job(shop: Shop) -> None:
    data = await shop.client.data(f'{{ hierarchy(id: "{shop.copy}") {{ {HIERARCHY} }} }}')
    copy = data["hierarchy"]
    assert (copy["name"], copy["description"]) == ("Park", None)
    assert (copy["slug"], copy["nodeCount"]) == ("garden", 5)
    assert copy["copiedFrom"] == {"id": str(shop.garden)}
    assert copy["jobs"] == {"nodes": [{"id": str(shop.copied)}], "totalCount": 1}
    assert names(copy["children"]) == ["Herbs", "Roses", "Trees"]
    assert [translation["locale"] for translation in copy["localizations"]] == [
        "de-DE",
        "fr",
        "fr-FR",
    ]


@pytest.mark.parametrize(
    ("locale", "name", "description"),
    [
        (None, "Garden", "All that grows"),
        ("fr-FR", "Jardin de France", "All that grows"),
        ("fr-CA", "Jardin", "Tout"),
        ("FR-ca-x-quebec", "Jardin", "Tout"),
        ("fr", "Jardin", "Tout"),
        ("de-DE", "Garden", "Alles"),
        ("de", "Garden", "All that grows"),
        ("ja", "Garden", "All that grows"),
        ("f", "Garden", "All that grows"),
        ("", "Garden", "All that grows"),
    ],
)
async def test_a_text_falls_back_from_the_locale_to_its_language_to_the_default(
    shop: Shop, locale: str | None, name: str, description: str
) -> None:
    document = """
        query ($id: ID!, $locale: String) {
            hierarchy(id: $id) { name(locale: $locale) description(locale: $locale) }
        }
    """
    data = await shop.client.data(document, id=str(shop.garden), locale=locale)
    assert data["hierarchy"] == {"name": name, "description": description}


async def test_texts_of_nodes_are_translated(shop: Shop) -> None:
    document = """
        query ($id: ID!) {
            node(id: $id) { ... on TreeItem { name(locale: "fr-CA") description(locale: "fr-CA") } }
        }
    """
    data = await shop.client.data(document, id=str(shop.node(3)))
    assert data["node"] == {"name": "Roses thé", "description": "Scented"}


async def test_a_succeeded_job_returns_all_its_fields(shop: Shop) -> None:
    job = (await shop.client.data(f'{{ job(id: "{shop.copied}") {{ {JOB} }} }}'))["job"]
    created, started, completed, updated = (
        instant(job.pop(name)) for name in ("createdAt", "startedAt", "completedAt", "updatedAt")
    )
    assert created <= started <= completed == updated
    assert job.pop("version") > 2
    assert job == {
        "__typename": "Job",
        "id": str(shop.copied),
        "type": "HIERARCHY_DUPLICATE",
        "status": "SUCCESS",
        "requestId": "given",
        "requestedBy": None,
        "canCancel": False,
        "queuePosition": None,
        "estimatedStartAt": None,
        # Five nodes and six associations.
        "progress": {"completed": 11, "total": 11, "ratio": 1.0, "estimatedCompletionAt": None},
        "duplication": {
            "sourceId": str(shop.garden),
            "name": "Park",
            "description": "",
            "includeProducts": True,
            "source": {"id": str(shop.garden)},
            "result": {"id": str(shop.copy), "copiedFrom": {"id": str(shop.garden)}},
        },
        "errors": {"edges": [], "nodes": [], "totalCount": 0},
    }


async def test_a_failed_job_returns_its_error(shop: Shop) -> None:
    job = (await shop.client.data(f'{{ job(id: "{shop.failed}") {{ {JOB} }} }}'))["job"]
    assert (job["status"], job["canCancel"]) == ("FAILED", False)
    assert instant(job["startedAt"]) <= instant(job["completedAt"])
    assert job["duplication"]["source"] is None
    assert job["duplication"]["result"] is None
    (error,) = job["errors"]["nodes"]
    assert instant(error.pop("createdAt")) >= instant(job["completedAt"])
    source_id = job["duplication"]["sourceId"]
    assert error == {
        "__typename": "JobError",
        "id": str(shop.error),
        "code": "NOT_FOUND",
        "message": f"No hierarchy has the id {source_id}.",
    }
    assert job["errors"]["totalCount"] == 1


async def test_node_and_nodes_return_any_kind_by_id_and_null_for_unknown_ids(shop: Shop) -> None:
    document = "query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"
    kinds = {
        str(shop.garden): "Hierarchy",
        str(shop.node(3)): "HierarchyNode",
        str(shop.failed): "Job",
        str(shop.rose): "Product",
        str(shop.error): "JobError",
    }
    missing = [
        str(uuid4()),
        str(node_id(shop.garden, 99)),
        "malformed",
        "",
        "\x00",
        *(str(id) for id in shop.theirs.values()),
        str(node_id(shop.theirs["garden"], 1)),
    ]
    ids = [id for pair in zip([*kinds, *kinds, *kinds], missing, strict=False) for id in pair]
    nodes = (await shop.client.data(document, ids=ids))["nodes"]
    assert nodes == [{"__typename": kinds[id], "id": id} if id in kinds else None for id in ids]
    for id in ids:
        data = await shop.client.data("query ($id: ID!) { node(id: $id) { __typename } }", id=id)
        assert data["node"] == ({"__typename": kinds[id]} if id in kinds else None)


async def test_nodes_accepts_at_most_100_ids(shop: Shop) -> None:
    document = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    assert (await shop.client.data(document, ids=[]))["nodes"] == []
    data = await shop.client.data(document, ids=[str(shop.garden)] * 100)
    assert data["nodes"] == [{"id": str(shop.garden)}] * 100
    error = await shop.client.refusal(document, ids=[str(shop.garden)] * 101)
    assert error["extensions"] == {"code": "INVALID_INPUT", "argument": ["ids"]}


async def test_a_query_for_one_kind_returns_no_other_kind(shop: Shop) -> None:
    document = """
        query ($id: ID!) {
            hierarchy(id: $id) { id } job(id: $id) { id } duplicationPreview(hierarchyId: $id) {
                nodeCount
            }
        }
    """
    nothing = {"hierarchy": None, "job": None, "duplicationPreview": None}
    for id in (
        shop.node(1),
        shop.rose,
        shop.error,
        uuid4(),
        "malformed",
        "",
        *shop.theirs.values(),
    ):
        assert await shop.client.data(document, id=str(id)) == nothing
    data = await shop.client.data(document, id=str(shop.copied))
    assert data == nothing | {"job": {"id": str(shop.copied)}}


async def test_lists_exclude_rows_of_other_stores(shop: Shop) -> None:
    document = """
        query ($theirs: ID!) {
            hierarchies { nodes { id } totalCount }
            jobs { nodes { id } totalCount }
            about: jobs(filter: {hierarchyId: $theirs}) { nodes { id } totalCount }
        }
    """
    data = await shop.client.data(document, theirs=str(shop.theirs["garden"]))
    ours = {str(shop.garden), str(shop.copy)}
    assert {row["id"] for row in data["hierarchies"]["nodes"]} == ours
    assert data["hierarchies"]["totalCount"] == 2
    assert {row["id"] for row in data["jobs"]["nodes"]} == {str(shop.copied), str(shop.failed)}
    assert data["jobs"]["totalCount"] == 2
    assert data["about"] == {"nodes": [], "totalCount": 0}


@pytest.fixture(scope="module")
async def shelf(new_database: NewDatabase) -> AsyncIterator[GraphQLClient]:
    """A store of hierarchies with names and slugs that test the filters."""
    settings = Settings(database_url=new_database("sqlite"), port=0, runner=False)
    async with gateway_of(settings) as gateway, client_of(gateway) as client:
        for name, slug in [
            ("Garden", "garden"),
            ("garden", "a_b"),
            ("Garden 100%", "axb"),
            ("Garden 1000", None),
            ("Épicerie", "épicerie"),
            ("back\\slash", "back"),
        ]:
            store = ORGANIZATION if name == "garden" else factories.STORE
            await factories.hierarchy(gateway.database, {}, name=name, slug=slug, store=store)
        await factories.hierarchy(gateway.database, {}, name="Garden", slug="garden", store="other")
        yield client


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, ["Garden", "garden", "Garden 100%", "Garden 1000", "Épicerie", "back\\slash"]),
        ({"name": {"eq": "Garden"}}, ["Garden"]),
        ({"name": {"eq": "Garden*"}}, []),
        ({"name": {"eq": ""}}, []),
        ({"name": {"in": ["Garden", "Garden 1000", "Gard"]}}, ["Garden", "Garden 1000"]),
        ({"name": {"in": []}}, []),
        ({"name": {"like": "gArDeN"}}, ["Garden", "garden"]),
        ({"name": {"like": "*DEN*"}}, ["Garden", "garden", "Garden 100%", "Garden 1000"]),
        ({"name": {"like": "*den"}}, ["Garden", "garden"]),
        ({"name": {"like": "*100%"}}, ["Garden 100%"]),
        ({"name": {"like": "*%*"}}, ["Garden 100%"]),
        ({"name": {"like": "_arden"}}, []),
        ({"name": {"like": "*\\*"}}, ["back\\slash"]),
        ({"name": {"like": "éPICERIE"}}, ["Épicerie"]),
        ({"name": {"like": "*É*"}}, ["Épicerie"]),
        ({"slug": {"eq": "garden"}}, ["Garden"]),
        ({"slug": {"like": "A_B"}}, ["garden"]),
        ({"slug": {"in": ["axb", "a_b"]}}, ["garden", "Garden 100%"]),
        ({"owner": "ORGANIZATION"}, ["garden"]),
        (
            {"owner": "STORE"},
            ["Garden", "Garden 100%", "Garden 1000", "Épicerie", "back\\slash"],
        ),
        ({"owner": "STORE", "name": {"like": "garden"}}, ["Garden"]),
        ({"name": {"like": "garden"}, "slug": {"eq": "axb"}}, []),
        (
            {"name": None, "slug": None, "owner": None},
            ["Garden", "garden", "Garden 100%", "Garden 1000", "Épicerie", "back\\slash"],
        ),
    ],
)
async def test_hierarchies_are_filtered(
    shelf: GraphQLClient, filter: dict[str, Any], expected: list[str]
) -> None:
    document = """
        query ($filter: HierarchyFilter) {
            hierarchies(filter: $filter) { nodes { name owner } totalCount }
        }
    """
    connection = (await shelf.data(document, filter=filter))["hierarchies"]
    assert names(connection)[::-1] == expected
    assert connection["totalCount"] == len(expected)
    for row in connection["nodes"]:
        assert row["owner"] == ("ORGANIZATION" if row["name"] == "garden" else "STORE")


async def test_a_filter_applies_to_every_page(shelf: GraphQLClient) -> None:
    document = """
        query ($after: String) {
            hierarchies(first: 1, after: $after, filter: {name: {like: "garden*"}}) {
                nodes { name } pageInfo { hasNextPage endCursor } totalCount
            }
        }
    """
    listed, more, after = [], True, None
    while more:
        page = (await shelf.data(document, after=after))["hierarchies"]
        assert page["totalCount"] == 4
        listed += names(page)
        more, after = page["pageInfo"]["hasNextPage"], page["pageInfo"]["endCursor"]
    assert listed == ["Garden 1000", "Garden 100%", "garden", "Garden"]


@pytest.mark.parametrize("field", ["name", "slug"])
async def test_a_text_condition_requires_exactly_one_operator(
    shelf: GraphQLClient, field: str
) -> None:
    document = "query ($filter: HierarchyFilter) { hierarchies(filter: $filter) { totalCount } }"
    for condition in ({}, {"eq": "a", "like": "a"}, {"eq": None}):
        error = await shelf.refusal(document, filter={field: condition})
        assert error["extensions"] == {"code": "BAD_USER_INPUT"}
    error = await shelf.refusal(document, filter={field: {"in": ["a"] * 101}})
    assert error["extensions"] == {"code": "INVALID_INPUT", "argument": ["filter", field, "in"]}


@dataclass(frozen=True)
class Queue:
    """A gateway whose store has a job in every status, in this order of creation."""

    client: GraphQLClient
    succeeded: JobRow
    failed: JobRow
    cancelled: JobRow
    started: JobRow
    pending: JobRow
    price_import: UUID
    source: UUID
    other_source: UUID
    copy: UUID

    def name(self, id: str) -> str:
        """The name of the job with that id."""
        kinds = ("succeeded", "failed", "cancelled", "started", "pending")
        by_id = {str(getattr(self, kind).id): kind for kind in kinds}
        return {**by_id, str(self.price_import): "price import"}[id]


@pytest.fixture(scope="module")
async def queue(new_database: NewDatabase) -> AsyncIterator[Queue]:
    settings = Settings(database_url=new_database("sqlite"), port=0, runner=False)
    async with gateway_of(settings) as gateway, client_of(gateway) as client:
        database = gateway.database
        source = await factories.hierarchy(database, factories.wide_tree(4))
        deleted = await factories.hierarchy(database, {})
        succeeded = await factories.pending_duplication(database, source)
        failed = await factories.pending_duplication(database, deleted)
        await factories.deleted(database, deleted)
        await factories.ran_job(database)
        await factories.ran_job(database)
        cancelled = await factories.pending_duplication(database, source)
        await database.write(jobs.cancel, factories.STORE, cancelled.id)
        started = await factories.pending_duplication(database, source)
        claimed = await factories.claimed_job(database)
        await database.write(attempts.advance, claimed, lambda: Step({}, 1, 4))
        pending = await factories.pending_duplication(database, source)

        price_import = (await factories.pending_job(database, JobType.PRICE_IMPORT)).id
        copy = (await database.read(stored_jobs.by_ids, factories.STORE, [succeeded.id]))[
            succeeded.id
        ].result_id
        assert copy
        # Distinct creation times, a minute apart.
        await database.write(spread_out, datetime(2026, 1, 1, tzinfo=UTC))
        yield Queue(
            client,
            succeeded,
            failed,
            cancelled,
            started,
            pending,
            price_import,
            source,
            deleted,
            copy,
        )


def spread_out(tx: Transaction, start: datetime) -> None:
    pks = tx.rows(sa.select(col(Job.pk)).order_by(col(Job.job_seq)))
    for minute, (pk,) in enumerate(pks):
        at = start + timedelta(minutes=minute)
        tx.changed(sa.update(Job).where(col(Job.pk) == pk).values(created_at=at))


ALL_JOBS = ["succeeded", "failed", "cancelled", "started", "pending", "price import"]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, ALL_JOBS),
        (
            dict.fromkeys(("status", "type", "hierarchyId", "createdAfter", "createdBefore")),
            ALL_JOBS,
        ),
        ({"status": ["PENDING"]}, ["pending", "price import"]),
        ({"status": "STARTED"}, ["started"]),
        ({"status": ["SUCCESS", "FAILED"]}, ["succeeded", "failed"]),
        ({"status": ["CANCELLED"]}, ["cancelled"]),
        ({"status": []}, []),
        ({"type": ["PRICE_IMPORT"]}, ["price import"]),
        ({"type": ["PRICE_IMPORT", "HIERARCHY_DUPLICATE"]}, ALL_JOBS),
        ({"type": ["PRODUCT_EXPORT", "PRODUCT_IMPORT", "CHILD_PRODUCTS"]}, []),
        ({"type": []}, []),
        ({"hierarchyId": "source"}, ["succeeded", "cancelled", "started", "pending"]),
        ({"hierarchyId": "copy"}, ["succeeded"]),
        ({"hierarchyId": "lost"}, ["failed"]),
        ({"hierarchyId": "malformed"}, []),
        ({"hierarchyId": "00000000-0000-0000-0000-000000000000"}, []),
        ({"createdAfter": "2026-01-01T00:03:00.000Z"}, ["pending", "price import"]),
        ({"createdAfter": "2026-01-01T04:03:00+04:00"}, ["pending", "price import"]),
        ({"createdAfter": "2026-01-01T00:02:59.999999Z"}, ["started", "pending", "price import"]),
        ({"createdBefore": "2026-01-01T00:01:00Z"}, ["succeeded"]),
        ({"createdBefore": "2026-01-01T00:01:00.001Z"}, ["succeeded", "failed"]),
        (
            {"createdAfter": "2026-01-01T00:00:00Z", "createdBefore": "2026-01-01T00:03:00Z"},
            ["failed", "cancelled"],
        ),
        ({"status": ["PENDING"], "type": ["HIERARCHY_DUPLICATE"]}, ["pending"]),
        ({"status": ["SUCCESS"], "hierarchyId": "lost"}, []),
    ],
)
async def test_jobs_are_filtered_and_ordered(
    queue: Queue, filter: dict[str, Any], expected: list[str]
) -> None:
    document = """
        query ($filter: JobFilter) {
            jobs(filter: $filter) { nodes { id } totalCount }
            descending: jobs(filter: $filter, orderBy: CREATED_AT_DESC) { nodes { id } }
            ascending: jobs(filter: $filter, orderBy: CREATED_AT_ASC) { nodes { id } totalCount }
        }
    """
    hierarchies = {"source": queue.source, "copy": queue.copy, "lost": queue.other_source}
    if filter.get("hierarchyId") in hierarchies:
        filter = filter | {"hierarchyId": str(hierarchies[filter["hierarchyId"]])}
    data = await queue.client.data(document, filter=filter)

    def listed(alias: str) -> list[str]:
        return [queue.name(row["id"]) for row in data[alias]["nodes"]]

    assert listed("ascending") == expected
    assert listed("jobs") == listed("descending") == expected[::-1]
    assert data["jobs"]["totalCount"] == data["ascending"]["totalCount"] == len(expected)


@pytest.mark.parametrize("text", ["yesterday", "", "0001-01-01T00:00:00+10:00", 7])
async def test_an_invalid_instant_is_refused(queue: Queue, text: object) -> None:
    document = "query ($filter: JobFilter) { jobs(filter: $filter) { totalCount } }"
    error = await queue.client.refusal(document, filter={"createdAfter": text})
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert "RFC 3339" in error["message"]


async def test_a_job_of_another_type_has_no_duplication(queue: Queue) -> None:
    job = (await queue.client.data(f'{{ job(id: "{queue.price_import}") {{ {JOB} }} }}'))["job"]
    assert job["type"] == "PRICE_IMPORT"
    assert job["duplication"] is None


async def test_only_pending_jobs_can_be_cancelled_and_have_a_queue_position(
    queue: Queue,
) -> None:
    document = """{ jobs(orderBy: CREATED_AT_ASC) { nodes {
        id status canCancel queuePosition startedAt completedAt version
        progress { completed total ratio }
    } } }"""
    jobs = (await queue.client.data(document))["jobs"]["nodes"]
    by_name = {queue.name(job["id"]): job for job in jobs}
    assert [job["canCancel"] for job in jobs] == [False] * 4 + [True] * 2
    assert [job["queuePosition"] for job in jobs] == [None] * 4 + [1, 2]
    assert [bool(job["startedAt"]) for job in jobs] == [True, True, False, True, False, False]
    assert [bool(job["completedAt"]) for job in jobs] == [True, True, False, False, False, False]
    assert by_name["started"]["progress"] == {"completed": 1, "total": 4, "ratio": 0.25}
    assert by_name["failed"]["progress"] == {"completed": 0, "total": None, "ratio": None}
    for unstarted in ("cancelled", "pending", "price import"):
        assert by_name[unstarted]["progress"] is None


async def test_job_queue_returns_the_state_of_the_queue(queue: Queue) -> None:
    document = "{ jobQueue { pending running { id status } oldestPendingAt cursor } }"
    state = (await queue.client.data(document))["jobQueue"]
    assert state.pop("cursor")
    assert state == {
        "pending": 2,
        "running": {"id": str(queue.started.id), "status": "STARTED"},
        "oldestPendingAt": "2026-01-01T00:04:00.000Z",
    }


async def test_an_empty_queue_has_only_a_cursor(idle_client: GraphQLClient) -> None:
    document = "{ jobQueue { pending running { id } oldestPendingAt cursor } }"
    state = (await idle_client.data(document))["jobQueue"]
    assert state.pop("cursor")
    assert state == {"pending": 0, "running": None, "oldestPendingAt": None}


async def test_a_subscription_after_the_cursor_of_the_queue_delivers_later_events(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    await factories.pending_duplication(idle_gateway.database, source)
    cursor = (await idle_client.data("{ jobQueue { cursor } }"))["jobQueue"]["cursor"]
    later = await factories.pending_duplication(idle_gateway.database, source)
    async with subscriber(idle_gateway.url) as connected:
        events = await connected.subscribe(JOB_EVENTS, after=cursor)
        event = await anext(events)
    assert (event["type"], event["job"]["id"]) == ("CREATED", str(later.id))


async def test_a_preview_describes_a_duplication_and_writes_nothing(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database = idle_gateway.database
    source = await factories.hierarchy(
        database, {"Roses": {"Tea roses": {}}}, products={"Roses": ["a", "b"], "Tea roses": ["a"]}
    )
    document = """
        query ($id: ID!) {
            plain: duplicationPreview(hierarchyId: $id) { ...All }
            full: duplicationPreview(hierarchyId: $id, includeProducts: true) { ...All }
            jobQueue { pending cursor }
            hierarchies { totalCount }
        }
        fragment All on DuplicationPreview {
            nodeCount productAssociationCount queuePosition estimatedSeconds
        }
    """
    before = await idle_client.data(document, id=str(source))
    unknown = {"nodeCount": 2, "queuePosition": 1, "estimatedSeconds": None}
    assert before["plain"] == {**unknown, "productAssociationCount": 0}
    assert before["full"] == {**unknown, "productAssociationCount": 3}
    assert await idle_client.data(document, id=str(source)) == before

    await factories.pending_duplication(database, source)
    await factories.pending_duplication(database, source)
    queued = await idle_client.data(document, id=str(source))
    assert queued["plain"] == {**unknown, "queuePosition": 3, "productAssociationCount": 0}
    assert (queued["jobQueue"]["pending"], queued["hierarchies"]["totalCount"]) == (2, 1)


async def test_estimates_are_null_until_a_job_has_completed(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database = idle_gateway.database
    source = await factories.hierarchy(
        database, factories.wide_tree(20), products={"node 1": ["a", "b", "c", "d"]}
    )
    first, second, third = [await factories.pending_duplication(database, source) for _ in range(3)]
    document = """
        query ($source: ID!, $first: ID!, $second: ID!, $third: ID!) {
            plain: duplicationPreview(hierarchyId: $source) { estimatedSeconds }
            full: duplicationPreview(hierarchyId: $source, includeProducts: true) {
                estimatedSeconds
            }
            first: job(id: $first) { ...Estimates }
            second: job(id: $second) { ...Estimates }
            third: job(id: $third) { ...Estimates }
        }
        fragment Estimates on Job {
            startedAt estimatedStartAt progress { estimatedCompletionAt }
        }
    """
    ids = {"first": str(first.id), "second": str(second.id), "third": str(third.id)}
    unknown = await idle_client.data(document, source=str(source), **ids)
    assert unknown["plain"]["estimatedSeconds"] is unknown["full"]["estimatedSeconds"] is None
    assert unknown["second"]["estimatedStartAt"] is unknown["third"]["estimatedStartAt"] is None
    # The first job has no predecessors, so its start needs no measured pace.
    assert instant(unknown["first"]["estimatedStartAt"]) <= datetime.now(UTC)

    await factories.ran_job(database)
    known = await idle_client.data(document, source=str(source), **ids)
    assert known["first"]["estimatedStartAt"] is None
    plain, full = (known[alias]["estimatedSeconds"] for alias in ("plain", "full"))
    assert plain >= 0
    # 24 items instead of 20.
    assert full == pytest.approx(plain * 1.2)
    starts = [instant(known[alias]["estimatedStartAt"]) for alias in ("second", "third")]
    assert (starts[1] - starts[0]).total_seconds() == pytest.approx(plain, abs=0.002)

    claimed = await factories.claimed_job(database)
    running = await idle_client.data(document, source=str(source), **ids)
    assert running["second"]["progress"] == {"estimatedCompletionAt": None}
    await database.write(attempts.advance, claimed, lambda: Step({}, 10, 20))
    running = await idle_client.data(document, source=str(source), **ids)
    ends = instant(running["second"]["progress"]["estimatedCompletionAt"])
    assert ends >= instant(running["second"]["startedAt"])


async def test_an_unfinished_copy_is_invisible(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database = idle_gateway.database
    source = await factories.hierarchy(database, {"Roses": {}}, products={"Roses": ["a"]})
    job = await factories.pending_duplication(database, source, include_products=True)
    await database.write(write_invisible_copy, await factories.claimed_job(database))
    document = """
        query ($job: ID!) {
            hierarchies { nodes { id } totalCount }
            job(id: $job) { duplication { result { id } } }
            hierarchy: hierarchies(first: 2) { nodes { nodes(first: 2) { nodes {
                products(first: 2) { nodes { nodes(first: 2) { totalCount nodes { id } } } }
            } } } }
        }
    """
    data = await idle_client.data(document, job=str(job.id))
    assert data["hierarchies"] == {"nodes": [{"id": str(source)}], "totalCount": 1}
    assert data["job"]["duplication"]["result"] is None
    (hierarchy,) = data["hierarchy"]["nodes"]
    (node,) = hierarchy["nodes"]["nodes"]
    (product,) = node["products"]["nodes"]
    assert product["nodes"] == {"totalCount": 1, "nodes": [{"id": str(node_id(source, 1))}]}


def write_invisible_copy(tx: Transaction, claimed: JobRow) -> None:
    copy = copies.begin(tx, claimed)
    while copy.phase is not CopyPhase.DONE:
        copy = copies.advance(tx, claimed, copy, 1)


async def test_text_that_databases_cannot_store_is_refused(idle_client: GraphQLClient) -> None:
    lone_surrogate = (
        r'{"query": "query ($id: ID!) { node(id: $id) { id } }", "variables": {"id": "\ud800"}}'
    )
    response = await idle_client.http.post(
        "/graphql", content=lone_surrogate, headers={"content-type": "application/json"}
    )
    assert response.status_code == 400
