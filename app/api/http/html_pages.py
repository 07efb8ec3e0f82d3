"""HTML pages with their assets and a strict Content-Security-Policy."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from string import Template

from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


class HtmlPage:
    """A page and the folders of assets it loads."""

    def __init__(
        self,
        name: str,
        template: str,
        policy: Sequence[str],
        folders: Mapping[str, Path],
        **values: str,
    ) -> None:
        """`template` refers to the folders and to `values` by $name."""
        self.name = name
        self.folders = folders
        # Part of every asset path: assets can be cached forever, and a page never mixes the assets
        # of two releases.
        self.release = _digest(folders.values())
        self._policy = "; ".join(policy)
        # Relative, so that the page also works with a proxy that adds a path prefix.
        paths = {folder: f"{name}/{self.release}/{folder}" for folder in folders}
        self._html = Template(template).substitute(paths, **values)

    def response(self) -> Response:
        return HTMLResponse(
            self._html,
            headers={
                "Content-Security-Policy": self._policy,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-cache",
                # The same URL may return JSON to other clients.
                "Vary": "Accept",
            },
        )

    def mount(self) -> Mount:
        """Return a route for the assets, and no other files."""
        return Mount(
            f"/{self.name}",
            routes=[
                Mount(f"/{self.release}/{name}", _ImmutableFiles(directory=folder))
                for name, folder in self.folders.items()
            ],
            name=self.name,
        )


def _digest(folders: Iterable[Path]) -> str:
    digest = sha256()
    for file in sorted(file for folder in folders for file in folder.iterdir() if file.is_file()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


class _ImmutableFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
