"""A document, taken apart."""

from typing import Any

from graphql import DocumentNode, FragmentDefinitionNode, OperationDefinitionNode

from app.api.graphql.admission.cost import CostCache
from app.api.http.refusals import Refused


class ParsedDocument:
    """A document that was parsed: its operations and fragments by name, the last of equal names."""

    def __init__(self, text: str, tree: DocumentNode) -> None:
        self.text = text
        self.tree = tree
        self.fragments: dict[str, FragmentDefinitionNode] = {}
        self.operations: dict[str | None, OperationDefinitionNode] = {}
        self.bills: dict[str | None, CostCache] = {}
        """Of its operations that were asked for."""
        self.kept: dict[str | None, Any] = {}
        """What whoever runs its operations has made of each: kept as long as the document."""
        for definition in tree.definitions:
            match definition:
                case FragmentDefinitionNode(name=name):
                    self.fragments[name.value] = definition
                case OperationDefinitionNode(name=name):
                    self.operations[name.value if name else None] = definition

    def operation(self, name: str | None) -> OperationDefinitionNode:
        """The operation of that name, or the only one. Raises Refused."""
        if name is None and len(self.operations) == 1:
            return next(iter(self.operations.values()))
        found = self.operations.get(name) if name else None
        if found is None:
            names = ", ".join(sorted(one for one in self.operations if one))
            raise Refused(
                f"The document has no operation {name!r}."
                if name
                else f"The document has several operations: say which by operationName ({names}).",
                "OPERATION_RESOLUTION_FAILURE",
            )
        return found
