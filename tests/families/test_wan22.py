"""Wan 2.2 has two transformers, one for high and one for low noise: guidance and recording reach both."""

import copy

import pytest
import torch
from diffusers.hooks import LayerSkipConfig, apply_layer_skip
from kit.watch import branch, captured, left_behind, passes

import stg_lab as lab

WEAK = lab.skip([1])


def test_both_transformers_are_guided_and_recorded(wan22):
    with captured(wan22.pipe) as calls, passes(wan22.pipe) as made:
        recording = wan22.sample(lab.CFG(4) + lab.STG(1, WEAK)).recording
    conditional = calls.made[::2]
    modules = [module for module, _, _ in conditional]
    first, second = wan22.pipe.transformer, wan22.pipe.transformer_2
    assert modules == [first, first, second, second]
    assert len(made) == 3 * wan22.steps
    for step, (module, args, kwargs) in enumerate(conditional):
        oracle = copy.deepcopy(module)
        apply_layer_skip(oracle, LayerSkipConfig(indices=[1], fqn="auto"))
        with torch.no_grad():
            assert torch.equal(branch(recording, "skip", step), oracle(*args, **kwargs)[0])
        c, u, p = (branch(recording, name, step) for name in ("cond", "uncond", "skip"))
        assert torch.equal(branch(recording, "guided", step), u + 4.0 * (c - u) + (c - p))
    assert left_behind(wan22.pipe) == []


def test_the_second_scale_of_the_call_is_recorded_bit_for_bit(wan22):
    stock = wan22.stock(guidance_scale=4.0, guidance_scale_2=2.0)
    run = wan22.sample(guidance_scale=4.0, guidance_scale_2=2.0)
    assert torch.equal(run.output.frames, stock)
    assert run.recording.settings["call"]["guidance_scale_2"] == 2.0


def test_weak_models_are_added_to_the_scale_that_each_transformer_has(wan22):
    recording = wan22.sample(lab.STG(1, WEAK), guidance_scale=4.0, guidance_scale_2=2.0).recording
    for step, scale in enumerate([4.0, 4.0, 2.0, 2.0]):
        c, u, p = (branch(recording, name, step) for name in ("cond", "uncond", "skip"))
        assert torch.equal(branch(recording, "guided", step), u + scale * (c - u) + (c - p))


def test_a_cfg_term_leaves_a_second_scale_that_the_user_gave_in_force(wan22):
    """Else `guidance_scale_2` would be silently overruled."""
    stock = wan22.stock(guidance_scale=4.0, guidance_scale_2=2.0)
    assert torch.equal(wan22.sample(lab.CFG(4), guidance_scale_2=2.0).output.frames, stock)


def test_layers_are_checked_against_both_transformers(wan22):
    pipe = copy.deepcopy(wan22.pipe)
    del pipe.transformer_2.blocks[2]
    with passes(pipe) as made, pytest.raises(lab.GuidanceError, match=r"layer 2 is out of range.*has 2 blocks"):
        lab.sample(pipe, guidance=lab.STG(1, lab.skip([2])), prompt="a red seven moving left")
    assert made == []


def test_describe_shows_both(wan22):
    description = lab.describe(wan22.pipe)
    assert description.layers == {"transformer": 3, "transformer_2": 3}
