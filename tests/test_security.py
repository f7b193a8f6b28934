"""SECURITY.md promises nothing without a test."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_promise_names_tests_that_exist():
    rows = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if re.match(r"\| [A-Z]", line)][1:]
    there = {
        name
        for file in ROOT.glob("tests/**/test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
    }
    named = {row[:40]: re.findall(r"`(test_\w+)`", row) for row in rows}
    assert len(rows) > 10
    assert [row for row, tests in named.items() if not tests] == []
    assert sorted({test for tests in named.values() for test in tests} - there) == []
