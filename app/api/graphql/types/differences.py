"""Differences between the source of a duplication and its copy."""

from typing import Annotated

import strawberry

from app.api.graphql.context import Info
from app.api.graphql.fields.expression import expression
from app.api.graphql.fields.loaders import current_loaders
from app.api.graphql.fields.source import Declared
from app.api.graphql.scalars import describe_enum
from app.api.graphql.types.hierarchies import Hierarchy
from app.api.graphql.types.tree_items import TreeItem
from app.domain.differences import DifferenceAspect, DifferenceKind
from app.domain.ids import uuid_of
from app.storage import differences
from app.storage.differences import Differences

MAX_DIFFERENCES = 100
"""Maximum number of differences in one response; the counts cover all of them."""

describe_enum(
    DifferenceKind,
    "Kind of a difference between a source and its copy.",
    {
        DifferenceKind.ONLY_IN_SOURCE: "Only the source has the item: it was added to the source "
        "or deleted from the copy.",
        DifferenceKind.ONLY_IN_COPY: "Only the copy has the item: it was added to the copy or "
        "deleted from the source.",
        DifferenceKind.CHANGED: "Both have the item; `aspects` lists its differences.",
    },
)
describe_enum(
    DifferenceAspect,
    "Aspect in which an item differs.",
    {
        DifferenceAspect.NAME: "Default name.",
        DifferenceAspect.SLUG: "Slug.",
        DifferenceAspect.DESCRIPTION: "Default description.",
        DifferenceAspect.LOCALIZATIONS: "Translations.",
        DifferenceAspect.ADMIN_ATTRIBUTES: "adminAttributes.",
        DifferenceAspect.SHOPPER_ATTRIBUTES: "shopperAttributes.",
        DifferenceAspect.SORT_ORDER: "sortOrder.",
        DifferenceAspect.PARENT: "Parent.",
        DifferenceAspect.PRODUCTS: "Associated products; compared only if products were copied.",
        DifferenceAspect.CURATION: "Curated products and their order; compared only if products "
        "were copied.",
    },
)


@strawberry.type(description="An item of a tree that differs between a source and its copy.")
class DuplicationDifference:
    kind: DifferenceKind = strawberry.field(description="Kind of the difference.")
    aspects: list[DifferenceAspect] = strawberry.field(
        description="Aspects that differ; empty unless the kind is CHANGED."
    )
    path: list[str] = strawberry.field(
        description="Default names from the root to the item, both included; in the source, if it "
        "has the item."
    )
    item: TreeItem = strawberry.field(description="The item; the source's, if it has the item.")


def _count(kind: DifferenceKind, description: str) -> Declared:
    return expression(lambda differences: differences.counts.get(kind, 0), description)


@strawberry.type(
    description="Current differences between the source of a duplication and its copy: edits "
    "made since, and attributes that the request changed."
)
class DuplicationDiff:
    source: Hierarchy = strawberry.field(description="The hierarchy that was copied.")
    copy: Hierarchy = strawberry.field(description="The copy.")
    only_in_source: int = _count(
        DifferenceKind.ONLY_IN_SOURCE, "Number of nodes that only the source has."
    )
    only_in_copy: int = _count(
        DifferenceKind.ONLY_IN_COPY, "Number of nodes that only the copy has."
    )
    changed: int = _count(
        DifferenceKind.CHANGED,
        "Number of items, root included, that both have and that differ. The root differs if the "
        "copy was requested with another name.",
    )
    differences: list[DuplicationDifference] = expression(
        lambda differences: differences.first,
        f"The first {MAX_DIFFERENCES} differences: the root, then nodes, oldest first.",
        length=MAX_DIFFERENCES,
    )

    @classmethod
    def is_type_of(cls, row: object, _info: object) -> bool:
        return isinstance(row, Differences)


async def duplication_diff(
    info: Info,
    job_id: Annotated[strawberry.ID, strawberry.argument(description="ID of the duplication job.")],
) -> Differences | None:
    """Resolve Query.duplicationDiff as a scan, because it reads both trees completely."""
    uuid = uuid_of(job_id)
    if uuid is None:
        return None
    return await current_loaders.get().scan(
        differences.of_duplication, info.context.store, uuid, MAX_DIFFERENCES
    )
