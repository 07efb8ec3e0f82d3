"""Every table. The keys are chosen so that a copy of a tree is a plain INSERT ... SELECT.

Big integers carry the references, because a copy of a million rows on text keys was measured
five times slower; clients only ever see UUIDs.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from app.domain.attributes import Translation
from app.domain.events import JobEventType
from app.domain.hierarchies import HierarchyState, Owner
from app.domain.jobs import JobStatus, JobType
from app.domain.webhooks import DeliveryStatus
from app.storage.sql.column_types import UNSET, Instant, UnsetLast, stored_enum

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

BigKey = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite numbers rows by itself only in a column it knows as INTEGER."""

Sku = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Ordered by its code points, as SQLite orders all text, whatever language a server speaks."""

BY_KEY: dict[str, Any] = {"sqlite_with_rowid": False}
"""Rows lie in the order of their primary key: a copy in key order appends."""

NEVER_REUSED: dict[str, Any] = {"sqlite_autoincrement": True}
"""A number once given stays taken, so a late write can never hit another's row."""


class Hierarchy(SQLModel, table=True):
    """A tree and the attributes of its root. Every state but READY is hidden from all reads."""

    __table_args__ = (
        sa.Index(None, "store", "created_at", "id"),
        # The sweep looks for the few that are not READY.
        sa.Index(None, "state"),
        NEVER_REUSED,
    )

    pk: int | None = Field(default=None, sa_column=sa.Column(BigKey, primary_key=True))
    id: UUID = Field(sa_column=sa.Column(sa.Uuid, nullable=False, unique=True))
    store: str = Field(max_length=255)
    owner: Owner = Field(default=Owner.STORE, sa_type=stored_enum(Owner))
    """As the store has it: what is ORGANIZATION's is the organization's, and nothing else is."""
    state: HierarchyState = Field(sa_type=stored_enum(HierarchyState))
    name: str = Field(sa_type=sa.Text)
    slug: str | None = Field(default=None, sa_type=sa.Text)
    description: str | None = Field(default=None, sa_type=sa.Text)
    locales: dict[str, Translation] = Field(default_factory=dict, sa_type=sa.JSON)
    copied_from: UUID | None = Field(default=None, sa_type=sa.Uuid)
    created_at: datetime = Field(sa_type=Instant)
    updated_at: datetime = Field(sa_type=Instant)
    revision: int = Field(default=0, sa_type=sa.BigInteger)
    """Grows with every edit of the tree, in the edit's transaction."""
    last_node_no: int = Field(
        default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0")
    )
    """The number given to a node last: none is ever given again, whatever is deleted."""
    copied_node_no: int = Field(
        default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0")
    )
    """The greatest number that a copy has from its source: a greater one means another node in
    each of the two."""
    node_count: int = Field(default=0, sa_type=sa.BigInteger)
    """Nodes below the root, kept with every edit."""
    association_count: int = Field(default=0, sa_type=sa.BigInteger)
    """Associations of products with those nodes, kept with every edit."""


class Node(SQLModel, table=True):
    """A category below a root. parent_no 0 is the root, which has no row here."""

    __table_args__ = (
        sa.Index("ix_node_children", "hierarchy_pk", "parent_no", "sort_order", "touched"),
        sa.Index("ix_node_depth", "hierarchy_pk", "depth", "node_no"),
        BY_KEY,
    )

    hierarchy_pk: int = Field(primary_key=True, sa_type=sa.BigInteger, foreign_key="hierarchy.pk")
    node_no: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    parent_no: int = Field(sa_type=sa.BigInteger)
    depth: int
    """1 for a child of the root."""
    name: str = Field(sa_type=sa.Text)
    slug: str | None = Field(default=None, sa_type=sa.Text)
    description: str | None = Field(default=None, sa_type=sa.Text)
    sort_order: int | None = Field(
        default=None, sa_column=sa.Column(UnsetLast, nullable=False, server_default=str(UNSET))
    )
    touched: int = Field(default=0, sa_type=sa.BigInteger)
    """The hierarchy's revision at the node's last edit; minus its number where it was imported and
    never edited, so that the file's order stands. It orders siblings as updated_at would, without
    ties, and a copy keeps it although its updated_at is the copy's own."""
    locales: dict[str, Translation] = Field(default_factory=dict, sa_type=sa.JSON)
    created_at: datetime = Field(sa_type=Instant)
    updated_at: datetime = Field(sa_type=Instant)


class Product(SQLModel, table=True):
    """A product of a store, as far as trees need it."""

    __table_args__ = (sa.UniqueConstraint("store", "sku"), NEVER_REUSED)

    pk: int | None = Field(default=None, sa_column=sa.Column(BigKey, primary_key=True))
    id: UUID = Field(
        default_factory=uuid4, sa_column=sa.Column(sa.Uuid, nullable=False, unique=True)
    )
    store: str = Field(max_length=255)
    sku: str | None = Field(default=None, sa_column=sa.Column(Sku))
    name: str | None = Field(default=None, sa_type=sa.Text)


