"""What holds for every family: stock bits, the branches, the weak passes, x0 and decoding."""

import copy

import numpy as np
import pytest
import torch
from diffusers.hooks import LayerSkipConfig, apply_layer_skip
from kit.trust import (  # noqa: F401 - collected here, with the pipelines of this file
    BATCH,
    attached,
    tensor,
    test_it_describes_itself,
    test_recording_leaves_the_stock_bits,
    test_skipping_attention_is_an_attention_whose_map_is_the_identity,
    test_the_last_latents_decode_to_the_pipelines_own_output,
    test_the_recorded_branches_give_the_prediction_that_was_stepped_with,
    x0_is_the_schedulers_own,
)
from kit.watch import branch, captured, left_behind
from kit.zoo import STEPS, ZOO, member

import stg_lab as lab
from stg_lab.families import family_of

# The last of these files tells what the others found, so one worker runs them all.
pytestmark = [pytest.mark.xdist_group("families"), pytest.mark.slow]

# Where diffusers' own block-skip hook is right, and the list of blocks that it is to be told (None: it finds the only one).
HOOKED = dict.fromkeys(("wan", "wan-image", "wan-5b", "wan-5b-image"), "blocks") | dict.fromkeys(
    ("mochi", "cogvideox", "cogvideox-image", "ltx", "ltx-image", "hunyuan"), "transformer_blocks"
)


@pytest.fixture(params=sorted(ZOO))
def one(request):
    return member(request.param)


def test_a_weak_model_that_only_is_recorded_leaves_the_stock_bits(one):
    stock = tensor(one.stock())
    recorded, _ = attached(one, lab.Probe(lab.skip([1])) + lab.Probe(lab.skip([0], part="attention")))
    assert torch.equal(recorded, stock)
    assert left_behind(one.pipe) == []


def test_the_sample_goes_where_the_scheduler_led_it(one):
    frames, trace = attached(one, lab.STG(1.0, lab.skip([1])))
    final = torch.from_numpy(trace.recording.ds.final.values)
    assert torch.equal(one.returned(final), one.unpacked(frames))


def test_x0_is_the_schedulers_own_where_it_reports_one(one):
    x0_is_the_schedulers_own(one)


@pytest.mark.parametrize("name", sorted(HOOKED))
@pytest.mark.parametrize("layers", [[0], [1], [0, 1]], ids=str)
def test_skipping_blocks_is_diffusers_own_hook_where_that_is_right(name, layers):
    one = member(name)
    with captured(one.pipe) as calls:
        _, trace = attached(one, lab.Probe(lab.skip(layers)), passes=BATCH)
    family = family_of(one.pipe)
    per_step = len(calls) // STEPS
    for step in range(STEPS):
        module, args, kwargs = calls.made[step * per_step]
        oracle = copy.deepcopy(module)
        apply_layer_skip(oracle, LayerSkipConfig(indices=layers, fqn=HOOKED[name]))
        with torch.no_grad():
            pieces = family.prediction(oracle(*args, **kwargs)).chunk(2 if family.batched else 1)
        assert torch.equal(branch(trace.recording, "skip", step), one.at_step(pieces[-1], trace.recording, step))


def test_without_cfg_there_is_no_unconditional_branch_and_guidance_still_acts(one):
    off = one.off()
    stock = tensor(one.stock(**off))
    recorded, trace = attached(one, **off)
    assert torch.equal(recorded, stock)
    assert "uncond" not in trace.recording.branches
    guided, trace = attached(one, lab.STG(1.0, lab.skip([1])), **off)
    c, p, g = (branch(trace.recording, name, 0) for name in ("cond", "skip", "guided"))
    assert torch.equal(g, c + (c - p))
    assert not torch.equal(guided, stock)


def test_a_batch_of_two_is_guided_sample_by_sample(one):
    two = {**one.two(), "count": 2}
    stock = tensor(one.stock(**two))
    recorded, _ = attached(one, **two)
    assert torch.equal(recorded, stock)
    guided, trace = attached(one, lab.STG(1.0, lab.skip([1])), **two)
    assert trace.recording.ds.sizes["sample"] == 2
    assert len(guided) == 2
    rows = [branch(trace.recording, name, 0) for name in ("cond", "skip", "guided")]
    for i in range(2):
        c, p, _ = (row[i] for row in rows)
        assert not torch.equal(c, p)


def test_a_sample_is_the_same_alone_and_in_company(one):
    if one.shares_noise:
        pytest.skip(one.shares_noise)
    two, guidance = one.two(), lab.STG(1.0, lab.skip([1]))
    both, _ = attached(one, guidance, count=2, **two)
    for i in range(2):
        single = {k: [v[i]] if isinstance(v, list) else v[i : i + 1] for k, v in two.items()}
        alone, _ = attached(one, guidance, seed=i, **single)
        assert torch.allclose(both[i], alone[0], atol=1e-3, rtol=1e-3)


def test_bfloat16_keeps_the_stock_dtypes_and_bits(one):
    one.to_bfloat16()
    call = {k: v.to(torch.bfloat16) if torch.is_tensor(v) and v.is_floating_point() else v for k, v in one.call.items()}
    one.call = call
    stock = one.stock()
    recorded, trace = attached(one, lab.Probe(lab.skip([1])))
    assert trace.rebuilt
    assert recorded.dtype == stock.dtype
    assert torch.equal(recorded, stock)
    guided, _ = attached(one, lab.STG(1.0, lab.skip([1])))
    assert guided.dtype == stock.dtype


def test_a_layer_out_of_range_is_told_with_the_familys_own_numbers(one):
    family = family_of(one.pipe)
    count = len(family.layers(next(iter(family.denoisers(one.pipe).values()))))
    with pytest.raises(lab.GuidanceError, match=rf"layer 99 is out of range.*0 to {count - 1}"):
        attached(one, lab.STG(1, lab.skip([99])))


def test_a_recording_reweights_to_what_was_stepped_with(one):
    family = family_of(one.pipe)
    guidance = lab.STG(1.5, lab.skip([1]))
    _, trace = attached(one, guidance)
    recording = trace.recording
    if "uncond" in recording.branches:
        guidance = lab.CFG(recording.settings["guidance_scale"]) + guidance
    ours = recording.reweight(guidance).values
    guided = recording.prediction("guided").values
    if family.name == "Cosmos":
        pytest.skip("its CFG is c + scale (c - u) in x0: lab.CFG(guidance_scale + 1)")
    assert np.allclose(ours, guided, atol=1e-4, rtol=1e-4)
