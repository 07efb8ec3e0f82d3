"""Parsing of ids that clients send."""

from uuid import UUID

from app.domain.errors import NotFound


def uuid_of(id: str) -> UUID | None:
    """Parse an id. Return None if it is not a UUID: nothing has such an id."""
    try:
        return UUID(id)
    except ValueError:
        return None


def canonical_id(id: str) -> str:
    """Return the canonical spelling of a UUID, other strings unchanged."""
    uuid = uuid_of(id)
    return id if uuid is None else str(uuid)


def require_uuid(kind: str, id: str, *path: str) -> UUID:
    """Parse the id of a `kind` of resource. Raises NotFound(path) if it is not a UUID."""
    uuid = uuid_of(id)
    if uuid is None:
        raise NotFound(kind, id, path)
    return uuid
