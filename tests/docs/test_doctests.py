"""The examples in the documentation are true."""

import doctest
import importlib

import pytest
from kit import ROOT

PACKAGE = ROOT / "stg_lab"
SKIPPED = "# doctest: +SKIP"  # what needs a model, or takes long


def with_examples() -> list[str]:
    """Every module that holds an example to be run, wherever it is."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        if any(line.strip().startswith(">>>") and SKIPPED not in line for line in lines):
            found.append(".".join(["stg_lab", *path.relative_to(PACKAGE).with_suffix("").parts]))
    return found


def test_examples_are_found_wherever_they_are():
    assert {"stg_lab.x0", "stg_lab.weak.skip", "stg_lab.analysis.angles", "stg_lab.recording.writer"} <= set(
        with_examples()
    )


@pytest.mark.parametrize("name", with_examples())
def test_examples_are_true(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted
    assert results.failed == 0
