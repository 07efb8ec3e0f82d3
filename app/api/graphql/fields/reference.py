"""Fields that only the reference executor resolves."""

from collections.abc import Callable
from dataclasses import dataclass

from app.api.graphql.fields.source import Declared, FieldSource


@dataclass(frozen=True)
class ReferenceField(FieldSource):
    """A field that only the reference executor resolves, and the reason."""

    resolve: Callable[..., object]
    reason: str

    def resolver(self) -> Callable[..., object]:
        return self.resolve


def reference_field(resolve: Callable[..., object], description: str, reason: str) -> Declared:
    """Declare a field that only the reference executor resolves, for `reason`."""
    return ReferenceField(resolve, reason).declare(description)
