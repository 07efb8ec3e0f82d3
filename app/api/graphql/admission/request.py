"""Typed request parameters of GraphQL over HTTP, the same for all transports."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

from app.api.http.refusals import Malformed

T = TypeVar("T")

_DOCUMENT_ID = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """Parameters of one operation, with a query, a document id, or both."""

    query: str | None
    document_id: str | None
    """The SHA-256 of a trusted document, in hexadecimal."""
    operation_name: str | None
    variables: dict[str, object]
    size: int = 0
    """Bytes of the request: an upper bound of its variables' size."""

    @classmethod
    def of(cls, parameters: object, size: int = 0) -> Self:
        """Validate the parameters of a request of `size` bytes. Raises Malformed naming one.

        The document id is `documentId` of the persisted documents of GraphQL over HTTP, or
        `extensions.persistedQuery.sha256Hash` as Apollo's clients send it.
        """
        if not isinstance(parameters, Mapping):
            raise Malformed("A GraphQL request must be a JSON object.")
        extensions = _optional(parameters, "extensions", dict, "an object") or {}
        query = _optional(parameters, "query", str, "a string")
        document_id = _document_id(parameters, extensions)
        if query is None and document_id is None:
            raise Malformed("The request has no query.")
        return cls(
            # With a document id, an empty query counts as absent.
            query=query if query or document_id is None else None,
            document_id=document_id,
            operation_name=_optional(parameters, "operationName", str, "a string") or None,
            variables=_optional(parameters, "variables", dict, "an object") or {},
            size=size,
        )


def _optional(
    parameters: Mapping[str, object], name: str, kind: type[T], expected: str
) -> T | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, kind):
        raise Malformed(f"{name} must be {expected}.")
    return value


def _document_id(parameters: Mapping[str, object], extensions: Mapping[str, object]) -> str | None:
    persisted = _optional(extensions, "persistedQuery", dict, "an object") or {}
    for id in (
        _optional(parameters, "documentId", str, "a string"),
        _optional(persisted, "sha256Hash", str, "a string"),
    ):
        if id is not None:
            match = _DOCUMENT_ID.fullmatch(id)
            if match is None:
                raise Malformed("A document id must be a SHA-256 of 64 hexadecimal digits.")
            return match[1]
    return None
