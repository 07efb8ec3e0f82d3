from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.attributes import NAME_LIMIT, checked_locale, checked_name, translation
from app.domain.errors import InvalidInput
from app.domain.hierarchies import LAST_NODE_NO, ROOT_NO, Place, new_hierarchy_id, node_id, place_of


@given(st.integers(ROOT_NO, LAST_NODE_NO))
def test_a_node_id_leads_back_to_its_hierarchy_and_number(node_no: int) -> None:
    hierarchy_id = new_hierarchy_id()
    assert place_of(node_id(hierarchy_id, node_no)) == Place(hierarchy_id, node_no)


def test_the_id_of_a_hierarchy_is_that_of_its_root() -> None:
    hierarchy_id = new_hierarchy_id()
    assert node_id(hierarchy_id, ROOT_NO) == hierarchy_id


def test_hierarchy_ids_differ_and_are_random_uuids() -> None:
    ids = {new_hierarchy_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert {id.version for id in ids} == {4}


@given(st.uuids())
def test_any_uuid_can_be_taken_apart(id: UUID) -> None:
    place = place_of(id)
    assert node_id(place.hierarchy_id, place.node_no) == id


@pytest.mark.parametrize("name", ["x", " x ", "x" * NAME_LIMIT, "名" * NAME_LIMIT])
def test_a_name_of_up_to_1000_characters_is_kept_as_it_is(name: str) -> None:
    assert checked_name(name, "name") == name


@pytest.mark.parametrize(
    "name", ["", " ", "\t\n", "\u2003", "\u200b \u2060", "x" * (NAME_LIMIT + 1)]
)
def test_a_blank_or_longer_name_is_refused_naming_the_field(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_name(name, "input", "name")
    assert refused.value.path == ("input", "name")


@pytest.mark.parametrize("locale", ["fr", "fr-FR", "zh-Hant-TW", "de-1996"])
def test_language_tags_are_locales(locale: str) -> None:
    assert checked_locale(locale) == locale


@pytest.mark.parametrize("locale", ["", "f", "fr_FR", "fr-", "fr FR", "französisch"])
def test_anything_else_is_no_locale(locale: str) -> None:
    with pytest.raises(InvalidInput):
        checked_locale(locale, "locale")


LOCALES = {"fr": {"name": "Jardin"}, "de-DE": {"name": "Garten"}, "de-AT": {"name": "Gartl"}}


@pytest.mark.parametrize(
    ("locale", "name"),
    [
        ("fr", "Jardin"),
        ("fr-FR", "Jardin"),
        ("fr-Latn-CA", "Jardin"),
        ("de-DE", "Garten"),
        ("DE-de", "Garten"),
        ("de-AT", "Gartl"),
        ("de-CH", None),
        ("de", None),
        ("en", None),
        ("", None),
        (None, None),
    ],
)
def test_a_translation_is_that_of_the_locale_or_of_the_nearest_wider_one(
    locale: str | None, name: str | None
) -> None:
    found = translation(LOCALES, locale)
    assert (found and found["name"]) == name
