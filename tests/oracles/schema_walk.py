"""Operations made from the schema itself: ways from a root down to every field there is.

A way is a chain of fields, each on the type the one before leads to. Its operation selects, on each
type on the way, every field that leads no further. All maximal ways together select everything that
can be reached in so many steps.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLNamedType,
    get_named_type,
    is_abstract_type,
    is_composite_type,
    is_enum_type,
    is_interface_type,
    is_list_type,
    is_object_type,
    is_union_type,
)
from graphql.type import get_nullable_type, is_required_argument, is_required_input_field

from app.api.graphql.schema import graphql_schema as schema

ROWS = 2
"""How many rows of each list are asked for."""

WAYS = 6
"""How many ways an operation goes at most, so that it stays within the limits."""

NEW = "walked"
"""What mutations call what they make or change."""

Coordinate = tuple[str, str]
"""A type and one of its fields."""


@dataclass
class Material:
    """What a store has, as it goes into arguments."""

    kinds: dict[str, str]
    """Some ids of each kind of thing, and the name of its type."""
    texts: list[str]
    instants: list[str]
    locale: str
    fitting: list[dict[str, str]]
    """By the name of an input, an id that it takes."""
    keys: list[str] = field(default_factory=list)
    """Idempotency keys."""
    cursors: dict[Coordinate, list[str]] = field(default_factory=dict)
    """As the store got them, by the field that has the list."""

    @property
    def ids(self) -> list[str]:
        """All of them."""
        return list(self.kinds)

    def learn(self, at: Coordinate, cursor: str) -> None:
        """Keep a cursor, the first and the latest of each list."""
        known = self.cursors.setdefault(at, [])
        if cursor not in known:
            known[1:] = [cursor]


@dataclass(frozen=True)
class Step:
    """A field of a type, or the condition that a thing is of a type."""

    on: GraphQLNamedType
    to: GraphQLNamedType
    field: str | None
    arguments: str = ""
    id: str | None = None
    """What it asks for, where it asks for one thing by its id."""

    @property
    def coordinate(self) -> Coordinate:
        """Where in the schema it is."""
        return self.on.name, self.field or f"... on {self.to.name}"

    @property
    def needs_id(self) -> bool:
        """Whether it is a field that gives what has an id."""
        given = fields(self.on)[self.field].args.values() if self.field else ()
        return any(is_required_argument(argument) for argument in given)

    def __str__(self) -> str:
        return f"{self.field}{self.arguments}" if self.field else f"... on {self.to.name}"


Way = tuple[Step, ...]
Tree = dict[Step, Any]
"""Steps, each with those that follow it."""


@dataclass(frozen=True)
class Operation:
    """What is asked for in one document."""

    ways: tuple[Way, ...]
    text: str


def operations(
    kind: str, ways: Iterable[Way], material: Material, together: int = WAYS
) -> Iterator[Operation]:
    """Operations that go all these ways, at most so many of those that begin alike together."""
    for _, alike in groupby(ways, _beginning):
        while some := tuple(islice(alike, together)):
            tree: Tree = {}
            for way in some:
                below = tree
                for step in way:
                    below = below.setdefault(step, {})
            yield Operation(some, f"{kind} {_selection(tree, material)}")


def _beginning(way: Way) -> Way:
    """What ways in one operation have in common: the same field may have another type in a thing
    of another kind."""
    return way[: 1 + next((at for at, step in enumerate(way) if step.field is None), 0)]


def _selection(tree: "Tree", material: Material, on: GraphQLNamedType | None = None) -> str:
    inside = [f"{step} {_selection(below, material, step.to)}" for step, below in tree.items()]
    return f"{{ {' '.join([leaves(on, material) if on else '', *inside])} }}"


def leaves(type_: GraphQLNamedType, material: Material) -> str:
    """Every field of a type that leads to no other type; of a union, those that all have."""
    selected = ["__typename"]
    if is_union_type(type_):
        shared = set.intersection(*({*kind.interfaces} for kind in type_.types))
        selected += [f"... on {one.name} {{ {leaves(one, material)} }}" for one in shared]
    for name, of in fields(type_).items():
        if not is_composite_type(get_named_type(of.type)):
            selected.append(name)
            for argument in of.args:
                # The only argument there is to such fields: whatever comes next needs a decision.
                assert argument == "locale"
                selected.append(f"translated_{name}: {name}(locale: {literal(material.locale)})")
    return " ".join(selected)


def fields(type_: GraphQLNamedType) -> Mapping[str, GraphQLField]:
    """The fields of a type; a union has none."""
    return type_.fields if is_object_type(type_) or is_interface_type(type_) else {}


def maximal_ways(root: str, steps: int, material: Material) -> Iterator[Way]:
    """All ways of so many steps, or fewer where there is no further one, from the fields of that
    root type on. None goes by the same field twice, or further on from an id of another kind."""
    for way in _ways((), schema.type_map[root], steps, material):
        if len(way) == steps or not list(_next_steps(way, way[-1].to, material)):
            yield way


def probing_ways(root: str, steps: int, material: Material, probes: Material) -> Iterator[Way]:
    """All ways that end in a field with optional arguments, for each value that these can have;
    then two steps on to the rows of the list, where it is one."""
    for way in _ways((), schema.type_map[root], steps, material):
        *before, last = way
        for arguments in _probed(last, probes, material):
            probing = (*before, replace(last, arguments=arguments))
            if last.to.name.endswith("Connection"):
                edges = next(s for s in _fields_on(last.to, material) if s.field == "edges")
                node = next(s for s in _fields_on(edges.to, material) if s.field == "node")
                probing = (*probing, edges, node)
            yield probing


def _ways(way: Way, on: GraphQLNamedType, steps: int, material: Material) -> Iterator[Way]:
    if way:
        yield way
    if len(way) < steps:
        for step in _next_steps(way, on, material):
            yield from _ways((*way, step), step.to, steps, material)


def _next_steps(way: Way, on: GraphQLNamedType, material: Material) -> Iterator[Step]:
    gone = {step.coordinate for step in way}
    named = material.kinds.get(way[0].id or "") if len(way) == 1 else None
    if named and is_object_type(on) and on.name in material.kinds.values() and on.name != named:
        return
    for step in _fields_on(on, material):
        if step.coordinate not in gone:
            yield step
    if is_abstract_type(on):
        for kind in schema.get_possible_types(on):
            if named in (None, kind.name):
                yield Step(on, kind, None)


def _fields_on(on: GraphQLNamedType, material: Material) -> Iterator[Step]:
    for name, of in fields(on).items():
        to = get_named_type(of.type)
        if is_composite_type(to):
            for args in _given(of, material):
                yield Step(on, to, name, written(args), args.get("id", "").strip('"') or None)


def _given(of: GraphQLField, material: Material) -> Iterator[dict[str, str]]:
    """The arguments that a field needs, and how many rows of a list it is to give."""
    rows = {"first": str(ROWS)} if "first" in of.args else {}
    needed = {name: a for name, a in of.args.items() if is_required_argument(a)}
    if not needed:
        yield rows
        return
    ((name, argument),) = needed.items()
    kind = get_named_type(argument.type)
    if isinstance(kind, GraphQLInputObjectType):
        yield from ({name: written(value, "{}")} for value in _inputs(kind, material))
        return
    assert kind.name == "ID"
    if is_list_type(get_nullable_type(argument.type)):
        yield {**rows, name: literal(material.ids)}
    else:
        yield from ({**rows, name: literal(id)} for id in material.ids)


def _inputs(kind: GraphQLInputObjectType, material: Material) -> Iterator[dict[str, str]]:
    """What a mutation can be asked to do: with each id in each place that takes one, beside all
    that fits in the others, and with each key."""
    # Siblings are not of the same name.
    named = {"name": literal(f"{NEW} by {kind.name}")} if "name" in kind.fields else {}
    needed = {
        name: _sample(of.type)
        for name, of in kind.fields.items()
        if is_required_input_field(of) and not _is_id(of.type)
    }
    given = {**needed, **named}
    places = [name for name, of in kind.fields.items() if _is_id(of.type)]
    if not places:
        yield given
        return
    keyed = "idempotencyKey" in kind.fields
    seen = set[str]()
    for place in places:
        for id in material.ids:
            for fitting in material.fitting:
                ids = {
                    name: id if name == place else fitting[name]
                    for name in places
                    if name == place or is_required_input_field(kind.fields[name])
                }
                placed = {
                    name: _listed(kind.fields[name].type, literal(id)) for name, id in ids.items()
                }
                for key in material.keys if keyed else [""]:
                    input = {**given, **placed}
                    if keyed:
                        input["idempotencyKey"] = literal(key)
                    if written(input) not in seen:
                        seen.add(written(input))
                        yield input


def _is_id(type_: Any) -> bool:
    return bool(get_named_type(type_).name == "ID")


def _listed(type_: Any, value: str) -> str:
    return f"[{value}]" if is_list_type(get_nullable_type(type_)) else value


def _sample(type_: Any) -> str:
    """Something of a type that refers to nothing."""
    kind = get_named_type(type_)
    if isinstance(kind, GraphQLInputObjectType):
        inside = {
            name: _sample(of.type)
            for name, of in kind.fields.items()
            if is_required_input_field(of)
        }
        return _listed(type_, written(inside, "{}") or "{}")
    assert kind.name == "String"
    return _listed(type_, literal(NEW))


def _probed(step: Step, probes: Material, material: Material) -> Iterator[str]:
    """The arguments of a field with each of its optional ones tried in turn."""
    if step.field is None:
        return
    of = fields(step.on)[step.field]
    for base in _given(of, material):
        if step.arguments != written(base):
            continue
        for name, argument in of.args.items():
            if not is_required_argument(argument):
                for value in _values(step.coordinate, name, argument, probes):
                    with_it = {**base, name: value}
                    if name in ("last", "before"):
                        with_it = {"last": str(ROWS), **with_it}
                        del with_it["first"]
                    yield written(with_it)


def _values(
    at: Coordinate, name: str, argument: GraphQLArgument, probes: Material
) -> Iterator[str]:
    kind = get_named_type(argument.type)
    match name:
        case "first":
            return
        case "last":
            yield str(ROWS)
        case "hours":
            yield from ("1", "168")
        case "after":
            yield from map(literal, probes.cursors.get(at, [])[:1])
        case "before":
            yield from map(literal, probes.cursors.get(at, [])[-1:])
        case _ if is_enum_type(kind):
            yield from kind.values
        case _ if kind.name == "Boolean":
            yield "true"
        case "filter":
            yield from _filters(kind, probes)
        case _:
            raise AssertionError(f"{at} has an argument {name} that nobody has thought of")


def _filters(kind: Any, probes: Material) -> Iterator[str]:
    """An input object with each of its fields in turn, with each value it can have."""
    for name, of in kind.fields.items():
        for value in _contents(of.type, probes):
            yield f"{{{name}: {value}}}"


def _contents(type_: Any, probes: Material) -> Iterator[str]:
    kind = get_named_type(type_)
    listed = is_list_type(get_nullable_type(type_))
    if isinstance(kind, GraphQLInputObjectType):
        found = _filters(kind, probes)
    elif is_enum_type(kind):
        found = iter(kind.values)
    else:
        values = {"ID": probes.ids, "String": probes.texts, "DateTime": probes.instants}[kind.name]
        found = map(literal, values)
    yield from (f"[{value}]" for value in found) if listed else found


def written(values: Mapping[str, str], brackets: str = "()") -> str:
    """The arguments of a field, or an input object in braces."""
    inside = ", ".join(f"{name}: {value}" for name, value in sorted(values.items()))
    return f"{brackets[0]}{inside}{brackets[1]}" if values else ""


def literal(value: str | Sequence[str]) -> str:
    """A text, or a list of texts, in a document."""
    return json.dumps(value)


@dataclass
class Seen:
    """What answers to ways had in them."""

    selected: set[Coordinate] = field(default_factory=set)
    found: set[Coordinate] = field(default_factory=set)
    """Those that had a value."""

    def note(self, way: Way, data: Any, material: Material | None = None) -> None:
        """Go through an answer along its way; cursors in it are learned."""
        things: list[Any] = [data]
        lists: Coordinate | None = None
        for step in way:
            on = step.on
            self._note_all(on, things)
            if step.field is None:
                things = [one for one in things if one["__typename"] == step.to.name]
                continue
            self.selected.add(step.coordinate)
            things = [one[step.field] for one in things]
            things = [
                one
                for some in things
                for one in (some if isinstance(some, list) else [some])
                if one is not None
            ]
            if things:
                self.found.add(step.coordinate)
            if step.to.name.endswith("Connection"):
                lists = step.coordinate
            if material and lists and step.to.name.endswith("Edge"):
                for one in things:
                    material.learn(lists, one["cursor"])
        self._note_all(way[-1].to, things)

    def _note_all(self, type_: GraphQLNamedType, things: Sequence[Any]) -> None:
        for name, of in fields(type_).items():
            if not is_composite_type(get_named_type(of.type)):
                self.selected.add((type_.name, name))
                if any(one.get(name) is not None for one in things):
                    self.found.add((type_.name, name))


def coordinates(root: str) -> set[Coordinate]:
    """Every field of every type that can be reached from that root type."""
    reached: dict[str, GraphQLNamedType] = {}
    ahead = [schema.type_map[root]]
    while ahead:
        type_ = ahead.pop()
        if type_.name in reached or not is_composite_type(type_):
            continue
        reached[type_.name] = type_
        ahead += [get_named_type(of.type) for of in fields(type_).values()]
        if is_abstract_type(type_):
            ahead += schema.get_possible_types(type_)
    return {(type_.name, name) for type_ in reached.values() for name in fields(type_)}
