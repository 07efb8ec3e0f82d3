"""Retention: deletion of ended jobs and logged events after the retention period."""

from datetime import timedelta

from sqlmodel import Session

from app.storage import events, jobs, lanes, webhooks
from app.storage.engine.database import now


def prune(session: Session, retention: timedelta, limit: int) -> bool:
    """Delete up to `limit` events of one store older than `retention`, oldest first.

    A job and its webhook deliveries are deleted together with its final event, so every logged
    event still has its job. Return True if there may be more to delete.
    """
    before = now(session) - retention
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
