"""Copies of hierarchies, written chunk by chunk and hidden until complete.

A copy is a consistent snapshot of its source, without a lock on the source: every chunk checks that
the source still has the revision the copy began with. An edit in between makes the copy start over.
After MAX_RESTARTS restarts it is written in one transaction that reads the source as of its start,
so later edits do not matter.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import ClassVar, assert_never

from app.domain.errors import DomainError, NotFound
from app.domain.hierarchies import HierarchyState
from app.domain.job_types.hierarchy_duplicate import Duplication, DuplicationResult
from app.services.attempts import Completion
from app.storage import copies, hierarchies, jobs, nodes, subtrees
from app.storage.engine.transaction import Transaction
from app.storage.sql.dialects import use_snapshot
from app.storage.sql.keyset import Key
from app.storage.tables import JobRow, JsonObject

MAX_RESTARTS = 3
"""Max restarts after edits of the source before a copy is written in one transaction."""


@dataclass(eq=False)
class SourceEdited(DomainError):
    """The source changed after the last chunk; `advance` starts the copy over."""

    code: ClassVar[str] = "SOURCE_EDITED"
    id: str

    def __str__(self) -> str:
        return f"The hierarchy {self.id} was edited while it was copied."


class CopyPhase(StrEnum):
    """The table a copy is writing, in the order of its key."""

    NODES = "nodes"
    ASSOCIATIONS = "associations"
    REVERSE = "reverse"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Copy:
    """The state of a copy, stored as its job's checkpoint: all a worker needs to resume it."""

    copy_pk: int
    source_pk: int
    revision: int
    phase: CopyPhase = CopyPhase.NODES
    after: Key | None = None
    nodes: int = 0
    associations: int = 0
    reverse: int = 0
    total: int = 0
    restarts: int = 0
    any_cut: bool = False
    """Associations of deleted nodes may still be in the source's tables."""
    at_once: bool = False
    """The copy was written in one transaction: no edit can have come between."""

    @property
    def completed(self) -> int:
        """Items written. An association is written in two directions and counts once both are."""
        return self.nodes + (self.associations + self.reverse) // 2

    def as_checkpoint(self) -> dict[str, object]:
        """Encode as plain values for `from_checkpoint`."""
        return asdict(self)

    @classmethod
    def from_checkpoint(cls, checkpoint: JsonObject) -> "Copy":
        after = checkpoint["after"]
        return cls(
            **{
                **checkpoint,
                "phase": CopyPhase(checkpoint["phase"]),
                "after": None if after is None else tuple(after),
            }
        )


def begin(tx: Transaction, job: JobRow, restarts: int = 0) -> Copy:
    """Create the hidden hierarchy that the copy fills. Raises NotFound if the source is gone."""
    duplication = jobs.args_of(job, Duplication)
    source = hierarchies.by_id(tx, job.store, duplication.source_id)
    if source is None:
        raise _source_not_found(duplication)
    name, description = duplication.name, duplication.description
    copy = hierarchies.add(
        tx,
        job.store,
        HierarchyState.COPYING,
        name=source.name if name is None else name,
        slug=source.slug,
        # An empty description clears it (domain.md, "Duplicate a hierarchy").
        description=source.description if description is None else description or None,
        locales=source.locales,
        admin_attributes=source.admin_attributes,
        shopper_attributes=source.shopper_attributes,
        copied_from=source.id,
        # Its nodes keep the source's revisions as their order; its own edits must sort after them.
        revision=source.revision,
    )
    return Copy(
        copy.pk,
        source.pk,
        source.revision,
        total=duplication.items_of(source),
        restarts=restarts,
        any_cut=subtrees.has_deleted_nodes(tx, source.pk),
    )


def advance(tx: Transaction, job: JobRow, copy: Copy, rows: int) -> Copy:
    """Write the next chunk of at most `rows` rows, or start over if the source was edited.

    Raises NotFound if the source is gone.
    """
    if _revision(tx, job) != copy.revision:
        hierarchies.discard(tx, copy.copy_pk)
        return begin(tx, job, copy.restarts + 1)
    return _next_chunk(tx, job, copy, rows)


def publish(tx: Transaction, job: JobRow, copy: Copy) -> Completion:
    """Make the finished copy visible.

    Raises SourceEdited if the source has changed since, NotFound if it is gone.
    """
    if not copy.at_once and _revision(tx, job) != copy.revision:
        raise SourceEdited(str(job.subject_id))
    at = tx.now()
    last_node_no = nodes.last_no(tx, copy.copy_pk)
    hierarchy = hierarchies.update(
        tx,
        copy.copy_pk,
        state=HierarchyState.READY,
        node_count=copy.nodes,
        last_node_no=last_node_no,
        copied_node_no=last_node_no,
        association_count=copy.associations,
        created_at=at,
        updated_at=at,
    )
    return Completion(copy.completed, DuplicationResult(hierarchy.id))


def copy_in_one_transaction(
    tx: Transaction, job: JobRow, copy: Copy, rows: int, before_chunk: Callable[[], None]
) -> Copy:
    """Copy the source in one snapshot transaction, in place of `copy`, after too many restarts.

    Must be the first statement of its transaction. `before_chunk` is called before each chunk of
    `rows` rows, and its exceptions propagate. Raises NotFound if the source is gone.
    """
    use_snapshot(tx)
    hierarchies.discard(tx, copy.copy_pk)
    copy = begin(tx, job, copy.restarts)
    while copy.phase is not CopyPhase.DONE:
        before_chunk()
        copy = _next_chunk(tx, job, copy, rows)
    return replace(copy, at_once=True)


def abandon(tx: Transaction, copy: Copy) -> None:
    """Discard the rows of the copy; the sweeper deletes them."""
    hierarchies.discard(tx, copy.copy_pk)


def _revision(tx: Transaction, job: JobRow) -> int:
    """Read the source's current revision. Raises NotFound."""
    duplication = jobs.args_of(job, Duplication)
    revision = hierarchies.revision(tx, job.store, duplication.source_id)
    if revision is None:
        raise _source_not_found(duplication)
    return revision


def _source_not_found(duplication: Duplication) -> NotFound:
    return NotFound("hierarchy", str(duplication.source_id), ("hierarchy_id",))


def _next_chunk(tx: Transaction, job: JobRow, copy: Copy, rows: int) -> Copy:
    keys = copy.source_pk, copy.copy_pk, copy.after, rows
    with_products = jobs.args_of(job, Duplication).include_products
    match copy.phase:
        case CopyPhase.NODES:
            written, last = copies.copy_nodes(tx, *keys, tx.now())
            done = replace(copy, nodes=copy.nodes + written)
            following = CopyPhase.ASSOCIATIONS if with_products else CopyPhase.DONE
        case CopyPhase.ASSOCIATIONS:
            written, last = copies.copy_associations(tx, *keys, copy.any_cut)
            done = replace(copy, associations=copy.associations + written)
            following = CopyPhase.REVERSE
        case CopyPhase.REVERSE:
            written, last = copies.copy_reverse_associations(tx, *keys, copy.any_cut)
            done = replace(copy, reverse=copy.reverse + written)
            following = CopyPhase.DONE
        case CopyPhase.DONE:
            return copy
        case _:
            assert_never(copy.phase)
    return replace(done, after=last, phase=following if last is None else copy.phase)
