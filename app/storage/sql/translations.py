"""Texts inside the JSON documents of translations."""

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

        The path is part of the statement: a locale has letters, digits and hyphens only.
        """
        _, locale, field = attribute.split(".")
        checked_locale(locale)
        assert field in ("name", "description")
        super().__init__(
            locales,
            sa.literal_column(f"""'$."{locale}".{field}'"""),
            sa.literal_column(f"'{{{locale},{field}}}'"),
        )


@compiles(translated, "sqlite")
def _translated_on_sqlite(element: translated, compiler: SQLCompiler, **rest: object) -> str:
    locales, path, _ = (compiler.process(part, **rest) for part in element.clauses)
    return f"json_extract({locales}, {path})"


@compiles(translated, "postgresql")
def _translated_on_postgresql(element: translated, compiler: SQLCompiler, **rest: object) -> str:
    locales, _, path = (compiler.process(part, **rest) for part in element.clauses)
    return f"({locales} #>> {path})"
