"""After a run the pipeline is as it was, by whatever way the run ended."""

import gc

import pytest
import torch
from kit.watch import left_behind, processors

import stg_lab as lab
from stg_lab.families import family_of
from stg_lab.weak import Pass

GUIDANCE = lab.CFG(4) + lab.STG(1, lab.skip([0, 1])) + lab.STG(1, lab.skip([1], part="attention"))


CALL = {"hidden_states": torch.zeros(1, 24, 3, 8, 8)}


class Stop(Exception):
    """Raised by a user's callback."""


@pytest.fixture
def clean(tiny):
    """The tiny pipeline, held to be untouched and to work as before when the test ends."""
    assert left_behind(tiny.pipe) == []
    before, stock = processors(tiny.pipe), tiny.stock(guidance_scale=4.0)
    yield tiny
    assert left_behind(tiny.pipe) == []
    assert processors(tiny.pipe) == before
    assert torch.equal(tiny.stock(guidance_scale=4.0), stock)
    assert tiny.sample(GUIDANCE, num_inference_steps=1, record=False).video is not None  # and can be guided again


def stop_after(step):
    def callback(pipe, at, timestep, given):
        if at == step:
            raise Stop
        return {}

    return callback


def test_what_a_run_puts_on_a_pipeline_would_be_seen(tiny):
    """Else the tests below would prove nothing."""
    with lab.attach(tiny.pipe, guidance=GUIDANCE):
        assert left_behind(tiny.pipe) == [
            "transformer.._forward_hooks",
            "transformer.._forward_pre_hooks",
            "scheduler.step",
        ]
    weak = lab.skip([1], part="attention")
    here = Pass(family_of(tiny.pipe), tiny.pipe, "transformer", tiny.pipe.transformer, (), CALL, torch.zeros(1), 0, 4)
    with weak.perturb(here):
        assert left_behind(tiny.pipe) == ["transformer.blocks.1.attn1.forward"]


def test_nothing_is_left_after_a_run(clean):
    clean.sample(GUIDANCE)


def test_nothing_is_left_after_attach_without_a_call(clean):
    with lab.attach(clean.pipe, guidance=GUIDANCE, record=True) as trace:
        pass
    with pytest.raises(lab.RecordingError, match="finished no step"):
        _ = trace.recording


@pytest.mark.parametrize("record", [True, False])
def test_nothing_is_left_after_an_exception_in_the_middle_of_the_loop(clean, record):
    with pytest.raises(Stop):
        clean.sample(GUIDANCE, record=record, callback_on_step_end=stop_after(1))


def test_nothing_is_left_after_an_interrupt_inside_a_weak_pass(clean):
    block, met = clean.pipe.transformer.blocks[2], []

    def interrupt(*_):
        met.append(left_behind(clean.pipe))
        if len(met) == 2:  # the first pass is the conditional one
            raise KeyboardInterrupt

    handle = block.ffn.register_forward_pre_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            clean.sample(GUIDANCE)
    finally:
        handle.remove()
    assert "transformer.blocks.1.forward" in met[1], "the interrupt did not come inside a weak pass"


def test_nothing_is_left_after_an_error_of_the_labs_own(clean):
    with pytest.raises(lab.GuidanceError), lab.attach(clean.pipe, guidance=GUIDANCE):
        clean.stock(guidance_scale=2.0)


def test_a_forward_that_somebody_else_put_there_comes_back(tiny):
    rig = tiny.copy()
    block = rig.pipe.transformer.blocks[1]
    inner = block.forward

    def own(*args, **kwargs):
        return inner(*args, **kwargs)

    block.forward = own
    own_step = rig.pipe.scheduler.step
    rig.pipe.scheduler.step = own_step
    run = rig.sample(GUIDANCE, record=False)
    assert vars(block)["forward"] is own
    assert vars(rig.pipe.scheduler)["step"] is own_step
    assert torch.equal(run.output.frames, tiny.sample(GUIDANCE, record=False).output.frames)


def test_hooks_that_somebody_else_put_there_stay(tiny):
    rig, seen = tiny.copy(), []
    rig.pipe.transformer.register_forward_hook(lambda *_: seen.append(1))
    rig.sample(GUIDANCE, record=False)
    assert len(seen) == 2 * rig.steps  # the pipeline's own calls, and none of the weak passes
    assert left_behind(rig.pipe) == ["transformer.._forward_hooks"]


def test_two_guided_attaches_are_an_error_and_leave_nothing(clean):
    with (
        pytest.raises(lab.GuidanceError, match=r"already inside a lab.attach with guidance.*guidance=a \+ b"),
        lab.attach(clean.pipe, guidance=GUIDANCE),
        lab.attach(clean.pipe, guidance=lab.STG(1, lab.skip([1]))),
    ):
        pytest.fail("the second attach was let in")


def test_sampling_with_guidance_inside_a_guided_attach_is_an_error(clean):
    with lab.attach(clean.pipe, guidance=GUIDANCE), pytest.raises(lab.GuidanceError, match="already inside"):
        clean.sample(GUIDANCE)


@pytest.mark.filterwarnings("ignore:.*recording only")
def test_recording_inside_a_guided_attach_changes_nothing(clean):
    expected = clean.sample(GUIDANCE, record=False).output.frames
    with lab.attach(clean.pipe, guidance=GUIDANCE), lab.attach(clean.pipe, record=True) as inner:
        frames = clean.stock(guidance_scale=4.0)
    assert torch.equal(frames, expected)
    assert inner.recording.steps == clean.steps
    assert torch.equal(torch.from_numpy(inner.recording.ds.final.values), frames)


@pytest.mark.filterwarnings("ignore:.*recording only")
def test_recording_inside_a_guided_attach_holds_what_the_sampler_stepped_with(tiny):
    """`guided` is the prediction of the step: with Euler, its last x0 is the final sample."""
    with lab.attach(tiny.pipe, guidance=GUIDANCE), lab.attach(tiny.pipe, record=True) as inner:
        tiny.stock(guidance_scale=4.0)
    rec = inner.recording
    assert abs(rec.x0("guided").isel(step=-1) - rec.ds.final).max() < 1e-5


@pytest.mark.filterwarnings("ignore:.*recording only")
def test_guidance_inside_a_recording_attach_is_recorded_by_it(clean):
    with lab.attach(clean.pipe, record=True) as outer, lab.attach(clean.pipe, guidance=GUIDANCE, record=True) as inner:
        clean.stock(guidance_scale=4.0)
    a, b = outer.recording, inner.recording
    assert a.branches == ["cond", "uncond", "guided"]
    assert (a.prediction("guided") == b.prediction("guided")).all()


def test_a_pipeline_is_not_kept_alive_by_having_been_sampled(tiny):
    import weakref

    rig = tiny.copy()
    rig.sample(GUIDANCE, num_inference_steps=1)
    gone = weakref.ref(rig.pipe.transformer)
    del rig
    gc.collect()
    assert gone() is None
