"""Compilation of admitted operations to plans."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLIncludeDirective,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSkipDirective,
    GraphQLString,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
    VariableValues,
    get_argument_values,
    get_directive_values,
    get_named_type,
    is_abstract_type,
    is_leaf_type,
    is_object_type,
    print_ast,
)
from strawberry import Schema

from app.api.graphql.admission.documents import Operation
from app.api.graphql.fields.attribute import source_of
from app.api.graphql.fields.source import (
    NO_COLUMNS,
    AnyRead,
    Arguments,
    FieldSource,
    RequiredColumns,
    SelectedField,
    Unplanned,
    union,
)
from app.api.graphql.plans.completion import (
    complete_abstract,
    complete_leaf,
    complete_object,
    complete_wrapped,
)
from app.api.graphql.plans.plan import Complete, Plan, PlanField, PlanStep, Selection, Split
from app.api.graphql.strawberry_seam import argument_converter, core_schema, declaration_of
from app.storage.sql.rows import Projection

SWITCHES = (GraphQLSkipDirective, GraphQLIncludeDirective)

FieldNodes = Sequence[FieldNode]
"""All nodes of one response key: the fields selected below them are merged."""


def compile_query(schema: Schema, operation: Operation) -> Plan:
    """Compile a query's root fields, without those that the reference executor has to run.

    Raises Unplanned if it has to run all.
    """
    compiler = _Compiler(schema, operation)
    query = core_schema(schema).query_type
    assert query is not None
    fields: list[PlanField] = []
    planned: list[FieldNode] = []
    others: list[FieldNode] = []
    nodes = compiler.collected(query, operation.definition.selection_set)
    for response_key, field_nodes in nodes.items():
        try:
            fields.append(compiler.field(query, response_key, field_nodes)[0])
            planned += field_nodes
        except Unplanned:
            others += field_nodes
    if others and not fields:
        raise Unplanned
    split = None
    if others:
        split = Split(_with_selections(operation, planned), _with_selections(operation, others))
    return Plan(Selection(fields), compiler.projections, tuple(nodes), split)


def compile_event(schema: Schema, operation: Operation) -> Plan:
    """Compile a subscription to the plan of its events. Raises Unplanned."""
    compiler = _Compiler(schema, operation)
    subscription = core_schema(schema).subscription_type
    assert subscription is not None
    root, _ = compiler.selection(subscription, [operation.definition.selection_set])
    return Plan(root, compiler.projections)


def compile_mutation(schema: Schema, operation: Operation) -> list[PlanStep]:
    """Compile a mutation to one step per field, in their order. Raises Unplanned."""
    compiler = _Compiler(schema, operation)
    mutation = core_schema(schema).mutation_type
    assert mutation is not None
    return list(compiler.steps(mutation, operation.definition.selection_set))


def _with_selections(operation: Operation, selected: Sequence[SelectionNode]) -> DocumentNode:
    """Return a document with the operation and its fragments, with another selection set."""
    definition = OperationDefinitionNode(
        operation=operation.definition.operation,
        name=operation.definition.name,
        variable_definitions=operation.definition.variable_definitions,
        selection_set=SelectionSetNode(selections=tuple(selected)),
    )
    return DocumentNode(definitions=(definition, *operation.document.fragments.values()))


def switch_variables(operation: Operation) -> frozenset[str]:
    """Return the variables of an operation's @skip and @include."""
    variables: set[str] = set()
    visited_fragments: set[str] = set()

    def collect(selected: SelectionSetNode | None) -> None:
        for node in selected.selections if selected else ():
            for directive in node.directives or ():
                for argument in directive.arguments or ():
                    if isinstance(argument.value, VariableNode):
                        variables.add(argument.value.name.value)
            match node:
                case FieldNode(selection_set=inner) | InlineFragmentNode(selection_set=inner):
                    collect(inner)
                case FragmentSpreadNode(name=name) if name.value not in visited_fragments:
                    visited_fragments.add(name.value)
                    collect(operation.document.fragments[name.value].selection_set)

    collect(operation.definition.selection_set)
    return frozenset(variables)


