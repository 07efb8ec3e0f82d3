"""Comparisons of REST documents."""

from typing import Any


def in_documents(attributes: dict[str, Any]) -> dict[str, Any]:
    """Convert attributes of GraphQL inputs to those of REST documents."""
    converted = dict(attributes)
    if "localizations" in converted:
        converted["locales"] = {
            translation["locale"]: {
                key: value for key, value in translation.items() if key != "locale" and value
            }
            for translation in converted.pop("localizations")
        }
    return converted


def unchanged_but(before: Any, after: Any, **attributes: Any) -> None:
    """Check that two documents differ only in these attributes and the time of the update."""
    assert after["meta"].pop("updated_at") > before["meta"].pop("updated_at")
    before["attributes"].update(attributes)
    assert after == before
