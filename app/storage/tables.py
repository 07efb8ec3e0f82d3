"""Every table. Keys are chosen so that a copy of a tree is a plain INSERT ... SELECT.

References are big integers, because a copy of a million rows with text keys was measured five times
slower. Clients see UUIDs only.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlmodel import Field, SQLModel

from app.domain.attributes import Translation
from app.domain.events import JobEventType
from app.domain.hierarchies import HierarchyState, Owner
from app.domain.jobs import JobStatus, JobType
from app.domain.webhooks import DeliveryStatus
from app.storage.engine.statements import UnlimitedText
from app.storage.sql.column_types import UNSET, Instant, UnsetLast, stored_enum
from app.storage.sql.rows import Row

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

BigKey = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""INTEGER on SQLite, which generates numbers only for a column of that type."""

Sku = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Ordered by code points on PostgreSQL too, independent of the server's locale."""

JsonFields = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)
"""A JSON object by field, or NULL."""

JsonObject = dict[str, Any]
"""A decoded JSON object."""

BY_KEY: dict[str, object] = {"sqlite_with_rowid": False}
"""Stored in the order of the primary key: a copy in key order appends."""

NEVER_REUSED: dict[str, object] = {"sqlite_autoincrement": True}
"""Numbers are not reused, so a late write cannot change another row."""


class HierarchyRow(Row):
    """A tree and the attributes of its root. Reads for clients return READY ones only."""

    __slots__ = ()

    pk: int = Field(sa_column=sa.Column(BigKey, primary_key=True))
    id: UUID = Field(sa_column=sa.Column(sa.Uuid, nullable=False, unique=True))
    store: str = Field(max_length=255)
    owner: Owner = Field(default=Owner.STORE, sa_type=stored_enum(Owner))
    """ORGANIZATION exactly if `store` is the organization's."""
    state: HierarchyState = Field(sa_type=stored_enum(HierarchyState))
    name: str = Field(sa_type=sa.Text)
    slug: str | None = Field(default=None, sa_type=sa.Text)
    description: str | None = Field(default=None, sa_type=UnlimitedText)
    locales: dict[str, Translation] = Field(default_factory=dict, sa_type=sa.JSON)
    admin_attributes: dict[str, str] | None = Field(default=None, sa_type=JsonFields)
    """NULL, which takes no room in a row, without such attributes."""
    shopper_attributes: dict[str, str] | None = Field(default=None, sa_type=JsonFields)
    copied_from: UUID | None = Field(default=None, sa_type=sa.Uuid)
    created_at: datetime = Field(sa_type=Instant)
    updated_at: datetime = Field(sa_type=Instant)
    revision: int = Field(default=0, sa_type=sa.BigInteger)
    """Incremented by every edit of the tree, in the edit's transaction."""
    last_node_no: int = Field(
        default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0")
    )
    """The last assigned node number. Numbers are not reused after deletes."""
    copied_node_no: int = Field(
        default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0")
    )
    """The greatest node number copied from the source. The same greater number in source and copy
    means two different nodes."""
    node_count: int = Field(default=0, sa_type=sa.BigInteger)
    """Nodes below the root, updated by every edit."""
    association_count: int = Field(default=0, sa_type=sa.BigInteger)
    """Products' associations with those nodes, updated by every edit."""


class Hierarchy(HierarchyRow, SQLModel, table=True, frozen=True):
    __table_args__ = (
        sa.Index(None, "store", "created_at", "id"),
        # The sweeper reads the few that are not READY.
        sa.Index(None, "state"),
        NEVER_REUSED,
    )


class NodeRow(Row):
    """A category below a root. parent_no 0 is the root, which has no row here."""

    __slots__ = ()

    hierarchy_pk: int = Field(primary_key=True, sa_type=sa.BigInteger, foreign_key="hierarchy.pk")
    node_no: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    parent_no: int = Field(sa_type=sa.BigInteger)
    depth: int
    """1 for a child of the root."""
    name: str = Field(sa_type=sa.Text)
    slug: str | None = Field(default=None, sa_type=sa.Text)
    description: str | None = Field(default=None, sa_type=UnlimitedText)
    sort_order: int | None = Field(
        default=None, sa_column=sa.Column(UnsetLast, nullable=False, server_default=str(UNSET))
    )
    touched: int = Field(default=0, sa_type=sa.BigInteger)
    """The hierarchy's revision at the node's last edit (edited revision). It orders siblings as
    updated_at would, without ties, and a copy keeps it, unlike updated_at. Minus the node's number
    for an imported node that was never edited, which keeps the file's order."""
    locales: dict[str, Translation] = Field(default_factory=dict, sa_type=sa.JSON)
    admin_attributes: dict[str, str] | None = Field(default=None, sa_type=JsonFields)
    shopper_attributes: dict[str, str] | None = Field(default=None, sa_type=JsonFields)
    created_at: datetime = Field(sa_type=Instant)
    updated_at: datetime = Field(sa_type=Instant)


