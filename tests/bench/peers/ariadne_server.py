"""Ariadne, a thin library over graphql-core's executor.

Documents are parsed and validated once; JSON is encoded by orjson. Resolvers are plain functions: a
statement per parent is faster than the promises of a loader.
"""

import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from ariadne import MutationType, ObjectType, QueryType, make_executable_schema
from ariadne.asgi import GraphQL
from ariadne.asgi.handlers import GraphQLHTTPHandler
from graphql import DocumentNode, GraphQLError, GraphQLSchema, parse, validate
from starlette.requests import Request
from starlette.responses import Response

from tests.bench.peers.serving import serve
from tests.bench.peers.store import (
    UNSET,
    Row,
    Store,
    dashed,
    duplication_of,
    instant,
    member,
    node_id,
    translation,
)


class _Hierarchy:
    def __init__(self, row: Row) -> None:
        self.pk: int
        self.pk, id, owner, self.base_name, self.slug, self.base_description = row[:6]
        self.stored_locales, self.nodeCount, created_at, updated_at = row[6:]
        self.number = 0
        self.id = dashed(id)
        self.owner = member(owner)
        self.createdAt = instant(created_at)
        self.updatedAt = instant(updated_at)


class _Node:
    def __init__(self, parent: "_Hierarchy | _Node", row: Row) -> None:
        self.pk: int = parent.pk
        self.number: int
        self.number, self.base_name, self.slug, sort_order, self.stored_locales = row
        self.id: str = node_id(parent.id, self.number)
        self.sortOrder = None if sort_order == UNSET else sort_order


class _Job:
    def __init__(self, row: Row) -> None:
        id, type, status, created_at, started_at, completed_at, updated_at = row[:7]
        self.version, self.turn, completed, total, stored_args = row[7:]
        self.id = dashed(id)
        self.type = member(type)
        self.status = member(status)
        self.createdAt = instant(created_at)
        self.startedAt = instant(started_at)
        self.completedAt = instant(completed_at)
        self.updatedAt = instant(updated_at)
        self.canCancel = status == "pending"
        self.progress = self.duplication = None
        if started_at is not None:
            ratio = None if total is None else min(1.0, completed / total) if total else 1.0
            self.progress = {"completed": completed, "total": total, "ratio": ratio}
        if type == "hierarchy-duplicate":
            self.duplication = duplication_of(stored_args)


class _Handler(GraphQLHTTPHandler):
    async def create_json_response(self, request: Request, result: Any, success: bool) -> Response:
        return Response(
            orjson.dumps(result),
            status_code=200 if success else 400,
            media_type="application/json",
        )


def schema_of(store: Store) -> GraphQLSchema:
    """Return the peers' schema over a database file."""
    query, mutation = QueryType(), MutationType()
    hierarchy, node, job = ObjectType("Hierarchy"), ObjectType("HierarchyNode"), ObjectType("Job")

    @query.field("hierarchies")
    def hierarchies(_root: None, _info: Any, first: int) -> Any:
        return {"nodes": [_Hierarchy(row) for row in store.hierarchies(first)]}

    @query.field("hierarchy")
    def hierarchy_by_id(_root: None, _info: Any, id: str) -> Any:
        row = store.hierarchy(id)
        return row and _Hierarchy(row)

    @query.field("job")
    def job_by_id(_root: None, _info: Any, id: str) -> Any:
        row = store.job(id)
        return row and _Job(row)

    @mutation.field("duplicateHierarchy")
    def duplicate(_root: None, _info: Any, input: Mapping[str, str]) -> Any:
        job_id = store.duplicate(input["hierarchyId"])
        if job_id is None:
            return {"job": None, "errors": [{"message": "There is no such hierarchy."}]}
        return {"job": {"id": job_id, "status": "PENDING"}, "errors": []}

    @hierarchy.field("name")
    @node.field("name")
    def name(item: Any, _info: Any, locale: str | None = None) -> Any:
        return _translated(item, locale, "name") or item.base_name

    @hierarchy.field("description")
    def description(item: Any, _info: Any, locale: str | None = None) -> Any:
        translated = _translated(item, locale, "description")
        return item.base_description if translated is None else translated

    @hierarchy.field("localizations")
    def localizations(item: Any, _info: Any) -> Any:
        locales = orjson.loads(item.stored_locales)
        return [{"locale": locale, **values} for locale, values in sorted(locales.items())]

    @hierarchy.field("children")
    @node.field("children")
    def children(item: Any, _info: Any, first: int) -> Any:
        rows = store.children(item.pk, item.number, first)
        return {"nodes": [_Node(item, row) for row in rows]}

    @job.field("queuePosition")
    def queue_position(job: _Job, _info: Any) -> Any:
        return store.position(job.turn) if job.canCancel else None

    text = Path(__file__).with_name("schema.graphql").read_text()
    return make_executable_schema(text, query, mutation, hierarchy, node, job)


def _translated(item: Any, locale: str | None, attribute: str) -> str | None:
    if not locale:
        return None
    return translation(orjson.loads(item.stored_locales), locale).get(attribute)


@lru_cache
def _parsed(text: str) -> DocumentNode:
    return parse(text)


@lru_cache
def _errors(schema: GraphQLSchema, document: DocumentNode) -> list[GraphQLError]:
    return validate(schema, document)


def _validated(
    schema: GraphQLSchema, document_ast: DocumentNode, *_: Any, **__: Any
) -> list[GraphQLError]:
    return _errors(schema, document_ast)


if __name__ == "__main__":
    serve(
        GraphQL(
            schema_of(Store(sys.argv[1])),
            query_parser=lambda _context, data: _parsed(data["query"]),
            query_validator=_validated,
            http_handler=_Handler(),
        )
    )
