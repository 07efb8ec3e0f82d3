"""Random catalogue mutations by two stores and their organization, checked against a model.

Everything that a store can read equals the model, and a refused mutation changes nothing. `--full`
takes 5,000 steps per kind of database.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlmodel import select

from app.domain.errors import DomainError, SomeNotFound
from app.domain.hierarchies import HierarchyState, Owner
from app.domain.jobs import JobStatus
from app.domain.products import NewProduct
from app.domain.stores import ORGANIZATION
from app.queue.handlers import hierarchy_duplicate
from app.queue.sweeper import Sweeper
from app.services import hierarchies, jobs, nodes, products
from app.storage import ancestors, associations
from app.storage import hierarchies as stored_hierarchies
from app.storage import jobs as stored_jobs
from app.storage import nodes as stored_nodes
from app.storage import products as stored_products
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.migrations import upgrade
from app.storage.nodes import TreeNode
from app.storage.sql.keyset import KeysetPage, KeysetWindow
from app.storage.tables import Hierarchy, HierarchyRow, Node, NodeProduct, ProductNode
from tests import factories
from tests.support.databases import NewDatabase
from tests.support.entities import session_of

KeyT = TypeVar("KeyT")

Fault = tuple[str, tuple[str, ...]]
"""The code of a refusal and the path of the invalid field, in the names of the domain."""

PAGE = 4
PRODUCTS_PAGE = 20
"""Rows per page, so that small lists take several pages."""

VIEW_EVERY = 4
VIEW_BY_ALL_EVERY = 20
"""Steps between complete reads: by the store of the last step, and by all stores.

