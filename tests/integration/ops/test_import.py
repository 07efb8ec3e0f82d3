"""Hierarchies from files: an import is complete or leaves nothing."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlmodel import select
from typer.testing import CliRunner, Result

from app.cli import cli
from app.cli.imports import HierarchyImport, importing
from app.domain.attributes import NAME_LIMIT
from app.domain.errors import InvalidInput
from app.domain.hierarchies import Owner
from app.domain.jobs import JobStatus
from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.queue.sweeper import Sweeper
from app.services import imports
from app.services.imports import ABANDONED_AFTER, Attachment
from app.settings import Settings
from app.storage import hierarchies, nodes
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.tables import Product
from tests import factories
from tests.support.clients import GraphQLClient
from tests.support.databases import postgresql_is_long
from tests.support.entities import session_of

SECONDS = 60
BOOKKEEPING = {"alembic_version"}

TREE = """
query($id: ID!) {
  hierarchy(id: $id) {
    nodeCount
    children(first: 100) {
      nodes { name(locale: "de") slug children(first: 100) { nodes { name } } }
    }
    nodes(last: 1) { nodes { depth description(locale: "fr-FR") localizations { locale name } } }
  }
}
"""
NAMES = "{ hierarchies(first: 100) { nodes { id name } } }"


def line(id: str, parent: str | None = None, /, **fields: Any) -> dict[str, Any]:
    """A valid line, unless `fields` make it invalid."""
    return {"id": id, "parent": parent, "slug": id, "name": {"en": f"Name of {id}"}} | fields


def text(*lines: dict[str, Any] | bytes) -> bytes:
    """A file of these lines."""
    return b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )


def run_import(settings: Settings, content: bytes, *options: str) -> Result:
    """Run the import command on a file with `content`."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "file.jsonl"
        file.write_bytes(content)
        argv = ["import", str(file), "--name", "Plants", "--database-url", settings.database_url]
        return CliRunner().invoke(cli, [*argv, *options])


def imported(settings: Settings, content: bytes, *options: str) -> str:
    """Import `content`; return the new hierarchy's id."""
    done = run_import(settings, content, *options)
    assert done.exit_code == 0, done.stderr
    return done.stdout.split()[0]


def rows(database_url: str) -> dict[str, int]:
    """Row counts of all tables that are not empty."""
    database = connect(database_url)
    with database.read_engine.connect() as connection:
        counted = {
            table: connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0
            for table in set(sa.inspect(connection).get_table_names()) - BOOKKEEPING
        }
    database.close()
    return {table: count for table, count in counted.items() if count}


BAD_LINES = {
    "an unknown parent": (line("b", "x"), "the parent 'x' is on no line before this one"),
    "a parent further down": (line("b", "b"), "the parent 'b' is on no line before this one"),
    "an id seen before": (line("a"), "the id 'a' is on a line before this one"),
    "a sibling's name": (
        line("b", name={"en": "Name of a"}),
        "a sibling has the name 'Name of a' already",
    ),
    "a sibling's slug": (line("b", slug="a"), "a sibling has the slug 'a' already"),
    "a level too deep": (line("b", "a", level=2), "level is 2, but its parent makes it 1"),
    "invalid JSON": (b'{"id": "b",', "not JSON ("),
    "a line of more than 1 MiB": (
        line("b", more="x" * 1024**2),
        "longer than 1,048,576 bytes",
    ),
    "a line without end": (b'{"id": "' + b"x" * 3 * 1024**2, "longer than 1,048,576 bytes"),
    "invalid UTF-8": (b'{"id": "\xff"}', "not JSON ("),
    "half a surrogate": (rb'{"id": "\ud800"}', "not JSON ("),
    "no object": (b'["b"]', "not a JSON object"),
    "no id": (b'{"parent": null, "name": {"en": "B"}}', "id: Field required"),
    "an empty id": (line(""), "id: String should have at least 1 character"),
    "an id that is a number": (line("b", id=2), "id: Input should be a valid string"),
    "a level that is a text": (line("b", level="0"), "level: Input should be a valid integer"),
    "names that are one text": (line("b", name="B"), "name: Input should be a valid dictionary"),
    "no name": (b'{"id": "b", "parent": null}', "name: Field required"),
    "no name in the language": (
        line("b", name={"de": "B"}),
        "name: no name in 'en', the default language",
    ),
    "a blank name": (line("b", name={"en": " "}), "name: The name can not be empty."),
    "a name too long": (
        line("b", name={"en": "n" * 1001}),
        "name: The name has 1001 characters; at most 1000 are allowed.",
    ),
    "a blank translation": (
        line("b", name={"en": "B", "de": ""}),
        "name.de: The name can not be empty.",
    ),
    "an invalid locale": (
        line("b", name={"en": "B", "de_DE": "B"}),
        "name: 'de_DE' is not a locale such as fr-FR.",
    ),
}


