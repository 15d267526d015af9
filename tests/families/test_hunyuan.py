"""What only the Hunyuan models have: distilled guidance, two kinds of blocks, and a guider component."""

import copy

import pytest
import torch
from diffusers import AdaptiveProjectedGuidance, ClassifierFreeGuidance
from kit.explicit import attend, places, same_frame, seen
from kit.trust import attached
from kit.watch import branch, captured
from kit.zoo import STEPS, member
from torch.overrides import TorchFunctionMode

import stg_lab as lab
from stg_lab.errors import UnsupportedPipelineError
from stg_lab.families import family_of

WEAK = lab.STG(1.0, lab.skip([1]))


def test_without_a_negative_prompt_there_is_no_cfg_and_the_lab_says_what_is_missing():
    one = member("hunyuan")
    for name in [name for name in one.call if name.startswith("negative")]:
        del one.call[name]
    _, trace = attached(one, WEAK)  # the scale alone does nothing
    assert list(trace.recording.branches) == ["cond", "skip", "guided"]
    with pytest.raises(
        lab.GuidanceError,
        match=r"CFG\(3\).*works with true_cfg_scale=1 in this call\. It has the true_cfg_scale, and needs a negative prompt",
    ):
        attached(one, lab.CFG(3) + WEAK)


def test_a_scale_said_twice_differently_is_told():
    one = member("hunyuan")
    with pytest.raises(
        lab.GuidanceError, match=r"CFG\(4\).*works with true_cfg_scale=3 in this call\. Call it with true_cfg_scale=4"
    ):
        attached(one, lab.CFG(4) + WEAK)


def test_sampling_sets_the_true_scale_and_leaves_the_distilled_one():
    one = member("hunyuan")
    call = {**one.call, "num_inference_steps": 2, "output_type": "latent", "guidance_scale": 5.0}
    del call["true_cfg_scale"]
    with captured(one.pipe) as calls:
        run = lab.sample(one.pipe, guidance=lab.CFG(2.5) + WEAK, **call)
    assert run.recording.settings["guidance_scale"] == 2.5
    assert all(kwargs["guidance"] == 5000 for _, _, kwargs in calls.made)
    assert "uncond" in run.recording.branches
    assert "uncond" not in lab.sample(one.pipe, guidance=WEAK, **call).recording.branches


def test_layers_count_on_from_double_to_single_blocks():
    one = member("hunyuan")
    with captured(one.pipe) as calls:
        _, trace = attached(one, lab.Probe(lab.skip([1, 2])))
    module, args, kwargs = calls.made[0]
    oracle = copy.deepcopy(module)
    oracle.transformer_blocks = oracle.transformer_blocks[:1]
    oracle.single_transformer_blocks = oracle.single_transformer_blocks[1:]
    with torch.no_grad():
        assert torch.equal(branch(trace.recording, "skip", 0), oracle(*args, **kwargs)[0])


@pytest.mark.parametrize("part", ["attention_zero", "feedforward"])
def test_a_part_of_a_single_block_is_a_share_of_its_output_projection(part):
    one = member("hunyuan")
    with captured(one.pipe) as calls:
        _, trace = attached(one, lab.Probe(lab.skip([2], part=part)))
    module, args, kwargs = calls.made[0]
    oracle = copy.deepcopy(module)
    weight = oracle.single_transformer_blocks[0].proj_out.weight
    width = weight.shape[0]
    with torch.no_grad():
        weight[:, width:] *= part != "feedforward"
        weight[:, :width] *= part != "attention_zero"
        expected = oracle(*args, **kwargs)[0]
    assert torch.allclose(branch(trace.recording, "skip", 0), expected, atol=1e-4)


