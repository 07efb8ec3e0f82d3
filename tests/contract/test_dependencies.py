"""Imported packages are declared and capped in pyproject.toml, and SQL is made in storage only."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
ABSENT = {
    "ariadne": "ariadne",
    "playwright": "playwright",
    "axe_playwright_python": "axe-playwright-python",
}
"""Packages that a development set-up need not have installed, by the name they are imported by."""


def requirements(*extras: str) -> list[Requirement]:
    """Return the declared dependencies and those of `extras`."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return [Requirement(line) for line in lines]


def imported_packages(folder: str) -> Iterator[tuple[Path, str]]:
    """Yield each file and the top-level package of each of its imports."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    modules = [alias.name for alias in names]
                case ast.ImportFrom(module=str(module), level=0):
                    modules = [module]
                case _:
                    continue
            yield from ((path, module.partition(".")[0]) for module in modules)


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("app", ("otel",)), ("tests", ("otel", "dev", "bench", "browser"))],
)
def test_every_imported_package_is_declared(folder: str, extras: tuple[str, ...]) -> None:
    declared = {canonicalize_name(requirement.name) for requirement in requirements(*extras)}
    distributions = packages_distributions()
    undeclared = {
        f"{path.relative_to(ROOT)} imports {package}"
        for path, package in imported_packages(folder)
        if package not in sys.stdlib_module_names
        and package not in ("app", "tests")
        and not declared.intersection(
            map(canonicalize_name, [*distributions.get(package, ()), ABSENT.get(package, "")])
        )
    }
    assert undeclared == set()


def sql_names(path: Path) -> Iterator[str]:
    """Yield the names that a file imports from SQLModel, and the columns of tables it reads."""
    table_classes = {r"tables\.[A-Z]\w+"}
    # Breadth first, so imports precede the expressions that use them.
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name.startswith("sqlmodel"))
            case ast.ImportFrom(module="sqlmodel", names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module="app.storage.tables", names=names):
                table_classes.update(alias.asname or alias.name for alias in names)
            case ast.Attribute(value=table):
                if re.fullmatch("|".join(table_classes), ast.unparse(table)):
                    yield ast.unparse(node)


def test_above_storage_sqlmodel_is_used_for_its_session_only() -> None:
    """import-linter forbids SQLAlchemy there, and cannot see which names of SQLModel are used."""
    app = ROOT / "app"
    found = {
        f"{path.relative_to(ROOT)} uses {name}"
        for path in app.rglob("*.py")
        if app / "storage" not in path.parents
        for name in sql_names(path)
        if name != "Session"
    }
    assert found == set()


def test_every_declared_package_has_an_upper_bound() -> None:
    unbounded = [
        str(requirement)
        for requirement in requirements(*EXTRAS)
        if requirement.name != PROJECT["name"]
        and not any(specifier.operator in ("<", "==") for specifier in requirement.specifier)
    ]
    assert unbounded == []
