"""The console in a real browser with a real server: display, actions, loss of the server, and
accessibility by keyboard, screen reader and phone."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.domain.callers import Scope
from app.domain.jobs import JobType
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from tests import factories
from tests.oracles.multi_store import SECRET, token_of
from tests.support.browser import Tab, album, chromium
from tests.support.processes import LiveServer, start_server
from tests.support.subscriber import whole_log

pytestmark = pytest.mark.browser

__all__ = ["album"]

PAUSE = "mutation($r: String) { pauseQueue(input: {reason: $r}) { errors { __typename } } }"
RESUME = "mutation { resumeQueue { errors { __typename } } }"
DUPLICATE = """mutation($id: ID!, $name: String) {
  duplicateHierarchy(input: {hierarchyId: $id, name: $name}) { job { id } } }"""
CANCEL = "mutation($id: ID!) { cancelJob(input: {jobId: $id}) { job { status } } }"
SOURCES = "{ hierarchies(first: 100) { nodes { id name } } }"
QUEUED = "{ queuedJobs(first: 100) { nodes { duplication { name } } } }"
NAMED = "{ jobs(first: 100) { nodes { status duplication { name } } } }"

SOURCE = "Pantry"
DEMO = "Garden and Outdoor"
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}


class Console(Tab):
    """The page, as a user sees and operates it."""

    def __init__(self, page: Any, url: str) -> None:
        self.sent: list[dict[str, Any]] = []
        """The messages sent on all sockets of the page."""
        self.received: list[dict[str, Any]] = []
        page.on("websocket", self._opened)
        super().__init__(page, f"{url}/")

    def _opened(self, opened: Any) -> None:
        opened.on("framesent", lambda frame: self.sent.append(json.loads(frame)))
        opened.on("framereceived", lambda frame: self.received.append(json.loads(frame)))

    @property
    def cursors(self) -> list[str]:
        """The cursors of the received events of the log, in order."""
        events = [
            message["payload"]["data"]["jobEvents"]
            for message in self.received
            if message["type"] == "next"
        ]
        return [event["cursor"] for event in events if event["type"] != "PROGRESS"]

    def live(self) -> "Console":
        """Wait until the page follows the queue. Return it."""
        self.page.locator("#link", has_text="Live").wait_for()
        return self

    def titles(self, listed: str) -> list[str]:
        return list(self.page.locator(f"#{listed} .title").all_inner_texts())

    def wait_for_titles(self, listed: str, names: list[str]) -> None:
        """Wait until a list starts with the jobs of these names, in this order."""
        self.page.wait_for_function(
            "([listed, names]) => { const shown = [...document.querySelectorAll("
            "`#${listed} .title`)].map((title) => title.textContent.split(' → ').at(-1));"
            " return JSON.stringify(shown.slice(0, names.length)) === JSON.stringify(names); }",
            arg=[listed, names],
        )

    def row(self, listed: str, name: str) -> Any:
        return self.page.locator(f"#{listed} .job").filter(has_text=f"→ {name}")

    def announced(self, words: str) -> None:
        """Wait until `words` are announced to screen readers."""
        self.page.locator("#announcements", has_text=words).wait_for(state="attached")

    def choose(self, hierarchy: str) -> None:
        """Open the newest hierarchy of this name."""
        self.page.get_by_label("Filter by name").fill(hierarchy)
        button = self.page.locator("#hierarchies button").filter(has_text=hierarchy).first
        button.click()
        self.page.locator("#hierarchy-name", has_text=hierarchy).wait_for()
        self.page.locator("#tree[aria-busy=false]").wait_for()
        self.page.get_by_label("Filter by name").fill("")

    def focused(self) -> str:
        text: str = self.page.evaluate(
            "() => { const at = document.activeElement;"
            " return at === document.body ? '' :"
            " at.getAttribute('aria-label') || at.id || at.textContent; }"
        )
        return text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with the demo data and one more hierarchy."""
    database_url = f"sqlite:///{tmp_path_factory.mktemp('console')}/console.db"
    started = start_server(database_url, "--demo")
    started.wait_for("SUCCEEDED")
    started.post('mutation { createHierarchy(input: {name: "Pantry"}) { errors { __typename } } }')
    yield started
    started.stop()


