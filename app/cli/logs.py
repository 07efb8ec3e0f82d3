"""Log output of `serve` and `worker`: one line per entry, for people or as JSON.

tests/contract/test_seams.py names the internals of logging that it sets.
"""

import logging
import sys

import orjson
import structlog
from structlog.typing import Processor

from app.settings import Settings

APP_LOGGER = "app"
"""Parent of all loggers of this program."""


def start_logging(settings: Settings) -> None:
    """Log to standard error with the settings' format and level; libraries from warnings on.

    Every line has time, level, logger and the bound context: the id of the request it belongs to,
    or of the request that created the job. Exceptions have a traceback without values of variables.
    """
    for_people = settings.log_format == "console" or (
        settings.log_format == "auto" and sys.stderr.isatty()
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
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # Other formatters show the values of local variables.
                exception_formatter=structlog.dev.plain_traceback,
            )
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
    return orjson.dumps(event, default=str).decode()
