"""Rate limits and stream slots per client."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.auth.limits import Limits
from app.api.auth.throttle import COST_PER_TOKEN, MAX_CLIENTS, SECONDS_PER_TOKEN, Throttle
from app.api.http.refusals import BadRequest


class Seconds:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def throttle(clock: Seconds, **limits: Any) -> Throttle:
    return Throttle(Limits(**limits), clock)


def allowed(throttle: Throttle, client: str = "a", operations: int = 1) -> bool:
    try:
        throttle.take(client, operations)
    except BadRequest:
        return False
    return True


def test_an_idle_client_may_send_a_burst_of_two_seconds() -> None:
    clock = Seconds()
    bucket = throttle(clock, max_requests_per_second=10)
    assert [allowed(bucket) for _ in range(21)] == [True] * 20 + [False]
    clock.now += 0.1
    assert [allowed(bucket) for _ in range(2)] == [True, False]
    clock.now += 60
    assert sum(allowed(bucket) for _ in range(50)) == 20


def test_clients_have_separate_buckets() -> None:
    bucket = throttle(Seconds(), max_requests_per_second=1)
    assert [allowed(bucket, "a") for _ in range(3)] == [True, True, False]
    assert allowed(bucket, "b")


def test_a_batch_takes_a_token_for_each_of_its_operations() -> None:
    bucket = throttle(Seconds(), max_requests_per_second=5)
    assert allowed(bucket, operations=8)
    assert not allowed(bucket, operations=3)
    assert allowed(bucket, operations=2)


def test_a_refused_client_learns_when_to_retry() -> None:
    clock = Seconds()
    bucket = throttle(clock, max_requests_per_second=0.5)
    assert allowed(bucket)
    with pytest.raises(BadRequest) as refused:
        bucket.take("a")
    assert refused.value.status == 429
    assert refused.value.headers == {"Retry-After": "2"}
    (error,) = refused.value.errors
    assert error["extensions"] == {
        "code": "RATE_LIMITED",
        "limit": 0.5,
        "found": 1,
        "retryAfter": 2,
    }
    clock.now += 2
    assert allowed(bucket)


def test_zero_is_no_limit() -> None:
    bucket = throttle(Seconds(), max_requests_per_second=0)
    assert all(allowed(bucket) for _ in range(10_000))


def test_memory_is_bounded_by_the_number_of_buckets() -> None:
    bucket = throttle(Seconds(), max_requests_per_second=1)
    for client in range(MAX_CLIENTS + 500):
        bucket.take(str(client))
    assert len(bucket._buckets) == MAX_CLIENTS


@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.integers(1, 8)),
        min_size=1,
        max_size=100,
    )
)
def test_the_total_never_exceeds_the_burst_plus_the_rate(
    steps: list[tuple[float, int]],
) -> None:
    clock = Seconds()
    bucket = throttle(clock, max_requests_per_second=4)
    taken = 0
    for pause, operations in steps:
        clock.now += pause
        taken += operations * allowed(bucket, operations=operations)  # never above the burst of 8
        assert taken <= 8 + 4 * clock.now + 1e-6


def test_a_stream_occupies_a_slot_until_it_ends() -> None:
    limiter = throttle(Seconds(), max_streams_per_client=2)
    with limiter.stream("a"), limiter.stream("a"):
        with pytest.raises(BadRequest) as refused, limiter.stream("a"):
            pass
        assert refused.value.status == 429
        (error,) = refused.value.errors
        assert error["extensions"] == {"code": "STREAM_LIMIT_EXCEEDED", "limit": 2, "found": 3}
        with limiter.stream("b"):
            pass
    with limiter.stream("a"), limiter.stream("a"):
        pass
    assert not limiter._streams


def test_a_batch_of_more_than_the_burst_takes_all_of_it() -> None:
    clock = Seconds()
    bucket = throttle(clock, max_requests_per_second=1)
    assert allowed(bucket, operations=10)
    assert not allowed(bucket, operations=10)
    clock.now += 2
    assert allowed(bucket, operations=10)


def test_a_costly_operation_takes_the_tokens_of_its_cost_before_it_runs() -> None:
    bucket = throttle(Seconds(), max_requests_per_second=10)
    with bucket.work("a") as work:
        work.take_cost(COST_PER_TOKEN - 1)
        work.take_cost(18 * COST_PER_TOKEN)
    assert [allowed(bucket) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("rate", [0.5, 1, 5, 10])
@pytest.mark.parametrize("tokens", [19, 20, 21])
def test_an_operation_whose_cost_exceeds_the_burst_takes_all_of_it(
    rate: float, tokens: int
) -> None:
    clock = Seconds()
    bucket = throttle(clock, max_requests_per_second=rate)
    for _ in range(2):
        with bucket.work("a") as work:
            work.take_cost(tokens * COST_PER_TOKEN)
        assert not allowed(bucket)
        clock.now += 100


def test_an_operation_beyond_the_tokens_left_is_refused_by_its_cost() -> None:
    bucket = throttle(Seconds(), max_requests_per_second=10)
    assert allowed(bucket, operations=15)
    with bucket.work("a") as work, pytest.raises(BadRequest) as refused:
        work.take_cost(20 * COST_PER_TOKEN)
    assert refused.value.status == 429


def test_time_is_charged_afterwards_if_it_is_more_than_the_price() -> None:
    clock = Seconds()
    bucket = throttle(clock, max_requests_per_second=10)
    with bucket.work("a") as work:
        work.take_cost(5 * COST_PER_TOKEN)
        work.time.seconds = 6 * SECONDS_PER_TOKEN
    assert allowed(bucket, operations=14)
    assert not allowed(bucket)
    clock.now += 2
    with bucket.work("a") as work:
        work.time.seconds = 1000
    # A debt is at most a full bucket.
    clock.now += 2
    assert not allowed(bucket)
    clock.now += 2
    assert allowed(bucket, operations=20)


def test_a_clients_subscriptions_have_a_budget_together() -> None:
    limiter = throttle(Seconds(), max_subscription_cost=100)
    with limiter.subscription("a", 60), limiter.subscription("a", 40):
        with pytest.raises(BadRequest) as refused, limiter.subscription("a", 1):
            pass
        (error,) = refused.value.errors
        assert error["extensions"] == {
            "code": "SUBSCRIPTION_COST_LIMIT_EXCEEDED",
            "limit": 100,
            "found": 101,
        }
        with limiter.subscription("b", 100):
            pass
    with limiter.subscription("a", 100):
        pass
    assert not limiter._subscription_costs
