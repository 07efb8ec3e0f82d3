"""Parsing of ids that clients send."""

import re
from uuid import UUID

from app.domain.errors import NotFound

_HEX = "[0-9a-fA-F]"
_UUID = re.compile(rf"(?:urn:uuid:)?{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}|{_HEX}{{32}}")


def uuid_of(id: str) -> UUID | None:
    """Parse an id, with or without hyphens and `urn:uuid:`, in any case (RFC 9562, 4).

    Return None if it is not a UUID: nothing has such an id. Python alone would also take braces,
    blanks, underscores, hyphens anywhere and the digits of other scripts.
    """
    return UUID(id) if _UUID.fullmatch(id) else None


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
