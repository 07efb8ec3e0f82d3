"""The console, a page at / for hierarchies and the queue."""

from pathlib import Path

from app.api.http.html_pages import HtmlPage
from app.api.web.playground import GRAPHIQL

FOLDER = Path(__file__).parent
ASSETS = FOLDER / "assets"

# Only this server's files: no inline script or style, no eval, no other host, and no text parsed
# as HTML.
POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    # The icon.
    "img-src 'self'",
    # Includes the WebSocket of this host.
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)

_PLAYGROUND_LINK = '<a href="graphql">Playground</a>'


def console(*, playground: bool) -> HtmlPage:
    """Return the page, with a link to the playground if it is enabled."""
    return HtmlPage(
        "console",
        (FOLDER / "index.html").read_text("utf-8"),
        POLICY,
        # The page loads only graphql-ws from the wheel.
        {"wheel": GRAPHIQL, "own": ASSETS},
        links=_PLAYGROUND_LINK if playground else "",
    )