The result of a step and the changed revisions are checked after every step."""

UNKNOWN = UUID("00000000-0000-4000-8000-000000000000")

NAMES = ("Shoes", "shoes", "Boots", "Hüte", "100 %", "_", "x" * 1000, "1", "2")
BAD_NAMES = ("", " \t", "a\0b", "x" * 1001)
ORDERS = (None, 0, 1, -1, 2**31 - 1, -(2**31))
BAD_ORDERS = (2**31, -(2**31) - 1)
LOCALES: tuple[Mapping[str, Any] | None, ...] = (
    None,
    {},
    {"fr-FR": {"name": "Chaussures"}},
    {"de": {"description": ""}, "fr": {"name": "x", "description": "y"}},
)
BAD_LOCALES: tuple[tuple[Mapping[str, Any], tuple[str, ...]], ...] = (
    ({"": {"name": "x"}}, ("",)),
    ({"fr": {}}, ("fr",)),
    ({"fr": {"name": " "}}, ("fr", "name")),
    ({"fr": {"name": "x"}, "FR": {"name": "y"}}, ("FR",)),
)
"""Invalid translations, each with the path of its fault."""

SKUS = [f"{kind}{number}" for kind in ("", "a", "B", "Ä", "🌱") for number in range(60)]


@dataclass(eq=False)
class Ware:
    """A product."""

    id: UUID
    store: str
    sku: str
    name: str


@dataclass(eq=False)
class Item:
    """A node, or the root of a hierarchy."""

    id: UUID
    name: str
    at: datetime
    edited: int
    """Sequence number of its last edit: orders like updated_at, but unique."""
    parent: "Item | None" = None
    slug: str | None = None
    description: str | None = None
    locales: Mapping[str, Any] = field(default_factory=dict)
    sort_order: int | None = None
    updated_at: datetime = datetime.min
    below: "list[Item]" = field(default_factory=list)
    held: list[Ware] = field(default_factory=list)
    curated: list[Ware] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.updated_at = self.at

    def children(self) -> "list[Item]":
        """Its direct children, in order."""

        def rank(child: Item) -> tuple[bool, int, int]:
            return child.sort_order is not None, child.sort_order or 0, child.edited

        return sorted(self.below, key=rank, reverse=True)

    def products(self) -> list[Ware]:
        """Its products: curated ones first, then by sku and id."""
        others = [ware for ware in self.held if ware not in self.curated]
        return self.curated + sorted(others, key=lambda ware: (ware.sku, ware.id))

    def path(self) -> "list[Item]":
        """The items from the root to this one."""
        return [*(self.parent.path() if self.parent else ()), self]

    def subtree(self) -> "Iterator[Item]":
        """This item and all descendants."""
        yield self
        for child in self.below:
            yield from child.subtree()

    def attributes(self) -> tuple[Any, ...]:
        return (
            *(self.name, self.slug, self.description, dict(self.locales)),
            *(self.sort_order, len(self.path()) - 1, self.at, self.updated_at),
        )


@dataclass(eq=False)
class Tree:
    """A hierarchy."""

    root: Item
    store: str
    copied_from: UUID | None = None
    revision: int | None = None
    """The revision at the last check."""
    ids: set[UUID] = field(default_factory=set)
    """The ids of all nodes it ever had."""

    def nodes(self) -> list[Item]:
        return list(self.root.subtree())[1:]


@dataclass(frozen=True)
class ItemView:
    """The readable fields of a root or node."""

    attributes: tuple[Any, ...]
    owner: Owner
    path: list[tuple[UUID, str, str | None]]
    children: list[UUID]
    products: list[tuple[UUID, bool]]


@dataclass(frozen=True)
class View:
    """Everything that a store can read."""

    trees: dict[UUID, tuple[int, int, UUID | None]]
    """Per hierarchy: number of nodes, number of associations, id of the source if a copy."""
    listed: dict[UUID, list[UUID]]
    """The ids of the nodes of each hierarchy."""
    items: dict[UUID, ItemView]
    counts: dict[UUID, tuple[int, int]]
    """Per item: number of children, number of products."""
    nodes_of: dict[UUID, tuple[int, list[UUID]]]
    """Per product: number of its nodes, their ids."""


class Catalogue:
    """The model: the rules of domain.md about hierarchies, on plain objects."""

    def __init__(self) -> None:
        self.trees: dict[UUID, Tree] = {}
        self.wares: dict[UUID, Ware] = {}
        self.deleted_ids: list[UUID] = []
        """Ids of deleted hierarchies and nodes."""
        self._edits = count(1)

    def edit(self, item: Item, at: datetime) -> None:
        """Record an edit of the item at `at`."""
        item.edited, item.updated_at = next(self._edits), at

    def next_edit(self) -> int:
        return next(self._edits)

    def readable(self, store: str, owner: str) -> bool:
        """Return True if `store` can read items of `owner`: its own and the organization's."""
        return owner in (store, ORGANIZATION)

    def seen(self, store: str) -> list[Tree]:
        return [tree for tree in self.trees.values() if self.readable(store, tree.store)]

    def find(self, store: str, id: UUID) -> tuple[Tree, Item] | None:
        """Return the readable root or node of that id with its hierarchy."""
        for tree in self.seen(store):
            for item in tree.root.subtree():
                if item.id == id:
                    return tree, item
        return None

    def tree_of(self, item: Item) -> Tree:
        return self.trees[item.path()[0].id]

    def wares_by_id(self, store: str, ids: Iterable[str]) -> dict[str, Ware | None]:
        """Map ids to the products that the store can read, or None."""

        def readable_ware(id: str) -> Ware | None:
            ware = self.wares.get(UUID(id)) if _is_uuid(id) else None
            return ware if ware and self.readable(store, ware.store) else None

        return {id: readable_ware(id) for id in ids}

    # Faults of a request. If it breaks several rules, the refusal may name any of them.

    def faults_of_target(
        self, store: str, id: UUID, field: str, *, hierarchy: bool = False, node: bool = False
    ) -> set[Fault]:
        """Return the faults of a mutation's target; `hierarchy` and `node` require that kind."""
        target = self.find(store, id)
        if target is None or (hierarchy and target[1].parent) or (node and not target[1].parent):
            # For an item of the organization either refusal is correct.
            return {("NOT_FOUND", (field,)), *self._forbidden(store, id, field)}
        tree, _ = target
        return set() if tree.store == store else {("FORBIDDEN", (field,))}

    def _forbidden(self, store: str, id: UUID, field: str) -> set[Fault]:
        of_organization = (
            tree.root.id == id or id in tree.ids
            for tree in self.trees.values()
            if store != ORGANIZATION == tree.store
        )
        return {("FORBIDDEN", (field,))} if any(of_organization) else set()

    def faults_of_attributes(self, attributes: Mapping[str, Any]) -> set[Fault]:
        faults: set[Fault] = set()
        if "name" in attributes and not _is_label(attributes["name"] or ""):
            faults.add(("INVALID_INPUT", ("name",)))
        if attributes.get("slug") is not None and not _is_label(attributes["slug"]):
            faults.add(("INVALID_INPUT", ("slug",)))
        if "\0" in (attributes.get("description") or ""):
            faults.add(("INVALID_INPUT", ("description",)))
        if attributes.get("sort_order") in BAD_ORDERS:
            faults.add(("INVALID_INPUT", ("sort_order",)))
        for locales, where in BAD_LOCALES:
            if attributes.get("locales") == locales:
                faults.add(("INVALID_INPUT", ("locales", *where)))
        return faults

    def faults_of_siblings(
        self, parent: Item, name: str | None, slug: str | None, itself: Item | None = None
    ) -> set[Fault]:
        """Siblings have unique names and unique slugs."""
        siblings = [item for item in parent.below if item is not itself]
        faults: set[Fault] = set()
        if name in [item.name for item in siblings]:
            faults.add(("INVALID_INPUT", ("name",)))
        if slug is not None and slug in [item.slug for item in siblings]:
            faults.add(("INVALID_INPUT", ("slug",)))
        return faults

    def faults_of_curation(
        self, store: str, held: Sequence[Ware], ids: Sequence[str]
    ) -> set[Fault]:
        """Up to 20 of a node's products are curated, in an order."""
        wares = [self.wares_by_id(store, [id])[id] for id in ids]
        fits = len(ids) <= 20 and len(set(wares)) == len(wares)
        if fits and all(ware in held for ware in wares):
            return set()
        return {("INVALID_INPUT", ("curated_product_ids",))}

    # Accepted mutations.

    def change(self, item: Item, changes: Mapping[str, Any]) -> None:
        for name in ("name", "slug", "sort_order"):
            if name in changes:
                setattr(item, name, changes[name])
        if "description" in changes:
            item.description = changes["description"] or None
        if "locales" in changes:
            item.locales = changes["locales"] or {}

    def delete(self, item: Item) -> None:
        self.deleted_ids += [deleted.id for deleted in item.subtree()]
        if item.parent:
            item.parent.below.remove(item)
        else:
            del self.trees[item.id]

    def copy(self, item: Item, parent: Item | None, at: datetime, with_products: bool) -> Item:
        """Copy the subtree as created at `at`, in the same order, with ids still unknown."""
        copy = replace(item, at=at, parent=parent, below=[])
        copy.held = list(item.held) if with_products else []
        copy.curated = list(item.curated) if with_products else []
        copy.below = [self.copy(child, copy, at, with_products) for child in item.below]
        return copy

    def view(self, store: str) -> View:
        trees = self.seen(store)
        items = [(tree, item) for tree in trees for item in tree.root.subtree()]
        nodes_of = {
            ware.id: sorted(item.id for _, item in items if ware in item.held)
            for ware in self.wares.values()
            if self.readable(store, ware.store)
        }
        return View(
            trees={
                tree.root.id: (
                    len(tree.nodes()),
                    sum(len(item.held) for item in tree.nodes()),
                    tree.copied_from,
                )
                for tree in trees
            },
            listed={tree.root.id: sorted(item.id for item in tree.nodes()) for tree in trees},
            items={
                item.id: ItemView(
                    attributes=item.attributes(),
                    owner=Owner.ORGANIZATION if tree.store == ORGANIZATION else Owner.STORE,
                    path=[(step.id, step.name, step.slug) for step in item.path()],
                    children=[child.id for child in item.children()],
                    products=[(ware.id, ware in item.curated) for ware in item.products()],
                )
                for tree, item in items
            },
            counts={item.id: (len(item.below), len(item.held)) for _, item in items},
            nodes_of={id: (len(ids), ids) for id, ids in nodes_of.items()},
        )


