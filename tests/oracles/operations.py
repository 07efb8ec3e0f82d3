"""Random valid operations over the whole schema.

The fields of a type, the arguments of a field and the conditions of a fragment are read from the
schema. Only useful values, such as existing ids and cursors, depend on the name or position of an
argument.

    @given(operation_cases("query", stocks))
    def test(case: OperationCase) -> None: ...

Hypothesis shrinks them, since the first choice is always the simplest.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar

from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    SchemaMetaFieldDef,
    TypeMetaFieldDef,
    TypeNameMetaFieldDef,
    Undefined,
    get_named_type,
    get_nullable_type,
    is_abstract_type,
    is_composite_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
    is_required_argument,
    is_required_input_field,
)
from hypothesis import strategies as st

from app.api.graphql.cursors import DEFAULT_ROWS
from app.api.graphql.schema import graphql_schema as schema
from tests.oracles.schema_walk import Coordinate, coordinates, fields

MAX_DEPTH = 14
"""Nested fields, so that with fragments the depth stays within the limits."""

MAX_META_DEPTH = 3
"""Nested fields of introspection, which has a limit of its own."""

BROKEN = ("__Type", "isOneOf")
"""Fails in Strawberry on lists and non-null types."""

ALIASES, DIRECTIVES = 24, 20

SIZES = (1, 2, 3, 5, 25, 100)
NO_SIZES = (0, 101, -1)

WINDOWS: Sequence[tuple[int, tuple[str, ...]]] = (
    (45, ("first",)),
    (58, ()),
    (72, ("last",)),
    (82, ("first", "after")),
    (88, ("last", "before")),
    (91, ("after",)),
    (93, ("before",)),
    (95, ("first", "before")),
    (97, ("last", "after")),
    (98, ("first", "after", "before")),
    (100, ("first", "last")),
)
"""Combinations of page arguments, each with its cumulative percentage."""

RICHEST_IDS = 8

WHOLE_NUMBERS = (1, 2, 24, 168, 0, -1, 169)

LOCALES = ("de", "fr-CA", "en", "FR-ca", "de-AT-1996", "it", "", "no locale", "x" * 300)

NO_IDS = (
    "0189a000-0000-4000-8000-000000000000",
    "0189a000-0000-4000-8000-00000000002a",
    "no id",
    "",
    "0",
)
"""Ids of no row, and malformed ones."""

NO_CURSORS = ("", "no cursor", "W10", "WyJqb2JzIl0", "WyJqb2JzIiwibm9uZSJd")
"""Invalid cursors, some in the encoding of real ones."""

KINDS = {"node": ("HierarchyNode",), "parent": ("Hierarchy", "HierarchyNode")}
"""The kinds of ids that an argument takes whose name is a role."""

REPLY_NAMES = ("a", "b", "id", "name", "nodes", "c")

FRAGMENT_NAMES = "ABCDEFGH"


@dataclass
class Stock:
    """Values that a store can read, for arguments."""

    ids: dict[str, list[str]]
    """Ids by type name; the first RICHEST_IDS of each have the most related rows."""
    texts: list[str]
    instants: list[str]
    cursors: dict[Coordinate, list[str]] = field(default_factory=dict)
    """Cursors by connection field."""


@dataclass(frozen=True)
class Execution:
    """One execution of a document."""

    store: str
    variables: dict[str, Any]


@dataclass(frozen=True)
class OperationCase:
    """A document and its executions."""

    text: str
    operation_name: str | None
    executions: tuple[Execution, ...]
    roots: tuple[str, ...]
    """The root fields, with repetitions."""
    selected: frozenset[Coordinate]

    def __str__(self) -> str:
        executions = "\n".join(
            f"{execution.store}: {json.dumps(execution.variables)}" for execution in self.executions
        )
        return f"{self.text}\n\noperationName: {self.operation_name}\n{executions}"


def operation_cases(
    kind: str, stocks: Mapping[str, Stock], times: int = 2, root: str | None = None
) -> st.SearchStrategy[OperationCase]:
    """Operations of a kind with `times` executions each, by the stores of `stocks`.

    With `root`, each of them selects this root field.
    """
    cases = st.randoms(use_true_random=False).map(
        lambda random: _Generator(random, kind, stocks, times, root).generate()
    )
    return cases if root is None else cases.filter(lambda case: root in case.roots)


class _EnumValue(str):
    """Written without quotes in a document."""

    __slots__ = ()


@dataclass(frozen=True)
class _Variable:
    name: str
    declared: str
    values: tuple[Any, ...]
    """Values by execution; Undefined if omitted."""


@dataclass
class _Field:
    parent: GraphQLNamedType
    name: str
    of: GraphQLField
    response: str
    arguments: str
    directives: str = ""
    inside: "list[_Selection]" = field(default_factory=list)

    def __str__(self) -> str:
        alias = "" if self.response == self.name else f"{self.response}: "
        block = f" {_block(self.inside)}" if self.inside else ""
        return f"{alias}{self.name}{self.arguments}{self.directives}{block}"


@dataclass
class _Inline:
    on: GraphQLNamedType
    condition: str
    directives: str
    inside: "list[_Selection]"

    def __str__(self) -> str:
        return f"...{self.condition}{self.directives} {_block(self.inside)}"


@dataclass
class _Fragment:
    name: str
    on: GraphQLNamedType
    levels: int = 0
    cost: int = 0
    inside: "list[_Selection]" = field(default_factory=list)

    def __str__(self) -> str:
        return f"fragment {self.name} on {self.on.name} {_block(self.inside)}"


@dataclass
class _Spread:
    fragment: _Fragment
    directives: str

    def __str__(self) -> str:
        return f"...{self.fragment.name}{self.directives}"


_Selection = _Field | _Inline | _Spread
Path = tuple[str, ...]
"""Response names from the root."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Position:
    """The position of a selection set."""

    type: GraphQLNamedType
    path: Path = ()
    level: int = 0
    rows: int = 1
    """Maximum number of values in a response."""
    page: int | None = None
    """Maximum number of rows, for a connection."""


