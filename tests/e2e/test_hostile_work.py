"""Hostile load by valid requests that cost much: others wait for no attacker.

Figures are reported, and goals judged with slack (see Figures.check).
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support import costly_requests
from tests.support.costly_requests import Catalogue, Outcomes
from tests.support.hostile_load import Figures, attacked, target

pytestmark = pytest.mark.hostile

Report = Callable[[str], None]


def figures_of(
    attack: Callable[..., Outcomes], folder: Path, report: Report, *, filled: bool = True
) -> Figures[Outcomes]:
    """Attack a new server with the attacker's data; report and check its figures."""
    if filled:
        catalogue: Catalogue = asyncio.run(costly_requests.fill(folder))
        attack = partial(attack, catalogue=catalogue)
    with target(folder) as server:
        figures = attacked(server, attack)
    answers, largest = figures.outcome
    report(f"{figures}; answers: {dict(answers)}, largest {largest:,} bytes")
    figures.check()
    assert not any("INTERNAL" in answer for answer in figures.outcome.answers)
    return figures


@pytest.mark.parametrize(
    "attack",
    [
        costly_requests.comparisons,
        costly_requests.large_pages,
        costly_requests.large_pages_beside_an_error,
        costly_requests.subscriptions,
    ],
)
def test_work_on_large_data_delays_no_other_store(
    attack: Callable[..., Outcomes], tmp_path: Path, report: Report
) -> None:
    figures_of(attack, tmp_path, report)


@pytest.mark.parametrize(
    ("attack", "largest"),
    [
        (costly_requests.breadcrumbs_of_a_deep_tree, 8 * 2**20),
        (costly_requests.too_many_breadcrumbs, 2**10),
        (costly_requests.long_descriptions, 9 * 2**20),
        (costly_requests.too_many_long_descriptions, 2**10),
        (costly_requests.rest_pages_of_a_deep_tree, 3 * 2**20),
    ],
)
def test_long_answers_delay_no_other_store(
    attack: Callable[..., Outcomes], largest: int, tmp_path: Path, report: Report
) -> None:
    figures = figures_of(attack, tmp_path, report)
    assert figures.outcome.largest <= largest
    is_refused = largest == 2**10
    assert is_refused is not any(answer == "200" for answer in figures.outcome.answers)


def test_filters_of_many_products_delay_no_other_store(tmp_path: Path, report: Report) -> None:
    asyncio.run(costly_requests.fill(tmp_path))
    figures_of(costly_requests.filtered_products, tmp_path, report, filled=False)


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
    attack: Callable[..., Outcomes], tmp_path: Path, report: Report
) -> None:
    figures = figures_of(attack, tmp_path, report, filled=False)
    assert figures.outcome.largest < 2**20
