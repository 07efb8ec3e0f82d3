"""Stores, and the organization above them all, which acts as a store of a name that none can have.

Hierarchies and products of the organization are there for every store to read. All else, jobs and
what belongs to them, is each store's own, also the organization's.
"""

from app.domain.errors import Forbidden, InvalidInput
from app.domain.hierarchies import Owner

NAME_LIMIT = 255
"""Characters a store's name may have."""

RESERVED = "@"
"""What begins no name but those that this program gives."""

ORGANIZATION = f"{RESERVED}organization"
"""The store of all that is the organization's."""


class OwnedByOrganization(Forbidden):
    """A store can read what is the organization's, and not change it."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__("It is the organization's: a store can only read it.", path)


def readable_by(store: str) -> tuple[str, ...]:
    """The stores whose hierarchies and products a store can read: its own and the organization."""
    return (store,) if store == ORGANIZATION else (store, ORGANIZATION)


def owner_of(store: str) -> Owner:
    """Whose the hierarchies of a store are."""
    return Owner.ORGANIZATION if store == ORGANIZATION else Owner.STORE


def checked_store(name: str, *path: str) -> str:
    """`name` itself, or InvalidInput naming `path`: 1 to 255 printable characters, no blank at
    either end, and not one of the reserved names."""
    if not name:
        raise InvalidInput("The name of a store can not be empty.", path)
    if len(name) > NAME_LIMIT:
        reason = f"The store's name has {len(name)} characters; at most {NAME_LIMIT} are allowed."
        raise InvalidInput(reason, path)
    if not name.isprintable():
        raise InvalidInput("The name of a store can only have printable characters.", path)
    if name != name.strip():
        raise InvalidInput("The name of a store can not begin or end with a blank.", path)
    if name.startswith(RESERVED):
        raise InvalidInput(f"No store can have a name that begins with {RESERVED}.", path)
    return name
