"""Every family on CUDA in bfloat16, and architectures of full size with random weights."""

import json
import time
from pathlib import Path

import diffusers
import pytest
import torch
from kit.zoo import ZOO, member

import stg_lab as lab
from stg_lab.families import family_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "gpu.json"
#: Full-size denoisers: class, the constructor's own defaults being the checkpoint's, and one call's shapes.
FULL = {
    "mochi": ("MochiTransformer3DModel", {}, lab.skip([34])),
    "cogvideox": ("CogVideoXTransformer3DModel", {"num_layers": 42, "num_attention_heads": 48}, lab.skip([11])),
}


def on_cuda(one, dtype=torch.bfloat16):
    one.pipe.to("cuda", dtype)
    one.call = {
        k: v.to("cuda", dtype if v.is_floating_point() else v.dtype) if torch.is_tensor(v) else v
        for k, v in one.call.items()
    }
    return one


@pytest.mark.parametrize("name", sorted(ZOO))
def test_recording_leaves_the_stock_bits_in_bfloat16(name):
    one = on_cuda(member(name))
    stock = one.stock()
    with lab.attach(one.pipe, record=True) as trace:
        recorded = one.stock()
    assert torch.equal(torch.as_tensor(recorded), torch.as_tensor(stock))
    assert trace.rebuilt


@pytest.mark.parametrize("name", sorted(ZOO))
def test_guidance_acts_under_cpu_offload(name):
    one = member(name)
    one.pipe.enable_model_cpu_offload()
    for _ in range(2):
        with lab.attach(one.pipe, guidance=lab.STG(1, lab.skip([1])), record=True) as trace:
            one.stock()
        assert "skip" in trace.recording.branches
        assert trace.recording.complete


@pytest.mark.parametrize("name", sorted(FULL))
def test_a_full_size_model_is_sampled_for_two_steps(name):
    """Random weights cost what trained ones cost; device, time and memory are written down."""
    one, (kind, config, weak) = member(name), FULL[name]
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        try:
            one.pipe.transformer = getattr(diffusers, kind)(**config).eval()
        finally:
            torch.set_default_dtype(torch.float32)
    width = one.pipe.transformer.config.get("text_embed_dim")
    on_cuda(one)
    one.call |= {k: torch.randn(1, v.shape[1], width, device="cuda", dtype=torch.bfloat16) for k, v in one.call.items()
                 if torch.is_tensor(v) and v.is_floating_point()}  # fmt: skip
    one.call |= {"height": 256, "width": 384}
    torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    with lab.attach(one.pipe, guidance=lab.STG(1, weak), record=True) as trace:
        one.stock(num_inference_steps=2)
    torch.cuda.synchronize()
    assert trace.recording.complete
    assert family_of(one.pipe).name
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results[name] = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "seconds": round(time.perf_counter() - began, 2),
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
