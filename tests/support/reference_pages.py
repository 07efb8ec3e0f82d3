"""The generated parts of docs/reference.

`python -m tests.support.reference_pages` writes them, between two comments of each page.
"""

import asyncio
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from enum import Enum
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request

from app import settings
from app.api.auth import identity, jwks, login, registered_clients, throttle, token_endpoint
from app.api.graphql import cursors, queries
from app.api.graphql.admission import complexity, cost, documents
from app.api.graphql.fields import reference, source
from app.api.graphql.transports import websocket
from app.api.graphql.types import differences, filters, queue
from app.api.http import connection_limit, uvicorn_protocols
from app.api.http.metrics_endpoint import MetricsEndpoint
from app.api.http.middleware import body_limit
from app.api.rest import breadcrumbs
from app.api.rest import context as rest_context
from app.api.rest import filters as rest_filters
from app.api.rest import product_nodes as rest_product_nodes
from app.api.rest import relationships as rest_moves
from app.cli import COMMANDS, command_of, imports
from app.cli.flags import description, flag, limits
from app.domain import answers, attributes, hierarchies, jobs, nodes, products, stores, webhooks
from app.observability import metrics
from app.services import copies
from app.services import jobs as job_services
from app.services import webhooks as webhook_services
from app.settings import Settings, group_of, variable
from app.storage.engine import client_reads, postgresql, sqlite
from app.webhooks import sender
from app.wiring import open_database
from tests.support.paths import ROOT

REFERENCE = ROOT / "docs" / "reference"
BEGIN = "<!-- generated: python -m tests.support.reference_pages -->\n"
END = "<!-- end of the generated part -->\n"

COMMON_OPTIONS = ("url", "token", "json")
"""Options of all commands that call a gateway, described once."""


def settings_part() -> str:
    """Return one section with a table per group of settings."""
    lines = []
    for group, names in groupby(Settings.model_fields, group_of):
        model = getattr(settings, f"{group}Settings", None) or getattr(settings, group)
        summary = model.__doc__ or ""
        lines += [f"## {group}", "", *summary.splitlines()[:1], ""]
        lines += ["| variable | flag | default | description |", "|---|---|---|---|"]
        for name in names:
            default, *bounds = limits(name)
            text = f"{description(name)}{''.join(f' ({bound})' for bound in bounds)}"
            lines.append(f"| `{variable(name)}` | `{flag(name)}` | `{default}` | {text} |")
        lines.append("")
    return "\n".join(lines)


def commands_part() -> str:
    """Return one section per command."""
    sections: list[str] = []
    common: dict[str, str] = {}
    for name, command in all_commands():
        parameters = [each for each in command.params if each.name != "help"]
        common |= {each.name: item_of(each) for each in parameters if each.name in COMMON_OPTIONS}
        sections += section_of(name, command.help or "", parameters)
    lines = ["## Common options", "", "Commands that call a gateway take:", ""]
    lines += [common[name] for name in COMMON_OPTIONS]
    return "\n".join([*lines, "", *sections])


def all_commands() -> Iterator[tuple[str, Any]]:
    """Yield each command, also those of groups, as click has it (which has no types in typer)."""
    for name, (module_name, function) in COMMANDS.items():
        module = import_module(module_name)
        command = command_of(name, getattr(module, function), module)
        members = getattr(command, "commands", None)
        if members is None:
            yield name, command
        else:
            yield from ((f"{name} {member}", each) for member, each in members.items())


def section_of(name: str, text: str, parameters: list[Any]) -> Iterator[str]:
    """Yield the lines of a command's section."""
    arguments = [each for each in parameters if each.param_type_name == "argument"]
    usage = " ".join([f"jobs-gateway {name}", *map(placeholder_of, arguments)])
    yield from (f"## `{usage}`", "")
    for paragraph in re.sub(r"In\s+brackets:[^.]*\.(\s+A\s+flag[^.]*\.)?", "", text).split("\n\n"):
        if paragraph.strip():
            yield from (" ".join(paragraph.split()), "")
    common = [each.name for each in parameters if each.name in COMMON_OPTIONS]
    groups = set(map(group_of, Settings.model_fields))
    taken = {
        each.name.removesuffix("_file")
        for each in parameters
        if getattr(each, "rich_help_panel", None) in groups
    }
    for parameter in parameters:
        if parameter.name not in common and parameter.name.removesuffix("_file") not in taken:
            yield item_of(parameter)
    if taken:
        yield f"- Settings: {', '.join(settings_among(taken))}."
    if common:
        yield f"- Common options: {', '.join(f'`--{option}`' for option in common)}."
    yield ""


