"""Everything that can be asked. Resolvers return rows; the types resolve their fields from them."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import strawberry
from sqlmodel import Session
from strawberry import UNSET

from app.api.graphql.cursors import After, Before, First, Last
from app.api.graphql.fields.declarations import ListQuery, listing, query, reference_field, relation
from app.api.graphql.types.differences import DuplicationDiff, duplication_diff
from app.api.graphql.types.hierarchies import HIERARCHIES, Hierarchy, HierarchyFilter
from app.api.graphql.types.jobs import JOBS, QUEUED, Job, JobFilter
from app.api.graphql.types.products import PRODUCTS, Product, ProductFilter
from app.api.graphql.types.queue import JobQueue, job_queue
from app.api.graphql.types.relay import Connection, Node
from app.domain.callers import Caller, Scope
from app.domain.errors import InvalidInput
from app.domain.ids import uuid_of
from app.domain.jobs import JobStatus
from app.storage import hierarchies, job_errors, jobs, lanes, nodes, products
from app.storage import jobs as stored_jobs
from app.storage.jobs import JobFilter as StoredJobFilter

MAX_IDS = 100


@strawberry.enum(description="The order of a list of jobs.")
class JobOrder(Enum):
    CREATED_AT_DESC = strawberry.enum_value("desc", description="Newest first.")
    CREATED_AT_ASC = strawberry.enum_value("asc", description="Oldest first.")


@strawberry.type(description="What a duplication would do; nothing is written.")
class DuplicationPreview:
    node_count: int = strawberry.field(description="Nodes it would copy, without the root.")
    product_association_count: int = strawberry.field(
        description="Product associations it would copy; 0 unless includeProducts."
    )
    queue_position: int = strawberry.field(
        description="Where its job would stand now; 1 = next to start."
    )
    estimated_seconds: float | None = strawberry.field(
        description="Seconds it should run, by the pace of the store's latest jobs; null while "
        "nothing has shown the pace yet."
    )


def _found(session: Session, caller: Caller, ids: Sequence[str]) -> list[Any]:
    wanted = [uuid_of(id) for id in ids]
    found = find(session, caller, [id for id in dict.fromkeys(wanted) if id])
    return [id and found.get(id) for id in wanted]


def _node(
    root: Any,
    id: Annotated[strawberry.ID, strawberry.argument(description="The id of anything.")],
) -> Any:
    return lambda session, caller: _found(session, caller, [id])[0]


def _nodes(
    root: Any,
    ids: Annotated[list[strawberry.ID], strawberry.argument(description=f"At most {MAX_IDS} ids.")],
) -> Any:
    if len(ids) > MAX_IDS:
        raise InvalidInput(f"ids has {len(ids)} entries; at most {MAX_IDS} are allowed.", ("ids",))
    return lambda session, caller: _found(session, caller, ids)


def _id(root: Any, id: Annotated[strawberry.ID, strawberry.argument(description="Its id.")]) -> Any:
    return uuid_of(id)


def _hierarchies(
    root: Any,
    first: First = UNSET,
    after: After = UNSET,
    last: Last = UNSET,
    before: Before = UNSET,
    filter: Annotated[
        HierarchyFilter | None, strawberry.argument(description="Which ones; all by default.")
    ] = UNSET,
) -> Any:
    window = HIERARCHIES.window(first, after, last, before)
    return ListQuery(window, (filter.stored() if filter else (),))


def _products(
    root: Any,
    first: First = UNSET,
    after: After = UNSET,
    last: Last = UNSET,
    before: Before = UNSET,
    filter: Annotated[
        ProductFilter | None, strawberry.argument(description="Which ones; all by default.")
    ] = UNSET,
) -> Any:
    window = PRODUCTS.window(first, after, last, before)
    return ListQuery(window, (filter.stored() if filter else (),))


def _jobs(
    root: Any,
    first: First = UNSET,
    after: After = UNSET,
    last: Last = UNSET,
    before: Before = UNSET,
    filter: Annotated[
        JobFilter | None, strawberry.argument(description="Which ones; all by default.")
    ] = UNSET,
    order_by: Annotated[
        JobOrder, strawberry.argument(description="Newest first by default.")
    ] = JobOrder.CREATED_AT_DESC,
) -> Any:
    window = JOBS.window(first, after, last, before)
    wanted = filter.stored() if filter else StoredJobFilter()
    return ListQuery(window, (wanted,), (order_by is JobOrder.CREATED_AT_ASC,))


def _queued_jobs(
    root: Any,
    first: First = UNSET,
    after: After = UNSET,
    last: Last = UNSET,
    before: Before = UNSET,
) -> Any:
    return ListQuery(QUEUED.window(first, after, last, before))


def _queued_count(session: Session, store: str) -> int:
    return jobs.count(session, store, StoredJobFilter(status=[JobStatus.PENDING]))


def _duplication_preview(
    root: Any,
    hierarchy_id: Annotated[
        strawberry.ID, strawberry.argument(description="The hierarchy to copy.")
    ],
    include_products: Annotated[
        bool,
        strawberry.argument(description="Whether products would be copied too; default false."),
    ] = False,
) -> Any:
    def previewed(session: Session, caller: Caller) -> DuplicationPreview | None:
        id = uuid_of(hierarchy_id)
        source = hierarchies.by_id(session, caller.store, id) if id else None
        if source is None:
            return None
        queue = lanes.queue(session, caller.store)
        associations = source.association_count if include_products else 0
        return DuplicationPreview(
            node_count=source.node_count,
            product_association_count=associations,
            queue_position=queue.pending + 1,
            estimated_seconds=queue.pace.seconds_for(source.node_count + associations),
        )

    return previewed


@strawberry.type(
    description="Everything that can be asked. A store sees its own, and what belongs to the "
    "organization above all stores."
)
class Query:
    node: Node | None = query(_node, "Anything by its id; null when there is no such thing.")
    nodes: list[Node | None] = query(
        _nodes,
        "Several things by their ids, in the order asked; null where there is none.",
    )
    hierarchy: Hierarchy | None = relation(
        hierarchies.by_ids, _id, "A hierarchy by its id; null when there is no such hierarchy."
    )
    hierarchies: Connection[Hierarchy] = listing(
        HIERARCHIES,
        hierarchies.listing,
        hierarchies.count,
        _hierarchies,
        "The store's hierarchies and the organization's, newest first.",
    )
    product: Product | None = relation(
        products.by_ids, _id, "A product by its id; null when there is no such product."
    )
    products: Connection[Product] = listing(
        PRODUCTS,
        products.listing,
        products.count,
        _products,
        "The store's products and the organization's, by sku.",
    )
    job: Job | None = relation(jobs.by_ids, _id, "A job by its id; null when there is no such job.")
    jobs: Connection[Job] = listing(JOBS, jobs.listing, jobs.count, _jobs, "The store's jobs.")
    queued_jobs: Connection[Job] = listing(
        QUEUED,
        stored_jobs.queued,
        _queued_count,
        _queued_jobs,
        "The store's PENDING jobs, in the order in which they will run.",
    )
    job_queue: JobQueue = query(lambda root: job_queue, "The store's queue as it stands.")
    duplication_preview: DuplicationPreview | None = query(
        _duplication_preview,
        "What duplicating a hierarchy would do; writes nothing. Null when there is no "
        "such hierarchy.",
    )
    duplication_diff: DuplicationDiff | None = reference_field(
        duplication_diff,
        "What differs now between the source of a duplication and its copy. Null "
        "unless the job is a duplication that succeeded, and both hierarchies are still there.",
        "Two whole trees are compared, on a thread for such reads.",
    )


_KINDS: tuple[tuple[Scope, Callable[[Session, str, Sequence[UUID]], Mapping[UUID, Any]]], ...] = (
    (Scope.HIERARCHIES_READ, hierarchies.by_ids),
    (Scope.HIERARCHIES_READ, nodes.by_ids),
    (Scope.JOBS_READ, jobs.by_ids),
    (Scope.HIERARCHIES_READ, products.by_ids),
    (Scope.JOBS_READ, job_errors.by_ids),
)


def find(session: Session, caller: Caller, ids: Sequence[UUID]) -> dict[UUID, Any]:
    """The row of each id that the caller may see, of whatever kind, in one statement a kind."""
    found: dict[UUID, Any] = {}
    for scope, by_ids in _KINDS:
        missing = [id for id in ids if id not in found]
        if missing and scope in caller.scopes:
            found |= by_ids(session, caller.store, missing)
    return found
