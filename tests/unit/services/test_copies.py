import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.services.copies import Copy, CopyPhase

numbers = st.integers(0, 2**62)
copies = st.builds(
    Copy,
    copy_pk=numbers,
    source_pk=numbers,
    revision=numbers,
    phase=st.sampled_from(CopyPhase),
    after=st.none() | st.tuples(numbers) | st.tuples(numbers, numbers),
    nodes=numbers,
    associations=numbers,
    reverse=numbers,
    total=numbers,
    restarts=st.integers(0, 3),
)


@given(copies)
def test_a_copy_is_restored_from_its_checkpoint(copy: Copy) -> None:
    assert Copy.from_checkpoint(orjson.loads(orjson.dumps(copy.as_checkpoint()))) == copy


def test_an_association_counts_once_it_is_copied_in_both_directions() -> None:
    assert Copy(1, 2, 0, nodes=5, associations=10, reverse=4).completed == 12
    assert Copy(1, 2, 0, nodes=5, associations=10, reverse=10).completed == 15