@pytest.fixture
def server(demo_server: LiveServer) -> Iterator[LiveServer]:
    """The shared server, resumed after each test."""
    yield demo_server
    demo_server.post(RESUME)


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Console]]:
    """A function that opens a page of a server in a new browser profile."""
    contexts = []

    def opened(url: str, before: Callable[[Any], None] = lambda _: None, **options: Any) -> Console:
        context = browser.new_context(**{"viewport": DESKTOP, **options})
        before(context)
        contexts.append(context)
        return Console(context.new_page(), url)

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def console(server: LiveServer, opened: Callable[..., Console]) -> Iterator[Console]:
    """The page on the shared server. The browser must not report errors or warnings."""
    page = opened(server.url).live()
    yield page
    assert page.complaints == []
    assert page.foreign == []


def in_database(database_url: str, work: Callable[[Database], Coroutine[Any, Any, Any]]) -> Any:
    """Run `work` on the database, in another thread: Playwright runs the loop of this one."""

    async def opened() -> Any:
        with closing(connect(database_url)) as database:
            return await work(database)

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, opened()).result()


def source_id(server: LiveServer, name: str = SOURCE) -> str:
    hierarchies = server.post(SOURCES)["hierarchies"]["nodes"]
    return next(str(node["id"]) for node in hierarchies if node["name"] == name)


def queue(server: LiveServer, *names: str) -> list[str]:
    """Enqueue duplications of these names. Return the ids of their jobs."""
    source = source_id(server)
    answers = [server.post(DUPLICATE, id=source, name=name) for name in names]
    return [str(answer["duplicateHierarchy"]["job"]["id"]) for answer in answers]


def test_the_page_opens_live_with_hierarchies_tree_queue_and_chart(
    console: Console, server: LiveServer, album: Path
) -> None:
    page = console.page
    console.choose(DEMO)
    page.get_by_role("img", name="Jobs of the last 24 hours by the hour").wait_for()
    page.get_by_text("As a table").click()

    assert (
        page.get_by_role("region", name="Jobs of the last 24 hours").get_by_role("row").count()
        == 25
    )
    page.get_by_role("treeitem").first.wait_for()
    assert page.locator("#ended .job").count() > 0
    page.get_by_text("As a table").click()
    page.screenshot(path=album / "console.png")


def test_names_with_hidden_or_right_to_left_characters_reorder_nothing(
    console: Console, server: LiveServer
) -> None:
    create = "mutation($n: String!) { createHierarchy(input: {name: $n}) { hierarchy { name } } }"
    hidden, hebrew = "Tool\u202egpj.exe\u200b", "\u05d2\u05df (1)"
    for name in (hidden, hebrew):
        assert server.post(create, n=name)["createHierarchy"]["hierarchy"]["name"] == name
    source = source_id(server)
    server.post(DUPLICATE, id=source, name=hidden)
    console.page.reload()
    console.live()
    listed = console.page.locator("#hierarchies")
    listed.get_by_text("Tool[U+202E]gpj.exe[U+200B]").first.wait_for()
    listed.get_by_text(f"\u2068{hebrew}\u2069").first.wait_for()
    # By its subscription too.
    title = console.page.locator(".job .title", has_text="Tool[U+202E]gpj.exe[U+200B]")
    title.first.wait_for()
    assert "\u202e" not in console.page.locator("body").inner_text()


def test_a_duplication_is_previewed_requested_and_watched_to_its_end(
    console: Console, server: LiveServer
) -> None:
    page = console.page
    console.choose(DEMO)
    page.get_by_role("button", name="Duplicate…").click()
    dialog = page.get_by_role("dialog")
    associations = dialog.locator("dt", has_text="Product associations").locator("+ dd")
    associations.filter(has_text="none").wait_for()
    dialog.get_by_label("Copy product associations too").check()
    associations.filter(has_not_text="none").wait_for()
    copied = int(associations.inner_text())
    dialog.get_by_label("Name").fill("Watched")
    dialog.get_by_role("button", name="Duplicate").click()
    done = console.row("ended", "Watched")
    done.filter(has_text="Done").filter(has_text="with products").wait_for()

    assert copied > 0
    done.get_by_role("button", name="Open copy").click()
    page.locator("#hierarchy-name", has_text="Watched").wait_for()
    page.locator("#hierarchies button[aria-current=true]", has_text="Watched").wait_for()
    assert console.focused() == "hierarchy-name"


