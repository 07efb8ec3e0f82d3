"""import: a hierarchy from a JSON Lines file, directly into the database."""

import asyncio
import sys
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

import orjson
import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from rich.progress import Progress, TaskID

from app.cli.flags import option, read_settings
from app.cli.streams import is_terminal, print_line, print_notice
from app.domain.attributes import Translation, Translations
from app.domain.errors import DomainError, InvalidInput
from app.domain.hierarchies import ROOT_NO
from app.domain.stores import ORGANIZATION
from app.queue.sweeper import Sweeper
from app.services import imports
from app.services.imports import Attachment
from app.services.placement import BadLine, Line, PlacedLine, Placement
from app.settings import Settings
from app.storage import nodes
from app.storage.engine.database import (
    Database,
    DatabaseUnavailable,
    StorageFull,
    UnusableDatabase,
)
from app.storage.import_scratch import ImportScratch
from app.wiring import open_database

T = TypeVar("T")

ROWS_PER_TRANSACTION = 1_000
"""1,000 rows take a few milliseconds, so that a running server can write in between."""


MAX_LINE_BYTES = 1024**2
"""Max size of a line: more than a node with 100 translations needs."""


class FileProduct(BaseModel):
    """A product of a line."""

    sku: str = Field(min_length=1)
    name: str


