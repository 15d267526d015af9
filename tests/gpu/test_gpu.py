"""The laws again on CUDA, with the embedded model."""

import copy

import pytest
import torch
from diffusers.hooks import LayerSkipConfig, apply_layer_skip
from kit.watch import branch, captured, left_behind

import stg_lab as lab

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

GUIDANCE = lab.CFG(4) + lab.STG(1, lab.skip([2]))


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def rig(request, digits):
    on_gpu = digits.copy()
    on_gpu.pipe.to("cuda", getattr(torch, request.param))
    return on_gpu


@pytest.fixture(autouse=True, scope="module")
def _same_bits():
    """Kernels that give the same bits each time."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = before


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_recording_alone_changes_no_bit(rig, scale):
    stock = rig.stock(guidance_scale=scale)
    run = rig.sample(guidance_scale=scale)
    assert run.output.frames.device.type == "cuda"
    assert torch.equal(run.output.frames, stock)


def test_stg_of_scale_zero_is_cfg_alone(rig):
    run = rig.sample(lab.CFG(4) + lab.Probe(lab.skip([2])), record=False)
    assert torch.equal(run.output.frames, rig.stock(guidance_scale=4.0))


def test_skipping_blocks_is_apply_layer_skip(rig):
    with captured(rig.pipe) as calls:
        recording = rig.sample(GUIDANCE).recording
    for step, (module, args, kwargs) in enumerate(calls.made[::2]):
        oracle = copy.deepcopy(module)
        apply_layer_skip(oracle, LayerSkipConfig(indices=[2], fqn="auto"))
        with torch.no_grad():
            expected = oracle(*args, **kwargs)[0].float().cpu()
        assert torch.equal(branch(recording, "skip", step), expected)


def test_guidance_keeps_dtype_and_device(rig):
    stock, guided = rig.stock(guidance_scale=4.0), rig.sample(GUIDANCE, record=False).output.frames
    assert (guided.dtype, guided.device) == (stock.dtype, stock.device)
    assert not torch.equal(guided, stock)


def test_cpu_offload_before_attaching_changes_nothing(digits):
    """Offloading takes patches of `forward` away at the end of each call, so a second call is the test."""
    plain = digits.copy()
    plain.pipe.to("cuda")
    expected = plain.sample(GUIDANCE, record=False).output.frames
    rig = digits.copy()
    rig.pipe.enable_model_cpu_offload()
    for _ in range(2):
        run = rig.sample(GUIDANCE)
        assert torch.equal(run.output.frames, expected)
        assert run.recording.complete
    assert torch.equal(rig.stock(guidance_scale=4.0), plain.stock(guidance_scale=4.0))


def test_cpu_offload_inside_an_attach_changes_nothing(digits):
    plain = digits.copy()
    plain.pipe.to("cuda")
    expected = plain.sample(GUIDANCE, record=False).output.frames
    rig = digits.copy()
    with lab.attach(rig.pipe, guidance=GUIDANCE):
        rig.pipe.enable_model_cpu_offload()
        for _ in range(2):
            assert torch.equal(rig.stock(guidance_scale=4.0), expected)
    assert [name for name in left_behind(rig.pipe) if name.endswith("_hooks") or name.startswith("scheduler")] == []
    assert torch.equal(rig.stock(guidance_scale=4.0), plain.stock(guidance_scale=4.0))