ValueGenerator = Callable[[GraphQLNamedType, str], Any]
"""Generates a value of a type for a store."""


def _block(inside: "Sequence[_Selection]") -> str:
    lines = "\n".join(map(str, inside)).replace("\n", "\n  ")
    return f"{{\n  {lines}\n}}"


def literal(value: Any) -> str:
    """Format a value for a document."""
    match value:
        case _Variable():
            return f"${value.name}"
        case _EnumValue():
            return str(value)
        case dict():
            return (
                f"{{{', '.join(f'{name}: {literal(inside)}' for name, inside in value.items())}}}"
            )
        case list():
            return f"[{', '.join(map(literal, value))}]"
    return json.dumps(value)


TYPENAME = TypeNameMetaFieldDef
META = {"__schema": SchemaMetaFieldDef, "__type": TypeMetaFieldDef}


def possible(type_: GraphQLNamedType) -> frozenset[str]:
    """The names of the possible object types of a type."""
    if is_abstract_type(type_):
        return frozenset(kind.name for kind in schema.get_possible_types(type_))
    return frozenset((type_.name,))


def _conditions() -> dict[str, list[GraphQLNamedType]]:
    outputs = [type_ for type_ in schema.type_map.values() if is_composite_type(type_)]
    return {
        type_.name: [
            type_,
            *(other for other in outputs if other != type_ and possible(other) & possible(type_)),
        ]
        for type_ in outputs
    }


CONDITIONS = _conditions()
"""The possible type conditions of fragments by type, the type itself first."""


def _steps_to(target: str) -> dict[str, int]:
    """Distance to the target type, by type name."""
    steps = {target: 0}
    latest = {target}
    while latest:
        latest = {
            type_.name
            for type_ in schema.type_map.values()
            if is_composite_type(type_) and type_.name not in steps and _next(type_) & latest
        }
        steps |= dict.fromkeys(latest, max(steps.values()) + 1)
    return steps


def _next(type_: GraphQLNamedType) -> frozenset[str]:
    """The names of the types reachable through a field or a type condition."""
    types = {get_named_type(of.type).name for of in fields(type_).values()}
    return frozenset(types) | (possible(type_) if is_abstract_type(type_) else set())


