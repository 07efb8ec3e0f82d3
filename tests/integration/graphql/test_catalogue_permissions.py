"""Permissions of catalogue mutations: by owner (store or organization) and by scope."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlmodel import col, select

from app.api.auth.identity import mint
from app.domain.callers import EVERY_SCOPE, Scope
from app.domain.hierarchies import node_id
from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.storage.engine.transaction import Transaction
from app.storage.tables import Hierarchy, Product
from tests import factories
from tests.support.authoring import Author, Input, everything
from tests.support.clients import GraphQLClient, http_client
from tests.support.entities import session_of

SECRET = "a secret that only these tests know"
STORE = "alpha"
READ_ONLY = "the organization's: a store can only read it"


@pytest.fixture
def gateway(guarded_gateway: Gateway) -> Gateway:
    """A gateway that needs tokens."""
    return guarded_gateway


@asynccontextmanager
async def author(
    gateway: Gateway, *scopes: Scope, store: str | None = STORE
) -> AsyncIterator[Author]:
    """A mutation client with a token for `scopes` (default: all); store None: the organization."""
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
        """One mutation of each kind: name, input and the input field that identifies the item."""
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

    def product(tx: Transaction) -> str:
        return str(session_of(tx).exec(select(Product.id).where(Product.store == store)).one())

    product_id = await gateway.database.read(product)
    return Stock(id, node_id(id, 1), node_id(id, 2), product_id)


async def test_a_store_can_read_but_not_change_the_catalogue_of_the_organization(
    gateway: Gateway,
) -> None:
    stock = await stocked(gateway, ORGANIZATION)
    async with author(gateway) as ada:
        assert (await ada.seen(stock.hierarchy))["owner"] == "ORGANIZATION"
        assert (await ada.seen(stock.trees))["owner"] == "ORGANIZATION"
        for mutation, input, path in stock.changes():
            message = await ada.refused("Forbidden", path, mutation, **input)
            assert READ_ONLY in message


async def test_the_organization_changes_its_catalogue_and_every_store_reads_it(
    gateway: Gateway,
) -> None:
    stock = await stocked(gateway, ORGANIZATION)
    async with author(gateway, store=None) as organization, author(gateway) as ada:
        for mutation, input, _ in stock.changes():
            if mutation == "moveNode" and input["nodeId"] == stock.oaks:
                # The previous move put its new parent below it.
                await organization.make("moveNode", nodeId=stock.trees, parentId=stock.hierarchy)
            changed = await organization.make(mutation, **input)
            if not mutation.startswith("delete"):
                assert changed["owner"] == "ORGANIZATION"
                assert await ada.seen(changed["id"]) == changed
        for id in (stock.hierarchy, stock.trees):
            assert await organization.seen(id) is None
            assert await ada.seen(id) is None

        new = await organization.make("createHierarchy", name="Park")
        assert new["owner"] == "ORGANIZATION"
        assert await ada.seen(new["id"]) == new
        node = await organization.node(new["id"], "Trees")
        (product,) = await organization.products("b")
        updated = await organization.make("attachProducts", nodeId=node, productIds=[product])
        assert await ada.seen(node) == updated
        await ada.refused("Forbidden", "nodeId", "deleteNode", nodeId=node)


async def test_created_rows_belong_to_the_store_of_the_caller(gateway: Gateway) -> None:
    for store in (STORE, None):
        async with author(gateway, store=store) as caller:
            await caller.make("createHierarchy", name="Garden")
            await caller.products("a")

    def stores(tx: Transaction) -> list[set[str]]:
        return [set(session_of(tx).exec(select(table.store))) for table in (Hierarchy, Product)]

    assert await gateway.database.read(stores) == [{STORE, ORGANIZATION}] * 2


@pytest.mark.parametrize(("caller", "owner"), [(STORE, "beta"), (None, STORE)])
async def test_items_of_another_store_are_reported_as_not_found(
    gateway: Gateway, caller: str | None, owner: str
) -> None:
    stock = await stocked(gateway, owner)
    async with author(gateway, store=caller) as ada:
        for mutation, input, path in stock.changes():
            message = await ada.refused("NotFound", path, mutation, **input)
            assert str(input[path]) in message
        own = await ada.node((await ada.make("createHierarchy", name="Mine"))["id"], "Trees")
        await ada.refused("NotFound", "parentId", "moveNode", nodeId=own, parentId=stock.trees)
        await ada.refused(
            "NotFound", "productIds", "attachProducts", nodeId=own, productIds=[stock.product]
        )


async def test_a_store_can_attach_products_of_the_organization_but_not_use_its_nodes(
    gateway: Gateway,
) -> None:
    stock = await stocked(gateway, ORGANIZATION)
    async with author(gateway) as ada:
        own = await ada.node((await ada.make("createHierarchy", name="Mine"))["id"], "Trees")
        node = await ada.make("attachProducts", nodeId=own, productIds=[stock.product])
        assert [edge["node"]["id"] for edge in node["products"]["edges"]] == [stock.product]
        node = await ada.make("updateNode", nodeId=own, curatedProductIds=[stock.product])
        assert [edge["curated"] for edge in node["products"]["edges"]] == [True]
        for parent in (stock.hierarchy, stock.trees):
            message = await ada.refused(
                "InvalidInput", "parentId", "moveNode", nodeId=own, parentId=parent
            )
            assert message == "A node cannot move to another hierarchy."


async def test_a_read_only_token_changes_nothing(gateway: Gateway) -> None:
    stock = await stocked(gateway, STORE)
    changes: list[tuple[str, Any]] = [
        ("createHierarchy", {"name": "Garden"}),
        # Missing scope is reported before invalid input.
        ("createHierarchy", {"name": ""}),
        ("createProducts", {"products": [{"sku": "b", "name": "B"}]}),
        *((mutation, input) for mutation, input, _ in stock.changes()),
    ]
    async with author(gateway, Scope.HIERARCHIES_READ) as reader:
        for mutation, input in changes:
            message = await reader.refused("Forbidden", "", mutation, **input)
            assert Scope.HIERARCHIES_WRITE in message


async def test_a_token_of_other_scopes_neither_changes_nor_reads(gateway: Gateway) -> None:
    stock = await stocked(gateway, STORE)
    before = await everything(gateway.database)
    document = "mutation ($id: ID!) { deleteHierarchy(input: {hierarchyId: $id}) { %s } }"
    async with author(gateway, Scope.JOBS_WRITE) as worker:
        payload = await worker.client.data(
            document % "deletedId errors { __typename }", id=str(stock.hierarchy)
        )
        assert payload["deleteHierarchy"] == {
            "deletedId": None,
            "errors": [{"__typename": "Forbidden"}],
        }
    assert await everything(gateway.database) == before


async def test_the_write_scope_includes_reading(gateway: Gateway) -> None:
    async with author(gateway, Scope.HIERARCHIES_WRITE) as writer:
        hierarchy = await writer.make("createHierarchy", name="Garden")
        assert await writer.seen(hierarchy["id"]) == hierarchy

    def names(tx: Transaction) -> list[str]:
        return list(
            session_of(tx).exec(select(Hierarchy.name).where(col(Hierarchy.store) == STORE))
        )

    assert await gateway.database.read(names) == ["Garden"]
