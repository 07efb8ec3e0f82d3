"""Attacks on a gateway by work: valid requests of one store, with a token, that cost much."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import count, repeat
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import httpx
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from app.domain.attributes import Attributes, checked_attributes
from app.domain.hierarchies import MAX_TREE_DEPTH, node_id
from app.services import imports
from app.services.placement import PlacedLine
from app.settings import Settings
from app.storage import products
from app.storage.engine.transaction import Transaction
from app.wiring import open_database
from tests import factories
from tests.support.tokens import bearing, token

SECONDS = 5
"""Duration of an attack."""

CONNECTIONS = 4

STORE = "attacker"

LEVELS = MAX_TREE_DEPTH
CHAINS = 100
NAME = "n" * 40
"""Prefix of names in the deep hierarchy."""
DESCRIPTION = "d" * 40_000
PRODUCTS = 100_000
NODES = 20_000


class Outcomes(NamedTuple):
    """Number of answers by status and code of their first error."""

    answers: Counter[str]
    largest: int
    """Bytes of the largest answer."""


class Catalogue(NamedTuple):
    """Large data of the attacker."""

    deep: UUID
    """A hierarchy of CHAINS chains of LEVELS nodes, each with a translation."""
    described: UUID
    """A hierarchy of 100 nodes with DESCRIPTION."""
    wide: UUID
    job: UUID
    """A duplication of the wide hierarchy."""


async def fill(folder: Path) -> Catalogue:
    """Create the attacker's data in the database of `hostile_load.target`."""
    with closing(
        open_database(Settings(database_url=f"sqlite:///{folder}/attacked.db"))
    ) as database:

        def deep(tx: Transaction) -> UUID:
            pk = imports.begin(tx, STORE, "Deep")
            lines = []
            for no in range(1, CHAINS * LEVELS + 1):
                level = (no - 1) // CHAINS + 1
                name = f"{NAME} {no}"
                attributes: Attributes = {"name": name, "locales": {"fr-FR": {"name": name}}}
                parent_no = max(no - CHAINS, 0)
                lines.append(PlacedLine(checked_attributes(attributes), no, parent_no, level))
            imports.add_nodes(tx, pk, lines)
            return imports.publish(tx, pk)

        def described(tx: Transaction) -> UUID:
            pk = imports.begin(tx, STORE, "Described")
            lines = [
                PlacedLine(
                    checked_attributes({"name": f"{no}", "description": DESCRIPTION}), no, 0, 1
                )
                for no in range(1, 101)
            ]
            imports.add_nodes(tx, pk, lines)
            return imports.publish(tx, pk)

        rows = [
            {"id": uuid4(), "store": STORE, "sku": f"{number:06}", "name": f"Product {number}"}
            for number in range(PRODUCTS)
        ]
        await database.write(products.add, rows)
        wide = await factories.hierarchy(
            database, factories.wide_tree(NODES, 100), name="Wide", store=STORE
        )
        await factories.pending_duplication(database, wide, store=STORE)
        return Catalogue(
            await database.write(deep),
            await database.write(described),
            wide,
            await factories.ran_job(database, store=STORE),
        )


