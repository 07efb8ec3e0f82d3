"""Duplications of hierarchies: arguments, result and preview."""

from typing import Annotated

import strawberry

from app.api.graphql.fields.attribute import attribute
from app.api.graphql.fields.expression import expression
from app.api.graphql.fields.query import Read
from app.api.graphql.fields.relation import relation
from app.api.graphql.types.hierarchies import Hierarchy
from app.domain.callers import Caller
from app.domain.ids import uuid_of
from app.domain.job_types.hierarchy_duplicate import Duplication as Arguments
from app.storage import hierarchies, jobs, lanes
from app.storage.engine.transaction import Transaction
from app.storage.tables import JobRow

_ARGS = frozenset({"args"})


def _args(job: JobRow) -> Arguments:
    return jobs.args_of(job, Arguments)


@strawberry.type(description="Arguments and result of a HIERARCHY_DUPLICATE job.")
class Duplication:
    source_id: strawberry.ID = attribute("subject_id", "ID of the hierarchy to copy.", convert=str)
    source: Hierarchy | None = relation(
        hierarchies.by_ids,
        lambda job: job.subject_id,
        "The hierarchy to copy, in its current state; null once deleted.",
        requires=frozenset({"subject_id"}),
        projected=True,
    )
    name: str | None = expression(
        lambda job: _args(job).name,
        "Requested name of the copy; null keeps the source's.",
        _ARGS,
    )
    description: str | None = expression(
        lambda job: _args(job).description,
        "Requested description of the copy; null keeps the source's, an empty one clears it.",
        _ARGS,
    )
    include_products: bool = expression(
        lambda job: _args(job).include_products,
        "True if product associations and their curation are copied too.",
        _ARGS,
    )
    result: Hierarchy | None = relation(
        hierarchies.by_ids,
        lambda job: job.result_id,
        "The copy; null until SUCCESS, and once deleted.",
        requires=frozenset({"result_id"}),
        projected=True,
    )


@strawberry.type(description="Forecast of a duplication.")
class DuplicationPreview:
    node_count: int = strawberry.field(
        description="Number of nodes it would copy, without the root."
    )
    product_association_count: int = strawberry.field(
        description="Number of product associations it would copy; 0 unless includeProducts."
    )
    queue_position: int = strawberry.field(
        description="Queue position its job would get now; 1 = next to start."
    )
    estimated_seconds: float | None = strawberry.field(
        description="Estimated run time in seconds, from the pace of the store's latest jobs; "
        "null until the pace is known."
    )


def duplication_preview(
    hierarchy_id: Annotated[
        strawberry.ID, strawberry.argument(description="ID of the hierarchy to copy.")
    ],
    include_products: Annotated[
        bool,
        strawberry.argument(description="True to copy products too. Default: false."),
    ] = False,
) -> Read:
    """Return the reader of Query.duplicationPreview."""

    def read(tx: Transaction, caller: Caller) -> DuplicationPreview | None:
        id = uuid_of(hierarchy_id)
        source = hierarchies.by_id(tx, caller.store, id) if id else None
        if source is None:
            return None
        queue = lanes.queue_state(tx, caller.store)
        associations = source.association_count if include_products else 0
        return DuplicationPreview(
            node_count=source.node_count,
            product_association_count=associations,
            queue_position=queue.pending + 1,
            estimated_seconds=queue.pace.seconds_for(source.node_count + associations),
        )

    return read
