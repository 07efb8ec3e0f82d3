"""The README's tables of settings, as the settings themselves tell them.

`python -m tests.settings_table` writes them into the README.
"""

from itertools import groupby
from pathlib import Path

from app import settings
from app.cli.flags import description, flag, limits
from app.settings import Settings, group_of, variable

README = Path(__file__).parents[1] / "README.md"
BEGIN = "<!-- settings: written by python -m tests.settings_table -->\n"
END = "<!-- end of settings -->\n"


def tables() -> str:
    """A heading, what it is about and a table for each group of settings."""
    told = []
    for group, names in groupby(Settings.model_fields, group_of):
        model = getattr(settings, f"{group}Settings", None) or getattr(settings, group)
        about = model.__doc__.splitlines()[0]
        told += [f"### {group}", "", about, "", "| variable | flag | default | what |"]
        told.append("|---|---|---|---|")
        for name in names:
            default, *bounds = limits(name)
            what = f"{description(name)}{''.join(f' ({bound})' for bound in bounds)}"
            told.append(f"| `{variable(name)}` | `{flag(name)}` | `{default}` | {what} |")
        told.append("")
    return "\n".join(told)


def parts_of(readme: str) -> tuple[str, str, str]:
    """What is before the tables, the tables, what is behind them."""
    before, begun, rest = readme.partition(BEGIN)
    assert begun, f"the README has no line {BEGIN}"
    within, ended, after = rest.partition(END)
    assert ended, f"the README has no line {END}"
    return before + begun, within, ended + after


if __name__ == "__main__":
    before, _, after = parts_of(README.read_text("utf-8"))
    README.write_text(f"{before}\n{tables()}\n{after}", "utf-8")
