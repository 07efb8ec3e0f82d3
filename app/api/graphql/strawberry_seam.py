"""Internals of strawberry that the gateway relies on, in one place."""

from typing import Any

from strawberry.types.lazy_type import LazyType


def lazy_type(name: str, module: str) -> Any:
    """A GraphQL type of a module that is imported when the schema is built.

    GraphQL types refer to each other in cycles; modules must not.
    """
    return LazyType(name, module)
