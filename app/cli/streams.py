"""Standard output and error: the only module of the command line that prints.

Text is printed escaped (app.domain.display), in any encoding, and a stream that cannot be written
ends a command with one line and an exit code. ruff refuses print() elsewhere (T20).
"""

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

import orjson

from app.domain.display import ascii_json, printable, printable_json, printable_lines

FAILURE = 1
READER_GONE = 141
"""128 + SIGPIPE: the code of commands such as `yes` that `head` ends."""

OUTPUT, ERROR = 1, 2
"""File descriptors."""


class OutputLost(Exception):
    """Standard output cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.errno = error.errno


# Any below: Python 3.11 has no name for the type of buffers.


class _RawOutput(io.FileIO):
    """Standard output, whose failures differ from those of other files."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OutputLost(error) from None


class _RawError(io.FileIO):
    """Standard error, which drops what it cannot write: there is nowhere to report that."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def run(command: Callable[[], object]) -> int:
    """Run the command line. Return its exit code.

    An error of the operating system, such as a full disk, is one line as well.
    """
    _prepare()
    code = 0
    try:
        try:
            command()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else FAILURE
        except OSError as error:
            code = FAILURE
            file = f"{error.filename}: " if error.filename else ""
            print_notice(f"{file}{error.strerror or error}.")
        sys.stdout.flush()
    except OutputLost as lost:
        code = READER_GONE if lost.errno == errno.EPIPE else FAILURE
        if lost.errno != errno.EPIPE:
            print_notice(f"Standard output cannot be written: {lost}.")
        _discard_output()
    return code


def print_line(text: str = "") -> None:
    """Print text, flushed: the reader of a pipe sees each line at once."""
    print(printable_lines(text), flush=True)


def print_json(value: object) -> None:
    """Print a value as one line of JSON, in ASCII if the stream's encoding cannot hold it."""
    text = json_line(value)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = ascii_json(text)
    print(text, flush=True)


def json_line(value: object) -> str:
    """Return JSON of the value, with escapes for characters that control a terminal."""
    return printable_json(orjson.dumps(value).decode())


def print_notice(message: str) -> None:
    """Print one line to standard error."""
    print(printable(message), file=sys.stderr, flush=True)


def print_status(*lines: str) -> None:
    """Print lines of a server, which goes on if nothing reads them."""
    try:
        print_line("\n".join(lines))
    except OutputLost:
        _discard_output()


def is_terminal(stream: TextIO | None) -> bool:
    """Return True for a terminal; False if it is closed."""
    return stream is not None and not stream.closed and stream.isatty()


def _prepare() -> None:
    """Replace both streams by ones that hold any text and report their failures.

    A closed descriptor is occupied: the next opened file, a database perhaps, would get its number
    and be written as output.
    """
    # Reading from the first, and writing to the second, fails; the third drops everything.
    for descriptor, flags in ((0, os.O_WRONLY), (OUTPUT, os.O_RDONLY), (ERROR, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
    sys.stdout = _text(_RawOutput(OUTPUT, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_RawError(ERROR, "w", closefd=False), sys.stderr)


def _text(raw: io.FileIO, before: TextIO | None) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before else "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


def _discard_output() -> None:
    """Send the rest of the output, which is flushed at exit, to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, OUTPUT)
    os.close(nowhere)
