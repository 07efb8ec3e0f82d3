"""Where the log of a command goes."""

import logging
import sys


def log_to_stderr() -> None:
    """Warnings and worse to stderr, a line each."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
