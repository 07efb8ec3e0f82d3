"""Concurrent catalogue mutations: serializable and free of deadlocks."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from app.main import Gateway
from app.settings import Settings
from app.storage.engine.transaction import Transaction
from app.storage.tables import NodeProduct, Product, ProductNode
from tests import factories
from tests.support.authoring import Author, new
from tests.support.clients import GraphQLClient, client_of
from tests.support.databases import NewDatabase
from tests.support.entities import session_of
from tests.support.gateway import gateway_of
from tests.support.postgres import plain


@pytest.fixture
def author(idle_gateway: Gateway, idle_client: GraphQLClient) -> Author:
    """A mutation client of a gateway whose queue does not run."""
    return Author(idle_client, idle_gateway.database)


@pytest.fixture
async def garden(author: Author) -> str:
    """The id of an empty hierarchy."""
    id: str = (await author.make("createHierarchy", name="Garden"))["id"]
    return id


async def test_of_concurrent_creations_with_one_name_exactly_one_succeeds(
    author: Author, garden: str
) -> None:
    creations = [
        author.ask("createNode", parentId=garden, name="same", slug=f"slug-{i}") for i in range(20)
    ]
    answers = await asyncio.gather(*creations)
    errors = [error for _, refusals in answers for error in refusals]
    assert len(errors) == 19
    assert {error["__typename"] for error in errors} == {"InvalidInput"}
    assert {tuple(error["path"]) for error in errors} == {("input", "name")}
    assert await author.children(garden) == ["same"]
    assert await author.counts(garden) == (1, 0)


async def test_concurrent_node_creations_all_get_distinct_nodes(
    author: Author, garden: str
) -> None:
    top = await author.node(garden, "top")
    names = [f"{number:02}" for number in range(20)]
    ids = await asyncio.gather(
        *(author.node((garden, top)[number % 2], name) for number, name in enumerate(names))
    )
    assert len({*ids, top}) == 21
    assert await author.counts(garden) == (21, 0)
    siblings = [await author.children(parent) for parent in (garden, top)]
    assert sorted(siblings[0] + siblings[1]) == [*names, "top"]


async def test_concurrent_moves_below_each_other_never_create_a_cycle(
    author: Author, garden: str, counted: Callable[[int, int], int]
) -> None:
    a, _, c = await author.chain(garden, "abc")
    x, _, z = await author.chain(garden, "xyz")
    for _ in range(counted(5, 100)):
        (_, first), (_, second) = await asyncio.gather(
            author.ask("moveNode", nodeId=a, parentId=z),
            author.ask("moveNode", nodeId=x, parentId=c),
        )
        (refused,) = first + second
        assert refused["__typename"] == "InvalidInput"
        assert refused["message"] == "A node cannot move below itself."
        paths = {"".join((await author.way(id))[1:]) for id in (c, z)}
        assert paths == ({"abc", "abcxyz"} if first else {"xyz", "xyzabc"})
        depths = [(await author.seen(id))["depth"] for id in (a, c, x, z)]
        assert depths == ([1, 3, 4, 6] if first else [4, 6, 1, 3])
        await author.make("moveNode", nodeId=x if first else a, parentId=garden)
    assert await author.counts(garden) == (6, 0)


async def test_of_two_concurrent_batches_that_share_skus_one_is_created_entirely(
    author: Author, counted: Callable[[int, int], int], seed: int
) -> None:
    rng = random.Random(seed)
    for turn in range(counted(5, 100)):
        skus = [f"{turn}-{number:03}" for number in range(120)]
        first, second = (rng.sample(skus, 100) for _ in range(2))
        answers = await asyncio.gather(
            *(author.ask("createProducts", **new(*batch)) for batch in (first, second))
        )
        (error,) = [error for _, errors in answers for error in errors]
        assert error["__typename"] == "InvalidInput"
        _, products, index, sku = error["path"]
        assert (products, sku) == ("products", "sku")
        winner, loser = (first, second) if answers[1][1] else (second, first)
        assert loser[int(index)] in winner

        def stored_skus(tx: Transaction, candidates: list[str] = skus) -> list[str | None]:
            return list(
                session_of(tx).exec(select(Product.sku).where(col(Product.sku).in_(candidates)))
            )

        assert sorted(await author.database.read(stored_skus), key=str) == sorted(winner)


async def test_two_batches_in_opposite_orders_do_not_deadlock(
    new_database: NewDatabase,
) -> None:
    settings = Settings(database_url=new_database("postgresql"), port=0, runner=False)
    async with gateway_of(settings) as gateway, client_of(gateway) as client:
        author = Author(client, gateway.database)
        async with await psycopg.AsyncConnection.connect(plain(settings.database_url)) as holder:
            # Both batches block on sku "m" halfway, then continue together.
            await holder.execute(
                "INSERT INTO product (id, store, sku) VALUES (gen_random_uuid(), %s, 'm')",
                [factories.STORE],
            )
            batches = [
                asyncio.create_task(author.ask("createProducts", **new(*skus)))
                for skus in ("amz", "zma")
            ]
            waiting = 0
            while waiting < len(batches):
                locks = await holder.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
                ((waiting,),) = await locks.fetchall()
            await holder.rollback()
        answers = await asyncio.gather(*batches)
    (error,) = [error for _, errors in answers for error in errors]
    assert error["message"].endswith("is taken.")


async def test_concurrent_attach_and_detach_leave_correct_counts(
    author: Author, garden: str, seed: int
) -> None:
    rng = random.Random(seed)
    nodes = [await author.node(garden, name) for name in ("Roses", "Tulips")]
    ids = await author.products(*(f"{number}" for number in range(10)))
    await asyncio.gather(
        *(
            author.make(
                rng.choice(["attachProducts", "attachProducts", "detachProducts"]),
                nodeId=rng.choice(nodes),
                productIds=rng.sample(ids, 5),
            )
            for _ in range(30)
        )
    )

    def pairs(tx: Transaction) -> list[Any]:
        return [
            sorted(tx.rows(sa.select(col(table.node_no), col(table.product_pk))))
            for table in (NodeProduct, ProductNode)
        ]

    by_node, by_product = await author.database.read(pairs)
    assert by_node == by_product
    assert await author.counts(garden) == (2, len(by_node))
    counts = [(await author.seen(node))["products"]["totalCount"] for node in nodes]
    assert sum(counts) == len(by_node)
