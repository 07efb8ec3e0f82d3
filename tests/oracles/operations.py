"""Valid operations of any shape over the whole schema, made from its types by chance.

What they are made of is read from the schema: which fields a type has, which arguments a field
takes, which conditions a fragment may have. Only what a value should look like to be of use, an id
or a cursor that is there, is known by an argument's name or by where it stands.

    @given(written("query", stocks))
    def test(asked: Asked) -> None: ...

Hypothesis shrinks them: the first choice is always the plainest one.
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

DEEPEST = 14
"""Fields inside fields, so that with fragments they stay within the limits."""

META_DEEPEST = 3
"""Likewise in what the schema says of itself, for which there is a rule of its own."""

BROKEN = ("__Type", "isOneOf")
"""Strawberry has it fail on lists and on what can't be null."""

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
"""What of the arguments of a page is given, up to which of a hundred cases."""

RICHEST = 8

WHOLE_NUMBERS = (1, 2, 24, 168, 0, -1, 169)

LOCALES = ("de", "fr-CA", "en", "FR-ca", "de-AT-1996", "it", "", "no locale", "x" * 300)

NO_IDS = (
    "0189a000-0000-4000-8000-000000000000",
    "0189a000-0000-4000-8000-00000000002a",
    "no id",
    "",
    "0",
)
"""Of nothing at all, and ill-formed ones."""

NO_CURSORS = ("", "no cursor", "W10", "WyJqb2JzIl0", "WyJqb2JzIiwibm9uZSJd")
"""Some of them made like real ones."""

KINDS = {"node": ("HierarchyNode",), "parent": ("Hierarchy", "HierarchyNode")}
"""What ids are of whose argument is named by a role."""

REPLY_NAMES = ("a", "b", "id", "name", "nodes", "c")

FRAGMENT_NAMES = "ABCDEFGH"


@dataclass
class Stock:
    """What one store can see, as it goes into arguments."""

    ids: dict[str, list[str]]
    """By the name of the type; the first RICHEST of each are those that lead to most."""
    texts: list[str]
    instants: list[str]
    cursors: dict[Coordinate, list[str]] = field(default_factory=dict)
    """By the field that has the list."""


@dataclass(frozen=True)
class Asking:
    """One of the times that a document is asked for."""

    store: str
    variables: dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A document, and how it is asked for."""

    text: str
    operation_name: str | None
    askings: tuple[Asking, ...]
    roots: tuple[str, ...]
    """The fields it begins with, each as often as it does."""
    selected: frozenset[Coordinate]

    def __str__(self) -> str:
        asked = "\n".join(f"{one.store}: {json.dumps(one.variables)}" for one in self.askings)
        return f"{self.text}\n\noperationName: {self.operation_name}\n{asked}"


def written(kind: str, stocks: Mapping[str, Stock], times: int = 2) -> st.SearchStrategy[Asked]:
    """Operations of that kind, each asked for so many times, by stores of any of these stocks."""
    return st.randoms(use_true_random=False).map(
        lambda random: _Author(random, kind, stocks, times).asked()
    )


class _EnumValue(str):
    """Has no quotes in a document."""

    __slots__ = ()


@dataclass(frozen=True)
class _Variable:
    name: str
    declared: str
    values: tuple[Any, ...]
    """Undefined where it is left out."""


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
"""Response names, from the root down."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Place:
    """Where something is selected."""

    type: GraphQLNamedType
    path: Path = ()
    level: int = 0
    rows: int = 1
    """How many things an answer may have there."""
    page: int | None = None
    """How many rows, where it is a page of a list."""


Make = Callable[[GraphQLNamedType, str], Any]
"""Makes a value of a type for a store."""


def _block(inside: "Sequence[_Selection]") -> str:
    lines = "\n".join(map(str, inside)).replace("\n", "\n  ")
    return f"{{\n  {lines}\n}}"


def literal(value: Any) -> str:
    """A value in a document."""
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
    """The names of the object types that a thing of this type can be of."""
    if is_abstract_type(type_):
        return frozenset(one.name for one in schema.get_possible_types(type_))
    return frozenset((type_.name,))


