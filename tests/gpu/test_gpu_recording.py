"""Recording on CUDA: the sampler waits for no copy, and every copy is of the numbers as they were."""

import pytest
import torch

import stg_lab as lab
from stg_lab.sampling import journal
from stg_lab.sampling.host_copy import host_copy

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

GUIDANCE = lab.CFG(4) + lab.STG(1, lab.skip([2]))
CYCLES = 500_000_000  # that the device is kept busy for: a quarter of a second and more


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_copy_waits_for_nothing_and_is_of_the_tensor_as_it_was(dtype):
    """The device is busy when the copy is ordered, and the tensor is written into before the copy can begin."""
    x = torch.arange(1 << 22, device="cuda").remainder(251).to(dtype)
    expected = x.float().cpu()
    host_copy(x)()  # the first copy makes the stream and the pinned memory
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda._sleep(CYCLES)
        copy = host_copy(x)
        x.fill_(-1)
        assert not torch.cuda.current_stream().query(), "the sampler's stream was waited for"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(torch.from_numpy(copy()), expected)


def test_a_copy_outlives_its_tensor():
    """The device's memory must not be given away before the copy is done."""
    values = [float(k) for k in range(8)]
    torch.cuda._sleep(CYCLES)
    copies = [host_copy(torch.full((1 << 22,), value, device="cuda")) for value in values]
    others = [torch.full((1 << 22,), -1.0, device="cuda") for _ in range(16)]
    for value, copy in zip(values, copies, strict=True):
        assert (copy() == value).all()
    assert len(others) == 16


def test_pinned_memory_is_used_again():
    x = torch.zeros(1 << 22, device="cuda")
    places = set()
    for _ in range(6):
        array = host_copy(x)()
        places.add(array.__array_interface__["data"][0])
        del array
    assert len(places) <= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_recording_is_that_of_copies_made_at_once(digits, tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # two runs of the same bits
    rig = digits.copy()
    rig.pipe.to("cuda", dtype)

    def at_once(x):
        array = x.float().cpu().numpy()
        return lambda: array

    def files(place):
        rig.sample(GUIDANCE, record=place, num_inference_steps=8)
        return {str(f.relative_to(place)): f.read_bytes() for f in place.rglob("c.*")}

    later = files(tmp_path / "later.zarr")
    monkeypatch.setattr(journal, "host_copy", at_once)
    assert files(tmp_path / "now.zarr") == later
    assert len(later) > 8 * 5
