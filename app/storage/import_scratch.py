"""State of an import on disk, so that memory does not grow with the file."""

import sqlite3
from types import TracebackType
from typing import NamedTuple, Self


class ImportedNode(NamedTuple):
    """The node of a line of the file."""

    node_no: int
    depth: int


class ImportScratch:
    """The ids of a file, and the names and slugs used below each parent.

    A private temporary SQLite database with a cache of 2 MB, deleted when closed.
    """

    def __init__(self) -> None:
        # An empty name makes a temporary file that SQLite deletes by itself.
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.executescript(
            """
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            CREATE TABLE node (id TEXT PRIMARY KEY, node_no INTEGER, depth INTEGER)
                WITHOUT ROWID;
            CREATE TABLE used_value (parent_no INTEGER, attribute TEXT, value TEXT,
                PRIMARY KEY (parent_no, attribute, value)) WITHOUT ROWID;
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

    def add(self, id: str, node: ImportedNode) -> bool:
        """Record a node. Return False if the id exists."""
        return self._insert("INSERT OR IGNORE INTO node VALUES (?, ?, ?)", id, *node)

    def find(self, id: str) -> ImportedNode | None:
        """Return the node with this id."""
        row = self._connection.execute(
            "SELECT node_no, depth FROM node WHERE id = ?", (id,)
        ).fetchone()
        return ImportedNode(*row) if row else None

    def claim(self, parent_no: int, attribute: str, value: str) -> bool:
        """Record a name or slug below a parent. Return False if a sibling has it."""
        return self._insert(
            "INSERT OR IGNORE INTO used_value VALUES (?, ?, ?)", parent_no, attribute, value
        )

    def _insert(self, statement: str, *values: object) -> bool:
        return self._connection.execute(statement, values).rowcount == 1