def _conditions() -> dict[str, list[GraphQLNamedType]]:
    outputs = [type_ for type_ in schema.type_map.values() if is_composite_type(type_)]
    return {
        type_.name: [
            type_,
            *(one for one in outputs if one != type_ and possible(one) & possible(type_)),
        ]
        for type_ in outputs
    }


CONDITIONS = _conditions()
"""The types that a fragment inside a type may be on, the type itself first."""


def _steps_to(target: str) -> dict[str, int]:
    """From how many types on the way, by their names, a type can be reached."""
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
    """The names of the types that a field or a condition leads to."""
    led_to = {get_named_type(of.type).name for of in fields(type_).values()}
    return frozenset(led_to) | (possible(type_) if is_abstract_type(type_) else set())


_QUERIED = coordinates("Query")
_PAYLOADS = coordinates("Mutation") - _QUERIED
AIMS = {
    "query": sorted(_QUERIED),
    # Most mutations lead to what many lead to: each is aimed at for itself, too.
    "mutation": sorted(_PAYLOADS, key=lambda at: at[0] != "Mutation")
    + 4 * sorted(at for at in _PAYLOADS if at[0] == "Mutation"),
}
"""Each document goes for one of these, so that they all come up about as often."""

STEPS_TO = {name: _steps_to(name) for aims in AIMS.values() for name, _ in aims}


