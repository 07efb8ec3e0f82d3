"""Filter inputs for texts."""

import strawberry
from strawberry import UNSET

from app.api.graphql.cursors import none_if_unset
from app.domain.attributes import NAME_LIMIT, checked_text
from app.domain.errors import InvalidInput
from app.domain.filters import Condition, Operator

MAX_VALUES = 100
"""Maximum number of values of `in`."""


@strawberry.input(one_of=True, description="Condition on a text; set exactly one field.")
class StringFilter:
    eq: str | None = strawberry.field(default=UNSET, description="Equals this value.")
    in_: list[str] | None = strawberry.field(
        default=UNSET, name="in", description=f"Equals one of these values, at most {MAX_VALUES}."
    )
    like: str | None = strawberry.field(
        default=UNSET,
        description="Matches this pattern: `*` stands for any characters, and case is ignored. "
        f"At most {NAME_LIMIT} characters.",
    )

    def conditions_on(self, attribute: str) -> list[Condition]:
        """Build the conditions on `attribute`. Raises InvalidInput."""
        path = ("filter", attribute)
        eq, values, like = none_if_unset(self.eq), none_if_unset(self.in_), none_if_unset(self.like)
        if values is not None and len(values) > MAX_VALUES:
            raise InvalidInput(
                f"in has {len(values)} values; at most {MAX_VALUES} are allowed.", (*path, "in")
            )
        if like is not None and len(like) > NAME_LIMIT:
            raise InvalidInput(
                f"like has {len(like)} characters; at most {NAME_LIMIT} are allowed.",
                (*path, "like"),
            )
        for text in (eq, like, *(values or ())):
            checked_text(text or "", *path)
        conditions = [
            Condition(attribute, operator, [value])
            for operator, value in ((Operator.EQ, eq), (Operator.ILIKE, like))
            if value is not None
        ]
        return conditions if values is None else [Condition(attribute, Operator.IN, values)]
