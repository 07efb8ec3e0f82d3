"""Rules of attributes, at each door: GraphQL, REST and the import of a file.

A door that has a rule of its own accepts what another refuses, or stores it differently.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from unicodedata import normalize

import anyio.from_thread
import anyio.to_thread
import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlmodel import col, select

from app.cli.imports import importing, read_lines
from app.domain import attributes
from app.domain.attributes import MAX_TRANSLATIONS, NAME_LIMIT, SLUG_LIMIT, checked_attributes
from app.domain.errors import InvalidInput
from app.main import Gateway
from app.services import imports
from app.services.placement import BadLine, Placement
from app.storage.engine.transaction import Transaction
from app.storage.import_scratch import ImportScratch
from app.storage.tables import Hierarchy, Node
from tests import factories
from tests.support.clients import GraphQLClient, http_client
from tests.support.databases import postgresql_is_long
from tests.support.entities import session_of
from tests.support.gateway import SharedGateways

LANGUAGE = "en"
CREATE_NODE = """
mutation ($input: CreateNodeInput!) {
  createNode(input: $input) { errors { ... on UserError { message path } } }
}
"""
COMPOSED, DECOMPOSED = (normalize(form, "Crème") for form in ("NFC", "NFD"))

Attributes = Mapping[str, Any]
"""Attributes of a node in the domain's names."""


@dataclass(frozen=True)
class Refused:
    """The node that a door refused, the sentence, and the attribute at fault."""

    index: int
    sentence: str
    attribute: str = ""


Verdict = Refused | list[dict[str, Any]]
"""The nodes as stored, or the refusal of one of them."""


async def stored(gateway: Gateway, hierarchy_id: Any) -> list[dict[str, Any]]:
    """The attributes of a hierarchy's nodes, in the order of their creation."""

    def read(tx: Transaction) -> list[dict[str, Any]]:
        of = select(Hierarchy.pk).where(Hierarchy.id == hierarchy_id)
        query = select(Node).where(col(Node.hierarchy_pk).in_(of)).order_by(col(Node.node_no))
        return [
            {
                "name": node.name,
                "slug": node.slug,
                "description": node.description,
                "locales": node.locales,
            }
            for node in session_of(tx).exec(query)
        ]

    return await gateway.database.read(read)


async def by_graphql(
    gateway: Gateway, http: httpx.AsyncClient, nodes: Sequence[Attributes]
) -> Verdict:
    """Create the nodes by mutations."""
    hierarchy_id = await factories.hierarchy(gateway.database, {})
    client = GraphQLClient(http)
    for index, node in enumerate(nodes):
        localizations = [{"locale": tag, **texts} for tag, texts in node["locales"].items()]
        input = {key: value for key, value in node.items() if key != "locales"}
        input |= {"parentId": str(hierarchy_id), "localizations": localizations}
        errors = (await client.data(CREATE_NODE, input=input))["createNode"]["errors"]
        if errors:
            (error,) = errors
            attribute = error["path"][1].replace("localizations", "locales")
            return Refused(index, error["message"], attribute)
    return await stored(gateway, hierarchy_id)


async def by_rest(
    gateway: Gateway, http: httpx.AsyncClient, nodes: Sequence[Attributes]
) -> Verdict:
    """Create the nodes by POST."""
    hierarchy_id = await factories.hierarchy(gateway.database, {})
    for index, node in enumerate(nodes):
        response = await http.post(
            f"/pcm/hierarchies/{hierarchy_id}/nodes",
            json={"data": {"type": "node", "attributes": dict(node)}},
        )
        if response.status_code != 201:
            assert response.status_code == 422, response.text
            detail = response.json()["errors"][0]["detail"]
            return Refused(index, detail, detail.split(" ")[0].split(":")[0].split(".")[0])
    return await stored(gateway, hierarchy_id)


async def by_import(gateway: Gateway, nodes: Sequence[Attributes]) -> Verdict:
    """Import a file with a line per node."""
    file = [
        json.dumps(
            {
                "id": str(index),
                "parent": None,
                "slug": node["slug"],
                "name": {LANGUAGE: node["name"]}
                | {tag: texts["name"] for tag, texts in node["locales"].items() if "name" in texts},
                "description": (
                    {} if node["description"] is None else {LANGUAGE: node["description"]}
                )
                | {
                    tag: texts["description"]
                    for tag, texts in node["locales"].items()
                    if "description" in texts
                },
            }
        ).encode()
        for index, node in enumerate(nodes)
    ]
    with ImportScratch() as scratch:
        placement = Placement(scratch)
        try:
            async with importing(gateway.database, factories.STORE, "Imported") as target:
                await target.add_nodes(
                    placement.place(line_no, line.as_node(LANGUAGE))
                    for line_no, line in read_lines(file, LANGUAGE)
                )
                hierarchy_id = await gateway.database.write(imports.publish, target.pk)
        except BadLine as error:
            return Refused(error.line_no - 1, error.reason)
    return await stored(gateway, hierarchy_id)


