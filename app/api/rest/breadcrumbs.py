"""Breadcrumbs: the path from a root to a node. Source: domain.md, "REST endpoints and statuses"."""

from collections.abc import Sequence
from uuid import UUID

from app.api.http.refusals import BadRequest
from app.api.rest.models import ResponseModel, optional_field
from app.domain.answers import AnswerTooLarge
from app.storage import ancestors
from app.storage.ancestors import Ancestor
from app.storage.engine.transaction import Transaction
from app.storage.nodes import TreeNode

MAX_CHARACTERS = 1024 * 1024
"""Approximate length of the breadcrumbs in one response.

100 nodes at depth 100 whose ancestors have 100 translations would have 10,000 times 100 names."""

_CHARACTERS_OF_KEYS = 80
"""Characters of a breadcrumb without its texts."""

_CHARACTERS_OF_TRANSLATION = 20
"""Characters of a translated name without its text."""


class Breadcrumb(ResponseModel):
    """The root or a node on the path to an object."""

    id: UUID
    name: str
    slug: str = optional_field()
    locales: dict[str, dict[str, str]] = optional_field(
        description="Translated names by language tag. Absent in all breadcrumbs of a node if they "
        f"would have more than {MAX_CHARACTERS:,} characters together."
    )


class BreadcrumbsTooLong(BadRequest):
    """A page whose breadcrumbs would have more than MAX_CHARACTERS."""

    def __init__(self) -> None:
        super().__init__(
            f"page[limit]: the breadcrumbs of these nodes have more than {MAX_CHARACTERS:,} "
            "characters; request fewer nodes per page."
        )


def breadcrumb(ancestor: Ancestor) -> Breadcrumb:
    """Build the breadcrumb of a root or a node."""
    values: dict[str, object] = {"id": ancestor.id, "name": ancestor.name}
    if ancestor.slug is not None:
        values["slug"] = ancestor.slug
    if ancestor.names:
        values["locales"] = {locale: {"name": name} for locale, name in ancestor.names.items()}
    return Breadcrumb.model_validate(values)


def breadcrumbs_of(tx: Transaction, rows: Sequence[TreeNode]) -> list[list[Breadcrumb]]:
    """Build the breadcrumbs of each node, without translations if those of one are too long.

    Raises BreadcrumbsTooLong, PathsTooLong and TextsTooLong for several nodes.
    """
    try:
        return _breadcrumbs(tx, rows, names=True)
    except (AnswerTooLarge, BreadcrumbsTooLong):
        if len(rows) > 1:
            raise
        return _breadcrumbs(tx, rows, names=False)


def _breadcrumbs(
    tx: Transaction, rows: Sequence[TreeNode], *, names: bool
) -> list[list[Breadcrumb]]:
    paths = ancestors.of_rows(tx, rows, names=names)
    unique = {ancestor.id: ancestor for path in paths.values() for ancestor in path}
    lengths = {id: _length(ancestor) for id, ancestor in unique.items()}
    characters = sum(lengths[ancestor.id] for path in paths.values() for ancestor in path)
    if characters > MAX_CHARACTERS and (names or len(rows) > 1):
        raise BreadcrumbsTooLong
    built = {id: breadcrumb(ancestor) for id, ancestor in unique.items()}
    return [[built[ancestor.id] for ancestor in paths[row.key]] for row in rows]


def _length(ancestor: Ancestor) -> int:
    """Return the approximate number of characters of a breadcrumb."""
    names = sum(len(name) + _CHARACTERS_OF_TRANSLATION for name in ancestor.names.values())
    return _CHARACTERS_OF_KEYS + len(ancestor.name) + len(ancestor.slug or "") + names
