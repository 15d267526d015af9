"""Scales that change from step to step, in whatever form they are given."""

import json

import numpy as np
import pytest
import torch
from kit.watch import branch, passes

import stg_lab as lab
from stg_lab.guidance import Guidance, Moment, as_guidance, combine
from stg_lab.weak import parse

STEPS = 4
WEAK = lab.skip([1])
CFGS, STGS = [4, 2.5, 1, 3], [0.5, 0, -1, 2]


def falling(share):
    return 5 - 4 * share


FORMS = {
    "list": list,
    "tuple": tuple,
    "float32 array": lambda s: np.array(s, dtype=np.float32),
    "float64 array": np.array,
    "tensor": torch.tensor,
    "generator": lambda s: (x for x in s),
    "function": lambda s: lambda share: s[round(share * len(s))],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_schedule_is_one_scale_for_each_step(tiny, form):
    make = FORMS[form]
    recording = tiny.sample(lab.CFG(make(CFGS)) + lab.STG(make(STGS), WEAK)).recording
    for step, (w, s) in enumerate(zip(CFGS, STGS, strict=True)):
        c, u, p, guided = (branch(recording, name, step) for name in ("cond", "uncond", "skip", "guided"))
        cfg = u + w * (c - u) if w != 1 else c
        assert torch.isnan(p).all() == (s == 0)
        assert torch.equal(guided, cfg + s * (c - p) if s else cfg)


def test_a_function_is_asked_for_the_share_of_the_steps_done(tiny):
    asked = []
    tiny.sample(lab.CFG(1) + lab.STG(lambda share: asked.append(share) or 1.0, WEAK))
    assert sorted(set(asked)) == [0, 0.25, 0.5, 0.75]
    assert [as_guidance(lab.CFG(falling)).cfg_scale(Moment(k, 8)) for k in (0, 2, 4)] == [5, 4, 3]


@pytest.mark.parametrize(
    "guidance",
    [
        lab.CFG([4, 3]),
        lab.CFG(4) + lab.STG([1] * 5, WEAK),
        lab.CFG(4) + lab.STG([1] * 3, WEAK, start=0.75),
        lab.CFG(4) + lab.STG([0] * 3, WEAK),
        lab.CFGpp([0.5] * 5),
    ],
    ids=str,
)
def test_a_schedule_of_another_length_is_refused_before_a_weak_pass(tiny, guidance):
    with passes(tiny.pipe) as made, pytest.raises(lab.GuidanceError, match=r"scales were given for a run of 4 steps"):
        tiny.sample(guidance)
    assert len(made) <= 1


@pytest.mark.parametrize(
    ("term", "says"),
    [
        (lab.CFG(lambda share: 1 - share), r"CFG\(0.75\) is below 1"),
        (lab.STG(lambda share: 1 / share if share else float("inf"), WEAK), "finite number, got inf"),
        (lab.CFGpp(lambda share: 2 * share), r"takes 0 to 1, got 1.5"),
    ],
)
def test_a_function_that_gives_no_proper_scale_is_refused_before_a_weak_pass(tiny, term, says):
    """Even where only a later step's scale is wrong."""
    with passes(tiny.pipe) as made, pytest.raises(lab.GuidanceError, match=says):
        tiny.sample(lab.Probe(WEAK) + term)
    assert len(made) <= 1


def test_a_recording_keeps_a_function_as_numbers(tiny):
    guidance = lab.CFG(falling) + lab.STG(lambda share: share, WEAK)
    recording = tiny.sample(guidance).recording
    kept = Guidance.from_dict(json.loads(json.dumps(recording.settings["guidance"])), parse)
    assert kept == lab.CFG([5, 4, 3, 2]) + lab.STG([0, 0.25, 0.5, 0.75], WEAK)
    assert recording.settings["guidance_text"] == "CFG([5, 4, 3, 2]) + STG([0, 0.25, 0.5, 0.75], skip:block:1)"
    assert str(lab.CFG(falling)) == "CFG(falling)"


def test_a_recorded_schedule_can_be_run_again(tiny):
    first = tiny.sample(lab.CFG(falling) + lab.STG([1, 0, 0, 1], WEAK))
    again = lab.rerun(first.recording, tiny.pipe)
    assert torch.equal(first.output.frames, again.output.frames)


@pytest.mark.parametrize(
    ("guidance", "scale"),
    [
        (lab.CFG([4, 9, 1, 1]), 3),
        (lab.CFG(falling), 3),
        (lab.CFG([1, 1, 1, 1]), 3),
        (lab.CFG([4, 1, 1, 1]) + lab.CFG(3), 3),
        (lab.CFGpp(0.6), 3),
        (lab.CFG(5).apg(), 5),
        (lab.CFG(3) + lab.CFG(2), 4),
        (lab.CFG(3, start=0.5), 3),
        (lab.CFG(1).apg(), 1),
        (lab.CFG(1) + lab.STG([1, 2, 3, 4], WEAK), 1),
        (lab.STG(1, WEAK), 1),
    ],
    ids=str,
)
def test_the_pipeline_is_called_with_a_scale_at_which_it_computes_what_is_needed(tiny, guidance, scale):
    assert as_guidance(guidance).cfg_scale() == scale
    with passes(tiny.pipe) as made:
        run = tiny.sample(guidance)
    assert run.call["guidance_scale"] == scale
    assert len(made) == (2 if scale > 1 else 1) * STEPS + (STEPS if "STG" in str(guidance) else 0)


def test_what_the_pipeline_is_called_with_does_not_matter_where_the_scale_is_ours(tiny):
    """The scales of a schedule hold, not the one of the call."""
    results = []
    for own in (1.5, 7.0):
        with lab.attach(tiny.pipe, guidance=lab.CFG(CFGS)):
            results.append(tiny.stock(guidance_scale=own))
    assert torch.equal(*results)
    assert torch.equal(results[0], tiny.sample(lab.CFG(CFGS)).output.frames)


def test_a_constant_schedule_is_the_number(tiny):
    listed, plain = tiny.sample(lab.CFG([3] * 4)), tiny.sample(lab.CFG(3))
    assert torch.equal(listed.output.frames, plain.output.frames)


@pytest.mark.parametrize(
    "scale", [np.float32(2.5), np.float64(2.5), np.array(2.5), torch.tensor(2.5), np.int64(2), True, 2]
)
def test_a_number_of_any_library_is_a_plain_number(scale):
    """numpy's would turn float32 predictions into float64 ones, and go into no file."""
    b = {name: np.ones((1, 2), dtype=np.float32) for name in ("cond", "uncond", "skip")}
    guidance = lab.CFG(scale) + lab.STG(scale, WEAK)
    assert guidance.terms[0].scale == float(scale)
    assert {type(t.scale) for t in guidance.terms} <= {int, float}
    assert combine(guidance, b, Moment(0, 1)).dtype == np.float32
    assert Guidance.from_dict(json.loads(json.dumps(guidance.to_dict())), parse) == guidance
    assert hash(guidance) == hash(lab.CFG(float(scale)) + lab.STG(float(scale), WEAK))