TEXTS = ("", " ", "\u200b", "a", "A", "a ", "ä\n", "\0", "a\0b", "ß", "名")
texts = st.sampled_from(TEXTS) | st.text(st.characters(codec="utf-8"), max_size=8)
long_texts = texts | st.sampled_from([NAME_LIMIT, NAME_LIMIT + 1, 5 * SLUG_LIMIT]).map("x".__mul__)
translations = st.fixed_dictionaries(
    {}, optional={"name": long_texts, "description": texts}
).filter(bool)
locales = st.dictionaries(
    st.sampled_from(["fr", "FR", "fr-FR", "FR-fr", "de", "EN", "fr_FR", "f", "zh-Hant-TW"]),
    translations,
    max_size=3,
)
nodes_of_a_file = st.lists(
    st.fixed_dictionaries(
        {
            "name": long_texts,
            "slug": st.none() | long_texts,
            "description": st.none() | texts,
            "locales": locales,
        }
    ),
    min_size=1,
    max_size=3,
)


def node(name: str = "n", **others: Any) -> dict[str, Any]:
    return {"name": name, "slug": None, "description": None, "locales": {}} | others


def tagged(count: int) -> dict[str, dict[str, str]]:
    return {f"fr-{number:03}": {"name": "n"} for number in range(count)}


def faults_of(node: Attributes) -> set[str]:
    """The attributes that are invalid by themselves."""
    faults = set()
    for name, value in node.items():
        try:
            checked_attributes(cast(attributes.Attributes, {name: value}))
        except InvalidInput:
            faults.add(name)
    return faults


async def check(gateway: Gateway, http: httpx.AsyncClient, nodes: Sequence[Attributes]) -> None:
    """Assert that the doors agree: on the stored nodes, or on the refusal."""
    graphql = await by_graphql(gateway, http, nodes)
    rest = await by_rest(gateway, http, nodes)
    imported = await by_import(gateway, nodes)
    if isinstance(graphql, Refused):
        assert isinstance(rest, Refused), rest
        assert isinstance(imported, Refused), imported
        assert rest.index == imported.index == graphql.index
        # The model of a REST document checks lengths before the domain checks anything.
        faulty = faults_of(nodes[rest.index]) or {graphql.attribute}
        assert graphql.attribute in faulty
        assert rest.attribute in faulty
        sentence = graphql.sentence.rstrip(".").casefold()
        # Of several faults of translations each door may name another one: a line of a file has
        # its names in columns of their own.
        locales = nodes[rest.index]["locales"]
        faulty_locales = [tag for tag in locales if faults_of({"locales": {tag: locales[tag]}})]
        if len(faulty_locales) + sentence.endswith("more than once") <= 1:
            assert imported.sentence.rstrip(".").casefold().endswith(sentence)
    else:
        assert rest == graphql
        assert imported == graphql


@pytest.fixture
async def doors(
    database_kind: str, shared_gateways: SharedGateways
) -> AsyncIterator[tuple[Gateway, httpx.AsyncClient]]:
    """A gateway without a limit of requests per second, and a client of it."""
    async with (
        shared_gateways.lent(database_kind, max_requests_per_second=0) as gateway,
        http_client(gateway.url) as http,
    ):
        yield gateway, http


@postgresql_is_long
async def test_the_same_attributes_have_the_same_outcome_at_every_door(
    doors: tuple[Gateway, httpx.AsyncClient], database_kind: str
) -> None:
    @settings(
        max_examples=40 if database_kind == "sqlite" else 15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(nodes_of_a_file)
    @example([node(slug=" ")])
    @example([node(slug="x" * 5000)])
    @example([node(slug="")])
    @example([node(description="")])
    @example([node(description="\0")])
    @example([node(locales={"fr": {"name": "a\0"}})])
    @example([node(locales={"fr": {"description": "a\0"}})])
    @example([node(locales=tagged(MAX_TRANSLATIONS))])
    @example([node(locales=tagged(MAX_TRANSLATIONS + 1))])
    @example([node(locales={"fr": {"name": "a"}, "FR": {"name": "b"}})])
    @example([node(locales={"fr_FR": {"description": "a"}})])
    @example([node("Garden"), node("garden"), node("GARDEN")])
    @example([node(COMPOSED), node(DECOMPOSED)])
    @example([node("Garden"), node("Garden "), node(" Garden")])
    @example([node("a", slug="s"), node("b", slug="S"), node("c", slug="s ")])
    @example([node("a", slug="s"), node("b", slug="s")])
    @example([node("a"), node("a")])
    def judge(nodes: list[Attributes]) -> None:
        anyio.from_thread.run(check, *doors, nodes)

    await anyio.to_thread.run_sync(judge)


async def test_siblings_that_differ_in_case_in_form_or_by_a_blank_are_different(
    doors: tuple[Gateway, httpx.AsyncClient],
) -> None:
    names = ["Garden", "garden", "Garden ", " Garden", COMPOSED, DECOMPOSED]
    nodes = [node(name, slug=name) for name in names]
    kept = await by_graphql(*doors, nodes)
    assert isinstance(kept, list)
    assert [row["name"] for row in kept] == [row["slug"] for row in kept] == names