def test_a_double_click_and_a_lost_answer_create_one_job(
    console: Console, server: LiveServer
) -> None:
    page = console.page
    lost: list[Any] = []

    def lose_the_first(route: Any) -> None:
        if "mutation Duplicate" in (route.request.post_data or "") and not lost:
            lost.append(route.fetch())
            route.abort()
        else:
            route.continue_()

    page.route("**/graphql", lose_the_first)
    console.choose(SOURCE)
    page.get_by_role("button", name="Duplicate…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Once")
    dialog.get_by_role("button", name="Duplicate").dblclick()
    dialog.get_by_role("alert").filter(has_text="does not create a second copy").wait_for()
    dialog.get_by_role("button", name="Duplicate").dblclick()
    dialog.wait_for(state="hidden")
    console.row("ended", "Once").wait_for()

    assert len(lost) == 1
    names = [job["duplication"]["name"] for job in server.post(NAMED)["jobs"]["nodes"]]
    assert names.count("Once") == 1
    assert len([title for title in console.titles("ended") if title.endswith("→ Once")]) == 1
    # The browser reports the aborted request.
    console.complaints.clear()


def test_an_invalid_name_is_reported_at_its_field(console: Console) -> None:
    page = console.page
    console.choose(SOURCE)
    page.get_by_role("button", name="Duplicate…").click()
    dialog = page.get_by_role("dialog")
    name = dialog.get_by_label("Name")
    name.fill("x" * 1001)
    dialog.get_by_role("button", name="Duplicate").click()
    error = dialog.locator("#duplicate-name-error")
    error.filter(has_text="1000").wait_for()

    assert name.get_attribute("aria-invalid") == "true"
    assert "duplicate-name-error" in (name.get_attribute("aria-describedby") or "")
    assert console.focused() == "duplicate-name"
    name.fill("Short")
    dialog.get_by_role("button", name="Duplicate").click()
    dialog.wait_for(state="hidden")


def test_a_paused_queue_is_reordered_shortened_and_resumed(
    console: Console, server: LiveServer, album: Path
) -> None:
    page = console.page
    page.get_by_role("button", name="Pause…").click()
    page.get_by_label("Reason").fill("Stock-taking until nine")
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    page.locator("#paused", has_text="Stock-taking until nine").wait_for()
    assert console.focused() == "resume"
    queue(server, "first", "second", "third")
    console.wait_for_titles("waiting", ["first", "second", "third"])
    page.screenshot(path=album / "console-paused.png")

    assert console.row("waiting", "first").get_by_role("button", name="Move").count() == 0
    console.row("waiting", "third").get_by_role("button", name="Move to front").press("Enter")
    console.wait_for_titles("waiting", ["third", "first", "second"])
    # The focus is not on a button: a second Enter would cancel the moved job.
    page.wait_for_function("() => document.activeElement.matches('.job')")
    assert "→ third" in console.focused()
    queued = server.post(QUEUED)["queuedJobs"]["nodes"]
    assert [job["duplication"]["name"] for job in queued] == ["third", "first", "second"]

    console.row("waiting", "first").get_by_role("button", name="Cancel").press("Enter")
    console.wait_for_titles("waiting", ["third", "second"])
    assert "→ second" in console.focused()
    console.row("ended", "first").filter(has_text="Cancelled").wait_for()
    console.announced("→ first is cancelled")

    page.get_by_role("button", name="Resume").click()
    console.wait_for_titles("ended", ["second", "third", "first"])
    page.locator("#paused").wait_for(state="hidden")
    page.locator("#waiting-empty").wait_for()


