"""Start-time estimates of pending jobs."""

from datetime import UTC, datetime, timedelta

from app.domain.forecast import Pace, QueueForecast, RunningJob

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PACE = Pace(seconds=1, items=10)
RUNNING = RunningJob(started_at=NOW - timedelta(seconds=5), completed=50, total=100)


def test_the_first_pending_job_of_an_idle_queue_starts_now() -> None:
    assert QueueForecast(None, Pace()).start_time(NOW, 0, 0) == NOW


def test_the_first_pending_job_starts_when_the_running_one_ends() -> None:
    assert QueueForecast(RUNNING, Pace()).start_time(NOW, 0, 0) == NOW + timedelta(seconds=5)


def test_jobs_ahead_delay_the_start_by_their_items_at_the_store_s_pace() -> None:
    start = QueueForecast(RUNNING, PACE).start_time(NOW, 2, 30)
    assert start == NOW + timedelta(seconds=5 + 3)


def test_a_start_is_unknown_until_the_pace_is_known() -> None:
    assert QueueForecast(None, Pace()).start_time(NOW, 1, 30) is None
    assert QueueForecast(RunningJob(NOW, 0, 100), Pace()).start_time(NOW, 0, 0) is None


def test_a_paused_queue_has_no_start_time() -> None:
    assert QueueForecast(RUNNING, PACE, paused=True).start_time(NOW, 0, 0) is None


def test_a_clock_set_back_does_not_delay_estimates_by_the_jump() -> None:
    ahead = RunningJob(started_at=NOW + timedelta(hours=2), completed=0, total=100)
    assert QueueForecast(ahead, PACE).start_time(NOW, 0, 0) == NOW + timedelta(seconds=10)
    halfway = RunningJob(started_at=NOW + timedelta(hours=2), completed=50, total=100)
    assert QueueForecast(halfway, PACE).start_time(NOW, 0, 0) == NOW
