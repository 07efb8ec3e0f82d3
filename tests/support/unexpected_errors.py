"""Cause an unexpected error, and check that clients see nothing but its request id."""

import logging
from typing import Any

import pytest
import sqlalchemy as sa

from app.storage.engine.database import Database

NO_TABLE = ("no such table", "does not exist")

SECRETS = (
    *("SELECT", "INSERT", "sqlite", "postgres", "psycopg", "sqlalchemy", "Traceback", ".py", ".db"),
    *NO_TABLE,
)


async def lose(database: Database, table: str) -> None:
    """Rename a table away, so that statements on it raise unexpected errors."""
    await database.write(lambda tx: tx.changed(sa.text(f"ALTER TABLE {table} RENAME TO lost")))


def check_masked(error: dict[str, Any], request_id: str, caplog: pytest.LogCaptureFixture) -> None:
    """Check that an error shows only the request id, and that the log has the exception."""
    assert error["message"] == "Internal Server Error"
    assert error["extensions"] == {"code": "INTERNAL_SERVER_ERROR", "requestId": request_id}
    assert error.keys() <= {"message", "extensions", "path", "locations"}
    logged = [record for record in caplog.records if record.name == "app.api.http.refusals"]
    assert logged
    for record in logged:
        assert record.levelno == logging.ERROR
        assert request_id in record.getMessage()
        assert record.exc_info
        assert any(words in str(record.exc_info[1]) for words in NO_TABLE)


def check_no_secrets(text: str) -> None:
    assert [secret for secret in SECRETS if secret.lower() in text.lower()] == []
