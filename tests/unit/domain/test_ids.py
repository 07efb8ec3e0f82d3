from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import NotFound
from app.domain.ids import require_uuid, uuid_of


@given(st.uuids())
def test_an_id_stands_for_its_uuid_in_any_case(id: UUID) -> None:
    for spelled in (str(id), str(id).upper()):
        assert uuid_of(spelled) == id
        assert require_uuid("node", spelled, "node_id") == id


@pytest.mark.parametrize("id", ["", "x", "0", "garden", f"{UUID(int=1)}0", str(UUID(int=1))[:-1]])
def test_any_other_id_is_not_found_naming_the_field(id: str) -> None:
    assert uuid_of(id) is None
    with pytest.raises(NotFound) as refused:
        require_uuid("node", id, "input", "node_id")
    assert refused.value.path == ("input", "node_id")
    assert str(refused.value) == f"No node has the id {id}."


@given(st.text())
def test_any_text_is_a_uuid_or_none(id: str) -> None:
    uuid = uuid_of(id)
    assert uuid is None or isinstance(uuid, UUID)