def _is_uuid(id: str) -> bool:
    return id != "no-id"


def _is_label(text: str) -> bool:
    """Return True for a valid name or slug."""
    return bool(text.strip()) and len(text) <= 1000 and "\0" not in text


# Reads of the database.


def attributes_of(row: HierarchyRow | TreeNode) -> tuple[Any, ...]:
    item: Any = row.node if isinstance(row, TreeNode) else row
    position = (item.sort_order, item.depth) if isinstance(row, TreeNode) else (None, 0)
    texts = (item.name, item.slug, item.description, item.locales)
    return (*texts, *position, item.created_at, item.updated_at)


def whole(
    read: Callable[[Sequence[KeyT], KeysetWindow], Mapping[KeyT, KeysetPage[Any]]],
    keys: Sequence[KeyT],
    limit: int = PAGE,
) -> dict[KeyT, list[Any]]:
    """Read the complete list of each key, page by page."""
    lists = {}
    for key, page in (read(keys, KeysetWindow(limit)) if keys else {}).items():
        rows = list(page.rows)
        while page.has_next:
            page = read([key], KeysetWindow(limit, after=rows[-1][0]))[key]
            rows += page.rows
        lists[key] = [row for _, row in rows]
    return lists


def view(tx: Transaction, store: str, wares: Sequence[UUID], gone: Sequence[UUID]) -> View:
    """Read everything that a store can see with the functions that the API uses."""

    def listing(_: Sequence[str], window: KeysetWindow) -> Mapping[str, KeysetPage[Any]]:
        return {store: stored_hierarchies.listing(tx, store, [], window)}

    roots: list[HierarchyRow] = whole(listing, [store])[store]
    assert roots == sorted(roots, key=lambda root: root.created_at, reverse=True)
    assert stored_hierarchies.count(tx, store, []) == len(roots)
    pks = [root.pk for root in roots if root.pk is not None]
    known: dict[tuple[int, int], Any] = {(root.pk or 0, 0): root for root in roots}
    below: dict[tuple[int, int], list[TreeNode]] = {}
    level = list(known)
    while level:
        read = whole(lambda keys, window: stored_nodes.children(tx, store, keys, window), level)
        below |= read
        children = {child.key: child for siblings in read.values() for child in siblings}
        known |= children
        level = list(children)
    keys = list(known)
    ids = [row.id for row in known.values()]
    assert set(stored_nodes.by_ids(tx, store, [*ids, *gone])) == {*ids} - {
        root.id for root in roots
    }
    lists = whole(lambda keys, window: stored_nodes.of_hierarchies(tx, store, keys, window), pks)
    for nodes_of_all in lists.values():
        depths = [row.node.depth for row in nodes_of_all]
        assert depths == sorted(depths)
    ways = ancestors.of_nodes(tx, store, keys)
    held = whole(
        lambda keys, window: associations.of_nodes(tx, store, keys, window),
        keys,
        PRODUCTS_PAGE,
    )
    numbers = stored_nodes.children_counts(tx, store, keys) if keys else {}
    held_numbers = associations.counts_of_nodes(tx, store, keys)
    known_wares = stored_products.by_ids(tx, store, wares)
    ware_ids = {ware.pk: ware.id for ware in known_wares.values() if ware.pk is not None}
    placed = whole(
        lambda keys, window: associations.nodes_of_products(tx, store, keys, window),
        list(ware_ids),
        PRODUCTS_PAGE,
    )
    placed_numbers = associations.counts_of_products(tx, store, list(ware_ids))
    stated = stored_hierarchies.node_counts(tx, store, pks)
    return View(
        trees={
            root.id: (stated[root.pk or 0], root.association_count, root.copied_from)
            for root in roots
        },
        listed={root.id: sorted(row.id for row in lists[root.pk or 0]) for root in roots},
        items={
            row.id: ItemView(
                attributes=attributes_of(row),
                owner=(row.hierarchy if isinstance(row, TreeNode) else row).owner,
                path=[(step.id, step.name, step.slug) for step in ways[key]],
                children=[child.id for child in below[key]],
                products=[(row.product.id, row.curated) for row in held[key]],
            )
            for key, row in known.items()
        },
        counts={row.id: (numbers[key], held_numbers[key]) for key, row in known.items()},
        nodes_of={
            id: (placed_numbers[pk], sorted(row.id for row in placed[pk]))
            for pk, id in ware_ids.items()
        },
    )