class FileLine(BaseModel):
    """A line of the file. Unknown keys are ignored."""

    model_config = ConfigDict(strict=True)

    id: str = Field(min_length=1)
    parent: str | None
    level: int | None = None
    slug: str | None = None
    name: dict[str, str]
    description: dict[str, str] = Field(default_factory=dict)
    products: list[FileProduct] = Field(default_factory=list)
    curated: list[str] = Field(default_factory=list)

    def locales(self, language: str) -> Translations:
        """Return the translations: names and descriptions in languages other than `language`."""
        translations: dict[str, Translation] = {
            locale: {"name": name} for locale, name in self.name.items() if locale != language
        }
        for locale, description in self.description.items():
            if locale != language:
                translations.setdefault(locale, {})["description"] = description
        return translations

    def below(self, root_id: str) -> "FileLine":
        """Return the line as a line of a file with the descendants of `root_id` only."""
        level = None if self.level is None else self.level - 1
        parent = None if self.parent == root_id else self.parent
        return self.model_copy(update={"parent": parent, "level": level})

    def as_node(self, language: str) -> Line:
        """Return the line as a node named in `language`. Raises KeyError without such a name."""
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
    """Yield a file's lines with their numbers, except blank lines. Raises BadLine."""
    for line_no, text in enumerate(file, 1):
        if len(text) > MAX_LINE_BYTES:
            raise BadLine(line_no, f"longer than {MAX_LINE_BYTES:,} bytes")
        if line_no == 1:
            text = text.removeprefix(BOM_UTF8)
        if not text.strip():
            continue
        try:
            line = FileLine.model_validate(orjson.loads(text))
        except orjson.JSONDecodeError as error:
            raise BadLine(line_no, f"not JSON ({error.msg} at column {error.colno})") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if not first["loc"]:
                raise BadLine(line_no, "not a JSON object") from None
            raise BadLine(line_no, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        if language not in line.name:
            raise BadLine(line_no, f"name: no name in {language!r}, the default language")
        yield line_no, line


class HierarchyImport:
    """A hierarchy during its import."""

    def __init__(self, database: Database, pk: int) -> None:
        self._database = database
        self.pk = pk

    async def add_nodes(self, placed: Iterable[PlacedLine]) -> int:
        """Write nodes in chunks. Return their count."""
        count = 0
        for chunk in _chunks(placed):
            await self._database.write_bulk(imports.add_nodes, self.pk, chunk)
            count += len(chunk)
        return count

    async def attach(self, attachments: Iterable[Attachment]) -> int:
        """Write product associations in chunks. Return their count."""
        count = 0
        for chunk in _chunks(attachments):
            await self._database.write_bulk(imports.attach, self.pk, chunk)
            count += len(chunk)
        return count

    async def attach_generated(self, per_leaf: int, report: Callable[[int], None]) -> int:
        """Generate `per_leaf` products per leaf. Return their count.

        Calls `report` with the number of nodes processed so far.
        """
        count, after_no = 0, ROOT_NO
        leaves_at_once = max(1, ROWS_PER_TRANSACTION // per_leaf)
        while leaves := await self._database.read(nodes.leaves, self.pk, after_no, leaves_at_once):
            await self._database.write_bulk(imports.attach_generated, self.pk, leaves, per_leaf)
            count += len(leaves) * per_leaf
            after_no = leaves[-1].node_no
            report(after_no)
        return count


@asynccontextmanager
async def importing(
    database: Database,
    store: str,
    name: str,
    slug: str | None = None,
    description: str | None = None,
    locales: Translations | None = None,
) -> AsyncIterator[HierarchyImport]:
    """Create a hierarchy: visible once the block ends, removed if it raises."""
    pk = await database.write(imports.begin, store, name, slug, description, locales)
    try:
        yield HierarchyImport(database, pk)
    except BaseException:
        await database.write(imports.abandon, pk)
        await Sweeper(database).sweep()
        raise


def import_(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="JSON Lines file.")
    ],
    name: Annotated[str, typer.Option(help="Name of the hierarchy.")],
    store: Annotated[
        str | None, typer.Option(help="Store to import into. [JOBS_GATEWAY_STORE, default]")
    ] = None,
    organization: Annotated[
        bool,
        typer.Option(
            "--organization",
            help="Import for the organization: all stores can read it. Excludes --store.",
        ),
    ] = False,
    products: Annotated[int, typer.Option(min=0, help="Products to generate per leaf.")] = 0,
    language: Annotated[str, typer.Option(help="Language of the default names.")] = "en",
    database_url: Annotated[str | None, option("database_url")] = None,
) -> None:
    """Import a hierarchy from FILE. A server may run on the same database.

    One JSON object per line, parents before children, with id, parent (null below the root), slug,
    and name by language; level and description by language are optional.
    """
    if organization and store is not None:
        raise typer.BadParameter("use --store or --organization, not both", param_hint="--store")
    settings = read_settings(store=store, database_url=database_url)
    try:
        target = ORGANIZATION if organization else settings.store
        with file.open("rb") as lines:
            size = file.stat().st_size
            asyncio.run(_import(settings, target, lines, size, name, products, language))
    except (DomainError, UnusableDatabase, DatabaseUnavailable, StorageFull) as error:
        source = f"{file}, " if isinstance(error, BadLine) else ""
        print_notice(f"Nothing was imported: {source}{error}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print_notice("Nothing was imported: interrupted.")
        raise typer.Exit(130) from None


async def _import(
    settings: Settings,
    store: str,
    lines: BinaryIO,
    size: int,
    name: str,
    products: int,
    language: str,
) -> None:
    progress = Progress(
        console=Console(stderr=True), disable=not is_terminal(sys.stderr), transient=True
    )
    database = open_database(settings)
    try:
        with progress, ImportScratch() as scratch:
            placement = Placement(scratch, settings.max_tree_depth)
            # A pipe has no size.
            reading = progress.add_task("Reading", total=size or None)

            def placed_lines() -> Iterator[PlacedLine]:
                for line_no, line in read_lines(_with_progress(lines, progress, reading), language):
                    yield placement.place(line_no, line.as_node(language))

            async with importing(database, store, name) as target:
                node_count = await target.add_nodes(placed_lines())
                if not node_count:
                    raise InvalidInput("the file is empty.")
                product_count = 0
                if products:
                    task = progress.add_task("Products", total=node_count)
                    product_count = await target.attach_generated(
                        products, lambda node_no: progress.update(task, completed=node_no)
                    )
                id = await database.write(imports.publish, target.pk)
        owner = "the organization" if store == ORGANIZATION else f"store {store!r}"
        print_line(
            f"{id} {name!r}: {node_count} nodes, {product_count} products,"
            f" {owner} of {database.name}"
        )
    finally:
        database.close()


def _with_progress(file: BinaryIO, progress: Progress, task: TaskID) -> Iterator[bytes]:
    """Yield the lines, and advance the progress bar by their bytes.

    Of a line above MAX_LINE_BYTES, only one byte more is read.
    """
    while line := file.readline(MAX_LINE_BYTES + 1):
        progress.advance(task, len(line))
        yield line


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, ROWS_PER_TRANSACTION)):
        yield chunk
