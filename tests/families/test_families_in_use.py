"""Families the way people run them: offloaded, compiled, cached, restarted, with every form of weak pass."""

import pytest
import torch
from diffusers import FirstBlockCacheConfig
from kit.trust import (
    WEAK,
    attached,
    guidance_survives_offloading,
)
from kit.watch import branch, left_behind
from kit.zoo import ZOO, member

import stg_lab as lab
from stg_lab.families import family_of

# The last of these files tells what the others found, so one worker runs them all.
pytestmark = [pytest.mark.xdist_group("families"), pytest.mark.slow]


@pytest.fixture(params=sorted(ZOO))
def one(request):
    return member(request.param)


@pytest.mark.parametrize("first", ["offload", "attach"])
def test_guidance_survives_offloading_and_its_passes_find_the_model_onloaded(one, first):
    guidance_survives_offloading(one, first)


@pytest.mark.parametrize("name", ["wan", "mochi", "cogvideox"])
def test_an_active_step_cache_is_refused_before_any_pass(name):
    one = member(name)
    one.pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(lab.GuidanceError, match=r"a step cache is active.*disable_cache\(\)"):
        attached(one, WEAK)
    one.pipe.transformer.disable_cache()
    assert left_behind(one.pipe) == [] or all("forward" in left for left in left_behind(one.pipe))


def test_restart_goes_through_the_familys_own_calls_or_says_why_not(one):
    guidance = WEAK.restart(0.3, 0.999) if "svd" not in one.name else WEAK.restart(0.3, 0.9999)
    try:
        frames, trace = attached(one, guidance, num_inference_steps=4)
    except lab.LabError as refusal:
        if "Restart" not in str(refusal):
            raise
        pytest.skip(str(refusal).splitlines()[0])  # its message names what stands in the way
    recording = trace.recording
    again = recording.ds.restart.values > 0
    assert again.any()
    final = torch.from_numpy(recording.ds.final.values)
    assert torch.equal(one.returned(final), one.unpacked(frames))
    assert not torch.equal(frames, attached(one, WEAK, num_inference_steps=4)[0])


def test_a_weak_pass_may_carry_the_negative_prompt(one):
    if "uncond" not in attached(one)[1].recording.branches:
        pytest.skip("distilled: no unconditional prediction in this call")
    _, trace = attached(one, lab.STG(1.0, lab.skip([1], prompt="negative"), reference="uncond"))
    u, p = (branch(trace.recording, name, 0) for name in ("uncond", "skip"))
    assert not torch.equal(u, p)
    _, caption = attached(one, lab.Probe(lab.skip([1])))
    assert not torch.equal(p, branch(caption.recording, "skip", 0))


def test_several_weak_models_share_a_run(one):
    weak = [
        lab.skip([0]),
        lab.skip([1], strength=0.5),
        lab.skip([0], part="attention"),
        lab.skip([1], part="attention", axis="temporal"),
        lab.skip([0], part="feedforward"),
    ]
    family = family_of(one.pipe)
    weak = [w for w in weak if w.part in family.parts and not (family.still and w.axis == "temporal")]
    guidance = WEAK
    for w in weak:
        guidance = guidance + lab.Probe(w)
    try:
        _, trace = attached(one, guidance)
    except lab.GuidanceError as error:
        pytest.fail(str(error))
    predictions = [branch(trace.recording, name, 0) for name in trace.recording.weak]
    assert len(predictions) == len(weak) + 1
    assert all(not torch.equal(a, b) for i, a in enumerate(predictions) for b in predictions[:i])


def test_attention_is_restricted_to_space_or_to_time(one):
    family = family_of(one.pipe)
    if family.still:
        pytest.skip("one frame: there is no time")
    spatial, temporal = (lab.skip([0], part="attention", axis=axis) for axis in ("spatial", "temporal"))
    _, trace = attached(one, lab.Probe(spatial) + lab.Probe(temporal) + lab.Probe(lab.skip([0], part="attention")))
    s, t, both = (branch(trace.recording, name, 0) for name in trace.recording.weak)
    assert not torch.equal(s, t)
    assert not torch.equal(s, both)
    assert not torch.equal(t, both)


def test_sampling_fits_a_preview(one):
    call = one.arguments({})
    call.pop("output_type", None)
    recording = lab.sample(one.pipe, **call).recording
    assert recording.has_preview
    shown = recording.video("cond", step=0)
    assert shown.shape[1:4] == tuple(recording.ds.sizes[d] for d in ("frame", "y", "x")) or recording.preview_exact
