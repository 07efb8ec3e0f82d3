"""Admission of operations: lookup, parsing, limits, validation and a cache of documents."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

from graphql import (
    GraphQLSchema,
    GraphQLSyntaxError,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    Source,
    VariableValues,
    get_introspection_query,
    get_variable_values,
    parse,
    recommended_rules,
    specified_rules,
    validate,
)

from app.api.auth.limits import Limits
from app.api.graphql.admission.complexity import DocumentComplexity
from app.api.graphql.admission.cost import CostCache, operation_cost
from app.api.graphql.admission.parsed_document import ParsedDocument
from app.api.graphql.admission.request import GraphQLRequest
from app.api.graphql.admission.trusted import UnusableDocuments, hash_of
from app.api.graphql.errors import InvalidDocument
from app.api.graphql.strawberry_seam import STRAWBERRY_RULES
from app.api.http.refusals import LimitExceeded, Malformed, NotPermitted, Refused
from app.domain.callers import Caller, ScopesMissing
from app.storage.engine.client_reads import FairThreads

T = TypeVar("T")

DOCUMENT_CACHE_SIZE = 128
"""Parsed and validated documents in memory: without them, small queries take 8 times as long."""

MAX_LOOP_BYTES = 4 * 1024
"""Size of a request whose variables are coerced on the event loop, without measuring their time."""

MAX_LOOP_INTROSPECTION = 1_000
"""Introspection cost of an operation that runs on the event loop, or reads data as well."""

ADMISSION_THREADS = 1
"""Threads for new documents and large variables. More would only compete for the interpreter."""

MAX_VALIDATION_ERRORS = 10
"""Errors reported per document, and per set of variables. Each may quote much of its input: 100
take half a second."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An admitted operation: valid, within the limits, and permitted to its caller."""

    document: ParsedDocument
    definition: OperationDefinitionNode
    variables: dict[str, object]
    coerced: VariableValues
    cost: int
    is_long: bool
    """True if it must not run on the event loop."""
    is_introspection: bool
    """True if it reads much of the schema, and no data."""

    @property
    def name(self) -> str | None:
        return self.definition.name.value if self.definition.name else None

    @property
    def kind(self) -> OperationType:
        return self.definition.operation