class _Author:
    """Writes one document."""

    def __init__(self, random: Random, kind: str, stocks: Mapping[str, Stock], times: int) -> None:
        self._random = random
        self._kind = kind
        self._stocks = stocks
        stores = list(stocks)
        # The first store has the most, and is asked most.
        self._stores = [self._one((stores[0], stores[0], *stores))]
        while len(self._stores) < times:
            self._stores.append(self._one((*self._stores[:1] * 5, *stores)))
        self._aim, self._aimed_at = self._one(AIMS[kind])
        self._fields_left = self._one((20, 8, 30, 40, 60))
        self._cost_left = self._one((1000, 300, 1000, 1000, 3000, 3000, 12_000))
        self._aliases_left, self._directives_left = ALIASES, DIRECTIVES
        self._variables: dict[str, list[_Variable]] = {}
        self._fragments: list[_Fragment] = []
        self._placed: dict[tuple[Path, str], list[_Field]] = {}
        self._in_value = False
        self._selected: set[Coordinate] = set()
        self._levels = 0

    def asked(self) -> Asked:
        """The document and how it is asked for."""
        root = schema.type_map[self._kind.capitalize()]
        selections = self._selections(_Place(root))
        roots = tuple(one.name for one in _unfolded(selections) if not one.name.startswith("__"))
        name, operations = None, []
        if several := self._chance(8):
            operations.append("query Other {\n  jobQueue {\n    pending\n  }\n}")
        if several or self._chance(30):
            name = "Asked"
        operations.append(self._operation(name, selections))
        if self._chance(50):
            operations.reverse()
        fragments = [fragment for fragment in self._fragments if _spreads(selections, fragment)]
        parts = [*operations, *map(str, fragments)]
        if self._chance(20):
            parts.reverse()
        text = "\n".join(parts)
        declared = set(re.findall(r"\$(\w+):", text))
        askings = tuple(
            Asking(
                store,
                {
                    one.name: one.values[time]
                    for known in self._variables.values()
                    for one in known
                    if one.name in declared and one.values[time] is not Undefined
                },
            )
            for time, store in enumerate(self._stores)
        )
        return Asked(
            text,
            name if several or self._chance(50) else None,
            askings,
            roots,
            frozenset(self._selected),
        )

    def _operation(self, name: str | None, selections: "list[_Selection]") -> str:
        inside = "\n".join(
            (
                _block(selections),
                *(str(one) for one in self._fragments if _spreads(selections, one)),
            )
        )
        used = set(re.findall(r"\$(\w+)", inside))
        declared = ", ".join(
            f"${one.name}: {one.declared}"
            for known in self._variables.values()
            for one in known
            if one.name in used
        )
        if name is None and not declared and self._kind == "query":
            return _block(selections)
        return (
            f"{self._kind} {name or ''}{f'({declared})' if declared else ''} {_block(selections)}"
        )

    # What is selected

    def _selections(self, place: _Place) -> "list[_Selection]":
        self._levels = max(self._levels, place.level)
        most = 3 if place.level == 0 else min(6, 2 + len(fields(place.type)))
        least = most // 2 if self._chance(70) else 1
        made = [
            one
            for number in range(least + self._random.randrange(most))
            if (one := self._selection(place, 40 if number else 80))
        ]
        return made or [self._typename(place)]

    def _selection(self, place: _Place, aiming: int) -> "_Selection | None":
        """One of a set, in so many of a hundred cases nearer to what is aimed at."""
        self._fields_left -= 1
        self._cost_left -= place.rows
        if self._fields_left < 0 or self._cost_left < 0:
            return None
        kinds = fields(place.type)
        if place.level < DEEPEST and self._chance(aiming) and (ahead := self._ahead(place.type)):
            step = self._one(ahead)
            if isinstance(step, str):
                return self._field(place, step, kinds[step])
            return self._fragment(place, step)
        fragments = 40 if is_abstract_type(place.type) else 12
        if not kinds or self._chance(fragments):
            return self._fragment(place)
        if self._chance(5):
            return self._typename(place)
        if self._chance(8) and (again := self._again(place)):
            return again
        if place.level == 0 and self._kind == "query" and self._chance(3):
            name, of = self._one(list(META.items()))
        else:
            among = self._among(place)
            if not among:
                return self._typename(place)
            name, of = self._one(among)
        return self._field(place, name, of)

    def _ahead(self, parent: GraphQLNamedType) -> "list[str | GraphQLNamedType]":
        """The fields that lead nearer to what this document aims at, or the conditions that do."""
        if parent.name == self._aim:
            return [self._aimed_at]
        steps = STEPS_TO[self._aim]
        nearer = steps.get(parent.name, 0) - 1
        ahead: list[str | GraphQLNamedType] = [
            name
            for name, of in fields(parent).items()
            if steps.get(get_named_type(of.type).name) == nearer
        ]
        if is_abstract_type(parent):
            ahead += [
                one for one in schema.get_possible_types(parent) if steps.get(one.name) == nearer
            ]
        return ahead

    def _among(self, place: _Place) -> list[tuple[str, GraphQLField]]:
        """Fields to choose one of: all that lead further, or all that do not."""
        kinds = {
            name: of for name, of in fields(place.type).items() if (place.type.name, name) != BROKEN
        }
        new = {name: of for name, of in kinds.items() if (place.path, name) not in self._placed}
        if new and self._chance(85):
            kinds = new
        further = [one for one in kinds.items() if is_composite_type(get_named_type(one[1].type))]
        leaves = [one for one in kinds.items() if one not in further]
        if place.level >= (META_DEEPEST if place.type.name.startswith("__") else DEEPEST):
            return leaves
        if not leaves or self._chance(max(60, 100 * len(further) // len(kinds))):
            return further or leaves
        return leaves

    def _typename(self, place: _Place) -> _Field:
        alias = "kind" if self._aliases_left > 0 and self._chance(10) else "__typename"
        made = _Field(place.type, "__typename", TYPENAME, alias, "", self._directives())
        if not self._place(place.path, [made]):
            made.response = "__typename"
        self._aliases_left -= 1
        self._selected.add((place.type.name, "__typename"))
        return made

    def _field(self, place: _Place, name: str, of: GraphQLField) -> _Field | None:
        arguments, size = self._arguments(place.type, name, of, place.rows)
        made = _Field(place.type, name, of, name, arguments)
        if self._chance(12):
            made.response = self._one(REPLY_NAMES)
        for response in (made.response, name, *REPLY_NAMES):
            made.response = response
            if self._costs_alias(made, place.path) and self._aliases_left <= 0:
                continue
            if self._fits(place.path, [made]):
                break
        else:
            return None
        return self._filled(place, made, size)

    def _costs_alias(self, made: _Field, path: Path) -> bool:
        return made.response != made.name or (path, made.response) in self._placed

    def _filled(self, place: _Place, made: _Field, size: int | None) -> _Field:
        """The field, put where it belongs, with what is selected inside."""
        if self._costs_alias(made, place.path):
            self._aliases_left -= 1
        self._place(place.path, [made])
        self._selected.add((made.parent.name, made.name))
        made.directives = self._directives()
        kind = get_named_type(made.of.type)
        if is_composite_type(kind):
            below = place.rows
            if is_list_type(get_nullable_type(made.of.type)):
                below *= place.page or size or 10
                size = None
            made.inside = self._selections(
                _Place(kind, (*place.path, made.response), place.level + 1, below, size)
            )
        return made

    def _again(self, place: _Place) -> _Field | None:
        """A field that is selected there already, with something else inside."""
        there = [
            one
            for (at, _), placed in self._placed.items()
            if at == place.path
            for one in placed
            if one.parent == place.type and one.name != "__typename"
        ]
        if not there or self._aliases_left <= 0:
            return None
        one = self._one(there)
        made = _Field(place.type, one.name, one.of, one.response, one.arguments)
        return self._filled(place, made, DEFAULT_ROWS)

    def _fragment(self, place: _Place, on: GraphQLNamedType | None = None) -> "_Selection | None":
        """A fragment, on a certain type or on any that fits."""
        if on is None and self._chance(25):
            fitting = [
                one
                for one in self._fragments
                if one.inside
                and possible(one.on) & possible(place.type)
                and one.levels + place.level <= DEEPEST
                and one.cost * place.rows <= self._cost_left
                and self._fits(place.path, one.inside)
            ]
            if fitting:
                fragment = self._one(fitting)
                self._place(place.path, fragment.inside)
                self._cost_left -= fragment.cost * place.rows
                # Cheaper than to count what is inside.
                self._aliases_left -= 1
                return _Spread(fragment, self._directives(20))
        if on is None:
            conditions = CONDITIONS[place.type.name]
            # A union has no fields: something is to come of it.
            with_fields = [one for one in conditions if fields(one)]
            on = self._one(with_fields if self._chance(85) else conditions)
        if len(self._fragments) < len(FRAGMENT_NAMES) and self._chance(35):
            fragment = _Fragment(FRAGMENT_NAMES[len(self._fragments)], on)
            self._fragments.append(fragment)
            levels, self._levels = self._levels, place.level
            cost = self._cost_left
            fragment.inside = self._selections(replace(place, type=on))
            fragment.levels = self._levels - place.level
            fragment.cost = (cost - self._cost_left) // place.rows + 1
            self._levels = max(levels, self._levels)
            return _Spread(fragment, self._directives(20))
        bare = on == place.type and self._chance(50)
        return _Inline(
            on,
            "" if bare else f" on {on.name}",
            self._directives(20),
            self._selections(replace(place, type=on)),
        )

    def _directives(self, of_a_hundred: int = 8) -> str:
        given = ""
        if self._directives_left <= 0 or not self._chance(of_a_hundred):
            return given
        for name in self._one((("include",), ("skip",), ("skip", "include"))):
            self._directives_left -= 1
            wanted = GraphQLNonNull(GraphQLBoolean)
            keeps = name == "include"
            condition = self._given(wanted, name, lambda *_, k=keeps: k is not self._chance(40), 50)
            given += f" @{name}(if: {literal(condition)})"
        return given

    # What fits beside what: as the specification's "Field Selection Merging" has it

    def _fits(self, path: Path, selections: "Sequence[_Selection]") -> bool:
        return all(
            _merge(made, one)
            for at, made in _all_fields(path, selections)
            for one in self._placed.get((at, made.response), ())
        )

    def _place(self, path: Path, selections: "Sequence[_Selection]") -> bool:
        if not self._fits(path, selections):
            return False
        for at, made in _all_fields(path, selections):
            self._placed.setdefault((at, made.response), []).append(made)
        return True

    # What is given

    def _arguments(
        self, parent: GraphQLNamedType, name: str, of: GraphQLField, rows: int
    ) -> tuple[str, int | None]:
        """What a field is given, and how many rows it has at most, as far as that says."""
        coordinate, sizes = (parent.name, name), list[int]()
        window = self._window(rows) if "first" in of.args and "after" in of.args else ()
        given = {}
        for called, argument in of.args.items():
            make = self._maker(called, coordinate, possible(get_named_type(of.type)))
            if called in ("first", "last", "after", "before"):
                if called not in window:
                    continue
                if called in ("first", "last"):
                    make = self._sizes(rows, sizes)
            elif not is_required_argument(argument) and not self._chance(50):
                continue
            value = self._given(argument, called, make)
            given[called] = value
            if called == "ids":
                sizes.append(10 if not isinstance(value, list) else len(value))
        if window is not None and "first" in of.args:
            sizes.append(1 if sizes else DEFAULT_ROWS)
        items = list(given.items())
        if self._chance(20):
            items.reverse()
        text = ", ".join(f"{called}: {literal(value)}" for called, value in items)
        return f"({text})" if text else "", max(sizes, default=None)

    def _window(self, rows: int) -> tuple[str, ...]:
        """Which of the arguments of a page are given."""
        roll = self._random.randrange(100)
        names = next(names for below, names in WINDOWS if roll < below)
        bounded = "first" in names or "last" in names
        return names if bounded or rows * DEFAULT_ROWS * 4 < self._cost_left else ("first", *names)

    def _sizes(self, rows: int, made: list[int]) -> Make:
        fitting = [size for size in SIZES if size * rows * 4 < self._cost_left] or [1]

        def make(_type: GraphQLNamedType, _store: str) -> int:
            if self._chance(3):
                return self._one(NO_SIZES)
            size = self._one(fitting)
            made.append(size)
            return size

        return make

    def _maker(self, name: str, at: Coordinate, kinds: frozenset[str]) -> Make:
        """What makes the values of an argument, or of a field of an input, of that name."""

        def make(type_: GraphQLNamedType, store: str) -> Any:
            stock = self._stocks[store]
            match type_:
                case GraphQLEnumType():
                    return _EnumValue(self._one(list(type_.values)))
                case GraphQLInputObjectType():
                    return self._input(type_, store)
            match type_.name:
                case "Boolean":
                    return self._chance(50)
                case "Int":
                    return self._one(WHOLE_NUMBERS)
                case "ID":
                    return self._id(store, self._kinds(name, kinds))
                case "DateTime":
                    return self._one(stock.instants)
            assert type_.name == "String", type_
            match name:
                case "after" | "before":
                    return self._cursor(store, at)
                case "locale":
                    return self._one(LOCALES)
                case "name" if at[1] == "__type":
                    return self._one(list(schema.type_map))
            return self._one(stock.texts)

        return make

    @staticmethod
    def _kinds(name: str, given: frozenset[str]) -> Sequence[str]:
        """Which kinds of things the ids of an argument are meant to be of."""
        if name in ("id", "ids"):
            return sorted(given)
        for role, kinds in KINDS.items():
            if name.startswith(role):
                return kinds
        return [kind for kind in schema.type_map if kind.lower() in name.lower()]

    def _id(self, store: str, kinds: Sequence[str]) -> str:
        ids = self._stocks[store].ids
        if self._chance(5):
            return self._one(NO_IDS)
        if self._chance(6):
            ids = self._stocks[self._one(list(self._stocks))].ids
        if not (fitting := [kind for kind in kinds if ids.get(kind)]) or self._chance(6):
            fitting = [kind for kind in ids if ids[kind]]
        of_kind = ids[self._one(fitting)]
        id = self._one(of_kind[:RICHEST] if self._chance(40) else of_kind)
        return id.upper().replace("-", "") if self._chance(2) else id

    def _cursor(self, store: str, at: Coordinate) -> str:
        cursors = self._stocks[store].cursors
        known = cursors.get(at)
        if not known or self._chance(8):
            if self._chance(50):
                return self._one(NO_CURSORS)
            known = self._one([some for some in cursors.values() if some])
        return self._one(known)

    def _input(self, type_: GraphQLInputObjectType, store: str) -> dict[str, Any]:
        names = list(type_.fields)
        one_of = type_.extensions["strawberry-definition"].is_one_of
        if one_of:
            names = [self._one(names)]
        else:
            names = [
                name
                for name in names
                if is_required_input_field(type_.fields[name]) or self._chance(40)
            ]
        given = {}
        for name in names:
            of = type_.fields[name]
            make = self._maker(name, ("", name), frozenset())
            wanted = GraphQLNonNull(get_nullable_type(of.type)) if one_of else of
            given[name] = self._given(wanted, name, make, 10, store)
        return given

    def _given(
        self,
        wanted: Any,
        name: str,
        make: Make,
        variables: int = 25,
        store: str | None = None,
    ) -> Any:
        """A value for what is wanted: a type, or something of one that may have a default; in so
        many of a hundred cases a variable, unless this is inside of one's value."""
        has_default = False
        if isinstance(wanted, GraphQLArgument | GraphQLInputField):
            has_default = wanted.default_value is not Undefined
            wanted = wanted.type
        if not self._in_value and self._chance(variables):
            return self._variable(wanted, has_default, name, make)
        return self._value(wanted, make, store or self._stores[0])

    def _value(self, type_: Any, make: Make, store: str) -> Any:
        if not is_non_null_type(type_) and self._chance(4):
            return None
        type_ = get_nullable_type(type_)
        if isinstance(type_, GraphQLList):
            if self._chance(4):
                return self._value(GraphQLNonNull(get_nullable_type(type_.of_type)), make, store)
            return [
                self._given(type_.of_type, "one", make, 8, store)
                for _ in range(self._one((1, 2, 3, 6, 0)))
            ]
        return make(type_, store)

    def _variable(self, wanted: Any, has_default: bool, name: str, make: Make) -> _Variable:
        """A variable for what is wanted: a known one, or one with a value for each time."""
        known = self._variables.setdefault(f"{name}: {wanted} {has_default}", [])
        if known and self._chance(40):
            return self._one(known)
        nullable = get_nullable_type(wanted)
        required = GraphQLNonNull(nullable)
        self._in_value = True
        default = ""
        declared = self._one((wanted, wanted, required))
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
        made = _Variable(f"v{number}", f"{declared}{default}", tuple(values))
        known.append(made)
        return made

    # Chance

    def _chance(self, of_a_hundred: int) -> bool:
        return self._random.randrange(100) >= 100 - of_a_hundred

    def _one(self, among: Sequence[T]) -> T:
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
    """Every field of a selection, each with the response names that lead there."""
    for one in _unfolded(selections):
        yield path, one
        yield from _all_fields((*path, one.response), one.inside)


def _unfolded(selections: "Sequence[_Selection]") -> Iterator[_Field]:
    for one in selections:
        match one:
            case _Field():
                yield one
            case _Inline():
                yield from _unfolded(one.inside)
            case _Spread():
                yield from _unfolded(one.fragment.inside)


def _spreads(selections: "Sequence[_Selection]", fragment: _Fragment) -> bool:
    """Whether a selection spreads that fragment, at whatever depth."""
    for one in selections:
        if isinstance(one, _Spread):
            if one.fragment is fragment or _spreads(one.fragment.inside, fragment):
                return True
        elif _spreads(one.inside, fragment):
            return True
    return False


def _merge(one: _Field, other: _Field) -> bool:
    """Whether two fields of one response name may stand beside each other."""
    if _shape(one.of) != _shape(other.of):
        return False
    apart = one.parent != other.parent and all(
        is_object_type(field.parent) for field in (one, other)
    )
    return apart or (one.name, one.arguments) == (other.name, other.arguments)


def _shape(of: GraphQLField) -> str:
    named = get_named_type(of.type)
    text = str(of.type)
    return text.replace(named.name, "") if is_composite_type(named) else text