def test_long_lists_are_shown_in_parts(server: LiveServer, opened: Callable[..., Console]) -> None:
    server.post(PAUSE, r="so that many wait")
    names = [f"many {number:02}" for number in range(60)]
    queue(server, *names)
    console = opened(server.url).live()
    page = console.page
    console.wait_for_titles("waiting", names[:50])
    assert page.locator("#waiting .job").count() == 50
    queue(server, "the last")
    page.locator("#queue-count", has_text="61 waiting").wait_for()
    assert page.locator("#waiting .job").count() == 50

    # Further jobs are read when few of the shown ones are left.
    server.post(RESUME)
    console.wait_for_titles("ended", ["the last", *reversed(names[-20:])])
    page.locator("#waiting-empty").wait_for()
    assert page.locator("#ended .job").count() == 25
    page.locator("#ended-more").click()
    console.wait_for_titles("ended", ["the last", *reversed(names[-49:])])

    page.locator("#hierarchies li").nth(24).wait_for()
    assert page.locator("#hierarchies li").count() == 25
    page.locator("#hierarchies-more").click()
    page.locator("#hierarchies li").nth(49).wait_for()


def test_a_late_cancel_is_reported_at_its_job(console: Console, server: LiveServer) -> None:
    page = console.page
    server.post(PAUSE, r="so that it waits")
    (job,) = queue(server, "Too late")
    console.row("waiting", "Too late").wait_for()

    def be_late(route: Any) -> None:
        if "mutation Cancel" in (route.request.post_data or ""):
            server.post(CANCEL, id=job)
        route.continue_()

    page.route("**/graphql", be_late)
    console.row("waiting", "Too late").get_by_role("button", name="Cancel").click()
    console.row("ended", "Too late").filter(has_text="Not done:").wait_for()
    console.announced("cancelled")


def test_a_failed_job_shows_its_error_and_is_retried(console: Console, server: LiveServer) -> None:
    page = console.page
    in_database(
        server.database_url, lambda database: factories.pending_job(database, JobType.PRICE_IMPORT)
    )
    failed = page.locator("#ended .job[data-status=FAILED]").filter(has_text="Price import")
    failed.filter(has_text="NO_HANDLER").wait_for()
    server.post(PAUSE, r="so that the retry waits")
    failed.get_by_role("button", name="Retry").click()
    page.locator("#waiting .job", has_text="Price import").filter(has_text="a retry").wait_for()

    failed.filter(has_text="retried").wait_for()
    failed.get_by_role("button", name="Retry").wait_for(state="hidden")
    console.announced("Price import is queued again")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def test_a_restart_of_the_server_loses_or_repeats_no_event(
    tmp_path: Path, opened: Callable[..., Console], album: Path
) -> None:
    port, database_url = free_port(), f"sqlite:///{tmp_path}/restart.db"
    server = start_server(database_url, "--port", str(port))
    server.post('mutation { createHierarchy(input: {name: "Pantry"}) { errors { __typename } } }')
    console = opened(server.url).live()
    queue(server, "before")
    console.row("ended", "before").wait_for()
    source = UUID(source_id(server))
    server.kill()

    console.page.get_by_role("status").filter(has_text="Disconnected since").wait_for()
    console.page.locator("#notice-countdown", has_text="Next try in").wait_for()
    console.page.screenshot(path=album / "console-disconnected.png")
    in_database(
        database_url,
        lambda database: factories.pending_duplication(database, source, name="meanwhile"),
    )
    received = console.cursors
    server = start_server(database_url, "--port", str(port))
    console.live()
    console.page.get_by_role("status").filter(has_text="Connected again").wait_for()
    queue(server, "after")
    console.wait_for_titles("ended", ["after", "meanwhile", "before"])

    subscribed = [message for message in console.sent if message["type"] == "subscribe"]
    assert subscribed[-1]["payload"]["variables"]["after"] == received[-1]
    # Events before the page opened are not requested: the lists include them.
    log = [cursor for cursor, _, _ in whole_log(database_url)]
    assert console.cursors == log
    assert len(console.titles("ended")) == 3
    server.stop()


def test_late_and_repeated_events_change_nothing(
    server: LiveServer, opened: Callable[..., Console]
) -> None:
    def repeat_events(routed: Any) -> None:
        sent: list[str] = []

        def send(message: str) -> None:
            routed.send(message)
            if '"SUCCEEDED"' in message:
                for earlier in sent:
                    routed.send(earlier)
            elif '"next"' in message:
                sent.append(message)

        routed.connect_to_server().on_message(send)

    def before(context: Any) -> None:
        context.route_web_socket("**/graphql", repeat_events)

    console = opened(server.url, before).live()
    queue(server, "repeated")
    console.row("ended", "repeated").wait_for()
    queue(server, "last")
    console.wait_for_titles("ended", ["last", "repeated"])

    assert console.titles("waiting") == []
    assert console.titles("running") == []
    shown = [title for title in console.titles("ended") if title.endswith("repeated")]
    assert len(shown) == 1