class WithinFrames(TorchFunctionMode):
    """Attention in which video sees its own frame and the text, written out with one matrix."""

    def __init__(self, grid):
        super().__init__()
        self.grid = grid

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        q, k, v = (args[i] if len(args) > i else kwargs[n] for i, n in enumerate(("query", "key", "value")))
        g = self.grid
        rule = seen(places((g.frames, g.height, g.width), "last", q.shape[2] - g.size), same_frame)
        out = attend(q, k, v, rule=rule, mask=kwargs["attn_mask"])
        return out.nan_to_num().to(q.dtype)  # words that are padding see nothing at all in HunyuanVideo 1.5


@pytest.mark.parametrize(("name", "layer"), [("hunyuan", 1), ("hunyuan", 2), ("hunyuan15", 1)])
def test_attention_within_frames_keeps_each_models_own_mask(name, layer):
    one = member(name)
    with captured(one.pipe) as calls:
        _, trace = attached(one, lab.Probe(lab.skip([layer], part="attention", axis="temporal")))
    module, args, kwargs = calls.made[0]
    family, oracle = family_of(one.pipe), copy.deepcopy(module)
    attention = family.blocks(oracle)[layer].attn
    forward, mode = attention.forward, WithinFrames(family.grid(oracle, args, kwargs))

    def inside(*args, **kwargs):
        with mode:
            return forward(*args, **kwargs)

    attention.forward = inside
    with torch.no_grad():
        expected = oracle(*args, **kwargs)[0]
    assert torch.allclose(branch(trace.recording, "skip", 0), expected, atol=1e-4)
    assert not torch.allclose(branch(trace.recording, "cond", 0), expected, atol=1e-3)


# ---- HunyuanVideo 1.5: pipe.guider ----


def test_the_scale_is_the_guiders():
    one = member("hunyuan15")
    call = {**one.call, "num_inference_steps": 2, "output_type": "latent"}
    with pytest.raises(
        lab.GuidanceError,
        match=r"has pipe.guider.guidance_scale=3\. Type pipe.guider = pipe.guider.new\(guidance_scale=4\)",
    ):
        lab.sample(one.pipe, guidance=lab.CFG(4) + WEAK, **call)
    run = lab.sample(one.pipe, guidance=lab.CFG(3) + WEAK, **call)
    assert run.recording.settings["guidance_scale"] == 3
    added = lab.sample(one.pipe, guidance=WEAK, **call)  # without a CFG term the guider's own stays in force
    assert torch.equal(added.output.frames, run.output.frames)
    assert list(run.baseline.recording.branches) == ["cond", "uncond", "guided"]


def test_without_cfg_the_lab_says_how_to_turn_it_on():
    one = member("hunyuan15")
    one.off()
    with pytest.raises(
        lab.GuidanceError, match=r"unconditional.*Type pipe.guider = pipe.guider.new\(guidance_scale=6.0\)"
    ):
        attached(one, lab.STG(1.0, lab.skip([1], prompt="negative")))


@pytest.mark.parametrize(
    ("guider", "changes"), [(AdaptiveProjectedGuidance, {}), (ClassifierFreeGuidance, {"start": 0.2})], ids=str
)
def test_other_guiders_and_windows_are_refused(guider, changes):
    one = member("hunyuan15")
    one.pipe.guider = guider(**changes)
    with pytest.raises(
        UnsupportedPipelineError, match=r"Type pipe.guider = ClassifierFreeGuidance\(guidance_scale=6.0\)"
    ):
        attached(one)


def test_rescaling_by_the_guider_is_told():
    one = member("hunyuan15")
    one.pipe.guider = one.pipe.guider.new(guidance_rescale=0.5)
    with pytest.raises(lab.GuidanceError, match=r"guidance_rescale=0.5\. Type pipe.guider = pipe.guider.new\("):
        attached(one, WEAK)


def test_the_channels_beside_the_latents_stay_when_steps_are_made_again():
    one = member("hunyuan15")
    frames, trace = attached(one, WEAK.restart(0.3, 0.999), num_inference_steps=STEPS + 1)
    assert (trace.recording.ds.restart.values > 0).any()
    assert not torch.equal(frames, attached(one, WEAK, num_inference_steps=STEPS + 1)[0])
