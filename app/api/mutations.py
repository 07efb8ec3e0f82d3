"""Everything that can be done."""

import strawberry

from app.api.authoring.hierarchies import HierarchyMutations
from app.api.authoring.nodes import NodeMutations
from app.api.authoring.products import ProductMutations
from app.api.job_mutations import JobMutations
from app.api.steering import SteeringMutations


@strawberry.type(description="Everything that can be done.")
class Mutation(
    JobMutations, SteeringMutations, HierarchyMutations, NodeMutations, ProductMutations
):
    pass
