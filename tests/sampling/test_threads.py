"""One pipeline and several threads: each call is right, bit for bit, or gets one clear error."""

import threading

import pytest
import torch
from kit.watch import left_behind

import stg_lab as lab

GUIDANCE = lab.CFG(4) + lab.STG(1, lab.skip([1]))
ELSEWHERE = r"sampling in another thread.*lab\.load"


def elsewhere(work):
    """What some work in a thread of its own gives or raises."""
    found = []

    def run():
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(120)
    return found[0]


def refused(found):
    assert isinstance(found, lab.CallError), found
    assert "\n" not in str(found)
    return "sampling in another thread" in str(found)


@pytest.fixture
def rig(tiny):
    """The tiny pipeline, held to be as it was when the test ends, for every thread."""
    stock, guided = tiny.stock(guidance_scale=4.0), tiny.sample(GUIDANCE, record=False).output.frames
    yield tiny
    assert left_behind(tiny.pipe) == []
    assert torch.equal(elsewhere(lambda: tiny.stock(guidance_scale=4.0)), stock)
    assert torch.equal(elsewhere(lambda: tiny.sample(GUIDANCE, record=False).output.frames), guided)


def test_a_stock_call_of_another_thread_is_never_guided(rig):
    expected = rig.sample(GUIDANCE, record=False).output.frames
    with lab.attach(rig.pipe, guidance=GUIDANCE):
        assert refused(elsewhere(lambda: rig.stock(guidance_scale=4.0)))
        assert torch.equal(rig.stock(guidance_scale=4.0), expected)  # this thread's own is as if nobody had come


def test_whoever_is_disturbed_in_the_middle_of_a_call_is_told(rig):
    others = []

    def disturb(pipe, step, timestep, given):
        if step == 1:
            others.append(elsewhere(lambda: rig.stock(guidance_scale=4.0)))
        return {}

    with pytest.raises(lab.CallError, match="another thread called this pipeline in the middle of this call"):
        rig.sample(GUIDANCE, record=False, callback_on_step_end=disturb)
    assert all(map(refused, others))


@pytest.mark.parametrize("what", ["sample", "plan", "attach", "ablate"])
def test_another_thread_is_refused_before_anything_is_planned(rig, what):
    call = rig.arguments({})

    def attach():
        with lab.attach(rig.pipe):
            pass

    works = {
        "sample": lambda: rig.sample(GUIDANCE),
        "plan": lambda: lab.plan(rig.pipe, GUIDANCE, **call),
        "attach": attach,
        "ablate": lambda: lab.ablate(rig.pipe, step=1, progress=False, **call),
    }
    with lab.attach(rig.pipe):
        assert refused(elsewhere(works[what]))


def test_contexts_may_end_in_any_order(rig):
    first, second, third = (lab.attach(rig.pipe, guidance=g) for g in (None, GUIDANCE, None))
    for context in (first, second, third):
        context.__enter__()
    for context in (second, first, third):
        assert refused(elsewhere(lambda: rig.sample(GUIDANCE)))
        context.__exit__(None, None, None)


def test_three_threads_at_once_are_each_right_or_refused(rig):
    expected = [rig.sample(GUIDANCE, seed=seed, record=False).output.frames for seed in range(3)]
    start, found = threading.Barrier(3), {}

    def run(seed):
        start.wait(60)
        for turn in range(3):
            try:
                found[seed, turn] = rig.sample(GUIDANCE, seed=seed, record=False).output.frames
            except BaseException as error:
                found[seed, turn] = error

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    made = {at: frames for at, frames in found.items() if isinstance(frames, torch.Tensor)}
    assert len(found) == 9
    assert made
    assert all(torch.equal(frames, expected[seed]) for (seed, _), frames in made.items())
    assert all(refused(error) for at, error in found.items() if at not in made)