def repeated(url: str, requests: Callable[[], Iterator[object]]) -> Outcomes:
    """Send the requests on several connections, each as soon as the previous one is answered.

    A URL is requested by GET, any other body posted to GraphQL.
    """
    answers: Counter[str] = Counter()
    largest = [0]
    deadline = time.monotonic() + SECONDS

    def post() -> None:
        with httpx.Client(
            base_url=url, headers=bearing(token(store=STORE)), timeout=60, verify=False
        ) as client:
            for body in requests():
                if time.monotonic() > deadline:
                    return
                if isinstance(body, httpx.URL):
                    response = client.get(body)
                else:
                    response = client.post("/graphql", json=body)
                errors = response.json().get("errors")
                code = errors[0].get("extensions", {}).get("code") if errors else ""
                answers[f"{response.status_code} {code}".strip()] += 1
                largest.append(max(largest.pop(), len(response.content)))
                if code == "RATE_LIMITED":
                    # As fast as allowed.
                    time.sleep(0.1)

    threads = [threading.Thread(target=post) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Outcomes(answers, largest[0])


def _always(query: str, **variables: object) -> Callable[[], Iterator[object]]:
    return _endless({"query": query, "variables": variables})


def _endless(request: object) -> Callable[[], Iterator[object]]:
    return partial(repeat, request)


def _aliased(field: str, number: int = 29) -> str:
    return "{ " + " ".join(f"a{index}: {field}" for index in range(number)) + " }"


def breadcrumbs_of_a_deep_tree(url: str, catalogue: Catalogue) -> Outcomes:
    """Request the longest paths that are accepted: 98 nodes at the limit, under two aliases."""
    ids = [str(node_id(catalogue.deep, CHAINS * LEVELS - number)) for number in range(98)]
    field = "nodes(ids: $ids) { ... on TreeItem { breadcrumbs { id name slug } } }"
    return repeated(url, _always(f"query ($ids: [ID!]!) {_aliased(field, 2)}", ids=ids))


def too_many_breadcrumbs(url: str, catalogue: Catalogue) -> Outcomes:
    """Request the same paths under as many aliases as the cost allows."""
    ids = [str(node_id(catalogue.deep, CHAINS * LEVELS - number)) for number in range(98)]
    field = "nodes(ids: $ids) { ... on TreeItem { breadcrumbs { name } } }"
    return repeated(url, _always(f"query ($ids: [ID!]!) {_aliased(field, 18)}", ids=ids))


def long_descriptions(url: str, catalogue: Catalogue) -> Outcomes:
    """Request the longest texts that are accepted: 100 descriptions."""
    return repeated(url, _always(_aliased(_descriptions(catalogue), 1)))


def too_many_long_descriptions(url: str, catalogue: Catalogue) -> Outcomes:
    """Request the same texts under as many aliases as allowed."""
    return repeated(url, _always(_aliased(_descriptions(catalogue))))


def _descriptions(catalogue: Catalogue) -> str:
    nodes = "nodes(first: 100) { nodes { description } }"
    return f'hierarchy(id: "{catalogue.described}") {{ {nodes} }}'


def rest_pages_of_a_deep_tree(url: str, catalogue: Catalogue) -> Outcomes:
    """Request pages of the deepest nodes by REST, with breadcrumbs and translations."""
    page = {"page[offset]": CHAINS * (LEVELS - 1), "page[limit]": 50}
    return repeated(
        url, _endless(httpx.URL(f"/pcm/hierarchies/{catalogue.deep}/nodes", params=page))
    )


MUTATION = (
    "mutation ($i: CreateProductsInput!) { createProducts(input: $i) { errors { __typename } } }"
)


def unknown_keys(url: str) -> Outcomes:
    """Send variables of which no key is known."""
    return repeated(url, _always(MUTATION, i={f"unknown{number}": 1 for number in range(8_000)}))


def empty_inputs(url: str) -> Outcomes:
    """Send variables with many invalid inputs."""
    return repeated(url, _always(MUTATION, i={"products": [{}] * 30_000}))


def filtered_products(url: str, catalogue: Catalogue) -> Outcomes:
    """Search a hundred thousand products under 29 aliases."""
    field = 'products(first: 1, filter: {name: {like: "*x*"}}) { totalCount nodes { id } }'
    return repeated(url, _always(_aliased(field)))


def new_documents(url: str) -> Outcomes:
    """Send documents that were never seen, with as many aliases as allowed."""
    field = (
        "jobs(first: 1) { nodes { id type status createdAt duplication { name source { id } } } }"
    )
    numbers = count()

    def requests() -> Iterator[object]:
        while True:
            yield {"query": f"{_aliased(field)} # {next(numbers)} {uuid4()}"}

    return repeated(url, requests)


def comparisons(url: str, catalogue: Catalogue) -> Outcomes:
    """Compare two large trees under as many aliases as allowed."""
    for aliases in (29, 15):
        field = f'duplicationDiff(jobId: "{catalogue.job}") {{ changed }}'
        outcomes = repeated(url, _always(_aliased(field, aliases)))
        if any(answer.startswith("200") and "COST" not in answer for answer in outcomes.answers):
            return outcomes
    return outcomes


def large_pages(url: str, catalogue: Catalogue) -> Outcomes:
    """Request as much as one operation may cost."""
    return repeated(
        url,
        _always(
            "query ($id: ID!) { hierarchy(id: $id) { children(first: 100) { nodes { id name slug "
            "children(first: 40) { nodes { id name slug depth } } } } } }",
            id=str(catalogue.wide),
        ),
    )


def large_pages_beside_an_error(url: str, catalogue: Catalogue) -> Outcomes:
    """Request the same by the reference executor, which reports the error."""
    return repeated(
        url,
        _always(
            'query ($id: ID!) { jobs(after: "x") { totalCount nodes { id } } hierarchy(id: $id) { '
            "children(first: 100) { nodes { id name slug "
            "children(first: 40) { nodes { id name slug depth } } } } } }",
            id=str(catalogue.wide),
        ),
    )


def introspections(url: str) -> Outcomes:
    """Request as much of the schema as allowed."""
    return repeated(
        url,
        _always(
            "{ __schema { types { name description fields { name description args { name "
            "description type { name kind ofType { name kind ofType { name } } } } "
            "type { name kind ofType { name kind ofType { name } } } } } } }"
        ),
    )


def subscriptions(url: str, catalogue: Catalogue) -> Outcomes:
    """Subscribe 50 times to events with large pages, and cause events."""
    answers: Counter[str] = Counter()
    selection = (
        "jobEvents { type job { duplication { source { children(first: 100) { nodes { id name "
        "children(first: 60) { nodes { id name depth } } } } } } } }"
    )
    deadline = time.monotonic() + SECONDS
    largest = [0]
    with connect(
        url.replace("http", "ws") + "/graphql",
        subprotocols=[Subprotocol("graphql-transport-ws")],
        additional_headers=bearing(token(store=STORE)),
        max_size=None,
    ) as socket:
        socket.send('{"type": "connection_init"}')
        socket.recv()
        for number in range(50):
            payload = {"query": f"subscription S{number} {{ {selection} }}"}
            message = {"id": str(number), "type": "subscribe", "payload": payload}
            socket.send(json.dumps(message))
        events = threading.Thread(target=_cause_events, args=(url, str(catalogue.wide)))
        events.start()
        _count(socket, deadline, answers, largest)
        events.join()
    return Outcomes(answers, largest[0])


def _cause_events(url: str, id: str) -> None:
    query = (
        "mutation ($id: ID!) { duplicateHierarchy(input: {hierarchyId: $id}) { job { id } "
        "errors { __typename } } }"
    )
    body = {"query": query, "variables": {"id": id}}
    with httpx.Client(
        base_url=url, headers=bearing(token(store=STORE)), timeout=120, verify=False
    ) as client:
        for _ in range(5):
            client.post("/graphql", json=body)


def _count(
    socket: ClientConnection, deadline: float, answers: Counter[str], largest: list[int]
) -> None:
    while (left := deadline - time.monotonic()) > 0:
        try:
            message = socket.recv(timeout=left)
        except TimeoutError:
            return
        largest.append(max(largest.pop(), len(message)))
        parsed = json.loads(message)
        code = parsed["payload"][0]["extensions"]["code"] if parsed["type"] == "error" else ""
        answers[f"{parsed['type']} {code}".strip()] += 1
