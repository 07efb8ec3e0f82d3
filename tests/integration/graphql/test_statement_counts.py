"""The number of SQL statements depends on the kinds of reads in a selection, not on its rows."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from graphql import (
    FieldNode,
    GraphQLObjectType,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    build_schema,
    get_named_type,
    parse,
    visit,
)
from sqlmodel import col, select

from app.domain import answers
from app.domain.hierarchies import node_id
from app.domain.jobs import JobStatus
from app.main import Gateway
from app.settings import Settings
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.tables import Job, JobError, Product
from tests import factories
from tests.support.clients import GraphQLClient, client_of
from tests.support.databases import NewDatabase
from tests.support.entities import session_of
from tests.support.gateway import gateway_of, reads_of
from tests.support.paths import SCHEMA

pytestmark = pytest.mark.usefixtures("unhurried_reads")

FEW, MANY = 2, 25
KINDS, MAX_IDS = 6, 100
PRODUCTS = 4
"""Index of the products among the kinds."""
EACH = MANY + MAX_IDS // KINDS
"""Entities of each kind in the store.

Lists begin with the newest and `nodes` requests the oldest: entities reached by both are read once,
so overlapping pages would make many rows cost less than few.
"""

EVERYTHING = """
query ($rows: Int!, $ids: [ID!]!) {
    hierarchies(first: $rows) {
        edges { cursor node { ...OfHierarchy } }
        nodes { id }
        pageInfo { ...OfPageInfo }
        totalCount
    }
    pending: jobs(first: $rows, filter: {status: PENDING}) { ...OfJobs }
    failed: jobs(first: $rows, filter: {status: FAILED}) { ...OfJobs }
    succeeded: jobs(first: $rows, filter: {status: SUCCESS}) { ...OfJobs }
    nodes(ids: $ids) {
        __typename
        ... on Hierarchy { ...OfHierarchy }
        ... on HierarchyNode { ...OfNode }
        ... on Product { ...OfProduct }
        ... on Job { ...OfJob }
        ... on JobError { ...OfError }
    }
}

fragment OfHierarchy on Hierarchy {
    ...OfHierarchyAlone
    copiedFrom { ...OfHierarchyAlone }
    children(first: $rows) { ...OfNodes }
    nodes(last: $rows) { ...OfNodes }
    jobs(first: $rows) { ...OfJobsAlone }
}
fragment OfHierarchyAlone on Hierarchy {
    id
    name
    inFrench: name(locale: "fr-CA")
    description(locale: "fr")
    slug
    localizations { locale name description }
    adminAttributes { key value }
    shopperAttributes { key value }
    owner
    breadcrumbs { id name slug }
    createdAt
    updatedAt
    nodeCount
}
fragment OfNodes on HierarchyNodeConnection {
    edges { cursor node { ...OfNode } }
    nodes { id }
    pageInfo { ...OfPageInfo }
    totalCount
}
fragment OfNode on HierarchyNode {
    ...OfNodeAlone
    hierarchy { ...OfHierarchyAlone }
    parent {
        id
        name
        ... on Hierarchy { ...OfHierarchyAlone }
        ... on HierarchyNode { ...OfNodeAlone }
        children(last: $rows) { nodes { id } }
    }
    children(first: $rows) { totalCount nodes { ...OfNodeAlone } }
    products(first: $rows) {
        edges { cursor curated node { ...OfProduct } }
        nodes { id }
        pageInfo { ...OfPageInfo }
        totalCount
    }
}
fragment OfNodeAlone on HierarchyNode {
    id
    name
    description
    slug
    localizations { locale }
    adminAttributes { key value }
    shopperAttributes { key value }
    owner
    breadcrumbs { id name slug }
    createdAt
    updatedAt
    depth
    sortOrder
}
fragment OfProduct on Product {
    id
    sku
    called: name
    nodes(first: $rows) { totalCount nodes { id breadcrumbs { name } } }
}
fragment OfJobs on JobConnection {
    edges { cursor node { ...OfJob } }
    nodes { id }
    pageInfo { ...OfPageInfo }
    totalCount
}
fragment OfJobsAlone on JobConnection {
    edges { cursor node { id queuePosition errors(first: $rows) { totalCount } } }
    totalCount
}
fragment OfJob on Job {
    ...OfJobAlone
    canRetry
    retryOf { id }
    retriedBy { id queuePosition }
    duplication {
        sourceId
        name
        description
        includeProducts
        source { ...OfHierarchyAlone jobs(first: $rows) { totalCount } }
        result { ...OfHierarchyAlone copiedFrom { id } nodes(first: $rows) { totalCount } }
    }
}
fragment OfJobAlone on Job {
    id
    type
    status
    createdAt
    startedAt
    completedAt
    updatedAt
    requestId
    requestedBy
    version
    canCancel
    queuePosition
    estimatedStartAt
    progress { completed total ratio estimatedCompletionAt }
    errors(first: $rows) {
        edges { cursor node { ...OfError } }
        nodes { id }
        pageInfo { ...OfPageInfo }
        totalCount
    }
}
fragment OfError on JobError { id code message createdAt }
fragment OfPageInfo on PageInfo { hasNextPage hasPreviousPage startCursor endCursor }
"""


OF_PRODUCTS = """
query ($rows: Int!, $id: ID!) {
    products(first: $rows) {
        edges { cursor node { ...OfProduct } }
        nodes { id }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
        totalCount
    }
    product(id: $id) { ...OfProduct }
}

