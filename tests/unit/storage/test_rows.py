"""Rows of tables: typed, read-only, and with the columns of their projection only."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel, col

from app.domain.jobs import JobStatus, JobType
from app.storage.engine.database import JSON_CODEC
from app.storage.engine.transaction import Transaction
from app.storage.sql.column_types import Instant
from app.storage.sql.rows import (
    ALL_COLUMNS,
    Projection,
    Row,
    RowInsert,
    RowQuery,
    RowUpdate,
    column_names,
    row_from_json,
    row_of,
)
from app.storage.tables import Job, JobRow, LaneRow, Node, NodeRow, Product, ProductRow

AT = datetime(2026, 11, 30, 12, 30, 15, 250_000, UTC)
ROW_CLASSES = sorted(Row.__subclasses__(), key=lambda row: row.__name__)
INSERT_PRODUCT = RowInsert(ProductRow)
PRODUCTS = RowQuery(ProductRow, lambda _: col(Product.store) == sa.bindparam("store"))
JOB: Mapping[str, Any] = {
    "store": "north",
    "job_seq": 1,
    "type": JobType.HIERARCHY_DUPLICATE,
    "created_at": AT,
    "updated_at": AT,
    "request_id": "test",
}


@pytest.fixture
def tx() -> Iterator[Transaction]:
    engine = sa.create_engine("sqlite://", **JSON_CODEC)
    SQLModel.metadata.create_all(engine)
    with engine.begin() as connection:
        yield Transaction(connection, lambda _: AT)


def sample(type_: Any) -> Any:
    """Return a value of a column type."""
    match type_:
        case Instant():
            return AT
        case sa.Uuid():
            return UUID(int=7)
        case sa.Enum(enum_class=enum):
            assert enum is not None
            return list(enum)[-1]
        case sa.JSON():
            return {"de": {"name": "Ähre"}}
        case sa.Boolean():
            return True
        case sa.Float():
            return 1.5
        case sa.Text() | sa.String():
            return "Ähre"
        case _:
            return 7


def samples(row: type[Row]) -> dict[str, Any]:
    """Return a value of each column of a row class."""
    names = column_names(row.table, ALL_COLUMNS)
    return {name: sample(getattr(row.table, name).type) for name in names}


def attributes(row: Row) -> dict[str, Any]:
    """Read all columns of a row."""
    names = column_names(row.table, ALL_COLUMNS)
    return {name: getattr(row, name) for name in names}


def test_each_table_has_one_row_class() -> None:
    tables = {row.table.__tablename__ for row in ROW_CLASSES}
    assert tables == SQLModel.metadata.tables.keys()
    assert len(tables) == len(ROW_CLASSES)


def test_an_attribute_of_a_row_cannot_be_set(tx: Transaction) -> None:
    row: Any = INSERT_PRODUCT.row(tx, store="north", name="Rose")
    for name, value in {**attributes(row), "unknown": 1}.items():
        with pytest.raises(AttributeError):
            setattr(row, name, value)
    assert row.name == "Rose"


@pytest.mark.parametrize("row_class", ROW_CLASSES)
def test_an_attribute_of_a_row_of_values_cannot_be_set(row_class: type[Row]) -> None:
    values = samples(row_class)
    row = row_of(row_class, tuple(values.values()))
    assert isinstance(row, row_class)
    assert attributes(row) == values
    for name, value in values.items():
        with pytest.raises(AttributeError):
            setattr(row, name, value)


def test_a_column_outside_the_projection_is_refused_by_name(tx: Transaction) -> None:
    INSERT_PRODUCT.row(tx, store="north", sku="a", name="Rose")
    [row] = PRODUCTS.rows(tx, {"store": "north"}, Projection(frozenset({"sku"})))
    assert row.sku == "a"
    with pytest.raises(AttributeError, match="ProductRow was read without name"):
        _ = row.name


def test_rows_of_queries_inserts_and_updates_are_instances_of_their_class(tx: Transaction) -> None:
    inserted = INSERT_PRODUCT.row(tx, store="north")
    update = RowUpdate(ProductRow, lambda _: col(Product.pk) == sa.bindparam("of"))
    updated = update.row(tx, {"of": inserted.pk}, name="Rose")
    queried = PRODUCTS.first(tx, {"store": "north"})
    for row in (inserted, updated, queried):
        assert isinstance(row, ProductRow)
        assert not isinstance(row, Product)
    assert queried == updated != inserted


def test_a_table_inherits_the_columns_of_its_row_class() -> None:
    assert issubclass(Job, JobRow)
    assert JobRow.table is Job
    entity = Product(pk=1, store="north", sku="a")
    assert isinstance(entity, ProductRow)
    assert (entity.store, entity.name) == ("north", None)


@pytest.mark.parametrize("row_class", ROW_CLASSES)
def test_a_row_is_restored_from_json(row_class: type[Row]) -> None:
    values = samples(row_class)
    document = JSON_CODEC["json_deserializer"](JSON_CODEC["json_serializer"](values))
    row = row_from_json(row_class, document)
    assert isinstance(row, row_class)
    assert attributes(row) == values


def test_null_is_restored_from_json(tx: Transaction) -> None:
    job = RowInsert(JobRow).row(tx, **JOB)
    document = JSON_CODEC["json_deserializer"](JSON_CODEC["json_serializer"](attributes(job)))
    assert attributes(row_from_json(JobRow, document)) == attributes(job)
    assert (job.started_at, job.retry_of, job.total_items) == (None, None, None)


def test_columns_missing_in_json_have_their_defaults() -> None:
    job = row_from_json(JobRow, {"store": "north", "status": "success"})
    assert (job.store, job.status) == ("north", JobStatus.SUCCESS)
    assert (job.turn, job.version, job.include_products, job.attempts) == (0, 1, False, 0)
    assert (job.checkpoint, job.traceparent, job.started_at) == (None, None, None)


def test_an_insert_gives_defaults(tx: Transaction) -> None:
    job = RowInsert(JobRow).row(tx, **JOB)
    assert (job.pk, job.status, job.version, job.turn) == (1, JobStatus.PENDING, 1, 0)
    assert (job.include_products, job.name, job.checkpoint) == (False, None, None)
    assert isinstance(job.id, UUID)
    assert (job.created_at, job.type) == (AT, JobType.HIERARCHY_DUPLICATE)
    lane = RowInsert(LaneRow).row(tx, store="north")
    assert (lane.epoch, lane.holder, lane.pace_seconds) == (0, None, 0.0)


def test_an_insert_makes_a_new_default_per_row(tx: Transaction) -> None:
    first, second = (INSERT_PRODUCT.row(tx, store="north") for _ in range(2))
    assert first.id != second.id
    given = uuid4()
    assert INSERT_PRODUCT.row(tx, store="north", id=given).id == given


def test_an_insert_writes_all_columns_that_it_returns(tx: Transaction) -> None:
    values = {"hierarchy_pk": 1, "node_no": 2, "parent_no": 0, "depth": 1, "name": "Trees"}
    node = RowInsert(NodeRow).row(tx, **values, created_at=AT, updated_at=AT)
    assert (node.locales, node.sort_order, node.touched) == ({}, None, 0)
    query = sa.select(col(Node.locales), col(Node.sort_order), col(Node.created_at))
    assert tx.rows(query) == [({}, None, AT)]
