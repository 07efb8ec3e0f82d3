"""The log of a command that stays: a line for each thing, for people or for machines."""

import logging
import sys
from typing import Any

import orjson
import structlog
from structlog.typing import Processor

from app.settings import Settings

OURS = "app"
"""The logger above all of ours."""


def start_logging(settings: Settings) -> None:
    """Log to standard error as the settings say; what is not ours, only from warnings on.

    Every line has its time, level and logger, and what is bound while it is logged: the id of the
    request it belongs to, or that a job was asked for in. Of a failure its traceback is told, and
    no values of variables.
    """
    for_people = settings.log_format == "console" or (
        settings.log_format == "auto" and sys.stderr.isatty()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(for_people))
    level = settings.log_level.upper()
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger().setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.getLogger(OURS).setLevel(level)
    # No line names them, and to find them out takes an eighth of a line's time.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _formatter(for_people: bool) -> logging.Formatter:
    noted: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shown: list[Processor]
    if for_people:
        shown = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # Others show the values of local variables.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    else:
        shown = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_json),
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=noted,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shown],
    )


def _json(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()