class Node(NodeRow, SQLModel, table=True, frozen=True):
    __table_args__ = (
        sa.Index("ix_node_children", "hierarchy_pk", "parent_no", "sort_order", "touched"),
        sa.Index("ix_node_depth", "hierarchy_pk", "depth", "node_no"),
        BY_KEY,
    )


class ProductRow(Row):
    """A product of a store."""

    __slots__ = ()

    pk: int = Field(sa_column=sa.Column(BigKey, primary_key=True))
    id: UUID = Field(
        default_factory=uuid4, sa_column=sa.Column(sa.Uuid, nullable=False, unique=True)
    )
    store: str = Field(max_length=255)
    sku: str | None = Field(default=None, sa_column=sa.Column(Sku))
    name: str | None = Field(default=None, sa_type=sa.Text)


class Product(ProductRow, SQLModel, table=True, frozen=True):
    __table_args__ = (sa.UniqueConstraint("store", "sku"), NEVER_REUSED)


class NodeProductRow(Row):
    """A product's association with a node; curated_position is 1 to 20, None if not curated."""

    __slots__ = ()

    hierarchy_pk: int = Field(primary_key=True, sa_type=sa.BigInteger)
    node_no: int = Field(primary_key=True, sa_type=sa.BigInteger)
    product_pk: int = Field(primary_key=True, sa_type=sa.BigInteger)
    curated_position: int | None = Field(default=None, sa_type=sa.SmallInteger)


class NodeProduct(NodeProductRow, SQLModel, table=True, frozen=True):
    __tablename__ = "node_product"
    __table_args__ = (BY_KEY,)


class ProductNodeRow(Row):
    """The association by product, for lookups in that direction.

    A table, because an index on node_product made copies up to nine times slower.
    """

    __slots__ = ()

    hierarchy_pk: int = Field(primary_key=True, sa_type=sa.BigInteger)
    product_pk: int = Field(primary_key=True, sa_type=sa.BigInteger)
    node_no: int = Field(primary_key=True, sa_type=sa.BigInteger)


class ProductNode(ProductNodeRow, SQLModel, table=True, frozen=True):
    __tablename__ = "product_node"
    __table_args__ = (BY_KEY,)


class DeletedNodeRow(Row):
    """A tombstone of a deleted node whose associations still have to be swept.

    Reads skip such associations.
    """

    __slots__ = ()

    hierarchy_pk: int = Field(primary_key=True, sa_type=sa.BigInteger)
    node_no: int = Field(primary_key=True, sa_type=sa.BigInteger)


class DeletedNode(DeletedNodeRow, SQLModel, table=True, frozen=True):
    __tablename__ = "cut_node"
    __table_args__ = (BY_KEY,)


class LaneRow(Row):
    """A store's queue as one lockable row, locked before any of its jobs is changed."""

    __slots__ = ()

    store: str = Field(primary_key=True, max_length=255)
    epoch: int = Field(default=0, sa_type=sa.BigInteger)
    """The fencing token: incremented by every claim, and required by that worker's writes."""
    holder: UUID | None = Field(default=None, sa_type=sa.Uuid)
    """The process whose worker runs the started job."""
    lease_until: datetime | None = Field(default=None, sa_type=Instant)
    job_seq: int = Field(default=0, sa_type=sa.BigInteger)
    """The number of the last created job."""
    event_seq: int = Field(default=0, sa_type=sa.BigInteger)
    """The number of the last logged event; gap-free and in commit order."""
    pruned_seq: int = Field(
        default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0")
    )
    """The number of the last pruned event, 0 before any."""
    front_turn: int = Field(
        default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0")
    )
    """The rank of the job last moved to the front; decremented by each such move."""
    last_created_at: datetime | None = Field(default=None, sa_type=Instant)
    paused_at: datetime | None = Field(default=None, sa_type=Instant)
    """None unless paused; pause_reason and paused_by belong to it."""
    pause_reason: str | None = Field(default=None, sa_type=sa.Text)
    paused_by: str | None = Field(default=None, max_length=255)
    pending: int = Field(default=0, sa_type=sa.BigInteger)
    """The number of pending jobs. With pending_items, requesting a job costs the same for any
    number of pending jobs."""
    pending_items: int = Field(default=0, sa_type=sa.BigInteger)
    pace_seconds: float = 0.0
    pace_items: float = 0.0


