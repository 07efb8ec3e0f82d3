import json
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from tests.support.browser import Tab, chromium

pytestmark = pytest.mark.browser


class Server(Protocol):
    url: str


class Playground(Tab):
    """The page, as a user operates it."""

    def __init__(self, page: Any, server: str) -> None:
        super().__init__(page, f"{server}/graphql")
        page.wait_for_selector(".graphiql-execute-button")

    def tabs(self) -> list[str]:
        return list(self.page.locator(".graphiql-tab").all_inner_texts())

    def open(self, tab: str) -> None:
        self.page.locator(".graphiql-tab button").filter(has_text=tab).first.click()
        self._wait_until_run_means(tab)

    def _wait_until_run_means(self, operation: str) -> None:
        # GraphiQL reads the document a moment after it changed.
        self.page.wait_for_function(
            "(name) => document.querySelector('.graphiql-query-editor .CodeMirror')"
            ".CodeMirror.operationName === name",
            arg=operation,
        )

    def write(self, operation: str, document: str) -> None:
        self.page.evaluate(
            "(text) => document.querySelector('.graphiql-query-editor .CodeMirror')"
            ".CodeMirror.setValue(text)",
            document,
        )
        self._wait_until_run_means(operation)

    def press_run_or_stop(self) -> None:
        self.page.locator(".graphiql-execute-button").click()

    def wait_for_button(self, label: str) -> None:
        self.page.wait_for_selector(f".graphiql-execute-button[aria-label^='{label}']")

    def result(self, expected: str) -> Any:
        """Wait until the result contains the expected text. Return the result."""
        shown = self.page.wait_for_function(
            "(expected) => { const text = document.querySelector('.result-window .CodeMirror')"
            ".CodeMirror.getValue(); return text.includes(expected) && text; }",
            arg=expected,
        )
        return json.loads(shown.json_value())


@pytest.fixture
def open_page(live_server: Server) -> Iterator[Playground]:
    with chromium() as browser:
        yield Playground(browser.new_page(), live_server.url)


def test_the_page_opens_with_four_runnable_tabs_and_no_browser_error(
    open_page: Playground,
) -> None:
    open_page.page.wait_for_load_state("networkidle")

    assert open_page.tabs() == ["ListHierarchies", "DuplicateHierarchy", "WatchJob", "CancelJob"]
    assert open_page.complaints == []
    assert open_page.foreign == []


def test_the_documentation_opens_on_the_schema(open_page: Playground) -> None:
    open_page.page.get_by_label("Show Documentation Explorer").click()
    docs = open_page.page.locator(".graphiql-doc-explorer")
    docs.get_by_role("link", name="Subscription", exact=True).first.click()
    docs.get_by_role("link", name="jobUpdates").wait_for()

    assert open_page.complaints == []


def test_the_settings_open_without_a_policy_violation(open_page: Playground) -> None:
    open_page.page.get_by_label("Open settings dialog").click()
    open_page.page.get_by_text("Clear storage").first.wait_for()

    assert open_page.complaints == []


def test_a_query_runs_and_shows_its_result(open_page: Playground) -> None:
    open_page.press_run_or_stop()
    hierarchies = open_page.result('"hierarchies"')["data"]["hierarchies"]

    assert hierarchies["nodes"][0]["id"]
    assert open_page.complaints == []


def test_the_watch_tab_follows_a_queued_duplication_to_its_end(
    open_page: Playground,
) -> None:
    open_page.open("DuplicateHierarchy")
    open_page.press_run_or_stop()
    job = open_page.result('"queuePosition"')["data"]["duplicateHierarchy"]["job"]

    open_page.open("WatchJob")
    open_page.page.wait_for_function(
        "(id) => [...document.querySelectorAll('.graphiql-editor-tool .CodeMirror')]"
        ".some((editor) => editor.CodeMirror.getValue().includes(id))",
        arg=job["id"],
    )
    open_page.press_run_or_stop()
    last = open_page.result('"SUCCESS"')["data"]["jobUpdates"]

    assert last["job"]["duplication"]["result"]["id"]
    assert open_page.complaints == []
    assert open_page.foreign == []


def test_the_cancel_tab_runs_on_the_newest_job_and_shows_the_typed_refusal(
    open_page: Playground,
) -> None:
    open_page.open("CancelJob")
    open_page.press_run_or_stop()
    payload = open_page.result('"cancelJob"')["data"]["cancelJob"]

    # The newest job has ended.
    assert payload["job"]["status"] == "SUCCESS"
    assert [error["__typename"] for error in payload["errors"]] == ["JobNotCancellable"]
    assert open_page.complaints == []


def test_a_subscription_shows_its_events_in_turn_until_it_is_stopped(
    open_page: Playground,
) -> None:
    page = open_page.page
    page.evaluate(
        "() => { const shown = (window.shown = new Set());"
        " const view = document.querySelector('.result-window .CodeMirror').CodeMirror;"
        " view.on('change', () => shown.add(view.getValue())); }"
    )
    open_page.write(
        "Everything", "subscription Everything { jobEvents { cursor type job { id } } }"
    )
    with page.expect_websocket() as opened:
        open_page.press_run_or_stop()
    open_page.wait_for_button("Stop")

    # The first job may end before the subscription is active.
    duplicate(page)
    duplicate(page)
    page.wait_for_function(
        "() => new Set([...shown].flatMap((text) => {"
        " try { return JSON.parse(text).data.jobEvents.cursor } catch { return [] }"
        "})).size >= 3"
    )

    open_page.press_run_or_stop()
    open_page.wait_for_button("Execute")
    socket = opened.value
    if not socket.is_closed():
        socket.wait_for_event("close")
    assert open_page.complaints == []


def test_a_token_in_the_headers_editor_is_not_stored_by_the_browser(open_page: Playground) -> None:
    page = open_page.page
    page.get_by_role("button", name="Headers").click()
    page.locator(".graphiql-editor-tool .graphiql-editor:not(.hidden) .CodeMirror").click()
    page.keyboard.insert_text('{"X-Secret": "hush"}')
    with page.expect_request(lambda request: request.method == "POST") as sent:
        open_page.press_run_or_stop()
    open_page.result('"hierarchies"')

    assert sent.value.headers["x-secret"] == "hush"
    page.wait_for_function("() => localStorage.getItem('graphiql:queries')")
    assert "hush" not in page.evaluate("() => JSON.stringify(localStorage)")


def duplicate(page: Any) -> None:
    page.evaluate(
        """async () => {
          const post = async (query, variables) => (await (await fetch("/graphql", {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify({ query, variables }),
          })).json()).data;
          const { hierarchies } = await post("{ hierarchies(first: 1) { nodes { id } } }");
          await post(
            `mutation ($id: ID!) {
              duplicateHierarchy(input: { hierarchyId: $id }) { job { id } } }`,
            { id: hierarchies.nodes[0].id },
          );
        }"""
    )
