"""Relay object identification: anything by its id, whatever it is."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import strawberry
from sqlmodel import Session

from app.api.reads import expression
from app.storage import hierarchies, jobs, nodes, products


@strawberry.interface(
    description="Relay object identification. Ids are UUID strings, the same that the REST "
    "surface shows."
)
class Node:
    id: strawberry.ID = expression(
        lambda row: str(row.id), "A UUID. Opaque: nothing can be read from it."
    )


def find(session: Session, store: str, ids: Sequence[UUID]) -> dict[UUID, Any]:
    """The row of each id that the store may see, of whatever kind, in one statement a kind."""
    found: dict[UUID, Any] = {}
    for by_ids in (
        hierarchies.by_ids,
        nodes.by_ids,
        jobs.by_ids,
        products.by_ids,
        jobs.errors_by_ids,
    ):
        missing = [id for id in ids if id not in found]
        if missing:
            found |= by_ids(session, store, missing)
    return found