def test_a_cursor_of_another_log_makes_the_page_read_everything_again(
    tmp_path: Path, opened: Callable[..., Console]
) -> None:
    port = free_port()
    create = 'mutation { createHierarchy(input: {name: "Pantry"}) { errors { __typename } } }'
    server = start_server(f"sqlite:///{tmp_path}/old.db", "--port", str(port))
    server.post(create)
    console = opened(server.url).live()
    queue(server, "of the old log", "of it too")
    console.wait_for_titles("ended", ["of it too", "of the old log"])
    server.stop()
    disconnected = console.page.get_by_role("status").filter(has_text="Disconnected since")
    disconnected.wait_for()
    console.page.get_by_role("button", name="Try now").click()
    disconnected.wait_for()
    server = start_server(f"sqlite:///{tmp_path}/new.db", "--port", str(port))
    server.post(create)
    # The page may already have reconnected by itself.
    console.page.evaluate("dispatchEvent(new Event('online'))")
    console.page.locator("#ended-empty").wait_for()
    console.page.get_by_role("status").filter(has_text="everything is read again").wait_for()
    queue(server, "of the new log")
    console.wait_for_titles("ended", ["of the new log"])

    codes = [
        message["payload"][0]["extensions"]["code"]
        for message in console.received
        if message["type"] == "error"
    ]
    assert codes == ["CURSOR_INVALID"]
    assert len(console.titles("ended")) == 1
    server.stop()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with authentication."""
    folder = tmp_path_factory.mktemp("guarded")
    started = start_server(f"sqlite:///{folder}/guarded.db", JOBS_GATEWAY_JWT_SECRET=SECRET)
    yield started
    started.stop()


def test_a_token_is_requested_used_by_every_transport_and_forgotten(
    guarded: LiveServer, opened: Callable[..., Console], album: Path
) -> None:
    console = opened(guarded.url)
    page = console.page
    token_field = page.get_by_label("Bearer token")
    token_field.wait_for()
    assert console.focused() == "token-text"
    page.screenshot(path=album / "console-token.png")
    token_field.fill("nonsense")
    token_field.press("Enter")
    page.locator("#token-why", has_text="token").filter(
        has_not_text="requires authentication"
    ).wait_for()
    token = token_of("alpha")
    token_field.fill(token)
    with page.expect_request(lambda request: request.method == "POST") as sent:
        token_field.press("Enter")
    console.live()

    assert sent.value.headers["authorization"] == f"Bearer {token}"
    (first, *_) = console.sent
    assert first == {"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}}
    assert token not in page.evaluate("() => JSON.stringify(localStorage) + document.cookie")
    page.reload()
    console.live()
    page.get_by_role("button", name="Forget token").click()
    token_field.wait_for()
    assert page.evaluate("() => sessionStorage.length") == 0
    assert console.foreign == []


def test_a_token_without_a_scope_shows_the_missing_scope(
    guarded: LiveServer, opened: Callable[..., Console]
) -> None:
    console = opened(guarded.url)
    console.page.get_by_label("Bearer token").fill(token_of("alpha", [Scope.HIERARCHIES_READ]))
    console.page.get_by_role("button", name="Use it").click()

    console.page.get_by_role("status").filter(has_text="jobs:read").wait_for()
    console.page.get_by_role("heading", name="Hierarchies").wait_for()


def test_a_read_only_token_shows_the_missing_scope_at_the_action(
    guarded: LiveServer, opened: Callable[..., Console]
) -> None:
    async def furnished(database: Database) -> None:
        source = await factories.hierarchy(database, {}, store="beta")
        await factories.pending_duplication(database, source, store="beta", name="Kept")

    in_database(guarded.database_url, furnished)
    console = opened(guarded.url)
    readable = token_of("beta", [Scope.HIERARCHIES_READ, Scope.JOBS_READ])
    console.page.get_by_label("Bearer token").fill(readable)
    console.page.get_by_role("button", name="Use it").click()
    console.live()
    console.row("ended", "Kept").wait_for()
    console.page.get_by_role("button", name="Pause…").click()
    console.page.get_by_role("dialog").get_by_role("button", name="Pause").click()

    console.page.locator("#pause-error", has_text="jobs:write").wait_for()
    assert console.focused() == "pause-reason"


def test_the_tree_is_navigated_by_keyboard(console: Console, server: LiveServer) -> None:
    page = console.page

    async def planted(database: Database) -> None:
        tree: factories.Tree = {
            "Herbs": {"Basil": {}, "Mint": {"Peppermint": {}}},
            "Trees": {f"Tree {number:03}": {} for number in range(130)},
            "Tulips": {},
        }
        await factories.hierarchy(database, tree, name="Planted")

    in_database(server.database_url, planted)
    console.choose("Planted")
    page.locator("#collapse-all").focus()
    page.keyboard.press("Tab")
    if console.focused() != "tree":
        page.keyboard.press("Tab")
    assert console.focused() == "tree"

    def active() -> dict[str, str | None]:
        state: dict[str, str | None] = page.evaluate(
            "() => { const tree = document.getElementById('tree');"
            " const row = document.getElementById(tree.getAttribute('aria-activedescendant'));"
            " return { name: row.querySelector('.name').textContent, level: row.ariaLevel,"
            " position: `${row.ariaPosInSet} of ${row.ariaSetSize}`, open: row.ariaExpanded }; }"
        )
        return state

    assert active() == {"name": "Herbs", "level": "1", "position": "1 of 3", "open": "false"}
    page.keyboard.press("ArrowRight")
    page.get_by_role("treeitem", name="Basil").wait_for()
    assert active()["open"] == "true"
    for key, name in [
        *(("ArrowRight", "Basil"), ("ArrowDown", "Mint"), ("End", "Tulips"), ("Home", "Herbs")),
        *(("m", "Mint"), ("ArrowLeft", "Herbs"), ("t", "Trees"), ("u", "Tulips")),
        *(("ArrowUp", "Trees"), ("Home", "Herbs"), ("ArrowLeft", "Herbs")),
    ]:
        page.keyboard.press(key)
        assert active()["name"] == name, key
    assert active()["open"] == "false"
    assert page.get_by_role("treeitem").count() == 3
    assert console.focused() == "tree"
    assert page.locator("#tree-path").inner_text() == "Herbs"

    page.keyboard.press("t")
    page.keyboard.press("ArrowRight")
    page.get_by_role("treeitem", name="Tree 000").wait_for()
    page.keyboard.press("End")
    page.keyboard.press("ArrowUp")
    assert active()["name"] == "Show more (30 left)"
    page.keyboard.press("Enter")
    page.locator("#tree-path", has_text="Tree 100").wait_for()
    assert active() == {"name": "Tree 100", "level": "2", "position": "101 of 130", "open": None}


def test_ten_thousand_nodes_open_at_once_and_scroll_smoothly(
    console: Console,
    server: LiveServer,
    taxonomy: Path,
    album: Path,
    report: Callable[[str], None],
) -> None:
    page = console.page
    command = ("-m", "app", "import", taxonomy, "--name", "Taxonomy")
    subprocess.run(
        [sys.executable, *command, "--database-url", server.database_url],
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
    )
    console.choose("Taxonomy")
    page.evaluate(
        "() => { window.longest = 0; new PerformanceObserver((list) => {"
        " for (const task of list.getEntries())"
        " window.longest = Math.max(window.longest, task.duration);"
        " }).observe({ type: 'longtask' }); }"
    )
    page.get_by_role("button", name="Expand all").click()
    page.locator("#tree-state").get_by_text("10,281 rows", exact=True).wait_for(timeout=60_000)
    frames = page.evaluate(
        """async () => {
          const tree = document.getElementById("tree");
          const frame = () => new Promise(requestAnimationFrame);
          const took = [];
          for (let step = 1, last = await frame(); step <= 100; step++) {
            tree.scrollTop = ((tree.scrollHeight - tree.clientHeight) * step) / 100;
            const now = await frame();
            took.push(now - last);
            last = now;
          }
          return took.sort((first, second) => first - second);
        }"""
    )
    longest = page.evaluate("() => window.longest")
    in_document = page.get_by_role("treeitem").count()
    report(
        f"10,281 rows: longest task {longest:.0f} ms, frames while scrolling p50 "
        f"{frames[50]:.0f} ms, p99 {frames[98]:.0f} ms; {in_document} rows in the document"
    )

    assert in_document < 100
    assert longest < 2000
    page.get_by_role("treeitem", name="Yachts").wait_for()
    page.screenshot(path=album / "console-tree.png")
    page.get_by_role("button", name="Collapse").click()
    page.get_by_label("Language").select_option("de")
    page.get_by_role("treeitem", name="Tiere & Tierbedarf").wait_for()


def test_a_phone_shows_everything_without_scrolling_sideways(
    server: LiveServer, opened: Callable[..., Console], album: Path
) -> None:
    server.post(PAUSE, r="a reason_without_a_possible_line_break_" * 4)
    queue(server, "a_name_without_a_possible_line_break_" * 6)
    console = opened(server.url, viewport=PHONE, has_touch=True, is_mobile=True).live()
    page = console.page
    page.locator("#waiting .job").first.wait_for()
    page.get_by_text("As a table").click()

    def too_wide() -> list[str]:
        elements: list[str] = page.evaluate(
            "() => document.documentElement.scrollWidth <= innerWidth ? [] :"
            " [...document.querySelectorAll('body *')].filter((element) =>"
            " element.getBoundingClientRect().right > innerWidth + 1)"
            ".map((element) => element.outerHTML)"
        )
        return elements

    assert page.evaluate("() => innerWidth") == PHONE["width"]
    assert too_wide() == []
    page.screenshot(path=album / "console-phone.png", full_page=True)
    page.get_by_role("button", name="Duplicate…").click()
    page.get_by_role("dialog").locator("dd").first.wait_for()
    assert too_wide() == []


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, which checks accessibility."""
    spec = find_spec("axe_playwright_python")
    assert spec, "the browser extra brings axe-core"
    (folder,) = list(spec.submodule_search_locations or [])
    return Path(folder, "axe.min.js").read_text("utf-8")


