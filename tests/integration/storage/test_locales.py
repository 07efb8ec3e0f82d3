"""`like`, `ilike` and the order of texts are the same on every database, whatever its locale."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import product
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql
from sqlmodel import col

from app.domain.filters import Condition, Operator
from app.storage.engine import sqlite
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from app.storage.engine.statements import PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.migrations import upgrade
from app.storage.sql.filters import bind_values, conditions_for, filter_shape
from app.storage.sql.patterns import MAX_GLOB_LETTERS, by_code_points
from app.storage.tables import Product
from tests.support import postgres
from tests.support.databases import NewDatabase, insert_many
from tests.support.entities import read_transaction

LOCALES = {
    "bytes": "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C' LOCALE 'C'",
    "unicode": "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST' LOCALE 'C'",
    "turkish": "LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR' LOCALE 'C'",
    "german phone book": "LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk' LOCALE 'C'",
}
"""Databases that fold and sort letters in different ways. Not every server has ICU."""

UNSUPPORTED = (
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.SyntaxError,
    psycopg.errors.WrongObjectType,
)
"""Errors of servers without a provider or a locale, by version."""

DOTLESS, DOTTED = "\N{LATIN SMALL LETTER DOTLESS I}", "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}"
NAMES = (
    *("istanbul", "ISTANBUL", f"{DOTTED}stanbul", f"{DOTLESS}stanbul"),
    *("ΟΔΟΣ", "οδος", "οδοσ", "straße", "STRASSE", "STRAẞE", "Äpfel", "äpfel", "A\u0308pfel"),
    *(
        "Zebra",
        "zebra",
        "a",
        "B",
        "\N{KELVIN SIGN}",
        "k",
        "Ǆ",
        "ǅ",
        "ǆ",
        "\U00010400",
        "\U00010428",
    ),
    "ÜXyz" * 10,
    *("50%", "a_b", "a[b]", "a?b", "a\\b", "a*b", "[aB]", "^", "]", "a-b", "", " ", "two\nlines"),
)
LIKE = {
    "istanbul": {"istanbul"},
    "*STANBUL": {"ISTANBUL"},
    "οδο*": {"οδος", "οδοσ"},
    "a?b": {"a?b"},
    "*[*": {"a[b]", "[aB]"},
    "*%": {"50%"},
    "a\\b": {"a\\b"},
    "": {""},
    "two*lines": {"two\nlines"},
    # Longer than SQLite's own operator compares.
    "*yz*" + "ÜXyz" * 9: {"ÜXyz" * 10},
    "*XYz*" + "ÜXyz" * 9: set(),
}
ILIKE = {
    "Istanbul": {"istanbul", "ISTANBUL"},
    f"{DOTTED}STANBUL": {f"{DOTTED}stanbul"},
    f"{DOTLESS}*": {f"{DOTLESS}stanbul"},
    "οδοσ": {"ΟΔΟΣ", "οδος", "οδοσ"},
    "*Σ": {"ΟΔΟΣ", "οδος", "οδοσ"},
    "STRASSE": {"STRASSE"},
    "straẞe": {"straße", "STRAẞE"},
    "ÄPF*": {"Äpfel", "äpfel"},
    "k": {"\N{KELVIN SIGN}", "k"},
    "ǅ": {"Ǆ", "ǅ", "ǆ"},
    "\U00010400": {"\U00010400", "\U00010428"},
    "[Ab]": {"[aB]"},
    "A_B": {"a_b"},
    "*]": {"a[b]", "[aB]", "]"},
    "": {""},
    "üxYZ" * 10: {"ÜXyz" * 10},
    "üx*" + "üxYZ" * 9: {"ÜXyz" * 10},
    "üx*" + "üxYZ" * 10: set(),
}


@pytest.fixture(scope="module")
def missing_locales() -> dict[str, str]:
    """The server's refusal of each locale that it does not have."""
    return {}


