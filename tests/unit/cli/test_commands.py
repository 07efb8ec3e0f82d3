"""The list of commands shows the help of each and imports none of them."""

import subprocess
import sys

from typer.testing import CliRunner

from app.cli import COMMANDS, cli

LIST = """
import sys
from app.cli import cli
cli(["--help"], standalone_mode=False)
print(sorted(name for name in sys.modules if name.startswith("app.cli.")))
"""


def test_every_command_is_listed_with_the_first_line_of_its_help() -> None:
    runner = CliRunner()
    listed = runner.invoke(cli, ["--help"], env={"COLUMNS": "300"}).stdout
    for name in COMMANDS:
        own = runner.invoke(cli, [name, "--help"], env={"COLUMNS": "300"}).stdout
        first = own.split("\n")[3].strip()
        assert first
        assert f" {name} " in listed
        assert first in listed, name


def test_the_list_imports_no_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LIST], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.splitlines()[-1] == "[]"
