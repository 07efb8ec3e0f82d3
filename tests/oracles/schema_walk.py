"""Operations generated from the schema: paths from a root type to every field.

A path is a chain of fields, each on the type of the previous field. Its operation also selects all
leaf fields of each type on the path. All maximal paths of a length together select every field that
can be reached in that number of steps.
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
"""Rows per list."""

MAX_PATHS = 6
"""Maximum paths per operation, to stay within the limits."""

NEW = "walked"
"""The name that mutations write."""

Coordinate = tuple[str, str]
"""A type and one of its fields, by name."""


@dataclass
class Material:
    """Values of a store for arguments."""

    kinds: dict[str, str]
    """Ids of every kind, each with its type name."""
    texts: list[str]
    instants: list[str]
    locale: str
    fitting: list[dict[str, str]]
    """Valid ids by the name of the input field."""
    keys: list[str] = field(default_factory=list)
    """Idempotency keys."""
    cursors: dict[Coordinate, list[str]] = field(default_factory=dict)
    """Cursors returned to the store, by connection field."""

    @property
    def ids(self) -> list[str]:
        return list(self.kinds)

    def learn(self, at: Coordinate, cursor: str) -> None:
        """Keep a cursor, the first and the latest of each list."""
        known = self.cursors.setdefault(at, [])
        if cursor not in known:
            known[1:] = [cursor]


@dataclass(frozen=True)
class Step:
    """A field of a type, or a type condition."""

    on: GraphQLNamedType
    to: GraphQLNamedType
    field: str | None
    arguments: str = ""
    id: str | None = None
    """The value of an `id` argument."""

    @property
    def coordinate(self) -> Coordinate:
        return self.on.name, self.field or f"... on {self.to.name}"

    @property
    def needs_id(self) -> bool:
        """Return True for a field with required arguments."""
        arguments = fields(self.on)[self.field].args.values() if self.field else ()
        return any(is_required_argument(argument) for argument in arguments)

    def __str__(self) -> str:
        return f"{self.field}{self.arguments}" if self.field else f"... on {self.to.name}"


FieldPath = tuple[Step, ...]
Tree = dict[Step, Any]
"""Steps, each with the steps that follow it."""


@dataclass(frozen=True)
class Operation:
    """A document and its paths."""

    paths: tuple[FieldPath, ...]
    text: str


def operations(
    kind: str, paths: Iterable[FieldPath], material: Material, together: int = MAX_PATHS
) -> Iterator[Operation]:
    """Operations that cover all paths, with at most `together` paths of equal beginning each."""
    for _, group in groupby(paths, _beginning):
        while batch := tuple(islice(group, together)):
            tree: Tree = {}
            for path in batch:
                subtree = tree
                for step in path:
                    subtree = subtree.setdefault(step, {})
            yield Operation(batch, f"{kind} {_selection(tree, material)}")


def _beginning(path: FieldPath) -> FieldPath:
    """The steps up to the first type condition, which paths of one operation share.

    Below it the same field may have another type for another kind.
    """
    return path[: 1 + next((index for index, step in enumerate(path) if step.field is None), 0)]


def _selection(tree: "Tree", material: Material, on: GraphQLNamedType | None = None) -> str:
    inside = [f"{step} {_selection(subtree, material, step.to)}" for step, subtree in tree.items()]
    return f"{{ {' '.join([leaves(on, material) if on else '', *inside])} }}"


def leaves(type_: GraphQLNamedType, material: Material) -> str:
    """Select every leaf field of a type; for a union, those of the shared interfaces."""
    selected = ["__typename"]
    if is_union_type(type_):
        shared = set.intersection(*({*kind.interfaces} for kind in type_.types))
        selected += [f"... on {kind.name} {{ {leaves(kind, material)} }}" for kind in shared]
    for name, definition in fields(type_).items():
        if not is_composite_type(get_named_type(definition.type)):
            selected.append(name)
            for argument in definition.args:
                # Leaf fields have no other argument yet; a new one needs a decision here.
                assert argument == "locale"
                selected.append(f"translated_{name}: {name}(locale: {literal(material.locale)})")
    return " ".join(selected)


def fields(type_: GraphQLNamedType) -> Mapping[str, GraphQLField]:
    """The fields of a type; a union has none."""
    return type_.fields if is_object_type(type_) or is_interface_type(type_) else {}


def maximal_paths(root: str, steps: int, material: Material) -> Iterator[FieldPath]:
    """All paths of `steps` steps from a root type, shorter only if they cannot continue.

    No path visits a field twice or continues from an id of another kind.
    """
    for path in _paths((), schema.type_map[root], steps, material):
        if len(path) == steps or not list(_next_steps(path, path[-1].to, material)):
            yield path


def probing_paths(
    root: str, steps: int, material: Material, probes: Material
) -> Iterator[FieldPath]:
    """All paths that end in a field with an optional argument, for each value of it.

    Paths that end in a connection continue to its rows.
    """
    for path in _paths((), schema.type_map[root], steps, material):
        *before, last = path
        for arguments in _probed(last, probes, material):
            probing = (*before, replace(last, arguments=arguments))
            if last.to.name.endswith("Connection"):
                edges = next(s for s in _fields_on(last.to, material) if s.field == "edges")
                node = next(s for s in _fields_on(edges.to, material) if s.field == "node")
                probing = (*probing, edges, node)
            yield probing


def _paths(
    path: FieldPath, on: GraphQLNamedType, steps: int, material: Material
) -> Iterator[FieldPath]:
    if path:
        yield path
    if len(path) < steps:
        for step in _next_steps(path, on, material):
            yield from _paths((*path, step), step.to, steps, material)


def _next_steps(path: FieldPath, on: GraphQLNamedType, material: Material) -> Iterator[Step]:
    visited = {step.coordinate for step in path}
    kind_of_id = material.kinds.get(path[0].id or "") if len(path) == 1 else None
    if (
        kind_of_id
        and is_object_type(on)
        and on.name in material.kinds.values()
        and on.name != kind_of_id
    ):
        return
    for step in _fields_on(on, material):
        if step.coordinate not in visited:
            yield step
    if is_abstract_type(on):
        for kind in schema.get_possible_types(on):
            if kind_of_id in (None, kind.name):
                yield Step(on, kind, None)


def _fields_on(on: GraphQLNamedType, material: Material) -> Iterator[Step]:
    for name, definition in fields(on).items():
        to = get_named_type(definition.type)
        if is_composite_type(to):
            for args in _required_arguments(definition, material):
                yield Step(on, to, name, formatted(args), args.get("id", "").strip('"') or None)


def _required_arguments(field: GraphQLField, material: Material) -> Iterator[dict[str, str]]:
    """The required arguments of a field, and the number of rows of a list."""
    rows = {"first": str(ROWS)} if "first" in field.args else {}
    needed = {name: a for name, a in field.args.items() if is_required_argument(a)}
    if not needed:
        yield rows
        return
    ((name, argument),) = needed.items()
    kind = get_named_type(argument.type)
    if isinstance(kind, GraphQLInputObjectType):
        yield from ({name: formatted(value, "{}")} for value in _inputs(kind, material))
        return
    assert kind.name == "ID"
    if is_list_type(get_nullable_type(argument.type)):
        yield {**rows, name: literal(material.ids)}
    else:
        yield from ({**rows, name: literal(id)} for id in material.ids)


def _inputs(kind: GraphQLInputObjectType, material: Material) -> Iterator[dict[str, str]]:
    """The inputs of a mutation: each id in each id field, valid ids in the others, and each key."""
    # Siblings need different names.
    named = {"name": literal(f"{NEW} by {kind.name}")} if "name" in kind.fields else {}
    needed = {
        name: _sample(field.type)
        for name, field in kind.fields.items()
        if is_required_input_field(field) and not _is_id(field.type)
    }
    values = {**needed, **named}
    id_fields = [name for name, field in kind.fields.items() if _is_id(field.type)]
    if not id_fields:
        yield values
        return
    keyed = "idempotencyKey" in kind.fields
    seen = set[str]()
    for id_field in id_fields:
        for id in material.ids:
            for fitting in material.fitting:
                ids = {
                    name: id if name == id_field else fitting[name]
                    for name in id_fields
                    if name == id_field or is_required_input_field(kind.fields[name])
                }
                id_values = {
                    name: _listed(kind.fields[name].type, literal(id)) for name, id in ids.items()
                }
                for key in material.keys if keyed else [""]:
                    input = {**values, **id_values}
                    if keyed:
                        input["idempotencyKey"] = literal(key)
                    if formatted(input) not in seen:
                        seen.add(formatted(input))
                        yield input


def _is_id(type_: Any) -> bool:
    return bool(get_named_type(type_).name == "ID")


def _listed(type_: Any, value: str) -> str:
    return f"[{value}]" if is_list_type(get_nullable_type(type_)) else value


def _sample(type_: Any) -> str:
    """A value of a type without references."""
    kind = get_named_type(type_)
    if isinstance(kind, GraphQLInputObjectType):
        inside = {
            name: _sample(of.type)
            for name, of in kind.fields.items()
            if is_required_input_field(of)
        }
        return _listed(type_, formatted(inside, "{}") or "{}")
    assert kind.name == "String"
    return _listed(type_, literal(NEW))


def _probed(step: Step, probes: Material, material: Material) -> Iterator[str]:
    """The arguments of a field, with each optional argument in turn."""
    if step.field is None:
        return
    field = fields(step.on)[step.field]
    for base in _required_arguments(field, material):
        if step.arguments != formatted(base):
            continue
        for name, argument in field.args.items():
            if not is_required_argument(argument):
                for value in _values(step.coordinate, name, argument, probes):
                    probed = {**base, name: value}
                    if name in ("last", "before"):
                        probed = {"last": str(ROWS), **probed}
                        del probed["first"]
                    yield formatted(probed)


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
            raise AssertionError(f"{at} has an argument {name} without a value here")


def _filters(kind: Any, probes: Material) -> Iterator[str]:
    """Input objects with one field each, for every field and value."""
    for name, definition in kind.fields.items():
        for value in _contents(definition.type, probes):
            yield f"{{{name}: {value}}}"


def _contents(type_: Any, probes: Material) -> Iterator[str]:
    kind = get_named_type(type_)
    is_list = is_list_type(get_nullable_type(type_))
    if isinstance(kind, GraphQLInputObjectType):
        contents = _filters(kind, probes)
    elif is_enum_type(kind):
        contents = iter(kind.values)
    else:
        values = {"ID": probes.ids, "String": probes.texts, "DateTime": probes.instants}[kind.name]
        contents = map(literal, values)
    yield from (f"[{value}]" for value in contents) if is_list else contents


def formatted(values: Mapping[str, str], brackets: str = "()") -> str:
    """Format the arguments of a field, or an input object in braces."""
    inside = ", ".join(f"{name}: {value}" for name, value in sorted(values.items()))
    return f"{brackets[0]}{inside}{brackets[1]}" if values else ""


def literal(value: str | Sequence[str]) -> str:
    """Format a text or a list of texts for a document."""
    return json.dumps(value)


@dataclass
class Coverage:
    """Fields selected by paths, and those with a value in a response."""

    selected: set[Coordinate] = field(default_factory=set)
    with_value: set[Coordinate] = field(default_factory=set)

    def record(self, path: FieldPath, data: Any, material: Material | None = None) -> None:
        """Follow a path through a response; `material` learns the cursors on it."""
        values: list[Any] = [data]
        connection: Coordinate | None = None
        for step in path:
            on = step.on
            self._record_leaves(on, values)
            if step.field is None:
                values = [value for value in values if value["__typename"] == step.to.name]
                continue
            self.selected.add(step.coordinate)
            values = [value[step.field] for value in values]
            values = [
                item
                for value in values
                for item in (value if isinstance(value, list) else [value])
                if item is not None
            ]
            if values:
                self.with_value.add(step.coordinate)
            if step.to.name.endswith("Connection"):
                connection = step.coordinate
            if material and connection and step.to.name.endswith("Edge"):
                for edge in values:
                    material.learn(connection, edge["cursor"])
        self._record_leaves(path[-1].to, values)

    def _record_leaves(self, type_: GraphQLNamedType, values: Sequence[Any]) -> None:
        for name, definition in fields(type_).items():
            if not is_composite_type(get_named_type(definition.type)):
                self.selected.add((type_.name, name))
                if any(value.get(name) is not None for value in values):
                    self.with_value.add((type_.name, name))


def coordinates(root: str) -> set[Coordinate]:
    """Every field of every type reachable from a root type."""
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
