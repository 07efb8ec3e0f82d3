"""Products: create, associate with nodes, curate. Each function runs in one transaction."""

from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

from app.domain.errors import InvalidInput, SomeNotFound
from app.domain.ids import canonical_id, uuid_of
from app.domain.nodes import checked_curation, checked_products
from app.domain.products import NewProduct, checked_new_products
from app.services.hierarchies import begin_node_edit
from app.storage import associations, hierarchies, products
from app.storage.engine.transaction import Transaction
from app.storage.nodes import TreeNode
from app.storage.tables import ProductRow

ProductsChange = Callable[[Transaction, str, UUID, Sequence[str]], TreeNode]
"""`attach` or `detach`."""


def create(tx: Transaction, store: str, new: Sequence[NewProduct]) -> list[ProductRow]:
    """Create all of the products or none. Raises InvalidInput, also for a sku that is taken."""
    checked_new_products(new, "products")
    # In sku order, so that concurrent transactions cannot deadlock.
    ids = {product.sku: uuid4() for product in sorted(new, key=lambda product: product.sku)}
    names = {product.sku: product.name for product in new}
    products.add(
        tx,
        [{"id": id, "store": store, "sku": sku, "name": names[sku]} for sku, id in ids.items()],
    )
    created = products.by_ids(tx, store, ids.values())
    by_sku = {product.sku: product for product in created.values()}
    for index, product in enumerate(new):
        if product.sku not in by_sku:
            reason = f"The sku {product.sku!r} is taken."
            raise InvalidInput(reason, ("products", str(index), "sku"))
    return [by_sku[product.sku] for product in new]


def attach(tx: Transaction, store: str, node_id: UUID, product_ids: Sequence[str]) -> TreeNode:
    """Associate products with a node; existing associations stay.

    Raises NotFound, SomeNotFound with all unknown products, OwnedByOrganization, InvalidInput.
    """
    tree_node, pks = _node_and_products(tx, store, node_id, product_ids)
    attached = associations.attached(tx, tree_node.key, pks)
    if new := [pk for pk in pks if pk not in attached]:
        associations.attach(tx, tree_node.key, new)
        return _count_associations(tx, tree_node, len(new))
    return tree_node


def detach(tx: Transaction, store: str, node_id: UUID, product_ids: Sequence[str]) -> TreeNode:
    """Remove the association of products with a node, and their curation.

    Products without an association are ignored. Raises NotFound, SomeNotFound with all unknown
    products, OwnedByOrganization, InvalidInput.
    """
    tree_node, pks = _node_and_products(tx, store, node_id, product_ids)
    return _count_associations(tx, tree_node, -associations.detach(tx, tree_node.key, pks))


def curate(tx: Transaction, tree_node: TreeNode, product_ids: Sequence[str]) -> None:
    """Replace the curated products of a node: they lead its product list, in this order.

    Raises InvalidInput with all products that are not attached to the node.
    """
    product_ids = checked_curation([canonical_id(id) for id in product_ids], "curated_product_ids")
    pks = _pks(tx, tree_node.hierarchy.store, product_ids)
    attached = associations.attached(tx, tree_node.key, list(pks.values()))
    if missing := [id for id in product_ids if pks.get(id) not in attached]:
        reason = f"Not attached to the node: {', '.join(missing)}."
        raise InvalidInput(reason, ("curated_product_ids",))
    associations.curate(tx, tree_node.key, [pks[id] for id in product_ids])


def _count_associations(tx: Transaction, tree_node: TreeNode, added: int) -> TreeNode:
    """Add `added` to the number of the hierarchy's associations."""
    node, hierarchy = tree_node
    count = hierarchy.association_count + added
    return TreeNode(node, hierarchies.update(tx, hierarchy.pk, association_count=count))


def _node_and_products(
    tx: Transaction, store: str, node_id: UUID, product_ids: Sequence[str]
) -> tuple[TreeNode, list[int]]:
    ids = checked_products([canonical_id(id) for id in product_ids], "product_ids")
    tree_node = begin_node_edit(tx, store, node_id)
    pks = _pks(tx, store, ids)
    if missing := [id for id in ids if id not in pks]:
        raise SomeNotFound("product", missing, ("product_ids",))
    return tree_node, list(pks.values())


def _pks(tx: Transaction, store: str, ids: Sequence[str]) -> dict[str, int]:
    """Look up the keys of products by id; unknown ids are left out."""
    uuids = {id: uuid for id in ids if (uuid := uuid_of(id))}
    by_uuid = products.by_ids(tx, store, uuids.values())
    known = ((id, by_uuid.get(uuid)) for id, uuid in uuids.items())
    return {id: product.pk for id, product in known if product}
