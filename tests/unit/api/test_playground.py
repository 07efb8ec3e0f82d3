import asyncio
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from graphql import build_schema, get_operation_ast, parse, validate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.api.web import playground
from app.api.web.playground import ASSETS, GRAPHIQL, PLAYGROUND
from app.settings import Settings
from tests.support.paths import SCHEMA

OPERATIONS = sorted(ASSETS.glob("*.graphql"))

Get = Callable[[str], httpx.Response]


@pytest.fixture
def get() -> Get:
    async def graphql(_: Request) -> Response:
        return PLAYGROUND.response()

    app = Starlette(routes=[Route("/graphql", graphql), PLAYGROUND.mount()])

    async def answer(path: str) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path)

    return lambda path: asyncio.run(answer(path))


def links(page: str) -> list[str]:
    return [part.split('"')[0] for part in page.split('="') if part.startswith("playground/")]


def test_the_page_allows_no_inline_script_no_eval_and_no_other_host(get: Get) -> None:
    policy = get("/graphql").headers["content-security-policy"]
    directives = dict(part.split(" ", 1) for part in policy.split("; "))

    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == "'self'"
    assert directives["connect-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"
    assert "unsafe" not in policy
    assert "//" not in policy.replace("'sha256-Y/huXlwoYkVyQlxwSVcCi1RCDGDCSVBzDt0hYP9qlTc='", "")


def test_the_page_contains_nothing_that_its_policy_blocks(get: Get) -> None:
    page = get("/graphql").text

    assert "<style" not in page
    assert " style=" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert all("src=" in tag for tag in page.split("<script")[1:])


def test_caches_separate_the_page_from_json_at_the_same_url(
    get: Get,
) -> None:
    headers = get("/graphql").headers

    assert headers["vary"] == "Accept"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-content-type-options"] == "nosniff"


def test_every_file_of_the_page_is_served_and_cached_forever(get: Get) -> None:
    named = links(get("/graphql").text)

    assert len(named) == 7
    for link in named:
        answer = get(f"/{link}")
        assert answer.status_code == 200, link
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"].split(";")[0] in ("text/javascript", "text/css")


def test_a_missing_file_is_not_cached(get: Get) -> None:
    answer = get(f"/playground/{PLAYGROUND.release}/own/nothing.js")

    assert answer.status_code == 404
    assert "cache-control" not in answer.headers


@pytest.mark.parametrize("folder", PLAYGROUND.folders)
@pytest.mark.parametrize(
    "path",
    [
        "../__init__.py",
        "../index.html",
        "../../__init__.py",
        "x/../../__init__.py",
        "..\\__init__.py",
        str(Path(playground.__file__)),
        "/etc/passwd",
        "../" * 20 + "etc/passwd",
        "",
        ".",
    ],
)
def test_nothing_outside_the_two_folders_is_served(get: Get, folder: str, path: str) -> None:
    # The client would resolve literal dots, and they would never reach the server.
    hidden = quote(path, safe="").replace(".", "%2e")

    assert get(f"/playground/{PLAYGROUND.release}/{folder}/{hidden}").status_code == 404


def test_the_folders_contain_no_server_code() -> None:
    assert not [file for folder in (ASSETS, GRAPHIQL) for file in folder.rglob("*.py")]


def test_without_the_wheel_the_error_names_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(RuntimeError, match="pip install graphene-django-graphiql-static"):
        playground._wheel_folder()


@pytest.mark.parametrize("file", OPERATIONS, ids=lambda file: file.stem)
def test_every_operation_offered_is_valid_against_the_schema(file: Path) -> None:
    if not SCHEMA.is_file():
        pytest.skip("schema.graphql is not exported yet")
    document = parse(file.read_text("utf-8"))

    assert validate(build_schema(SCHEMA.read_text("utf-8")), document) == []


def test_every_operation_of_the_boot_script_exists_and_is_named_like_its_file() -> None:
    script = (ASSETS / "boot.js").read_text("utf-8")

    assert {part.split('"')[0] for part in script.split('text("')[1:]} == {
        file.stem for file in OPERATIONS
    }
    for file in OPERATIONS:
        assert get_operation_ast(parse(file.read_text("utf-8")), file.stem), file.stem


@pytest.mark.parametrize(
    ("host", "playground", "shown"),
    [
        ("127.0.0.1", None, True),
        ("0.0.0.0", None, False),
        ("0.0.0.0", True, True),
        ("::1", False, False),
    ],
)
def test_it_is_shown_on_loopback_unless_configured_otherwise(
    host: str, playground: bool | None, shown: bool
) -> None:
    assert Settings(host=host, playground=playground).shows_playground is shown