class Lane(LaneRow, SQLModel, table=True, frozen=True):
    __table_args__ = (BY_KEY,)


class JobRow(Row):
    """One unit of queued work."""

    __slots__ = ()

    pk: int = Field(sa_column=sa.Column(BigKey, primary_key=True))
    id: UUID = Field(
        default_factory=uuid4, sa_column=sa.Column(sa.Uuid, nullable=False, unique=True)
    )
    store: str = Field(max_length=255)
    job_seq: int = Field(sa_type=sa.BigInteger)
    """The job's number in the order of creation."""
    turn: int = Field(
        default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0")
    )
    """The job's rank: the least runs first. Equal to job_seq until the job is moved."""
    type: JobType = Field(sa_type=stored_enum(JobType))
    status: JobStatus = Field(default=JobStatus.PENDING, sa_type=stored_enum(JobStatus))
    version: int = Field(default=1, sa_type=sa.BigInteger)
    created_at: datetime = Field(sa_type=Instant)
    started_at: datetime | None = Field(default=None, sa_type=Instant)
    completed_at: datetime | None = Field(default=None, sa_type=Instant)
    updated_at: datetime = Field(sa_type=Instant)
    request_id: str = Field(max_length=255)
    requested_by: str | None = Field(default=None, max_length=255)
    traceparent: str | None = Field(default=None, max_length=64)
    """The request's span (W3C Trace Context), None without tracing."""
    retry_of: UUID | None = Field(default=None, sa_type=sa.Uuid)
    """The failed job that this one retries."""

    args: JsonObject = Field(
        default_factory=dict,
        sa_column=sa.Column(JsonFields, nullable=False, server_default="{}"),
    )
    """The fields of the type's arguments (`app.domain.job_types`)."""
    result: JsonObject | None = Field(default=None, sa_column=sa.Column(JsonFields))
    """The fields of the type's result, None until SUCCESS."""
    subject_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    """The hierarchy that the job reads, as its arguments say."""
    result_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    """The hierarchy that the job created, as its result says."""

    items: int = Field(default=0, sa_type=sa.BigInteger)
    """The job's size when it was created, for estimates."""
    completed_items: int = Field(default=0, sa_type=sa.BigInteger)
    total_items: int | None = Field(default=None, sa_type=sa.BigInteger)
    epoch: int = Field(default=0, sa_type=sa.BigInteger)
    attempts: int = 0
    """Claims since the last finished step."""
    checkpoint: JsonObject | None = Field(default=None, sa_type=sa.JSON)
    """The handler's state after the last finished step, from which the next attempt resumes."""


class Job(JobRow, SQLModel, table=True, frozen=True):
    __table_args__ = (
        sa.UniqueConstraint("store", "job_seq"),
        sa.Index("ix_job_status", "store", "status", "job_seq"),
        # Pending jobs only; with the items, so that a position in the queue is read from the index
        # alone.
        sa.Index(
            "ix_job_turn",
            "store",
            "turn",
            "items",
            sqlite_where=sa.text("status = 'pending'"),
            postgresql_where=sa.text("status = 'pending'"),
        ),
        sa.Index("ix_job_retry_of", "retry_of"),
        sa.Index("ix_job_subject", "subject_id", "job_seq"),
        sa.Index("ix_job_result", "result_id", "job_seq"),
        sa.Index(
            "uq_job_started",
            "store",
            unique=True,
            sqlite_where=sa.text("status = 'started'"),
            postgresql_where=sa.text("status = 'started'"),
        ),
        NEVER_REUSED,
    )


class JobErrorRow(Row):
    """An error of a failed job."""

    __slots__ = ()

    pk: int = Field(sa_column=sa.Column(BigKey, primary_key=True))
    id: UUID = Field(
        default_factory=uuid4, sa_column=sa.Column(sa.Uuid, nullable=False, unique=True)
    )
    job_pk: int = Field(sa_type=sa.BigInteger, foreign_key="job.pk")
    job_version: int = Field(sa_type=sa.BigInteger)
    """The first version of the job with this error."""
    code: str = Field(max_length=64)
    message: str = Field(sa_type=sa.Text)
    created_at: datetime = Field(sa_type=Instant)


