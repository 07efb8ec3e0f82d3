"""Lists over REST: pages, links, totals, orders, and filters against a model."""

import operator
import random
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
import sqlalchemy as sa

from app.domain.hierarchies import Owner, node_id
from app.domain.jobs import JobStatus, JobType
from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.storage.engine.transaction import Transaction
from app.storage.tables import Hierarchy, Job, Node
from tests import factories
from tests.support.databases import postgresql_is_long
from tests.support.rest_client import UNKNOWN, RestClient, errors_of, ids_of, in_brackets, rest_of

START = datetime(2026, 11, 1, tzinfo=UTC)
BAD_FILTER = "Could not parse the supplied filter"


@pytest.fixture
async def rest(idle_gateway: Gateway) -> AsyncIterator[RestClient]:
    """A client of a gateway without a queue runner."""
    async with rest_of(idle_gateway) as client:
        yield client


async def set_times(rest: RestClient) -> None:
    """Set known times on all hierarchies, nodes and jobs, some of them equal.

    Every other hierarchy and node gets translations.
    """

    def edit(tx: Transaction) -> None:
        tables: Sequence[Any] = (Hierarchy, Node, Job)
        for table in tables:
            key = sa.inspect(table).primary_key
            for no, row_key in enumerate(tx.rows(sa.select(*key).order_by(*key))):
                translated = table is not Job and no % 2
                tx.changed(
                    sa.update(table)
                    .where(sa.tuple_(*key) == row_key)
                    .values(
                        **({"locales": LOCALES[no // 2 % len(LOCALES)]} if translated else {}),
                        created_at=START + timedelta(minutes=no // 2),
                        updated_at=START + timedelta(hours=no * 7 % 5, milliseconds=no % 2),
                    )
                )

    await rest.database.write(edit)


LOCALES: Sequence[Any] = (
    {"fr-FR": {"name": "Jardin", "description": "Tout"}},
    {"fr-FR": {"description": "jardin"}, "fr": {"name": "Jardin"}},
    {"fr-FR": {"name": "jardin (1)"}},
)

NAMES = ("Garden", "garden", "Gardening", "50% off", "a_b", "a\\b", "a*b", "ab", "Äpfel", "x, (y)")


async def hierarchies(rest: RestClient) -> str:
    """Create hierarchies of the store and the organization; return their list's path."""
    for no, name in enumerate(NAMES):
        for store in (factories.STORE, *([ORGANIZATION] if no % 2 else [])):
            await factories.hierarchy(
                rest.database,
                {},
                name=name,
                store=store,
                slug=None if no % 3 == 0 else f"s{no}",
                description=None if no % 4 == 0 else name[::-1],
            )
    await factories.hierarchy(rest.database, {}, name="Garden", store="another")
    await set_times(rest)
    return "/hierarchies"


TREE: factories.Tree = {
    "Garden": {"Trees": {"Oaks": {}, "a*b": {}}, "a_b": {}},
    "gardens": {"x, (y)": {"a\\b": {}}},
    "50% off": {},
}


async def nodes(rest: RestClient) -> str:
    """The path of all nodes of a new hierarchy."""
    id = await factories.hierarchy(rest.database, TREE)
    await set_times(rest)
    return f"/hierarchies/{id}/nodes"


async def organizations_nodes(rest: RestClient) -> str:
    """The path of all nodes of a new hierarchy of the organization."""
    id = await factories.hierarchy(rest.database, TREE, store=ORGANIZATION)
    await set_times(rest)
    return f"/hierarchies/{id}/nodes"


async def all_nodes(rest: RestClient) -> str:
    """The path of the nodes of three hierarchies, one of them the organization's."""
    await nodes(rest)
    await factories.hierarchy(rest.database, {"Garden": {"a": {}}}, name="Other")
    await factories.hierarchy(rest.database, {"theirs": {}}, store="another")
    await organizations_nodes(rest)
    return "/hierarchies/nodes"


async def all_items(rest: RestClient) -> str:
    """The path of these nodes and of the roots above them."""
    return await all_nodes(rest) + "?include_hierarchies=true"


async def root_children(rest: RestClient) -> str:
    """The path of a new root's children."""
    return (await nodes(rest)).removesuffix("nodes") + "children"


async def node_children(rest: RestClient) -> str:
    """The path of a new node's children."""
    path = await nodes(rest)
    hierarchy_id = UUID(path.split("/")[2])
    return f"{path}/{node_id(hierarchy_id, 1)}/children"


async def jobs(rest: RestClient) -> str:
    """Jobs of every type and status."""
    source = await factories.hierarchy(rest.database, {"a": {}})
    lost = await factories.hierarchy(rest.database, {})
    await factories.pending_duplication(rest.database, source)
    await factories.ran_job(rest.database)
    await factories.pending_duplication(rest.database, lost)
    await factories.deleted(rest.database, lost)
    await factories.ran_job(rest.database)
    await factories.pending_duplication(rest.database, source)
    await factories.claimed_job(rest.database)
    for type in JobType:
        job = await factories.pending_job(rest.database, type)
    await rest.ask("POST", f"/jobs/{job.id}/cancel")
    await factories.pending_job(rest.database, JobType.PRICE_IMPORT, store="another")
    await set_times(rest)
    return "/jobs"


async def job_errors(rest: RestClient) -> str:
    """The errors of a job that failed."""
    lost = await factories.hierarchy(rest.database, {})
    job = await factories.pending_duplication(rest.database, lost)
    await factories.deleted(rest.database, lost)
    await factories.ran_job(rest.database)
    return f"/jobs/{job.id}/errors"


async def products(rest: RestClient) -> str:
    """The products of a node, some of them curated."""
    skus = [f"s{no}" for no in range(9)]
    id = await factories.hierarchy(
        rest.database, {"a": {}}, products={"a": skus}, curated={"a": ["s7", "s2"]}
    )
    return f"/hierarchies/{id}/nodes/{node_id(id, 1)}/products"


CreateList = Callable[[RestClient], Any]
FILTERED: Mapping[str, CreateList] = {
    "hierarchies": hierarchies,
    "all nodes": all_nodes,
    "all nodes and hierarchies": all_items,
    "nodes": nodes,
    "nodes of the organization": organizations_nodes,
    "children of a root": root_children,
    "children of a node": node_children,
    "jobs": jobs,
}
LISTS: Mapping[str, CreateList] = {**FILTERED, "errors": job_errors, "products": products}
of_every_list = pytest.mark.parametrize("create_list", LISTS.values(), ids=LISTS)

SAME_ATTRIBUTES = ("all nodes", "nodes of the organization", "children of a node")
"""Lists that have the attributes of another list here, and other rows."""


def names_of(lists: Iterable[str]) -> list[Any]:
    """Parameters of tests that send hundreds of requests per list: SAME_ATTRIBUTES are `long`."""
    return [
        pytest.param(name, marks=pytest.mark.long if name in SAME_ATTRIBUTES else ())
        for name in lists
    ]


of_every_filter = pytest.mark.parametrize("create_list", FILTERED.values(), ids=FILTERED)


# Pages.


def window_of(link: str) -> tuple[int, int]:
    """The offset and limit in a link."""
    query = parse_qs(urlsplit(link).query, strict_parsing=True)
    return int(query["page[offset]"][0]), int(query["page[limit]"][0])


async def check_pages(rest: RestClient, path: str, seed: int, **parameters: Any) -> None:
    """Check that links reach every row once and keep `parameters`."""
    rng = random.Random(seed)
    whole = await rest.list(path, limit=100, **parameters)
    rows, total = whole["data"], whole["meta"]["results"]["total"]
    assert total == len(rows) == len({row["id"] for row in rows})
    for offset, limit in [
        *((0, 1), (0, 100), (1, 2), (total, 3), (total + 1, 2), (10**9, 7), (2**31 - 101, 100)),
        *((rng.randrange(total + 3), rng.randrange(1, total + 3)) for _ in range(3)),
    ]:
        page = await rest.list(path, offset=offset, limit=limit, **parameters)
        assert page.keys() == {"data", "links", "meta"}
        assert page["data"] == rows[offset : offset + limit]
        assert page["meta"] == {"results": {"total": total}}
        links = page["links"]
        last = max(0, total - 1) // limit * limit
        expected = {"current": (offset, limit), "first": (0, limit)}
        if offset + limit < total:
            expected |= {"last": (last, limit), "next": (offset + limit, limit)}
        if offset:
            expected["prev"] = (max(0, min(offset - limit, last)), limit)
        assert {name: window_of(link) for name, link in links.items()} == expected
        for link in links.values():
            assert link.startswith(f"/pcm{path.partition('?')[0]}?")
            query = parse_qs(urlsplit(link).query)
            assert {name: query[name] for name in parameters} == {
                n: [v] for n, v in parameters.items()
            }

        forward = await followed(rest, links["first"], "next")
        assert forward == rows
        if "last" in links:
            backward = await followed(rest, links["last"], "prev")
            assert sorted(row["id"] for row in backward) == sorted(row["id"] for row in rows)


async def followed(rest: RestClient, link: str | None, relation: str) -> list[Any]:
    """The rows of all pages from `link` on, along `relation` links."""
    rows = []
    while link is not None:
        response = await rest.http.get(link)
        assert response.status_code == 200
        page = response.json()
        rows += page["data"]
        link = page["links"].get(relation)
    return rows


@postgresql_is_long
@pytest.mark.parametrize("list_name", names_of(LISTS))
async def test_links_reach_every_row_once_from_any_page(
    list_name: str, rest: RestClient, seed: int
) -> None:
    await check_pages(rest, await LISTS[list_name](rest), seed)


PARAMETERS: Sequence[Mapping[str, str]] = (
    {"sort": "name", "filter": 'in(name,Garden,gardens,garden,"x, (y)","a\\\\b")'},
    {"sort": "-updated_at", "filter": "ilike(name,*A*):ge(created_at,2026-11-01T00:00:00+00:00)"},
)


@postgresql_is_long
@pytest.mark.parametrize("parameters", PARAMETERS, ids=["names", "times"])
@pytest.mark.parametrize("create_list", [hierarchies, nodes], ids=["hierarchies", "nodes"])
async def test_links_keep_the_filter_and_the_order(
    create_list: CreateList, parameters: Mapping[str, str], rest: RestClient, seed: int
) -> None:
    path = await create_list(rest)
    assert (await rest.list(path, **parameters))["data"]
    await check_pages(rest, path, seed, **parameters)


async def test_links_of_jobs_keep_the_filter_and_the_order(rest: RestClient, seed: int) -> None:
    parameters = {"sort": "updated_at", "filter": "in(status,pending,failed,success)"}
    await check_pages(rest, await jobs(rest), seed, **parameters)


@postgresql_is_long
@of_every_list
async def test_a_page_has_25_rows_by_default(create_list: CreateList, rest: RestClient) -> None:
    path = await create_list(rest)
    links = (await rest.list(path))["links"]
    assert window_of(links["first"]) == (0, 25)


async def test_an_empty_list_has_page_links(rest: RestClient) -> None:
    for path in ("/hierarchies", "/jobs"):
        page = await rest.list(path, limit=3)
        assert page["data"] == []
        assert page["meta"]["results"]["total"] == 0
        windows = {name: window_of(link) for name, link in page["links"].items()}
        assert windows == {"current": (0, 3), "first": (0, 3)}


@postgresql_is_long
@of_every_list
async def test_a_page_of_zero_rows_has_the_total_and_no_next_page(
    create_list: CreateList, rest: RestClient
) -> None:
    path = await create_list(rest)
    total = (await rest.list(path))["meta"]["results"]["total"]
    for offset in (0, 1, 10**6):
        page = await rest.list(path, limit=0, offset=offset)
        assert page["data"] == []
        assert page["meta"]["results"]["total"] == total > 0
        assert page["links"].get("next") is None


BAD_PAGES = (
    *(f"page[limit]={limit}" for limit in ("101", "-1", "x", "", "1.5", "1e1", "9" * 30)),
    *(f"page[offset]={offset}" for offset in ("-1", "x", "", "0.5", 2**31 - 100, "9" * 30)),
    *("page[limit]=1&page[limit]=1", "page[offset]=1&page[limit]=1&page[offset]=2"),
    *("page[size]=3", "page[number]=1", "page=1", "page[]=1", "page[Limit]=1", "pages=1"),
    *("filter[name]=a", "filters=a", "sort[name]=asc", "sorted=name", "sort_by=name"),
)


@postgresql_is_long
@of_every_list
async def test_an_invalid_page_parameter_is_refused(
    create_list: CreateList, rest: RestClient
) -> None:
    path = await create_list(rest)
    separator = "&" if "?" in path else "?"
    for query in BAD_PAGES:
        (error,) = errors_of(await rest.send("GET", f"{path}{separator}{query}"), 400)
        assert query.split("=")[0] in error["detail"]


async def test_lists_without_orders_and_filters_refuse_both_parameters(rest: RestClient) -> None:
    for path in (await job_errors(rest), await products(rest)):
        for query in ("sort=created_at", "filter=eq(id,a)", "sort=", "filter="):
            await rest.refused(400, "GET", f"{path}?{query}")


async def test_unknown_parameters_are_ignored_but_kept_in_links(rest: RestClient) -> None:
    await hierarchies(rest)
    page = await rest.list("/hierarchies", limit=1, include="x y", utm="é&=")
    assert parse_qs(urlsplit(page["links"]["next"]).query) == {
        "include": ["x y"],
        "utm": ["é&="],
        "page[offset]": ["1"],
        "page[limit]": ["1"],
    }


# Orders.


@postgresql_is_long
@of_every_filter
async def test_an_unknown_sort_order_is_refused(create_list: CreateList, rest: RestClient) -> None:
    path = await create_list(rest)
    for sort in ("x", "", "-", "--name", "+name", "id", "name,created_at", "NAME"):
        (error,) = errors_of(await rest.send("GET", path, params={"sort": sort}), 400)
        assert error["detail"].startswith("Could not parse the supplied sort"), sort
    twice = [("sort", "created_at"), ("sort", "created_at")]
    errors_of(await rest.send("GET", path, params=twice), 400)


@postgresql_is_long
@of_every_filter
async def test_rows_are_sorted_by_the_requested_attribute(
    create_list: CreateList, rest: RestClient
) -> None:
    path = await create_list(rest)
    whole = await rest.list(path, limit=100)
    for by in ("created_at", "updated_at", *([] if path == "/jobs" else ["name"])):
        up, down = [
            [values_of(row)[by] for row in (await rest.list(path, limit=100, sort=sort))["data"]]
            for sort in (by, f"-{by}")
        ]
        assert len(up) == len(whole["data"]) > 1
        assert down == up[::-1]
        # The order of letters depends on the database's collation.
        if by != "name":
            assert up == sorted(up)


async def test_the_default_order_is_the_documented_one(
    rest: RestClient,
) -> None:
    created = [values_of(row)["created_at"] for row in (await rest.list("/hierarchies"))["data"]]
    assert created == sorted(created, reverse=True)
    created = [values_of(row)["created_at"] for row in (await rest.list(await jobs(rest)))["data"]]
    assert created == sorted(created, reverse=True)
    assert await rest.names(await nodes(rest)) == [
        *("Garden", "gardens", "50% off", "Trees", "a_b", "x, (y)", "Oaks", "a*b", "a\\b")
    ]


async def test_entities_of_the_organization_are_sorted_among_the_stores_own(
    rest: RestClient,
) -> None:
    path = await hierarchies(rest)
    for sort in ("created_at", "-created_at", "updated_at", "-updated_at", "name", "-name"):
        page = await rest.list(path, sort=sort, limit=100)
        rows = [(row["meta"]["owner"], values_of(row)) for row in page["data"]]
        assert {owner for owner, _ in rows} == set(Owner)
        by = sort.removeprefix("-")
        for owner in Owner:
            alone = await rest.list(path, sort=sort, limit=100, filter=f"eq(owner,{owner})")
            assert [values_of(row) for row in alone["data"]] == [
                values for row_owner, values in rows if row_owner == owner
            ]
        # Neither owner's rows all come first.
        owners = [owner for owner, _ in rows]
        assert owners not in (sorted(owners), sorted(owners, reverse=True)), by


# Filters.


def values_of(row: Any) -> dict[str, Any]:
    """The filterable attributes of a list's row, lists of those that are in breadcrumbs."""
    values = {**row["attributes"], **row["meta"], "id": row["id"]}
    if row["type"] == "node":
        parent = row["relationships"].get("parent")
        values["parent_id"] = parent["data"]["id"] if parent else root_of(row["id"])
        values["has_children"] = str(values["has_children"]).lower()
    if row["type"] == "hierarchy":
        values["hierarchy_id"] = row["id"]
    translations = row["attributes"].get("locales", {})
    for attribute in ("name", "description"):
        values[f"locales.[fr-FR].{attribute}"] = translations.get("fr-FR", {}).get(attribute)
    crumbs = row["meta"].get("breadcrumbs", [])
    for attribute in ("id", "name", "slug"):
        values[f"breadcrumbs.[{attribute}]"] = [crumb.get(attribute) for crumb in crumbs]
    values["breadcrumbs.locales.fr-FR.name"] = [
        crumb.get("locales", {}).get("fr-FR", {}).get("name") for crumb in crumbs
    ]
    return values


def values_at(values: Mapping[str, Any], attribute: str) -> list[Any]:
    """The values of an attribute that a row has, several of breadcrumbs."""
    value = values.get(attribute)
    return [one for one in (value if isinstance(value, list) else [value]) if one is not None]


def root_of(id: str) -> str:
    return id[:-8] + "0" * 8


def like(value: str, pattern: str) -> bool:
    """Return True if `value` matches `pattern`; only the asterisk is special."""
    parts = map(re.escape, pattern.split("*"))
    return bool(re.fullmatch(".*".join(parts), value, re.DOTALL))


def ilike(value: str, pattern: str) -> bool:
    """Return True if `value` matches `pattern` in any case."""
    return like(value.casefold(), pattern.casefold())


SAME: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, operand: value == operand,
    "in": lambda value, operand: value in operand,
}
ORDERED: Mapping[str, Callable[[Any, Any], bool]] = {
    **SAME,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
TEXT: Mapping[str, Callable[[Any, Any], bool]] = {**SAME, "like": like, "ilike": ilike}
TRUTH = {"eq": SAME["eq"]}
OPERATORS = [*ORDERED, "like", "ilike"]

OF_ALL = {"id": ORDERED, "created_at": ORDERED, "updated_at": ORDERED}
OF_HIERARCHIES = {
    **OF_ALL,
    "name": TEXT,
    "slug": TEXT,
    "description": TEXT,
    "owner": SAME,
    "hierarchy_id": ORDERED,
    "parent_id": ORDERED,
    "has_children": TRUTH,
    "locales.[fr-FR].name": TEXT,
    "locales.[fr-FR].description": TEXT,
    "breadcrumbs.[id]": SAME,
    "breadcrumbs.[name]": TEXT,
    "breadcrumbs.[slug]": TEXT,
    "breadcrumbs.locales.fr-FR.name": TEXT,
}
OF_NODES = OF_HIERARCHIES
OF_JOBS = {**OF_ALL, "type": SAME, "status": SAME}
MODEL: Mapping[str, Mapping[str, Mapping[str, Callable[[Any, Any], bool]]]] = {
    "hierarchies": OF_HIERARCHIES,
    "jobs": OF_JOBS,
    **dict.fromkeys(("all nodes", "all nodes and hierarchies", "nodes"), OF_NODES),
    **dict.fromkeys(
        ("nodes of the organization", "children of a root", "children of a node"), OF_NODES
    ),
}
"""The operators of each list's attributes (domain.md, "REST endpoints"), and their meaning."""

TEXTS = ("nothing", "Garde", "gARDEN", "*", "%", "_", "50%", "a_b", "a*b", "a\\b", "'", '"', "\\")
TIMES = ("2026-11-01T00:00:30.000Z", "2024-01-01T00:00:00.000Z")
OTHERS: Mapping[str, Sequence[str]] = {
    "id": [UNKNOWN],
    "parent_id": [UNKNOWN],
    "name": TEXTS,
    "slug": TEXTS,
    "description": TEXTS,
    "created_at": TIMES,
    "updated_at": TIMES,
    "owner": [*Owner],
    "type": [*JobType],
    "status": [*JobStatus],
    "has_children": ["true", "false"],
    "hierarchy_id": [UNKNOWN],
    "locales.[fr-FR].name": ["jardin", "Jard", "*"],
    "locales.[fr-FR].description": ["tout"],
    "breadcrumbs.[id]": [UNKNOWN],
    "breadcrumbs.[name]": ["garden", "a_b", "*"],
    "breadcrumbs.[slug]": ["S1"],
    "breadcrumbs.locales.fr-FR.name": ["jardin"],
}
"""Operands that not every list contains."""

PATTERNS = (
    *("*", "garden*", "*GARD*", "*n", "*%*", "*_*", "*\\*", "a_b", "A*B", "*, (*", "", "**a**"),
    *("ÄPF*", "*ä*"),
)


FEW_PATTERNS = ("*", "*ard*", "JARDIN*", "*n", "*(*", "a_b", "Gard*", "S*")
"""Patterns of texts in translations and breadcrumbs."""


def quoted(*values: str) -> str:
    escaped = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    return ",".join(f'"{value}"' for value in escaped)


async def with_children(rest: RestClient, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """The filterable attributes of rows, of hierarchies with has_children."""
    row_values = [values_of(row) for row in rows]
    for row, values in zip(rows, row_values, strict=True):
        if row["type"] == "hierarchy":
            children = await rest.list(f"/hierarchies/{row['id']}/children", limit=1)
            values["has_children"] = str(bool(children["data"])).lower()
    return row_values


@postgresql_is_long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("list_name", names_of(FILTERED))
async def test_every_operator_of_every_attribute_matches_the_model(
    list_name: str,
    rest: RestClient,
    counted: Callable[[int, int], int],
    tabled: Callable[[str], None],
) -> None:
    path = await FILTERED[list_name](rest)
    rows = (await rest.list(path, limit=100))["data"]
    row_values = await with_children(rest, rows)
    count = matching = 0
    step = counted(5, 1)
    for attribute, operators in MODEL[list_name].items():
        known = sorted({value for row in row_values for value in values_at(row, attribute)})
        patterns = FEW_PATTERNS if "." in attribute else PATTERNS
        values = list(dict.fromkeys([*known[:6], *OTHERS[attribute]]))
        for name, holds in operators.items():
            several = [some for some in (values[:1], values[:3], values[1::2]) if some]
            for value in (
                several if name == "in" else patterns if name in ("like", "ilike") else values
            )[::step]:
                texts = value if isinstance(value, list) else [value]
                filter = f"{name}({attribute},{quoted(*texts)})"
                page = await rest.list(path, limit=100, filter=filter)
                assert ids_of(page) == [
                    row["id"]
                    for row in row_values
                    if any(holds(one, value) for one in values_at(row, attribute))
                ], filter
                assert page["meta"]["results"]["total"] == len(page["data"])
                count, matching = count + 1, matching + bool(page["data"])
    tabled(f"{count} filters, {matching} of which matched rows")
    assert matching > count / 4


@postgresql_is_long
@pytest.mark.parametrize("list_name", FILTERED)
async def test_rows_match_all_conditions_of_a_filter(list_name: str, rest: RestClient) -> None:
    path = await FILTERED[list_name](rest)
    first, second, *_ = ids_of(await rest.list(path))
    assert ids_of(await rest.list(path, filter=f"in(id,{first},{second}):eq(id,{second})")) == [
        second
    ]
    assert ids_of(await rest.list(path, filter=f"eq(id,{first}):eq(id,{second})")) == []
    most = ":".join([f"eq(id,{first})"] * 10)
    assert ids_of(await rest.list(path, filter=most)) == [first]


@postgresql_is_long
@pytest.mark.parametrize("list_name", names_of(FILTERED))
async def test_an_invalid_filter_is_refused_and_never_ignored(
    list_name: str, rest: RestClient, counted: Callable[[int, int], int]
) -> None:
    path = await FILTERED[list_name](rest)
    whole = await rest.list(path)
    assert len(whole["data"]) > 1
    unknown = ["store", "pk", "x", "locales", "data.id", "Id", "meta.owner", "updated-at"]
    unknown += ["locales.fr-FR", "locales.fr-FR.slug", "locales.[f].name", "locales.[fr-FR.name"]
    unknown += ["locales.fr_FR.name", "breadcrumbs", "breadcrumbs.description", "[", "[]", "."]
    unknown += ["breadcrumbs.locales.fr.description", "locales..name"]
    unknown += ["locales.[[locale]].name", "breadcrumbs.locales.[[locale]].name", "[[name]]"]
    refused = [
        *(f"eq({attribute},a)" for attribute in unknown),
        *(
            f"{name}({attribute},{quoted(OTHERS[attribute][0])})"
            for attribute in OTHERS
            for name in OPERATORS
            if name not in MODEL[list_name].get(attribute, ())
        ),
        *(f"{name}(id,{UNKNOWN})" for name in ("ne", "is", "EQ", "is_null", "between", "not")),
        *("", " ", ":", "garbage", "eq(id", "eq(id,)", "id=a", f"eq(id,{UNKNOWN}):", "eq(id,x)"),
        *(f"eq(id,{UNKNOWN}) ", f"eq(id,{UNKNOWN}):eq(x,a)", f"eq(id,{UNKNOWN}):garbage"),
        *("gt(created_at,yesterday)", "gt(created_at,2026-13-01)", "gt(created_at,)"),
        ":".join([f"eq(id,{UNKNOWN})"] * 11),
        f"in(id,{','.join([UNKNOWN] * 101)})",
    ]
    for filter in refused[list(FILTERED).index(list_name) % 4 :: counted(4, 1)]:
        for parameters in ({"filter": filter}, {"filter": filter, "offset": "50", "limit": "1"}):
            response = await rest.send("GET", path, params=in_brackets(parameters))
            (error,) = errors_of(response, 400)
            assert error["detail"].startswith(BAD_FILTER), filter
    twice = [("filter", f"eq(id,{UNKNOWN})")] * 2
    await rest.refused(400, "GET", path, params=twice)


@pytest.mark.parametrize("path", ["/hierarchies"])
async def test_a_filter_has_at_most_8_kb(path: str, rest: RestClient) -> None:
    room = 8192 - len("eq(name,)")
    assert (await rest.list(path, filter=f"eq(name,{'a' * room})"))["data"] == []
    error = await rest.refused(400, "GET", path, params={"filter": f"eq(name,{'a' * (room + 1)})"})
    assert error["detail"] == f"{BAD_FILTER}: it has more than 8,192 bytes."


async def test_a_surrogate_or_bad_escape_in_a_filter_matches_nothing_or_is_refused(
    rest: RestClient,
) -> None:
    await hierarchies(rest)
    for sent in ("%00", "%ff", "%ed%a0%80", "%F0%9F%8C%B1", "%"):
        response = await rest.http.get(f"/pcm/hierarchies?filter=eq(name,{sent})")
        assert response.status_code in (200, 400), sent
        if response.status_code == 200:
            assert response.json()["data"] == []
    (error,) = errors_of(await rest.http.get("/pcm/hierarchies?filter=eq(name,%00)"), 400)
    assert error["detail"].startswith(BAD_FILTER)


async def test_filters_match_only_the_callers_store(rest: RestClient) -> None:
    await factories.hierarchy(rest.database, {}, name="Mine")
    await factories.hierarchy(rest.database, {}, name="Mine", store="another")
    for filter in ("eq(name,Mine)", "eq(owner,store)", "like(name,*)", "in(owner,store)"):
        page = await rest.list("/hierarchies", filter=filter)
        assert page["meta"]["results"]["total"] == len(page["data"]) == 1
    assert (await rest.list("/hierarchies", filter="eq(owner,organization)"))["data"] == []
