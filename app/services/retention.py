"""Retention: deletion of ended jobs and logged events after the retention period."""

from datetime import timedelta

from app.storage import events, jobs, lanes, webhooks
from app.storage.engine.transaction import Transaction


def prune(tx: Transaction, retention: timedelta, limit: int) -> bool:
    """Delete up to `limit` events of one store older than `retention`, oldest first.

    A job and its webhook deliveries are deleted together with its final event, so every logged
    event still has its job. Return True if there may be more to delete.
    """
    before = tx.now() - retention
    stores = events.stores_with_older(tx, before)
    if not stores:
        return False
    lane = lanes.lock(tx, stores[0])
    old = events.oldest(tx, lane.store, before, limit)
    if old:
        jobs.delete(tx, [event.job_pk for event in old if event.type.is_last])
        events.prune(tx, lane, old[-1].seq)
        webhooks.prune(tx, lane.store, old[-1].seq)
    return True
