"""Makes plans of documents that were admitted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLIncludeDirective,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSkipDirective,
    GraphQLString,
    InlineFragmentNode,
    SelectionSetNode,
    VariableNode,
    get_argument_values,
    get_directive_values,
    get_named_type,
    is_abstract_type,
    is_leaf_type,
    is_object_type,
    print_ast,
)
from graphql.execution.values import VariableValues
from strawberry import Schema
from strawberry.types.arguments import convert_arguments
from strawberry.types.field import StrawberryField

from app.api.graphql.admission.documents import Operation
from app.api.graphql.fields.declarations import (
    NO_COLUMNS,
    ROW_KEY,
    AttributeField,
    ConnectionField,
    CountField,
    ExpressionField,
    FieldSource,
    ListingField,
    MutationField,
    PageField,
    RelationField,
    RequiredColumns,
    source_of,
)
from app.api.graphql.plans.columns import Arguments, column_of
from app.api.graphql.plans.plan import Column, Complete, Field, Plan, PlanStep, Selection, Unplanned
from app.api.graphql.plans.values import completed, leaves, objects, objects_of
from app.storage.sql.rows import Projection

DEFINITION = "strawberry-definition"
"""Under which a field's extensions have its declaration."""

SWITCHES = (GraphQLSkipDirective, GraphQLIncludeDirective)

FieldNodes = Sequence[FieldNode]


def planned(schema: Schema, operation: Operation) -> Plan:
    """The plan of a query. Raises Unplanned where it is the ordinary executor's."""
    compiler = _Compiler(schema, operation)
    query = schema._schema.query_type
    assert query is not None
    root, _ = compiler.selection(query, [operation.definition.selection_set])
    return Plan(root, compiler.wanted)


def steps_of(schema: Schema, operation: Operation) -> list[PlanStep]:
    """The plan of a mutation: its fields, one after the other. Raises Unplanned as `planned`."""
    compiler = _Compiler(schema, operation)
    mutation = schema._schema.mutation_type
    assert mutation is not None
    return list(compiler.steps(mutation, operation.definition.selection_set))


def switches_of(operation: Operation) -> frozenset[str]:
    """The variables that decide which fields are left out."""
    found: set[str] = set()
    seen: set[str] = set()

    def look(selected: SelectionSetNode | None) -> None:
        for node in selected.selections if selected else ():
            for directive in node.directives or ():
                for argument in directive.arguments or ():
                    if isinstance(argument.value, VariableNode):
                        found.add(argument.value.name.value)
            match node:
                case FieldNode(selection_set=inside) | InlineFragmentNode(selection_set=inside):
                    look(inside)
                case FragmentSpreadNode(name=name) if name.value not in seen:
                    seen.add(name.value)
                    look(operation.document.fragments[name.value].selection_set)

    look(operation.definition.selection_set)
    return frozenset(found)


