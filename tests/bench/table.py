"""The one table that a run of the benchmarks prints."""

from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass
class Figures:
    """What was measured, in the order of measuring."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, what: str, measured: str) -> None:
        """A figure without a goal."""
        self.rows.append((what, measured, ""))

    def add_goal(self, what: str, value: float, limit: float, form: str) -> None:
        """A figure that should be at most `limit`; `form` formats both."""
        met = "✓" if value <= limit else "✗"
        self.rows.append((what, form.format(value), f"{met} at most {form.format(limit)}"))

    def add_judged(self, what: str, measured: str, goal: str, met: bool) -> None:
        """A figure that meets its goal or does not, told in words."""
        self.rows.append((what, measured, f"{'✓' if met else '✗'} {goal}"))

    def show(self) -> None:
        """Print them."""
        table = Table(
            "what", "measured", "goal", title="jobs-gateway benchmarks", title_justify="left"
        )
        for row in self.rows:
            table.add_row(*row)
        Console(width=120).print("\n", table)


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