def revisions(tx: Transaction, _: None = None) -> dict[UUID, int]:
    ready = select(Hierarchy.id, Hierarchy.revision).where(Hierarchy.state == HierarchyState.READY)
    return dict(session_of(tx).exec(ready).all())


def rows(tx: Transaction) -> dict[str, tuple[int, int]]:
    """Return per table the number of rows and the sum of the counts of visible hierarchies."""
    sums = (
        session_of(tx)
        .exec(
            select(
                sa.func.coalesce(sa.func.sum(Hierarchy.node_count), 0),
                sa.func.coalesce(sa.func.sum(Hierarchy.association_count), 0),
            ).where(Hierarchy.state == HierarchyState.READY)
        )
        .one()
    )
    stated = dict(zip((Node, NodeProduct, ProductNode), (sums[0], sums[1], sums[1]), strict=True))
    return {
        table.__name__: (
            session_of(tx).exec(select(sa.func.count()).select_from(table)).one(),
            int(number),
        )
        for table, number in stated.items()
    }


# Requests, some of them invalid.

texts = st.sampled_from([*NAMES * 3, *BAD_NAMES])
changes_of_root = {
    "name": st.sampled_from([*NAMES * 3, *BAD_NAMES, None]),
    "slug": st.sampled_from([*NAMES, None, None, None, None, " "]),
    "description": st.sampled_from([*("All of it", "", None) * 3, "a\0"]),
    "locales": st.sampled_from([*LOCALES * 5, *(locales for locales, _ in BAD_LOCALES)]),
}
root_changes = st.fixed_dictionaries({}, optional=changes_of_root)
orders = st.sampled_from([*ORDERS * 3, *BAD_ORDERS])
node_changes = st.fixed_dictionaries({}, optional={**changes_of_root, "sort_order": orders})
new_nodes = st.fixed_dictionaries(
    {"name": texts},
    optional={**{k: v for k, v in changes_of_root.items() if k != "name"}, "sort_order": orders},
)
trees: st.SearchStrategy[Any] = st.recursive(
    st.just({}), lambda below: st.lists(below, min_size=1, max_size=4), max_leaves=12
)


def one_in_ten(data: st.DataObject) -> bool:
    return data.draw(st.sampled_from((*[False] * 9, True)))


def coin_flip(data: st.DataObject) -> bool:
    return data.draw(st.booleans())


def named(shape: Any, prefix: str = "n") -> dict[str, Any]:
    return {f"{prefix}{i}": named(below, f"{prefix}{i}.") for i, below in enumerate(shape)}


