"""What can be said of a document by its look, whether it is valid or not."""

from collections.abc import Iterable, Iterator
from functools import cached_property

from graphql import (
    FieldNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    Node,
    OperationDefinitionNode,
    SelectionSetNode,
    visit,
)
from graphql.language import DirectiveNode, Visitor

from app.api.auth.limits import Limits
from app.api.graphql.admission.parsed_document import ParsedDocument
from app.api.http.refusals import LimitExceeded


class DocumentComplexity:
    """How deep and how wide a document is."""

    def __init__(self, document: ParsedDocument) -> None:
        self._document = document
        self._depths: dict[str, int] = {}

    def check(self, limits: Limits) -> None:
        """Raises LimitExceeded."""
        count = _CountVisitor()
        visit(self._document.tree, count)
        for code, what, limit, found in (
            ("DEPTH_LIMIT_EXCEEDED", "{} levels of fields", limits.max_depth, self.depth),
            ("ALIAS_LIMIT_EXCEEDED", "{} aliases", limits.max_aliases, count.aliases),
            (
                "DIRECTIVE_LIMIT_EXCEEDED",
                "{} directives",
                limits.max_directives,
                count.directives,
            ),
        ):
            if found > limit:
                raise LimitExceeded(code, what, limit, found)

    @cached_property
    def depth(self) -> int:
        """Fields inside fields, fragments unfolded."""
        definitions = self._document.tree.definitions
        # Not by name: of equal names, which validation refuses, each counts.
        operations = (one for one in definitions if isinstance(one, OperationDefinitionNode))
        return max(map(self._depth_of, operations), default=0)

    def _depth_of(self, node: Node) -> int:
        selections: SelectionSetNode | None = getattr(node, "selection_set", None)
        inside: Iterable[Node] = selections.selections if selections else ()
        return max((self._depth_at(one) for one in inside), default=0)

    def _depth_at(self, selection: Node) -> int:
        match selection:
            case FieldNode():
                return 1 + self._depth_of(selection)
            case InlineFragmentNode():
                return self._depth_of(selection)
            case FragmentSpreadNode():
                name = selection.name.value
                if name not in self._depths:
                    # What a cycle is worth does not matter: validation refuses it.
                    self._depths[name] = 0
                    fragment = self._document.fragments.get(name)
                    self._depths[name] = self._depth_of(fragment) if fragment else 0
                return self._depths[name]
        raise TypeError(selection)


def _fields_of(selected: SelectionSetNode) -> Iterator[FieldNode]:
    """The fields of a selection, those of its inline fragments among them."""
    for one in selected.selections:
        match one:
            case FieldNode():
                yield one
            case InlineFragmentNode():
                yield from _fields_of(one.selection_set)


class _CountVisitor(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.aliases = 0
        self.directives = 0

    def enter_field(self, node: FieldNode, *_: object) -> None:
        self.aliases += node.alias is not None

    def enter_selection_set(self, node: SelectionSetNode, *_: object) -> None:
        # Validation compares each of them with each other one: 500 kept it busy for 1.4 seconds.
        names = [field.name.value for field in _fields_of(node) if field.alias is None]
        self.aliases += len(names) - len(set(names))

    def enter_directive(self, _node: DirectiveNode, *_: object) -> None:
        self.directives += 1
