"""Texts inside the JSON documents of translations."""

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from app.domain.attributes import checked_locale
from app.storage.engine.statements import AnyColumn


class translated(FunctionElement[str]):
    """The text of one locale, NULL without a translation."""

    inherit_cache = True
    type = sa.Text()

    def __init__(self, locales: AnyColumn, attribute: str) -> None:
        """`attribute` is `locales.<locale>.<name or description>`. Raises InvalidInput.

        The case of the locale is ignored. It is part of the statement: a locale has letters, digits
        and hyphens only.
        """
        _, locale, field = attribute.split(".")
        checked_locale(locale)
        assert field in ("name", "description")
        super().__init__(
            locales, sa.literal_column(f"'{locale.lower()}'"), sa.literal_column(f"'{field}'")
        )


@compiles(translated, "sqlite")
def _translated_on_sqlite(element: translated, compiler: SQLCompiler, **rest: object) -> str:
    locales, locale, field = (compiler.process(part, **rest) for part in element.clauses)
    return (
        f"(SELECT json_extract(t.value, '$.' || {field}) FROM json_each({locales}) AS t"
        f" WHERE lower(t.key) = {locale} LIMIT 1)"
    )


@compiles(translated, "postgresql")
def _translated_on_postgresql(element: translated, compiler: SQLCompiler, **rest: object) -> str:
    locales, locale, field = (compiler.process(part, **rest) for part in element.clauses)
    # The case of "C", because Turkish has another small letter for I.
    return (
        f"(SELECT t.value ->> {field} FROM json_each({locales}) AS t"
        f' WHERE lower(t.key COLLATE "C") = {locale} LIMIT 1)'
    )


class translated_names(FunctionElement[Mapping[str, str] | None]):
    """The names of all translations by locale; empty or NULL without any."""

    inherit_cache = True
    type = sa.JSON()

    def __init__(self, locales: AnyColumn) -> None:
        super().__init__(locales)


@compiles(translated_names, "sqlite")
def _names_on_sqlite(element: translated_names, compiler: SQLCompiler, **rest: object) -> str:
    locales = compiler.process(element.clauses, **rest)
    return (
        "(SELECT json_group_object(key, json_extract(value, '$.name')) "
        f"FROM json_each({locales}) WHERE json_extract(value, '$.name') IS NOT NULL)"
    )


@compiles(translated_names, "postgresql")
def _names_on_postgresql(element: translated_names, compiler: SQLCompiler, **rest: object) -> str:
    locales = compiler.process(element.clauses, **rest)
    return (
        "(SELECT json_object_agg(key, value ->> 'name') "
        f"FROM json_each({locales}) WHERE value ->> 'name' IS NOT NULL)"
    )
