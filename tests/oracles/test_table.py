"""The table of oracles names tests that exist, and every file of this folder."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = TESTS.parent / "docs" / "oracles.md"


def test_the_table_names_every_oracle_and_no_test_that_is_gone() -> None:
    named = set(re.findall(r"`([a-z_/]+/test_[a-z_]+\.py)`", TABLE.read_text()))
    assert [path for path in named if not (TESTS / path).is_file()] == []
    here = {f"oracles/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert here - {f"oracles/{Path(__file__).name}"} <= named
