"""Everything that can be done."""

import strawberry

from app.api.graphql.mutations.hierarchies import HierarchyMutations
from app.api.graphql.mutations.jobs import JobMutations
from app.api.graphql.mutations.nodes import NodeMutations
from app.api.graphql.mutations.products import ProductMutations
from app.api.graphql.mutations.queue import SteeringMutations


@strawberry.type(description="Everything that can be done.")
class Mutation(
    JobMutations, SteeringMutations, HierarchyMutations, NodeMutations, ProductMutations
):
    pass
