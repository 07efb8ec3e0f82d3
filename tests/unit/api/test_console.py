"""The console: its content security policy, and operations valid for the schema."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from graphql import FragmentDefinitionNode, OperationDefinitionNode, parse, validate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.api.auth.limits import Limits
from app.api.graphql.admission.cost import operation_cost
from app.api.graphql.schema import graphql_schema
from app.api.web.console import ASSETS, console
from app.settings import Settings

MODULES = sorted(ASSETS.glob("*.js"))

Get = Callable[[str], httpx.Response]


@pytest.fixture
def get() -> Get:
    page = console(playground=True)

    async def front(_: Request) -> Response:
        return page.response()

    app = Starlette(routes=[Route("/", front), page.mount()])

    async def answer(path: str) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path)

    return lambda path: asyncio.run(answer(path))


def test_the_policy_allows_this_servers_files_and_nothing_else(get: Get) -> None:
    policy = get("/").headers["content-security-policy"]
    directives = dict(part.split(" ", 1) for part in policy.split("; "))

    assert directives.pop("default-src") == "'none'"
    assert {directives.pop(f"{kind}-src") for kind in ("script", "style", "img", "connect")} == {
        "'self'"
    }
    assert directives == {
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        # No text becomes markup.
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_the_page_contains_nothing_that_its_policy_blocks(get: Get) -> None:
    page = get("/").text

    assert "<style" not in page
    assert not re.search(r"\s(style|on\w+)=", page)
    assert "http://" not in page
    assert "https://" not in page
    assert all("src=" in tag for tag in page.split("<script")[1:])


def test_every_address_is_relative_so_that_a_proxy_may_add_a_prefix(get: Get) -> None:
    addresses = re.findall(r'(?:src|href)="([^"#]+)"', get("/").text)

    assert len(addresses) == 5
    for address in addresses:
        assert re.match(r"console/|graphql$", address), address


def test_every_file_of_the_page_is_served_and_cached_forever(get: Get) -> None:
    named = re.findall(r'(?:src|href)="(console/[^"]+)"', get("/").text)
    kinds = {get(f"/{address}").headers["content-type"].split(";")[0] for address in named}

    assert kinds == {"image/svg+xml", "text/css", "text/javascript"}
    for address in named:
        assert "immutable" in get(f"/{address}").headers["cache-control"]
    assert get("/").headers["cache-control"] == "no-cache"


def test_without_a_playground_no_link_leads_to_it() -> None:
    assert b'href="graphql"' in bytes(console(playground=True).response().body)
    assert b'href="graphql"' not in bytes(console(playground=False).response().body)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_every_module_imports_existing_modules(module: Path) -> None:
    for name in re.findall(r'from "\./([^"]+)"', module.read_text("utf-8")):
        assert (ASSETS / name).is_file(), name


def test_no_module_turns_text_into_markup() -> None:
    for module in MODULES:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function",
            module.read_text("utf-8"),
        ), module.name


def test_every_operation_is_valid_against_the_schema_and_within_its_limits() -> None:
    module = (ASSETS / "operations.js").read_text("utf-8")
    texts = re.findall(r"`\n([^`]*)`", module)
    fragments = "".join(text for text in texts if text.startswith("fragment"))
    operations = [text for text in texts if not text.startswith("fragment")]

    assert len(operations) == module.count("export const")
    for text in operations:
        document = parse(text.replace("${JOB}", fragments))
        assert validate(graphql_schema, document) == [], text
        (operation, *_) = document.definitions
        assert isinstance(operation, OperationDefinitionNode)
        named = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        largest = {"ids": ["0"] * 30, "ended": 100, "first": 100}
        total = operation_cost(graphql_schema, named, operation, largest)
        assert total.cost <= Limits().max_cost, (text, total.cost)


@pytest.mark.parametrize(
    ("host", "console", "shown"),
    [
        ("127.0.0.1", None, True),
        ("0.0.0.0", None, False),
        ("0.0.0.0", True, True),
        ("::1", False, False),
    ],
)
def test_it_is_shown_on_loopback_unless_configured_otherwise(
    host: str, console: bool | None, shown: bool
) -> None:
    assert Settings(host=host, console=console).shows_console is shown
