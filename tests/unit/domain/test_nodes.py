import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidInput
from app.domain.nodes import (
    MAX_CURATED,
    MAX_PRODUCTS,
    checked_curated_position,
    checked_curation,
    checked_products,
    checked_sort_order,
)

IDS = [f"{number}" for number in range(MAX_PRODUCTS + 1)]


@given(st.none() | st.integers(-(2**31), 2**31 - 1))
def test_a_sort_order_is_unset_or_a_number_of_32_bits(order: int | None) -> None:
    assert checked_sort_order(order, "sort_order") == order


@given(st.integers(max_value=-(2**31) - 1) | st.integers(min_value=2**31))
def test_no_other_number_is_a_sort_order(order: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_sort_order(order, "meta", "sort_order")
    assert refused.value.path == ("meta", "sort_order")
    assert str(-(2**31)) in str(refused.value)


@pytest.mark.parametrize("count", [0, 1, MAX_CURATED])
def test_up_to_20_products_are_curated_in_their_order(count: int) -> None:
    ids = IDS[count - 1 :: -1] if count else []
    assert list(checked_curation(ids, "curated_product_ids")) == ids
    assert len(ids) == count


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (IDS[: MAX_CURATED + 1], "at most 20"),
        (["a"] * (MAX_CURATED + 1), "at most 20"),
        (["a", "b", "a"], "once only"),
    ],
)
def test_more_or_repeated_products_cannot_be_curated(ids: list[str], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as refused:
        checked_curation(ids, "curated_product_ids")
    assert refused.value.path == ("curated_product_ids",)


def test_a_curated_position_is_unset_or_from_1_to_20() -> None:
    for position in (None, 1, MAX_CURATED):
        assert checked_curated_position(position, "x") == position
    for position in (0, -1, MAX_CURATED + 1):
        with pytest.raises(InvalidInput, match="from 1 to 20") as refused:
            checked_curated_position(position, "x")
        assert refused.value.path == ("x",)


@given(st.lists(st.sampled_from(IDS), min_size=1, max_size=50))
def test_products_to_attach_are_deduplicated_in_their_order(ids: list[str]) -> None:
    taken = checked_products(ids, "product_ids")
    assert set(taken) == set(ids)
    assert len(taken) == len(set(ids))
    assert sorted(taken, key=ids.index) == taken


@pytest.mark.parametrize("count", [1, MAX_PRODUCTS])
def test_1_to_1000_products_are_attached_at_a_time(count: int) -> None:
    assert checked_products(IDS[:count]) == IDS[:count]


@pytest.mark.parametrize("ids", [[], IDS, ["a"] * len(IDS)], ids=["none", "many", "repeated"])
def test_none_or_too_many_products_are_refused_even_if_repeated(ids: list[str]) -> None:
    with pytest.raises(InvalidInput, match=f"{len(ids)} products are named") as refused:
        checked_products(ids, "product_ids")
    assert refused.value.path == ("product_ids",)
