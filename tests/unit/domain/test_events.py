from app.domain.events import CursorAhead, CursorExpired, JobEventType, event_of
from app.domain.jobs import JobStatus


def test_the_last_event_of_a_job_is_the_one_that_ends_it() -> None:
    assert {event for event in JobEventType if event.is_last} == {
        event_of(status) for status in JobStatus if status.is_final
    }


def test_an_event_that_is_never_logged_ends_no_job() -> None:
    logged = {event_of(status) for status in JobStatus}
    assert not any(event.is_last for event in set(JobEventType) - logged)


def test_a_move_ends_no_job_and_changes_no_status() -> None:
    assert not JobEventType.MOVED.is_last
    assert JobEventType.MOVED not in {event_of(status) for status in JobStatus}


def test_the_error_of_an_expired_cursor_names_the_remedy_and_the_input() -> None:
    expired = CursorExpired()
    assert expired.code == "CURSOR_EXPIRED"
    assert expired.path == ("after",)
    assert "jobQueue.cursor" in str(expired)


def test_cursors_before_and_after_the_log_have_different_errors() -> None:
    assert CursorExpired.code != CursorAhead.code
    assert str(CursorExpired()) != str(CursorAhead())
