"""What all changes of the catalogue share: how they are made, refused and told of."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar, cast
from uuid import UUID

import strawberry
from sqlmodel import Session
from strawberry import UNSET

from app.api.graphql.context import Info
from app.api.graphql.cursors import given
from app.api.graphql.errors import Forbidden, InvalidInput, NotFound, refusal_of
from app.api.graphql.fields.loaders import reset_loaders
from app.domain import errors
from app.domain.attributes import Attributes, Translation
from app.domain.callers import Scope

ResultT = TypeVar("ResultT")

QueueError = Annotated[
    NotFound | Forbidden | InvalidInput,
    strawberry.union("QueueError", description="Why the queue stays as it is."),
]
AuthoringError = Annotated[
    NotFound | Forbidden | InvalidInput,
    strawberry.union("AuthoringError", description="Why the catalogue was not changed."),
]

ERRORS = "Why it was refused, and nothing was changed; empty when it was not."


@strawberry.type(description="What became of the request.")
class DeletePayload:
    deleted_id: strawberry.ID | None = strawberry.field(
        description="The id that is no more; null when refused."
    )
    errors: list[AuthoringError] = strawberry.field(description=ERRORS)

    @classmethod
    def of(cls, deleted: UUID | None, errors: list[Any]) -> "DeletePayload":
        """The payload that tells of it."""
        return cls(
            deleted_id=None if deleted is None else strawberry.ID(str(deleted)), errors=errors
        )


@strawberry.input(description="A translation: a name, a description, or both.")
class LocalizationInput:
    locale: str = strawberry.field(description="A language tag such as fr-FR.")
    name: str | None = strawberry.field(
        default=UNSET, description="The name in this locale: 1 to 1000 characters, not blank."
    )
    description: str | None = strawberry.field(
        default=UNSET, description="The description in this locale."
    )


async def run_mutation(
    info: Info, input: object, made: Callable[[Session, str], ResultT]
) -> tuple[ResultT | None, list[Any]]:
    """What `made` makes of the input in one transaction for the caller's store, or why it was
    refused."""
    context = info.context
    reset_loaders(context.database, context.caller)
    try:
        context.caller.check(Scope.HIERARCHIES_WRITE)
        return await context.database.write(made, context.store), []
    except errors.DomainError as error:
        return None, [refusal_of(_placed(error, input))]


def attributes_of(input: Any) -> Attributes:
    """The attributes that an input gives. Raises InvalidInput for a locale given twice."""
    names = ("name", "description", "slug")
    wanted: Any = {name: getattr(input, name) for name in names}
    wanted["locales"] = input.localizations and _locales(input.localizations)
    given_ones = {name: value for name, value in wanted.items() if value is not UNSET}
    return cast(Attributes, given_ones)


def _placed(error: errors.DomainError, input: object) -> errors.DomainError:
    """The error naming a translation by its place in the input, where the domain does by locale."""
    match error.path:
        case "localizations", locale, *further:
            for place, one in enumerate(getattr(input, "localizations", None) or ()):
                if one.locale == locale:
                    error.path = ("localizations", str(place), *further)
    return error


def _locales(localizations: list[LocalizationInput]) -> dict[str, Translation]:
    locales: dict[str, Translation] = {}
    for place, one in enumerate(localizations):
        if one.locale in locales:
            reason = f"The locale {one.locale} is there more than once."
            raise errors.InvalidInput(reason, ("localizations", str(place), "locale"))
        said = {"name": given(one.name), "description": given(one.description)}
        locales[one.locale] = {what: text for what, text in said.items() if text is not None}
    return locales
