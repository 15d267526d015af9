"""Muon with Newton-Schulz steps in float32: torch's own, but for the number format."""

import pytest
import torch

from stg_lab.digits.muon import Muon, has_bfloat16, newton_schulz

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # torch's


@pytest.mark.parametrize("shape", [(16, 16), (8, 24), (24, 8)])
def test_float32_steps_agree_with_bfloat16_ones(shape):
    """To the precision of bfloat16, whose unit roundoff is 2^-9; and both bring singular values near 1."""
    g = torch.Generator().manual_seed(0)
    matrices = torch.randn(5, *shape, generator=g)
    fine, coarse = (newton_schulz(matrices, COEFFICIENTS, 5, 1e-7, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert (fine - coarse.float()).norm() / fine.norm() < 0.03
    for found in (fine, coarse.float()):
        values = torch.linalg.svdvals(found)
        assert values.min() > 0.3
        assert values.max() < 1.3
    assert torch.allclose(fine[2], newton_schulz(matrices[2:3], COEFFICIENTS, 5, 1e-7, torch.float32)[0], atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16), (8, 24), (24, 8)])
def test_updates_in_bfloat16_are_those_of_torch(shape):
    """Over several updates, with momentum and weight decay; products in a batch may round otherwise."""
    g = torch.Generator().manual_seed(1)
    start = torch.randn(2, *shape, generator=g)
    mine, theirs = ([torch.nn.Parameter(w.clone()) for w in start] for _ in range(2))
    options = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.95}
    ours = Muon(mine, dtype=torch.bfloat16, **options)
    stock = torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **options)
    for _ in range(4):
        for one, two in zip(mine, theirs, strict=True):
            one.grad = torch.randn(shape, generator=g)
            two.grad = one.grad.clone()
        ours.step(), stock.step()
    for one, two, before in zip(mine, theirs, start, strict=True):
        assert (one - two).norm() / (two - before).norm() < 0.02
    stock.load_state_dict(ours.state_dict())  # a state is either one's
    for one, two in zip(mine, theirs, strict=True):
        assert torch.equal(ours.state[one]["momentum_buffer"], stock.state[two]["momentum_buffer"])


def test_the_format_is_what_the_machine_computes_in(monkeypatch):
    for there, expected in (({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({"avx2": True}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda there=there: there)
        assert has_bfloat16(torch.device("cpu")) is expected
    assert has_bfloat16(torch.device("cuda"))
