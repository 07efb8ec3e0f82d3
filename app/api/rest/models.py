"""What all documents on the wire share."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from app.domain.attributes import NAME_LIMIT
from app.domain.instants import instant_text

DataT = TypeVar("DataT")

Timestamp = Annotated[
    datetime,
    PlainSerializer(instant_text, return_type=str, when_used="json"),
    Field(
        description="RFC 3339 in UTC, milliseconds and Z.", examples=["2024-01-11T22:49:10.338Z"]
    ),
]

IdInPath = Annotated[str, Path(description="Its id.", json_schema_extra={"format": "uuid"})]
"""An id that a path names: of what is no UUID nothing has it."""


STATED_FIELDS = {"minLength": 1}
"""What a schema can tell of a text that has to have something to be seen."""


def left_out(described: Mapping[str, Any] | None = None, **more: Any) -> Any:
    """The field of what may not be there; `described` is what else its schema tells."""

    def without_default(schema: dict[str, Any]) -> None:
        schema.pop("default", None)
        schema.update(described or {})

    return Field(default=None, json_schema_extra=without_default, **more)


class ResponseModel(BaseModel):
    """Part of an answer."""


class RequestModel(BaseModel):
    """Part of a request. What it has besides is passed over: clients send back what they were
    shown, links and relationships included."""

    model_config = ConfigDict(strict=True)


class StrictRequestModel(RequestModel):
    """Part of a request that can have nothing besides."""

    model_config = ConfigDict(extra="forbid")


class ResponseDocument(ResponseModel, Generic[DataT]):
    """An answer about one thing."""

    data: DataT


class RequestDocument(RequestModel, Generic[DataT]):
    """A request about one thing, or several."""

    data: DataT


class Related(ResponseModel):
    related: str = Field(description="A path, from where this API begins.")


class Relations(ResponseModel):
    """What hangs on it, told of elsewhere."""

    data: list[Any] = Field(description="Always empty: follow the link.", max_length=0)
    links: Related

    @classmethod
    def at(cls, *path: object) -> "Relations":
        """The relations that are told of there."""
        return cls(data=[], links=Related(related="".join(f"/{part}" for part in path)))


class LocaleAttributes(StrictRequestModel):
    """What one locale says in place of the default, at least one of these."""

    name: str = left_out(STATED_FIELDS, max_length=NAME_LIMIT)
    description: str = left_out()
