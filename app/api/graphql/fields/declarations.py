"""How fields are read, declared beside the types that have them.

A field is an attribute of its row, an expression over it, a relation (one value for a key of the
row, read for all rows at once), a connection (a page for a key of the row, likewise, or of a list
of the store's), or whatever else a function of a session reads. The declaration stays with the
field, in its metadata under READ: the resolvers that are made here follow it, and so do compiled
plans (app.api.graphql.plans), which take no resolver.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from typing import Any

import strawberry
from sqlmodel import Session
from strawberry import UNSET
from strawberry.types.field import StrawberryField

from app.api.graphql.context import Info
from app.api.graphql.cursors import After, Before, Cursors, First, Last
from app.api.graphql.fields.lazy_pages import LazyPage, PositionedPage
from app.api.graphql.fields.loaders import BatchRead, current_loaders
from app.domain.callers import Caller
from app.storage.sql.keyset import KeysetPage, KeysetWindow

FIELD_SOURCE = "read"

RequiredColumns = frozenset[str] | None
"""Attributes of a row that something is computed from; None where that may be any."""

NO_COLUMNS: frozenset[str] = frozenset()

ROW_KEY = "its key"
"""Among Needs: where the row stands in its list."""


@dataclass(frozen=True)
class AttributeField:
    """A value that the row has, or what `of` finds in it, as `made` makes it."""

    name: str
    of: Callable[[Any], Any] | None = None
    made: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class ExpressionField:
    """A value computed from the row, and the field's arguments if it has any."""

    value: Callable[..., Any]
    needs: RequiredColumns
    bare: AttributeField | None = None
    """What it is where no arguments are given."""


@dataclass(frozen=True)
class RelationField:
    """A value found by a key of the row, or of the arguments; null without a key, or where nothing
    is found."""

    batch: BatchRead[Any, Any]
    key: Callable[..., Any]
    value: Callable[[Any], Any]
    needs: RequiredColumns


@dataclass(frozen=True)
class ConnectionField:
    """A page of the list that a key of the row has, and that list's length. No key, no list."""

    cursors: Cursors
    pages: BatchRead[Any, KeysetPage[Any]]
    counts: BatchRead[Any, int]
    key: Callable[[Any], Any]
    needs: RequiredColumns


@dataclass(frozen=True)
class ListQuery:
    """The part of a store's list that is asked for: by which conditions, in which order."""

    window: KeysetWindow
    filter: tuple[Any, ...] = ()
    order: tuple[Any, ...] = ()


@dataclass(frozen=True)
class ListingField:
    """A page of one of the store's lists, and that list's length."""

    cursors: Cursors
    page: Callable[..., KeysetPage[Any]]
    count: Callable[..., int]
    asked: Callable[..., ListQuery]


@dataclass(frozen=True)
class PageField:
    """What a connection tells of its page."""

    value: Callable[[PositionedPage], Any]


@dataclass(frozen=True)
class CountField:
    """How many rows a connection's whole list has."""


@dataclass(frozen=True)
class QueryField:
    """What a function of a session finds for a caller: one that the arguments ask for."""

    reads: Callable[..., Callable[[Session, Caller], Any]]


@dataclass(frozen=True)
class MutationField:
    """What a mutation does; its payload is then read like anything else."""

    makes: Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class ReferenceField:
    """What compiled plans leave to the ordinary executor, and why."""

    reason: str


FieldSource = (
    AttributeField
    | ExpressionField
    | RelationField
    | ConnectionField
    | ListingField
    | PageField
    | CountField
    | QueryField
    | MutationField
    | ReferenceField
)


def source_of(field: StrawberryField) -> FieldSource:
    """How a field is read: where it does not say, it is the attribute of its name."""
    declared: FieldSource | None = field.metadata.get(FIELD_SOURCE)
    if declared is not None:
        return declared
    if field.base_resolver is not None:
        raise TypeError(f"{field.name} has a resolver of its own and does not say how it is read")
    return AttributeField(field.python_name)


def attribute(
    name: str,
    description: str,
    *,
    of: Callable[[Any], Any] | None = None,
    made: Callable[[Any], Any] | None = None,
) -> Any:
    """A field that its row, or what `of` finds in it, has as an attribute; `made` makes of its
    value what GraphQL takes."""

    def resolve(root: Any) -> Any:
        value = getattr(of(root) if of else root, name)
        return made(value) if made else value

    return _field(resolve, description, AttributeField(name, of, made))


