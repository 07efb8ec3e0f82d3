"""Stores, and the organization above them, which is a store with a reserved name.

Every store can read the hierarchies and products of the organization. Jobs and their events belong
to one store only, also those of the organization.
"""

from app.domain.errors import Forbidden, InvalidInput
from app.domain.hierarchies import Owner

NAME_LIMIT = 255
"""Characters of a store's name."""

RESERVED_PREFIX = "@"
"""Prefix of names that only this program assigns."""

ORGANIZATION = f"{RESERVED_PREFIX}organization"
"""The organization's store."""


class OwnedByOrganization(Forbidden):
    """A store can only read hierarchies and products of the organization."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__("It is the organization's: a store can only read it.", path)


def readable_by(store: str) -> tuple[str, ...]:
    """Return the stores whose hierarchies and products a store can read."""
    return (store,) if store == ORGANIZATION else (store, ORGANIZATION)


def owner_of(store: str) -> Owner:
    """Return the owner of a store's hierarchies."""
    return Owner.ORGANIZATION if store == ORGANIZATION else Owner.STORE


def checked_store(name: str, *path: str) -> str:
    """Validate a name of 1 to 255 printable characters, without a blank at either end.

    Raises InvalidInput(path), also for the reserved prefix.
    """
    if not name:
        raise InvalidInput("The name of a store can not be empty.", path)
    if len(name) > NAME_LIMIT:
        reason = f"The store's name has {len(name)} characters; at most {NAME_LIMIT} are allowed."
        raise InvalidInput(reason, path)
    if not name.isprintable():
        raise InvalidInput("The name of a store can only have printable characters.", path)
    if name != name.strip():
        raise InvalidInput("The name of a store cannot begin or end with a blank.", path)
    if name.startswith(RESERVED_PREFIX):
        raise InvalidInput(f"No store can have a name that begins with {RESERVED_PREFIX}.", path)
    return name
