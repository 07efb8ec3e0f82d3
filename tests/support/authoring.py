"""Mutations of the catalogue for tests, and reads of their effects.

`refused` checks that a refused mutation changes no row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlmodel import SQLModel

from app.domain.hierarchies import HierarchyState
from app.services import imports
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.tables import Hierarchy
from tests import factories
from tests.support.clients import GraphQLClient
from tests.support.entities import session_of

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
ITEM_BY_ID = f"""
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
PAYLOADS: Mapping[str, str] = {
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
"""The fields of each mutation's payload that describe its effect."""

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
        f"localizations: {case}": ({"localizations": value}, ".".join(("localizations", *path)))
        for case, value, *path in (
            ("no locale", [{"locale": "", "name": "a"}], "0"),
            ("a malformed locale", [{"locale": "fr_FR", "name": "a"}], "0"),
            ("101 translations", [{"locale": f"fr-{i:03}", "name": "a"} for i in range(101)]),
            ("a locale twice", [{"locale": "fr", "name": "a"}] * 2, "1", "locale"),
            (
                "a locale twice, in different case",
                [{"locale": locale, "name": "a"} for locale in ("fr-FR", "FR-fr")],
                "1",
            ),
            ("neither name nor description", [{"locale": "fr"}], "0"),
            ("only nulls", [{"locale": "fr", "name": None, "description": None}], "0"),
            ("an empty name", [{"locale": "fr", "name": ""}], "0", "name"),
            ("a blank name", [{"locale": "fr", "name": " "}], "0", "name"),
            ("a long name", [{"locale": "fr", "name": LONG}], "0", "name"),
            ("a name with NUL", [{"locale": "fr", "name": "a\0b"}], "0", "name"),
            ("a NUL", [{"locale": "fr", "description": "a\0b"}], "0", "description"),
        )
    },
}
"""Attributes that are invalid for hierarchies and nodes, with the path of the faulty field."""

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
"""Attributes that are unusual and valid."""


@dataclass(frozen=True)
class Author:
    """A client that edits the catalogue over HTTP."""

    client: GraphQLClient
    database: Database

    async def ask(self, mutation: str, **input: Any) -> tuple[Any, list[dict[str, Any]]]:
        """Run a mutation. Return the object of its payload, and its errors."""
        type = f"{mutation[0].upper()}{mutation[1:]}Input"
        document = f"""
            mutation ($input: {type}!) {{
                {mutation}(input: $input) {{
                    {PAYLOADS[mutation]}
                    errors {{ __typename ... on UserError {{ message path }} }}
                }}
            }}
        """
        plain = {
            name: str(value) if isinstance(value, UUID) else value for name, value in input.items()
        }
        payload = (await self.client.data(document, input=plain))[mutation]
        errors = payload.pop("errors")
        (result,) = payload.values()
        return result, errors

    async def make(self, mutation: str, **input: Any) -> Any:
        """Run a mutation that succeeds. Return the object of its payload."""
        result, errors = await self.ask(mutation, **input)
        assert errors == []
        return result

    async def node(self, parent_id: object, name: str, **input: Any) -> str:
        """Create a node. Return its id."""
        created = await self.make("createNode", parentId=str(parent_id), name=name, **input)
        id: str = created["id"]
        return id

    async def chain(self, top: str, names: str) -> list[str]:
        """Create a chain of nodes with one-letter names, top down. Return their ids."""
        ids = []
        for name in names:
            top = await self.node(top, name)
            ids.append(top)
        return ids

    async def products(self, *skus: str) -> list[str]:
        """Create products. Return their ids."""
        new = [{"sku": sku, "name": f"Product {sku}"} for sku in skus]
        return [product["id"] for product in await self.make("createProducts", products=new)]

    async def aged(self, id: str) -> Any:
        """Set the times of a hierarchy or node to LONG_AGO. Return it."""
        await factories.edited(self.database, UUID(id), created_at=LONG_AGO, updated_at=LONG_AGO)
        return await self.seen(id)

    async def refused(self, kind: str, path: str, mutation: str, **input: Any) -> str:
        """Run a mutation that is refused and changes no row. Return the error's message."""
        before = await everything(self.database)
        result, errors = await self.ask(mutation, **input)
        assert not result
        assert [(error["__typename"], ".".join(error["path"])) for error in errors] == [
            (kind, f"input.{path}" if path else "")
        ]
        assert await everything(self.database) == before
        message: str = errors[0]["message"]
        assert message.endswith(".")
        return message

    async def seen(self, id: object) -> Any:
        """Read a hierarchy or node through the API."""
        return (await self.client.data(ITEM_BY_ID, id=str(id)))["node"]

    async def children(self, id: object) -> list[str]:
        """Return the names of the children, in order."""
        item = (await self.client.data(CHILDREN, id=str(id)))["node"]
        return [node["name"] for node in item["children"]["nodes"]]

    async def way(self, id: object) -> list[str]:
        """Return the names on the path from the root to a node."""
        return [step["name"] for step in (await self.seen(id))["breadcrumbs"]]

    async def held_by(self, product: str) -> list[str]:
        """Return the ids of the nodes that hold a product."""
        nodes = (await self.client.data(HOLDERS, id=product))["node"]["nodes"]
        assert nodes["totalCount"] == len(nodes["nodes"])
        return [node["id"] for node in nodes["nodes"]]

    async def counts(self, hierarchy_id: object) -> tuple[int, int]:
        """Count the nodes and associations that a duplication would copy.

        The preview and the hierarchy agree on the number of nodes.
        """
        preview = (await self.client.data(PREVIEW, id=str(hierarchy_id)))["duplicationPreview"]
        hierarchy = await self.seen(hierarchy_id)
        assert hierarchy["nodeCount"] == preview["nodeCount"]
        return preview["nodeCount"], preview["productAssociationCount"]


def new(*skus: str, name: str = "Rose") -> Input:
    """Return the input of createProducts for these SKUs."""
    return {"products": [{"sku": sku, "name": name} for sku in skus]}


ALL_ROWS = {
    table.name: table.select().order_by(*table.primary_key)
    for table in SQLModel.metadata.sorted_tables
}


async def everything(database: Database) -> dict[str, list[Any]]:
    """Read all rows of all tables, ordered by primary key."""

    def rows(tx: Transaction) -> dict[str, list[Any]]:
        return {name: list(tx.connection.execute(query)) for name, query in ALL_ROWS.items()}

    return await database.read(rows)


async def hidden_hierarchy(database: Database) -> UUID:
    """Create a hierarchy that is still importing, and so invisible. Return its id."""
    pk = await database.write(imports.begin, factories.STORE, "Half")

    def id_of(tx: Transaction) -> UUID:
        hierarchy = session_of(tx).get_one(Hierarchy, pk)
        assert hierarchy.state is HierarchyState.IMPORTING
        return hierarchy.id

    return await database.read(id_of)
