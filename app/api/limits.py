"""How much one client may ask for. Each limit is refused with its own code, the limit and what was
found."""

from collections.abc import Iterable, Iterator
from functools import cached_property

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    Node,
    SelectionSetNode,
    visit,
)
from graphql.language import DirectiveNode, Visitor
from pydantic import BaseModel, Field

from app.api.errors import Refused


class Limits(BaseModel):
    """The limits, as an operator sets them."""

    max_tokens: int = Field(2_000, ge=100, description="Tokens of a document.")
    max_depth: int = Field(20, ge=1, description="Fields inside fields of a document.")
    max_aliases: int = Field(
        30, ge=0, description="Aliases in a document, and fields named again beside themselves."
    )
    max_directives: int = Field(50, ge=0, description="Directives in a document.")
    max_cost: int = Field(
        20_000, ge=1, description="Fields of an answer, at most, with every list at its full size."
    )
    max_batch: int = Field(10, ge=0, description="Operations in one HTTP request; 0: no batches.")
    max_body_bytes: int = Field(
        128 * 1024, ge=1024, le=16 * 1024**2, description="Bytes of a body or a WebSocket message."
    )
    max_execution_seconds: float = Field(
        10, gt=0, description="Seconds that a query or a mutation may take."
    )
    max_requests_per_second: float = Field(
        100,
        ge=0,
        description="Operations per second and client, twice as many at once; 0: no limit.",
    )
    max_streams_per_client: int = Field(
        200, ge=1, description="WebSockets and other streams that a client may have open."
    )
    max_operations_per_socket: int = Field(
        100, ge=1, description="Operations that may run at once on a WebSocket."
    )


class LimitExceeded(Refused):
    """More than is allowed was asked for."""

    def __init__(self, code: str, what: str, limit: float, found: float) -> None:
        message = f"The operation has {what.format(f'{found:,}')}; the limit is {limit:,}."
        super().__init__(message, code, extensions={"limit": limit, "found": found})


class Shape:
    """What can be said of a document by its look, whether it is valid or not."""

    def __init__(self, document: DocumentNode) -> None:
        self._document = document
        self._fragments = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        self._depths: dict[str, int] = {}

    def check(self, limits: Limits) -> None:
        """Raises LimitExceeded."""
        count = _Count()
        visit(self._document, count)
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
        return max((self._depth_of(one) for one in self._document.definitions), default=0)

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
                    fragment = self._fragments.get(name)
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


class _Count(Visitor):
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