class NodeProduct(SQLModel, table=True):
    """A product's association with a node; curated_position 1..20 where it is curated."""

    __tablename__ = "node_product"
    __table_args__ = (BY_KEY,)

    hierarchy_pk: int = Field(primary_key=True, sa_type=sa.BigInteger)
    node_no: int = Field(primary_key=True, sa_type=sa.BigInteger)
    product_pk: int = Field(primary_key=True, sa_type=sa.BigInteger)
    curated_position: int | None = Field(default=None, sa_type=sa.SmallInteger)


class ProductNode(SQLModel, table=True):
    """The same association from the product's side, in a table of its own: as an index on
    node_product it made copies up to nine times slower."""

    __tablename__ = "product_node"
    __table_args__ = (BY_KEY,)

    hierarchy_pk: int = Field(primary_key=True, sa_type=sa.BigInteger)
    product_pk: int = Field(primary_key=True, sa_type=sa.BigInteger)
    node_no: int = Field(primary_key=True, sa_type=sa.BigInteger)


class DeletedNode(SQLModel, table=True):
    """A node that was deleted, while products are still associated with it: the sweep ends that.
    Until then such associations are there for nobody."""

    __tablename__ = "cut_node"
    __table_args__ = (BY_KEY,)

    hierarchy_pk: int = Field(primary_key=True, sa_type=sa.BigInteger)
    node_no: int = Field(primary_key=True, sa_type=sa.BigInteger)


class Lane(SQLModel, table=True):
    """A store's queue: the one row that whoever changes one of its jobs locks first."""

    __table_args__ = (BY_KEY,)

    store: str = Field(primary_key=True, max_length=255)
    epoch: int = Field(default=0, sa_type=sa.BigInteger)
    """Grows with every claim; a worker's writes count only while the epoch is the one it got."""
    holder: UUID | None = Field(default=None, sa_type=sa.Uuid)
    """The process whose worker runs the started job."""
    lease_until: datetime | None = Field(default=None, sa_type=Instant)
    job_seq: int = Field(default=0, sa_type=sa.BigInteger)
    """The number of the job created last."""
    event_seq: int = Field(default=0, sa_type=sa.BigInteger)
    """The number of the event logged last; gap-free and in commit order."""
    pruned_seq: int = Field(
        default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0")
    )
    """The number of the last event that is no longer in the log, 0 while all are."""
    front_turn: int = Field(
        default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0")
    )
    """The turn given last to a job that was moved to the front, each less than the one before."""
    last_created_at: datetime | None = Field(default=None, sa_type=Instant)
    paused_at: datetime | None = Field(default=None, sa_type=Instant)
    """Since when no job is started, and below why and by whom."""
    pause_reason: str | None = Field(default=None, sa_type=sa.Text)
    paused_by: str | None = Field(default=None, max_length=255)
    pending: int = Field(default=0, sa_type=sa.BigInteger)
    """Pending jobs, and below the items of all of them: asking for a job costs the same however
    many wait."""
    pending_items: int = Field(default=0, sa_type=sa.BigInteger)
    pace_seconds: float = 0.0
    pace_items: float = 0.0