class Authoring(RuleBasedStateMachine):
    """One example: stores of its own in a database shared with earlier examples."""

    database: ClassVar[Database]
    runner: ClassVar[asyncio.Runner]
    times: ClassVar[list[datetime]]
    """The time of the clock, as the only element."""
    examples: ClassVar["count[int]"]
    steps: ClassVar[Counter[str]]
    """Number of steps by kind."""
    refusals: ClassVar[Counter[tuple[str, str]]]
    """Number of refused steps by kind and code."""

    def __init__(self) -> None:
        super().__init__()
        self.number = next(self.examples)
        self.stores = (f"north {self.number}", f"south {self.number}", ORGANIZATION)
        self.model = Catalogue()
        self.viewing = self.stores[0]
        """The store whose view is checked after this step."""
        self.steps_taken = 0
        self.edited: UUID | None = None
        """The hierarchy changed by the last step."""
        self.refusal: DomainError | None = None
        """The refusal of the last step."""
        self.pending: dict[str, list[tuple[UUID, UUID, Mapping[str, Any]]]] = {}
        """Pending jobs by store: id, source and options."""

    def teardown(self) -> None:
        # The organization's hierarchies and queue are shared by the stores of all examples.
        for job_id, *_ in self.pending.get(ORGANIZATION, ()):
            self.write(jobs.cancel, ORGANIZATION, job_id)
        for id in [id for id, tree in self.model.trees.items() if tree.store == ORGANIZATION]:
            self.write(hierarchies.delete, ORGANIZATION, id)

    @property
    def now(self) -> datetime:
        return self.times[0]

    def write(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.runner.run(self.database.write(fn, *args))

    def read(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.runner.run(self.database.read(fn, *args))

    def mutate(self, foreseen: set[Fault], fn: Callable[..., Any], *args: Any) -> Any:
        """Run a service function; on a refusal, check that it was foreseen and return None."""
        return self.outcome(foreseen, lambda: self.write(fn, *args), fn.__module__, fn.__name__)

    def outcome(self, foreseen: set[Fault], act: Callable[[], Any], *kind: str) -> Any:
        self.edited = self.refusal = None
        name = " ".join(part.rpartition(".")[2] for part in kind)
        self.steps[name] += 1
        try:
            result = act()
        except DomainError as error:
            result, self.refusal = None, error
        if self.refusal is None:
            assert not foreseen, (name, result)
            return result
        self.refusals[name, self.refusal.code] += 1
        assert (self.refusal.code, self.refusal.path) in foreseen, (name, self.refusal)
        return None

    # Arguments of a step.

    stores_of_steps = st.sampled_from([0, 0, 0, 0, 1, 2])

    def acting(self, by: int) -> str:
        self.viewing = self.stores[by]
        return self.viewing

    def hierarchy_id(self, data: st.DataObject, store: str) -> UUID:
        """Mostly one of the store's own; one in ten is any other, deleted or unknown."""
        own = [tree.root.id for tree in self.model.trees.values() if tree.store == store]
        return self.own_or_any_id(data, own)

    def node_id(self, data: st.DataObject, store: str, *, or_root: bool = False) -> UUID:
        """Mostly one of the store's own; one in ten is any other, deleted or unknown."""
        own = [tree for tree in self.model.trees.values() if tree.store == store]
        # Choose the hierarchy first, so that small ones are chosen as often as large ones.
        having = [tree.root.id for tree in own if or_root or tree.root.below]
        tree = self.model.trees[data.draw(st.sampled_from(having))] if having else None
        nodes = [item.id for item in tree.nodes()] if tree else []
        return self.own_or_any_id(data, [tree.root.id, *nodes] if tree and or_root else nodes)

    def node_with_products_id(self, data: st.DataObject, store: str) -> UUID:
        """Mostly one of the store's own nodes with products."""
        own = [tree for tree in self.model.trees.values() if tree.store == store]
        holding = [item.id for tree in own for item in tree.nodes() if item.held]
        return self.own_or_any_id(data, holding) if holding else self.node_id(data, store)

    def own_or_any_id(self, data: st.DataObject, preferred: Sequence[UUID]) -> UUID:
        if preferred and not one_in_ten(data):
            return data.draw(st.sampled_from(preferred))
        trees = self.model.trees.values()
        others = [item.id for tree in trees for item in tree.root.subtree()]
        return data.draw(st.sampled_from([UNKNOWN, *self.model.deleted_ids[-3:], *others]))

    def product_ids(self, data: st.DataObject, wares: Sequence[Ware]) -> list[str]:
        """Ids of some or all of `wares`; one in ten with unknown, repeated or respelled ids."""
        known = [str(ware.id) for ware in wares]
        ids: list[str]
        if known and coin_flip(data):
            subsets = st.lists(st.sampled_from(known), min_size=1, max_size=6, unique=True)
            ids = data.draw(subsets)
        else:
            ids = data.draw(st.sampled_from([known, known[::-1], known[-20:]]))
        if not one_in_ten(data):
            return ids
        others = [str(UNKNOWN), "no-id", *(str(ware.id) for ware in self.model.wares.values())]
        others += [id.upper() for id in ids]
        return ids + data.draw(st.lists(st.sampled_from(others), max_size=3))

    def taken_label(self, data: st.DataObject, taken: Sequence[str]) -> dict[str, str]:
        attribute: str = data.draw(st.sampled_from(("name", "slug")))
        label: str = data.draw(st.sampled_from(taken))
        return {attribute: label}

    # Steps.

    @initialize(shape=trees, of_organization=trees)
    def begin(self, shape: Any, of_organization: Any) -> None:
        for store, tree in zip(self.stores, (shape, [{}], of_organization), strict=True):
            tree = named(tree)
            id = self.runner.run(factories.hierarchy(self.database, tree, store=store))
            self.model.trees[id] = imported = Tree(self.item(id, {"name": "Garden"}), store)
            self.hang(imported.root, tree)
            self.bind(imported)
            skus = (f"{self.number} {name}" for name in ("first", "second"))
            self.make_products(store, [NewProduct(sku, "Spade") for sku in skus])

    def hang(self, item: Item, tree: dict[str, Any]) -> None:
        # In reverse, since imported siblings keep their order and the latest edit comes first.
        for name in reversed(tree):
            child = self.item(UNKNOWN, {"name": name, "slug": name}, item)
            item.below.append(child)
            self.hang(child, tree[name])

    def bind(self, tree: Tree) -> None:
        """Read the ids of nodes that were imported or copied."""
        seen: View = self.read(view, tree.store, [], [])
        others = {item.id for other in self.model.trees.values() for item in other.root.subtree()}
        others |= {*self.model.deleted_ids}

        def bind(item: Item) -> None:
            children = seen.items[item.id].children
            assert len(children) == len(item.below)
            for child, id in zip(item.children(), children, strict=True):
                assert id not in others
                child.id = id
                bind(child)

        bind(tree.root)
        tree.ids = {item.id for item in tree.nodes()}

    def item(self, id: UUID, attributes: Mapping[str, Any], parent: Item | None = None) -> Item:
        item = Item(id, attributes["name"], self.now, self.model.next_edit(), parent)
        self.model.change(item, attributes)
        return item

    @rule(milliseconds=st.sampled_from([1, 1000]))
    def wait(self, milliseconds: int) -> None:
        self.edited = None
        self.times[0] += timedelta(milliseconds=milliseconds)

    @rule(by=stores_of_steps, attributes=new_nodes)
    def create_hierarchy(self, by: int, attributes: Mapping[str, Any]) -> None:
        store = self.acting(by)
        attributes = {name: value for name, value in attributes.items() if name != "sort_order"}
        faults = self.model.faults_of_attributes(attributes)
        if created := self.mutate(faults, hierarchies.create, store, attributes):
            assert created.id not in self.model.trees
            self.model.trees[created.id] = Tree(self.item(created.id, attributes), store)
            assert attributes_of(created) == self.model.trees[created.id].root.attributes()

    @rule(by=stores_of_steps, changes=root_changes, data=st.data())
    def update_hierarchy(self, by: int, changes: Mapping[str, Any], data: st.DataObject) -> None:
        store = self.acting(by)
        id = self.hierarchy_id(data, store)
        faults = self.model.faults_of_target(store, id, "hierarchy_id", hierarchy=True)
        faults |= self.model.faults_of_attributes(changes)
        if updated := self.mutate(faults, hierarchies.update, store, id, changes):
            root = self.model.trees[id].root
            self.model.change(root, changes)
            if changes:
                self.model.edit(root, self.now)
            self.edited = id
            assert attributes_of(updated) == root.attributes()

    @rule(by=stores_of_steps, data=st.data())
    @precondition(lambda self: len(self.model.trees) > 2)
    def delete_hierarchy(self, by: int, data: st.DataObject) -> None:
        store = self.acting(by)
        id = self.hierarchy_id(data, store)
        faults = self.model.faults_of_target(store, id, "hierarchy_id", hierarchy=True)
        if self.mutate(faults, hierarchies.delete, store, id):
            self.model.delete(self.model.trees[id].root)

    @rule(by=stores_of_steps, attributes=new_nodes, data=st.data())
    def create_node(self, by: int, attributes: Mapping[str, Any], data: st.DataObject) -> None:
        store = self.acting(by)
        parent_id = self.node_id(data, store, or_root=True)
        target = self.model.find(store, parent_id)
        taken = [child.name for child in target[1].below] if target else []
        names = [node.name for node in target[0].nodes()] if target else []
        if taken and one_in_ten(data):
            attributes = {**attributes, **self.taken_label(data, taken)}
        elif names and coin_flip(data):
            # Perhaps free here, but taken where the node may be moved to.
            attributes = {**attributes, "name": data.draw(st.sampled_from(names))}
        self.make_node(store, parent_id, attributes)

    def make_node(self, store: str, parent_id: UUID, attributes: Mapping[str, Any]) -> None:
        target = self.model.find(store, parent_id)
        faults = self.model.faults_of_attributes(attributes)
        faults |= self.model.faults_of_target(store, parent_id, "parent_id")
        if target and target[0].store == store:
            faults |= self.model.faults_of_siblings(
                target[1], attributes["name"], attributes.get("slug")
            )
        created = self.mutate(faults, nodes.create, store, parent_id, attributes)
        if created and target:
            tree, parent = target
            assert created.id not in tree.ids
            item = self.item(created.id, attributes, parent)
            parent.below.append(item)
            tree.ids.add(created.id)
            self.edited = tree.root.id
            assert attributes_of(created) == item.attributes()

    @rule(by=stores_of_steps, changes=node_changes, data=st.data())
    def update_node(self, by: int, changes: Mapping[str, Any], data: st.DataObject) -> None:
        store = self.acting(by)
        id = self.node_id(data, store)
        target = self.model.find(store, id)
        parent = target[1].parent if target else None
        taken = [child.name for child in parent.below] if parent else []
        if taken and one_in_ten(data):
            changes = {**changes, **self.taken_label(data, taken)}
        self.update(store, id, changes)

    @rule(by=stores_of_steps, data=st.data())
    def curate(self, by: int, data: st.DataObject) -> None:
        store = self.acting(by)
        id = self.node_with_products_id(data, store)
        target = self.model.find(store, id)
        ids = self.product_ids(data, target[1].held if target else [])
        self.update(store, id, {"curated_product_ids": ids})

    def update(self, store: str, id: UUID, changes: Mapping[str, Any]) -> None:
        faults = self.model.faults_of_attributes(changes)
        faults |= self.model.faults_of_target(store, id, "node_id", node=True)
        curated = changes.get("curated_product_ids")
        target = self.model.find(store, id)
        if target and target[0].store == store and target[1].parent:
            item = target[1]
            faults |= self.model.faults_of_siblings(
                target[1].parent,
                changes.get("name", item.name),
                changes.get("slug", item.slug),
                item,
            )
            faults |= self.model.faults_of_curation(store, item.held, curated or ())
        elif curated:
            faults |= self.model.faults_of_curation(store, [], curated)
        updated = self.mutate(faults, nodes.update, store, id, changes)
        if updated and target:
            tree, item = target
            self.model.change(item, changes)
            if "curated_product_ids" in changes:
                wares = self.model.wares_by_id(store, curated or ())
                item.curated = [ware for ware in wares.values() if ware]
            if changes:
                self.model.edit(item, self.now)
            self.edited = tree.root.id
            assert attributes_of(updated) == item.attributes()

    @rule(
        by=stores_of_steps,
        changes=st.fixed_dictionaries({}, optional={"sort_order": orders}),
        data=st.data(),
    )
    def move(self, by: int, changes: Mapping[str, Any], data: st.DataObject) -> None:
        store = self.acting(by)
        id, parent_id = self.node_id(data, store), self.node_id(data, store, or_root=True)
        target, destination = self.model.find(store, id), self.model.find(store, parent_id)
        if target and target[0].store == store and not one_in_ten(data):
            # A random parent would hardly ever be in the same hierarchy.
            parents = list(target[0].root.subtree())
            moved = target[1]
            taken = [
                parent
                for parent in parents
                if any(it.name == moved.name and it is not moved for it in parent.below)
            ]
            candidates = taken if taken and coin_flip(data) else parents
            parent_id = data.draw(st.sampled_from([parent.id for parent in candidates]))
            destination = self.model.find(store, parent_id)
        faults = self.model.faults_of_attributes(changes)
        faults |= self.model.faults_of_target(store, id, "node_id", node=True)
        if destination is None:
            faults.add(("NOT_FOUND", ("parent_id",)))
        elif target and (
            destination[0] is not target[0]
            or destination[1] in target[1].subtree()
            or self.model.faults_of_siblings(
                destination[1], target[1].name, target[1].slug, target[1]
            )
        ):
            faults.add(("INVALID_INPUT", ("parent_id",)))
        moved_node = self.mutate(faults, nodes.move, store, id, parent_id, changes)
        if moved_node and target and destination and target[1].parent:
            (tree, item), (_, parent) = target, destination
            target[1].parent.below.remove(item)
            parent.below.append(item)
            item.parent = parent
            self.model.change(item, changes)
            self.model.edit(item, self.now)
            self.edited = tree.root.id
            assert attributes_of(moved_node) == item.attributes()

    @rule(by=stores_of_steps, data=st.data())
    def delete_node(self, by: int, data: st.DataObject) -> None:
        store = self.acting(by)
        id = self.node_id(data, store)
        if (target := self.model.find(store, id)) and coin_flip(data):
            # The newest node: only its number could be reused.
            id = max(target[0].nodes() or [target[1]], key=lambda item: item.id).id
        target = self.model.find(store, id)
        faults = self.model.faults_of_target(store, id, "node_id", node=True)
        if self.mutate(faults, nodes.delete, store, id) and target:
            self.model.delete(target[1])
            self.edited = target[0].root.id
            if coin_flip(data):
                self.catalogue_equals_model()
                self.make_node(store, target[0].root.id, {"name": "Afterwards"})

    @rule(
        by=stores_of_steps,
        skus=st.one_of(
            st.lists(st.sampled_from(SKUS), max_size=4),
            st.lists(st.sampled_from(SKUS), min_size=1, max_size=12, unique=True),
        ),
        name=texts,
        extra=st.sampled_from([*[0] * 19, 101]),
    )
    def create_products(self, by: int, skus: list[str], name: str, extra: int) -> None:
        skus = [f"{self.number} {sku}" for sku in [*skus, *map(str, range(1000, 1000 + extra))]]
        self.make_products(self.acting(by), [NewProduct(sku, name) for sku in skus])

    def make_products(self, store: str, new: Sequence[NewProduct]) -> None:
        faults: set[Fault] = set()
        if not 1 <= len(new) <= 100:
            faults.add(("INVALID_INPUT", ("products",)))
        taken = {ware.sku for ware in self.model.wares.values() if ware.store == store}
        for index, product in enumerate(new):
            if product.sku in taken:
                faults.add(("INVALID_INPUT", ("products", str(index), "sku")))
            taken.add(product.sku)
            if product.name in BAD_NAMES:
                faults.add(("INVALID_INPUT", ("products", str(index), "name")))
        for product in self.mutate(faults, products.create, store, new) or ():
            assert product.id not in self.model.wares
            self.model.wares[product.id] = Ware(product.id, store, product.sku, product.name)
        stored_pks = self.read(stored_products.pks_by_sku, store, [product.sku for product in new])
        own = {ware.sku for ware in self.model.wares.values() if ware.store == store}
        assert set(stored_pks) == own & {product.sku for product in new}

    @rule(by=stores_of_steps, data=st.data())
    def attach(self, by: int, data: st.DataObject) -> None:
        self.associate(products.attach, by, data)

    @rule(by=stores_of_steps, data=st.data())
    def detach(self, by: int, data: st.DataObject) -> None:
        self.associate(products.detach, by, data)

    def associate(self, fn: Callable[..., Any], by: int, data: st.DataObject) -> None:
        store = self.acting(by)
        readable = [
            ware for ware in self.model.wares.values() if self.model.readable(store, ware.store)
        ]
        if fn is products.attach:
            id = self.node_id(data, store)
            ids = self.product_ids(data, readable)
        else:
            id = self.node_with_products_id(data, store)
            holder = self.model.find(store, id)
            ids = self.product_ids(data, holder[1].held if holder and holder[1].held else readable)
        wares = self.model.wares_by_id(store, ids)
        unknown = {id for id, ware in wares.items() if ware is None}
        target = self.model.find(store, id)
        faults = self.model.faults_of_target(store, id, "node_id", node=True)
        if not 1 <= len(ids) <= 1000:
            faults.add(("INVALID_INPUT", ("product_ids",)))
        if unknown:
            faults.add(("NOT_FOUND", ("product_ids",)))
        node = self.mutate(faults, fn, store, id, ids)
        if node and target:
            tree, item = target
            named = [ware for ware in wares.values() if ware]
            if fn is products.attach:
                item.held += [ware for ware in dict.fromkeys(named) if ware not in item.held]
            else:
                item.held = [ware for ware in item.held if ware not in named]
                item.curated = [ware for ware in item.curated if ware not in named]
            self.edited = tree.root.id
        elif isinstance(self.refusal, SomeNotFound):
            assert set(self.refusal.ids) == unknown

    @rule(
        by=stores_of_steps,
        options=st.fixed_dictionaries(
            {"include_products": st.booleans()},
            optional={
                "name": st.sampled_from([None, *NAMES, *BAD_NAMES]),
                "description": st.sampled_from([None, "", "Another", "a\0"]),
            },
        ),
        data=st.data(),
    )
    def request_duplication(self, by: int, options: Mapping[str, Any], data: st.DataObject) -> None:
        store = self.acting(by)
        id = self.hierarchy_id(data, store)
        target = self.model.find(store, id)
        faults = self.model.faults_of_attributes(
            {name: value for name, value in options.items() if value is not None}
        )
        if target is None or target[1].parent:
            faults.add(("NOT_FOUND", ("hierarchy_id",)))

        def request() -> Any:
            return self.runner.run(
                factories.pending_duplication(self.database, id, store=store, **options)
            )

        if job := self.outcome(faults, request, "request duplication"):
            self.pending.setdefault(store, []).append((job.id, id, options))
            if coin_flip(data):
                self.run_next(store)

    @rule(data=st.data())
    @precondition(lambda self: any(self.pending.values()))
    def duplicate(self, data: st.DataObject) -> None:
        """Run the next job of a store."""
        store = data.draw(
            st.sampled_from([store for store, queue in self.pending.items() if queue])
        )
        self.run_next(store)

    def run_next(self, store: str) -> None:
        self.viewing = store
        expected_id, source_id, options = self.pending[store].pop(0)

        def run() -> Any:
            return self.runner.run(factories.ran_job(self.database, store=store))

        job_id = self.outcome(set(), run, "duplicate")
        assert job_id == expected_id
        (job,) = self.read(stored_jobs.by_ids, store, [job_id]).values()
        source = self.model.trees.get(source_id)
        assert job.status is (JobStatus.SUCCESS if source else JobStatus.FAILED)
        if source is None:
            assert job.result_id is None
            return
        assert job.result_id not in self.model.trees
        root = self.model.copy(source.root, None, self.now, options["include_products"])
        root.id = job.result_id
        overrides = {name: value for name, value in options.items() if value is not None}
        self.model.change(root, overrides)
        self.model.trees[root.id] = copy = Tree(root, store, source_id)
        self.bind(copy)

    @rule()
    def sweep(self) -> None:
        self.edited = None
        self.runner.run(Sweeper(self.database).sweep())

    @invariant()
    def catalogue_equals_model(self) -> None:
        self.steps_taken += 1
        for store in self.stores:
            every = VIEW_EVERY if store == self.viewing else VIEW_BY_ALL_EVERY
            if self.steps_taken % every == 0:
                wares, gone = list(self.model.wares), self.model.deleted_ids
                assert self.read(view, store, wares, gone) == self.model.view(store)
        current = self.read(revisions)
        for id, tree in self.model.trees.items():
            if tree.revision is not None:
                grown = current[id] - tree.revision
                assert grown > 0 if id == self.edited else grown == 0
            tree.revision = current[id]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def test_the_catalogue_equals_the_model_after_any_mutations(
    kind: str,
    new_database: NewDatabase,
    scaled: Callable[[int, int, int], int],
    seed: int,
    report: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hierarchy_duplicate, "CHUNK_ROWS", 3)
    times = [datetime(2026, 11, 22, tzinfo=UTC)]
    opened = connect(new_database(kind), clock=lambda _: times[0])
    upgrade(opened)

    class OverOneKind(Authoring):
        database = opened
        examples = count(1)

    OverOneKind.times, OverOneKind.steps, OverOneKind.refusals = times, Counter(), Counter()
    with asyncio.Runner() as OverOneKind.runner:
        try:
            # Examples may end early, so count steps instead of examples.
            while OverOneKind.steps.total() < scaled(50, 100, 5000):
                run_state_machine_as_test(
                    hypothesis.seed(seed + OverOneKind.steps.total())(OverOneKind),
                    settings=settings(
                        max_examples=scaled(2, 3, 25), stateful_step_count=50, deadline=None
                    ),
                )
            # Deleted and unfinished hierarchies are swept with all their rows.
            OverOneKind.runner.run(Sweeper(opened).sweep())
            for table, (stored, expected) in OverOneKind.runner.run(opened.read(rows)).items():
                assert stored == expected, table
        finally:
            opened.close()
    steps, refusals = OverOneKind.steps, OverOneKind.refusals
    report(f"{steps.total()} steps, {refusals.total()} of them refused")
    report(", ".join(f"{number} {name}" for name, number in sorted(steps.items())))
    codes = Counter(code for _, code in refusals.elements())
    report(", ".join(f"{number} {code}" for code, number in sorted(codes.items())))
