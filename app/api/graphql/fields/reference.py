"""Fields that only the reference executor resolves."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from app.api.graphql.fields.source import Declared, FieldSource

REFERENCE_FACTOR = 5
"""The reference executor takes 30 µs per field, a plan 2 to 6 µs."""


@dataclass(frozen=True)
class ReferenceField(FieldSource):
    """A field that only the reference executor resolves, and the reason."""

    resolve: Callable[..., object]
    reason: str
    cost: int = 0
    length: int | None = None
    price_factor = REFERENCE_FACTOR

    def scan_cost(self, arguments: Collection[str]) -> int:
        return self.cost

    def resolver(self) -> Callable[..., object]:
        return self.resolve


def reference_field(
    resolve: Callable[..., object],
    description: str,
    reason: str,
    *,
    cost: int,
    length: int | None = None,
) -> Declared:
    """Declare a field that only the reference executor resolves, for `reason`.

    `cost` is the price of the rows that it examines, `length` the greatest length of a list.
    """
    return ReferenceField(resolve, reason, cost, length).declare(description)
