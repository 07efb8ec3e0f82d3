"""The size of an answer: what one operation may read and return."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from app.domain.errors import DomainError

MAX_CHARACTERS = 8 * 1024 * 1024
"""Characters of all texts that one operation reads, and of those that it returns."""

MAX_PATH_ITEMS = 20_000
"""Items of all paths that one operation returns: 1,000 nodes can be 20 levels deep, or 200 nodes
100."""


class AnswerTooLarge(DomainError):
    """A request for more than one operation may read or return."""


@dataclass(eq=False)
class PathsTooLong(AnswerTooLarge):
    """A request for paths with more than MAX_PATH_ITEMS together."""

    code: ClassVar[str] = "PATHS_TOO_LONG"

    def __str__(self) -> str:
        return (
            f"The paths of these nodes have more than {MAX_PATH_ITEMS:,} items together: "
            "request fewer nodes at once."
        )


@dataclass(eq=False)
class TextsTooLong(AnswerTooLarge):
    """A request for texts with more than MAX_CHARACTERS together."""

    code: ClassVar[str] = "TEXTS_TOO_LONG"

    def __str__(self) -> str:
        return (
            f"The texts of these objects have more than {MAX_CHARACTERS:,} characters together: "
            "request fewer objects or fields at once."
        )


class _Count:
    """The sizes of several values. The largest does not count: one alone is never refused."""

    __slots__ = ("error", "largest", "limit", "total")

    def __init__(self, limit: int, error: type[AnswerTooLarge]) -> None:
        self.limit = limit
        self.error = error
        self.total = self.largest = 0

    def add(self, total: int, largest: int) -> None:
        """Count values with this total. Raises `error` instead if they are too large."""
        largest = max(largest, self.largest)
        if self.total + total - largest > self.limit:
            raise self.error
        self.total += total
        self.largest = largest


class AnswerBudget:
    """Counts what one operation reads and returns. Its methods raise AnswerTooLarge."""

    __slots__ = ("_paths", "_read", "_returned", "exceeded")

    def __init__(self) -> None:
        self._read = _Count(MAX_CHARACTERS, TextsTooLong)
        self._returned = _Count(MAX_CHARACTERS, TextsTooLong)
        self._paths = _Count(MAX_PATH_ITEMS, PathsTooLong)
        self.exceeded: AnswerTooLarge | None = None
        """The reason to refuse the operation."""

    def read_rows(self, rows: Iterable[Sequence[object]], positions: Sequence[int]) -> None:
        """Count the texts at these positions of rows."""
        self._add(self._read, [sum(characters_of(row[at]) for at in positions) for row in rows])

    def decode(self, values: Iterable[object]) -> None:
        """Count the texts of decoded documents, as if they were read again."""
        self._add(self._read, [*map(characters_of, values)])

    def return_texts(self, values: Iterable[object]) -> None:
        """Count texts, or lists of texts, of the answer."""
        self._add(self._returned, [*map(characters_of, values)])

    def return_paths(self, paths: Iterable[Sequence[object]]) -> None:
        """Count paths of the answer."""
        self._add(self._paths, [*map(len, paths)])

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Count what the block reads and returns, unless it fails and is repeated."""
        counts = self._read, self._returned, self._paths
        before = [(count.total, count.largest) for count in counts]
        try:
            yield
        except AnswerTooLarge as error:
            self.exceeded = error
            raise
        except BaseException:
            for count, sizes in zip(counts, before, strict=True):
                count.total, count.largest = sizes
            raise

    def _add(self, count: _Count, sizes: Sequence[int]) -> None:
        try:
            count.add(sum(sizes), max(sizes, default=0))
        except AnswerTooLarge as error:
            self.exceeded = error
            raise


def characters_of(value: object) -> int:
    """Return the number of characters of the texts in a JSON value, or in tuples of values."""
    match value:
        case str():
            return len(value)
        case Mapping():
            return sum(map(characters_of, value.values()))
        case list() | tuple():
            return sum(map(characters_of, value))
    return 0
