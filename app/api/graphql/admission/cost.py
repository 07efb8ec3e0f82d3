"""What an operation costs and which scopes it needs, told from its document and its variables."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLNamedType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    Node,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_list_type,
)

from app.api.graphql.admission.scopes import SCOPE_OF_TYPE
from app.api.graphql.cursors import DEFAULT_ROWS, MAX_ROWS
from app.domain.callers import Scope

OTHER_ROWS = 10
"""What a list is taken to hold that is no page and has no length of its own: translations, say."""

_INTROSPECTED_ROWS = 3
"""What a list of the schema's description is taken to hold, the list of all types aside."""

MAX_COST = 2**53 - 1
"""What costs more is not told exactly: fragments in fragments come to numbers that JSON has no room
for."""

COST_CACHE_SIZE = 16
"""Bills of one operation that are kept, each for what else its variables say of sizes."""


@dataclass(frozen=True, slots=True)
class OperationCost:
    """What an operation comes to: the fields of its answer, at most."""

    cost: int
    """Of what the store has. Every field counts one, times the sizes of the lists it is in."""
    introspection: int
    """Of what the schema says of itself, likewise."""
    scopes: frozenset[Scope]


def operation_cost(
    schema: GraphQLSchema,
    fragments: Mapping[str, FragmentDefinitionNode],
    operation: OperationDefinitionNode,
    variables: Mapping[str, Any],
) -> OperationCost:
    """The bill of a valid operation with its coerced variables.

    Both sides of a union and whatever @skip would leave out are counted.
    """
    return _CostVisitor(schema, fragments, variables).bill(operation)


class CostCache:
    """The bills of one valid operation. Of its variables they depend on page sizes and on how many
    ids there are, and on nothing else: an operation is seldom measured twice."""

    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        operation: OperationDefinitionNode,
    ) -> None:
        self._bill = partial(operation_cost, schema, fragments, operation)
        meter = _CostVisitor(schema, fragments, {})
        meter.bill(operation)
        self._sized_by = tuple(meter.sized_by)
        self._kept: dict[tuple[int | None, ...], OperationCost] = {}

    def of(self, variables: Mapping[str, Any]) -> OperationCost:
        """The one that `bill` would make for these."""
        sizes = tuple(_size(variables.get(name)) for name in self._sized_by)
        found = self._kept.get(sizes)
        if found is None:
            if len(self._kept) == COST_CACHE_SIZE:
                self._kept.pop(next(iter(self._kept)))
            found = self._kept[sizes] = self._bill(variables)
        return found


def _size(value: object) -> int | None:
    match value:
        case int():
            return value
        case list() | tuple():
            return len(value)
    return None


class _CostVisitor:
    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: Mapping[str, Any],
    ) -> None:
        self._schema = schema
        self._fragments = fragments
        self._variables = variables
        self._known: dict[tuple[str, int | None], int] = {}
        self.introspection = 0
        self.scopes: set[Scope] = set()
        self.sized_by: set[str] = set()
        """The variables that say how large something is: all of them, whatever they say."""

    def bill(self, operation: OperationDefinitionNode) -> OperationCost:
        """What this comes to."""
        root = self._schema.get_root_type(operation.operation)
        assert root is not None
        cost = self.cost_of(operation.selection_set, root, None)
        return OperationCost(
            min(cost, MAX_COST), min(self.introspection, MAX_COST), frozenset(self.scopes)
        )

    def cost_of(
        self, selected: SelectionSetNode, parent: GraphQLNamedType, page_size: int | None
    ) -> int:
        """The cost of a selection; `page_size` is that of the connection it is made on."""
        if scope := SCOPE_OF_TYPE.get(parent.name):
            self.scopes.add(scope)
        return sum(self._selection(one, parent, page_size) for one in selected.selections)

    def _selection(self, node: Node, parent: GraphQLNamedType, page_size: int | None) -> int:
        match node:
            case FieldNode(name=name) if name.value in ("__schema", "__type"):
                self.introspection += self._field(node, parent, None)
                return 0
            case FieldNode():
                return self._field(node, parent, page_size)
            case InlineFragmentNode(type_condition=condition):
                narrowed = self._schema.get_type(condition.name.value) if condition else parent
                assert narrowed is not None
                return self.cost_of(node.selection_set, narrowed, page_size)
            case FragmentSpreadNode(name=name):
                return self._fragment(name.value, page_size)
        raise TypeError(node)

    def _fragment(self, name: str, page_size: int | None) -> int:
        known = self._known.get((name, page_size))
        if known is None:
            fragment = self._fragments[name]
            parent = self._schema.get_type(fragment.type_condition.name.value)
            assert parent is not None
            known = self.cost_of(fragment.selection_set, parent, page_size)
            self._known[name, page_size] = known
        return known

    def _field(self, node: FieldNode, parent: GraphQLNamedType, page_size: int | None) -> int:
        field = self._schema.get_field(parent, node.name.value)  # type: ignore[arg-type]
        if field is None or node.selection_set is None:
            return 1
        kind = get_named_type(field.type)
        if kind.name.endswith("Connection"):
            return 1 + self.cost_of(node.selection_set, kind, self._page_size(node))
        inside = self.cost_of(node.selection_set, kind, None)
        if not is_list_type(get_nullable_type(field.type)):
            return 1 + inside
        return 1 + inside * self._rows(node, parent, page_size)

    def _rows(self, node: FieldNode, parent: GraphQLNamedType, page_size: int | None) -> int:
        if page_size is not None:
            return page_size
        if parent.name.startswith("__"):
            return len(self._schema.type_map) if node.name.value == "types" else _INTROSPECTED_ROWS
        ids = self._argument(node, "ids")
        return len(ids) if isinstance(ids, list | tuple) else OTHER_ROWS

    def _page_size(self, node: FieldNode) -> int:
        for rows in (self._argument(node, "first"), self._argument(node, "last")):
            if isinstance(rows, int):
                # One that is out of range is refused when it is read.
                return min(max(rows, 1), MAX_ROWS)
        return DEFAULT_ROWS

    def _argument(self, node: FieldNode, name: str) -> Any:
        for argument in node.arguments or ():
            if argument.name.value == name:
                match argument.value:
                    case IntValueNode(value=value):
                        return int(value)
                    case ListValueNode(values=values):
                        return values
                    case VariableNode(name=variable):
                        self.sized_by.add(variable.value)
                        return self._variables.get(variable.value)
        return None
