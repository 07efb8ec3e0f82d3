"""Creating, attaching, curating and detaching products over HTTP, and each refusal."""

from uuid import uuid4

import pytest
from sqlmodel import select

from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.storage.engine.transaction import Transaction
from app.storage.tables import Product
from tests import factories
from tests.support.authoring import Author, Input, new
from tests.support.clients import GraphQLClient
from tests.support.entities import session_of

UNATTACHED = "Not attached to the node: "


@pytest.fixture
def author(idle_gateway: Gateway, idle_client: GraphQLClient) -> Author:
    """A mutation client of a gateway whose queue does not run."""
    return Author(idle_client, idle_gateway.database)


@pytest.fixture
async def garden(author: Author) -> str:
    """The id of an empty hierarchy."""
    id: str = (await author.make("createHierarchy", name="Garden"))["id"]
    return id


@pytest.fixture
async def roses(author: Author, garden: str) -> str:
    """The id of its only node."""
    return await author.node(garden, "Roses")


async def shown(author: Author, node: str) -> list[str]:
    """The skus of the node's products in order, curated ones with a star."""
    products = (await author.seen(node))["products"]
    assert products["totalCount"] == len(products["edges"])
    return [edge["node"]["sku"] + "*" * edge["curated"] for edge in products["edges"]]


async def test_products_are_created_in_the_input_order(author: Author) -> None:
    pairs = [("b", "A rose"), ("a", "A rose"), ("B", "🌹")]
    inputs = [{"sku": sku, "name": name} for sku, name in pairs]
    created = await author.make("createProducts", products=inputs)
    no_nodes = {"nodes": [], "totalCount": 0}
    assert created == [
        {"id": product["id"], **input, "nodes": no_nodes}
        for product, input in zip(created, inputs, strict=True)
    ]
    assert len({product["id"] for product in created}) == 3
    for product in created:
        assert await author.held_by(product["id"]) == []


async def test_a_hundred_products_can_be_created_at_once(author: Author) -> None:
    skus = [f"{number}" for number in range(100)]
    created = await author.make("createProducts", **new(*skus))
    assert [product["sku"] for product in created] == skus


async def test_a_sku_can_be_almost_any_text(author: Author) -> None:
    for sku in ("s" * 255, "🌹" * 255, " a ", "'\"\\%_*", "0"):
        (product,) = await author.make("createProducts", **new(sku, name="n" * 1000))
        assert (product["sku"], product["name"]) == (sku, "n" * 1000)


async def test_one_invalid_product_refuses_the_whole_batch(
    author: Author,
) -> None:
    await author.products("taken")
    refusals: list[tuple[str, Input]] = [
        ("products", new()),
        ("products", new(*(f"{number}" for number in range(101)))),
        ("products.0.sku", new("")),
        ("products.1.sku", new("a", " \u200b")),
        ("products.1.sku", new("a", "s" * 256)),
        ("products.1.sku", new("a", "b\0")),
        ("products.0.name", new("a", name="")),
        ("products.0.name", new("a", name=" ")),
        ("products.0.name", new("a", name="n" * 1001)),
        ("products.0.name", new("a", name="a\0b")),
        ("products.2.sku", new("a", "b", "a")),
        ("products.1.sku", new("z", "taken", "a")),
    ]
    for path, input in refusals:
        message = await author.refused("InvalidInput", path, "createProducts", **input)
        if "taken" in str(input):
            assert message == "The sku 'taken' is taken."


async def test_stores_can_use_the_same_sku(author: Author) -> None:
    stock = {"Roses": ["a"]}
    for store in ("other", ORGANIZATION):
        await factories.hierarchy(author.database, {"Roses": {}}, store=store, products=stock)
    (created,) = await author.products("a")

    def stores(tx: Transaction) -> dict[str, str]:
        rows = session_of(tx).exec(select(Product).where(Product.sku == "a"))
        return {product.store: str(product.id) for product in rows}

    ids = await author.database.read(stores)
    assert ids.keys() == {"other", ORGANIZATION, factories.STORE}
    assert ids[factories.STORE] == created


