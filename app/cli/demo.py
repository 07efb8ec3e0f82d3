"""Demo data: three hierarchies with translations, products and curation."""

from collections.abc import Iterator
from importlib.resources import files
from uuid import UUID

from app.cli.imports import FileLine, importing, read_lines
from app.domain.filters import Condition, Operator
from app.domain.stores import owner_of
from app.services import imports
from app.services.imports import Attachment
from app.services.placement import PlacedLine, Placement
from app.storage import hierarchies
from app.storage.engine.database import Database
from app.storage.import_scratch import ImportScratch

LANGUAGE = "en"


async def fill(database: Database, store: str) -> list[UUID]:
    """Add the demo hierarchies to a store without hierarchies. Return their ids, or []."""
    own = [Condition("owner", Operator.EQ, [owner_of(store)])]
    if await database.read(hierarchies.count, store, own):
        return []
    return [await _add(database, store, root, lines) for root, lines in _trees()]


async def _add(
    database: Database, store: str, root: FileLine, lines: list[tuple[int, FileLine]]
) -> UUID:
    node_nos: dict[str, int] = {}
    with ImportScratch() as scratch:
        placement = Placement(scratch)

        def placed_lines() -> Iterator[PlacedLine]:
            for line_no, line in lines:
                placed = placement.place(line_no, line.as_node(LANGUAGE))
                node_nos[line.id] = placed.node_no
                yield placed

        async with importing(
            database,
            store,
            root.name[LANGUAGE],
            root.slug,
            root.description.get(LANGUAGE),
            root.locales(LANGUAGE),
        ) as target:
            await target.add_nodes(placed_lines())
            await target.attach(
                Attachment(
                    node_nos[line.id],
                    product.sku,
                    product.name,
                    line.curated.index(product.sku) + 1 if product.sku in line.curated else None,
                )
                for _, line in lines
                for product in line.products
            )
            return await database.write(imports.publish, target.pk)


def _trees() -> Iterator[tuple[FileLine, list[tuple[int, FileLine]]]]:
    """Yield each root of the file, and the lines below it as lines of a file of their own."""
    text = files("app.cli").joinpath("demo.jsonl").read_bytes()
    lines = list(read_lines(text.splitlines(), LANGUAGE))
    for _, root in lines:
        if root.parent is None:
            below = [
                (line_no, line.below(root.id))
                for line_no, line in lines
                if line.id.startswith(f"{root.id}-")
            ]
            yield root, below
