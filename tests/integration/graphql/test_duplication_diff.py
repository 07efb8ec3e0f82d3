"""What duplicationDiff tells is what a plain comparison of the two trees tells, whatever was done
to either since the copy; and it is told of nothing but whole duplications of one's own."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import given as forall
from hypothesis import strategies as st
from sqlmodel import Session, col, select

from app.domain import differences as differences_domain
from app.domain.errors import DomainError
from app.domain.hierarchies import node_id
from app.domain.products import NewProduct
from app.main import Gateway
from app.queue.sweeper import Sweeper
from app.services import attempts, hierarchies, jobs, nodes, products
from app.settings import Settings
from app.storage import differences
from app.storage.tables import DeletedNode, Hierarchy, Job, Node, NodeProduct
from app.wiring import open_database
from tests import factories
from tests.bench.data import large_hierarchy
from tests.support.clients import GraphQLClient
from tests.support.databases import DATABASES, NewDatabase

SOURCE, COPY = "source", "copy"
NOTHING: dict[str, Any] = {"onlyInSource": 0, "onlyInCopy": 0, "changed": 0, "differences": []}

DIFF = """
    query ($id: ID!) {
        duplicationDiff(jobId: $id) {
            source { id }
            copy { id }
            onlyInSource onlyInCopy changed
            differences { kind aspects path item { id name } }
        }
    }
