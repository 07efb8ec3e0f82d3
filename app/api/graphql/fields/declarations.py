"""Field declarations: the source of each field's value.

A field is an attribute of its row, an expression over it, a relation (one value per key of the row,
read for all rows at once), a connection (a page per key of the row, read in the same way), a
listing (a page of one of the store's lists), or the result of a query or a mutation. The
declaration is in the field's metadata under FIELD_SOURCE. The resolvers built here follow it, and
so do compiled plans (app.api.graphql.plans), which call no resolver.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from inspect import Signature, signature
from typing import Any, TypeVar

import strawberry
from strawberry.types.field import StrawberryField

from app.api.graphql.context import Info
from app.api.graphql.cursors import Cursors
from app.api.graphql.fields.lazy_pages import LazyPage, PositionedPage
from app.api.graphql.fields.loaders import BatchRead, current_loaders
from app.api.graphql.strawberry_seam import has_resolver
from app.domain.callers import Caller
from app.storage.engine.transaction import Transaction
from app.storage.sql.keyset import KeysetPage, KeysetWindow

ResultT = TypeVar("ResultT")

FIELD_SOURCE = "field_source"
"""Key of a field's declaration in its metadata."""

RequiredColumns = frozenset[str] | None
"""Attributes of a row that a value is computed from; None if it may be any."""

NO_COLUMNS: frozenset[str] = frozenset()

ROW_KEY = "row key"
"""Pseudo-attribute in RequiredColumns: the row's key in its list."""


@dataclass(frozen=True)
class AttributeField:
    """An attribute of the row, or of the object that `owner` returns for it."""

    name: str
    owner: Callable[[Any], Any] | None = None
    convert: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class ExpressionField:
    """A value computed from the row, and from the field's arguments if it has any."""

    value: Callable[..., Any]
    requires: RequiredColumns
    without_arguments: AttributeField | None = None
    """The same value as an attribute, used if the arguments are omitted."""


@dataclass(frozen=True)
class RelationField:
    """A value looked up by a key of the row, or of the arguments.

    Null without a key, or if the key is unknown.
    """

    batch: BatchRead[Any, Any]
    key: Callable[..., Any]
    value: Callable[[Any], Any]
    requires: RequiredColumns


@dataclass(frozen=True)
class ConnectionField:
    """A page, and the length, of a list looked up by a key of the row. Empty without a key."""

    cursors: Cursors
    pages: BatchRead[Any, KeysetPage[Any]]
    counts: BatchRead[Any, int]
    key: Callable[[Any], Any]
    requires: RequiredColumns


@dataclass(frozen=True)
class ListQuery:
    """Window, filter and order of one of a store's lists, as `ListingField.page` takes them."""

    window: KeysetWindow
    filter: tuple[Any, ...] = ()
    order: tuple[Any, ...] = ()


@dataclass(frozen=True)
class ListingField:
    """A page, and the length, of one of the store's lists. `query` parses the arguments."""

    cursors: Cursors
    page: Callable[..., KeysetPage[Any]]
    count: Callable[..., int]
    query: Callable[..., ListQuery]


@dataclass(frozen=True)
class PageField:
    """A field of a connection computed from its page."""

    value: Callable[[PositionedPage], Any]


@dataclass(frozen=True)
class CountField:
    """The length of a connection's list."""


@dataclass(frozen=True)
class QueryField:
    """The result of a read. `read_for` returns the read for the arguments."""

    read_for: Callable[..., Callable[[Transaction, Caller], Any]]


@dataclass(frozen=True)
class MutationField:
    """The payload of a mutation."""

    run: Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class ReferenceField:
    """A field that only the reference executor resolves, and the reason."""

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
    """Return a field's declaration; without one it is the attribute of its name."""
    declared: FieldSource | None = field.metadata.get(FIELD_SOURCE)
    if declared is not None:
        return declared
    if has_resolver(field):
        raise TypeError(f"{field.name} has a resolver but does not declare its source")
    return AttributeField(field.python_name)


def attribute(
    name: str,
    description: str,
    *,
    owner: Callable[[Any], Any] | None = None,
    convert: Callable[[Any], Any] | None = None,
) -> Any:
    """Declare a field that is an attribute of its row, or of the row's `owner`.

    `convert` makes a value that GraphQL serializes.
    """

    def resolve(root: Any) -> Any:
        value = getattr(owner(root) if owner else root, name)
        return convert(value) if convert else value

    return _field(resolve, description, AttributeField(name, owner, convert))


def expression(
    value: Callable[..., Any],
    description: str,
    requires: RequiredColumns = None,
    without_arguments: AttributeField | None = None,
) -> Any:
    """Declare a field computed from its row, and from its arguments if `value` has any.

    `without_arguments` is the attribute with the same value if the arguments are omitted.
    """

    def resolve(root: Any) -> Any:
        return value(root)

    resolver = value if len(signature(value).parameters) > 1 else resolve
    return _field(resolver, description, ExpressionField(value, requires, without_arguments))