def settings_among(names: set[str]) -> Iterator[str]:
    """Yield a link per group of settings of which most are in `names`, and the other flags."""
    for group, members in groupby(Settings.model_fields, group_of):
        members = list(members)  # type: ignore[assignment]
        taken = [name for name in members if name in names]
        missing = [f"`{flag(name)}`" for name in members if name not in names]
        if taken and len(taken) > len(missing):
            excluded = f" except {', '.join(missing)}" if missing else ""
            yield f"[{group}](settings.md#{group.lower()}){excluded}"
        else:
            yield from (f"`{flag(name)}`" for name in taken)


def item_of(parameter: Any) -> str:
    """Return a list item with the names, placeholder, help, default and variable of a parameter."""
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = placeholder_of(parameter)
    elif not parameter.is_flag:
        names += f" {placeholder_of(parameter)}"
    text = " ".join((parameter.help or "").replace("\\[", "[").split())
    if parameter.required and parameter.param_type_name == "option":
        text += " Required."
    if parameter.default not in (None, False, ""):
        text += f" Default: `{parameter.default}`."
    if parameter.envvar:
        text += f" Variable: `{parameter.envvar}`."
    return f"- `{names}`: {text}"


def placeholder_of(parameter: Any) -> str:
    """Return the placeholder of a parameter's value, such as FILE, or its choices."""
    if parameter.metavar:
        return str(parameter.metavar)
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    annotation = parameter.type_descriptor.annotation
    element = get_args(annotation)[0] if get_args(annotation) else annotation
    if issubclass(element, Enum):
        return "|".join(member.value for member in element)
    return {int: "INTEGER", Path: "PATH"}.get(element, "TEXT")


def metrics_part() -> str:
    """Return a table of the metrics that an empty gateway shows."""
    labels = {
        each._name: ", ".join(each._labelnames)
        for each in vars(metrics).values()
        if hasattr(each, "_labelnames")
    }
    lines = ["| name | type | labels | description |", "|---|---|---|---|"]
    for metric in shown_metrics():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        label_names = labels.get(metric.name) or ", ".join(
            sorted({label for sample in metric.samples for label in sample.labels} - {"le"})
        )
        short = name.removeprefix(f"{metrics.PREFIX}_")
        lines.append(f"| `{short}` | {metric.type} | {label_names} | {metric.documentation} |")
    return "\n".join([*lines, ""])


def shown_metrics() -> list[Metric]:
    """Return the gateway's own metrics from /metrics on an empty database."""

    async def scrape() -> str:
        scope = {"type": "http", "headers": [], "method": "GET", "path": "/metrics"}
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{folder}/empty.db"
            with closing(open_database(Settings(database_url=url))) as database:
                response = await MetricsEndpoint(database).show(Request(scope))
        return bytes(response.body).decode()

    families = text_string_to_metric_families(asyncio.run(scrape()))
    return [metric for metric in families if metric.name.startswith(metrics.PREFIX)]


