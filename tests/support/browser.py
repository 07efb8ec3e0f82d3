"""Debian's Chromium, and what it complains of while a test uses a page.

Without it, or without the playwright package, tests of pages are skipped.
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
"""The folder that pictures of pages are kept in; those of a test are thrown away without it."""

playwright: Any = pytest.importorskip(
    "playwright.sync_api", reason="the browser tests need the playwright package"
)
needs_chromium = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="the browser tests need Debian's chromium"
)

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
TELL_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error("policy:", event.violatedDirective, event.blockedURI));
"""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser with a profile that is empty, and thrown away."""
    with playwright.sync_playwright() as drivers:
        browser = drivers.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page of a server, and what the browser complained of meanwhile."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        """What was asked of other servers."""
        self._server = urlsplit(url)
        page.add_init_script(TELL_VIOLATIONS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._asked(request.url))
        page.on("websocket", lambda socket: self._asked(socket.url))
        page.goto(url)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, url: str) -> None:
        asked = urlsplit(url)
        if asked.scheme != "data" and asked.netloc != self._server.netloc:
            self.foreign.append(url)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Where a test puts its pictures."""
    folder = Path(os.environ.get(SCREENSHOTS) or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
