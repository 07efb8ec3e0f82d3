"""The console at /: hierarchies and the queue for people who would rather look than read."""

from pathlib import Path

from app.api.http.html_pages import HtmlPage
from app.api.web.playground import GRAPHIQL

HERE = Path(__file__).parent
ASSETS = HERE / "assets"

# Nothing but this server's own files: no inline script or style, no eval, no other host, and no
# text that becomes markup.
POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    # The icon.
    "img-src 'self'",
    # The WebSocket of this same host included.
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)

_TO_THE_PLAYGROUND = '<a href="graphql">Playground</a>'


def console(*, playground: bool) -> HtmlPage:
    """The page at /, with a link to the playground where there is one."""
    return HtmlPage(
        "console",
        (HERE / "index.html").read_text("utf-8"),
        POLICY,
        # Of the wheel it loads graphql-ws alone.
        {"wheel": GRAPHIQL, "own": ASSETS},
        links=_TO_THE_PLAYGROUND if playground else "",
    )
