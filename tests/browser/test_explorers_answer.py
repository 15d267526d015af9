"""Every explorer on the recordings that ship: each control is answered, with no kernel behind it."""

import pytest

import stg_lab as lab

from .controls import move_all, shown

pytestmark = [pytest.mark.browser]

EXPLORERS = {
    "x0": lambda: lab.widgets.x0_explorer(lab.open("repair_both"), baseline=lab.open("repair_unguided")),
    "guidance": lambda: lab.widgets.guidance_explorer(lab.open("repair_both")),
    "orthogonality": lambda: lab.widgets.orthogonality_explorer(lab.open("space_time")),
    "ablation": lambda: lab.widgets.ablation_explorer(lab.open_ablation("layers")),
    "grid": lambda: lab.open_search("layers").grid(candidates=8),
}


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_control_is_answered(visit_widget, name):
    seen = visit_widget(EXPLORERS[name]())
    root = seen.page.locator(".stg-lab").first
    assert len(shown(root)) > 100
    assert move_all(seen.page, root) == []
    assert (seen.faults, seen.outside) == ([], [])
