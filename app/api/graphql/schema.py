"""The schema: the types put together, and what happens around every operation."""

from collections.abc import AsyncIterator
from datetime import datetime

import strawberry
from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from app.api.graphql.errors import to_graphql
from app.api.graphql.fields.loaders import Loaders, current_loaders
from app.api.graphql.mutations.hierarchies import HierarchyMutations
from app.api.graphql.mutations.jobs import JobMutations
from app.api.graphql.mutations.nodes import NodeMutations
from app.api.graphql.mutations.products import ProductMutations
from app.api.graphql.mutations.queue import QueueMutations
from app.api.graphql.queries import Query
from app.api.graphql.scalars import DATE_TIME
from app.api.graphql.subscriptions import Subscription
from app.api.graphql.types.hierarchies import Hierarchy
from app.api.graphql.types.jobs import JobError
from app.api.graphql.types.nodes import HierarchyNode
from app.api.graphql.types.products import Product


class Admitted(SchemaExtension):
    """Gives every operation its document as it was admitted, and reads of its own."""

    async def on_operation(self) -> AsyncIterator[None]:
        execution = self.execution_context
        context = execution.context
        execution.graphql_document = context.document
        execution.validation_rules = ()
        # Never reset: an operation has its task to itself, and may be closed from another one.
        current_loaders.set(Loaders(context.database, context.caller))
        yield


class GatewaySchema(strawberry.Schema):
    """The schema, showing clients no more of an error than they may see."""

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        request_id = execution_context.context.request_id if execution_context else "-"
        for error in errors:
            to_graphql(error, request_id)


@strawberry.type(description="Everything that can be done.")
class Mutation(JobMutations, QueueMutations, HierarchyMutations, NodeMutations, ProductMutations):
    pass


schema = GatewaySchema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[Hierarchy, HierarchyNode, Product, JobError],
    config=StrawberryConfig(scalar_map={datetime: DATE_TIME}),
    extensions=[Admitted],
)
graphql_schema = schema._schema
"""The same, as graphql-core knows it."""


def printed() -> str:
    """The schema as schema.graphql holds it."""
    return schema.as_str() + "\n"