class _Compiler:
    def __init__(self, schema: Schema, operation: Operation) -> None:
        self._convert_arguments = argument_converter(schema)
        self._schema = core_schema(schema)
        self._fragments: Mapping[str, FragmentDefinitionNode] = operation.document.fragments
        self._variables = operation.coerced
        self._selections: dict[Any, tuple[Selection, RequiredColumns]] = {}
        self.projections: dict[AnyRead, Projection] = {}

    def selection(
        self, type_: GraphQLObjectType, sets: Sequence[SelectionSetNode]
    ) -> tuple[Selection, RequiredColumns]:
        """Compile selection sets of a type. Return them with the columns they require."""
        # Memoized: an interface nested in itself would double the work at each level.
        cache_key = type_.name, tuple(map(id, sets))
        if cache_key not in self._selections:
            fields = []
            required: RequiredColumns = NO_COLUMNS
            for response_key, field_nodes in self.collected(type_, *sets).items():
                field, required_by_field = self.field(type_, response_key, field_nodes)
                fields.append(field)
                required = union(required, required_by_field)
            self._selections[cache_key] = Selection(fields), required
        return self._selections[cache_key]

    def steps(self, type_: GraphQLObjectType, selected: SelectionSetNode) -> Iterator[PlanStep]:
        """Compile the fields of a mutation."""
        for response_key, field_nodes in self.collected(type_, selected).items():
            field = type_.fields.get(field_nodes[0].name.value)
            change = source_of(declaration_of(field)).change if field else None
            if field is None or change is None:
                raise Unplanned
            payload, _ = self.field(type_, response_key, field_nodes)
            arguments = self._arguments(field, field_nodes[0])
            plan = Plan(Selection([payload]), self.projections)
            yield PlanStep(response_key, change, arguments, plan)

    def collected(
        self, type_: GraphQLObjectType, *sets: SelectionSetNode
    ) -> dict[str, list[FieldNode]]:
        """Return the field nodes that apply to a type by response key, in their order."""
        nodes: dict[str, list[FieldNode]] = {}
        self._collect(type_, sets, nodes, set())
        return nodes

    def _collect(
        self,
        type_: GraphQLObjectType,
        sets: Sequence[SelectionSetNode],
        nodes: dict[str, list[FieldNode]],
        visited_fragments: set[str],
    ) -> None:
        for node in (node for selected in sets for node in selected.selections):
            if self._is_skipped(node):
                continue
            match node:
                case FieldNode():
                    response_key = (node.alias or node.name).value
                    nodes.setdefault(response_key, []).append(node)
                case InlineFragmentNode(type_condition=condition):
                    if condition is None or self._is(type_, condition.name.value):
                        self._collect(type_, [node.selection_set], nodes, visited_fragments)
                case FragmentSpreadNode(name=name) if name.value not in visited_fragments:
                    visited_fragments.add(name.value)
                    fragment = self._fragments[name.value]
                    if self._is(type_, fragment.type_condition.name.value):
                        self._collect(type_, [fragment.selection_set], nodes, visited_fragments)

    def _is_skipped(self, node: SelectionNode) -> bool:
        if not node.directives:
            return False
        skip, include = (
            get_directive_values(directive, node, self._variables) for directive in SWITCHES
        )
        return bool((skip and skip["if"]) or (include and not include["if"]))

    def _is(self, type_: GraphQLObjectType, name: str) -> bool:
        """Return True if the type is, or implements, or is a member of the named type."""
        condition = self._schema.get_type(name)
        return condition is type_ or (
            is_abstract_type(condition) and self._schema.is_sub_type(condition, type_)
        )

    def field(
        self, parent: GraphQLObjectType, response_key: str, nodes: FieldNodes
    ) -> tuple[PlanField, RequiredColumns]:
        name = nodes[0].name.value
        if name == "__typename":
            return PlanField(
                response_key,
                lambda _, rows: [parent.name] * len(rows),
                complete_leaf(GraphQLString),
            ), NO_COLUMNS
        field = parent.fields.get(name)
        if field is None:
            # Introspection: __schema or __type.
            raise Unplanned
        source = source_of(declaration_of(field))
        complete, required_below = self._complete(field.type, nodes)
        selected = SelectedField(
            self._arguments(field, nodes[0]),
            bool(nodes[0].arguments),
            self._sources_below(field.type, nodes),
            required_below,
        )
        read = source.projected_read
        if read is not None:
            known = self.projections.get(read)
            projection = selected.projection
            self.projections[read] = known.union(projection) if known else projection
        column = source.column(selected)
        is_text = get_named_type(field.type) is GraphQLString
        return PlanField(response_key, column, complete, is_text), source.requires(selected)

    def _sources_below(self, type_: GraphQLOutputType, nodes: FieldNodes) -> list[FieldSource]:
        """Return the sources of the fields selected of an object."""
        named = get_named_type(type_)
        if not is_object_type(named):
            return []
        selected = self.collected(named, *_selection_sets(nodes)).values()
        fields = (named.fields.get(field_nodes[0].name.value) for field_nodes in selected)
        return [source_of(declaration_of(field)) for field in fields if field]

    def _complete(
        self, type_: GraphQLOutputType, nodes: FieldNodes
    ) -> tuple[Complete, RequiredColumns]:
        named = get_named_type(type_)
        if is_leaf_type(named):
            return complete_wrapped(type_, complete_leaf(named)), NO_COLUMNS
        sets = _selection_sets(nodes)
        if is_object_type(named):
            selection, required = self.selection(named, sets)
            return complete_wrapped(type_, complete_object(selection)), required
        assert is_abstract_type(named)
        types = self._schema.get_possible_types(named)
        required = NO_COLUMNS
        for possible_type in types:
            required = union(required, self.selection(possible_type, sets)[1])
        complete = complete_abstract(types, lambda type_: self.selection(type_, sets)[0])
        return complete_wrapped(type_, complete), required

    def _arguments(self, field: GraphQLField, node: FieldNode) -> Arguments:
        convert, declared = self._convert_arguments, declaration_of(field).arguments

        def arguments(variables: VariableValues) -> Mapping[str, Any]:
            return convert(get_argument_values(field, node, variables), declared)

        if "$" in "".join(map(print_ast, node.arguments or ())):
            return arguments
        constant = arguments(self._variables)
        return lambda _: constant


def _selection_sets(nodes: FieldNodes) -> list[SelectionSetNode]:
    return [node.selection_set for node in nodes if node.selection_set]
