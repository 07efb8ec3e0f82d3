"""The kinds of databases that tests run on."""

from collections.abc import Callable

DATABASES = ("sqlite", "postgresql")
"""The kinds that one suite runs over."""

NewDatabase = Callable[[str], str]
"""Makes an empty database of a kind and returns its URL."""
