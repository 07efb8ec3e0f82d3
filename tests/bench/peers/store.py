"""Plain statements on the gateway's SQLite file, for the peers in Python. Rows are tuples."""

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson

STORE = "default"
ORGANIZATION = "*organization"
UNSET = -(2**31) - 1

Row = tuple[Any, ...]
Locales = Mapping[str, Mapping[str, str]]

HIERARCHY = (
    """pk, id, owner, name, slug, description, locales, node_count, created_at, updated_at"""
)

_HIERARCHIES = f"""
    SELECT {HIERARCHY} FROM hierarchy WHERE store = ? AND +state = 'ready'
    ORDER BY created_at DESC, id DESC LIMIT ?
"""
_BY_ID = f"""
    SELECT {HIERARCHY} FROM hierarchy WHERE id = ? AND store IN (?, ?) AND state = 'ready'
"""
_CHILDREN = """
    SELECT node_no, name, slug, sort_order, locales FROM node
    WHERE hierarchy_pk = ? AND parent_no = ?
    ORDER BY sort_order DESC, touched DESC, node_no DESC LIMIT ?
"""
_JOB = """
    SELECT id, type, status, created_at, started_at, completed_at, updated_at, version, turn,
        completed_items, total_items, args
    FROM job WHERE id = ? AND store = ?
"""
_POSITION = """
    SELECT count(*) FROM job WHERE store = ? AND status = 'pending' AND turn <= ?
"""
_LANE = """
    SELECT job_seq, event_seq, pending, pending_items, last_created_at, paused_at, pace_seconds,
        pace_items
    FROM lane WHERE store = ?
"""
_ADD_LANE = """
    INSERT INTO lane (store, epoch, job_seq, event_seq, pending, pending_items, pace_seconds,
        pace_items)
    VALUES (?, 0, 0, 0, 0, 0, 0, 0)
"""
_RUNNING = "SELECT 1 FROM job WHERE store = ? AND status = 'started'"
_ADD_JOB = """
    INSERT INTO job (id, store, job_seq, turn, type, status, version, created_at, updated_at,
        request_id, args, subject_id, items, completed_items, epoch, attempts)
    VALUES (?, ?, ?, ?, 'hierarchy-duplicate', 'pending', 1, ?, ?, ?, ?, ?, ?, 0, 0, 0)
"""
_ADD_EVENT = """
    INSERT INTO job_event (store, seq, job_pk, type, at, snapshot)
    VALUES (?, ?, ?, 'created', ?, ?)
"""
_ADVANCE_LANE = """
    UPDATE lane SET job_seq = ?, event_seq = ?, pending = ?, pending_items = ?, last_created_at = ?
    WHERE store = ?
"""