async def test_attached_products_are_read_from_both_sides_immediately(
    author: Author, garden: str, roses: str
) -> None:
    b, a, c = await author.products("b", "a", "c")
    updated = await author.make("attachProducts", nodeId=roses, productIds=[b, a])
    assert updated == await author.seen(roses)
    assert await shown(author, roses) == ["a", "b"]
    child = await author.node(roses, "Red")
    await author.make("attachProducts", nodeId=child, productIds=[c, a])
    assert [await author.held_by(id) for id in (a, b, c)] == [[roses, child], [roses], [child]]
    assert await author.counts(garden) == (2, 4)
    # Attaching twice changes nothing.
    again = await author.make("attachProducts", nodeId=roses, productIds=[a, a, c, b])
    assert [edge["node"]["id"] for edge in again["products"]["edges"]] == [a, b, c]
    assert await author.held_by(a) == [roses, child]
    assert await author.counts(garden) == (2, 5)


async def test_detached_products_disappear_everywhere_and_lose_their_curation(
    author: Author, garden: str, roses: str
) -> None:
    ids = a, b, c = await author.products("a", "b", "c")
    other = await author.node(garden, "Others")
    for node in (roses, other):
        await author.make("attachProducts", nodeId=node, productIds=ids)
        await author.make("updateNode", nodeId=node, curatedProductIds=[c, b])
    assert await author.counts(garden) == (2, 6)
    updated = await author.make("detachProducts", nodeId=roses, productIds=[c, a, a])
    assert updated == await author.seen(roses)
    assert await shown(author, roses) == ["b*"]
    assert await shown(author, other) == ["c*", "b*", "a"]
    assert [await author.held_by(id) for id in ids] == [[other], [roses, other], [other]]
    assert await author.counts(garden) == (2, 4)
    # Detaching twice changes nothing, and products attached again are not curated.
    await author.make("detachProducts", nodeId=roses, productIds=[a, c])
    assert await author.counts(garden) == (2, 4)
    await author.make("attachProducts", nodeId=roses, productIds=[c])
    assert await shown(author, roses) == ["b*", "c"]
    await author.make("detachProducts", nodeId=roses, productIds=[b, c])
    assert await author.counts(garden) == (2, 3)
    assert await shown(author, roses) == []


@pytest.mark.parametrize("mutation", ["attachProducts", "detachProducts"])
async def test_unknown_products_are_all_listed_and_nothing_changes(
    author: Author, roses: str, mutation: str
) -> None:
    a, b = await author.products("a", "b")
    await author.make("attachProducts", nodeId=roses, productIds=[a])
    await factories.hierarchy(author.database, {"x": {}}, store="other", products={"x": ["c"]})

    def theirs(tx: Transaction) -> str:
        return str(session_of(tx).exec(select(Product.id).where(Product.store == "other")).one())

    unseen = [str(uuid4()), "rose", roses, await author.database.read(theirs), str(uuid4())]
    message = await author.refused(
        "NotFound", "productIds", mutation, nodeId=roses, productIds=[a, *unseen, b]
    )
    assert message == f"No product has the id {' or '.join(unseen)}."


@pytest.mark.parametrize("mutation", ["attachProducts", "detachProducts"])
async def test_a_mutation_accepts_1_to_1000_products(
    author: Author, garden: str, roses: str, mutation: str
) -> None:
    (a,) = await author.products("a")
    for ids in ([], [a] * 1001):
        await author.refused("InvalidInput", "productIds", mutation, nodeId=roses, productIds=ids)
    await author.make(mutation, nodeId=roses, productIds=[a] * 1000)
    assert await author.counts(garden) == (1, 1 if mutation == "attachProducts" else 0)


async def test_a_thousand_products_can_be_attached_and_detached_at_once(
    author: Author, garden: str, roses: str
) -> None:
    batches = [
        await author.products(*(f"{hundred:02}-{number:02}" for number in range(100)))
        for hundred in range(10)
    ]
    ids = [id for batch in batches for id in batch]
    node = await author.make("attachProducts", nodeId=roses, productIds=ids)
    assert node["products"]["totalCount"] == 1000
    assert await author.counts(garden) == (1, 1000)
    node = await author.make("detachProducts", nodeId=roses, productIds=ids[1:])
    assert [edge["node"]["id"] for edge in node["products"]["edges"]] == ids[:1]
    assert await author.counts(garden) == (1, 1)