@pytest.fixture(scope="module")
def every_database(
    postgresql_server: str, new_database: NewDatabase, missing_locales: dict[str, str]
) -> Iterator[dict[str, Database]]:
    """Databases of all locales that the server has, each with a product per name."""
    urls = {"sqlite": new_database("sqlite"), "usual": new_database("postgresql")}
    with psycopg.connect(postgres.plain(postgresql_server), autocommit=True) as connection:
        for number, (name, options) in enumerate(LOCALES.items()):
            new = f"locale_{connection.info.backend_pid}_{number}"
            create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING UTF8 ").format(
                sql.Identifier(new)
            )
            try:
                connection.execute(create + sql.SQL(options))
            except UNSUPPORTED as error:
                missing_locales[name] = error.diag.message_primary or str(error)
                continue
            urls[name] = postgres.renamed(postgresql_server, new)
    with ExitStack() as stack:
        opened = {name: stack.enter_context(closing(connect(url))) for name, url in urls.items()}
        for database in opened.values():
            upgrade(database)
            rows = [{"id": uuid4(), "store": "north", "sku": None, "name": name} for name in NAMES]
            with database.write_engine.begin() as connection:
                insert_many(Transaction(connection, database._clock), Product, rows)
        yield opened
    with psycopg.connect(postgres.plain(postgresql_server), autocommit=True) as connection:
        for name in LOCALES.keys() & urls:
            postgres.drop_database(urls[name], postgresql_server)


@pytest.mark.parametrize("locale", LOCALES)
def test_the_server_has_the_locale(
    every_database: dict[str, Database], missing_locales: dict[str, str], locale: str
) -> None:
    if locale in missing_locales:
        pytest.skip(f"The server has no locale {locale!r}: {missing_locales[locale]}")
    assert locale in every_database


def matching(database: Database, operator: Operator, pattern: str) -> Sequence[str]:
    """The names that match a pattern, sorted."""
    conditions = [Condition("name", operator, [pattern])]
    where = conditions_for(filter_shape(conditions), {"name": col(Product.name)})
    query = PreparedQuery(
        lambda _: (
            sa.select(col(Product.name))
            .where(*where)
            .order_by(by_code_points(col(Product.name)), col(Product.pk))
        )
    )
    with read_transaction(database) as tx:
        return [name for (name,) in tx.rows(query, bind_values(conditions)) if name is not None]


@pytest.mark.parametrize(
    ("operator", "pattern", "names"),
    [
        *((Operator.LIKE, pattern, names) for pattern, names in LIKE.items()),
        *((Operator.ILIKE, pattern, names) for pattern, names in ILIKE.items()),
    ],
)
def test_a_pattern_matches_the_same_names_in_every_locale(
    every_database: dict[str, Database], operator: Operator, pattern: str, names: set[str]
) -> None:
    for name, database in every_database.items():
        assert matching(database, operator, pattern) == sorted(names), name


def test_names_are_sorted_by_code_points_in_every_locale(
    every_database: dict[str, Database],
) -> None:
    for name, database in every_database.items():
        assert matching(database, Operator.LIKE, "*") == sorted(NAMES), name


@given(st.lists(st.sampled_from([*"*%_[]?\\^-iIkKsSΣςßA", DOTLESS, DOTTED, "Ǆ"]), max_size=8))
def test_any_pattern_matches_the_same_names_everywhere(
    every_database: dict[str, Database], characters: list[str]
) -> None:
    pattern = "".join(characters)
    for operator in (Operator.LIKE, Operator.ILIKE):
        results = [matching(database, operator, pattern) for database in every_database.values()]
        assert all(one == other for one, other in product(results, results))


@pytest.mark.parametrize("letter", ["k", "\N{ANGSTROM SIGN}", "*", "[", "\U00010400"])
def test_the_longest_pattern_is_not_too_long_for_any_database(
    every_database: dict[str, Database], letter: str
) -> None:
    for database in every_database.values():
        assert matching(database, Operator.ILIKE, letter * 1000) in ([], sorted(NAMES))


def test_sqlite_compares_long_patterns_in_linear_time(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def matches_pattern(_text: str, pattern: str, _cases: str, _letters: str) -> bool:
        compared.append(pattern)
        return True

    monkeypatch.setattr(sqlite, "matches_pattern", matches_pattern)
    short, long = "*" + "a" * MAX_GLOB_LETTERS, "*" + "a" * (MAX_GLOB_LETTERS + 1)
    with closing(connect(new_database("sqlite"))) as database:
        row = {"id": uuid4(), "store": "north", "sku": None, "name": "a" * 1000}
        with database.write_engine.begin() as connection:
            insert_many(Transaction(connection, database._clock), Product, [row])
        for pattern in (short, long):
            assert matching(database, Operator.LIKE, pattern) == ["a" * 1000]
    assert compared == [long]
