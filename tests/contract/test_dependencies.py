"""Imported packages are declared and capped in pyproject.toml."""

import ast
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


def test_every_declared_package_has_an_upper_bound() -> None:
    unbounded = [
        str(requirement)
        for requirement in requirements(*EXTRAS)
        if requirement.name != PROJECT["name"]
        and not any(specifier.operator in ("<", "==") for specifier in requirement.specifier)
    ]
    assert unbounded == []