def relation(
    batch: BatchRead[Any, Any],
    key: Callable[..., Any],
    description: str,
    value: Callable[[Any], Any] = lambda related: related,
    requires: RequiredColumns = None,
) -> Any:
    """Declare a field looked up by a key of its row, or of its arguments.

    `value` computes the field from the related row.
    """

    async def resolve(root: Any, **arguments: Any) -> Any:
        row_key = key(root, **arguments)
        related = None if row_key is None else await current_loaders.get().load(batch, row_key)
        return None if related is None else value(related)

    async def resolve_row(root: Any) -> Any:
        return await resolve(root)

    resolver = wraps(key)(resolve) if len(signature(key).parameters) > 1 else resolve_row
    return _field(resolver, description, RelationField(batch, key, value, requires))


def connection(
    cursors: Cursors,
    pages: BatchRead[Any, KeysetPage[Any]],
    counts: BatchRead[Any, int],
    key: Callable[[Any], Any],
    description: str,
    requires: RequiredColumns = None,
    type: Any = None,
) -> Any:
    """Declare a field that is a page of its row's list. A row without a key has an empty list."""

    def resolve(root: Any, window: KeysetWindow) -> LazyPage:
        row_key, loaders = key(root), current_loaders.get()

        async def read_page() -> KeysetPage[Any]:
            return (row_key and await loaders.load(pages, row_key, window)) or KeysetPage()

        async def read_count() -> int:
            return (row_key and await loaders.load(counts, row_key)) or 0

        return LazyPage(cursors, read_page, read_count)

    source = ConnectionField(cursors, pages, counts, key, requires)
    return _field(_windowed(cursors, resolve), description, source, type)


def listing(
    cursors: Cursors,
    page: Callable[..., KeysetPage[Any]],
    count: Callable[..., int],
    query: Callable[..., ListQuery],
    description: str,
) -> Any:
    """Declare a field that is a page of one of the store's lists.

    `query` receives the page's window and the field's other arguments.
    """
    query = _windowed(cursors, query)

    @wraps(query)
    def resolve(root: Any, **arguments: Any) -> Any:
        listed, loaders = query(root, **arguments), current_loaders.get()
        store = loaders.caller.store
        return LazyPage(
            cursors,
            lambda: loaders.read(page, store, *listed.filter, *listed.order, listed.window),
            lambda: loaders.read(count, store, *listed.filter),
        )

    return _field(resolve, description, ListingField(cursors, page, count, query))


def page_field(value: Callable[[PositionedPage], Any], description: str) -> Any:
    """Declare a field of a connection that is computed from its page."""

    async def resolve(root: LazyPage) -> Any:
        return value(await root.page())

    return _field(resolve, description, PageField(value))


def count_field(description: str) -> Any:
    """Declare the field of a connection that is its list's length."""

    async def resolve(root: LazyPage) -> Any:
        return await root.count()

    return _field(resolve, description, CountField())


def query(read_for: Callable[..., Callable[[Transaction, Caller], Any]], description: str) -> Any:
    """Declare a field that is the result of a read, which `read_for` returns for the arguments."""

    @wraps(read_for)
    async def resolve(root: Any, **arguments: Any) -> Any:
        loaders = current_loaders.get()
        return await loaders.read(read_for(root, **arguments), loaders.caller)

    return _field(resolve, description, QueryField(read_for))


def mutation(run: Callable[..., Awaitable[Any]], description: str) -> Any:
    """Declare a mutation.

    If a plan ran the mutation but could not complete its payload, the resolver reuses the recorded
    result.
    """

    @wraps(run)
    async def resolve(info: Info, **arguments: Any) -> Any:
        results, response_key = info.context.mutation_results, str(info.path.key)
        if response_key not in results:
            return await run(info=info, **arguments)
        result = results.pop(response_key)
        if isinstance(result, Exception):
            raise result
        return result

    return _field(resolve, description, MutationField(run))


def reference_field(resolver: Callable[..., Any], description: str, reason: str) -> Any:
    """Declare a field that only the reference executor resolves, for `reason`."""
    return _field(resolver, description, ReferenceField(reason))


def _windowed(cursors: Cursors, resolver: Callable[..., ResultT]) -> Callable[..., ResultT]:
    """Replace a resolver's window with the arguments first, after, last and before."""
    window_arguments = signature(cursors.window).parameters

    @wraps(resolver)
    def resolve(root: Any, **arguments: Any) -> ResultT:
        given = {name: arguments.pop(name) for name in window_arguments if name in arguments}
        return resolver(root, cursors.window(**given), **arguments)

    root, _window, *own_arguments = signature(resolver).parameters.values()
    resolve.__signature__ = Signature(  # type: ignore[attr-defined]
        [root, *window_arguments.values(), *own_arguments]
    )
    return resolve


def _field(
    resolver: Callable[..., Any], description: str, source: FieldSource, type: Any = None
) -> Any:
    return strawberry.field(
        resolver=resolver,
        description=description,
        metadata={FIELD_SOURCE: source},
        graphql_type=type,
    )
