"""The GraphQL schema, and the extension that runs around every operation."""

from collections.abc import AsyncIterator
from datetime import datetime

import strawberry
from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from app.api.graphql.errors import to_graphql
from app.api.graphql.fields.counting import CountingExecution
from app.api.graphql.fields.loaders import Loaders, current_loaders
from app.api.graphql.mutations.duplications import DuplicationMutations
from app.api.graphql.mutations.hierarchies import HierarchyMutations
from app.api.graphql.mutations.jobs import JobMutations
from app.api.graphql.mutations.nodes import NodeMutations
from app.api.graphql.mutations.products import ProductMutations
from app.api.graphql.mutations.queue import QueueMutations
from app.api.graphql.queries import Query
from app.api.graphql.scalars import DATE_TIME
from app.api.graphql.strawberry_seam import core_schema, skip_validation
from app.api.graphql.subscriptions import Subscription
from app.api.graphql.types.hierarchies import Hierarchy
from app.api.graphql.types.job_errors import JobError
from app.api.graphql.types.nodes import HierarchyNode
from app.api.graphql.types.products import Product


class AdmittedDocuments(SchemaExtension):
    """Executes the admitted document, with loaders of its own."""

    async def on_operation(self) -> AsyncIterator[None]:
        context = self.execution_context.context
        skip_validation(self.execution_context, context.document)
        # Never reset: an operation has a task of its own, and may be closed from another one.
        current_loaders.set(Loaders(context.database, context.caller, context.budget))
        yield


class GatewaySchema(strawberry.Schema):
    """Strawberry's schema, with errors in the form that clients may see."""

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        request_id = execution_context.context.request_id if execution_context else "-"
        for error in errors:
            to_graphql(error, request_id)


@strawberry.type(description="All changes.")
class Mutation(
    DuplicationMutations,
    JobMutations,
    QueueMutations,
    HierarchyMutations,
    NodeMutations,
    ProductMutations,
):
    pass


schema = GatewaySchema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[Hierarchy, HierarchyNode, Product, JobError],
    execution_context_class=CountingExecution,
    config=StrawberryConfig(scalar_map={datetime: DATE_TIME}),
    extensions=[AdmittedDocuments],
)
graphql_schema = core_schema(schema)
"""The same schema in graphql-core's representation."""


def schema_text() -> str:
    """Return the text of schema.graphql."""
    return schema.as_str() + "\n"
