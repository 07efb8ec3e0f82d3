"""Relay object identification: anything by its id, whatever it is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import strawberry
from sqlmodel import Session

from app.api.graphql.fields.declarations import attribute
from app.domain.callers import Caller, Scope
from app.storage import hierarchies, jobs, nodes, products


@strawberry.interface(
    description="Relay object identification. Ids are UUID strings, the same that the REST "
    "surface shows."
)
class Node:
    id: strawberry.ID = attribute("id", "A UUID. Opaque: nothing can be read from it.", made=str)


_KINDS: tuple[tuple[Scope, Callable[[Session, str, Sequence[UUID]], Mapping[UUID, Any]]], ...] = (
    (Scope.HIERARCHIES_READ, hierarchies.by_ids),
    (Scope.HIERARCHIES_READ, nodes.by_ids),
    (Scope.JOBS_READ, jobs.by_ids),
    (Scope.HIERARCHIES_READ, products.by_ids),
    (Scope.JOBS_READ, jobs.errors_by_ids),
)


def find(session: Session, caller: Caller, ids: Sequence[UUID]) -> dict[UUID, Any]:
    """The row of each id that the caller may see, of whatever kind, in one statement a kind."""
    found: dict[UUID, Any] = {}
    for scope, by_ids in _KINDS:
        missing = [id for id in ids if id not in found]
        if missing and scope in caller.scopes:
            found |= by_ids(session, caller.store, missing)
    return found
