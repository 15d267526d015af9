"""What only pictures have: one frame, blocks that return the text first, and the skip guidance of Stable Diffusion 3."""

import copy

import numpy as np
import pytest
import torch
from kit.trust import BATCH, attached, tensor
from kit.watch import branch, captured
from kit.zoo import STEPS, member

import stg_lab as lab
from stg_lab.families import family_of

WEAK = lab.STG(1.0, lab.skip([1]))
NAMES = ("flux", "sd3")


def without_blocks(oracle, layers):
    """The same model with the blocks taken out of its lists."""
    lists = [name for name in ("transformer_blocks", "single_transformer_blocks") if hasattr(oracle, name)]
    first = 0
    for name in lists:
        blocks = getattr(oracle, name)
        kept = [block for i, block in enumerate(blocks, first) if i not in layers]
        first += len(blocks)
        setattr(oracle, name, torch.nn.ModuleList(kept))
    return oracle


@pytest.mark.parametrize(
    ("name", "layers"), [("flux", [0]), ("flux", [2]), ("flux", [1, 2, 3]), ("sd3", [0]), ("sd3", [1]), ("sd3", [2])]
)
def test_skipping_blocks_is_a_model_without_them(name, layers):
    """Single blocks of Flux count on from its double ones; the last block of SD3 has no text to pass on."""
    one = member(name)
    family = family_of(one.pipe)
    with captured(one.pipe) as calls:
        _, trace = attached(one, lab.Probe(lab.skip(layers)), passes=BATCH)
    per_step = len(calls) // STEPS
    for step in range(STEPS):
        module, args, kwargs = calls.made[step * per_step]
        with torch.no_grad():
            output = without_blocks(copy.deepcopy(module), layers)(*args, **kwargs)
        expected = family.prediction(output).chunk(2 if family.batched else 1)[-1]
        assert torch.equal(branch(trace.recording, "skip", step), one.predicted(expected))


def test_the_second_attention_of_a_dual_block_is_skipped_too():
    one = member("sd3")
    with captured(one.pipe) as calls:
        _, trace = attached(one, lab.Probe(lab.skip([0], part="attention_zero")))
    module, args, kwargs = calls.made[0]
    oracle = copy.deepcopy(module)
    with torch.no_grad():
        for layer in (oracle.transformer_blocks[0].attn.to_out[0], oracle.transformer_blocks[0].attn2.to_out[0],
                      oracle.transformer_blocks[0].attn.to_add_out):  # fmt: skip
            layer.weight.zero_()
            layer.bias.zero_()
        expected = oracle(*args, **kwargs)[0].chunk(2)[1]
    assert torch.allclose(branch(trace.recording, "skip", 0), one.predicted(expected), atol=1e-5)


