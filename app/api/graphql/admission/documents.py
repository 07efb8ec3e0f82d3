"""Documents on their way to be run: found, parsed, measured, validated and kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from graphql import (
    GraphQLSchema,
    GraphQLSyntaxError,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    Source,
    get_introspection_query,
    parse,
    specified_rules,
    validate,
)
from graphql.execution.values import VariableValues, get_variable_values
from graphql.validation import recommended_rules
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from app.api.auth.limits import Limits
from app.api.graphql.admission.complexity import DocumentComplexity
from app.api.graphql.admission.cost import CostCache, operation_cost
from app.api.graphql.admission.parsed_document import ParsedDocument
from app.api.graphql.admission.request import GraphQLRequest
from app.api.graphql.admission.trusted import UnusableDocuments, hash_of
from app.api.graphql.errors import InvalidDocument
from app.api.http.refusals import BadRequest, LimitExceeded, NotPermitted, Refused
from app.domain.callers import Caller, ScopesMissing

DOCUMENT_CACHE_SIZE = 128
"""Documents kept ready in memory: without, small queries take eight times as long."""

MAX_ERRORS = 10
"""Mistakes in a document that are told. Each may quote much of it: a hundred took half a second."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that may be run, with its variables, by the caller it was admitted for."""

    document: ParsedDocument
    definition: OperationDefinitionNode
    variables: dict[str, Any]
    coerced: VariableValues
    cost: int

    @property
    def name(self) -> str | None:
        """Its name in the document."""
        return self.definition.name.value if self.definition.name else None

    @property
    def kind(self) -> OperationType:
        """Whether it is a query, a mutation or a subscription."""
        return self.definition.operation


class Documents:
    """All documents that clients send, and those that are trusted."""

    def __init__(
        self,
        schema: GraphQLSchema,
        limits: Limits,
        *,
        introspection: bool = True,
        suggestions: bool = True,
        trusted: Mapping[str, str] | None = None,
        only_trusted: bool = False,
    ) -> None:
        self._schema = schema
        self._limits = limits
        self._suggestions = suggestions
        self._trusted = trusted or {}
        self._only_trusted = only_trusted
        self._rules = [
            *specified_rules,
            *recommended_rules,
            MaybeNullValidationRule,
            OneOfInputValidationRule,
        ]
        if not introspection:
            self._rules.append(NoSchemaIntrospectionCustomRule)
        # Bounded, and shared by all clients; a document that is refused is not kept.
        self._document = lru_cache(DOCUMENT_CACHE_SIZE)(self._made)
        for hash, text in self._trusted.items():
            try:
                self._document(text)
            except Refused as refused:
                raise UnusableDocuments(f"The trusted document {hash}: {refused}") from None

    def admit(self, request: GraphQLRequest, caller: Caller, spent: int = 0) -> Operation:
        """The operation a request asks for. `spent` is what others of the same batch cost.

        Raises Refused.
        """
        document = self._document(self._text(request))
        definition = document.operation(request.operation_name)
        variables = get_variable_values(
            self._schema,
            definition.variable_definitions or (),
            request.variables,
            hide_suggestions=not self._suggestions,
        )
        if isinstance(variables, list):
            raise InvalidDocument("BAD_USER_INPUT", variables)
        found = self._bills(document, definition).of(variables.coerced)
        try:
            caller.check(*found.scopes)
        except ScopesMissing as error:
            raise NotPermitted(error) from None
        cost, limit = spent + found.cost, self._limits.max_cost
        if cost > limit:
            raise LimitExceeded("COST_LIMIT_EXCEEDED", "a cost of {}", limit, cost)
        if found.introspection > self._introspection_limit:
            raise LimitExceeded(
                "INTROSPECTION_LIMIT_EXCEEDED",
                "an introspection cost of {}",
                self._introspection_limit,
                found.introspection,
            )
        return Operation(document, definition, request.variables, variables, found.cost)

    def _bills(self, document: ParsedDocument, definition: OperationDefinitionNode) -> CostCache:
        name = definition.name.value if definition.name else None
        found = document.bills.get(name)
        if found is None:
            found = CostCache(self._schema, document.fragments, definition)
            document.bills[name] = found
        return found

    @cached_property
    def _introspection_limit(self) -> int:
        """Twice what the tools of the field ask for when they ask for everything."""
        document = ParsedDocument("", parse(get_introspection_query(input_value_deprecation=True)))
        whole = operation_cost(self._schema, document.fragments, document.operation(None), {})
        return 2 * whole.introspection

    def _text(self, request: GraphQLRequest) -> str:
        hash = request.document_id
        if request.query is None:
            assert hash is not None
            if hash not in self._trusted:
                raise Refused("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND")
            return self._trusted[hash]
        if hash is None and not self._only_trusted:
            return request.query
        found = hash_of(request.query)
        if hash not in (None, found):
            raise BadRequest("The document id is not the SHA-256 of the query.")
        if self._only_trusted and found not in self._trusted:
            raise Refused(
                "Only documents that the operator trusts are run, and this is none of them.",
                "DOCUMENT_NOT_TRUSTED",
            )
        return request.query

    def _made(self, text: str) -> ParsedDocument:
        try:
            tree = parse(Source(text), max_tokens=self._limits.max_tokens)
        except GraphQLSyntaxError as error:
            if error.message.startswith("Syntax Error: Document contains more than"):
                limit = self._limits.max_tokens
                raise LimitExceeded(
                    "TOKEN_LIMIT_EXCEEDED", "at least {} tokens", limit, limit + 1
                ) from None
            raise InvalidDocument("GRAPHQL_PARSE_FAILED", [error]) from None
        document = ParsedDocument(text, tree)
        # Measured before it is validated: what is out of all measure takes long to validate.
        DocumentComplexity(document).check(self._limits)
        errors = validate(
            self._schema,
            tree,
            self._rules,
            max_errors=MAX_ERRORS,
            hide_suggestions=not self._suggestions,
        )
        if errors:
            raise InvalidDocument("GRAPHQL_VALIDATION_FAILED", errors)
        return document
