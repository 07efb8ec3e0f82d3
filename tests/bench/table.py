"""The table that a run of the benchmarks prints."""

from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass
class Figures:
    """The measured figures, in order."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, name: str, measured: str) -> None:
        """Add a figure without a goal."""
        self.rows.append((name, measured, ""))

    def add_goal(self, name: str, value: float, limit: float, form: str) -> None:
        """Add a figure that should be at most `limit`; `form` formats both."""
        met = "✓" if value <= limit else "✗"
        self.rows.append((name, form.format(value), f"{met} at most {form.format(limit)}"))

    def add_judged(self, name: str, measured: str, goal: str, met: bool) -> None:
        """Add a figure that meets its goal, a text, or does not."""
        self.rows.append((name, measured, f"{'✓' if met else '✗'} {goal}"))

    def show(self) -> None:
        """Print the table."""
        table = Table(
            "benchmark", "measured", "goal", title="jobs-gateway benchmarks", title_justify="left"
        )
        for row in self.rows:
            table.add_row(*row)
        Console(width=120).print("\n", table)


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
