import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.attributes import (
    MAX_TRANSLATIONS,
    NAME_LIMIT,
    SLUG_LIMIT,
    Attributes,
    checked_attributes,
    checked_locale,
    checked_name,
    checked_slug,
    checked_text,
    checked_translations,
    translation,
)
from app.domain.errors import Empty, InvalidInput

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
NAMES = TEXT.map(lambda text: f"n{text}"[:NAME_LIMIT])


@pytest.mark.parametrize("name", ["x", " x ", "x" * NAME_LIMIT, "名" * NAME_LIMIT])
def test_a_name_of_up_to_1000_characters_is_returned_unchanged(name: str) -> None:
    assert checked_name(name, "name") == name
    assert checked_slug(name, "slug") == name


@pytest.mark.parametrize("name", ["", " ", "\t\n", "\u2003", "\u200b \u2060"])
def test_a_blank_name_is_refused_naming_the_field(name: str) -> None:
    with pytest.raises(Empty, match="The name can not be empty") as refused:
        checked_name(name, "input", "name")
    assert refused.value.path == ("input", "name")
    with pytest.raises(Empty, match="The slug can not be empty"):
        checked_slug(name, "slug")


@pytest.mark.parametrize("name", ["x" * (NAME_LIMIT + 1), "名" * (NAME_LIMIT + 1)])
def test_a_longer_name_is_refused_naming_the_field(name: str) -> None:
    with pytest.raises(InvalidInput, match="1001 characters; at most 1000") as refused:
        checked_name(name, "input", "name")
    assert refused.value.path == ("input", "name")
    with pytest.raises(InvalidInput, match=f"at most {SLUG_LIMIT}"):
        checked_slug(name, "slug")


@pytest.mark.parametrize("text", ["\0", "a\0b", "\0" * 2000])
def test_nul_is_refused_at_any_position(text: str) -> None:
    for checked in (checked_text, checked_name, checked_slug):
        with pytest.raises(InvalidInput, match="NUL") as refused:
            checked(text, "field")
        assert refused.value.path == ("field",)


@pytest.mark.parametrize("text", ["\udcff", "a\ud800", "\udc00\ud800"])
def test_half_a_surrogate_pair_is_refused_at_any_position(text: str) -> None:
    for checked in (checked_text, checked_name, checked_slug):
        with pytest.raises(InvalidInput, match="Unicode") as refused:
            checked(text, "field")
        assert refused.value.path == ("field",)


@pytest.mark.parametrize("locale", ["fr", "fr-FR", "zh-Hant-TW", "de-1996"])
def test_language_tags_are_locales(locale: str) -> None:
    assert checked_locale(locale) == locale


@pytest.mark.parametrize("locale", ["", "f", "fr_FR", "fr-", "fr FR", "fr\n", "französisch"])
def test_any_other_text_is_no_locale(locale: str) -> None:
    with pytest.raises(InvalidInput):
        checked_locale(locale, "locale")


def test_valid_translations_are_returned_unchanged() -> None:
    locales = {
        "fr": {"name": "Jardin"},
        "fr-FR": {"description": ""},
        "de": {"name": "Garten", "description": "Alles"},
    }
    assert checked_translations(locales, "locales") == locales
    full = {f"fr-{number:03}": {"name": "n"} for number in range(MAX_TRANSLATIONS)}
    assert checked_translations(full) == full


@pytest.mark.parametrize(
    ("locales", "path"),
    [
        ({f"fr-{number:03}": {"name": "n"} for number in range(MAX_TRANSLATIONS + 1)}, ()),
        ({"fr_FR": {"name": "Jardin"}}, ()),
        ({"fr": {"name": "Jardin"}, "FR": {"name": "Jardin"}}, ("FR",)),
        ({"de": {"name": "Garten"}, "fr": {}}, ("fr",)),
        ({"fr": {"name": ""}}, ("fr", "name")),
        ({"fr": {"name": "n" * (NAME_LIMIT + 1)}}, ("fr", "name")),
        ({"fr": {"name": "Jardin", "description": "\0"}}, ("fr", "description")),
    ],
)
def test_invalid_translations_are_refused_naming_the_path(
    locales: dict[str, dict[str, str]], path: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_translations(locales, "locales")
    assert refused.value.path[: 1 + len(path)] == ("locales", *path)


def test_only_present_attributes_are_returned() -> None:
    assert checked_attributes({}) == {}
    assert checked_attributes({"slug": "s"}) == {"slug": "s"}
    cleared = Attributes(description=None, slug=None, locales=None)
    assert checked_attributes(cleared) == {"description": None, "slug": None, "locales": {}}
    assert checked_attributes({"description": ""}) == {"description": None}


@pytest.mark.parametrize(
    ("attributes", "path"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"slug": ""}, "slug"),
        ({"description": "\0"}, "description"),
        ({"locales": {"fr": {}}}, "locales"),
    ],
)
def test_invalid_attributes_are_refused_naming_the_field(attributes: Attributes, path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_attributes({"description": "as well", **attributes})
    assert refused.value.path[0] == path


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": NAMES,
            "description": TEXT.filter(bool) | st.none(),
            "slug": NAMES | st.none(),
            "locales": st.dictionaries(
                st.sampled_from(["fr", "fr-FR", "de"]),
                st.fixed_dictionaries({"name": NAMES}, optional={"description": TEXT}),
            ),
        },
    )
)
def test_valid_attributes_are_returned_unchanged(attributes: Attributes) -> None:
    assert checked_attributes(attributes) == attributes


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
def test_a_translation_is_that_of_the_locale_or_the_nearest_wider_one(
    locale: str | None, name: str | None
) -> None:
    chosen = translation(LOCALES, locale)
    assert (chosen and chosen["name"]) == name
