"""What an import has to remember of its file, kept on disk however long the file is."""

import sqlite3
from types import TracebackType
from typing import NamedTuple, Self


class ImportedNode(NamedTuple):
    """Where a line of the file ended up."""

    node_no: int
    depth: int


class ImportScratch:
    """The ids of a file and the names and slugs taken below each parent.

    A private temporary SQLite database, gone when closed, with 2 MB of it in memory.
    """

    def __init__(self) -> None:
        # An empty name makes a temporary file that SQLite removes by itself.
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.executescript(
            """
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            CREATE TABLE placed (id TEXT PRIMARY KEY, node_no INTEGER, depth INTEGER)
                WITHOUT ROWID;
            CREATE TABLE taken (parent_no INTEGER, what TEXT, value TEXT,
                PRIMARY KEY (parent_no, what, value)) WITHOUT ROWID;
            """
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def place(self, id: str, placed: ImportedNode) -> bool:
        """Remember where `id` is; False when it was there already."""
        return self._added("INSERT OR IGNORE INTO placed VALUES (?, ?, ?)", id, *placed)

    def placed(self, id: str) -> ImportedNode | None:
        """Where `id` is."""
        found = self._connection.execute(
            "SELECT node_no, depth FROM placed WHERE id = ?", (id,)
        ).fetchone()
        return ImportedNode(*found) if found else None

    def take(self, parent_no: int, what: str, value: str) -> bool:
        """Take a name or slug below a parent; False when a sibling has it."""
        return self._added("INSERT OR IGNORE INTO taken VALUES (?, ?, ?)", parent_no, what, value)

    def _added(self, statement: str, *values: object) -> bool:
        return self._connection.execute(statement, values).rowcount == 1
