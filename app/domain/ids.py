"""Ids as clients write them."""

from uuid import UUID

from app.domain.errors import NotFound


def uuid_of(id: str) -> UUID | None:
    """The UUID a client's id stands for, None when it is none: it then names nothing."""
    try:
        return UUID(id)
    except ValueError:
        return None


def canonical(id: str) -> str:
    """The one spelling of an id that clients may spell in several ways; what is none as it is."""
    uuid = uuid_of(id)
    return id if uuid is None else str(uuid)


def known_uuid(kind: str, id: str, *path: str) -> UUID:
    """The UUID a client's id stands for, or NotFound naming `path` and the kind of thing."""
    uuid = uuid_of(id)
    if uuid is None:
        raise NotFound(kind, id, path)
    return uuid
