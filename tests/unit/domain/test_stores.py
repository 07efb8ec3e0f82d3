import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidInput
from app.domain.hierarchies import Owner
from app.domain.stores import ORGANIZATION, checked_store, owner_of, readable_by


@pytest.mark.parametrize("name", ["default", "a", "Blumen & Söhne", "shop@home", "花" * 255])
def test_printable_text_makes_the_name_of_a_store(name: str) -> None:
    assert checked_store(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        " a",
        "a ",
        "a\n",
        "a\0b",
        "a\x7f",
        "a\u00a0",
        "a\u2028b",
        "a\u200bb",
        "\ud800",
        "x" * 256,
        "@",
        "@a",
        ORGANIZATION,
    ],
)
def test_anything_else_makes_none_and_the_place_of_the_fault_is_told(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_store(name, "store")
    assert refused.value.path == ("store",)


@given(st.text(max_size=300))
def test_no_store_is_taken_for_the_organization(name: str) -> None:
    try:
        store = checked_store(name)
    except InvalidInput:
        return
    assert owner_of(store) is Owner.STORE
    assert readable_by(store) == (store, ORGANIZATION)


def test_the_organization_reads_its_own_and_nothing_else() -> None:
    assert readable_by(ORGANIZATION) == (ORGANIZATION,)
    assert owner_of(ORGANIZATION) is Owner.ORGANIZATION
