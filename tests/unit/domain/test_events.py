from app.domain.events import CursorAhead, CursorExpired, JobEventType, event_of
from app.domain.jobs import JobStatus


def test_the_last_event_of_a_job_is_the_one_that_ends_it() -> None:
    assert {event for event in JobEventType if event.is_last} == {
        event_of(status) for status in JobStatus if status.is_final
    }


def test_what_is_never_logged_is_the_last_of_nothing() -> None:
    logged = {event_of(status) for status in JobStatus}
    assert not any(event.is_last for event in set(JobEventType) - logged)


def test_a_move_ends_nothing_and_is_no_status() -> None:
    assert not JobEventType.MOVED.is_last
    assert JobEventType.MOVED not in {event_of(status) for status in JobStatus}


def test_an_expired_cursor_says_what_to_do_about_it_and_names_the_input() -> None:
    expired = CursorExpired()
    assert expired.code == "CURSOR_EXPIRED"
    assert expired.path == ("after",)
    assert "jobQueue.cursor" in str(expired)


def test_a_cursor_behind_the_log_and_one_ahead_of_it_are_told_apart() -> None:
    assert CursorExpired.code != CursorAhead.code
    assert str(CursorExpired()) != str(CursorAhead())
