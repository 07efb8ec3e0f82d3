"""Who may change the catalogue: a store its own, the organization what is the organization's, and
nobody without the scope for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlmodel import Session, col, select

from app.api.auth.identity import mint
from app.domain.callers import EVERY_SCOPE, Scope
from app.domain.hierarchies import node_id
from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.settings import Settings
from app.storage.tables import Hierarchy, Product
from tests import factories
from tests.support.authoring import Author, Input, everything
from tests.support.clients import GraphQLClient, http_client
from tests.support.databases import NewDatabase
from tests.support.gateway import gateway_of

SECRET = "a secret that only these tests know"
STORE = "alpha"
READ_ONLY = "the organization's: a store can only read it"


@pytest.fixture
def settings(new_database: NewDatabase) -> Settings:
    """An empty database, and tokens asked for."""
    return Settings(
        database_url=new_database("sqlite"), port=0, jwt_secret=SecretStr(SECRET), runner=False
    )


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """A gateway that asks for tokens."""
    async with gateway_of(settings) as running:
        yield running


@asynccontextmanager
async def author(
    gateway: Gateway, *scopes: Scope, store: str | None = STORE
) -> AsyncIterator[Author]:
    """Somebody with a token for these scopes, all where none is given, in a store or, without one,
    in the organization."""
    token = mint(
        SECRET,
        issuer="jobs-gateway",
        audience="jobs-gateway",
        subject="ada",
        store=store,
        organization=store is None,
        scopes=scopes or EVERY_SCOPE,
        lifetime=timedelta(hours=1),
    )
    headers = {"Authorization": f"Bearer {token}"}
    async with http_client(gateway.url, headers=headers) as http:
        yield Author(GraphQLClient(http), gateway.database)


@dataclass(frozen=True)
class Stock:
    """A hierarchy with two nodes, the first of which has a curated product."""

    hierarchy: UUID
    trees: UUID
    oaks: UUID
    product: str

    def changes(self) -> list[tuple[str, Input, str]]:
        """One change of each kind, and the field that names what is changed."""
        node, products = {"nodeId": self.trees}, {"productIds": [self.product]}
        return [
            ("updateHierarchy", {"hierarchyId": self.hierarchy, "name": "Park"}, "hierarchyId"),
            ("createNode", {"parentId": self.hierarchy, "name": "Elms"}, "parentId"),
            ("createNode", {"parentId": self.trees, "name": "Elms"}, "parentId"),
            ("updateNode", {**node, "name": "All trees", "curatedProductIds": None}, "nodeId"),
            ("detachProducts", {**node, **products}, "nodeId"),
            ("attachProducts", {**node, **products}, "nodeId"),
            ("moveNode", {**node, "parentId": self.oaks}, "nodeId"),
            ("moveNode", {"nodeId": self.oaks, "parentId": self.trees}, "nodeId"),
            ("deleteNode", node, "nodeId"),
            ("deleteHierarchy", {"hierarchyId": self.hierarchy}, "hierarchyId"),
        ]


async def stocked(gateway: Gateway, store: str) -> Stock:
    id = await factories.hierarchy(
        gateway.database,
        {"Trees": {}, "Oaks": {}},
        store=store,
        products={"Trees": ["a"]},
        curated={"Trees": ["a"]},
    )

    def product(session: Session) -> str:
        return str(session.exec(select(Product.id).where(Product.store == store)).one())

    found = await gateway.database.read(product)
    return Stock(id, node_id(id, 1), node_id(id, 2), found)


async def test_a_store_reads_what_is_the_organizations_and_changes_nothing_of_it(
    gateway: Gateway,
) -> None:
    stock = await stocked(gateway, ORGANIZATION)
    async with author(gateway) as ada:
        assert (await ada.seen(stock.hierarchy))["owner"] == "ORGANIZATION"
        assert (await ada.seen(stock.trees))["owner"] == "ORGANIZATION"
        for mutation, input, path in stock.changes():
            message = await ada.refused("Forbidden", path, mutation, **input)
            assert READ_ONLY in message


async def test_the_organization_changes_its_own_and_every_store_reads_it(
    gateway: Gateway,
) -> None:
    stock = await stocked(gateway, ORGANIZATION)
    async with author(gateway, store=None) as boss, author(gateway) as ada:
        for mutation, input, _ in stock.changes():
            if mutation == "moveNode" and input["nodeId"] == stock.oaks:
                # The move before has put its new parent below it.
                await boss.make("moveNode", nodeId=stock.trees, parentId=stock.hierarchy)
            made = await boss.make(mutation, **input)
            if not mutation.startswith("delete"):
                assert made["owner"] == "ORGANIZATION"
                assert await ada.seen(made["id"]) == made
        for id in (stock.hierarchy, stock.trees):
            assert await boss.seen(id) is None
            assert await ada.seen(id) is None

        new = await boss.make("createHierarchy", name="Park")
        assert new["owner"] == "ORGANIZATION"
        assert await ada.seen(new["id"]) == new
        node = await boss.node(new["id"], "Trees")
        (product,) = await boss.products("b")
        held = await boss.make("attachProducts", nodeId=node, productIds=[product])
        assert await ada.seen(node) == held
        await ada.refused("Forbidden", "nodeId", "deleteNode", nodeId=node)


async def test_what_is_made_belongs_to_whoever_made_it(gateway: Gateway) -> None:
    for store in (STORE, None):
        async with author(gateway, store=store) as somebody:
            await somebody.make("createHierarchy", name="Garden")
            await somebody.products("a")

    def stores(session: Session) -> list[set[str]]:
        return [set(session.exec(select(table.store))) for table in (Hierarchy, Product)]

    assert await gateway.database.read(stores) == [{STORE, ORGANIZATION}] * 2


@pytest.mark.parametrize(("asking", "owner"), [(STORE, "beta"), (None, STORE)])
async def test_what_is_another_stores_is_not_there(
    gateway: Gateway, asking: str | None, owner: str
) -> None:
    stock = await stocked(gateway, owner)
    async with author(gateway, store=asking) as ada:
        for mutation, input, path in stock.changes():
            message = await ada.refused("NotFound", path, mutation, **input)
            assert str(input[path]) in message
        own = await ada.node((await ada.make("createHierarchy", name="Mine"))["id"], "Trees")
        await ada.refused("NotFound", "parentId", "moveNode", nodeId=own, parentId=stock.trees)
        await ada.refused(
            "NotFound", "productIds", "attachProducts", nodeId=own, productIds=[stock.product]
        )


async def test_a_store_may_hold_the_organizations_products_and_not_its_nodes(
    gateway: Gateway,
) -> None:
    stock = await stocked(gateway, ORGANIZATION)
    async with author(gateway) as ada:
        own = await ada.node((await ada.make("createHierarchy", name="Mine"))["id"], "Trees")
        held = await ada.make("attachProducts", nodeId=own, productIds=[stock.product])
        assert [edge["node"]["id"] for edge in held["products"]["edges"]] == [stock.product]
        held = await ada.make("updateNode", nodeId=own, curatedProductIds=[stock.product])
        assert [edge["curated"] for edge in held["products"]["edges"]] == [True]
        for parent in (stock.hierarchy, stock.trees):
            message = await ada.refused(
                "InvalidInput", "parentId", "moveNode", nodeId=own, parentId=parent
            )
            assert message == "A node cannot move to another hierarchy."


async def test_who_may_only_read_changes_nothing(gateway: Gateway) -> None:
    stock = await stocked(gateway, STORE)
    changes: list[tuple[str, Any]] = [
        ("createHierarchy", {"name": "Garden"}),
        # What is wrong with it is not said either.
        ("createHierarchy", {"name": ""}),
        ("createProducts", {"products": [{"sku": "b", "name": "B"}]}),
        *((mutation, input) for mutation, input, _ in stock.changes()),
    ]
    async with author(gateway, Scope.HIERARCHIES_READ) as reader:
        for mutation, input in changes:
            message = await reader.refused("Forbidden", "", mutation, **input)
            assert Scope.HIERARCHIES_WRITE in message


async def test_other_scopes_change_nothing_and_see_nothing(gateway: Gateway) -> None:
    stock = await stocked(gateway, STORE)
    before = await everything(gateway.database)
    document = "mutation ($id: ID!) { deleteHierarchy(input: {hierarchyId: $id}) { %s } }"
    async with author(gateway, Scope.JOBS_WRITE) as worker:
        told = await worker.client.data(
            document % "deletedId errors { __typename }", id=str(stock.hierarchy)
        )
        assert told["deleteHierarchy"] == {
            "deletedId": None,
            "errors": [{"__typename": "Forbidden"}],
        }
    assert await everything(gateway.database) == before


async def test_to_write_is_to_read(gateway: Gateway) -> None:
    async with author(gateway, Scope.HIERARCHIES_WRITE) as writer:
        made = await writer.make("createHierarchy", name="Garden")
        assert await writer.seen(made["id"]) == made

    def named(session: Session) -> list[str]:
        return list(session.exec(select(Hierarchy.name).where(col(Hierarchy.store) == STORE)))

    assert await gateway.database.read(named) == ["Garden"]
