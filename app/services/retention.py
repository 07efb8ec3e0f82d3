"""How long what is over is kept: ended jobs, and the log of what happened to all of them."""

from datetime import timedelta

from sqlmodel import Session

from app.storage import events, jobs, lanes, webhooks
from app.storage.engine.database import now


def prune(session: Session, keep: timedelta, limit: int) -> bool:
    """Delete up to `limit` of the oldest events of a store that are older than `keep`, and the
    jobs that ended with them; whether there may be more to delete.

    A job goes with its last event, so whatever the log still tells of is still there; so do the
    deliveries that tell of it.
    """
    before = now(session) - keep
    stores = events.stores_with_older(session, before)
    if not stores:
        return False
    lane = lanes.lock(session, stores[0])
    old = events.oldest(session, lane.store, before, limit)
    if old:
        jobs.delete(session, [event.job_pk for event in old if event.type.is_last])
        events.prune(session, lane, old[-1].seq)
        webhooks.prune(session, lane.store, old[-1].seq)
    return True
