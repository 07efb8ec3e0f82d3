"""Hostile load by valid requests that cost much: others wait for no attacker.

Figures are reported, and goals judged with slack (see Figures.check).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copytree

import pytest

from tests.support import costly_requests
from tests.support.costly_requests import Catalogue, Outcomes
from tests.support.hostile_load import Figures, attacked, target

pytestmark = pytest.mark.hostile

Report = Callable[[str], None]


@dataclass(frozen=True)
class Filled:
    """A database with the attacker's data, which tests copy."""

    folder: Path
    catalogue: Catalogue


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    folder = tmp_path_factory.mktemp("filled")
    return Filled(folder, asyncio.run(costly_requests.fill(folder)))


def figures_of(
    attack: Callable[[str], Outcomes], folder: Path, report: Report
) -> Figures[Outcomes]:
    """Attack a new server; report and check its figures."""
    with target(folder) as server:
        figures = attacked(server, attack)
    answers, largest = figures.outcome
    report(f"{figures}; answers: {dict(answers)}, largest {largest:,} bytes")
    figures.check()
    assert not any("INTERNAL" in answer for answer in figures.outcome.answers)
    return figures


def figures_on_data(
    attack: Callable[..., Outcomes], filled: Filled, folder: Path, report: Report
) -> Figures[Outcomes]:
    """Attack a new server with the attacker's data; report and check its figures."""
    copytree(filled.folder, folder, dirs_exist_ok=True)
    return figures_of(partial(attack, catalogue=filled.catalogue), folder, report)


@pytest.mark.parametrize(
    "attack",
    [
        costly_requests.comparisons,
        costly_requests.filtered_products,
        costly_requests.large_pages,
        costly_requests.large_pages_beside_an_error,
        costly_requests.subscriptions,
    ],
)
def test_work_on_large_data_delays_no_other_store(
    attack: Callable[..., Outcomes], filled: Filled, tmp_path: Path, report: Report
) -> None:
    figures_on_data(attack, filled, tmp_path, report)


@pytest.mark.parametrize(
    ("attack", "largest"),
    [
        (costly_requests.breadcrumbs_of_a_deep_tree, 8 * 2**20),
        (costly_requests.too_many_breadcrumbs, 2**10),
        (costly_requests.long_descriptions, 5 * 2**20),
        (costly_requests.too_many_long_descriptions, 2**10),
        (costly_requests.rest_pages_of_a_deep_tree, 3 * 2**20),
    ],
)
def test_long_answers_delay_no_other_store(
    attack: Callable[..., Outcomes],
    largest: int,
    filled: Filled,
    tmp_path: Path,
    report: Report,
) -> None:
    figures = figures_on_data(attack, filled, tmp_path, report)
    assert figures.outcome.largest <= largest
    is_refused = largest == 2**10
    assert is_refused is not any(answer == "200" for answer in figures.outcome.answers)


@pytest.mark.parametrize(
    "attack",
    [
        costly_requests.unknown_keys,
        costly_requests.empty_inputs,
        costly_requests.new_documents,
        costly_requests.introspections,
    ],
)
def test_documents_and_variables_delay_no_other_store(
    attack: Callable[[str], Outcomes], tmp_path: Path, report: Report
) -> None:
    figures = figures_of(attack, tmp_path, report)
    assert figures.outcome.largest < 2**20
