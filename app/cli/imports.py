"""import: a hierarchy from a file of JSON Lines, straight into the database."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

import orjson
import typer
from pydantic import BaseModel, Field, ValidationError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from app.domain.errors import DomainError
from app.domain.hierarchies import ROOT_NO, Locales, Translation
from app.main import Settings, open_database
from app.queue.sweeper import Sweeper
from app.services import imports
from app.services.imports import Attachment, BadLine, Line, Placement
from app.storage import nodes
from app.storage.database import Database, UnsupportedDatabase
from app.storage.scratch import Scratch

T = TypeVar("T")

ROWS = 1_000
"""Rows a transaction: a few milliseconds, so that a running server is not held up."""


class FileProduct(BaseModel):
    """A product as a line may list it."""

    sku: str = Field(min_length=1)
    name: str


class FileLine(BaseModel):
    """A line of the file. Keys that are not named here are passed over."""

    id: str = Field(min_length=1)
    parent: str | None
    level: int | None = None
    slug: str | None = None
    name: dict[str, str]
    description: dict[str, str] = Field(default_factory=dict)
    products: list[FileProduct] = Field(default_factory=list)
    curated: list[str] = Field(default_factory=list)

    def locales(self, language: str) -> Locales:
        """What the line says in other languages than its own."""
        said: dict[str, Translation] = {
            locale: {"name": name} for locale, name in self.name.items() if locale != language
        }
        for locale, description in self.description.items():
            if locale != language:
                said.setdefault(locale, {})["description"] = description
        return said

    def below(self, root_id: str) -> "FileLine":
        """The line as it would stand in a file of what is below `root_id` only."""
        level = None if self.level is None else self.level - 1
        parent = None if self.parent == root_id else self.parent
        return self.model_copy(update={"parent": parent, "level": level})

    def as_node(self, language: str) -> Line:
        """The line as a node with its names and texts in `language`. Raises KeyError without."""
        return Line(
            id=self.id,
            parent=self.parent,
            name=self.name[language],
            slug=self.slug,
            description=self.description.get(language),
            locales=self.locales(language),
            level=self.level,
        )


def read_lines(file: Iterable[bytes], language: str) -> Iterator[tuple[int, FileLine]]:
    """The lines of a file with their numbers, blank ones left out. Raises BadLine."""
    for line_no, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            line = FileLine.model_validate(orjson.loads(text))
        except orjson.JSONDecodeError as error:
            raise BadLine(line_no, f"not JSON ({error.msg} at column {error.colno})") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the line"
            raise BadLine(line_no, f"{place}: {first['msg']}") from None
        if language not in line.name:
            raise BadLine(line_no, f"name: nothing in {language!r}, the language of the names")
        yield line_no, line


class HierarchyImport:
    """A hierarchy on its way in."""

    def __init__(self, database: Database, pk: int) -> None:
        self._database = database
        self.pk = pk

    async def add_nodes(self, placed: Iterable[imports.PlacedLine]) -> int:
        """Write nodes chunk by chunk as they come; how many there were."""
        count = 0
        for chunk in _chunks(placed):
            await self._database.write_bulk(imports.add_nodes, self.pk, chunk)
            count += len(chunk)
        return count

    async def attach(self, attachments: Iterable[Attachment]) -> int:
        """Write associations with products chunk by chunk as they come; how many there were."""
        count = 0
        for chunk in _chunks(attachments):
            await self._database.write_bulk(imports.attach, self.pk, chunk)
            count += len(chunk)
        return count

    async def attach_generated(self, per_leaf: int) -> int:
        """Make `per_leaf` products for each leaf; how many that is."""
        count, after_no = 0, ROOT_NO
        while leaves := await self._database.read(nodes.leaves, self.pk, after_no, ROWS):
            after_no = leaves[-1].node_no
            count += await self.attach(
                Attachment(leaf.node_no, f"{self.pk}-{leaf.node_no}-{i}", f"{leaf.name} {i}")
                for leaf in leaves
                for i in range(1, per_leaf + 1)
            )
        return count


@asynccontextmanager
async def importing(
    database: Database,
    store: str,
    name: str,
    slug: str | None = None,
    description: str | None = None,
    locales: Locales | None = None,
) -> AsyncIterator[HierarchyImport]:
    """A hierarchy to fill: visible when the block ends, gone without a trace when it raises."""
    pk = await database.write(imports.begin, store, name, slug, description, locales)
    try:
        yield HierarchyImport(database, pk)
    except BaseException:
        await database.write(imports.discard, pk)
        await Sweeper(database).sweep()
        raise


def import_(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="JSON Lines.")
    ],
    name: Annotated[str, typer.Option(help="The hierarchy's name.")],
    store: Annotated[str, typer.Option(help="The store it goes to.")] = "default",
    products: Annotated[int, typer.Option(min=0, help="Products to make up for each leaf.")] = 0,
    language: Annotated[str, typer.Option(help="The language of the default names.")] = "en",
    database_url: Annotated[
        str | None, typer.Option(help="The database; by default DATABASE_URL, else the local file.")
    ] = None,
) -> None:
    """Read a hierarchy from FILE. A server may be running on the same database.

    One object a line, parents before children: id, parent (null below the root), slug, name by
    language; level and description by language if there are any.
    """
    settings = Settings() if database_url is None else Settings(database_url=database_url)
    try:
        with file.open("rb") as lines:
            asyncio.run(
                _import(settings, lines, file.stat().st_size, name, store, products, language)
            )
    except (DomainError, UnsupportedDatabase) as error:
        print(f"Nothing was imported: {file}, {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("Nothing was imported: interrupted.", file=sys.stderr)
        raise typer.Exit(130) from None


async def _import(
    settings: Settings,
    lines: BinaryIO,
    size: int,
    name: str,
    store: str,
    products: int,
    language: str,
) -> None:
    database = open_database(settings)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    try:
        with progress, Scratch() as scratch:
            task = progress.add_task("Reading", total=size)
            placement = Placement(scratch)

            def placed() -> Iterator[imports.PlacedLine]:
                for line_no, line in read_lines(lines, language):
                    yield placement.place(line_no, line.as_node(language))
                    if line_no % ROWS == 0:
                        progress.update(task, completed=lines.tell())

            async with importing(database, store, name) as target:
                node_count = await target.add_nodes(placed())
                product_count = await target.attach_generated(products) if products else 0
                id = await database.write(imports.publish, target.pk)
        print(f"{id} {name!r}: {node_count} nodes, {product_count} products, store {store!r}")
    finally:
        database.close()


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, ROWS)):
        yield chunk