def findings(page: Any, axe: str) -> list[str]:
    """Return axe's findings with impact "serious" or "critical"."""
    # Through the debugger, because the page's content security policy allows no other script.
    page.evaluate(axe)
    violations = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{rule['id']}: {node['html']} {node['failureSummary']}"
        for rule in violations
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    scheme: str,
    server: LiveServer,
    guarded: LiveServer,
    opened: Callable[..., Console],
    axe: str,
    album: Path,
) -> None:
    in_database(
        server.database_url, lambda database: factories.pending_job(database, JobType.PRICE_IMPORT)
    )
    console = opened(server.url, color_scheme=scheme).live()
    page = console.page
    page.locator("#ended .job[data-status=FAILED]").first.wait_for()
    server.post(PAUSE, r="so that jobs wait")
    queue(server, "first", "second")
    console.row("waiting", "second").wait_for()
    page.evaluate("() => dispatchEvent(new Event('focus'))")
    page.locator("#paused", has_text="so that jobs wait").wait_for()
    page.get_by_text("As a table").click()
    console.choose(DEMO)
    page.get_by_role("button", name="Expand all").click()
    page.locator("#tree [aria-expanded=true]").first.wait_for()
    page.screenshot(path=album / f"console-{scheme}.png", full_page=True)

    assert findings(page, axe) == []
    page.get_by_role("button", name="Duplicate…").click()
    page.get_by_role("dialog").locator("dd").first.wait_for()
    page.get_by_role("dialog").get_by_label("Name").fill("x" * 1001)
    page.get_by_role("dialog").get_by_role("button", name="Duplicate").click()
    page.locator("#duplicate-name-error", has_text="1000").wait_for()
    assert findings(page, axe) == []

    form = opened(guarded.url, color_scheme=scheme).page
    form.get_by_label("Bearer token").wait_for()
    assert findings(form, axe) == []
