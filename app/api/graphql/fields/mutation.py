"""Fields of the mutation root."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import wraps

from app.api.graphql.context import Info
from app.api.graphql.fields.source import Column, Declared, FieldSource, SelectedField


@dataclass(frozen=True)
class MutationField(FieldSource):
    """The payload of a change."""

    change: Callable[..., Awaitable[object]] = field()

    def resolver(self) -> Callable[..., object]:
        change = self.change

        @wraps(change)
        async def resolve(info: Info, **arguments: object) -> object:
            # A plan that made the change but could not complete its payload recorded the result.
            results, response_key = info.context.mutation_results, str(info.path.key)
            if response_key not in results:
                return await change(info=info, **arguments)
            result = results.pop(response_key)
            if isinstance(result, Exception):
                raise result
            return result

        return resolve

    def column(self, selected: SelectedField) -> Column:
        # The plan's root is the payload: the planner has made the change.
        return lambda _, rows: rows


def mutation(change: Callable[..., Awaitable[object]], description: str) -> Declared:
    """Declare a field of the mutation root."""
    return MutationField(change).declare(description)