@pytest.mark.parametrize("output_type", ["np", "pt", "pil", "latent"])
@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_a_video_of_one_frame(name, output_type):
    one = member(name)
    call = {**one.call, "num_inference_steps": 2, "output_type": output_type, "guidance": WEAK, **one.two()}
    run = lab.sample(one.pipe, record=False, **call)
    shown = lab.sample(one.pipe, record=False, **{**call, "output_type": "np"}).video
    assert run.video.shape == (2, 1, 16, 24, 3)
    assert run.video.dtype == np.float32
    assert np.allclose(run.video, shown, atol=1 / 255 if output_type == "pil" else 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_size_is_recorded_as_the_pipeline_rounds_it(name):
    one = member(name)
    call = {**one.call, "height": 16, "width": 28}
    family = family_of(one.pipe)
    if name == "sd3":
        call["width"] = 32
    recording = lab.sample(one.pipe, **{**call, "num_inference_steps": 2}).recording
    assert recording.ds.x_t.shape[1:] == family.latent_shape(one.pipe, call)


@pytest.mark.parametrize("weak", [lab.skip([1], part="attention", axis="temporal"), lab.window([1])], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_mixes_over_time_in_a_picture(name, weak):
    with pytest.raises(lab.GuidanceError, match=r"make pictures, videos of one frame.*Choose another axis"):
        attached(member(name), lab.STG(1.0, weak))


@pytest.mark.parametrize("name", NAMES)
def test_latents_without_a_frame_are_not_decoded(name):
    one = member(name)
    with pytest.raises(
        lab.CallError,
        match=r"\(sample, channel, frame, y, x\), got .*(packed tokens|one frame).*run.recording.ds.final",
    ):
        lab.decode(one.pipe, one.stock())


# ---- Flux ----


def test_flux_without_a_negative_prompt_has_no_cfg_and_the_lab_says_what_is_missing():
    one = member("flux")
    for name in [name for name in one.call if name.startswith("negative")]:
        del one.call[name]
    _, trace = attached(one, WEAK)  # the scale alone does nothing
    assert list(trace.recording.branches) == ["cond", "skip", "guided"]
    with pytest.raises(
        lab.GuidanceError,
        match=r"CFG\(3\).*true_cfg_scale=1 in.*It has the true_cfg_scale, and needs a negative prompt",
    ):
        attached(one, lab.CFG(3) + WEAK)


def test_sampling_flux_sets_the_true_scale_and_leaves_the_distilled_one():
    one = member("flux")
    call = {**one.call, "num_inference_steps": 2, "output_type": "latent", "guidance_scale": 5.0}
    del call["true_cfg_scale"]
    with captured(one.pipe) as calls:
        run = lab.sample(one.pipe, guidance=lab.CFG(2.5) + WEAK, **call)
    assert run.recording.settings["guidance_scale"] == 2.5
    assert all(kwargs["guidance"] == 5 for _, _, kwargs in calls.made)
    assert "uncond" not in lab.sample(one.pipe, guidance=WEAK, **call).recording.branches


@pytest.mark.parametrize("part", ["attention_zero", "feedforward"])
def test_a_part_of_a_single_block_is_a_share_of_its_output_projection(part):
    one = member("flux")
    with captured(one.pipe) as calls:
        _, trace = attached(one, lab.Probe(lab.skip([3], part=part)))
    module, args, kwargs = calls.made[0]
    oracle = copy.deepcopy(module)
    weight = oracle.single_transformer_blocks[1].proj_out.weight
    width = weight.shape[0]
    with torch.no_grad():
        weight[:, width:] *= part != "feedforward"
        weight[:, :width] *= part != "attention_zero"
        expected = oracle(*args, **kwargs)[0]
    assert torch.allclose(branch(trace.recording, "skip", 0), one.unpacked(expected), atol=1e-5)


# ---- Stable Diffusion 3: skip_guidance_layers ----

NATIVE = {
    "skip_guidance_layers": [1],
    "skip_layer_guidance_scale": 2.0,
    "skip_layer_guidance_start": 0.2,
    "skip_layer_guidance_stop": 0.9,
    "num_inference_steps": 4,
}


def test_the_pipelines_own_skip_guidance_is_recorded_and_left_as_it_is():
    one = member("sd3")
    stock = tensor(one.stock(**NATIVE))
    recorded, trace = attached(one, lab.Probe(lab.skip([1])), **NATIVE)
    assert torch.equal(recorded, stock)
    rec = trace.recording
    assert list(rec.branches) == ["cond", "uncond", "skip_layer_guidance", "skip", "guided"]
    there = [not np.isnan(rec.prediction("skip_layer_guidance").isel(step=k).values).any() for k in range(4)]
    assert there == [False, True, True, True]  # from step 1 (above 0.8) to step 3 (below 3.6)
    for step in (1, 2, 3):
        c, u, own, ours, guided = (
            branch(rec, name, step) for name in ("cond", "uncond", "skip_layer_guidance", "skip", "guided")
        )
        assert torch.equal(guided, u + 3.0 * (c - u) + (c - own) * 2.0)
        assert torch.allclose(own, ours, atol=1e-5)  # theirs is a batch of one, ours has the batch of cond


def test_the_labs_sum_is_the_pipelines_own_skip_guidance():
    one = member("sd3")
    native = tensor(one.stock(**NATIVE))
    ours, _ = attached(one, lab.STG(2.0, lab.skip([1]), start=0.25), num_inference_steps=4)
    assert torch.allclose(ours, native, atol=1e-4)
    assert not torch.allclose(ours, tensor(one.stock(num_inference_steps=4)), atol=1e-2)


def test_two_skip_guidances_in_one_call_are_refused():
    with pytest.raises(
        lab.GuidanceError, match=r"skip_guidance_layers=\[1\]\. Leave it out; .*lab.STG\(2, lab.skip\(\[1\]\)"
    ):
        attached(member("sd3"), WEAK, **NATIVE)


def test_own_skip_guidance_from_the_first_step_is_rebuilt_exactly():
    one = member("sd3")
    _, trace = attached(one, **{**NATIVE, "skip_layer_guidance_start": -1})
    assert trace.rebuilt


def test_without_cfg_the_pipeline_leaves_its_skip_guidance_out():
    one = member("sd3")
    _, trace = attached(one, WEAK, **{**NATIVE, **one.off()})
    assert list(trace.recording.branches) == ["cond", "skip", "guided"]
