"""What differs between the source of a duplication and its copy."""

from typing import Annotated, Any

import strawberry

from app.api.graphql.context import Info
from app.api.graphql.fields.declarations import expression
from app.api.graphql.scalars import describe
from app.api.graphql.types.hierarchies import Hierarchy
from app.api.graphql.types.nodes import TreeItem
from app.domain.differences import DifferenceAspect, DifferenceKind
from app.domain.ids import uuid_of
from app.storage import differences
from app.storage.differences import Differences

MAX_DIFFERENCES = 100
"""Differences that are told of one by one."""

describe(
    DifferenceKind,
    "How an item differs between a source and its copy.",
    {
        DifferenceKind.ONLY_IN_SOURCE: "The copy no longer has it, or never had: it was added to "
        "the source.",
        DifferenceKind.ONLY_IN_COPY: "The source no longer has it, or never had: it was added to "
        "the copy.",
        DifferenceKind.CHANGED: "Both have it; aspects tell what of it differs.",
    },
)
describe(
    DifferenceAspect,
    "What of an item can differ.",
    {
        DifferenceAspect.NAME: "Its default name.",
        DifferenceAspect.SLUG: "Its slug.",
        DifferenceAspect.DESCRIPTION: "Its default description.",
        DifferenceAspect.LOCALIZATIONS: "Its translations.",
        DifferenceAspect.SORT_ORDER: "Its sortOrder.",
        DifferenceAspect.PARENT: "What it hangs below.",
        DifferenceAspect.PRODUCTS: "Which products it has; compared where products were copied.",
        DifferenceAspect.CURATION: "Which of its products are curated, and in which order; "
        "likewise.",
    },
)


@strawberry.type(description="An item of a tree that differs between a source and its copy.")
class DuplicationDifference:
    kind: DifferenceKind = strawberry.field(description="How it differs.")
    aspects: list[DifferenceAspect] = strawberry.field(
        description="What of it differs; empty unless it is CHANGED."
    )
    path: list[str] = strawberry.field(
        description="The default names from the root down to it, both included; in the source, "
        "where it is there."
    )
    item: TreeItem = strawberry.field(
        description="The item itself; the source's, where it is there."
    )


def _count(kind: DifferenceKind, description: str) -> Any:
    return expression(lambda found: found.counts.get(kind, 0), description)


@strawberry.type(
    description="What differs now between the source of a duplication and its copy, by the edits "
    "of either since."
)
class DuplicationDiff:
    source: Hierarchy = strawberry.field(description="The hierarchy that was copied.")
    copy: Hierarchy = strawberry.field(description="The copy.")
    only_in_source: int = _count(
        DifferenceKind.ONLY_IN_SOURCE, "How many nodes only the source has."
    )
    only_in_copy: int = _count(DifferenceKind.ONLY_IN_COPY, "How many nodes only the copy has.")
    changed: int = _count(
        DifferenceKind.CHANGED,
        "How many items, the root among them, both have and differ in. A duplication under "
        "another name has a root that differs.",
    )
    differences: list[DuplicationDifference] = expression(
        lambda found: found.first,
        f"The first {MAX_DIFFERENCES} of all these: the root, then nodes by age.",
    )

    @classmethod
    def is_type_of(cls, row: Any, _info: Any) -> bool:
        """Whether a row is one of these."""
        return isinstance(row, Differences)


async def duplication_diff(
    info: Info,
    job_id: Annotated[strawberry.ID, strawberry.argument(description="The job that copied.")],
) -> Any:
    """Resolves Query.duplicationDiff. Both trees are read as wholes, so it is a scan."""
    uuid = uuid_of(job_id)
    if uuid is None:
        return None
    return await info.context.database.scan(
        differences.of_duplication, info.context.store, uuid, MAX_DIFFERENCES
    )
