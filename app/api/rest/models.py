"""Base classes and parts shared by request and response documents."""

from datetime import datetime
from typing import Annotated, Any, Generic, Self, TypedDict, TypeVar, Unpack

from fastapi import Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.config import JsonDict

from app.domain.errors import InvalidInput
from app.domain.ids import uuid_of
from app.domain.instants import format_instant

DataT = TypeVar("DataT")

Timestamp = Annotated[
    datetime,
    PlainSerializer(format_instant, return_type=str, when_used="json"),
    Field(
        description="RFC 3339 timestamp in UTC, with milliseconds and Z.",
        examples=["2024-01-11T22:49:10.338Z"],
    ),
]


def _whole_number(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[int, BeforeValidator(_whole_number)]
"""An integer, which JSON may write as 1.0 (domain.md, "REST endpoints and statuses")."""

IdInPath = Annotated[
    str,
    Path(description="ID of the object.", json_schema_extra={"format": "uuid"}),
]
"""Path id. A value that is not a UUID yields 404."""

NOT_BLANK: JsonDict = {"minLength": 1}
"""Schema keywords of a text that must not be blank: JSON Schema cannot express more."""


class _FieldOptions(TypedDict, total=False):
    description: str
    max_length: int
    ge: int
    le: int


def optional_field(
    schema_keywords: JsonDict | None = None, **options: Unpack[_FieldOptions]
) -> Any:
    """Declare a field that may be absent; its schema gets `schema_keywords` and no default."""

    def without_default(schema: JsonDict) -> None:
        schema.pop("default", None)
        schema.update(schema_keywords or {})

    return Field(default=None, json_schema_extra=without_default, **options)


class ResponseModel(BaseModel):
    """Part of a response. A field without a value is absent, never null."""

    @classmethod
    def of(cls, row: object, **others: object) -> Self:
        """Build the part from a row's attributes that have a value, and from `others`."""
        values = {name: getattr(row, name, None) for name in cls.model_fields}
        present = {name: value for name, value in values.items() if value is not None}
        return cls.model_validate(present | others)


class RequestModel(BaseModel):
    """Part of a request. Unknown fields are ignored: clients send back the links and
    relationships of a response. An optional field may be null, which counts as absent."""

    model_config = ConfigDict(strict=True)

    def present_fields(self) -> dict[str, Any]:
        """Return the fields that are present and not null, those of inner parts too."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


class StrictRequestModel(RequestModel):
    """Part of a request that refuses unknown fields."""

    model_config = ConfigDict(extra="forbid")


class ResponseDocument(ResponseModel, Generic[DataT]):
    """Response with one object."""

    data: DataT


class RequestDocument(RequestModel, Generic[DataT]):
    """Request with one object or several."""

    data: DataT


class Related(ResponseModel):
    related: str = Field(description="Path of the related list, relative to the API's root.")


class Relations(ResponseModel):
    """Related objects, listed at their own path."""

    data: list[object] = Field(description="Always empty: follow the link.", max_length=0)
    links: Related

    @classmethod
    def at(cls, *path: object) -> "Relations":
        """Link to the path with these segments."""
        return cls(data=[], links=Related(related="".join(f"/{segment}" for segment in path)))


def check_same_id(body_id: str | None, path_id: str) -> None:
    """Raise InvalidInput if a body has another id than its path."""
    if body_id is not None and (uuid_of(body_id) is None or uuid_of(body_id) != uuid_of(path_id)):
        raise InvalidInput(f"id: {body_id} is not the id in the path, {path_id}.")
