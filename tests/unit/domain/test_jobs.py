from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidInput
from app.domain.events import event_of
from app.domain.forecast import Pace, estimated_end
from app.domain.job_types.hierarchy_duplicate import Duplication
from app.domain.jobs import (
    NEXT_STATUSES,
    REASON_LIMIT,
    JobNotCancellable,
    JobNotMovable,
    JobNotRetryable,
    JobStatus,
    checked_idempotency_key,
    checked_reason,
    retry_delay,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_only_a_pending_job_can_be_cancelled() -> None:
    assert [status for status in JobStatus if JobStatus.CANCELLED in NEXT_STATUSES[status]] == [
        JobStatus.PENDING
    ]


def test_no_status_follows_a_final_one() -> None:
    ends = {status for status in JobStatus if status.is_final}
    assert ends == {JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.CANCELLED}


def test_every_status_is_reached_from_pending() -> None:
    reached, new = set[JobStatus](), {JobStatus.PENDING}
    while new:
        reached |= new
        new = {after for status in new for after in NEXT_STATUSES[status]} - reached
    assert reached == set(JobStatus)


def test_each_status_has_its_own_event() -> None:
    assert len({event_of(status) for status in JobStatus}) == len(JobStatus)


def test_a_duplication_changes_nothing_by_default() -> None:
    duplication = Duplication(uuid4())
    assert (duplication.name, duplication.description, duplication.include_products) == (
        None,
        None,
        False,
    )


@pytest.mark.parametrize("name", ["", "  ", "x" * 1001])
def test_a_duplication_refuses_a_bad_name_naming_the_field(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Duplication(uuid4(), name=name).check()
    assert refused.value.path == ("name",)


@pytest.mark.parametrize("key", ["a", "order 17 / retry", "~" * 255])
def test_printable_ascii_is_an_idempotency_key(key: str) -> None:
    assert checked_idempotency_key(key) == key


@pytest.mark.parametrize("key", ["", "a" * 256, "ä", "a\nb", "\x7f", " ", " a", "a "])
def test_any_other_text_is_no_idempotency_key(key: str) -> None:
    with pytest.raises(InvalidInput):
        checked_idempotency_key(key, "idempotencyKey")


@pytest.mark.parametrize("reason", ["a", " Stocktaking ", "🌱" * REASON_LIMIT])
def test_a_valid_reason_is_returned_unchanged(reason: str) -> None:
    assert checked_reason(reason, "reason") == reason


@pytest.mark.parametrize("reason", ["", " \t\u2003\u200b", "r" * (REASON_LIMIT + 1), "a\0b"])
def test_an_invalid_reason_is_refused_naming_the_field(reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_reason(reason, "reason")
    assert refused.value.path == ("reason",)


@pytest.mark.parametrize("refusal", [JobNotCancellable, JobNotMovable, JobNotRetryable])
@pytest.mark.parametrize("status", JobStatus)
def test_a_refusal_names_the_status_the_job_is_in(
    refusal: type[JobNotCancellable | JobNotMovable | JobNotRetryable], status: JobStatus
) -> None:
    refused = refusal(uuid4(), status)
    assert str(refused).endswith(f"this one is {status.value}.")
    assert (
        refused.code
        == {
            JobNotCancellable: "JOB_NOT_CANCELLABLE",
            JobNotMovable: "JOB_NOT_MOVABLE",
            JobNotRetryable: "JOB_NOT_RETRYABLE",
        }[refusal]
    )


def test_without_any_job_there_is_no_pace() -> None:
    assert Pace().seconds_for(100) is None


@given(
    st.lists(st.tuples(st.floats(0.001, 1e4), st.integers(1, 10**7)), min_size=1, max_size=30),
    st.integers(0, 10**7),
)
def test_an_estimate_lies_between_the_slowest_and_the_fastest_job(
    jobs: list[tuple[float, int]], items: int
) -> None:
    pace = Pace()
    for seconds, done in jobs:
        pace = pace.with_job(seconds, done)
    rates = [seconds / done for seconds, done in jobs]
    estimate = pace.seconds_for(items)
    assert estimate is not None
    assert min(rates) * items * 0.999 <= estimate <= max(rates) * items * 1.001


def test_later_jobs_count_more() -> None:
    slow_then_fast = Pace().with_job(100, 100).with_job(1, 100)
    fast_then_slow = Pace().with_job(1, 100).with_job(100, 100)
    assert (slow_then_fast.seconds_for(1) or 0) < (fast_then_slow.seconds_for(1) or 0)


def test_a_running_job_ends_by_its_own_speed() -> None:
    end = estimated_end(NOW - timedelta(seconds=30), NOW, 25, 100, Pace(1, 1))
    assert end == NOW + timedelta(seconds=90)


def test_before_its_first_items_a_job_ends_by_the_pace_of_the_store() -> None:
    end = estimated_end(NOW - timedelta(seconds=30), NOW, 0, 100, Pace(1, 1))
    assert end == NOW + timedelta(seconds=70)


def test_a_job_slower_than_expected_ends_no_earlier_than_now() -> None:
    assert estimated_end(NOW - timedelta(seconds=30), NOW, 0, 10, Pace(1, 1)) == NOW


def test_without_a_total_and_a_pace_there_is_no_estimate() -> None:
    assert estimated_end(NOW, NOW, 0, None, Pace()) is None


def test_the_retry_delay_doubles_per_attempt_up_to_a_minute() -> None:
    pauses = [retry_delay(attempts).total_seconds() for attempts in range(1, 9)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
