"""Skipping layers gives what independent implementations of the same thing give, bit for bit."""

import copy

import pytest
import torch
from diffusers.hooks import LayerSkipConfig, apply_layer_skip
from diffusers.models.transformers import transformer_wan
from kit.watch import branch, captured

import stg_lab as lab

STEPS = 2


def recorded(rig, weak, **changes):
    """A guided run: its recording, and the arguments of its conditional calls by step."""
    guidance = lab.CFG(4) + lab.STG(0.5, weak)
    with captured(rig.pipe) as calls:
        recording = rig.sample(guidance, num_inference_steps=STEPS, **changes).recording
    assert len(calls) == 2 * STEPS
    return recording, calls.made[::2]


def predict(module, args, kwargs):
    with torch.no_grad():
        return module(*args, **kwargs)[0]


@pytest.mark.parametrize("layers", [[0], [1], [2], [0, 2], [0, 1, 2]], ids=str)
def test_skipping_blocks_is_apply_layer_skip(small_and_trained, layers):
    recording, calls = recorded(small_and_trained, lab.skip(layers))
    for step, (module, args, kwargs) in enumerate(calls):
        oracle = copy.deepcopy(module)
        apply_layer_skip(oracle, LayerSkipConfig(indices=layers, fqn="auto"))
        assert torch.equal(branch(recording, "skip", step), predict(oracle, args, kwargs))


def test_skipping_blocks_is_apply_layer_skip_also_for_a_batch_in_bfloat16(tiny):
    rig = tiny.copy()
    rig.pipe.to(torch.bfloat16)
    recording, calls = recorded(rig, lab.skip([1]), prompt=["a red seven moving left", "a blue two growing"])
    for step, (module, args, kwargs) in enumerate(calls):
        oracle = copy.deepcopy(module)
        apply_layer_skip(oracle, LayerSkipConfig(indices=[1], fqn="auto"))
        assert torch.equal(branch(recording, "skip", step), predict(oracle, args, kwargs).float())


def wan_block(block, x, text, temb, rotary, part):
    """A Wan block written out anew, with one part left out (Hyung et al. 2025, section 4.3)."""
    shift, scale, gate, ff_shift, ff_scale, ff_gate = (block.scale_shift_table + temb.float()).chunk(6, dim=1)
    h = (block.norm1(x.float()) * (1 + scale) + shift).type_as(x)
    if part == "attention":
        x = (x.float() + block.attn1.to_out[0](block.attn1.to_v(h)) * gate).type_as(x)
    elif part != "attention_zero":
        x = (x.float() + block.attn1(h, None, None, rotary) * gate).type_as(x)
    x = x + block.attn2(block.norm2(x.float()).type_as(x), text, None, None)
    if part == "feedforward":
        return x
    h = (block.norm3(x.float()) * (1 + ff_scale) + ff_shift).type_as(x)
    return (x.float() + block.ffn(h).float() * ff_gate).type_as(x)


@pytest.mark.parametrize("layers", [[0], [1, 2]], ids=str)
@pytest.mark.parametrize("part", ["attention", "attention_zero", "feedforward"])
def test_skipping_a_part_is_the_block_without_it(small_and_trained, part, layers):
    recording, calls = recorded(small_and_trained, lab.skip(layers, part=part))
    for step, (module, args, kwargs) in enumerate(calls):
        oracle = copy.deepcopy(module)
        for layer in layers:
            oracle.blocks[layer].register_forward_hook(
                lambda block, given, output: wan_block(block, *given, part=part),
            )
        assert torch.equal(branch(recording, "skip", step), predict(oracle, args, kwargs))


def test_the_written_out_block_is_the_stock_block(tiny):
    """Else the test above would prove nothing."""
    with captured(tiny.pipe) as calls:
        tiny.stock(num_inference_steps=1)
    module, args, kwargs = calls.made[0]
    oracle = copy.deepcopy(module)
    for block in oracle.blocks:
        block.register_forward_hook(lambda block, given, output: wan_block(block, *given, part=None))
    assert torch.equal(predict(oracle, args, kwargs), predict(module, args, kwargs))


def test_skipping_attention_is_an_attention_map_that_is_the_identity(tiny, monkeypatch):
    recording, calls = recorded(tiny, lab.skip([1], part="attention"))
    stock, inside = transformer_wan.dispatch_attention_fn, []
    monkeypatch.setattr(
        transformer_wan, "dispatch_attention_fn", lambda q, k, v, **rest: v if inside else stock(q, k, v, **rest)
    )
    for step, (module, args, kwargs) in enumerate(calls):
        oracle = copy.deepcopy(module)
        oracle.blocks[1].attn1.register_forward_pre_hook(lambda *_: inside.append(True))
        oracle.blocks[1].attn1.register_forward_hook(lambda *_: inside.clear())
        assert torch.equal(branch(recording, "skip", step), predict(oracle, args, kwargs))


def test_skipping_attention_knows_fused_projections(tiny):
    guidance = lab.STG(1, lab.skip([1], part="attention"))
    plain = tiny.sample(guidance, num_inference_steps=STEPS, record=False).output.frames
    rig = tiny.copy()
    for block in rig.pipe.transformer.blocks:
        block.attn1.fuse_projections()
    assert torch.allclose(rig.sample(guidance, num_inference_steps=STEPS, record=False).output.frames, plain, atol=1e-5)


def test_the_four_parts_are_four_different_weak_models(tiny):
    parts = ["block", "attention", "attention_zero", "feedforward"]
    guidance = lab.CFG(1)
    for part in parts:
        guidance = guidance + lab.Probe(lab.skip([1], part=part))
    recording = tiny.sample(guidance, num_inference_steps=1).recording
    seen = [branch(recording, f"skip:{part}:1", 0) for part in parts]
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(seen) for b in seen[:i])


def silent(block):
    """Make a block give back its input, whatever comes in."""
    for last in (block.attn1.to_out[0], block.attn2.to_out[0], block.ffn.net[-1]):
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)


@pytest.mark.parametrize("part", ["block", "attention", "attention_zero", "feedforward"])
def test_a_weak_pass_that_changes_nothing_is_an_error(tiny, part):
    rig = tiny.copy()
    silent(rig.pipe.transformer.blocks[1])
    with pytest.raises(lab.GuidanceError, match=rf"skip:{part}:1 changed nothing.*Choose other layers"):
        rig.sample(lab.CFG(4) + lab.STG(1, lab.skip([1], part=part)))


def test_an_interception_that_is_never_reached_is_an_error(tiny):
    rig = tiny.copy()
    rig.pipe.transformer.blocks[1].forward = lambda hidden_states, *_: 1.1 * hidden_states  # has no use for its parts
    for part in ("attention", "attention_zero", "feedforward"):
        with pytest.raises(lab.GuidanceError, match=rf"{part} 1 was never reached"):
            rig.sample(lab.STG(1, lab.skip([0, 1], part=part)))
    rig.sample(lab.STG(1, lab.skip([0, 2], part="attention")), num_inference_steps=1, record=False)
