"""Files that tests read: of the repository, and of the folder next to it that may be missing."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
SCHEMA = ROOT / "schema.graphql"
SHARED = ROOT.parent / "shared"
