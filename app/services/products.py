"""Products: made, and associated with nodes. Each function is one transaction's work."""

from collections.abc import Sequence
from uuid import UUID, uuid4

from sqlmodel import Session

from app.domain.errors import InvalidInput, SomeNotFound
from app.domain.ids import canonical, uuid_of
from app.domain.nodes import checked_curation, checked_products
from app.domain.products import NewProduct, checked_new
from app.services.hierarchies import begin_node_edit
from app.storage import products
from app.storage.nodes import TreeNode
from app.storage.tables import Product


def create(session: Session, store: str, new: Sequence[NewProduct]) -> list[Product]:
    """New products, all of them or none. Raises InvalidInput, also for a sku that is taken."""
    checked_new(new, "products")
    # In one order, so that two who create at once never wait for each other.
    ids = {product.sku: uuid4() for product in sorted(new, key=lambda product: product.sku)}
    names = {product.sku: product.name for product in new}
    products.add(
        session,
        [{"id": id, "store": store, "sku": sku, "name": names[sku]} for sku, id in ids.items()],
    )
    made = products.by_ids(session, store, ids.values())
    by_sku = {product.sku: product for product in made.values()}
    for place, product in enumerate(new):
        if product.sku not in by_sku:
            reason = f"The sku {product.sku!r} is taken."
            raise InvalidInput(reason, ("products", str(place), "sku"))
    return [by_sku[product.sku] for product in new]


def attach(session: Session, store: str, node_id: UUID, product_ids: Sequence[str]) -> TreeNode:
    """Associate products with a node; those that are already stay so.

    Raises NotFound, also naming all products that are unknown, Forbidden, InvalidInput.
    """
    found, pks = _node_and_products(session, store, node_id, product_ids)
    attached = products.attached(session, found.key, pks)
    if new := [pk for pk in pks if pk not in attached]:
        products.attach(session, found.key, new)
        found.hierarchy.association_count += len(new)
    return found


def detach(session: Session, store: str, node_id: UUID, product_ids: Sequence[str]) -> TreeNode:
    """End the association of products with a node, and their curation; those that have none stay
    as they are.

    Raises NotFound, also naming all products that are unknown, Forbidden, InvalidInput.
    """
    found, pks = _node_and_products(session, store, node_id, product_ids)
    found.hierarchy.association_count -= products.detach(session, found.key, pks)
    return found


def curate(session: Session, found: TreeNode, product_ids: Sequence[str]) -> None:
    """Let these of the node's products lead its list, in this order, and no others.

    Raises InvalidInput, naming all that are not attached.
    """
    path = "curatedProductIds"
    product_ids = checked_curation([canonical(id) for id in product_ids], path)
    pks = _pks(session, found.hierarchy.store, product_ids)
    attached = products.attached(session, found.key, list(pks.values()))
    if missing := [id for id in product_ids if pks.get(id) not in attached]:
        raise InvalidInput(f"Not attached to the node: {', '.join(missing)}.", (path,))
    products.curate(session, found.key, [pks[id] for id in product_ids])


def _node_and_products(
    session: Session, store: str, node_id: UUID, product_ids: Sequence[str]
) -> tuple[TreeNode, list[int]]:
    ids = checked_products([canonical(id) for id in product_ids], "productIds")
    found = begin_node_edit(session, store, node_id)
    pks = _pks(session, store, ids)
    if missing := [id for id in ids if id not in pks]:
        raise SomeNotFound("product", missing, ("productIds",))
    return found, list(pks.values())


def _pks(session: Session, store: str, ids: Sequence[str]) -> dict[str, int]:
    """The keys of the products among these ids."""
    uuids = {id: uuid for id in ids if (uuid := uuid_of(id))}
    known = products.by_ids(session, store, uuids.values())
    found = ((id, known.get(uuid)) for id, uuid in uuids.items())
    return {id: product.pk for id, product in found if product and product.pk is not None}
