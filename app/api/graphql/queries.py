"""The query root. Resolvers return rows, from which the types read their fields."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import strawberry
from strawberry import UNSET

from app.api.graphql.fields.listing import ListQuery, listing
from app.api.graphql.fields.query import Read, query
from app.api.graphql.fields.reference import reference_field
from app.api.graphql.fields.relation import relation
from app.api.graphql.types.differences import DuplicationDiff, duplication_diff
from app.api.graphql.types.duplications import DuplicationPreview, duplication_preview
from app.api.graphql.types.hierarchies import HIERARCHIES, Hierarchy, HierarchyFilter
from app.api.graphql.types.jobs import JOBS, QUEUED, Job, JobFilter, JobOrder
from app.api.graphql.types.products import PRODUCTS, Product, ProductFilter
from app.api.graphql.types.queue import JobQueue, job_queue
from app.api.graphql.types.relay import Connection, IdentifiedRow, Node, rows_by_ids
from app.domain.callers import Caller
from app.domain.errors import InvalidInput
from app.domain.ids import uuid_of
from app.domain.jobs import JobStatus
from app.storage import hierarchies, jobs, products
from app.storage.engine.transaction import Transaction
from app.storage.sql.keyset import KeysetWindow
from app.storage.tables import HierarchyRow, JobRow, ProductRow

MAX_IDS = 100

DIFF_COST = 1_000
"""Price of a comparison: two trees of 100,000 nodes take it half a second."""


def _rows(tx: Transaction, caller: Caller, ids: Sequence[str]) -> list[IdentifiedRow | None]:
    uuids = [uuid_of(id) for id in ids]
    rows = rows_by_ids(tx, caller, [uuid for uuid in dict.fromkeys(uuids) if uuid])
    return [rows.get(uuid) if uuid else None for uuid in uuids]


def _node(
    id: Annotated[strawberry.ID, strawberry.argument(description="ID of the object.")],
) -> Read:
    return lambda tx, caller: _rows(tx, caller, [id])[0]


def _nodes(
    ids: Annotated[list[strawberry.ID], strawberry.argument(description=f"At most {MAX_IDS} IDs.")],
) -> Read:
    if len(ids) > MAX_IDS:
        raise InvalidInput(f"ids has {len(ids)} entries; at most {MAX_IDS} are allowed.", ("ids",))
    return lambda tx, caller: _rows(tx, caller, ids)


def _id(
    root: None, id: Annotated[strawberry.ID, strawberry.argument(description="ID of the object.")]
) -> UUID | None:
    return uuid_of(id)


def _hierarchies(
    window: KeysetWindow,
    filter: Annotated[
        HierarchyFilter | None, strawberry.argument(description="Default: all hierarchies.")
    ] = UNSET,
) -> ListQuery[HierarchyRow]:
    conditions = filter.conditions() if filter else ()
    return ListQuery(
        lambda tx, store, projection: hierarchies.listing(
            tx, store, conditions, window, projection
        ),
        lambda tx, store: hierarchies.count(tx, store, conditions),
    )


def _products(
    window: KeysetWindow,
    filter: Annotated[
        ProductFilter | None, strawberry.argument(description="Default: all products.")
    ] = UNSET,
) -> ListQuery[ProductRow]:
    conditions = filter.conditions() if filter else ()
    return ListQuery(
        lambda tx, store, projection: products.listing(tx, store, conditions, window, projection),
        lambda tx, store: products.count(tx, store, conditions),
    )


def _jobs(
    window: KeysetWindow,
    filter: Annotated[
        JobFilter | None, strawberry.argument(description="Default: all jobs.")
    ] = UNSET,
    order_by: Annotated[
        JobOrder, strawberry.argument(description="Default: newest first.")
    ] = JobOrder.CREATED_AT_DESC,
) -> ListQuery[JobRow]:
    job_filter = filter.to_storage() if filter else jobs.JobFilter()
    ascending = order_by is JobOrder.CREATED_AT_ASC
    return ListQuery(
        lambda tx, store, projection: jobs.listing(
            tx, store, job_filter, ascending, window, projection
        ),
        lambda tx, store: jobs.count(tx, store, job_filter),
    )


def _queued_jobs(window: KeysetWindow) -> ListQuery[JobRow]:
    pending = jobs.JobFilter(status=[JobStatus.PENDING])
    return ListQuery(
        lambda tx, store, projection: jobs.queued(tx, store, window, projection),
        lambda tx, store: jobs.count(tx, store, pending),
    )


@strawberry.type(
    description="Read operations. A store sees its own data and the data of the organization "
    "above all stores."
)
class Query:
    node: Node | None = query(_node, "An object by ID; null if unknown.")
    nodes: list[Node | None] = query(
        _nodes, "Objects by ID, in the order of `ids`; null for unknown IDs."
    )
    hierarchy: Hierarchy | None = relation(
        hierarchies.by_ids, _id, "A hierarchy by ID; null if unknown.", projected=True
    )
    hierarchies: Connection[Hierarchy] = listing(
        HIERARCHIES,
        _hierarchies,
        "Hierarchies of the store and of the organization, newest first.",
    )
    product: Product | None = relation(
        products.by_ids, _id, "A product by ID; null if unknown.", projected=True
    )
    products: Connection[Product] = listing(
        PRODUCTS, _products, "Products of the store and of the organization, by SKU."
    )
    job: Job | None = relation(jobs.by_ids, _id, "A job by ID; null if unknown.", projected=True)
    jobs: Connection[Job] = listing(JOBS, _jobs, "Jobs of the store.")
    queued_jobs: Connection[Job] = listing(
        QUEUED, _queued_jobs, "PENDING jobs of the store, in the order in which they will run."
    )
    job_queue: JobQueue = query(lambda: job_queue, "Current state of the store's queue.")
    duplication_preview: DuplicationPreview | None = query(
        duplication_preview,
        "Forecast of a duplication; nothing is written. Null if there is no such hierarchy.",
    )
    duplication_diff: DuplicationDiff | None = reference_field(
        duplication_diff,
        "Current differences between the source of a duplication and its copy. Null unless the "
        "job is a successful duplication and both hierarchies still exist.",
        "Compares two complete trees, on a scan thread.",
        cost=DIFF_COST,
    )
