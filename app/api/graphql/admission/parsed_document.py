"""Parsed documents: operations and fragments by name."""

from graphql import DocumentNode, FragmentDefinitionNode, OperationDefinitionNode

from app.api.graphql.admission.cost import CostCache
from app.api.http.refusals import Refused


class ParsedDocument:
    """A parsed document. Of definitions with the same name, the last one counts."""

    def __init__(self, text: str, tree: DocumentNode) -> None:
        self.text = text
        self.tree = tree
        self.fragments: dict[str, FragmentDefinitionNode] = {}
        self.operations: dict[str | None, OperationDefinitionNode] = {}
        self.costs: dict[str | None, CostCache] = {}
        """By operation name, for the operations requested so far."""
        for definition in tree.definitions:
            match definition:
                case FragmentDefinitionNode(name=name):
                    self.fragments[name.value] = definition
                case OperationDefinitionNode(name=name):
                    self.operations[name.value if name else None] = definition

    def operation(self, name: str | None) -> OperationDefinitionNode:
        """Return the operation of this name, or the only one if None. Raises Refused."""
        if name is None and len(self.operations) == 1:
            return next(iter(self.operations.values()))
        operation = self.operations.get(name) if name else None
        if operation is None:
            names = ", ".join(sorted(filter(None, self.operations)))
            raise Refused(
                f"The document has no operation {name!r}."
                if name
                else f"The document has several operations: set operationName to one of {names}.",
                "OPERATION_RESOLUTION_FAILURE",
            )
        return operation