@postgresql_is_long
@pytest.mark.parametrize(("bad", "reason"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_an_invalid_line_is_named_and_nothing_is_imported(
    settings: Settings, bad: dict[str, Any] | bytes, reason: str
) -> None:
    done = run_import(settings, text(line("a"), b"", bad, line("c")), "--products", "2")
    assert done.exit_code == 1
    assert done.stdout == ""
    (message,) = done.stderr.splitlines()
    assert message.startswith("Nothing was imported: ")
    assert f"file.jsonl, line 3: {reason}" in message
    assert rows(settings.database_url) == {}


def test_chunks_written_before_an_invalid_line_are_removed(
    settings: Settings,
) -> None:
    good = [line(str(no)) for no in range(2_500)]
    done = run_import(settings, text(*good, line("0")))
    assert "line 2501: the id '0'" in done.stderr
    assert rows(settings.database_url) == {}


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_a_file_without_a_line_is_refused(settings: Settings, content: bytes) -> None:
    done = run_import(settings, content)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "Nothing was imported: the file is empty.\n"
    assert rows(settings.database_url) == {}


def test_a_blank_name_of_the_hierarchy_is_refused(settings: Settings) -> None:
    done = run_import(settings, text(line("a")), "--name", " ")
    assert done.exit_code == 1
    assert done.stderr == "Nothing was imported: The name can not be empty.\n"
    assert rows(settings.database_url) == {}


async def test_a_file_is_imported_for_the_organization_on_request(
    settings: Settings, database: Database
) -> None:
    content = text(line("a"))
    options = "--organization", "--products", "1"
    done = await asyncio.to_thread(run_import, settings, content, *options)
    assert "'Plants': 1 nodes, 1 products, the organization of " in done.stdout
    hierarchy = await database.read(hierarchies.by_id, "any store", UUID(done.stdout.split()[0]))
    assert hierarchy
    assert (hierarchy.store, hierarchy.owner) == (ORGANIZATION, Owner.ORGANIZATION)
    products = await database.read(lambda tx: session_of(tx).exec(select(Product)).all())
    assert [product.store for product in products] == [ORGANIZATION]


def test_a_store_and_the_organization_exclude_each_other(settings: Settings) -> None:
    done = run_import(settings, text(line("a")), "--organization", "--store", "garden")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "not both" in done.stderr
    assert rows(settings.database_url) == {}


@pytest.mark.parametrize("store", [ORGANIZATION, " garden", "gar\nden"])
def test_an_invalid_store_name_is_refused(settings: Settings, store: str) -> None:
    done = run_import(settings, text(line("a")), "--store", store)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("--store: ")
    assert rows(settings.database_url) == {}


def test_windows_line_ends_and_a_byte_order_mark_are_accepted(settings: Settings) -> None:
    content = text(line("a"), line("b", "a"))
    done = run_import(settings, b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert "'Plants': 2 nodes, 0 products, store 'default' of " in done.stdout


async def test_siblings_keep_the_order_of_the_file_and_translations_are_imported(
    settings: Settings, gateway: Gateway, client: GraphQLClient
) -> None:
    order = ["m", "z", "a", "k"]
    content = text(
        line("m"),
        line("z", name={"en": "Pears", "de": "Birnen"}),
        line("m2", "m"),
        line("a"),
        line("m1", "m"),
        line("k"),
        line(
            "deep",
            "m1",
            name={"en": "Deep", "de": "Tief"},
            description={"en": "Far down.", "fr-FR": "Tout en bas."},
        ),
    )
    id = await asyncio.to_thread(imported, settings, content)
    tree = (await client.data(TREE, id=id))["hierarchy"]
    assert tree["nodeCount"] == 7
    children = tree["children"]["nodes"]
    assert [child["slug"] for child in children] == order
    assert [child["name"] for child in children] == [
        "Name of m",
        "Birnen",
        "Name of a",
        "Name of k",
    ]
    assert [child["name"] for child in children[0]["children"]["nodes"]] == [
        "Name of m2",
        "Name of m1",
    ]
    (deepest,) = tree["nodes"]["nodes"]
    assert deepest["depth"] == 3
    assert deepest["description"] == "Tout en bas."
    assert {"locale": "de", "name": "Tief"} in deepest["localizations"]


async def test_a_tree_may_be_a_thousand_levels_deep(
    settings: Settings,
    gateway: Gateway,
    client: GraphQLClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOBS_GATEWAY_MAX_TREE_DEPTH", "1000")
    lines = [line("0", level=0)]
    lines += [line(str(level), str(level - 1), level=level) for level in range(1, 1_000)]
    id = await asyncio.to_thread(imported, settings, text(*lines))
    (deepest,) = (await client.data(TREE, id=id))["hierarchy"]["nodes"]["nodes"]
    assert deepest["depth"] == 1_000


async def test_products_are_generated_for_leaves_only(
    settings: Settings, database: Database
) -> None:
    content = text(line("a"), line("b", "a"), line("c", "a"), line("d"))
    await asyncio.to_thread(imported, settings, content, "--products", "1200")
    assert rows(settings.database_url) == {
        "hierarchy": 1,
        "node": 4,
        "product": 3_600,
        "node_product": 3_600,
        "product_node": 3_600,
    }


@pytest.mark.parametrize("name", ["", " ", "n" * (NAME_LIMIT + 1)])
def test_a_hierarchy_with_an_invalid_name_is_refused_in_one_line(
    settings: Settings, database: Database, name: str
) -> None:
    refused = run_import(settings, text(line("a")), "--name", name)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Nothing was imported: ")
    assert refused.stderr.count("\n") == 1
    assert rows(settings.database_url) == {}


async def test_products_of_a_leaf_with_the_longest_name_have_valid_names(
    settings: Settings, database: Database
) -> None:
    content = text(line("a", name={"en": "n" * NAME_LIMIT}))
    await asyncio.to_thread(imported, settings, content, "--products", "10")

    def names(tx: Transaction) -> Sequence[str | None]:
        return session_of(tx).exec(select(Product.name)).all()

    kept = await database.read(names)
    assert sorted(map(len, filter(None, kept))) == [NAME_LIMIT] * 10


@pytest.mark.parametrize(
    "attachment",
    [
        Attachment(1, " ", "Tulip"),
        Attachment(1, "s" * 256, "Tulip"),
        Attachment(1, "sku", "\0"),
        Attachment(1, "sku", "Tulip", curated_position=21),
    ],
)
async def test_an_invalid_product_ends_the_import(
    database: Database, settings: Settings, attachment: Attachment
) -> None:
    async def last_step(target: HierarchyImport) -> None:
        await target.attach([attachment])

    with pytest.raises(InvalidInput):
        await run_import_steps(database, {"a": {}}, last_step)
    assert rows(settings.database_url) == {}


async def test_the_server_responds_and_duplicates_during_an_import(
    gateway: Gateway, client: GraphQLClient
) -> None:
    garden = await factories.hierarchy(gateway.database, {"Trees": {"Oaks": {}}})
    other_process = connect(gateway.settings.database_url)
    async with importing(other_process, factories.STORE, "Plants") as target:
        await target.add_nodes(factories.placed_lines(factories.wide_tree(1_500)))
        job = await factories.pending_duplication(gateway.database, garden, name="Copy")
        updates = await gateway.feed.job_updates(factories.STORE, job.id, after=None)
        async with aclosing(updates):
            statuses = [event.job.status async for event in updates]
        assert statuses[-1] is JobStatus.SUCCESS
        listed = (await client.data(NAMES))["hierarchies"]["nodes"]
        assert {row["name"] for row in listed} == {"Copy", "Garden"}
        await target.attach_generated(2, lambda _: None)
        id = await other_process.write(imports.publish, target.pk)
    other_process.close()
    listed = (await client.data(NAMES))["hierarchies"]["nodes"]
    assert {"id": str(id), "name": "Plants"} in listed


async def run_import_steps(
    database: Database,
    tree: factories.Tree,
    last_step: Callable[[HierarchyImport], Awaitable[None]],
) -> None:
    """Import `tree` with generated products, then run `last_step`."""
    async with importing(database, factories.STORE, "Plants") as target:
        await target.add_nodes(factories.placed_lines(tree))
        await target.attach_generated(3, lambda _: None)
        await last_step(target)


@pytest.mark.parametrize("stopped", [asyncio.CancelledError, ConnectionResetError])
async def test_generated_products_are_removed_with_a_stopped_import(
    database: Database, settings: Settings, stopped: type[BaseException]
) -> None:
    async def stop(_target: HierarchyImport) -> None:
        assert rows(settings.database_url)["product"] > 0
        raise stopped

    with pytest.raises(stopped):
        await run_import_steps(database, factories.wide_tree(20), stop)
    assert rows(settings.database_url) == {}


async def test_a_stopped_import_removes_no_product_of_another_import(
    database: Database, settings: Settings
) -> None:
    garden: factories.Tree = {"Trees": {"Oaks": {}}}
    await factories.hierarchy(database, garden, products={"Oaks": ["oak-1"]})

    async def publish(target: HierarchyImport) -> None:
        await database.write(imports.publish, target.pk)

    await run_import_steps(database, garden, publish)
    before = rows(settings.database_url)

    async def attach_and_stop(target: HierarchyImport) -> None:
        await target.attach([Attachment(node_no=2, sku="oak-1", name="Product oak-1")])
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await run_import_steps(database, garden, attach_and_stop)
    assert rows(settings.database_url) == before


async def test_an_abandoned_import_cannot_be_published(
    database: Database, settings: Settings
) -> None:
    async def publish_too_late(target: HierarchyImport) -> None:
        await database.write(imports.abandon, target.pk)
        await database.write(imports.publish, target.pk)

    with pytest.raises(InvalidInput, match="abandoned"):
        await run_import_steps(database, {"Trees": {}}, publish_too_late)
    assert rows(settings.database_url) == {}


class Piped:
    """A process that imports a file which is still being written."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        fifo = folder / "pipe.jsonl"
        os.mkfifo(fifo)
        self.database_url = settings.database_url
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app", "import", fifo, "--name", "Piped"],
            env={**os.environ, "DATABASE_URL": settings.database_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.file = fifo.open("wb", buffering=0)

    def write_until_a_chunk_is_stored(self) -> None:
        """Write until a chunk is stored: more lines than pipe buffers hold."""
        for no in range(10_000):
            self.file.write(text(line(str(no), slug="s" * 100 + str(no))))
        assert rows(self.database_url)["node"] >= 1_000

    def end(self) -> tuple[str, str, int]:
        """Close the file; return standard output, standard error and exit code."""
        self.file.close()
        out, err = self.process.communicate(timeout=SECONDS)
        return out, err, self.process.returncode


@pytest.fixture
def piped(settings: Settings, tmp_path: Path) -> Iterator[Piped]:
    """An import that waits for more lines."""
    begun = Piped(settings, tmp_path)
    yield begun
    begun.file.close()
    begun.process.kill()
    begun.process.communicate()


@pytest.mark.process
def test_ctrl_c_removes_the_import(piped: Piped) -> None:
    piped.write_until_a_chunk_is_stored()
    piped.process.send_signal(signal.SIGINT)
    assert piped.end() == ("", "Nothing was imported: interrupted.\n", 130)
    assert rows(piped.database_url) == {}


@pytest.mark.process
async def test_rows_of_a_killed_import_are_hidden_and_swept_later(
    piped: Piped, idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    await asyncio.to_thread(piped.write_until_a_chunk_is_stored)
    piped.process.kill()
    piped.process.wait()
    assert (await idle_client.data(NAMES))["hierarchies"]["nodes"] == []
    written = rows(piped.database_url)
    died = datetime.now(UTC)

    for age, left in (
        (ABANDONED_AFTER - timedelta(minutes=5), written),
        (ABANDONED_AFTER + timedelta(minutes=5), {}),
    ):
        later = connect(piped.database_url, clock=lambda _, age=age: died + age)  # type: ignore[misc]
        await Sweeper(later).sweep()
        later.close()
        assert rows(piped.database_url) == left


async def test_generated_products_of_a_killed_import_are_swept_with_it(
    database: Database, settings: Settings
) -> None:
    pk = await database.write(imports.begin, factories.STORE, "Plants")
    await database.write(imports.add_nodes, pk, factories.placed_lines({"Trees": {}}))
    leaves = await database.read(nodes.leaves, pk, 0, 10)
    await database.write(imports.attach_generated, pk, leaves, 3)
    assert rows(settings.database_url)["product"] == 3
    died = datetime.now(UTC)
    later = connect(settings.database_url, clock=lambda _: died + 2 * ABANDONED_AFTER)
    await Sweeper(later).sweep()
    later.close()
    assert rows(settings.database_url) == {}


@pytest.mark.process
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_progress_bar_is_shown_only_on_terminals(
    settings: Settings, tmp_path: Path, is_terminal: bool
) -> None:
    file = tmp_path / "file.jsonl"
    file.write_bytes(text(line("a")))
    ours, theirs = pty.openpty() if is_terminal else os.pipe()
    done = subprocess.run(
        [sys.executable, "-m", "app", "import", file, "--name", "Plants", "--products", "1"],
        env={**os.environ, "DATABASE_URL": settings.database_url, "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=SECONDS,
        check=True,
    )
    os.write(theirs, b"end")
    os.close(theirs)
    shown = b""
    while not shown.endswith(b"end"):
        shown += os.read(ours, 4096)
    os.close(ours)
    assert b"'Plants': 1 nodes, 1 products, store 'default' of " in done.stdout
    assert (b"Reading" in shown) == (b"Products" in shown) == is_terminal
    assert is_terminal or shown == b"end"
