import pytest

from app.cli.client.client import base_url


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        (" http://127.0.0.1:8000/ ", "http://127.0.0.1:8000"),
        ("https://gateway.example/graphql", "https://gateway.example"),
        ("https://example.com/shop/graphql/", "https://example.com/shop"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_url_may_end_in_graphql_or_a_slash(url: str, base: str) -> None:
    assert base_url(url) == base


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "localhost:8000",
        "ftp://localhost",
        "http://",
        "http://localhost:0",
        "http://localhost:eight",
        "http://[::1",
        "http://localhost?store=a",
        "http://localhost#jobs",
        "http://user:secret@localhost",
    ],
)
def test_an_invalid_gateway_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|Port|IPv6"):
        base_url(url)