async def test_different_spellings_of_an_id_are_one_product(
    author: Author, garden: str, roses: str
) -> None:
    (a,) = await author.products("a")
    spelled = [a, a.upper(), f"urn:uuid:{a}"]
    await author.make("attachProducts", nodeId=roses, productIds=spelled)
    assert await shown(author, roses) == ["a"]
    assert await author.counts(garden) == (1, 1)
    await author.refused(
        "InvalidInput", "curatedProductIds", "updateNode", nodeId=roses, curatedProductIds=spelled
    )
    await author.make("updateNode", nodeId=roses, curatedProductIds=[a.upper()])
    assert await shown(author, roses) == ["a*"]
    await author.make("detachProducts", nodeId=roses, productIds=spelled[1:])
    assert await author.counts(garden) == (1, 0)


async def test_curated_products_come_first_in_their_order(author: Author, roses: str) -> None:
    skus = [f"{number:02}" for number in range(22)]
    ids = dict(zip(skus, await author.products(*skus), strict=True))
    await author.make("attachProducts", nodeId=roses, productIds=list(ids.values()))
    assert await shown(author, roses) == skus
    steps = [["05"], ["21", "00", "10"], ["10", "21"], list(reversed(skus[:20])), ["03"], []]
    for curated in steps:
        updated = await author.make(
            "updateNode", nodeId=roses, curatedProductIds=[ids[sku] for sku in curated]
        )
        assert updated == await author.seen(roses)
        rest = [sku for sku in skus if sku not in curated]
        assert await shown(author, roses) == [f"{sku}*" for sku in curated] + rest
    await author.make("updateNode", nodeId=roses, curatedProductIds=[ids["07"]])
    await author.make("updateNode", nodeId=roses, name="Tulips")
    assert (await shown(author, roses))[0] == "07*"
    await author.make("updateNode", nodeId=roses, curatedProductIds=None)
    assert await shown(author, roses) == skus


async def test_invalid_curation_is_refused(author: Author, garden: str, roses: str) -> None:
    ids = await author.products(*(f"{number:02}" for number in range(22)))
    attached, (unattached,) = ids[:21], ids[21:]
    await author.make("attachProducts", nodeId=roses, productIds=attached)
    other = await author.node(garden, "Others")
    await author.make("attachProducts", nodeId=other, productIds=[unattached])
    await author.make("updateNode", nodeId=roses, curatedProductIds=attached[:2])
    unknown = str(uuid4())
    refusals: list[tuple[list[str], str]] = [
        (attached, "21 products are named; at most 20 can be curated."),
        ([attached[0], attached[1], attached[0]], "A product can be curated once only."),
        ([attached[0], unattached], f"{UNATTACHED}{unattached}."),
        ([unknown, attached[0], "rose", unattached], f"{UNATTACHED}{unknown}, rose, {unattached}."),
    ]
    for curated, message in refusals:
        # The other changes of the input are not applied either.
        input = {"nodeId": roses, "name": "Tulips", "curatedProductIds": curated}
        path = "curatedProductIds"
        assert await author.refused("InvalidInput", path, "updateNode", **input) == message
    assert (await shown(author, roses))[:3] == ["00*", "01*", "02"]


async def test_products_move_with_their_node_and_outlive_it(
    author: Author, garden: str, roses: str
) -> None:
    a, b = await author.products("a", "b")
    top = await author.node(garden, "Top")
    await author.make("attachProducts", nodeId=roses, productIds=[a, b])
    await author.make("updateNode", nodeId=roses, curatedProductIds=[b])
    await author.make("moveNode", nodeId=roses, parentId=top)
    assert await shown(author, roses) == ["b*", "a"]
    assert await author.counts(garden) == (2, 2)
    await author.make("deleteNode", nodeId=top)
    assert await author.counts(garden) == (0, 0)
    assert await author.held_by(a) == []
    again = await author.node(garden, "Roses")
    assert await shown(author, again) == []
