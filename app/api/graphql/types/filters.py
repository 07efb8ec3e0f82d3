"""Conditions on texts, as inputs of lists."""

import strawberry
from strawberry import UNSET

from app.api.graphql.cursors import given
from app.domain.attributes import NAME_LIMIT, checked_text
from app.domain.errors import InvalidInput
from app.domain.filters import Condition, Operator

MAX_VALUES = 100
"""Values an `in` may have."""


@strawberry.input(one_of=True, description="A condition on a text: exactly one of these.")
class StringFilter:
    eq: str | None = strawberry.field(default=UNSET, description="Exactly this.")
    in_: list[str] | None = strawberry.field(
        default=UNSET, name="in", description="Exactly one of these, at most 100."
    )
    like: str | None = strawberry.field(
        default=UNSET,
        description="* stands for anything; case does not count. At most 1000 characters.",
    )

    def on(self, attribute: str) -> list[Condition]:
        """The condition on that attribute as storage takes it. Raises InvalidInput."""
        path = ("filter", attribute)
        among = given(self.in_)
        if among is not None and len(among) > MAX_VALUES:
            raise InvalidInput(
                f"in has {len(among)} values; at most {MAX_VALUES} are allowed.", (*path, "in")
            )
        like = given(self.like)
        if like is not None and len(like) > NAME_LIMIT:
            raise InvalidInput(
                f"like has {len(like)} characters; at most {NAME_LIMIT} are allowed.",
                (*path, "like"),
            )
        eq = given(self.eq)
        for text in (eq, like, *(among or ())):
            checked_text(text or "", *path)
        said = {Operator.EQ: eq, Operator.LIKE: like}
        conditions = [
            Condition(attribute, operator, [value])
            for operator, value in said.items()
            if value is not None
        ]
        return conditions if among is None else [Condition(attribute, Operator.IN, among)]
