"""Hierarchies and the nodes below them: their ids, whose they are, where they are in their life."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid4

ROOT_NO = 0
"""The node number of every hierarchy's root."""

LAST_NODE_NO = 2**32 - 1
_LOW_BITS = LAST_NODE_NO


class Owner(StrEnum):
    """Whose a hierarchy is: one store's, or the organization's above all stores."""

    STORE = "store"
    ORGANIZATION = "organization"


class HierarchyState(StrEnum):
    """Where a hierarchy is in its life. Only READY is ever visible."""

    READY = "ready"
    COPYING = "copying"
    IMPORTING = "importing"
    DISCARDED = "discarded"
    ABANDONED = "abandoned"
    """A discarded import: what it made for itself goes with it."""


@dataclass(frozen=True, slots=True)
class NodeRef:
    """A public id taken apart: a hierarchy, and a node's number in it (0 is the root)."""

    hierarchy_id: UUID
    node_no: int


def new_hierarchy_id() -> UUID:
    """A random UUID whose low 32 bits are free for the numbers of the hierarchy's nodes."""
    return UUID(int=uuid4().int & ~_LOW_BITS)


def node_id(hierarchy_id: UUID, node_no: int) -> UUID:
    """The public id of a node: its hierarchy's, with the node's number in the low 32 bits."""
    return UUID(int=hierarchy_id.int | node_no)


def node_ref(id: UUID) -> NodeRef:
    """The place a public id names, were it the id of a hierarchy or a node."""
    return NodeRef(UUID(int=id.int & ~_LOW_BITS), id.int & _LOW_BITS)
