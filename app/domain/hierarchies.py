"""Hierarchies: public ids of hierarchies and nodes, owners, states."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid4

from app.domain.errors import InvalidInput

ROOT_NO = 0
"""The node number of every hierarchy's root."""

MAX_TREE_DEPTH = 100
"""Default of the greatest depth of new nodes. Each level adds to the path of every node below."""

LAST_NODE_NO = 2**32 - 1
_LOW_BITS = LAST_NODE_NO


class Owner(StrEnum):
    """The owner of a hierarchy: a store, or the organization above all stores."""

    STORE = "store"
    ORGANIZATION = "organization"


class HierarchyState(StrEnum):
    """The life cycle of a hierarchy. Only READY is visible to clients."""

    READY = "ready"
    COPYING = "copying"
    IMPORTING = "importing"
    DISCARDED = "discarded"
    ABANDONED = "abandoned"
    """A discarded import; the products it created are removed with it."""


@dataclass(frozen=True, slots=True)
class NodeRef:
    """The parts of a public id: a hierarchy and a node's number in it (0 is the root)."""

    hierarchy_id: UUID
    node_no: int


def new_hierarchy_id() -> UUID:
    """Return a random UUID with low 32 bits zero, which hold node numbers in node ids."""
    return UUID(int=uuid4().int & ~_LOW_BITS)


def node_id(hierarchy_id: UUID, node_no: int) -> UUID:
    """Return a node's public id: its hierarchy's with the number as low 32 bits."""
    return UUID(int=hierarchy_id.int | node_no)


def node_ref(id: UUID) -> NodeRef:
    """Split the public id of a hierarchy or a node."""
    return NodeRef(UUID(int=id.int & ~_LOW_BITS), id.int & _LOW_BITS)


def check_depth(depth: int, max_depth: int) -> None:
    """Raise InvalidInput(parent_id) for a node that would be too deep; 1 is below the root."""
    if depth > max_depth:
        raise InvalidInput(
            f"The tree would have {depth} levels below its root; at most {max_depth} are allowed.",
            ("parent_id",),
        )