_QUERIED = coordinates("Query")
_PAYLOADS = coordinates("Mutation") - _QUERIED
TARGETS = {
    "query": sorted(_QUERIED),
    # Most mutations return common types, so that each mutation is also a target itself.
    "mutation": sorted(_PAYLOADS, key=lambda at: at[0] != "Mutation")
    + 4 * sorted(at for at in _PAYLOADS if at[0] == "Mutation"),
    "subscription": sorted(coordinates("Subscription")),
}
"""Each document targets one of these fields, so that all occur about equally often."""

STEPS_TO = {name: _steps_to(name) for aims in TARGETS.values() for name, _ in aims}


class _Generator:
    """Generates one document."""

    def __init__(
        self,
        random: Random,
        kind: str,
        stocks: Mapping[str, Stock],
        times: int,
        root: str | None,
    ) -> None:
        self._random = random
        self._kind = kind
        self._stocks = stocks
        stores = list(stocks)
        # The first store has the most rows, so most executions use it.
        self._stores = [self._choose((stores[0], stores[0], *stores))]
        while len(self._stores) < times:
            self._stores.append(self._choose((*self._stores[:1] * 5, *stores)))
        self._target_type, self._target_field = (
            self._choose(TARGETS[kind]) if root is None else (kind.capitalize(), root)
        )
        self._fields_left = self._choose((20, 8, 30, 40, 60))
        self._cost_left = self._choose((1000, 300, 1000, 1000, 3000, 3000, 12_000))
        self._aliases_left, self._directives_left = ALIASES, DIRECTIVES
        self._variables: dict[str, list[_Variable]] = {}
        self._fragments: list[_Fragment] = []
        self._placed: dict[tuple[Path, str], list[_Field]] = {}
        self._in_value = False
        self._selected: set[Coordinate] = set()
        self._levels = 0

    def generate(self) -> OperationCase:
        root = schema.type_map[self._kind.capitalize()]
        selections = self._selections(_Position(root))
        roots = tuple(
            field.name for field in _flattened(selections) if not field.name.startswith("__")
        )
        name, operations = None, []
        if several := self._chance(8):
            operations.append("query Other {\n  jobQueue {\n    pending\n  }\n}")
        if several or self._chance(30):
            name = "Main"
        operations.append(self._operation(name, selections))
        if self._chance(50):
            operations.reverse()
        fragments = [fragment for fragment in self._fragments if _spreads(selections, fragment)]
        parts = [*operations, *map(str, fragments)]
        if self._chance(20):
            parts.reverse()
        text = "\n".join(parts)
        declared = set(re.findall(r"\$(\w+):", text))
        executions = tuple(
            Execution(
                store,
                {
                    variable.name: variable.values[time]
                    for known in self._variables.values()
                    for variable in known
                    if variable.name in declared and variable.values[time] is not Undefined
                },
            )
            for time, store in enumerate(self._stores)
        )
        return OperationCase(
            text,
            name if several or self._chance(50) else None,
            executions,
            roots,
            frozenset(self._selected),
        )

    def _operation(self, name: str | None, selections: "list[_Selection]") -> str:
        inside = "\n".join(
            (
                _block(selections),
                *(str(fragment) for fragment in self._fragments if _spreads(selections, fragment)),
            )
        )
        used = set(re.findall(r"\$(\w+)", inside))
        declared = ", ".join(
            f"${variable.name}: {variable.declared}"
            for known in self._variables.values()
            for variable in known
            if variable.name in used
        )
        if name is None and not declared and self._kind == "query":
            return _block(selections)
        return (
            f"{self._kind} {name or ''}{f'({declared})' if declared else ''} {_block(selections)}"
        )

    # Selections

    def _selections(self, position: _Position) -> "list[_Selection]":
        self._levels = max(self._levels, position.level)
        if position.level == 0 and self._kind == "subscription":
            # A subscription has a single root field.
            root = self._field(position, *self._choose(sorted(fields(position.type).items())))
            return [root] if root else [self._typename(position)]
        maximum = 3 if position.level == 0 else min(6, 2 + len(fields(position.type)))
        minimum = maximum // 2 if self._chance(70) else 1
        selections = [
            selection
            for number in range(minimum + self._random.randrange(maximum))
            if (selection := self._selection(position, 40 if number else 80))
        ]
        return selections or [self._typename(position)]

    def _selection(self, position: _Position, aiming: int) -> "_Selection | None":
        """Generate one selection, in `aiming` percent of the cases towards the target field."""
        self._fields_left -= 1
        self._cost_left -= position.rows
        if self._fields_left < 0 or self._cost_left < 0:
            return None
        kinds = fields(position.type)
        if (
            position.level < MAX_DEPTH
            and self._chance(aiming)
            and (ahead := self._towards_target(position.type))
        ):
            step = self._choose(ahead)
            if isinstance(step, str):
                return self._field(position, step, kinds[step])
            return self._fragment(position, step)
        fragments = 40 if is_abstract_type(position.type) else 12
        if not kinds or self._chance(fragments):
            return self._fragment(position)
        if self._chance(5):
            return self._typename(position)
        if self._chance(8) and (repeated := self._repeated_field(position)):
            return repeated
        if position.level == 0 and self._kind == "query" and self._chance(3):
            name, of = self._choose(list(META.items()))
        else:
            among = self._candidates(position)
            if not among:
                return self._typename(position)
            name, of = self._choose(among)
        return self._field(position, name, of)

    def _towards_target(self, parent: GraphQLNamedType) -> "list[str | GraphQLNamedType]":
        """The fields or type conditions one step closer to the target field."""
        if parent.name == self._target_type:
            return [self._target_field]
        steps = STEPS_TO[self._target_type]
        nearer = steps.get(parent.name, 0) - 1
        ahead: list[str | GraphQLNamedType] = [
            name
            for name, of in fields(parent).items()
            if steps.get(get_named_type(of.type).name) == nearer
        ]
        if is_abstract_type(parent):
            ahead += [
                kind for kind in schema.get_possible_types(parent) if steps.get(kind.name) == nearer
            ]
        return ahead

    def _candidates(self, position: _Position) -> list[tuple[str, GraphQLField]]:
        """The candidates for a field: either all composite fields or all leaf fields."""
        kinds = {
            name: of
            for name, of in fields(position.type).items()
            if (position.type.name, name) != BROKEN
        }
        new = {name: of for name, of in kinds.items() if (position.path, name) not in self._placed}
        if new and self._chance(85):
            kinds = new
        further = [
            item for item in kinds.items() if is_composite_type(get_named_type(item[1].type))
        ]
        leaves = [item for item in kinds.items() if item not in further]
        if position.level >= (MAX_META_DEPTH if position.type.name.startswith("__") else MAX_DEPTH):
            return leaves
        if not leaves or self._chance(max(60, 100 * len(further) // len(kinds))):
            return further or leaves
        return leaves

    def _typename(self, position: _Position) -> _Field:
        alias = "kind" if self._aliases_left > 0 and self._chance(10) else "__typename"
        field = _Field(position.type, "__typename", TYPENAME, alias, "", self._directives())
        if not self._register(position.path, [field]):
            field.response = "__typename"
        self._aliases_left -= 1
        self._selected.add((position.type.name, "__typename"))
        return field

    def _field(self, position: _Position, name: str, of: GraphQLField) -> _Field | None:
        arguments, size = self._arguments(position.type, name, of, position.rows)
        field = _Field(position.type, name, of, name, arguments)
        if self._chance(12):
            field.response = self._choose(REPLY_NAMES)
        for response in (field.response, name, *REPLY_NAMES):
            field.response = response
            if self._costs_alias(field, position.path) and self._aliases_left <= 0:
                continue
            if self._fits(position.path, [field]):
                break
        else:
            return None
        return self._add_field(position, field, size)

    def _costs_alias(self, field: _Field, path: Path) -> bool:
        return field.response != field.name or (path, field.response) in self._placed

    def _add_field(self, position: _Position, field: _Field, size: int | None) -> _Field:
        """Register the field and generate its directives and selections."""
        if self._costs_alias(field, position.path):
            self._aliases_left -= 1
        self._register(position.path, [field])
        self._selected.add((field.parent.name, field.name))
        field.directives = self._directives()
        kind = get_named_type(field.of.type)
        if is_composite_type(kind):
            rows = position.rows
            if is_list_type(get_nullable_type(field.of.type)):
                rows *= position.page or size or 10
                size = None
            field.inside = self._selections(
                _Position(kind, (*position.path, field.response), position.level + 1, rows, size)
            )
        return field

    def _repeated_field(self, position: _Position) -> _Field | None:
        """Select an already selected field again, with other selections."""
        selected = [
            original
            for (at, _), placed in self._placed.items()
            if at == position.path
            for original in placed
            if original.parent == position.type and original.name != "__typename"
        ]
        if not selected or self._aliases_left <= 0:
            return None
        original = self._choose(selected)
        field = _Field(
            position.type, original.name, original.of, original.response, original.arguments
        )
        return self._add_field(position, field, DEFAULT_ROWS)

    def _fragment(
        self, position: _Position, on: GraphQLNamedType | None = None
    ) -> "_Selection | None":
        """Generate a fragment on type `on` (default: any type that fits)."""
        if on is None and self._chance(25):
            fitting = [
                known
                for known in self._fragments
                if known.inside
                and possible(known.on) & possible(position.type)
                and known.levels + position.level <= MAX_DEPTH
                and known.cost * position.rows <= self._cost_left
                and self._fits(position.path, known.inside)
            ]
            if fitting:
                fragment = self._choose(fitting)
                self._register(position.path, fragment.inside)
                self._cost_left -= fragment.cost * position.rows
                # An estimate, cheaper than counting the aliases inside.
                self._aliases_left -= 1
                return _Spread(fragment, self._directives(20))
        if on is None:
            conditions = CONDITIONS[position.type.name]
            # A union has no fields, so prefer types that have some.
            with_fields = [kind for kind in conditions if fields(kind)]
            on = self._choose(with_fields if self._chance(85) else conditions)
        if len(self._fragments) < len(FRAGMENT_NAMES) and self._chance(35):
            fragment = _Fragment(FRAGMENT_NAMES[len(self._fragments)], on)
            self._fragments.append(fragment)
            levels, self._levels = self._levels, position.level
            cost = self._cost_left
            fragment.inside = self._selections(replace(position, type=on))
            fragment.levels = self._levels - position.level
            fragment.cost = (cost - self._cost_left) // position.rows + 1
            self._levels = max(levels, self._levels)
            return _Spread(fragment, self._directives(20))
        bare = on == position.type and self._chance(50)
        return _Inline(
            on,
            "" if bare else f" on {on.name}",
            self._directives(20),
            self._selections(replace(position, type=on)),
        )

    def _directives(self, of_a_hundred: int = 8) -> str:
        directives = ""
        if self._directives_left <= 0 or not self._chance(of_a_hundred):
            return directives
        for name in self._choose((("include",), ("skip",), ("skip", "include"))):
            self._directives_left -= 1
            type_ = GraphQLNonNull(GraphQLBoolean)
            keeps = name == "include"
            condition = self._argument_value(
                type_, name, lambda *_, k=keeps: k is not self._chance(40), 50
            )
            directives += f" @{name}(if: {literal(condition)})"
        return directives

    # Mergeable fields: "Field Selection Merging" of the specification

    def _fits(self, path: Path, selections: "Sequence[_Selection]") -> bool:
        return all(
            _can_merge(field, placed)
            for field_path, field in _all_fields(path, selections)
            for placed in self._placed.get((field_path, field.response), ())
        )

    def _register(self, path: Path, selections: "Sequence[_Selection]") -> bool:
        if not self._fits(path, selections):
            return False
        for field_path, entry in _all_fields(path, selections):
            self._placed.setdefault((field_path, entry.response), []).append(entry)
        return True

    # Arguments and values

    def _arguments(
        self, parent: GraphQLNamedType, name: str, of: GraphQLField, rows: int
    ) -> tuple[str, int | None]:
        """Generate arguments; return them with the maximum number of rows, if known."""
        coordinate, sizes = (parent.name, name), list[int]()
        window = self._window(rows) if "first" in of.args and "after" in of.args else ()
        values = {}
        for argument_name, argument in of.args.items():
            make = self._generator_of(argument_name, coordinate, possible(get_named_type(of.type)))
            if argument_name in ("first", "last", "after", "before"):
                if argument_name not in window:
                    continue
                if argument_name in ("first", "last"):
                    make = self._sizes(rows, sizes)
            elif not is_required_argument(argument) and not self._chance(50):
                continue
            value = self._argument_value(argument, argument_name, make)
            values[argument_name] = value
            if argument_name == "ids":
                sizes.append(10 if not isinstance(value, list) else len(value))
        if window is not None and "first" in of.args:
            sizes.append(1 if sizes else DEFAULT_ROWS)
        items = list(values.items())
        if self._chance(20):
            items.reverse()
        text = ", ".join(f"{argument_name}: {literal(value)}" for argument_name, value in items)
        return f"({text})" if text else "", max(sizes, default=None)

    def _window(self, rows: int) -> tuple[str, ...]:
        """Choose the page arguments."""
        roll = self._random.randrange(100)
        names = next(names for below, names in WINDOWS if roll < below)
        bounded = "first" in names or "last" in names
        return names if bounded or rows * DEFAULT_ROWS * 4 < self._cost_left else ("first", *names)

    def _sizes(self, rows: int, chosen: list[int]) -> ValueGenerator:
        fitting = [size for size in SIZES if size * rows * 4 < self._cost_left] or [1]

        def make(_type: GraphQLNamedType, _store: str) -> int:
            if self._chance(3):
                return self._choose(NO_SIZES)
            size = self._choose(fitting)
            chosen.append(size)
            return size

        return make

    def _generator_of(self, name: str, at: Coordinate, kinds: frozenset[str]) -> ValueGenerator:
        """Return the generator of values of an argument or input field."""

        def make(type_: GraphQLNamedType, store: str) -> Any:
            stock = self._stocks[store]
            match type_:
                case GraphQLEnumType():
                    return _EnumValue(self._choose(list(type_.values)))
                case GraphQLInputObjectType():
                    return self._input(type_, store)
            match type_.name:
                case "Boolean":
                    return self._chance(50)
                case "Int":
                    return self._choose(WHOLE_NUMBERS)
                case "ID":
                    return self._id(store, self._kinds(name, kinds))
                case "DateTime":
                    return self._choose(stock.instants)
            assert type_.name == "String", type_
            match name:
                case "after" | "before":
                    return self._cursor(store, at)
                case "locale":
                    return self._choose(LOCALES)
                case "name" if at[1] == "__type":
                    return self._choose(list(schema.type_map))
            return self._choose(stock.texts)

        return make

    @staticmethod
    def _kinds(name: str, returned: frozenset[str]) -> Sequence[str]:
        """The kinds of ids that an argument takes."""
        if name in ("id", "ids"):
            return sorted(returned)
        for role, kinds in KINDS.items():
            if name.startswith(role):
                return kinds
        return [kind for kind in schema.type_map if kind.lower() in name.lower()]

    def _id(self, store: str, kinds: Sequence[str]) -> str:
        ids = self._stocks[store].ids
        if self._chance(5):
            return self._choose(NO_IDS)
        if self._chance(6):
            ids = self._stocks[self._choose(list(self._stocks))].ids
        if not (fitting := [kind for kind in kinds if ids.get(kind)]) or self._chance(6):
            fitting = [kind for kind in ids if ids[kind]]
        of_kind = ids[self._choose(fitting)]
        id = self._choose(of_kind[:RICHEST_IDS] if self._chance(40) else of_kind)
        return id.upper().replace("-", "") if self._chance(2) else id

    def _cursor(self, store: str, at: Coordinate) -> str:
        cursors = self._stocks[store].cursors
        known = cursors.get(at)
        if not known or self._chance(8):
            if self._chance(50):
                return self._choose(NO_CURSORS)
            known = self._choose([known for known in cursors.values() if known])
        return self._choose(known)

    def _input(self, type_: GraphQLInputObjectType, store: str) -> dict[str, Any]:
        names = list(type_.fields)
        one_of = type_.extensions["strawberry-definition"].is_one_of
        if one_of:
            names = [self._choose(names)]
        else:
            names = [
                name
                for name in names
                if is_required_input_field(type_.fields[name]) or self._chance(40)
            ]
        values = {}
        for name in names:
            of = type_.fields[name]
            make = self._generator_of(name, ("", name), frozenset())
            target = GraphQLNonNull(get_nullable_type(of.type)) if one_of else of
            values[name] = self._argument_value(target, name, make, 10, store)
        return values

    def _argument_value(
        self,
        target: Any,
        name: str,
        make: ValueGenerator,
        variables: int = 25,
        store: str | None = None,
    ) -> Any:
        """Generate a value, or in `variables` percent of the cases a variable.

        `target` is a type, an argument or an input field. Values of variables contain no variables.
        """
        has_default = False
        if isinstance(target, GraphQLArgument | GraphQLInputField):
            has_default = target.default_value is not Undefined
            target = target.type
        if not self._in_value and self._chance(variables):
            return self._variable(target, has_default, name, make)
        return self._value(target, make, store or self._stores[0])

    def _value(self, type_: Any, make: ValueGenerator, store: str) -> Any:
        if not is_non_null_type(type_) and self._chance(4):
            return None
        type_ = get_nullable_type(type_)
        if isinstance(type_, GraphQLList):
            if self._chance(4):
                return self._value(GraphQLNonNull(get_nullable_type(type_.of_type)), make, store)
            return [
                self._argument_value(type_.of_type, "item", make, 8, store)
                for _ in range(self._choose((1, 2, 3, 6, 0)))
            ]
        return make(type_, store)

    def _variable(
        self, target: Any, has_default: bool, name: str, make: ValueGenerator
    ) -> _Variable:
        """Reuse or declare a variable with a value per execution."""
        known = self._variables.setdefault(f"{name}: {target} {has_default}", [])
        if known and self._chance(40):
            return self._choose(known)
        nullable = get_nullable_type(target)
        required = GraphQLNonNull(nullable)
        self._in_value = True
        default = ""
        declared = self._choose((target, target, required))
        if self._chance(20):
            declared, default = (
                nullable,
                f" = {literal(self._value(required, make, self._stores[0]))}",
            )
        elif has_default and self._chance(50):
            declared = nullable
        values: list[Any] = []
        for store in self._stores:
            optional = not is_non_null_type(declared)
            if optional and self._chance(40 if default else 20):
                values.append(Undefined)
            elif optional and self._chance(8):
                values.append(None)
            else:
                values.append(_plain(self._value(declared, make, store)))
        self._in_value = False
        number = sum(map(len, self._variables.values()))
        variable = _Variable(f"v{number}", f"{declared}{default}", tuple(values))
        known.append(variable)
        return variable

    # Chance

    def _chance(self, of_a_hundred: int) -> bool:
        return self._random.randrange(100) >= 100 - of_a_hundred

    def _choose(self, among: Sequence[T]) -> T:
        return among[self._random.randrange(len(among))]


def _plain(value: Any) -> Any:
    match value:
        case _EnumValue():
            return str(value)
        case dict():
            return {name: _plain(inside) for name, inside in value.items()}
        case list():
            return [_plain(inside) for inside in value]
    return value


def _all_fields(path: Path, selections: "Sequence[_Selection]") -> Iterator[tuple[Path, _Field]]:
    """Every field of a selection with its path."""
    for entry in _flattened(selections):
        yield path, entry
        yield from _all_fields((*path, entry.response), entry.inside)


def _flattened(selections: "Sequence[_Selection]") -> Iterator[_Field]:
    for selection in selections:
        match selection:
            case _Field():
                yield selection
            case _Inline():
                yield from _flattened(selection.inside)
            case _Spread():
                yield from _flattened(selection.fragment.inside)


def _spreads(selections: "Sequence[_Selection]", fragment: _Fragment) -> bool:
    """Return True if the selections spread the fragment at any depth."""
    for selection in selections:
        if isinstance(selection, _Spread):
            if selection.fragment is fragment or _spreads(selection.fragment.inside, fragment):
                return True
        elif _spreads(selection.inside, fragment):
            return True
    return False


def _can_merge(first: _Field, second: _Field) -> bool:
    """Return True if two fields of one response name can be merged."""
    if _shape(first.of) != _shape(second.of):
        return False
    apart = first.parent != second.parent and all(
        is_object_type(field.parent) for field in (first, second)
    )
    return apart or (first.name, first.arguments) == (second.name, second.arguments)


def _shape(of: GraphQLField) -> str:
    named = get_named_type(of.type)
    text = str(of.type)
    return text.replace(named.name, "") if is_composite_type(named) else text
