"""A type name stands for one thing in app, unless it is the same noun on another floor."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]

SAME_NOUN = {
    *("Difference", "Duplication", "DuplicationDiff", "Hierarchy", "Node", "Product"),
    "Breadcrumb",
    *("Job", "JobError", "JobEvent", "JobFilter", "JobQueue", "QueuePause"),
    *("Forbidden", "InvalidInput", "NotFound"),
    *("IdempotencyConflict", "JobNotCancellable", "JobNotMovable", "JobNotRetryable"),
    "Dispatcher",  # of jobs and of webhooks: both claim due work and run it
}
"""Names of one noun on several floors: a table, a GraphQL type, a record of the command line."""


def test_a_type_name_stands_for_one_thing() -> None:
    files: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "app").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                files[node.name.lstrip("_")].append(str(path.relative_to(ROOT)))
    repeated = {name: where for name, where in files.items() if len(where) > 1}
    assert {name: where for name, where in repeated.items() if name not in SAME_NOUN} == {}
    assert repeated.keys() >= SAME_NOUN
