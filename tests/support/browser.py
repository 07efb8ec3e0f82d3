"""Debian's Chromium, and the warnings and errors that it reports for a page.

Tests of pages are marked `browser`. Without Chromium or the playwright package they are skipped.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = Path("/usr/bin/chromium")
SCREENSHOTS = "TESTS_SCREENSHOTS"
"""Variable that names a folder for screenshots; without it they are deleted with the test."""

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
LOG_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error("policy:", event.violatedDirective, event.blockedURI));
"""


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a browser with an empty, temporary profile."""
    playwright: Any = pytest.importorskip(
        "playwright.sync_api", reason="the browser tests need the playwright package"
    )
    if not CHROMIUM.exists():
        pytest.skip("the browser tests need Debian's chromium")
    with playwright.sync_playwright() as drivers:
        browser = drivers.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page of a server, with the complaints of the browser and its requests to other servers."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        """The URLs requested from other servers."""
        self._server = urlsplit(url)
        page.add_init_script(LOG_VIOLATIONS)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._on_request(request.url))
        page.on("websocket", lambda socket: self._on_request(socket.url))
        page.goto(url)

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _on_request(self, url: str) -> None:
        target = urlsplit(url)
        if target.scheme != "data" and target.netloc != self._server.netloc:
            self.foreign.append(url)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Return the folder for a test's screenshots."""
    folder = Path(os.environ.get(SCREENSHOTS) or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
