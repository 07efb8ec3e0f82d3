"""Fields of the subscription root."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

import strawberry

from app.api.graphql.fields.source import (
    FIELD_SOURCE,
    Column,
    Declared,
    FieldSource,
    SelectedField,
)


@dataclass(frozen=True)
class SubscriptionField(FieldSource):
    """An event of the stream that `events` returns."""

    events: Callable[..., Awaitable[AsyncGenerator[object, None]]]

    def resolver(self) -> Callable[..., object]:
        return self.events

    def column(self, selected: SelectedField) -> Column:
        # The plan's root is the event: one run per event.
        return lambda _, rows: rows

    def declare(self, description: str, type: object = None) -> Declared:
        return strawberry.subscription(
            resolver=self.resolver(),
            description=description,
            metadata={FIELD_SOURCE: self},
            graphql_type=type,
        )


def subscription(
    events: Callable[..., Awaitable[AsyncGenerator[object, None]]], description: str
) -> Declared:
    """Declare a field of the subscription root."""
    return SubscriptionField(events).declare(description)
