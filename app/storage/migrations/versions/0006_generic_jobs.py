"""Arguments and results of jobs as JSON, in place of the columns of one job type.

Jobs, their logged snapshots and the digests of idempotency keys are converted, so that clients see
no difference.
"""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import orjson
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

JSON_FIELDS = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)
DUPLICATION = "hierarchy-duplicate"
MOVED = ("source_id", "name", "description", "include_products")
ROWS_PER_STATEMENT = 1_000
VALIDITY = timedelta(hours=24)


def upgrade() -> None:
    op.add_column("job", sa.Column("args", JSON_FIELDS, server_default="{}", nullable=False))
    op.add_column("job", sa.Column("result", JSON_FIELDS, nullable=True))
    op.drop_index("ix_job_source", table_name="job")
    op.execute("ALTER TABLE job RENAME COLUMN source_id TO subject_id")
    op.create_index("ix_job_subject", "job", ["subject_id", "job_seq"])
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    op.execute(_JOBS_ON_SQLITE if is_sqlite else _JOBS_ON_POSTGRESQL)
    op.execute(_SNAPSHOTS_ON_SQLITE if is_sqlite else _SNAPSHOTS_ON_POSTGRESQL)
    for name in MOVED[1:]:
        op.drop_column("job", name)
    _replace_digests()


def _hyphenated(column: str) -> str:
    """The text of a UUID that SQLite stores as 32 digits."""
    parts = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
    return " || '-' || ".join(f"substr({column}, {start}, {length})" for start, length in parts)


_JOBS_ON_SQLITE = f"""
    UPDATE job SET
        args = json_object(
            'source_id', {_hyphenated("subject_id")}, 'name', name, 'description', description,
            'include_products', json(iif(include_products, 'true', 'false'))
        ),
        result = iif(
            result_id IS NULL, NULL, json_object('hierarchy_id', {_hyphenated("result_id")})
        )
    WHERE type = '{DUPLICATION}'
"""

_JOBS_ON_POSTGRESQL = f"""
    UPDATE job SET
        args = jsonb_build_object(
            'source_id', subject_id, 'name', name, 'description', description,
            'include_products', include_products
        ),
        result = CASE WHEN result_id IS NOT NULL
            THEN jsonb_build_object('hierarchy_id', result_id) END
    WHERE type = '{DUPLICATION}'
"""

_SNAPSHOTS_ON_SQLITE = f"""
    UPDATE job_event SET snapshot = (
        SELECT json_set(
            json_remove(snapshot, {", ".join(f"'$.{name}'" for name in MOVED)}),
            '$.subject_id', source_id,
            '$.args', json(iif(type = '{DUPLICATION}', json_object(
                'source_id', source_id, 'name', name, 'description', description,
                'include_products', json(iif(include_products, 'true', 'false'))
            ), '{{}}')),
            '$.result', json(
                iif(result_id IS NULL, 'null', json_object('hierarchy_id', result_id))
            )
        )
        FROM (SELECT {
    ", ".join(
        f"json_extract(snapshot, '$.{name}') AS {name}" for name in ("type", "result_id", *MOVED)
    )
})
    )
"""

_SNAPSHOTS_ON_POSTGRESQL = f"""
    UPDATE job_event SET snapshot = (
        snapshot::jsonb {" ".join(f"- '{name}'" for name in MOVED)}
        || jsonb_build_object(
            'subject_id', snapshot -> 'source_id',
            'args', CASE WHEN snapshot ->> 'type' = '{DUPLICATION}' THEN jsonb_build_object(
                'source_id', snapshot -> 'source_id', 'name', snapshot -> 'name',
                'description', snapshot -> 'description',
                'include_products', snapshot -> 'include_products'
            ) ELSE '{{}}' END,
            'result', CASE WHEN snapshot ->> 'result_id' IS NOT NULL THEN jsonb_build_object(
                'hierarchy_id', snapshot -> 'result_id'
            ) END
        )
    )::json
"""

_KEYS = sa.table(
    "idempotency_key",
    sa.column("created_at", sa.DateTime(timezone=True)),
    *map(sa.column, ("store", "key", "digest", "job_pk")),
)
_JOBS = sa.table("job", sa.column("pk"), sa.column("type"), sa.column("args", sa.JSON()))


def _replace_digests() -> None:
    """Replace the digests of duplications' arguments by those of this version.

    Keys are valid for 24 hours: older ones are never compared.
    """
    connection = op.get_bind()
    keys = connection.execute(
        sa.select(_KEYS.c.store, _KEYS.c.key, _JOBS.c.args).where(
            _JOBS.c.pk == _KEYS.c.job_pk,
            _JOBS.c.type == DUPLICATION,
            _KEYS.c.created_at > datetime.now(UTC) - VALIDITY,
        )
    ).all()
    update = (
        sa.update(_KEYS)
        .where(_KEYS.c.store == sa.bindparam("of_store"), _KEYS.c.key == sa.bindparam("of_key"))
        .values(digest=sa.bindparam("new_digest"))
    )
    for start in range(0, len(keys), ROWS_PER_STATEMENT):
        page = keys[start : start + ROWS_PER_STATEMENT]
        connection.execute(
            update,
            [
                {"of_store": store, "of_key": key, "new_digest": _digest(args)}
                for store, key, args in page
            ],
        )


def _digest(args: dict[str, object]) -> str:
    defaults = {"name": None, "description": None, "include_products": False}
    stated = {
        name: value
        for name, value in args.items()
        if name not in defaults or value != defaults[name]
    }
    document = orjson.dumps([DUPLICATION, stated], option=orjson.OPT_SORT_KEYS)
    return sha256(document).hexdigest()
