"""The count of an answer's texts in the reference executor."""

from contextlib import suppress
from typing import Any

from graphql import GraphQLLeafType

from app.api.graphql.fields.loaders import current_loaders
from app.api.graphql.strawberry_seam import PreparedExecution, StrawberryExecution
from app.domain.answers import AnswerTooLarge


class _Counting(PreparedExecution):
    """Counts texts as it completes them.

    Once they are too long the operation is refused as a whole: errors of fields would be thousands.
    """

    @staticmethod
    def complete_leaf_value(return_type: GraphQLLeafType, result: Any) -> Any:
        if type(result) is str:
            budget = current_loaders.get().budget
            if budget.exceeded is None:
                with suppress(AnswerTooLarge):
                    budget.return_texts([result])
        return PreparedExecution.complete_leaf_value(return_type, result)


class CountingExecution(_Counting, StrawberryExecution):
    """The reference executor of queries and mutations."""


class CountingEventExecution(_Counting):
    """The reference executor of events."""
