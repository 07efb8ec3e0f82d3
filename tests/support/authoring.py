"""The mutations that change the catalogue, as tests ask for them, and what is to be read behind
them. Every refusal is seen to change nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlmodel import Session, SQLModel

from app.domain.hierarchies import HierarchyState
from app.services import imports
from app.storage.engine.database import Database
from app.storage.tables import Hierarchy
from tests import factories
from tests.support.clients import GraphQLClient

ITEM = """
    id name description slug owner createdAt updatedAt
    localizations { locale name description }
    breadcrumbs { id name slug }
"""
HIERARCHY = f"{ITEM} nodeCount copiedFrom {{ id }}"
NODE = f"""
    {ITEM} sortOrder depth
    parent {{ id }}
    hierarchy {{ id nodeCount }}
    products(first: 100) {{ edges {{ curated node {{ id sku }} }} totalCount }}
"""
PRODUCT = "id sku name nodes { nodes { id } totalCount }"
THING = f"""
    query ($id: ID!) {{
        node(id: $id) {{
            ... on Hierarchy {{ {HIERARCHY} }}
            ... on HierarchyNode {{ {NODE} }}
        }}
    }}
"""
CHILDREN = """
    query ($id: ID!) {
        node(id: $id) { ... on TreeItem { children(first: 100) { nodes { name } } } }
    }
"""
HOLDERS = f"query ($id: ID!) {{ node(id: $id) {{ ... on Product {{ {PRODUCT} }} }} }}"
PREVIEW = """
    query ($id: ID!) {
        duplicationPreview(hierarchyId: $id, includeProducts: true) {
            nodeCount productAssociationCount
        }
    }