class JobError(JobErrorRow, SQLModel, table=True, frozen=True):
    __tablename__ = "job_error"
    __table_args__ = (sa.Index("ix_job_error_job", "job_pk", "pk"),)


class JobEventRow(Row):
    """A logged event of a job, with a snapshot of the job."""

    __slots__ = ()

    store: str = Field(primary_key=True, max_length=255)
    seq: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    job_pk: int = Field(sa_type=sa.BigInteger)
    type: JobEventType = Field(sa_type=stored_enum(JobEventType))
    at: datetime = Field(sa_type=Instant)
    previous_status: JobStatus | None = Field(default=None, sa_type=stored_enum(JobStatus))
    snapshot: JsonObject = Field(sa_type=sa.JSON)


class JobEvent(JobEventRow, SQLModel, table=True, frozen=True):
    __tablename__ = "job_event"
    __table_args__ = (sa.Index("ix_job_event_job", "job_pk", "seq"), BY_KEY)


class IdempotencyKeyRow(Row):
    """The job created for a client's idempotency key, and a digest of the request's input."""

    __slots__ = ()

    store: str = Field(primary_key=True, max_length=255)
    key: str = Field(primary_key=True, max_length=255)
    digest: str = Field(max_length=64)
    job_pk: int = Field(sa_type=sa.BigInteger)
    created_at: datetime = Field(sa_type=Instant)


class IdempotencyKey(IdempotencyKeyRow, SQLModel, table=True, frozen=True):
    __tablename__ = "idempotency_key"
    __table_args__ = (sa.Index("ix_idempotency_key_job", "job_pk"), BY_KEY)


class WebhookEndpointRow(Row):
    """A URL that receives webhooks, or did earlier."""

    __slots__ = ()

    pk: int = Field(sa_column=sa.Column(BigKey, primary_key=True))
    url: str = Field(sa_column=sa.Column(sa.Text, nullable=False, unique=True))
    created_at: datetime = Field(sa_type=Instant)


class WebhookEndpoint(WebhookEndpointRow, SQLModel, table=True, frozen=True):
    __tablename__ = "webhook_endpoint"


class WebhookPositionRow(Row):
    """The last event of a store's log that was examined for deliveries to an endpoint.

    Without a row, none was.
    """

    __slots__ = ()

    endpoint_pk: int = Field(
        sa_column=sa.Column(
            sa.BigInteger,
            sa.ForeignKey("webhook_endpoint.pk"),
            primary_key=True,
            autoincrement=False,
        )
    )
    store: str = Field(primary_key=True, max_length=255)
    seq: int = Field(sa_type=sa.BigInteger)


class WebhookPosition(WebhookPositionRow, SQLModel, table=True, frozen=True):
    __tablename__ = "webhook_position"
    __table_args__ = (BY_KEY,)


class WebhookDeliveryRow(Row):
    """A message to an endpoint about a job's final event; deleted with the event."""

    __slots__ = ()

    pk: int = Field(sa_column=sa.Column(BigKey, primary_key=True))
    id: UUID = Field(
        default_factory=uuid4, sa_column=sa.Column(sa.Uuid, nullable=False, unique=True)
    )
    """The same at every attempt, so that receivers recognise repeated messages."""
    endpoint_pk: int = Field(sa_type=sa.BigInteger, foreign_key="webhook_endpoint.pk")
    store: str = Field(max_length=255)
    seq: int = Field(sa_type=sa.BigInteger)
    status: DeliveryStatus = Field(
        default=DeliveryStatus.PENDING, sa_type=stored_enum(DeliveryStatus)
    )
    created_at: datetime = Field(sa_type=Instant)
    due_at: datetime | None = Field(default=None, sa_type=Instant)
    """The earliest next attempt while pending. A process that starts one sets it to a time after
    the attempt's time limit."""
    attempts: int = 0
    """Started attempts. A result is recorded only if no later attempt was started."""
    attempted_at: datetime | None = Field(default=None, sa_type=Instant)
    answer: int | None = None
    """The HTTP status of the last completed attempt, None without a response."""
    reason: str | None = Field(default=None, max_length=255)
    """A short description of the last completed attempt's outcome."""


class WebhookDelivery(WebhookDeliveryRow, SQLModel, table=True, frozen=True):
    __tablename__ = "webhook_delivery"
    __table_args__ = (
        sa.UniqueConstraint("store", "seq", "endpoint_pk"),
        sa.Index(
            "ix_webhook_delivery_due",
            "endpoint_pk",
            "due_at",
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        ),
        NEVER_REUSED,
    )
