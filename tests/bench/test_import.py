"""Importing the real taxonomy."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench.table import Figures

pytestmark = [pytest.mark.bench, pytest.mark.timeout(120)]

SECONDS = 5.0


@pytest.mark.parametrize("products", [0, 2])
def test_the_taxonomy_is_imported(
    taxonomy: Path, tmp_path: Path, figures: Figures, products: int
) -> None:
    lines = taxonomy.read_bytes().count(b"\n")
    begun = time.perf_counter()
    command = [sys.executable, "-m", "app", "import", str(taxonomy), "--name", "Taxonomy"]
    ran = subprocess.run(
        [*command, "--products", str(products)],
        env={**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/import.db"},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - begun
    assert f"{lines} nodes" in ran.stdout
    name = f"import of {lines:,} lines, {products} products per leaf, new database"
    if products:
        figures.add(name, f"{seconds:.1f} s")
    else:
        figures.add_goal(name, seconds, SECONDS, "{:.1f} s")