"""
MADE: Mapping[str, str] = {
    "createHierarchy": f"hierarchy {{ {HIERARCHY} }}",
    "updateHierarchy": f"hierarchy {{ {HIERARCHY} }}",
    "deleteHierarchy": "deletedId",
    "createNode": f"node {{ {NODE} }}",
    "updateNode": f"node {{ {NODE} }}",
    "moveNode": f"node {{ {NODE} }}",
    "deleteNode": "deletedId",
    "createProducts": f"products {{ {PRODUCT} }}",
    "attachProducts": f"node {{ {NODE} }}",
    "detachProducts": f"node {{ {NODE} }}",
}
"""What each mutation tells of what it did."""

Input = dict[str, Any]

LONG_AGO = datetime(2024, 1, 11, 22, 49, 10, tzinfo=UTC)

LONG = "n" * 1001
BAD_ATTRIBUTES: Mapping[str, tuple[Input, str]] = {
    "an empty name": ({"name": ""}, "name"),
    "a blank name": ({"name": " \t\u2003\u200b"}, "name"),
    "a long name": ({"name": LONG}, "name"),
    "a name with NUL": ({"name": "a\0b"}, "name"),
    "an empty slug": ({"slug": ""}, "slug"),
    "a blank slug": ({"slug": " "}, "slug"),
    "a long slug": ({"slug": LONG}, "slug"),
    "a slug with NUL": ({"slug": "a\0b"}, "slug"),
    "a description with NUL": ({"description": "a\0b"}, "description"),
    **{
        f"localizations: {what}": ({"localizations": said}, ".".join(("localizations", *path)))
        for what, said, *path in (
            ("no locale", [{"locale": "", "name": "a"}], "0"),
            ("a malformed locale", [{"locale": "fr_FR", "name": "a"}], "0"),
            ("101 of them", [{"locale": f"fr-{i:03}", "name": "a"} for i in range(101)]),
            ("one twice", [{"locale": "fr", "name": "a"}] * 2, "1", "locale"),
            (
                "by case",
                [{"locale": locale, "name": "a"} for locale in ("fr-FR", "FR-fr")],
                "1",
            ),
            ("nothing said", [{"locale": "fr"}], "0"),
            ("nulls said", [{"locale": "fr", "name": None, "description": None}], "0"),
            ("an empty name", [{"locale": "fr", "name": ""}], "0", "name"),
            ("a blank name", [{"locale": "fr", "name": " "}], "0", "name"),
            ("a long name", [{"locale": "fr", "name": LONG}], "0", "name"),
            ("a name with NUL", [{"locale": "fr", "name": "a\0b"}], "0", "name"),
            ("a NUL", [{"locale": "fr", "description": "a\0b"}], "0", "description"),
        )
    },
}
"""Attributes that neither a hierarchy nor a node can have, and the field that is at fault."""

ODD_ATTRIBUTES: Sequence[Input] = (
    {"name": "n" * 1000, "slug": "s" * 1000},
    {"name": "🌱" * 1000, "slug": "🌱" * 1000},
    {"name": "0", "slug": "0", "description": " "},
    {"name": " a ", "slug": " a "},
    {"name": "'\"\\%_*", "slug": "'; --", "description": "{}\n\u2028"},
    {
        "name": "a",
        "localizations": [
            {"locale": f"fr-{i:03}", "name": "a", "description": None} for i in range(100)
        ],
    },
)
"""Attributes that look bad and are not."""


@dataclass(frozen=True)
class Author:
    """Somebody who changes the catalogue over HTTP."""

    client: GraphQLClient
    database: Database

    async def ask(self, mutation: str, **input: Any) -> tuple[Any, list[dict[str, Any]]]:
        """What a mutation says it made, and its errors."""
        type = f"{mutation[0].upper()}{mutation[1:]}Input"
        document = f"""
            mutation ($input: {type}!) {{
                {mutation}(input: $input) {{
                    {MADE[mutation]} errors {{ __typename ... on UserError {{ message path }} }}
                }}
            }}
        """
        plain = {name: str(of) if isinstance(of, UUID) else of for name, of in input.items()}
        payload = (await self.client.data(document, input=plain))[mutation]
        errors = payload.pop("errors")
        (made,) = payload.values()
        return made, errors

    async def make(self, mutation: str, **input: Any) -> Any:
        """What a mutation made that was not refused."""
        made, errors = await self.ask(mutation, **input)
        assert errors == []
        return made

    async def node(self, parent_id: object, name: str, **input: Any) -> str:
        """The id of a new node."""
        made = await self.make("createNode", parentId=str(parent_id), name=name, **input)
        id: str = made["id"]
        return id

    async def chain(self, top: str, names: str) -> list[str]:
        """The ids of new nodes of these names, a letter each, each below the one before."""
        ids = []
        for name in names:
            top = await self.node(top, name)
            ids.append(top)
        return ids

    async def products(self, *skus: str) -> list[str]:
        """The ids of new products."""
        new = [{"sku": sku, "name": f"Product {sku}"} for sku in skus]
        return [made["id"] for made in await self.make("createProducts", products=new)]

    async def aged(self, id: str) -> Any:
        """The thing of that id, as if it had been there for long."""
        await factories.edited(self.database, UUID(id), created_at=LONG_AGO, updated_at=LONG_AGO)
        return await self.seen(id)

    async def refused(self, kind: str, path: str, mutation: str, **input: Any) -> str:
        """What a mutation says that was refused like this, and changed nothing at all."""
        before = await everything(self.database)
        made, errors = await self.ask(mutation, **input)
        assert not made
        assert [(error["__typename"], ".".join(error["path"])) for error in errors] == [
            (kind, f"input.{path}" if path else "")
        ]
        assert await everything(self.database) == before
        message: str = errors[0]["message"]
        assert message.endswith(".")
        return message

    async def seen(self, id: object) -> Any:
        """A hierarchy or a node as everybody sees it."""
        return (await self.client.data(THING, id=str(id)))["node"]

    async def children(self, id: object) -> list[str]:
        """The names of what hangs right below, in order."""
        item = (await self.client.data(CHILDREN, id=str(id)))["node"]
        return [node["name"] for node in item["children"]["nodes"]]

    async def way(self, id: object) -> list[str]:
        """The names from the root to the node of that id."""
        return [step["name"] for step in (await self.seen(id))["breadcrumbs"]]

    async def held_by(self, product: str) -> list[str]:
        """The ids of the nodes that hold the product."""
        found = (await self.client.data(HOLDERS, id=product))["node"]["nodes"]
        assert found["totalCount"] == len(found["nodes"])
        return [node["id"] for node in found["nodes"]]

    async def counts(self, hierarchy_id: object) -> tuple[int, int]:
        """How many nodes and associations a duplication would copy, as two places tell it."""
        told = (await self.client.data(PREVIEW, id=str(hierarchy_id)))["duplicationPreview"]
        hierarchy = await self.seen(hierarchy_id)
        assert hierarchy["nodeCount"] == told["nodeCount"]
        return told["nodeCount"], told["productAssociationCount"]


def new(*skus: str, name: str = "Rose") -> Input:
    """The input that makes products of these skus."""
    return {"products": [{"sku": sku, "name": name} for sku in skus]}


async def everything(database: Database) -> dict[str, list[Any]]:
    """All rows there are, in the order of their keys."""

    def rows(session: Session) -> dict[str, list[Any]]:
        return {
            table.name: list(session.execute(table.select().order_by(*table.primary_key)))
            for table in SQLModel.metadata.sorted_tables
        }

    return await database.read(rows)


async def hidden_hierarchy(database: Database) -> UUID:
    """A hierarchy that is there, and that nobody sees yet."""
    pk = await database.write(imports.begin, factories.STORE, "Half")

    def made(session: Session) -> UUID:
        hierarchy = session.get_one(Hierarchy, pk)
        assert hierarchy.state is HierarchyState.IMPORTING
        return hierarchy.id

    return await database.read(made)
