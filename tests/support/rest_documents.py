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
    """Check that two documents differ only in these attributes and the time of the update.

    Attributes without a value are absent.
    """
    assert after["meta"].pop("updated_at") > before["meta"].pop("updated_at")
    changed = before["attributes"] | attributes
    before["attributes"] = {name: value for name, value in changed.items() if value is not None}
    before["meta"]["breadcrumbs"][-1] = breadcrumb(before["id"], **before["attributes"])
    assert after == before


def breadcrumb(id: object, name: str, **attributes: Any) -> dict[str, Any]:
    """Return the breadcrumb of a hierarchy or node with these attributes."""
    names = {
        locale: {"name": texts["name"]}
        for locale, texts in attributes.get("locales", {}).items()
        if "name" in texts
    }
    others = {"slug": attributes.get("slug"), "locales": names}
    return {"id": str(id), "name": name} | {key: value for key, value in others.items() if value}