class Store:
    """A database file on one connection that prepares each statement once."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -16384"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._execute = self._connection.execute

    def hierarchies(self, first: int) -> list[Row]:
        """Return the newest hierarchies of the store and the organization."""
        own = self._execute(_HIERARCHIES, (STORE, first)).fetchall()
        shared = self._execute(_HIERARCHIES, (ORGANIZATION, first)).fetchall()
        if not shared:
            return own
        return sorted(own + shared, key=lambda row: (row[8], row[1]), reverse=True)[:first]

    def hierarchy(self, id: str) -> Row | None:
        """Return a visible hierarchy."""
        row: Row | None = self._execute(_BY_ID, (undashed(id), STORE, ORGANIZATION)).fetchone()
        return row

    def children(self, hierarchy_pk: int, parent_no: int, first: int) -> list[Row]:
        """Return the first children of a node, or of the root (0)."""
        return self._execute(_CHILDREN, (hierarchy_pk, parent_no, first)).fetchall()

    def job(self, id: str) -> Row | None:
        """Return a job."""
        row: Row | None = self._execute(_JOB, (undashed(id), STORE)).fetchone()
        return row

    def position(self, turn: int) -> int:
        """Return the queue position of the pending job with rank `turn`."""
        position: int = self._execute(_POSITION, (STORE, turn)).fetchone()[0]
        return position

    def duplicate(self, id: str) -> str | None:
        """Enqueue the duplication of a visible hierarchy. Return the job's id."""
        self._execute("BEGIN IMMEDIATE")
        try:
            job_id = self._enqueue(id)
        except BaseException:
            self._execute("ROLLBACK")
            raise
        self._execute("COMMIT")
        return job_id

    def _enqueue(self, id: str) -> str | None:
        execute = self._execute
        lane = execute(_LANE, (STORE,)).fetchone()
        if lane is None:
            execute(_ADD_LANE, (STORE,))
            lane = execute(_LANE, (STORE,)).fetchone()
        job_seq, event_seq, pending, pending_items, last, paused_at, seconds, items = lane
        source = self.hierarchy(id)
        if source is None:
            return None
        source_id, node_count = source[1], source[7]

        clock = datetime.now(UTC)
        at = clock.replace(microsecond=clock.microsecond // 1000 * 1000)
        if last is not None:
            at = max(at, datetime.fromisoformat(f"{last}+00:00"))
        stored = at.isoformat(" ", "microseconds")[:26]
        job_id, request_id = uuid4(), str(uuid4())
        job_seq, event_seq, pending = job_seq + 1, event_seq + 1, pending + 1
        created = (job_id.hex, STORE, job_seq, job_seq, stored, stored, request_id)
        args = {
            "source_id": dashed(source_id),
            "name": None,
            "description": None,
            "include_products": False,
        }
        requested = (orjson.dumps(args).decode(), source_id)
        pk = execute(_ADD_JOB, (*created, *requested, node_count)).lastrowid

        start_at: datetime | None = at
        if paused_at is not None or execute(_RUNNING, (STORE,)).fetchone():
            start_at = None
        elif pending > 1:
            start_at = at + timedelta(seconds=seconds / items * pending_items) if items else None
        snapshot = {
            "pk": pk,
            "id": job_id,
            "store": STORE,
            "job_seq": job_seq,
            "turn": job_seq,
            "type": "hierarchy-duplicate",
            "status": "pending",
            "version": 1,
            "created_at": at,
            "started_at": None,
            "completed_at": None,
            "updated_at": at,
            "request_id": request_id,
            "requested_by": None,
            "retry_of": None,
            "args": args,
            "result": None,
            "subject_id": UUID(source_id),
            "result_id": None,
            "items": node_count,
            "completed_items": 0,
            "total_items": None,
            "epoch": 0,
            "attempts": 0,
            "standing": (pending, start_at),
        }
        execute(_ADD_EVENT, (STORE, event_seq, pk, stored, orjson.dumps(snapshot).decode()))
        pending_items += node_count
        execute(_ADVANCE_LANE, (job_seq, event_seq, pending, pending_items, stored, STORE))
        return str(job_id)


def undashed(id: str) -> str:
    """Convert an id to its stored form."""
    return id.replace("-", "").lower()


def dashed(hex: str) -> str:
    """Convert a stored id to that of the API."""
    return f"{hex[:8]}-{hex[8:12]}-{hex[12:16]}-{hex[16:20]}-{hex[20:]}"


def node_id(hierarchy_id: str, node_no: int) -> str:
    """Return a node's id in the API, from that of its hierarchy."""
    return f"{hierarchy_id[:28]}{node_no:08x}"


def instant(stored: str | None) -> str | None:
    """Convert a stored instant to that of the API."""
    return f"{stored[:10]}T{stored[11:23]}Z" if stored else None


def member(value: str) -> str:
    """Convert a stored enum value to that of the API."""
    return value.upper().replace("-", "_")


def duplication_of(stored_args: str) -> dict[str, Any]:
    """Convert the stored arguments of a duplication to those of the API."""
    args = orjson.loads(stored_args)
    return {
        "sourceId": args["source_id"],
        "name": args["name"],
        "includeProducts": args["include_products"],
    }


def translation(locales: Locales, locale: str | None) -> Mapping[str, str]:
    """Return the translation in a locale, ignoring case, or in its nearest wider tag."""
    if not locale:
        return {}
    if locale in locales:
        return locales[locale]
    by_tag = {tag.lower(): said for tag, said in locales.items()}
    tag = locale.lower()
    while tag:
        if tag in by_tag:
            return by_tag[tag]
        tag = tag.rpartition("-")[0]
    return {}
