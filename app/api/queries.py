"""Everything that can be asked. Resolvers return rows; the types resolve their fields from them."""

from enum import Enum
from typing import Annotated, Any

import strawberry
from strawberry import UNSET

from app.api.connections import After, Before, Connection, First, Last, Slice
from app.api.context import Info
from app.api.differences import DuplicationDiff, duplication_diff
from app.api.hierarchies import HIERARCHIES, Hierarchy, HierarchyFilter
from app.api.jobs import JOBS, QUEUED, Job, JobFilter, JobQueue, job_queue
from app.api.loaders import current
from app.api.node import Node, find
from app.api.products import PRODUCTS, Product, ProductFilter
from app.domain.errors import InvalidInput
from app.domain.ids import uuid_of
from app.domain.jobs import JobStatus
from app.storage import hierarchies, jobs, lanes, products, tables
from app.storage.jobs import JobFilter as StoredJobFilter

MOST_IDS = 100


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


async def _found(info: Info, ids: list[strawberry.ID]) -> list[Any]:
    wanted = [uuid_of(id) for id in ids]
    found = await current.get().read(
        find, info.context.caller, [id for id in dict.fromkeys(wanted) if id]
    )
    return [id and found.get(id) for id in wanted]


async def _node(
    info: Info,
    id: Annotated[strawberry.ID, strawberry.argument(description="The id of anything.")],
) -> Any:
    return (await _found(info, [id]))[0]


async def _nodes(
    info: Info,
    ids: Annotated[
        list[strawberry.ID], strawberry.argument(description=f"At most {MOST_IDS} ids.")
    ],
) -> Any:
    if len(ids) > MOST_IDS:
        raise InvalidInput(f"ids has {len(ids)} entries; at most {MOST_IDS} are allowed.", ("ids",))
    return await _found(info, ids)


async def _hierarchy_of(id: str) -> tables.Hierarchy | None:
    uuid = uuid_of(id)
    return None if uuid is None else await current.get().load(hierarchies.by_ids, uuid)


async def _hierarchy(
    id: Annotated[strawberry.ID, strawberry.argument(description="Its id.")],
) -> Any:
    return await _hierarchy_of(id)


def _hierarchies(
    info: Info,
    first: First = UNSET,
    after: After = UNSET,
    last: Last = UNSET,
    before: Before = UNSET,
    filter: Annotated[
        HierarchyFilter | None, strawberry.argument(description="Which ones; all by default.")
    ] = UNSET,
) -> Any:
    loaders, store = current.get(), info.context.store
    window = HIERARCHIES.window(first, after, last, before)
    wanted = filter.stored() if filter else ()
    return Slice(
        HIERARCHIES,
        lambda: loaders.read(hierarchies.listing, store, wanted, window),
        lambda: loaders.read(hierarchies.count, store, wanted),
    )


async def _product(
    id: Annotated[strawberry.ID, strawberry.argument(description="Its id.")],
) -> Any:
    uuid = uuid_of(id)
    return None if uuid is None else await current.get().load(products.by_ids, uuid)


def _products(
    info: Info,
    first: First = UNSET,
    after: After = UNSET,
    last: Last = UNSET,
    before: Before = UNSET,
    filter: Annotated[
        ProductFilter | None, strawberry.argument(description="Which ones; all by default.")
    ] = UNSET,
) -> Any:
    loaders, store = current.get(), info.context.store
    window = PRODUCTS.window(first, after, last, before)
    wanted = filter.stored() if filter else ()
    return Slice(
        PRODUCTS,
        lambda: loaders.read(products.listing, store, wanted, window),
        lambda: loaders.read(products.count, store, wanted),
    )


async def _job(id: Annotated[strawberry.ID, strawberry.argument(description="Its id.")]) -> Any:
    uuid = uuid_of(id)
    return None if uuid is None else await current.get().load(jobs.by_ids, uuid)


def _jobs(
    info: Info,
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
    loaders, store = current.get(), info.context.store
    window = JOBS.window(first, after, last, before)
    wanted = filter.stored() if filter else StoredJobFilter()
    ascending = order_by is JobOrder.CREATED_AT_ASC
    return Slice(
        JOBS,
        lambda: loaders.read(jobs.listing, store, wanted, ascending, window),
        lambda: loaders.read(jobs.count, store, wanted),
    )


def _queued_jobs(
    info: Info,
    first: First = UNSET,
    after: After = UNSET,
    last: Last = UNSET,
    before: Before = UNSET,
) -> Any:
    loaders, store = current.get(), info.context.store
    window = QUEUED.window(first, after, last, before)
    return Slice(
        QUEUED,
        lambda: loaders.read(jobs.queued, store, window),
        lambda: loaders.read(jobs.count, store, StoredJobFilter(status=[JobStatus.PENDING])),
    )


async def _duplication_preview(
    info: Info,
    hierarchy_id: Annotated[
        strawberry.ID, strawberry.argument(description="The hierarchy to copy.")
    ],
    include_products: Annotated[
        bool,
        strawberry.argument(description="Whether products would be copied too; default false."),
    ] = False,
) -> Any:
    source = await _hierarchy_of(hierarchy_id)
    if source is None:
        return None
    queue = await current.get().read(lanes.queue, info.context.store)
    associations = source.association_count if include_products else 0
    return DuplicationPreview(
        node_count=source.node_count,
        product_association_count=associations,
        queue_position=queue.pending + 1,
        estimated_seconds=queue.outlook.pace.seconds_for(source.node_count + associations),
    )


@strawberry.type(
    description="Everything that can be asked. A store sees its own, and what belongs to the "
    "organization above all stores."
)
class Query:
    node: Node | None = strawberry.field(
        resolver=_node, description="Anything by its id; null when there is no such thing."
    )
    nodes: list[Node | None] = strawberry.field(
        resolver=_nodes,
        description="Several things by their ids, in the order asked; null where there is none.",
    )
    hierarchy: Hierarchy | None = strawberry.field(
        resolver=_hierarchy,
        description="A hierarchy by its id; null when there is no such hierarchy.",
    )
    hierarchies: Connection[Hierarchy] = strawberry.field(
        resolver=_hierarchies,
        description="The store's hierarchies and the organization's, newest first.",
    )
    product: Product | None = strawberry.field(
        resolver=_product, description="A product by its id; null when there is no such product."
    )
    products: Connection[Product] = strawberry.field(
        resolver=_products,
        description="The store's products and the organization's, by sku.",
    )
    job: Job | None = strawberry.field(
        resolver=_job, description="A job by its id; null when there is no such job."
    )
    jobs: Connection[Job] = strawberry.field(resolver=_jobs, description="The store's jobs.")
    queued_jobs: Connection[Job] = strawberry.field(
        resolver=_queued_jobs,
        description="The store's PENDING jobs, in the order in which they will run.",
    )
    job_queue: JobQueue = strawberry.field(
        resolver=job_queue, description="The store's queue as it stands."
    )
    duplication_preview: DuplicationPreview | None = strawberry.field(
        resolver=_duplication_preview,
        description="What duplicating a hierarchy would do; writes nothing. Null when there is no "
        "such hierarchy.",
    )
    duplication_diff: DuplicationDiff | None = strawberry.field(
        resolver=duplication_diff,
        description="What differs now between the source of a duplication and its copy. Null "
        "unless the job is a duplication that succeeded, and both hierarchies are still there.",
    )
