"""Cost and required scopes of an operation, computed from its document and variables."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
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
from app.api.graphql.fields.attribute import source_of
from app.api.graphql.fields.source import FieldSource
from app.api.graphql.strawberry_seam import declaration_of
from app.domain.callers import Scope

ASSUMED_ROWS = 10
"""Assumed length of a list that is no page and that no argument sizes, such as translations."""

_ASSUMED_INTROSPECTION_ROWS = 3
"""Assumed length of an introspection list; the list of all types is counted exactly."""

MAX_COST = 2**53 - 1
"""Ceiling of reported costs: nested fragments multiply beyond the integers JSON represents."""

MAX_LOOP_COST = 5_000
"""Cost of an operation on the event loop: about 12 ms of it if all pages are full."""

MAX_FULL_LOOP_COST = 20_000
"""Cost of an operation on the event loop if its other lists are full too, which they seldom are."""

COST_CACHE_SIZE = 16
"""Cached costs per operation, keyed by the size-determining variables."""


@dataclass(frozen=True, slots=True)
class OperationCost:
    """Price of an operation's work, and its required scopes."""

    cost: int
    """Fields of the store's data, each counting 1, multiplied by the sizes of its enclosing lists;
    and rows that are examined but not returned, as the fields' sources declare."""
    introspection: int
    """Fields of the schema's introspection, counted in the same way."""
    scopes: frozenset[Scope]
    is_long: bool = False
    """True if the operation must not run on the event loop: a field examines rows that it does not
    return, or the cost is more than MAX_LOOP_COST, or MAX_FULL_LOOP_COST with full lists."""


def operation_cost(
    schema: GraphQLSchema,
    fragments: Mapping[str, FragmentDefinitionNode],
    operation: OperationDefinitionNode,
    variables: Mapping[str, object],
) -> OperationCost:
    """Compute the cost of a valid operation with its coerced variables.

    All members of a union count, and so do fields that @skip or @include would leave out.
    """
    cost = _CostVisitor(schema, fragments, variables).cost_of_operation(operation)
    if cost.is_long:
        return cost
    full = _CostVisitor(schema, fragments, variables, full_lists=True)
    return replace(cost, is_long=full.cost_of_operation(operation).is_long)


class CostCache:
    """Costs of one valid operation. Of its variables they depend on page sizes and the number of
    ids only, so an operation is seldom measured twice."""

    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        operation: OperationDefinitionNode,
    ) -> None:
        self._compute = partial(operation_cost, schema, fragments, operation)
        visitor = _CostVisitor(schema, fragments, {})
        visitor.cost_of_operation(operation)
        self._size_variables = tuple(visitor.size_variables)
        self._costs: dict[tuple[int | None, ...], OperationCost] = {}

    def cost(self, variables: Mapping[str, object]) -> OperationCost:
        """Return `operation_cost` for these coerced variables."""
        sizes = tuple(_size(variables.get(name)) for name in self._size_variables)
        cost = self._costs.get(sizes)
        if cost is None:
            if len(self._costs) == COST_CACHE_SIZE:
                self._costs.pop(next(iter(self._costs)))
            cost = self._costs[sizes] = self._compute(variables)
        return cost


def _size(value: object) -> int | None:
    match value:
        case int():
            return value
        case list() | tuple():
            return len(value)
    return None


_UNPRICED = FieldSource()


def _source(parent: GraphQLNamedType, node: FieldNode, field: GraphQLField) -> FieldSource:
    """Return the declared source of a field; introspection has none."""
    if parent.name.startswith("__") or node.name.value.startswith("__"):
        return _UNPRICED
    return source_of(declaration_of(field))


