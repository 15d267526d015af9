"""What `lab.families()` says was tested is what the tests of this very session found. Named to be collected last."""

import json
from pathlib import Path

import pytest
from kit.outcomes import CELLS, OUTCOMES, table
from kit.zoo import ZOO, member

import stg_lab as lab

# The last of these files tells what the others found, so one worker runs them all.
pytestmark = pytest.mark.xdist_group("families")

FILE = Path(lab.__file__).parent / "families" / "tested.json"


def test_the_table_of_families_is_what_the_tests_found(request):
    outcomes = request.config.stash[OUTCOMES]
    found = table(outcomes)
    if set(found) != set(ZOO) or any(set(row) != set(CELLS) for row in found.values()):
        pytest.skip("needs the whole of test_families.py and test_families_in_use.py in the same session")
    if request.config.getoption("--write-families"):
        rows = {name: {"pipeline": type(member(name).pipe).__name__, **row} for name, row in found.items()}
        FILE.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    said = json.loads(FILE.read_text(encoding="utf-8"))
    cells = {name: {cell: row[cell] for cell in CELLS} for name, row in said.items()}
    assert cells == found, "write it anew: pytest tests --write-families"


def test_every_family_of_the_zoo_is_in_the_table():
    said = json.loads(FILE.read_text(encoding="utf-8"))
    assert set(said) == set(ZOO)
    assert all(row["record"] == "yes" for row in said.values())
    text = str(lab.families())
    assert all(cell in text for cell in ("record", "decode", "offload"))
