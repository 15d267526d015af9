"""Sampling in the app: what the form says is what is sampled; runs wait, can be taken back, are seen together, forked and kept."""

import numpy as np
import pytest

import stg_lab as lab
from stg_lab.app.bench import NEW, Bench
from stg_lab.app.desk import Desk


@pytest.fixture
def desk(digits, tmp_path):
    made = Desk(folder=tmp_path)
    made.steps.value = 2
    return made


def test_what_the_form_says_is_sampled(desk):
    desk.prompt.value, desk.seed.value, desk.layers.value, desk.scale.value, desk.cfg.value = (
        "a blue two growing",
        5,
        "3",
        1.5,
        2.0,
    )
    desk.ask.click()
    desk.wait()
    [(wish, run)] = desk.runs
    assert str(wish.guidance) == "CFG(2) + STG(1.5, skip:block:3)"
    call = {"prompt": "a blue two growing", "num_inference_steps": 2}
    pipe = lab.load("digits-joint")
    pipe.set_progress_bar_config(disable=True)
    expected = lab.sample(pipe, guidance=lab.CFG(2) + lab.STG(1.5, lab.skip([3])), seed=5, **call)
    np.testing.assert_array_equal(run.video, expected.video)


def test_runs_wait_and_are_seen_together_baselines_first(desk):
    for layers in ("4", "2", ""):
        desk.layers.value = layers
        desk.sample()
    desk.wait()
    [explorer] = desk.made.children
    assert [one.label for one in explorer.grid.settings] == [
        "CFG(1)",
        "CFG(1) + STG(1, skip:block:4)",
        "CFG(1) + STG(1, skip:block:2)",
    ]
    assert explorer.grid.there.all()
    assert len(desk.which.options) == 3


def test_a_run_that_waits_can_be_taken_back(desk):
    desk.steps.value = 40
    desk.sample()
    desk.sample()
    assert len(desk.waiting) == 1
    assert "1 waiting" in desk.queue.value
    desk.stop.click()
    assert desk.waiting == []
    desk.stop.click()  # now the one that is at work
    desk.wait()
    assert desk.runs == []
    assert "stopped after" in desk.live.status


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [("layers", "nope", "layers"), ("layers", "99", "out of range"), ("prompt", "a purple cow", "purple")],
)
def test_what_cannot_be_is_told_in_place(desk, field, value, says):
    getattr(desk, field).value = value
    desk.ask.click()
    assert says in desk.says.value
    assert desk.runs == []
    getattr(desk, field).value = "4" if field == "layers" else "a red two growing"
    desk.ask.click()  # and the next one works
    desk.wait()
    assert len(desk.runs) == 1


def test_a_run_is_looked_at_forked_and_kept(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("STG_LAB_APP_FOLDER", str(tmp_path))
    bench = Bench(["repair"])
    bench.chooser.value = NEW
    desk = bench.desk()
    desk.steps.value = 2
    desk.sample()
    desk.wait()
    desk.look()
    assert desk.opened.children[0].titles == ("Predictions", "Guidance")
    explorer = desk.fork()
    explorer.step = 1
    explorer.sample_on()
    explorer.wait()
    assert len(explorer.forks) == 1
    place = desk.keep()
    assert lab.open(place).captions == ["a red nine standing still"]
    assert str(place) in [value for _, value in bench.chooser.options]
    assert desk.keep() != place
    assert bench.desk() is desk
