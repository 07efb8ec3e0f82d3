"""hierarchy-duplicate: a deep copy of a hierarchy, in chunks, visible once complete."""

from collections.abc import Callable
from contextlib import suppress

from app.domain.jobs import JobType
from app.queue.attempt import Attempt
from app.queue.handler import Dependencies
from app.services import copies
from app.services.attempts import Completion, Step
from app.services.copies import MAX_RESTARTS, Copy, CopyPhase, SourceEdited
from app.storage.engine.transaction import Transaction
from app.storage.tables import JobRow

CHUNK_ROWS = 3_000
"""Rows of nodes per chunk, and six times as many associations: about 12 ms, the longest that a
cancelJob waits for a copy. A chunk costs about 3 ms by itself, so shorter chunks slow a copy down:
at this size it takes 1.3 times as long as plain SQL."""


class HierarchyDuplicate:
    """Copies the job's source chunk by chunk, then publishes the copy."""

    type = JobType.HIERARCHY_DUPLICATE

    def __init__(self, _dependencies: Dependencies) -> None:
        """A copy needs nothing besides its attempt."""

    async def run(self, attempt: Attempt) -> None:
        """Resume after the last chunk. Raises NotFound if the source is gone."""
        while True:
            if attempt.job.checkpoint and _copy_of(attempt.job).phase is CopyPhase.DONE:
                # After an edit since the last chunk the next step starts over.
                with suppress(SourceEdited):
                    return await attempt.succeed(_publish)
            await attempt.step(_next_step, attempt.check)

    def abandon(self, tx: Transaction, job: JobRow) -> None:
        """Discard the hidden rows."""
        if job.checkpoint:
            copies.abandon(tx, _copy_of(job))


def _next_step(tx: Transaction, job: JobRow, before_chunk: Callable[[], None]) -> Step:
    if not job.checkpoint:
        copy = copies.begin(tx, job)
    elif (current := _copy_of(job)).restarts < MAX_RESTARTS:
        copy = copies.advance(tx, job, current, CHUNK_ROWS)
    else:
        copy = copies.copy_in_one_transaction(tx, job, current, CHUNK_ROWS, before_chunk)
    return Step(copy.as_checkpoint(), copy.completed, copy.total)


def _publish(tx: Transaction, job: JobRow) -> Completion:
    return copies.publish(tx, job, _copy_of(job))


def _copy_of(job: JobRow) -> Copy:
    assert job.checkpoint is not None
    return Copy.from_checkpoint(job.checkpoint)


handler = HierarchyDuplicate
