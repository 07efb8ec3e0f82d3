"""Payload errors and the transaction of catalogue mutations."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from uuid import UUID

import strawberry
from sqlmodel import Session

from app.api.graphql.context import Info
from app.api.graphql.errors import Forbidden, InvalidInput, NotFound, refusal_of
from app.api.graphql.fields.loaders import reset_loaders
from app.api.graphql.mutations.attributes import with_input_path
from app.domain.callers import Scope
from app.domain.errors import DomainError

ResultT = TypeVar("ResultT")

QueueError = Annotated[
    NotFound | Forbidden | InvalidInput,
    strawberry.union("QueueError", description="Reason why the queue was not changed."),
]
AuthoringError = Annotated[
    NotFound | Forbidden | InvalidInput,
    strawberry.union("AuthoringError", description="Reason why the catalogue was not changed."),
]

ERRORS = "Reasons for the refusal; nothing was changed. Empty on success."
"""Description of a payload's errors."""


@strawberry.type(description="Result of a deletion.")
class DeletePayload:
    deleted_id: strawberry.ID | None = strawberry.field(
        description="ID of the deleted object; null if refused."
    )
    errors: list[AuthoringError] = strawberry.field(description=ERRORS)

    @classmethod
    def of(cls, deleted: UUID | None, errors: list[Any]) -> "DeletePayload":
        return cls(
            deleted_id=None if deleted is None else strawberry.ID(str(deleted)), errors=errors
        )


async def run_mutation(
    info: Info, input: object, change: Callable[[Session, str], ResultT]
) -> tuple[ResultT | None, list[Any]]:
    """Run `change` in one transaction for the caller's store. Return its result and the errors.

    Needs hierarchies:write. Domain errors other than refusals that all mutations share are raised.
    """
    context = info.context
    reset_loaders(context.database, context.caller)
    try:
        context.caller.check(Scope.HIERARCHIES_WRITE)
        return await context.database.write(change, context.store), []
    except DomainError as error:
        return None, [refusal_of(with_input_path(error, input))]
