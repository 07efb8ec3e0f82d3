"""The page at /: the console if enabled, else a redirect to the playground."""

import httpx
import pytest

from app.settings import Settings
from tests.support.clients import client_of
from tests.support.gateway import gateway_of


@pytest.mark.parametrize("accept", ["text/html", "*/*"])
async def test_the_front_page_is_the_console(settings: Settings, accept: str) -> None:
    async with gateway_of(settings) as gateway, client_of(gateway) as client:
        page = await client.http.get("/", headers={"accept": accept})
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "<title>Console" in page.text
        script = page.text.split('src="')[1].split('"')[0]
        assert (await client.http.get(f"/{script}")).status_code == 200


async def test_without_a_console_the_front_page_redirects_to_graphql(settings: Settings) -> None:
    bare = settings.model_copy(update={"console": False})
    async with gateway_of(bare) as gateway, client_of(gateway) as client:
        front = await client.http.get("/", follow_redirects=False)
        assert front.status_code == httpx.codes.TEMPORARY_REDIRECT
        assert front.headers["location"] == "/graphql"
        assert (await client.http.get("/console/")).status_code == 404