class Documents:
    """Cache of the documents that clients send, and the trusted documents."""

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
        self._rules = [*specified_rules, *recommended_rules, *STRAWBERRY_RULES]
        if not introspection:
            self._rules.append(NoSchemaIntrospectionCustomRule)
        self._documents: OrderedDict[str, ParsedDocument] = OrderedDict()
        """By text, least recently used first; shared by all clients. Refused ones are not kept."""
        self._threads = FairThreads("admission", ADMISSION_THREADS, ADMISSION_THREADS)
        for hash, text in self._trusted.items():
            try:
                self._keep(text, self._parse(text))
            except Refused as refused:
                raise UnusableDocuments(f"The trusted document {hash}: {refused}") from None

    async def admit(self, request: GraphQLRequest, caller: Caller, spent: int = 0) -> Operation:
        """Admit the requested operation for `caller`, with new documents off the event loop.

        `spent` is the cost of earlier operations of the same batch. Raises Refused.
        """
        text = self._text(request)
        document = self._known(text)
        if document is None:
            document = await self.run(caller, partial(self._new_document, text))
        definition = document.operation(request.operation_name)
        if request.size > MAX_LOOP_BYTES:
            variables = await self.run(caller, partial(self._variables, request, definition))
        else:
            variables = self._variables(request, definition)
        return self._checked(request, document, definition, variables, caller, spent)

    async def run(self, caller: Caller, work: Callable[[], T]) -> T:
        """Run `work` on the admission thread, and charge the current request for its time."""
        return await self._threads.run_measured(caller.store, work)

    def _known(self, text: str) -> ParsedDocument | None:
        """Return the document if it is cached. The admission thread may remove it at any time."""
        try:
            self._documents.move_to_end(text)
            return self._documents[text]
        except KeyError:
            return None

    def _new_document(self, text: str) -> ParsedDocument:
        """Parse and keep a document, unless an earlier request for it was just ahead."""
        document = self._known(text)
        if document is None:
            document = self._parse(text)
            self._keep(text, document)
        return document

    def _variables(
        self, request: GraphQLRequest, definition: OperationDefinitionNode
    ) -> VariableValues:
        variables = get_variable_values(
            self._schema,
            definition.variable_definitions or (),
            request.variables,
            max_errors=MAX_VALIDATION_ERRORS,
            hide_suggestions=not self._suggestions,
        )
        if isinstance(variables, list):
            raise InvalidDocument("BAD_USER_INPUT", variables)
        return variables

    def _checked(
        self,
        request: GraphQLRequest,
        document: ParsedDocument,
        definition: OperationDefinitionNode,
        variables: VariableValues,
        caller: Caller,
        spent: int,
    ) -> Operation:
        """Check scopes and limits of a valid operation."""
        cost = self._cost_cache(document, definition).cost(variables.coerced)
        try:
            caller.check(*cost.scopes)
        except ScopesMissing as error:
            raise NotPermitted(error) from None
        total, limit = spent + cost.cost, self._limits.max_cost
        if total > limit:
            raise LimitExceeded("COST_LIMIT_EXCEEDED", "a cost of {}", limit, total)
        if cost.introspection > self._introspection_limit:
            raise LimitExceeded(
                "INTROSPECTION_LIMIT_EXCEEDED",
                "an introspection cost of {}",
                self._introspection_limit,
                cost.introspection,
            )
        is_introspection = cost.introspection > MAX_LOOP_INTROSPECTION
        if is_introspection and cost.cost > 1:
            raise LimitExceeded(
                "INTROSPECTION_LIMIT_EXCEEDED",
                "fields of data and an introspection cost of {}",
                MAX_LOOP_INTROSPECTION,
                cost.introspection,
            )
        return Operation(
            document,
            definition,
            request.variables,
            variables,
            cost.cost,
            cost.is_long,
            is_introspection,
        )

    def _keep(self, text: str, document: ParsedDocument) -> None:
        self._documents[text] = document
        if len(self._documents) > DOCUMENT_CACHE_SIZE:
            self._documents.popitem(last=False)

    def _cost_cache(
        self, document: ParsedDocument, definition: OperationDefinitionNode
    ) -> CostCache:
        name = definition.name.value if definition.name else None
        cache = document.costs.get(name)
        if cache is None:
            cache = CostCache(self._schema, document.fragments, definition)
            document.costs[name] = cache
        return cache

    @cached_property
    def _introspection_limit(self) -> int:
        """Twice the cost of the complete introspection query that GraphQL tools send."""
        document = ParsedDocument("", parse(get_introspection_query(input_value_deprecation=True)))
        full = operation_cost(self._schema, document.fragments, document.operation(None), {})
        return 2 * full.introspection

    def _text(self, request: GraphQLRequest) -> str:
        hash = request.document_id
        if request.query is None:
            assert hash is not None
            if hash not in self._trusted:
                raise Refused("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND", status=400)
            return self._trusted[hash]
        if hash is None and not self._only_trusted:
            return request.query
        query_hash = hash_of(request.query)
        if hash not in (None, query_hash):
            raise Malformed("The document id is not the SHA-256 of the query.")
        if self._only_trusted and query_hash not in self._trusted:
            raise Refused(
                "Only documents that the operator trusts are run, and this one is not trusted.",
                "DOCUMENT_NOT_TRUSTED",
                status=403,
            )
        return request.query

    def _parse(self, text: str) -> ParsedDocument:
        """Parse, measure and validate. Raises Refused."""
        try:
            tree = parse(Source(text), max_tokens=self._limits.max_tokens)
        except GraphQLSyntaxError as error:
            if error.message.startswith("Syntax Error: Document contains more than"):
                limit = self._limits.max_tokens
                raise LimitExceeded(
                    "TOKEN_LIMIT_EXCEEDED", "at least {} tokens", limit, limit + 1
                ) from None
            raise InvalidDocument("GRAPHQL_PARSE_FAILED", [error], status=400) from None
        document = ParsedDocument(text, tree)
        # Before validation, which takes long on documents beyond these limits.
        DocumentComplexity(document).check(self._limits)
        errors = validate(
            self._schema,
            tree,
            self._rules,
            max_errors=MAX_VALIDATION_ERRORS,
            hide_suggestions=not self._suggestions,
        )
        if errors:
            raise InvalidDocument("GRAPHQL_VALIDATION_FAILED", errors)
        return document
