"""Log output of `serve` and `worker`: one line per entry, for people or as JSON.

tests/contract/test_seams.py names the internals of logging that it sets.
"""

import json
import logging
import sys
from io import StringIO
from typing import TextIO

import orjson
import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from app.cli.streams import is_terminal
from app.domain.display import printable, printable_json, printable_lines
from app.settings import Settings

APP_LOGGER = "app"
"""Parent of all loggers of this program."""


def start_logging(settings: Settings) -> None:
    """Log to standard error with the settings' format and level; libraries from warnings on.

    Every line has time, level, logger and the bound context: the id of the request it belongs to,
    or of the request that created the job. Exceptions have a traceback without values of variables.
    """
    for_people = settings.log_format == "console" or (
        settings.log_format == "auto" and is_terminal(sys.stderr)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(for_people))
    level = settings.log_level.upper()
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger().setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.getLogger(APP_LOGGER).setLevel(level)
    # Not part of any line, and collecting them takes 1/8 of a line's time.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _formatter(for_people: bool) -> logging.Formatter:
    context: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Processor]
    if for_people:
        renderer = [
            _escape_values,
            structlog.dev.ConsoleRenderer(
                colors=is_terminal(sys.stderr),
                # Other formatters show the values of local variables.
                exception_formatter=_traceback,
            ),
        ]
    else:
        renderer = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_json),
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=context,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
    )


def _json(event: object, **_: object) -> str:
    try:
        line = orjson.dumps(event, default=str).decode()
    except orjson.JSONEncodeError:
        # A name of a file that is not UTF-8.
        line = json.dumps(event, default=str)
    return printable_json(line)


def _escape_values(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Escape what others have sent: the reason phrase of a webhook's receiver, say."""
    return {
        # The renderer formats a traceback by itself.
        name: printable(value) if isinstance(value, str) and name != "exception" else value
        for name, value in event.items()
    }


def _traceback(stream: TextIO, error: ExcInfo) -> None:
    plain = StringIO()
    structlog.dev.plain_traceback(plain, error)
    stream.write(printable_lines(plain.getvalue()))