"""


@dataclass(frozen=True)
class Made:
    """A duplication that was run."""

    job: UUID
    source: UUID
    copy: UUID
    came: frozenset[int]
    """The numbers of the nodes that were copied."""


@dataclass(frozen=True)
class Spot:
    """A node, or as the number 0 the root."""

    parent: int
    said: Mapping[str, Any]
    products: frozenset[int] = frozenset()
    curated: tuple[int, ...] = ()


Tree = dict[int, Spot]


def tree_of(session: Session, id: UUID) -> Tree:
    """All there is of a hierarchy, by number."""
    root = session.exec(select(Hierarchy).where(Hierarchy.id == id)).one()
    held: dict[int, dict[int, int | None]] = {}
    for association in session.exec(select(NodeProduct).where(NodeProduct.hierarchy_pk == root.pk)):
        held.setdefault(association.node_no, {})[association.product_pk] = (
            association.curated_position
        )

    def said(row: Hierarchy | Node) -> dict[str, Any]:
        return {
            "NAME": row.name,
            "SLUG": row.slug,
            "DESCRIPTION": row.description,
            "LOCALIZATIONS": row.locales,
        }

    tree = {0: Spot(0, said(root))}
    for node in session.exec(select(Node).where(Node.hierarchy_pk == root.pk)):
        of_node = held.get(node.node_no, {})
        curated = {at: pk for pk, at in of_node.items() if at is not None}
        tree[node.node_no] = Spot(
            node.parent_no,
            {**said(node), "SORT_ORDER": node.sort_order},
            frozenset(of_node),
            tuple(curated[at] for at in sorted(curated)),
        )
    return tree


def path(tree: Tree, number: int) -> list[str]:
    """The names from the root down."""
    spot = tree[number]
    above = path(tree, spot.parent) if number else []
    return [*above, spot.said["NAME"]]


def compared(of: Made, source: Tree, copy: Tree, with_products: bool) -> dict[str, Any]:
    """What duplicationDiff is to say, found by looking at one item after the other."""
    twins = (source.keys() & copy.keys()) & (of.came | {0})
    found: list[tuple[int, str, list[str]]] = []
    for number in sorted(source.keys() | copy.keys()):
        if number not in twins:
            found += [
                (number, kind, [])
                for kind, tree in (("ONLY_IN_COPY", copy), ("ONLY_IN_SOURCE", source))
                if number in tree
            ]
            continue
        there, here = source[number], copy[number]
        aspects = [name for name in there.said if there.said[name] != here.said[name]]
        # What was made since is another node in each of them, also under one number.
        if there.parent != here.parent or there.parent not in twins:
            aspects.append("PARENT")
        if with_products and there.products != here.products:
            aspects.append("PRODUCTS")
        if with_products and there.curated != here.curated:
            aspects.append("CURATION")
        if aspects:
            found.append((number, "CHANGED", aspects))
    kinds = Counter(kind for _, kind, _ in found)

    def told(number: int, kind: str, aspects: list[str]) -> dict[str, Any]:
        hierarchy, tree = (of.copy, copy) if kind == "ONLY_IN_COPY" else (of.source, source)
        names = path(tree, number)
        item = {"id": str(node_id(hierarchy, number)), "name": names[-1]}
        return {"kind": kind, "aspects": aspects, "path": names, "item": item}

    return {
        "onlyInSource": kinds["ONLY_IN_SOURCE"],
        "onlyInCopy": kinds["ONLY_IN_COPY"],
        "changed": kinds["CHANGED"],
        "differences": [told(*one) for one in found[:100]],
    }


async def duplicated(gateway: Gateway, source: UUID, **asked: Any) -> Made:
    """A duplication of that hierarchy, run by the real worker."""
    database = gateway.database
    job = await factories.pending_duplication(database, source, **asked)
    await factories.ran_job(database)
    ran = await database.read(lambda s: s.exec(select(Job).where(Job.id == job.id)).one())
    assert ran.result_id
    came = await database.read(tree_of, ran.result_id)
    return Made(job.id, source, ran.result_id, frozenset(came) - {0})


async def diff(client: GraphQLClient, job: object) -> dict[str, Any] | None:
    """What the API says."""
    found: dict[str, Any] | None = (await client.data(DIFF, id=str(job)))["duplicationDiff"]
    return found


async def checked(
    gateway: Gateway, client: GraphQLClient, made: Made, with_products: bool = True
) -> dict[str, Any]:
    """What the API says, which is as the comparison has it."""
    found = await diff(client, made.job)
    assert found
    assert found.pop("source") == {"id": str(made.source)}
    assert found.pop("copy") == {"id": str(made.copy)}
    source = await gateway.database.read(tree_of, made.source)
    copy = await gateway.database.read(tree_of, made.copy)
    assert found == compared(made, source, copy, with_products)
    return found


@pytest.fixture
async def wares(idle_gateway: Gateway) -> list[str]:
    """The ids of six products."""
    new = [NewProduct(f"new-{number}", f"New {number}") for number in range(6)]
    made = await idle_gateway.database.write(products.create, factories.STORE, new)
    return [str(product.id) for product in made]


FRENCH, GERMAN = {"name": "Arbre"}, {"name": "Baum", "description": ""}
CHANGES: Sequence[dict[str, Any]] = (
    {"name": "Renamed"},
    {"name": "Renamed again"},
    {"slug": "slug"},
    {"slug": None},
    {"description": "said"},
    {"description": ""},
    {"sort_order": 0},
    {"sort_order": 7},
    {"sort_order": None},
    {"locales": {}},
    {"locales": {"fr-FR": FRENCH, "de": GERMAN}},
    {"locales": {"de": dict(reversed(GERMAN.items())), "fr-FR": FRENCH}},
)

Edit = tuple[str, str, int, int, int]
"""On which side, what, and three numbers that choose among what there is."""


async def edit(gateway: Gateway, made: Made, wares: list[str], one: Edit) -> None:
    """An edit through the services. One that is refused is none."""
    side, what, first, second, third = one
    hierarchy = made.source if side == SOURCE else made.copy
    database = gateway.database
    numbers = sorted(await database.read(tree_of, hierarchy))
    anything = node_id(hierarchy, numbers[first % len(numbers)])
    other = node_id(hierarchy, numbers[second % len(numbers)])
    some = [wares[(second + place) % len(wares)] for place in range(1 + third % 4)]
    change: Any = CHANGES[second % len(CHANGES)]
    acts: dict[str, Callable[..., Any]] = {
        "create": partial(nodes.create, attributes={"name": f"New {third}"}, parent_id=anything),
        "update": partial(nodes.update, id=anything, changes=change),
        "update root": partial(hierarchies.update, id=hierarchy, changes=change),
        "move": partial(nodes.move, id=anything, parent_id=other, changes={}),
        "delete": partial(nodes.delete, id=anything),
        "attach": partial(products.attach, node_id=anything, product_ids=some),
        "detach": partial(products.detach, node_id=anything, product_ids=some),
        "curate": partial(nodes.update, id=anything, changes={"curated_product_ids": some}),
    }

    def act(session: Session) -> None:
        acts[what](session, store=factories.STORE)

    with suppress(DomainError):
        await database.write(act)


names = st.sampled_from([f"n{number}" for number in range(9)])
edits = st.lists(
    st.tuples(
        st.sampled_from([SOURCE, COPY]),
        st.sampled_from(
            ("create", "update root", "delete", "attach", "detach", "move", "update", "curate")
        ),
        *(st.integers(0, 40) for _ in range(3)),
    ),
    max_size=25,
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@forall(
    parents=st.lists(st.integers(0, 8), max_size=9),
    earlier=edits,
    later=edits,
    with_products=st.booleans(),
)
async def test_a_diff_is_what_a_plain_comparison_of_the_two_trees_finds(
    idle_gateway: Gateway,
    idle_client: GraphQLClient,
    wares: list[str],
    parents: list[int],
    earlier: list[Edit],
    later: list[Edit],
    with_products: bool,
) -> None:
    database = idle_gateway.database
    below: list[dict[str, Any]] = [{}]
    for number, parent in enumerate(parents):
        below.append({})
        below[parent % (number + 1)][f"n{number}"] = below[number + 1]
    source = await factories.hierarchy(
        database,
        below[0],
        slug="same",
        products={f"n{number}": ["a", "b", "c"][: number % 4] for number in range(len(parents))},
        curated={f"n{number}": ["b", "a"] for number in range(2, len(parents), 4)},
    )
    before = Made(UUID(int=0), source, source, frozenset())
    for one in earlier:
        await edit(idle_gateway, before, wares, one)
    made = await duplicated(idle_gateway, source, include_products=with_products)
    for one in later:
        await edit(idle_gateway, made, wares, one)
    await checked(idle_gateway, idle_client, made, with_products)


@pytest.fixture
async def made(idle_gateway: Gateway) -> Made:
    """Trees (oaks below) with products, herbs: copied with all."""
    source = await factories.hierarchy(
        idle_gateway.database,
        {"trees": {"oaks": {}}, "herbs": {}},
        products={"trees": ["a", "b", "c"], "oaks": ["a"]},
        curated={"trees": ["a", "b"]},
    )
    return await duplicated(idle_gateway, source, include_products=True)


TREES, OAKS, HERBS, NEXT = 1, 2, 3, 4


async def skus(gateway: Gateway, *skus: str) -> list[str]:
    """The ids of these products."""

    def read(session: Session) -> list[str]:
        table = sa.text("SELECT sku, id FROM product")
        found = {sku: str(UUID(str(id))) for sku, id in session.execute(table)}
        return [found[sku] for sku in skus]

    return await gateway.database.read(read)


async def test_nothing_differs_right_behind_the_copy(
    idle_gateway: Gateway, idle_client: GraphQLClient, made: Made
) -> None:
    assert await checked(idle_gateway, idle_client, made) == NOTHING


async def test_another_name_makes_a_root_that_differs(
    idle_gateway: Gateway, idle_client: GraphQLClient, made: Made
) -> None:
    named = await duplicated(idle_gateway, made.source, name="Park", description="Green.")
    found = await checked(idle_gateway, idle_client, named, with_products=False)
    assert found["changed"] == 1
    assert found["differences"][0]["aspects"] == ["NAME", "DESCRIPTION"]
    assert found["differences"][0]["path"] == ["Garden"]


async def test_what_was_made_on_either_side_is_told_apart_also_under_one_number(
    idle_gateway: Gateway, idle_client: GraphQLClient, made: Made
) -> None:
    write = idle_gateway.database.write
    for hierarchy in (made.source, made.copy):
        new = await write(nodes.create, factories.STORE, hierarchy, {"name": "new"})
        assert new.node.node_no == NEXT
        herbs = node_id(hierarchy, HERBS)
        await write(nodes.move, factories.STORE, herbs, node_id(hierarchy, NEXT), {})
    found = await checked(idle_gateway, idle_client, made)
    assert (found["onlyInSource"], found["onlyInCopy"]) == (1, 1)
    # They hang below nodes of one number and one name, which are two nodes all the same.
    assert found["differences"][0]["aspects"] == ["PARENT"]
    assert found["differences"][0]["path"] == ["Garden", "new", "herbs"]


async def test_translations_in_another_order_are_the_same(
    idle_gateway: Gateway, idle_client: GraphQLClient, made: Made
) -> None:
    for hierarchy, locales in (
        (made.source, {"fr": {"name": "Arbres", "description": ""}, "de": {"name": "Bäume"}}),
        (made.copy, {"de": {"name": "Bäume"}, "fr": {"description": "", "name": "Arbres"}}),
    ):
        for number in (0, TREES):
            await factories.edited(
                idle_gateway.database, node_id(hierarchy, number), locales=locales
            )
    assert await checked(idle_gateway, idle_client, made) == NOTHING
    await factories.edited(
        idle_gateway.database,
        node_id(made.copy, TREES),
        locales={"de": {"name": "Bäume"}, "fr": {"name": "Arbres"}},
    )
    assert (await checked(idle_gateway, idle_client, made))["changed"] == 1


async def test_curation_is_the_same_however_it_came_about(
    idle_gateway: Gateway, idle_client: GraphQLClient, made: Made
) -> None:
    write, (a, b) = idle_gateway.database.write, await skus(idle_gateway, "a", "b")
    # One leaves a gap in the positions, the other closes it.
    for hierarchy in (made.source, made.copy):
        await write(products.detach, factories.STORE, node_id(hierarchy, TREES), [a])
    curated: Any = {"curated_product_ids": [b]}
    await write(nodes.update, factories.STORE, node_id(made.copy, TREES), curated)
    assert await checked(idle_gateway, idle_client, made) == NOTHING
    # What is no longer held is no longer curated either.
    await write(products.detach, factories.STORE, node_id(made.copy, TREES), [b])
    found = await checked(idle_gateway, idle_client, made)
    assert found["differences"][0]["aspects"] == ["PRODUCTS", "CURATION"]


async def test_products_that_were_not_copied_are_not_compared(
    idle_gateway: Gateway, idle_client: GraphQLClient, made: Made
) -> None:
    bare = await duplicated(idle_gateway, made.source, include_products=False)
    assert await checked(idle_gateway, idle_client, bare, with_products=False) == NOTHING
    (a,) = await skus(idle_gateway, "a")
    await idle_gateway.database.write(
        products.attach, factories.STORE, node_id(bare.copy, HERBS), [a]
    )
    assert await checked(idle_gateway, idle_client, bare, with_products=False) == NOTHING


@pytest.mark.parametrize("sides", [(SOURCE,), (COPY,), (SOURCE, COPY)])
async def test_the_products_of_deleted_nodes_are_told_of_neither_before_nor_behind_the_sweep(
    idle_gateway: Gateway, idle_client: GraphQLClient, made: Made, sides: Sequence[str]
) -> None:
    database = idle_gateway.database
    for side in sides:
        hierarchy = made.source if side == SOURCE else made.copy
        await database.write(nodes.delete, factories.STORE, node_id(hierarchy, TREES))
    left = sa.select(sa.func.count()).select_from(DeletedNode)
    assert await database.read(lambda session: session.execute(left).scalar_one())
    before = await checked(idle_gateway, idle_client, made)
    assert before["changed"] == 0
    assert before["onlyInSource"] == (2 if sides == (COPY,) else 0)
    assert before["onlyInCopy"] == (2 if sides == (SOURCE,) else 0)
    await Sweeper(database).sweep()
    assert not await database.read(lambda session: session.execute(left).scalar_one())
    assert await checked(idle_gateway, idle_client, made) == before


async def test_the_first_100_are_told_of_and_all_are_counted(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    source = await factories.hierarchy(idle_gateway.database, factories.wide_tree(150))
    made = await duplicated(idle_gateway, source)

    def rename_all(session: Session) -> None:
        pk = select(Hierarchy.pk).where(Hierarchy.id == made.copy).scalar_subquery()
        session.execute(
            sa.update(Node)
            .where(col(Node.hierarchy_pk) == pk)
            .values(name=col(Node.name).concat("!"))
        )

    await idle_gateway.database.write(rename_all)
    found = await checked(idle_gateway, idle_client, made)
    assert (found["changed"], len(found["differences"])) == (150, 100)
    await idle_gateway.database.write(
        hierarchies.update, factories.STORE, made.copy, {"name": "Also the root"}
    )
    found = await checked(idle_gateway, idle_client, made)
    assert (found["changed"], len(found["differences"])) == (151, 100)
    assert found["differences"][0]["path"] == ["Garden"]


async def test_a_copy_of_a_copy_is_compared_with_what_it_was_copied_from(
    idle_gateway: Gateway, idle_client: GraphQLClient, made: Made
) -> None:
    write = idle_gateway.database.write
    await write(nodes.create, factories.STORE, made.copy, {"name": "only in the first copy"})
    second = await duplicated(idle_gateway, made.copy, include_products=True)
    assert await checked(idle_gateway, idle_client, second) == NOTHING
    await write(nodes.delete, factories.STORE, node_id(made.copy, NEXT))
    assert (await checked(idle_gateway, idle_client, second))["onlyInCopy"] == 1
    assert await checked(idle_gateway, idle_client, made) == NOTHING


async def test_there_is_a_diff_only_of_a_duplication_that_is_done(
    idle_gateway: Gateway, idle_client: GraphQLClient, made: Made
) -> None:
    database = idle_gateway.database
    waits = await factories.pending_duplication(database, made.source)
    assert await diff(idle_client, waits.id) is None
    claimed = await factories.claimed_job(database)
    assert await diff(idle_client, claimed.id) is None
    await database.write(attempts.fail, claimed, "BROKEN", "It broke.", lambda: None)
    assert await diff(idle_client, claimed.id) is None
    cancelled = await factories.pending_duplication(database, made.source)
    await database.write(jobs.cancel, factories.STORE, cancelled.id)
    assert await diff(idle_client, cancelled.id) is None
    for unknown in (uuid4(), made.source, "no id", ""):
        assert await diff(idle_client, unknown) is None
    assert await diff(idle_client, str(made.job).upper())


async def test_there_is_no_diff_of_what_is_another_stores(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database = idle_gateway.database
    source = await factories.hierarchy(database, {"a": {}}, store="other")
    job = await factories.pending_duplication(database, source, store="other")
    await factories.ran_job(database, store="other")
    assert await diff(idle_client, job.id) is None
    of_its_own = await database.scan(differences.of_duplication, "other", job.id, 100)
    assert of_its_own is not None
    assert of_its_own.counts == {}


@pytest.mark.parametrize("side", [SOURCE, COPY])
async def test_there_is_no_diff_once_either_is_deleted(
    idle_gateway: Gateway, idle_client: GraphQLClient, made: Made, side: str
) -> None:
    gone = made.source if side == SOURCE else made.copy
    await idle_gateway.database.write(hierarchies.delete, factories.STORE, gone)
    assert await diff(idle_client, made.job) is None


LARGE, HELD = 100_000, 1
LINEAR = 30
"""How often each row may be read. Whoever looks for each one's partner among all others reads each
thousands of times."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", DATABASES)
async def test_large_trees_of_which_a_database_knows_nothing_are_compared_as_wholes(
    new_database: NewDatabase, report: Callable[[str], None], kind: str
) -> None:
    """A comparison that looks for one row after the other would not end within the time."""
    database = open_database(Settings(database_url=new_database(kind)))
    try:
        for table in ("hierarchy", "node", "node_product", "product_node", "job"):
            if kind == "postgresql":
                off = f"ALTER TABLE {table} SET (autovacuum_enabled = off)"
                await database.write(_execute, off)
        source = await large_hierarchy(database, LARGE, HELD, products=10_000)
        job = await factories.pending_duplication(database, source, include_products=True)
        await factories.ran_job(database)
        result = (await database.read(_job, job.id)).result_id
        assert result
        copy = await database.read(lambda s: _hierarchy(s, result).pk)
        for statement in DIFFERING:
            await database.write(_execute, statement, {"copy": copy})

        def compared(session: Session) -> tuple[differences.Differences | None, int]:
            found = differences.of_duplication(session, factories.STORE, job.id, 100)
            return found, session.execute(READ).scalar_one() if kind == "postgresql" else 0

        found, rows = await database.scan(compared)
        assert found
        # Every tenth has another name, of every seventh the first product is gone.
        changed = {no for no in range(1, LARGE + 1) if no % 10 == 0 or no % 7 == 0}
        assert found.counts == {differences_domain.DifferenceKind.CHANGED: len(changed)}
        items: list[Any] = [one.item for one in found.first]
        assert [item.node.node_no for item in items] == sorted(changed)[:100]
        there = 2 * LARGE * (1 + HELD)
        if rows:
            report(f"{rows / there:.1f} reads of each of {there:,} rows")
        assert rows <= LINEAR * there
    finally:
        database.close()


_OF_COPY = "hierarchy_pk = :copy"
DIFFERING = (
    f"UPDATE node SET name = name || '!' WHERE {_OF_COPY} AND node_no % 10 = 0",
    f"""DELETE FROM node_product AS one WHERE {_OF_COPY} AND node_no % 7 = 0
        AND curated_position = 1""",
)
READ = sa.text(
    "SELECT sum(pg_stat_get_xact_tuples_returned(oid))::bigint"
    " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')"
)


def _execute(session: Session, statement: str, values: Any = None) -> None:
    session.execute(sa.text(statement), values)


def _hierarchy(session: Session, id: UUID) -> Hierarchy:
    return session.exec(select(Hierarchy).where(Hierarchy.id == id)).one()


def _job(session: Session, id: UUID) -> Job:
    return session.exec(select(Job).where(Job.id == id)).one()
