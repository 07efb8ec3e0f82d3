"""Hierarchies of any size, written by SQL directly into the gateway's tables.

An import of a million nodes would take a minute before each measurement.
"""

from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col

from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.tables import Hierarchy
from tests import factories

DEPTH = 8
CHILDREN = 3
PRODUCTS = 100_000
CURATED = 3
LOCALES = {"de-DE": {"name": "Gartenmöbel", "description": "Alles für draußen."}}

_POSTGRESQL_FUNCTIONS = {
    "json_object": "json_build_object",
    "lower(hex(randomblob(16)))": "gen_random_uuid()",
}

# Nodes are numbered as by an import: each directly before its descendants. All subtrees of a level
# have the same size, so a node's number follows from its parent's, and the nodes up to any number
# are a tree.
_NODES = """
WITH RECURSIVE
    tops(place) AS (SELECT 0 UNION ALL SELECT place + 1 FROM tops WHERE place < :tops - 1),
    places(place) AS (SELECT 0 UNION ALL SELECT place + 1 FROM places WHERE place < :children - 1),
    tree(node_no, parent_no, depth, size) AS (
        SELECT 1 + place * :size, 0, 1, CAST(:size AS integer) FROM tops
        UNION ALL
        SELECT node_no + 1 + place * ((size - 1) / :children), node_no, depth + 1,
            (size - 1) / :children
        FROM tree, places WHERE size > 1
    ),
    words(word_no, en, de) AS (VALUES
        (0, 'Garden Furniture', 'Gartenmöbel'), (1, 'Bird Supplies', 'Vogelbedarf'),
        (2, 'Cages and Stands', 'Käfige und Ständer'), (3, 'Power Tools', 'Elektrowerkzeuge'),
        (4, 'Irrigation', 'Bewässerung'), (5, 'Outdoor Lighting', 'Außenbeleuchtung'),
        (6, 'Lawn Mowers', 'Rasenmäher'), (7, 'Seeds', 'Saatgut')
    )
INSERT INTO node (
    hierarchy_pk, node_no, parent_no, depth, name, slug, description, sort_order, touched,
    locales, created_at, updated_at
)
SELECT :pk, node_no, parent_no, depth, en || ' ' || node_no,
    lower(replace(en, ' ', '-')) || '-' || node_no,
    CASE WHEN node_no % 4 = 0 THEN 'All that belongs to ' || en || ', from many makers.' END,
    CASE WHEN node_no % 3 = 0 THEN node_no % 10 ELSE -2147483649 END, -node_no,
    json_object('de-DE', json_object('name', de || ' ' || node_no)), created_at, created_at
FROM tree JOIN words ON word_no = node_no % 8 JOIN hierarchy ON hierarchy.pk = :pk
WHERE node_no <= :nodes ORDER BY node_no
"""

_PRODUCTS = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :products)
INSERT INTO product (id, store, sku, name)
SELECT lower(hex(randomblob(16))), :store, 'SKU-' || n, 'Product ' || n FROM numbers ORDER BY n
"""

_ASSOCIATIONS = """
WITH RECURSIVE places(place) AS (
    SELECT 0 UNION ALL SELECT place + 1 FROM places WHERE place < :per_node - 1
)
INSERT INTO node_product (hierarchy_pk, node_no, product_pk, curated_position)
SELECT :pk, node_no, 1 + (node_no * 7919 + place * 104729) % :products,
    CASE WHEN place < :curated THEN place + 1 END
FROM node, places WHERE hierarchy_pk = :pk ORDER BY 2, 3
"""

_REVERSE = """
INSERT INTO product_node (hierarchy_pk, product_pk, node_no)
SELECT hierarchy_pk, product_pk, node_no FROM node_product WHERE hierarchy_pk = :pk ORDER BY 2, 3
"""


async def large_hierarchy(
    database: Database, nodes: int, products_per_node: int, products: int = PRODUCTS
) -> UUID:
    """Create a visible hierarchy of `nodes` nodes on eight levels. Return its id."""
    id = await factories.hierarchy(database, {}, name="Catalogue", locales=LOCALES)
    await database.write(_fill, id, nodes, products_per_node, products)
    return id


def _fill(tx: Transaction, id: UUID, nodes: int, products_per_node: int, products: int) -> None:
    [(pk,)] = tx.rows(sa.select(col(Hierarchy.pk)).where(col(Hierarchy.id) == id))
    size = (CHILDREN**DEPTH - 1) // (CHILDREN - 1)
    values = {
        "pk": pk,
        "nodes": nodes,
        "tops": -(-nodes // size),
        "children": CHILDREN,
        "size": size,
        "products": products,
        "store": factories.STORE,
        "per_node": products_per_node,
        "curated": CURATED,
    }
    for statement in (_NODES, _PRODUCTS, _ASSOCIATIONS, _REVERSE):
        if tx.dialect.name == "postgresql":
            for sqlite_function, function in _POSTGRESQL_FUNCTIONS.items():
                statement = statement.replace(sqlite_function, function)
        tx.changed(sa.text(statement), values)
    tx.changed(
        sa.update(Hierarchy)
        .where(col(Hierarchy.pk) == pk)
        .values(node_count=nodes, last_node_no=nodes, association_count=nodes * products_per_node)
    )
