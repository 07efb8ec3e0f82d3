"""hierarchy-duplicate: a deep copy of a hierarchy, in chunks, visible once whole."""

from collections.abc import Callable
from contextlib import suppress

from sqlmodel import Session

from app.domain.jobs import JobType
from app.queue.attempt import Attempt
from app.services import copies
from app.services.attempts import JobResult, Step
from app.services.copies import MAX_RESTARTS, Copy, CopyPhase, SourceEdited
from app.storage.tables import Job

CHUNK_ROWS = 3_000
"""Nodes a chunk, and six times as many associations: about 12 ms, which is then about the longest
that a cancelJob waits for a copy. Each chunk costs some 3 ms of its own, so with shorter ones a
copy takes longer: these take 1.3 times as long as plain SQL."""


class HierarchyDuplicate:
    """Copies the source of the job chunk by chunk, then publishes the copy."""

    type = JobType.HIERARCHY_DUPLICATE

    async def run(self, attempt: Attempt) -> None:
        """A resumed attempt goes on behind the last chunk. Raises NotFound when the source is
        gone."""
        while True:
            if attempt.job.checkpoint and _copy_of(attempt.job).phase is CopyPhase.DONE:
                # An edit behind the last chunk: the next step starts over.
                with suppress(SourceEdited):
                    return await attempt.succeed(_publish)
            await attempt.step(_next_step, attempt.check)

    def abandon(self, session: Session, job: Job) -> None:
        """The hidden rows go to the sweep."""
        if job.checkpoint:
            copies.abandon(session, _copy_of(job))


def _next_step(session: Session, job: Job, between: Callable[[], None]) -> Step:
    if not job.checkpoint:
        copy = copies.begin(session, job)
    elif (begun := _copy_of(job)).restarts < MAX_RESTARTS:
        copy = copies.advance(session, job, begun, CHUNK_ROWS)
    else:
        copy = copies.copy_in_one_transaction(session, job, begun, CHUNK_ROWS, between)
    return Step(copy.as_checkpoint(), copy.completed, copy.total)


def _publish(session: Session, job: Job) -> JobResult:
    return copies.publish(session, job, _copy_of(job))


def _copy_of(job: Job) -> Copy:
    assert job.checkpoint is not None
    return Copy.at(job.checkpoint)


handler = HierarchyDuplicate()
