"""The upper bound: a hand-written route for the four requests only, over plain statements."""

import sys
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.bench.peers.serving import serve
from tests.bench.peers.store import (
    UNSET,
    Store,
    dashed,
    duplication_of,
    instant,
    member,
    node_id,
    translation,
)

Answer = dict[str, Any]


def _hierarchies(store: Store, _variables: Answer) -> Answer:
    nodes = []
    for row in store.hierarchies(50):
        _, id, owner, name, slug, description, stored_locales, count, created_at, updated_at = row
        locales = orjson.loads(stored_locales)
        nodes.append(
            {
                "id": dashed(id),
                "name": translation(locales, "de-DE").get("name", name),
                "description": description,
                "slug": slug,
                "owner": member(owner),
                "nodeCount": count,
                "createdAt": instant(created_at),
                "updatedAt": instant(updated_at),
                "localizations": [
                    {
                        "locale": locale,
                        "name": values.get("name"),
                        "description": values.get("description"),
                    }
                    for locale, values in sorted(locales.items())
                ],
            }
        )
    return {"hierarchies": {"nodes": nodes}}


def _job(store: Store, variables: Answer) -> Answer:
    row = store.job(variables["id"])
    if row is None:
        return {"job": None}
    id, type, status, created_at, started_at, completed_at, updated_at, version, turn, *facts = row
    completed, total, stored_args = facts
    progress = duplication = None
    if started_at is not None:
        ratio = None if total is None else min(1.0, completed / total) if total else 1.0
        progress = {"completed": completed, "total": total, "ratio": ratio}
    if type == "hierarchy-duplicate":
        duplication = duplication_of(stored_args)
    pending = status == "pending"
    return {
        "job": {
            "id": dashed(id),
            "type": member(type),
            "status": member(status),
            "createdAt": instant(created_at),
            "startedAt": instant(started_at),
            "completedAt": instant(completed_at),
            "updatedAt": instant(updated_at),
            "version": version,
            "canCancel": pending,
            "queuePosition": store.position(turn) if pending else None,
            "progress": progress,
            "duplication": duplication,
        }
    }


def _tree(store: Store, variables: Answer) -> Answer:
    row = store.hierarchy(variables["id"])
    if row is None:
        return {"hierarchy": None}
    pk, stored_id, _, hierarchy_name, *_ = row
    hierarchy_id = dashed(stored_id)
    departments = []
    for department_no, department_name, department_slug, _, _ in store.children(pk, 0, 20):
        categories = [
            {
                "id": node_id(hierarchy_id, no),
                "name": name,
                "slug": slug,
                "sortOrder": None if sort_order == UNSET else sort_order,
            }
            for no, name, slug, sort_order, _ in store.children(pk, department_no, 10)
        ]
        departments.append(
            {
                "id": node_id(hierarchy_id, department_no),
                "name": department_name,
                "slug": department_slug,
                "children": {"nodes": categories},
            }
        )
    return {
        "hierarchy": {
            "id": hierarchy_id,
            "name": hierarchy_name,
            "children": {"nodes": departments},
        }
    }


def _enqueue(store: Store, variables: Answer) -> Answer:
    job_id = store.duplicate(variables["id"])
    job = job_id and {"id": job_id, "status": "PENDING"}
    errors = [] if job else [{"__typename": "NotFound"}]
    return {"duplicateHierarchy": {"job": job, "errors": errors}}


ANSWERS = {
    "hierarchies(": _hierarchies,
    "job(": _job,
    "hierarchy(": _tree,
    "duplicateHierarchy(": _enqueue,
}
"""The function for a request, by the field in its query."""


def app_of(store: Store) -> Starlette:
    """Return the application over a database file."""

    async def graphql(request: Request) -> Response:
        body = orjson.loads(await request.body())
        query = body["query"]
        for field, answer in ANSWERS.items():
            if field in query:
                data = answer(store, body["variables"])
                return Response(orjson.dumps({"data": data}), media_type="application/json")
        return Response(status_code=400)

    return Starlette(routes=[Route("/graphql", graphql, methods=["POST"])])


if __name__ == "__main__":
    serve(app_of(Store(sys.argv[1])))
