"""The schema: the types put together, and what happens around every operation."""

from collections.abc import AsyncIterator
from datetime import datetime

import strawberry
from graphql import GraphQLError
from strawberry.extensions import (
    MaxTokensLimiter,
    ParserCache,
    SchemaExtension,
    ValidationCache,
)
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from app.api.errors import to_graphql
from app.api.hierarchies import Hierarchy, HierarchyNode
from app.api.jobs import JobError
from app.api.loaders import Loaders, current
from app.api.mutations import Mutation
from app.api.products import Product
from app.api.queries import Query
from app.api.scalars import DATE_TIME
from app.api.subscriptions import Subscription

TOKENS_AT_MOST = 5_000
"""Tokens a document may have; what is parsed of it takes up to half a kilobyte for each."""

DOCUMENTS_KEPT = 128
"""Parsed and validated documents kept in memory: without, small queries take eight times as
long."""


class OwnLoaders(SchemaExtension):
    """Gives every operation reads of its own."""

    async def on_operation(self) -> AsyncIterator[None]:
        context = self.execution_context.context
        # Never reset: an operation has its task to itself, and may be closed from another one.
        current.set(Loaders(context.database, context.store))
        yield


class GatewaySchema(strawberry.Schema):
    """The schema, showing clients no more of an error than they may see."""

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        request_id = execution_context.context.requester.request_id if execution_context else "-"
        for error in errors:
            to_graphql(error, request_id)


schema = GatewaySchema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[Hierarchy, HierarchyNode, Product, JobError],
    config=StrawberryConfig(scalar_map={datetime: DATE_TIME}),
    extensions=[
        OwnLoaders,
        lambda: MaxTokensLimiter(max_token_count=TOKENS_AT_MOST),
        lambda: ParserCache(maxsize=DOCUMENTS_KEPT),
        lambda: ValidationCache(maxsize=DOCUMENTS_KEPT),
    ],
)


def printed() -> str:
    """The schema as schema.graphql holds it."""
    return schema.as_str() + "\n"
