"""The playground, GraphiQL at /graphql: from this host only, offline, with a strict policy."""

import importlib.util
from pathlib import Path

from app.api.http.html_pages import HtmlPage

WHEEL = "graphene-django-graphiql-static"


def _wheel_folder() -> Path:
    # Not imported: the package needs Django, its files do not.
    name = WHEEL.replace("-", "_")
    spec = importlib.util.find_spec(name)
    for parent in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(parent, "static", name)
        if (folder / "graphiql.min.js").is_file():
            return folder
    raise RuntimeError(f"The playground is not installed: pip install {WHEEL}==0.8")


FOLDER = Path(__file__).parent
ASSETS = FOLDER / "assets"
GRAPHIQL = _wheel_folder()

# No inline script, no eval, no other host. GraphiQL needs the hash and the two data: below; they
# neither run nor send anything. Two style attributes of CodeMirror's "jump to line" stay blocked,
# and boot.css sets the same style.
POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    # A constant style element stops the page from scrolling while a dialog is open.
    "style-src 'self' 'sha256-Y/huXlwoYkVyQlxwSVcCi1RCDGDCSVBzDt0hYP9qlTc='",
    # Its style sheet has fonts and lint marks as data: URLs.
    "font-src data:",
    "img-src data:",
    # Includes the WebSocket of this host.
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)

PLAYGROUND = HtmlPage(
    "playground",
    (FOLDER / "index.html").read_text("utf-8"),
    POLICY,
    {"wheel": GRAPHIQL, "own": ASSETS},
)
"""The response to a browser's GET of /graphql."""
