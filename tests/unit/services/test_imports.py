from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services.placement import BadLine, Line, Placement
from app.storage.import_scratch import ImportScratch


@pytest.fixture
def placement() -> Iterator[Placement]:
    with ImportScratch() as scratch:
        yield Placement(scratch)


ids = st.sampled_from("abcde")
lines = st.builds(
    Line,
    id=ids,
    parent=st.none() | ids,
    name=st.sampled_from(["x", "y", "z"]),
    slug=st.none() | st.sampled_from(["p", "q"]),
)


@given(st.lists(lines, max_size=12))
def test_a_line_is_placed_exactly_when_its_parent_is_known_and_nothing_is_taken(
    file: list[Line],
) -> None:
    placed: list[Line] = []
    with ImportScratch() as scratch:
        placement = Placement(scratch)
        for line_no, line in enumerate(file, 1):
            siblings = [other for other in placed if other.parent == line.parent]
            fits = (
                (line.parent is None or any(other.id == line.parent for other in placed))
                and all(other.id != line.id for other in placed)
                and all(other.name != line.name for other in siblings)
                and (line.slug is None or all(other.slug != line.slug for other in siblings))
            )
            if not fits:
                with pytest.raises(BadLine) as refused:
                    placement.place(line_no, line)
                assert refused.value.line_no == line_no
                return
            place = placement.place(line_no, line)
            assert place.node_no == line_no
            placed.append(line)


def test_depth_and_parent_follow_the_file(placement: Placement) -> None:
    a = placement.place(1, Line("a", None, "A"))
    b = placement.place(2, Line("b", "a", "B"))
    c = placement.place(3, Line("c", "b", "C"))
    assert [(p.parent_no, p.depth) for p in (a, b, c)] == [(0, 1), (1, 2), (2, 3)]


def test_a_level_that_is_not_below_the_parents_is_refused(placement: Placement) -> None:
    placement.place(1, Line("a", None, "A", level=0))
    with pytest.raises(BadLine, match=r"line 2: level is 3, but its parent makes it 1"):
        placement.place(2, Line("b", "a", "B", level=3))
