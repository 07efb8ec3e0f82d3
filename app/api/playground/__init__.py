"""GraphiQL at /graphql for a browser: from this host only, under a strict policy, offline."""

import importlib.util
from hashlib import sha256
from pathlib import Path
from string import Template

from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

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


def _digest(*folders: Path) -> str:
    digest = sha256()
    for file in sorted(file for folder in folders for file in folder.iterdir() if file.is_file()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


# In every path, so that a file may be kept for ever and a new release is never half an old one.
RELEASE = _digest(GRAPHIQL, ASSETS)

# No inline script, no eval, no other host. The relaxations GraphiQL forces are the hash and the two
# data: below; none runs or sends anything. Two style attributes of CodeMirror's "jump to line" stay
# refused, and boot.css restores their look.
POLICY = "; ".join(
    (
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
)

# Relative, so that the page also works behind a proxy that adds a prefix.
_PAGE = Template((HERE / "index.html").read_text("utf-8")).substitute(
    wheel=f"playground/{RELEASE}/graphiql", own=f"playground/{RELEASE}"
)


class _KeptForEver(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def playground_page() -> Response:
    """The answer to a browser's GET of /graphql."""
    return HTMLResponse(
        _PAGE,
        headers={
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
            # The same address answers a program with JSON.
            "Vary": "Accept",
        },
    )


def playground_files() -> Mount:
    """What the page loads, and nothing else of the disk."""
    return Mount(
        "/playground",
        routes=[
            Mount(f"/{RELEASE}/graphiql", _KeptForEver(directory=GRAPHIQL)),
            Mount(f"/{RELEASE}", _KeptForEver(directory=ASSETS)),
        ],
        name="playground",
    )
