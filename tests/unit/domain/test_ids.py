from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import NotFound
from app.domain.ids import require_uuid, uuid_of


@given(st.uuids())
def test_an_id_stands_for_its_uuid_in_any_case(id: UUID) -> None:
    for spelled in (str(id), str(id).upper(), id.hex, id.hex.upper(), f"urn:uuid:{id}"):
        assert uuid_of(spelled) == id
        assert require_uuid("node", spelled, "node_id") == id


ONE = UUID(int=1)


@pytest.mark.parametrize(
    "id",
    [
        *("", "x", "0", "garden", f"{ONE}0", str(ONE)[:-1]),
        # Python's UUID takes these.
        *(f"{{{ONE}}}", f" {ONE.hex[1:]}", f"+{ONE.hex[1:]}", f"0_{ONE.hex[2:]}"),
        *(f"{ONE.hex[:8]}-{ONE.hex[8:]}", f"-{ONE}", f"{ONE}\n", "\u0661" * 32),
    ],
)
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
