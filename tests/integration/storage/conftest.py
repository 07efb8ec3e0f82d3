"""Fixtures of the tests of storage."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from tests.support.databases import Databases


@pytest.fixture
def empty(database_kind: str, databases: Databases) -> Iterator[Database]:
    """A database without a schema."""
    with closing(connect(databases.unmigrated(database_kind))) as database:
        yield database
