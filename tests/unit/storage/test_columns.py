from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from app.storage.sql.column_types import Instant, UnsetLast

DIALECT = sa.create_engine("sqlite://").dialect


@given(st.integers(-(2**31), 2**31 - 1) | st.none())
def test_an_optional_number_is_read_back_unchanged(value: int | None) -> None:
    column = UnsetLast()
    stored = column.process_bind_param(value, DIALECT)
    assert column.process_result_value(stored, DIALECT) == value


@given(st.integers(-(2**31), 2**31 - 1))
def test_no_number_sorts_below_an_unset_one(value: int) -> None:
    column = UnsetLast()
    assert column.process_bind_param(None, DIALECT) < column.process_bind_param(value, DIALECT)


def test_an_instant_is_read_back_in_utc_from_a_database_without_zones() -> None:
    paris = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))
    stored = Instant().process_bind_param(paris, DIALECT)
    assert stored is not None
    back = Instant().process_result_value(stored.replace(tzinfo=None), DIALECT)
    assert back == paris
    assert back.tzinfo is UTC


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="timezone"):
        Instant().process_bind_param(datetime(2026, 1, 2), DIALECT)
