"""GraphiQL at /graphql for a browser: from this host only, under a strict policy, offline."""

import importlib.util
from pathlib import Path

from app.api.http.html_pages import HtmlPage

WHEEL = "graphene-django-graphiql-static"


def _wheel_folder() -> Path:
    # Found, never imported: the package wants Django, its files want nothing.
    name = WHEEL.replace("-", "_")
    spec = importlib.util.find_spec(name)
    for parent in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(parent, "static", name)
        if (folder / "graphiql.min.js").is_file():
            return folder
    raise RuntimeError(f"The playground is not installed: pip install {WHEEL}==0.8")


HERE = Path(__file__).parent
ASSETS = HERE / "assets"
GRAPHIQL = _wheel_folder()

# No inline script, no eval, no other host. The relaxations GraphiQL forces are the hash and the two
# data: below; none runs or sends anything. Two style attributes of CodeMirror's "jump to line" stay
# refused, and boot.css restores their look.
POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    # One constant style element, written while a dialog is open, holds the page still.
    "style-src 'self' 'sha256-Y/huXlwoYkVyQlxwSVcCi1RCDGDCSVBzDt0hYP9qlTc='",
    # Its style sheet carries fonts and lint marks as data: URLs.
    "font-src data:",
    "img-src data:",
    # The WebSocket of this same host included.
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)

PLAYGROUND = HtmlPage(
    "playground",
    (HERE / "index.html").read_text("utf-8"),
    POLICY,
    {"wheel": GRAPHIQL, "own": ASSETS},
)
"""The answer to a browser's GET of /graphql."""