def duration(value: timedelta | float) -> str:
    """Return a duration in the largest unit that has no fraction."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"


def size(value: int) -> str:
    """Return a number of bytes in the largest unit that has no fraction."""
    for unit, factor in (("MiB", 2**20), ("KiB", 2**10)):
        if value % factor == 0:
            return f"{value // factor} {unit}"
    return f"{value} bytes"


def limits_part() -> str:
    """Return tables of the limits that are constants."""
    pauses = [duration(jobs.retry_delay(n)) for n in range(1, jobs.MAX_ATTEMPTS_WITHOUT_PROGRESS)]
    tables: dict[str, list[tuple[str, str]]] = {
        "Requests": [
            ("`first`, `last`", f"0 to {cursors.MAX_ROWS}, default {cursors.DEFAULT_ROWS}"),
            ("ids in `nodes(ids:)`", f"{queries.MAX_IDS}"),
            ("values of `in` in a GraphQL filter", f"{filters.MAX_VALUES}"),
            ("`like` in a GraphQL filter", f"{attributes.NAME_LIMIT} characters"),
            ("hours of `jobQueue`", f"{queue.MAX_HOURS}"),
            ("differences that `duplicationDiff` lists", f"{differences.MAX_DIFFERENCES}"),
            ("jobs that `cancelJobs` examines", f"{job_services.MAX_CANCELLED}"),
            (
                "errors reported for a document, and for its variables",
                f"{documents.MAX_VALIDATION_ERRORS}",
            ),
            (
                "nested selection sets, with fragments expanded",
                f"{complexity.MAX_NESTING}",
            ),
            (
                "items of all `breadcrumbs` in one response",
                f"{answers.MAX_PATH_ITEMS:,}, without the longest",
            ),
            (
                "texts that one operation reads, and that its response has",
                f"{answers.MAX_CHARACTERS:,} characters each, without the longest. Names, slugs "
                f"and SKUs count if the cost is more than {cost.MAX_LOOP_COST:,}",
            ),
            (
                "REST filter",
                f"{rest_filters.MAX_CONDITIONS} conditions, {rest_filters.MAX_VALUES} values of "
                f"`in`, {size(rest_filters.MAX_FILTER_BYTES)}",
            ),
            ("values of a REST body, nested ones included", f"{rest_context.MAX_BODY_VALUES:,}"),
            ("nodes in one REST move of children", f"{rest_moves.MAX_MOVED}"),
            ("nodes in one REST `attach_nodes`", f"{rest_product_nodes.MAX_NODES}"),
            (
                "breadcrumbs in one REST response",
                f"about {breadcrumbs.MAX_CHARACTERS:,} characters; those of a single node have no "
                "translations beyond it",
            ),
            (
                "a product that REST `attach_nodes` attaches to one node",
                f"a cost of {rest_product_nodes.ASSOCIATION_COST}",
            ),
            (
                "head of a request",
                f"{size(uvicorn_protocols.MAX_HEAD_BYTES)}, {uvicorn_protocols.MAX_HEADERS} "
                "headers",
            ),
            ("time for a head", duration(uvicorn_protocols.MAX_HEAD_SECONDS)),
            ("time for a body", duration(body_limit.BODY_SECONDS)),
            (
                "chunk sizes, extensions and trailers of a body",
                f"{size(uvicorn_protocols.MAX_HEAD_BYTES)} and "
                f"{uvicorn_protocols.MAX_FRAMING_PER_BYTE} bytes per byte of the body",
            ),
            (
                "time without progress of a client that does not read a response",
                duration(uvicorn_protocols.MAX_UNREAD_SECONDS),
            ),
            (
                "frames that a WebSocket may send",
                f"{uvicorn_protocols.MAX_FRAMES_PER_SECOND:,} per second, "
                f"{uvicorn_protocols.MAX_FRAMES_AT_ONCE:,} at once; fragments of "
                f"{size(uvicorn_protocols.MIN_FRAGMENT_BYTES)} or more do not count",
            ),
            (
                "connections of a process",
                f"{connection_limit.MAX_CONNECTIONS:,}, at most the limit on open files (`ulimit "
                f"-n`) minus {connection_limit.RESERVED_DESCRIPTORS}",
            ),
            (
                "unfinished requests of a process",
                f"{size(connection_limit.MAX_UNFINISHED_BYTES)}, or "
                f"{connection_limit.MAX_UNFINISHED_BODIES} times `max_body_bytes` if that is more",
            ),
            ("time for `connection_init` of a WebSocket", duration(websocket.INIT_SECONDS)),
            ("bearer token", size(identity.MAX_TOKEN_BYTES)),
            ("subject of a token", f"{identity.MAX_SUBJECT_LENGTH} characters"),
            ("leeway of `exp`", duration(identity.LEEWAY)),
            ("key set", size(jwks.MAX_KEY_SET_BYTES)),
            ("form of a login", size(token_endpoint.MAX_FORM_BYTES)),
            ("life of a token from a login", duration(login.TOKEN_LIFETIME)),
            ("id of a client", f"{registered_clients.CLIENT_ID_LENGTH} characters"),
            ("list of clients", size(registered_clients.MAX_CLIENT_FILE_BYTES)),
            (
                "wrong secrets in logins",
                f"{registered_clients.MAX_WRONG_SECRETS} per address in "
                f"{duration(registered_clients.WINDOW_SECONDS)}",
            ),
            (
                "logins that wait for the hash of their secret",
                f"{registered_clients.MAX_WAITING}",
            ),
        ],
        "Work": [
            ("cost of a field", "1, times the sizes of the lists around it"),
            ("cost of a filtered list", f"{source.FILTER_COST} more"),
            (
                "cost of `duplicationDiff`",
                f"{queries.DIFF_COST:,} more, and the fields below count "
                f"{reference.REFERENCE_FACTOR} times",
            ),
            (
                "cost of `jobQueue { hours }`",
                f"{queue.HOURS_COST} more, and the fields below count "
                f"{reference.REFERENCE_FACTOR} times",
            ),
            (
                "one operation of the rate limit",
                f"each {throttle.COST_PER_TOKEN:,} of cost and each "
                f"{throttle.SECONDS_PER_TOKEN * 1000:g} ms of processor time count as one more; "
                "of a scan by PostgreSQL the time that passes counts",
            ),
            (
                "size of a read before it starts over as a scan",
                f"{sqlite.INSTRUCTIONS_PER_CHECK * sqlite.MAX_CHECKS:,} instructions, "
                f"{sqlite.MAX_LOOP_CHARACTERS:,} characters or "
                f"{sqlite.CLIENT_READ_SECONDS * 1000:g} ms with SQLite, "
                f"{postgresql.CLIENT_READ_SECONDS * 1000:g} ms with PostgreSQL",
            ),
            (
                "scans at the same time",
                f"{client_reads.SCANS_PER_STORE} per store, {client_reads.SCAN_THREADS} per "
                "process. A scan ends with its request",
            ),
            (
                "other reads at the same time (PostgreSQL)",
                f"{postgresql.READS_PER_STORE} per store, {postgresql.READ_THREADS} per process",
            ),
        ],
        "Values": [
            ("name", f"1 to {attributes.NAME_LIMIT} characters, not blank"),
            ("slug", f"1 to {attributes.SLUG_LIMIT} characters, not blank"),
            ("SKU", f"1 to {products.SKU_LIMIT} characters, not blank"),
            ("store", f"1 to {stores.NAME_LIMIT} characters"),
            ("translations of a hierarchy or node", f"{attributes.MAX_TRANSLATIONS}"),
            (
                "`admin_attributes`, `shopper_attributes`",
                f"{attributes.MAX_CUSTOM_ATTRIBUTES} keys each, of 1 to "
                f"{attributes.CUSTOM_KEY_LIMIT} characters",
            ),
            ("curated products of a node", f"{nodes.MAX_CURATED}"),
            ("products per `createProducts`", f"{products.MAX_NEW_PRODUCTS}"),
            ("products per `attachProducts`, `detachProducts`", f"{nodes.MAX_PRODUCTS}"),
            (
                "nodes that a hierarchy ever had",
                f"{hierarchies.LAST_NODE_NO:,}, because node numbers are not reused",
            ),
            (
                "idempotency key",
                f"1 to {jobs.IDEMPOTENCY_KEY_LIMIT} printable ASCII characters, no blank at "
                "either end, valid for "
                f"{duration(jobs.IDEMPOTENCY_WINDOW)}",
            ),
            ("reason of a pause", f"1 to {jobs.REASON_LIMIT} characters, not blank"),
            ("line of an imported file", size(imports.MAX_LINE_BYTES)),
        ],
        "Jobs and webhooks": [
            (
                "attempts in a row without a finished step",
                f"{jobs.MAX_ATTEMPTS_WITHOUT_PROGRESS}, with pauses of {', '.join(pauses)}; then "
                "the job fails",
            ),
            ("restarts of a copy by edits of its source", f"{copies.MAX_RESTARTS}"),
            ("disk space that bulk work leaves free (SQLite)", size(sqlite.RESERVE_BYTES)),
            ("URLs of webhooks", f"{settings.MAX_WEBHOOKS}, of {webhooks.URL_LIMIT:,} characters"),
            ("attempts per delivery", f"{webhooks.MAX_ATTEMPTS}"),
            (
                "pauses between them",
                f"{duration(webhooks.FIRST_RETRY_DELAY)} to {duration(webhooks.MAX_RETRY_DELAY)}",
            ),
            ("time for an attempt", duration(sender.TIMEOUT_SECONDS)),
            ("errors of a failed job in a message", f"{webhook_services.MAX_ERRORS}"),
        ],
    }
    lines = []
    for heading, rows in tables.items():
        lines += [f"## {heading}", "", "| limit | value |", "|---|---|"]
        lines += [f"| {limit} | {value} |" for limit, value in rows]
        lines.append("")
    return "\n".join(lines)


PARTS: dict[str, Callable[[], str]] = {
    "settings.md": settings_part,
    "cli.md": commands_part,
    "metrics.md": metrics_part,
    "limits.md": limits_part,
}


def split_page(page: str) -> tuple[str, str, str]:
    """Return the text before the generated part, that part, and the text after it."""
    before, begin, rest = page.partition(BEGIN)
    part, end, after = rest.partition(END)
    assert begin
    assert end, f"a page of the reference needs the lines {BEGIN!r} and {END!r}"
    return before + begin, part, end + after


if __name__ == "__main__":
    for name, part in PARTS.items():
        path = REFERENCE / name
        before, _, after = split_page(path.read_text("utf-8"))
        path.write_text(f"{before}\n{part()}\n{after}", "utf-8")