class Job(SQLModel, table=True):
    """One unit of queued work."""

    __table_args__ = (
        sa.UniqueConstraint("store", "job_seq"),
        sa.Index("ix_job_status", "store", "status", "job_seq"),
        # Only of those that wait; with the items, so that a place in the queue is read from the
        # index alone.
        sa.Index(
            "ix_job_turn",
            "store",
            "turn",
            "items",
            sqlite_where=sa.text("status = 'pending'"),
            postgresql_where=sa.text("status = 'pending'"),
        ),
        sa.Index("ix_job_retry_of", "retry_of"),
        sa.Index("ix_job_source", "source_id", "job_seq"),
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

    pk: int | None = Field(default=None, sa_column=sa.Column(BigKey, primary_key=True))
    id: UUID = Field(
        default_factory=uuid4, sa_column=sa.Column(sa.Uuid, nullable=False, unique=True)
    )
    store: str = Field(max_length=255)
    job_seq: int = Field(sa_type=sa.BigInteger)
    """Its number in the order of creation."""
    turn: int = Field(
        default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0")
    )
    """Its place in the order of running: the least goes first. Its job_seq, until it is moved."""
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
    """The span of the request (W3C Trace Context), where requests are traced."""
    retry_of: UUID | None = Field(default=None, sa_type=sa.Uuid)
    """The failed job that this one tries again."""

    source_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    result_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    """The duplicate, once it is whole."""
    name: str | None = Field(default=None, sa_type=sa.Text)
    description: str | None = Field(default=None, sa_type=sa.Text)
    include_products: bool = False

    items: int = Field(default=0, sa_type=sa.BigInteger)
    """How much work the job looked like when it was created: what estimates go by."""
    completed_items: int = Field(default=0, sa_type=sa.BigInteger)
    total_items: int | None = Field(default=None, sa_type=sa.BigInteger)
    epoch: int = Field(default=0, sa_type=sa.BigInteger)
    attempts: int = 0
    """Claims since the last finished step."""
    checkpoint: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    """How far the handler has got, in its own words: what a resumed attempt starts from."""


class JobError(SQLModel, table=True):
    """Why a job failed."""

    __tablename__ = "job_error"
    __table_args__ = (sa.Index("ix_job_error_job", "job_pk", "pk"),)

    pk: int | None = Field(default=None, sa_column=sa.Column(BigKey, primary_key=True))
    id: UUID = Field(
        default_factory=uuid4, sa_column=sa.Column(sa.Uuid, nullable=False, unique=True)
    )
    job_pk: int = Field(sa_type=sa.BigInteger, foreign_key="job.pk")
    job_version: int = Field(sa_type=sa.BigInteger)
    """The version of the job that first had this error."""
    code: str = Field(max_length=64)
    message: str = Field(sa_type=sa.Text)
    created_at: datetime = Field(sa_type=Instant)


class JobEvent(SQLModel, table=True):
    """One change of one job's status, with the job as it then was."""

    __tablename__ = "job_event"
    __table_args__ = (sa.Index("ix_job_event_job", "job_pk", "seq"), BY_KEY)

    store: str = Field(primary_key=True, max_length=255)
    seq: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    job_pk: int = Field(sa_type=sa.BigInteger)
    type: JobEventType = Field(sa_type=stored_enum(JobEventType))
    at: datetime = Field(sa_type=Instant)
    previous_status: JobStatus | None = Field(default=None, sa_type=stored_enum(JobStatus))
    snapshot: dict[str, Any] = Field(sa_type=sa.JSON)


class IdempotencyKey(SQLModel, table=True):
    """The job that a client's key stands for, and a digest of the input it came with."""

    __tablename__ = "idempotency_key"
    __table_args__ = (sa.Index("ix_idempotency_key_job", "job_pk"), BY_KEY)

    store: str = Field(primary_key=True, max_length=255)
    key: str = Field(primary_key=True, max_length=255)
    digest: str = Field(max_length=64)
    job_pk: int = Field(sa_type=sa.BigInteger)
    created_at: datetime = Field(sa_type=Instant)


class WebhookEndpoint(SQLModel, table=True):
    """A URL that webhooks go to, or once went to."""

    __tablename__ = "webhook_endpoint"

    pk: int | None = Field(default=None, sa_column=sa.Column(BigKey, primary_key=True))
    url: str = Field(sa_column=sa.Column(sa.Text, nullable=False, unique=True))
    created_at: datetime = Field(sa_type=Instant)


class WebhookPosition(SQLModel, table=True):
    """How far a store's event log has been turned into deliveries to an endpoint; not at all where
    there is no row."""

    __tablename__ = "webhook_position"
    __table_args__ = (BY_KEY,)

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


class WebhookDelivery(SQLModel, table=True):
    """One message to one endpoint, about the last event of a job. It goes with its event."""

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

    pk: int | None = Field(default=None, sa_column=sa.Column(BigKey, primary_key=True))
    id: UUID = Field(
        default_factory=uuid4, sa_column=sa.Column(sa.Uuid, nullable=False, unique=True)
    )
    """The same at every attempt: what a receiver knows a repetition by."""
    endpoint_pk: int = Field(sa_type=sa.BigInteger, foreign_key="webhook_endpoint.pk")
    store: str = Field(max_length=255)
    seq: int = Field(sa_type=sa.BigInteger)
    status: DeliveryStatus = Field(
        default=DeliveryStatus.PENDING, sa_type=stored_enum(DeliveryStatus)
    )
    created_at: datetime = Field(sa_type=Instant)
    due_at: datetime | None = Field(default=None, sa_type=Instant)
    """When a process may next take it up, while it is pending: one that has done so moves it past
    the time an attempt may take."""
    attempts: int = 0
    """Attempts begun. A result counts only while no other attempt was begun since."""
    attempted_at: datetime | None = Field(default=None, sa_type=Instant)
    answer: int | None = None
    """The HTTP status of the last attempt that ended, if it had any."""
    reason: str | None = Field(default=None, max_length=255)
    """A few words on it."""