class _CostVisitor:
    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: Mapping[str, object],
        *,
        full_lists: bool = False,
    ) -> None:
        """`full_lists` counts lists with their greatest length in place of ASSUMED_ROWS."""
        self._schema = schema
        self._fragments = fragments
        self._variables = variables
        self._full_lists = full_lists
        self._fragment_costs: dict[tuple[str, int | None], int] = {}
        """By the fragment's name and the page size of the connection it is spread on."""
        self.introspection = 0
        self.scans = False
        self.scopes: set[Scope] = set()
        self.size_variables: set[str] = set()
        """All variables that determine sizes, independent of their values."""

    def cost_of_operation(self, operation: OperationDefinitionNode) -> OperationCost:
        root = self._schema.get_root_type(operation.operation)
        assert root is not None
        cost = self._selections(operation.selection_set, root, None)
        return OperationCost(
            min(cost, MAX_COST),
            min(self.introspection, MAX_COST),
            frozenset(self.scopes),
            self.scans or cost > (MAX_FULL_LOOP_COST if self._full_lists else MAX_LOOP_COST),
        )

    def _selections(
        self, selected: SelectionSetNode, parent: GraphQLNamedType, page_size: int | None
    ) -> int:
        """Return the cost of a selection set.

        `page_size` is the number of rows if `parent` is a connection, else None.
        """
        if scope := SCOPE_OF_TYPE.get(parent.name):
            self.scopes.add(scope)
        return sum(self._selection(node, parent, page_size) for node in selected.selections)

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
                return self._selections(node.selection_set, narrowed, page_size)
            case FragmentSpreadNode(name=name):
                return self._fragment(name.value, page_size)
        raise TypeError(node)

    def _fragment(self, name: str, page_size: int | None) -> int:
        cost = self._fragment_costs.get((name, page_size))
        if cost is None:
            fragment = self._fragments[name]
            parent = self._schema.get_type(fragment.type_condition.name.value)
            assert parent is not None
            cost = self._selections(fragment.selection_set, parent, page_size)
            self._fragment_costs[name, page_size] = cost
        return cost

    def _field(self, node: FieldNode, parent: GraphQLNamedType, page_size: int | None) -> int:
        field = self._schema.get_field(parent, node.name.value)  # type: ignore[arg-type]
        if field is None or node.selection_set is None:
            return 1
        source = _source(parent, node, field)
        price = 1
        if scan_cost := source.scan_cost(
            [argument.name.value for argument in node.arguments or ()]
        ):
            price += scan_cost
            self.scans = True
        kind = get_named_type(field.type)
        if kind.name.endswith("Connection"):
            size = self._page_size(node, field)
            return price + self._selections(node.selection_set, kind, size)
        cost = self._selections(node.selection_set, kind, None) * source.price_factor
        if is_list_type(get_nullable_type(field.type)):
            cost *= self._rows(node, field, parent, page_size, source)
        return price + cost

    def _rows(
        self,
        node: FieldNode,
        field: GraphQLField,
        parent: GraphQLNamedType,
        page_size: int | None,
        source: FieldSource,
    ) -> int:
        if page_size is not None:
            return page_size
        if parent.name.startswith("__"):
            return (
                len(self._schema.type_map)
                if node.name.value == "types"
                else _ASSUMED_INTROSPECTION_ROWS
            )
        match self._argument(node, field, "ids"), self._argument(node, field, "hours"):
            case (list() | tuple()) as ids, _:
                return len(ids)
            case _, int(hours):
                # A number out of range is refused by the resolver.
                return min(max(hours, 1), source.length or MAX_ROWS)
        return source.length or (self._full_lists and source.full_length) or ASSUMED_ROWS

    def _page_size(self, node: FieldNode, field: GraphQLField) -> int:
        for rows in (self._argument(node, field, "first"), self._argument(node, field, "last")):
            if isinstance(rows, int):
                # A size out of range is refused by the resolver.
                return min(max(rows, 1), MAX_ROWS)
        return DEFAULT_ROWS

    def _argument(self, node: FieldNode, field: GraphQLField, name: str) -> object:
        """Return the value of an argument; without one, its default in the schema."""
        for argument in node.arguments or ():
            if argument.name.value == name:
                match argument.value:
                    case IntValueNode(value=value):
                        return int(value)
                    case ListValueNode(values=values):
                        return values
                    case VariableNode(name=variable):
                        self.size_variables.add(variable.value)
                        if variable.value in self._variables:
                            return self._variables[variable.value]
        return field.args[name].default_value if name in field.args else None
