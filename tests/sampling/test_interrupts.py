"""An interrupt at any line of the lab leaves the pipeline as it was. The whole campaign: make campaign-threads."""

import random

import pytest
from kit.interrupts import Bench, places

#: How many of the places CI tries, drawn by a seed; every place where something is put on a pipeline is among them.
DRAWN = 12
SEAMS = ("undone.py", "claim.py", "seams.py", "attach.py")


@pytest.fixture(scope="module")
def bench():
    return Bench()


@pytest.mark.parametrize("work", ["sample", "attach"])
def test_an_interrupt_leaves_nothing_behind(bench, work):
    found = places(bench.works[work])
    assert len(found) > 300
    draw = random.Random(0)
    critical = [place for place in found if place[0].endswith(SEAMS)]
    tried = draw.sample(critical, DRAWN) + draw.sample(found, DRAWN)
    assert [fault for place in tried for fault in bench.interrupted(work, place)] == []
