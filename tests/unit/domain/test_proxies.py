"""The proxy of a request, by the variables that other clients read."""

import pytest

from app.domain.proxies import BadProxy, proxy_for

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "environment", "variable"),
    [
        ("http://gateway.example", {"http_proxy": PROXY}, "http_proxy"),
        ("http://gateway.example", {"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        ("http://gateway.example", {"HTTP_PROXY": "http://a", "http_proxy": PROXY}, "http_proxy"),
        ("https://gateway.example", {"HTTPS_PROXY": PROXY, "http_proxy": "x:1"}, "HTTPS_PROXY"),
        ("https://gateway.example", {"ALL_PROXY": PROXY}, "ALL_PROXY"),
        ("http://gateway.example", {"ALL_PROXY": "http://a", "http_proxy": PROXY}, "http_proxy"),
    ],
)
def test_the_proxy_is_that_of_the_scheme_or_of_all(
    url: str, environment: dict[str, str], variable: str
) -> None:
    proxy = proxy_for(url, environment)
    assert proxy
    assert (proxy.url, proxy.variable) == (PROXY, variable)


@pytest.mark.parametrize("environment", [{}, {"http_proxy": ""}, {"https_proxy": PROXY}])
def test_without_a_variable_of_the_scheme_the_connection_is_direct(
    environment: dict[str, str],
) -> None:
    assert proxy_for("http://gateway.example", environment) is None


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "127.9.9.9:8000", "localhost:8000"]
)
def test_this_machine_is_never_reached_by_a_proxy(host: str) -> None:
    assert proxy_for(f"http://{host}/", {"http_proxy": PROXY}) is None


@pytest.mark.parametrize(
    ("no_proxy", "direct", "proxied"),
    [
        ("*", ["gateway.example", "10.0.0.1"], []),
        ("gateway.example", ["gateway.example", "a.gateway.example"], ["mygateway.example"]),
        (".example", ["gateway.example"], ["example.com"]),
        ("*.example", ["gateway.example", "example"], ["example.com"]),
        ("gateway.example:8000", ["gateway.example:8000"], ["gateway.example", "a:8000"]),
        ("other, GATEWAY.example ,x", ["Gateway.Example"], ["y"]),
        ("other gateway.example", ["gateway.example."], ["y"]),
        ("10.0.0.0/8", ["10.1.2.3", "10.1.2.3:8000"], ["11.0.0.1", "ten.example"]),
        ("10.0.0.1", ["10.0.0.1"], ["10.0.0.11"]),
        ("fd00::/8", ["[fd00::1]"], ["[fe00::1]"]),
        ("[fd00::1]:8000", ["[fd00::1]:8000"], ["[fd00::1]:8001"]),
        ("fd00::1", ["[fd00::1]:8000"], ["fd00.example"]),
        (",", [], ["gateway.example"]),
    ],
)
def test_no_proxy_excludes_names_addresses_networks_and_ports(
    no_proxy: str, direct: list[str], proxied: list[str]
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        environment = {"http_proxy": PROXY, name: no_proxy}
        for host in direct:
            assert proxy_for(f"http://{host}/graphql", environment) is None, host
        for host in proxied:
            assert proxy_for(f"http://{host}/graphql", environment), host


@pytest.mark.parametrize(
    "value",
    [
        "socks5://proxy.example:1080",
        "http://",
        "://",
        "http://proxy.example:port",
        "http://proxy.example:99999",
        "http://proxy.example:0",
        "http://me:s3cret@proxy example:3128",
        "http://me:s3cret@[::1",
        "ht!tp://proxy.example",
        "http://pröxy\x1b.example",
    ],
)
def test_any_other_proxy_is_refused_by_the_name_of_its_variable(value: str) -> None:
    with pytest.raises(BadProxy, match=r"^HTTP_PROXY must be the URL of an HTTP proxy") as refused:
        proxy_for("http://gateway.example", {"HTTP_PROXY": value})
    assert str(refused.value).isprintable()
    assert "s3cret" not in str(refused.value)


def test_a_proxy_is_shown_without_its_password() -> None:
    proxy = proxy_for("http://gateway.example", {"http_proxy": "me:s3cret@proxy.example:3128"})
    assert proxy
    assert proxy.url == "http://me:s3cret@proxy.example:3128"
    assert str(proxy) == "http://me:***@proxy.example:3128 (http_proxy)"