fragment OfProduct on Product {
    id
    sku
    name
    nodes(first: $rows) {
        totalCount
        nodes { id breadcrumbs { name } hierarchy { name } products(first: $rows) { totalCount } }
    }
}
"""
"""A separate query, as products lead to the same types as hierarchies."""


@dataclass(frozen=True)
class Shop:
    """A gateway over a store with enough entities of each kind."""

    gateway: Gateway
    client: GraphQLClient
    ids: list[list[str]]
    """Ids per kind, oldest first."""


@pytest.fixture(scope="module")
async def shop(new_database: NewDatabase) -> AsyncIterator[Shop]:
    settings = Settings(database_url=new_database("sqlite"), port=0, runner=False, max_cost=10**9)
    async with gateway_of(settings) as gateway, client_of(gateway) as client:
        yield Shop(gateway, client, await stocked(gateway.database))


async def stocked(database: Database) -> list[list[str]]:
    tree = {"a": {"b": {"c": {}}, "d": {}}, "e": {"f": {}}, "g": {}}
    sources = []
    for number in range(EACH):
        skus = [f"{number}-{letter}" for letter in "kl"]
        source = await factories.hierarchy(
            database,
            tree,
            slug="a-slug",
            locales={"fr": {"name": "Jardin", "description": "Tout"}},
            products=dict.fromkeys("acdg", skus),
            curated={node: [skus[1], skus[0]] for node in "ag"},
        )
        sources.append(source)
        await factories.pending_duplication(database, source, include_products=True)
        await factories.ran_job(database)
        lost = await factories.hierarchy(database, {})
        await factories.pending_duplication(database, lost)
        await factories.deleted(database, lost)
        await factories.ran_job(database)
    for source in sources:
        await factories.pending_duplication(database, source)

    def ids(tx: Transaction) -> list[list[str]]:
        copies = select(Job.result_id).where(col(Job.result_id).is_not(None))
        pending = select(Job.id).where(Job.status == JobStatus.PENDING)
        ids_by_kind = (
            sources,
            [node_id(source, 3) for source in sources],
            session_of(tx).exec(copies.order_by(col(Job.job_seq))),
            session_of(tx).exec(pending.order_by(col(Job.job_seq))),
            session_of(tx).exec(select(Product.id).order_by(col(Product.pk))),
            session_of(tx).exec(select(JobError.id).order_by(col(JobError.pk))),
        )
        return [list(map(str, kind)) for kind in ids_by_kind]

    return await database.read(ids)


async def read_everything(shop: Shop, rows: int) -> tuple[dict[str, Any], list[str]]:
    """The response with `rows` rows per page, and its statements."""
    requested_ids = [id for ids in shop.ids for id in ids[: min(rows, MAX_IDS // KINDS)]]
    with reads_of(shop.gateway) as statements:
        data = await shop.client.data(EVERYTHING, rows=rows, ids=requested_ids)
    return data, statements


def test_the_query_selects_every_field_below_hierarchies_jobs_and_nodes() -> None:
    schema = build_schema(SCHEMA.read_text(encoding="utf-8"))
    document, types = parse(EVERYTHING), TypeInfo(schema)
    selected: set[tuple[str, str]] = set()

    class Selections(Visitor):
        def enter_field(self, field: FieldNode, *_: Any) -> None:
            parent = types.get_parent_type()
            assert parent
            selected.add((parent.name, field.name.value))

    visit(document, TypeInfoVisitor(types, Selections()))
    reached = [schema.get_type(name) for name in {parent for parent, _ in selected} - {"Query"}]
    for type_ in reached:
        if isinstance(type_, GraphQLObjectType):
            for name, field in type_.fields.items():
                assert (type_.name, name) in selected
                below = get_named_type(field.type)
                assert not isinstance(below, GraphQLObjectType) or below in reached
    assert {"Hierarchy", "HierarchyNode", "Product", "Job", "JobError"} <= {
        type_.name for type_ in reached if type_
    }


async def test_the_number_of_statements_does_not_grow_with_the_number_of_rows(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MAX_PATH_ITEMS", 10**9)
    few, for_few = await read_everything(shop, FEW)
    many, for_many = await read_everything(shop, MANY)
    # Of more rows, more are already loaded when the query reaches them again.
    assert len(for_many) <= len(for_few), (
        f"{len(for_few)} statements for pages of {FEW}, {len(for_many)} for pages of {MANY}"
    )
    for alias in ("hierarchies", "pending", "failed", "succeeded"):
        assert len(few[alias]["nodes"]) == FEW
        assert len(many[alias]["nodes"]) == MANY
    assert None not in few["nodes"] + many["nodes"]


async def test_the_number_of_statements_for_products_does_not_grow_either(shop: Shop) -> None:
    id = shop.ids[PRODUCTS][-1]
    numbers = []
    for rows in (FEW, MANY):
        with reads_of(shop.gateway) as statements:
            data = await shop.client.data(OF_PRODUCTS, rows=rows, id=id)
        assert len(data["products"]["nodes"]) == rows
        assert data["product"]["nodes"]["totalCount"]
        numbers.append(len(statements))
    assert numbers[0] == numbers[1]
