import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidInput
from app.domain.hierarchies import Owner
from app.domain.stores import ORGANIZATION, checked_store, owner_of, readable_by


@pytest.mark.parametrize("name", ["default", "a", "Blumen & Söhne", "shop@home", "花" * 255])
def test_printable_text_is_a_store_name(name: str) -> None:
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
def test_any_other_text_is_refused_naming_the_field(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_store(name, "store")
    assert refused.value.path == ("store",)


@given(st.text(max_size=300))
def test_no_store_is_mistaken_for_the_organization(name: str) -> None:
    try:
        store = checked_store(name)
    except InvalidInput:
        return
    assert owner_of(store) is Owner.STORE
    assert readable_by(store) == (store, ORGANIZATION)


def test_the_organization_reads_only_its_own() -> None:
    assert readable_by(ORGANIZATION) == (ORGANIZATION,)
    assert owner_of(ORGANIZATION) is Owner.ORGANIZATION
