"""Depth, aliases and directives of a document, counted before validation."""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from graphql import (
    DirectiveNode,
    FieldNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    Node,
    OperationDefinitionNode,
    SelectionSetNode,
    Visitor,
    visit,
)

from app.api.auth.limits import Limits
from app.api.graphql.admission.parsed_document import ParsedDocument
from app.api.http.refusals import LimitExceeded

MAX_NESTING = 100
"""Nested selection sets, with fragments expanded. Python ends at 1,000 nested calls, and admission
takes up to five per selection set."""


class DocumentComplexity:
    """Measures of a parsed document, which may still be invalid."""

    def __init__(self, document: ParsedDocument) -> None:
        self._document = document
        self._fragments: dict[str, _Nesting] = {}

    def check(self, limits: Limits) -> None:
        """Raise LimitExceeded for the first limit that the document exceeds."""
        count = _CountVisitor()
        visit(self._document.tree, count)
        for code, text, limit, measured in (
            ("DEPTH_LIMIT_EXCEEDED", "{} levels of fields", limits.max_depth, self.depth),
            ("ALIAS_LIMIT_EXCEEDED", "{} aliases", limits.max_aliases, count.aliases),
            (
                "DIRECTIVE_LIMIT_EXCEEDED",
                "{} directives",
                limits.max_directives,
                count.directives,
            ),
        ):
            if measured > limit:
                raise LimitExceeded(code, text, limit, measured)

    @cached_property
    def depth(self) -> int:
        """Levels of nested fields, with fragments expanded.

        Raises LimitExceeded beyond MAX_NESTING selection sets: all later steps recurse into them.
        """
        definitions = self._document.tree.definitions
        # From the definitions: operations by name would leave out duplicates of a name, which
        # only validation refuses.
        operations = (node for node in definitions if isinstance(node, OperationDefinitionNode))
        return max((self._nesting_of(node, 1).fields for node in operations), default=0)

    def _nesting_of(self, node: Node, level: int) -> "_Nesting":
        """Measure a node whose selection set, if it has one, is on this level."""
        selections: SelectionSetNode | None = getattr(node, "selection_set", None)
        if selections is None:
            return _Nesting(0, 0)
        fields = sets = 0
        for child in selections.selections:
            nested = self._nesting_at(child, level + 1)
            fields, sets = max(fields, nested.fields), max(sets, nested.sets)
        if level + sets > MAX_NESTING:
            raise LimitExceeded(
                "DEPTH_LIMIT_EXCEEDED",
                "at least {} nested selection sets",
                MAX_NESTING,
                level + sets,
            )
        return _Nesting(fields, sets + 1)

    def _nesting_at(self, selection: Node, level: int) -> "_Nesting":
        if level > MAX_NESTING + 1:
            # One level more was counted when it was entered.
            return _Nesting(0, 0)
        match selection:
            case FieldNode():
                fields, sets = self._nesting_of(selection, level)
                return _Nesting(fields + 1, sets)
            case InlineFragmentNode():
                return self._nesting_of(selection, level)
            case FragmentSpreadNode():
                name = selection.name.value
                if name not in self._fragments:
                    # The nesting of a cycle does not matter: validation refuses it.
                    self._fragments[name] = _Nesting(0, 0)
                    fragment = self._document.fragments.get(name)
                    if fragment:
                        self._fragments[name] = self._nesting_of(fragment, level)
                return self._fragments[name]
        raise TypeError(selection)


class _Nesting(NamedTuple):
    """Levels below a node, with fragments expanded."""

    fields: int
    sets: int
    """Selection sets, those of inline fragments and fragment spreads included."""


def _fields_of(selected: SelectionSetNode) -> Iterator[FieldNode]:
    """Yield the fields of a selection, including those of its inline fragments."""
    for node in selected.selections:
        match node:
            case FieldNode():
                yield node
            case InlineFragmentNode():
                yield from _fields_of(node.selection_set)


class _CountVisitor(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.aliases = 0
        self.directives = 0

    def enter_field(self, node: FieldNode, *_: object) -> None:
        self.aliases += node.alias is not None

    def enter_selection_set(self, node: SelectionSetNode, *_: object) -> None:
        # Validation compares fields of one response key in pairs: 500 of them take it 1.4 seconds.
        names = [field.name.value for field in _fields_of(node) if field.alias is None]
        self.aliases += len(names) - len(set(names))

    def enter_directive(self, _node: DirectiveNode, *_: object) -> None:
        self.directives += 1
