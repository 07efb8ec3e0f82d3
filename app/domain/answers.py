"""The size of an answer: what one operation may read and return."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import ClassVar

from app.domain.errors import DomainError

MAX_CHARACTERS = 4 * 1024 * 1024
"""Characters of all texts that one operation reads, and of those that it returns. While an answer
is built and sent its texts are in memory four times, and it is encoded in 1 ms per MiB."""

MAX_PATH_ITEMS = 20_000
"""Items of all paths that one operation returns: 1,000 nodes can be 20 levels deep, or 200 nodes
100."""


SHORT_TEXT = 1_000
"""Characters of a text that the cost of its field covers, as names and slugs."""


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


_Counted = tuple[int, int]
"""The sum of sizes, and the largest of them."""

_NOTHING: _Counted = (0, 0)


class AnswerBudget:
    """Counts what one operation reads and returns. Its methods raise AnswerTooLarge.

    The largest text or path does not count: one alone is never refused.
    """

    __slots__ = ("_paths", "_read", "_returned", "exceeded")

    def __init__(self) -> None:
        self._read = self._returned = self._paths = _NOTHING
        self.exceeded: type[AnswerTooLarge] | None = None
        """The reason to refuse the operation. Not the error itself: its traceback refers to all
        that was read, and to this budget."""

    @property
    def characters_read(self) -> int:
        """The characters of all texts read, at most."""
        return self._read[0]

    @property
    def counts_texts(self) -> bool:
        """True if the texts of the answer have to be counted: it can have more than short ones."""
        return self._read[1] > SHORT_TEXT or self._paths[0] > SHORT_TEXT

    def copy(self) -> "AnswerBudget":
        """Return a budget for an attempt, which `keep` or `keep_read` adds if it succeeded."""
        attempt = AnswerBudget()
        attempt.keep(self)
        return attempt

    def keep(self, attempt: "AnswerBudget") -> None:
        """Count what an attempt on a copy of this budget has counted."""
        self._read, self._returned, self._paths = attempt._read, attempt._returned, attempt._paths

    def keep_read(self, attempt: "AnswerBudget") -> None:
        """Count what an attempt has read; what is returned was counted here meanwhile."""
        self._read = attempt._read

    def read(self, values: Iterable[object]) -> None:
        """Count texts of rows, or decoded from them."""
        self._read = self._sum(self._read, sizes_of(values), MAX_CHARACTERS, TextsTooLong)

    def read_short(self, characters: int, largest: int) -> None:
        """Count texts of rows, none longer than `largest`, with at most this sum."""
        self._read = self._read[0] + characters, max(self._read[1], largest)

    def return_texts(self, values: Iterable[object]) -> None:
        """Count texts, or lists of texts, of the answer."""
        self._returned = self._sum(self._returned, sizes_of(values), MAX_CHARACTERS, TextsTooLong)

    def return_paths(self, paths: Iterable[Sized]) -> None:
        """Count paths of the answer."""
        self._paths = self._sum(self._paths, [*map(len, paths)], MAX_PATH_ITEMS, PathsTooLong)

    def _sum(
        self, counted: _Counted, sizes: Sequence[int], limit: int, error: type[AnswerTooLarge]
    ) -> _Counted:
        total, largest = counted[0] + sum(sizes), max(counted[1], *sizes, 0)
        if total - largest > limit:
            self.exceeded = error
            raise error
        return total, largest


def sizes_of(values: Iterable[object]) -> list[int]:
    """Return the number of characters of each value."""
    return [len(value) if type(value) is str else characters_of(value) for value in values]


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
