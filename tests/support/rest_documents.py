"""Comparisons of REST documents."""

from typing import Any


def in_documents(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes of GraphQL's inputs as documents have them."""
    said = dict(attributes)
    if "localizations" in said:
        said["locales"] = {
            one["locale"]: {key: value for key, value in one.items() if key != "locale" and value}
            for one in said.pop("localizations")
        }
    return said


def unchanged_but(before: Any, after: Any, **attributes: Any) -> None:
    """Nothing differs but these attributes, and the time of the change."""
    assert after["meta"].pop("updated_at") > before["meta"].pop("updated_at")
    before["attributes"].update(attributes)
    assert after == before
