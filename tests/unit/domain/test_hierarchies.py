from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.domain.hierarchies import (
    LAST_NODE_NO,
    ROOT_NO,
    NodeRef,
    new_hierarchy_id,
    node_id,
    node_ref,
)


@given(st.integers(ROOT_NO, LAST_NODE_NO))
def test_a_node_id_leads_back_to_its_hierarchy_and_number(node_no: int) -> None:
    hierarchy_id = new_hierarchy_id()
    assert node_ref(node_id(hierarchy_id, node_no)) == NodeRef(hierarchy_id, node_no)


def test_the_id_of_a_hierarchy_is_that_of_its_root() -> None:
    hierarchy_id = new_hierarchy_id()
    assert node_id(hierarchy_id, ROOT_NO) == hierarchy_id


def test_hierarchy_ids_differ_and_are_random_uuids() -> None:
    ids = {new_hierarchy_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert {id.version for id in ids} == {4}


@given(st.uuids())
def test_any_uuid_splits_into_hierarchy_and_number(id: UUID) -> None:
    ref = node_ref(id)
    assert node_id(ref.hierarchy_id, ref.node_no) == id
