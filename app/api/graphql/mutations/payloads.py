"""Payload errors, and the declaration of catalogue mutations."""

from collections.abc import Callable
from typing import Annotated, Any, Self, TypeVar
from uuid import UUID

import strawberry

from app.api.graphql.context import Context, Info
from app.api.graphql.errors import Forbidden, InvalidInput, NotFound, refusal_of
from app.api.graphql.fields.loaders import reset_loaders
from app.api.graphql.fields.mutation import mutation
from app.api.graphql.mutations.attributes import with_input_path
from app.domain.callers import Scope
from app.domain.errors import DomainError
from app.storage.engine.transaction import Transaction

InputT = TypeVar("InputT")
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
    def of(cls, deleted: UUID | None, errors: list[AuthoringError]) -> Self:
        return cls(deleted_id=strawberry.ID(str(deleted)) if deleted else None, errors=errors)


def authoring_mutation(
    input_type: type[InputT],
    input_description: str,
    change: Callable[[Transaction, str, InputT], ResultT],
    payload: Callable[[ResultT | None, list[AuthoringError]], object],
    description: str,
) -> Any:
    """Declare a mutation that runs `change` in one transaction for the caller's store.

    Needs hierarchies:write. Domain errors other than refusals that all mutations share are raised.
    """
    return _authoring_mutation(
        input_type,
        input_description,
        lambda tx, context, input: change(tx, context.store, input),
        payload,
        description,
    )


def placing_mutation(
    input_type: type[InputT],
    input_description: str,
    change: Callable[[Transaction, str, InputT, int], ResultT],
    payload: Callable[[ResultT | None, list[AuthoringError]], object],
    description: str,
) -> Any:
    """Declare an `authoring_mutation` whose `change` also receives the greatest depth of a tree."""
    return _authoring_mutation(
        input_type,
        input_description,
        lambda tx, context, input: change(tx, context.store, input, context.max_tree_depth),
        payload,
        description,
    )


def _authoring_mutation(
    input_type: type[InputT],
    input_description: str,
    change: Callable[[Transaction, Context, InputT], ResultT],
    payload: Callable[[ResultT | None, list[AuthoringError]], object],
    description: str,
) -> Any:
    async def run(info: Info, input: InputT) -> object:
        context = info.context
        reset_loaders(context.database, context.caller, context.budget)
        try:
            context.caller.check(Scope.HIERARCHIES_WRITE)
            return payload(
                await context.database.client_write(context.store, change, context, input), []
            )
        except DomainError as error:
            return payload(None, [refusal_of(with_input_path(error, input))])

    argument = strawberry.argument(description=input_description)
    run.__annotations__["input"] = Annotated[input_type, argument]
    return mutation(run, description)