def expression(
    value: Callable[..., Any],
    description: str,
    needs: RequiredColumns = None,
    bare: AttributeField | None = None,
) -> Any:
    """A field computed from its row, and from its arguments where `value` has any; without them it
    is `bare`, if there is such an attribute."""

    def resolve(root: Any) -> Any:
        return value(root)

    resolver = value if len(signature(value).parameters) > 1 else resolve
    return _field(resolver, description, ExpressionField(value, needs, bare))


def relation(
    batch: BatchRead[Any, Any],
    key: Callable[..., Any],
    description: str,
    value: Callable[[Any], Any] = lambda found: found,
    needs: RequiredColumns = None,
) -> Any:
    """A field read by a key of its row, or of its arguments: `value` of what is found."""

    async def resolve(root: Any, **arguments: Any) -> Any:
        by = key(root, **arguments)
        found = None if by is None else await current_loaders.get().load(batch, by)
        return None if found is None else value(found)

    async def resolve_row(root: Any) -> Any:
        return await resolve(root)

    resolver = wraps(key)(resolve) if len(signature(key).parameters) > 1 else resolve_row
    return _field(resolver, description, RelationField(batch, key, value, needs))


def connection(
    cursors: Cursors,
    pages: BatchRead[Any, KeysetPage[Any]],
    counts: BatchRead[Any, int],
    key: Callable[[Any], Any],
    description: str,
    needs: RequiredColumns = None,
    type: Any = None,
) -> Any:
    """A field that is a page of the list its row has; without a key, of an empty one."""

    def resolve(
        root: Any,
        first: First = UNSET,
        after: After = UNSET,
        last: Last = UNSET,
        before: Before = UNSET,
    ) -> Any:
        by = key(root)
        window = cursors.window(first, after, last, before)
        loaders = current_loaders.get()

        async def read_page() -> KeysetPage[Any]:
            return (by and await loaders.load(pages, by, window)) or KeysetPage()

        async def read_count() -> int:
            return (by and await loaders.load(counts, by)) or 0

        return LazyPage(cursors, read_page, read_count)

    return _field(resolve, description, ConnectionField(cursors, pages, counts, key, needs), type)


def listing(
    cursors: Cursors,
    page: Callable[..., KeysetPage[Any]],
    count: Callable[..., int],
    asked: Callable[..., ListQuery],
    description: str,
) -> Any:
    """A field that is a page of one of the store's lists."""

    @wraps(asked)
    def resolve(root: Any, **arguments: Any) -> Any:
        wanted, loaders = asked(root, **arguments), current_loaders.get()
        store = loaders.caller.store
        return LazyPage(
            cursors,
            lambda: loaders.read(page, store, *wanted.filter, *wanted.order, wanted.window),
            lambda: loaders.read(count, store, *wanted.filter),
        )

    return _field(resolve, description, ListingField(cursors, page, count, asked))


def page_field(value: Callable[[PositionedPage], Any], description: str) -> Any:
    """A field of a connection, told by its page."""

    async def resolve(root: LazyPage) -> Any:
        return value(await root.page())

    return _field(resolve, description, PageField(value))


def count_field(description: str) -> Any:
    """The field of a connection that counts its list."""

    async def resolve(root: LazyPage) -> Any:
        return await root.count()

    return _field(resolve, description, CountField())


def query(reads: Callable[..., Callable[[Session, Caller], Any]], description: str) -> Any:
    """A field that a function of a session reads, which `reads` gives for the arguments."""

    @wraps(reads)
    async def resolve(root: Any, **arguments: Any) -> Any:
        loaders = current_loaders.get()
        return await loaders.read(reads(root, **arguments), loaders.caller)

    return _field(resolve, description, QueryField(reads))


def mutation(makes: Callable[..., Awaitable[Any]], description: str) -> Any:
    """A field that changes something. Where a plan has done so and gave up on telling of it, the
    ordinary executor tells of that."""

    @wraps(makes)
    async def resolve(info: Info, **arguments: Any) -> Any:
        done, name = info.context.done, str(info.path.key)
        if name not in done:
            return await makes(info=info, **arguments)
        made = done.pop(name)
        if isinstance(made, Exception):
            raise made
        return made

    return _field(resolve, description, MutationField(makes))


def reference_field(resolver: Callable[..., Any], description: str, reason: str) -> Any:
    """A field that is resolved by the ordinary executor alone."""
    return _field(resolver, description, ReferenceField(reason))


def _field(
    resolver: Callable[..., Any], description: str, source: FieldSource, type: Any = None
) -> Any:
    return strawberry.field(
        resolver=resolver,
        description=description,
        metadata={FIELD_SOURCE: source},
        graphql_type=type,
    )
