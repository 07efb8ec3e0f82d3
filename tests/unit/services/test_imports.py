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
def test_a_line_is_placed_exactly_if_its_parent_exists_and_nothing_conflicts(
    file: list[Line],
) -> None:
    placed: list[Line] = []
    with ImportScratch() as scratch:
        placement = Placement(scratch)
        for line_no, line in enumerate(file, 1):
            siblings = [earlier for earlier in placed if earlier.parent == line.parent]
            fits = (
                (line.parent is None or any(earlier.id == line.parent for earlier in placed))
                and all(earlier.id != line.id for earlier in placed)
                and all(earlier.name != line.name for earlier in siblings)
                and (line.slug is None or all(earlier.slug != line.slug for earlier in siblings))
            )
            if not fits:
                with pytest.raises(BadLine) as refused:
                    placement.place(line_no, line)
                assert refused.value.line_no == line_no
                return
            position = placement.place(line_no, line)
            assert position.node_no == line_no
            placed.append(line)


def test_depth_and_parent_follow_the_file(placement: Placement) -> None:
    a = placement.place(1, Line("a", None, "A"))
    b = placement.place(2, Line("b", "a", "B"))
    c = placement.place(3, Line("c", "b", "C"))
    assert [(p.parent_no, p.depth) for p in (a, b, c)] == [(0, 1), (1, 2), (2, 3)]


def test_a_line_deeper_than_the_limit_is_refused() -> None:
    with ImportScratch() as scratch:
        placement = Placement(scratch, max_depth=2)
        placement.place(1, Line("a", None, "A"))
        placement.place(2, Line("b", "a", "B"))
        with pytest.raises(BadLine, match=r"line 3: parent: .* 3 levels .* at most 2"):
            placement.place(3, Line("c", "b", "C"))


def test_a_level_that_is_not_below_the_parents_is_refused(placement: Placement) -> None:
    placement.place(1, Line("a", None, "A", level=0))
    with pytest.raises(BadLine, match=r"line 2: level is 3, but its parent makes it 1"):
        placement.place(2, Line("b", "a", "B", level=3))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (Line("a", None, "A", slug=" "), "slug: The slug can not be empty."),
        (Line("a", None, "A", slug="s" * 1001), "slug: The slug has 1001 characters"),
        (Line("a", None, "A", description="\0"), "description: A text cannot have a NUL"),
        (Line("a", None, "A", locales={"fr": {"description": "\0"}}), "description.fr: A text"),
        (Line("a", None, "A", locales={"fr_FR": {"description": "a"}}), "description: 'fr_FR' is"),
        (
            Line("a", None, "A", locales={"fr": {"name": "a"}, "FR": {"name": "a"}}),
            "name: The locale FR is there more than once.",
        ),
        (
            Line("a", None, "A", locales={f"fr-{no:03}": {"name": "a"} for no in range(101)}),
            "name: There are 101 translations; at most 100 are allowed.",
        ),
    ],
)
def test_an_attribute_that_breaks_a_rule_is_named_as_the_line_has_it(
    placement: Placement, line: Line, message: str
) -> None:
    with pytest.raises(BadLine) as refused:
        placement.place(7, line)
    assert str(refused.value).startswith(f"line 7: {message}")


def test_a_valid_line_has_the_attributes_that_a_node_is_created_with(placement: Placement) -> None:
    placed = placement.place(1, Line("a", None, "A", slug="a", description=""))
    assert placed.attributes == {"name": "A", "slug": "a", "description": None, "locales": {}}
