"""Pipelines that sample side by side: what is done with one is no business of the other's."""

import threading

import pytest
import torch

import stg_lab as lab
from stg_lab.sampling.states import Runs

STEPS = 4
STG = lab.CFG(4) + lab.STG(1, lab.skip([1]))


@pytest.fixture
def other(tiny):
    return tiny.copy()


def test_a_sweep_in_another_thread_does_not_deafen_a_run(tiny, other):
    expected = tiny.sample(STG, num_inference_steps=STEPS).output.frames
    inside, done = threading.Event(), threading.Event()

    def hold(state):
        inside.set()
        assert done.wait(60)

    runs = Runs.plan(other.pipe, 2, 0, None, None, other.arguments({"num_inference_steps": STEPS}))
    sweep = threading.Thread(target=runs.visit, args=(0, [2], [], hold))
    sweep.start()
    try:
        assert inside.wait(60)
        run = tiny.sample(STG, num_inference_steps=STEPS)
    finally:
        done.set()
        sweep.join()
    assert torch.equal(run.output.frames, expected)
    assert run.recording.steps == STEPS


def test_a_run_inside_a_round_of_restart_is_guided_and_recorded(tiny, other):
    """As where `on_step` shows a picture that another pipeline makes."""
    expected = other.sample(STG, num_inference_steps=STEPS).output.frames
    made = []

    def look(seen):
        if seen.restart:
            made.append(other.sample(STG, num_inference_steps=STEPS))

    tiny.sample(STG.restart(0.5, 0.9), num_inference_steps=STEPS, on_step=look)
    assert made
    assert all(torch.equal(run.output.frames, expected) and run.recording.steps == STEPS for run in made)


def test_two_threads_weaken_two_pipelines_at_once(tiny, other):
    expected = tiny.sample(STG, num_inference_steps=STEPS).output.frames
    found = {}

    def run(name, rig):
        found[name] = rig.sample(STG, num_inference_steps=STEPS).output.frames

    threads = [threading.Thread(target=run, args=item) for item in (("one", tiny), ("two", other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[name], expected) for name in ("one", "two"))