class _Compiler:
    def __init__(self, schema: Schema, operation: Operation) -> None:
        self._converter = schema.schema_converter
        self._schema = schema._schema
        self._fragments: Mapping[str, FragmentDefinitionNode] = operation.document.fragments
        self._variables = operation.coerced
        self._selections: dict[Any, tuple[Selection, RequiredColumns]] = {}
        self.wanted: dict[Callable[..., Any], Projection] = {}

    def selection(
        self, type_: GraphQLObjectType, sets: Sequence[SelectionSetNode]
    ) -> tuple[Selection, RequiredColumns]:
        """What is selected of a type, and what of its rows that is told of."""
        # An interface within itself is one selection, not twice as many on each level.
        known = type_.name, tuple(map(id, sets))
        if known not in self._selections:
            nodes: dict[str, list[FieldNode]] = {}
            self._collect(type_, sets, nodes, set())
            fields = []
            needs: RequiredColumns = NO_COLUMNS
            for key, same in nodes.items():
                field, needed = self._field(type_, key, same)
                fields.append(field)
                needs = _both(needs, needed)
            self._selections[known] = Selection(fields), needs
        return self._selections[known]

    def steps(self, type_: GraphQLObjectType, selected: SelectionSetNode) -> Iterator[PlanStep]:
        """What a mutation does."""
        nodes: dict[str, list[FieldNode]] = {}
        self._collect(type_, [selected], nodes, set())
        for key, same in nodes.items():
            definition = type_.fields.get(same[0].name.value)
            read = source_of(definition.extensions[DEFINITION]) if definition else None
            if definition is None or not isinstance(read, MutationField):
                raise Unplanned
            complete, _ = self._complete(definition.type, same)
            payload = Selection([Field(key, lambda _, rows: rows, complete)])
            arguments = self._arguments(definition, definition.extensions[DEFINITION], same[0])
            yield PlanStep(key, read.makes, arguments, Plan(payload, self.wanted))

    def _collect(
        self,
        type_: GraphQLObjectType,
        sets: Sequence[SelectionSetNode],
        nodes: dict[str, list[FieldNode]],
        spread: set[str],
    ) -> None:
        """The fields that are selected of a type, by their names in the answer, in its order."""
        for node in (node for one in sets for node in one.selections):
            if self._left_out(node):
                continue
            match node:
                case FieldNode():
                    key = (node.alias or node.name).value
                    nodes.setdefault(key, []).append(node)
                case InlineFragmentNode(type_condition=condition):
                    if condition is None or self._is(type_, condition.name.value):
                        self._collect(type_, [node.selection_set], nodes, spread)
                case FragmentSpreadNode(name=name) if name.value not in spread:
                    spread.add(name.value)
                    fragment = self._fragments[name.value]
                    if self._is(type_, fragment.type_condition.name.value):
                        self._collect(type_, [fragment.selection_set], nodes, spread)

    def _left_out(self, node: Any) -> bool:
        if not node.directives:
            return False
        skip, include = (get_directive_values(one, node, self._variables) for one in SWITCHES)
        return bool((skip and skip["if"]) or (include and not include["if"]))

    def _is(self, type_: GraphQLObjectType, name: str) -> bool:
        condition = self._schema.get_type(name)
        return condition is type_ or (
            is_abstract_type(condition) and self._schema.is_sub_type(condition, type_)
        )

    def _field(
        self, parent: GraphQLObjectType, key: str, nodes: FieldNodes
    ) -> tuple[Field, RequiredColumns]:
        name = nodes[0].name.value
        if name == "__typename":
            return Field(key, _always(parent.name), leaves(GraphQLString)), NO_COLUMNS
        definition = parent.fields.get(name)
        if definition is None:
            # What the schema says of itself.
            raise Unplanned
        declared: StrawberryField = definition.extensions[DEFINITION]
        read = source_of(declared)
        if isinstance(read, ExpressionField) and read.bare and not nodes[0].arguments:
            read = read.bare
        complete, below = self._complete(definition.type, nodes)
        arguments = self._arguments(definition, declared, nodes[0])
        asked = self._asked_of(definition.type, nodes)
        column = column_of(read, arguments, paged=PageField in asked, counted=CountField in asked)
        return Field(key, column, complete), self._needs(read, below)

    def _asked_of(self, type_: GraphQLOutputType, nodes: FieldNodes) -> set[type]:
        """In which ways the fields that are selected of an object are read."""
        named = get_named_type(type_)
        if not is_object_type(named):
            return set()
        selected: dict[str, list[FieldNode]] = {}
        self._collect(named, _sets(nodes), selected, set())
        names = {same[0].name.value for same in selected.values()}
        return {
            type(source_of(named.fields[name].extensions[DEFINITION]))
            for name in names & named.fields.keys()
        }

    def _needs(self, read: FieldSource, below: RequiredColumns) -> RequiredColumns:
        """What a field is told of, given what is selected below it: of the same row, where nothing
        is read in between; else of the rows that are read."""
        match read:
            case AttributeField(name=name):
                return _both(frozenset({name}), below)
            case ExpressionField(needs=needs):
                return _both(needs, below)
            case PageField():
                return below
            case (
                RelationField(batch=batch, needs=needs) | ConnectionField(pages=batch, needs=needs)
            ):
                self._want(batch, below)
                return needs
            case ListingField(page=page):
                self._want(page, below)
        return NO_COLUMNS

    def _complete(
        self, type_: GraphQLOutputType, nodes: FieldNodes
    ) -> tuple[Complete, RequiredColumns]:
        named = get_named_type(type_)
        if is_leaf_type(named):
            return completed(type_, leaves(named)), NO_COLUMNS
        sets = _sets(nodes)
        if is_object_type(named):
            selection, below = self.selection(named, sets)
            return completed(type_, objects(selection)), below
        assert is_abstract_type(named)
        types = self._schema.get_possible_types(named)
        needs: RequiredColumns = NO_COLUMNS
        for possible in types:
            needs = _both(needs, self.selection(possible, sets)[1])
        of = objects_of(types, lambda possible: self.selection(possible, sets)[0])
        return completed(type_, of), needs

    def _arguments(self, definition: Any, declared: StrawberryField, node: FieldNode) -> Arguments:
        def given(variables: VariableValues) -> Mapping[str, Any]:
            return convert_arguments(
                get_argument_values(definition, node, variables),
                declared.arguments,
                scalar_registry=self._converter.scalar_registry,
                config=self._converter.config,
            )

        if "$" in "".join(map(print_ast, node.arguments or ())):
            return given
        always = given(self._variables)
        return lambda _: always

    def _want(self, batch: Any, needs: RequiredColumns) -> None:
        if "wanted" not in signature(batch).parameters:
            return
        wanted = Projection(
            None if needs is None else needs - {ROW_KEY}, needs is None or ROW_KEY in needs
        )
        known = self.wanted.get(batch)
        self.wanted[batch] = known.together(wanted) if known else wanted


def _always(value: Any) -> Column:
    return lambda _, rows: [value] * len(rows)


def _both(some: RequiredColumns, others: RequiredColumns) -> RequiredColumns:
    return None if some is None or others is None else some | others


def _sets(nodes: FieldNodes) -> list[SelectionSetNode]:
    return [node.selection_set for node in nodes if node.selection_set]
