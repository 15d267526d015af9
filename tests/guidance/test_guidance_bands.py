"""Bands of guidance vectors against the pyramid that diffusers' guider takes and the transform of ComfyUI's node, both written anew."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.guiders import frequency_decoupled_guidance as fdg
from kit.peers import guider_prediction

import stg_lab as lab
from stg_lab.guidance import Moment, as_guidance, combine
from stg_lab.guidance.bands import filtered, smoothed
from stg_lab.interop import from_guider
from stg_lab.interop.json_file import from_json

AT = Moment(1, 4)
PICTURE = Moment(1, 4, space=(2, 3))


def pair(*shape, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=g, dtype=torch.float64).to(dtype) for name in ("cond", "uncond")}


# ---- a pyramid of pictures, as kornia 0.9.0 makes it (checked against the package: equal to 2e-15 in float64) ----


def blurred(x):
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=x.dtype) / 16
    kernel = torch.outer(line, line).expand(x.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), "reflect"), kernel, groups=x.shape[1])


def up(x):
    return blurred(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))


def pyramid(x, levels):
    found = []
    for _ in range(levels - 1):
        below = F.interpolate(blurred(x), scale_factor=0.5, mode="bilinear", align_corners=False)
        found.append(x - up(below))
        x = below
    return [*found, x]


@pytest.fixture
def kornia(monkeypatch):
    """diffusers' guider without the package: it calls two functions of it."""
    monkeypatch.setattr(fdg, "_CAN_USE_KORNIA", True)
    monkeypatch.setattr(fdg, "upsample_and_blur_func", up)
    monkeypatch.setattr(fdg, "build_laplacian_pyramid_func", pyramid)
    return fdg.FrequencyDecoupledGuidance


@pytest.mark.parametrize("scales", [[10.0, 5.0], [2.0, 7.0, 3.0], [4.0, 4.0], [6.0]], ids=str)
@pytest.mark.parametrize(
    "options",
    [{}, {"guidance_rescale": 0.7}, {"use_original_formulation": True}, {"start": 0.25, "stop": 0.75}],
    ids=str,
)
def test_frequency_decoupled_guidance_is_diffusers(kornia, scales, options):
    guider, b = kornia(scales, **options), pair(2, 4, 16, 32)
    sum_ = from_guider(guider, steps=4)
    for step in range(4):
        theirs = guider_prediction(guider, step, 4, {"pred_cond": b["cond"], "pred_uncond": b["uncond"]})
        ours = combine(sum_, b, Moment(step, 4, space=(2, 3)))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"parallel_weights": 0.5}, r"no sum.*lab.CFG\(10\).bands\(space=\(1.0, 0.4444"),
        ({"guidance_rescale": 0.7, "guidance_rescale_space": "freq"}, "guidance_rescale_space='data'"),
        ({"stop": [1.0, 0.5]}, r"lab.CFG\(10\).bands\(space=\(1.0, 0.0\)\) \+ lab.CFG\(5, stop=0.5\).bands\(space=\(0.0, 1.0\)\)"),
        ({"guidance_scales": [10.0, 1.0]}, r"another level in place of one that is off.*type lab.CFG\(10\)"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_linear_or_does_not_do_what_it_says_is_refused(kornia, options, says):
    with pytest.raises(lab.GuidanceError, match=says):
        from_guider(kornia(**options), steps=4)


def test_the_defect_is_still_there(kornia):
    """A level that is off is given the level before it, of another size; where diffusers mends that, its refusal can go."""
    b = pair(1, 2, 16, 16)
    with pytest.raises(RuntimeError, match="size"):
        guider_prediction(kornia([10.0, 1.0]), 1, 4, {"pred_cond": b["cond"], "pred_uncond": b["uncond"]})


def fresca(c, u, low, high, cutoff, scale):
    """ComfyUI's node before CFG, by sums over shifted frequencies."""
    spectrum = torch.fft.fftshift(torch.fft.fftn(c - u, dim=(-2, -1)), dim=(-2, -1))
    mask = torch.full(spectrum.shape[-2:], high, dtype=torch.float64)
    y, x = (n // 2 for n in mask.shape)
    mask[y - cutoff : y + cutoff, x - cutoff : x + cutoff] = low
    vector = torch.fft.ifftn(torch.fft.ifftshift(spectrum * mask, dim=(-2, -1)), dim=(-2, -1)).real
    return u + scale * vector


@pytest.mark.parametrize("cutoff", [1, 3, 5])
def test_a_cutoff_is_fresca(cutoff):
    b, low, high, g = pair(2, 3, 4, 12, 15, dtype=torch.float64), 0.9, 1.25, 5.0
    factors = [
        (g * f - 1) / (g - 1) for f in (high, low)
    ]  # the node scales the vector of u + g (c - u), ours the one from c
    ours = combine(as_guidance(lab.CFG(g).bands(space=factors, cutoff=cutoff)), b, AT)
    torch.testing.assert_close(ours, fresca(b["cond"], b["uncond"], low, high, cutoff, g), rtol=1e-9, atol=1e-9)


def test_a_side_shorter_than_the_cutoff_is_all_coarse():
    x = torch.randn(1, 2, 3, 8, 8)
    assert torch.equal(smoothed(x, 1, (3, 4), 4).round(decimals=5), x.round(decimals=5))


# ---- what bands are ----


@pytest.mark.parametrize("shape", [(2, 3, 5, 7, 4), (1, 1, 1, 2, 1), (1, 2, 9, 16, 3)], ids=str)
@pytest.mark.parametrize("axes", [(3, 4), (2,)], ids=["space", "time"])
@pytest.mark.parametrize("levels", [2, 3, 6])
def test_bands_add_up_and_equal_factors_are_the_bits(shape, axes, levels):
    x = np.random.default_rng(0).normal(size=shape)
    bands = [filtered(x, tuple(float(k == j) for j in range(levels)), axes) for k in range(levels)]
    assert np.allclose(sum(bands), x, atol=1e-12)
    assert np.array_equal(filtered(x, (1.0,) * levels, axes), x)
    means = [band.mean(axes, keepdims=True) for band in bands]
    flat = np.ones(shape) * x.mean(axes, keepdims=True)
    assert np.allclose(
        filtered(flat, (0.0,) * (levels - 1) + (1.0,), axes), flat
    )  # what is constant is the coarsest band
    assert len(means) == levels


def test_time_takes_the_still_part_and_leaves_space_alone():
    still = torch.randn(1, 2, 1, 6, 5, dtype=torch.float64).expand(1, 2, 8, 6, 5)
    flicker = torch.randn(1, 2, 1, 6, 5, dtype=torch.float64) * torch.tensor([1.0, -1.0]).repeat(4).reshape(
        1, 1, 8, 1, 1
    )
    out = filtered(still + flicker, (0.0, 1.0), (2,))
    assert torch.allclose(out[:, :, 2:-2], still[:, :, 2:-2], atol=1e-12)
    assert (out - still).norm() < 0.2 * flicker.norm()  # at the ends the reflection leaves a little


def test_space_and_time_are_one_after_the_other_in_either_order():
    x = np.random.default_rng(1).normal(size=(2, 3, 8, 8, 4))
    one = filtered(filtered(x, (2.0, 0.5), (3, 4)), (0.3, 1.0), (2,))
    other = filtered(filtered(x, (0.3, 1.0), (2,)), (2.0, 0.5), (3, 4))
    assert np.allclose(one, other)
    b = pair(2, 3, 8, 8, 4, dtype=torch.float64)
    guided = combine(as_guidance(lab.CFG(3).bands(space=[2, 0.5], time=[0.3, 1])), b, AT)
    vector = (b["cond"] - b["uncond"]).numpy()
    expected = b["cond"].numpy() + 2 * filtered(filtered(vector, (2.0, 0.5), (3, 4)), (0.3, 1.0), (2,))
    assert np.allclose(guided.numpy(), expected)


def test_numpy_and_torch_agree_and_frames_may_lie_elsewhere():
    x = np.random.default_rng(2).normal(size=(2, 5, 3, 8, 6))
    for cutoff, factors in ((None, (2.0, 0.0, 1.0)), (2, (2.0, 0.5))):
        assert np.allclose(
            filtered(torch.from_numpy(x), factors, (3, 4), cutoff).numpy(), filtered(x, factors, (3, 4), cutoff)
        )
    b = {name: p.transpose(1, 2) for name, p in pair(1, 3, 5, 8, 8).items()}
    term = as_guidance(lab.CFG(3).bands(time=[0.2, 1]))
    elsewhere = combine(term, b, Moment(1, 4, frame=1)).transpose(1, 2)
    torch.testing.assert_close(elsewhere, combine(term, {n: p.transpose(1, 2) for n, p in b.items()}, AT))


def test_bands_are_linear_so_that_x0_space_is_the_same():
    assert lab.CFG(3).bands(space=[2, 1]).in_x0().same_in_x0
    assert not (lab.CFG(3).bands(space=[2, 1]) + lab.CFG(2).apg()).same_in_x0
    half = pair(1, 2, 2, 8, 8, dtype=torch.float16)
    guided = combine(as_guidance(lab.CFG(3).bands(space=[2, 1])), half, AT)
    assert guided.dtype == torch.float32  # wide enough for the sums of the filter


def test_the_lone_frame_given_to_the_pipeline_is_no_part_of_a_band():
    b = pair(1, 2, 5, 8, 8)
    term = as_guidance(lab.CFG(3).bands(time=[0, 1]))
    given = combine(term, b, Moment(1, 4, given=1))
    rest = combine(term, {name: p[:, :, 1:] for name, p in b.items()}, AT)
    assert torch.equal(given[:, :, 1:], rest)
    assert torch.equal(given[:, :, :1], b["cond"][:, :, :1])


def test_it_prints_goes_into_a_file_and_says_what_is_wrong():
    sum_ = as_guidance(lab.CFG(5).bands(space=[2.25, 1], time=[0.5, 1]))
    assert str(sum_) == "CFG(5).bands(space=(2.25, 1.0), time=(0.5, 1.0))"
    assert from_json(lab.export(sum_, to="json")) == sum_
    for bad in (
        {},
        {"space": []},
        {"time": [math.nan]},
        {"space": "ab"},
        {"space": [1, 2, 3], "cutoff": 4},
        {"space": [1, 2], "cutoff": 0},
    ):
        with pytest.raises(lab.GuidanceError, match=r"bands|cutoff"):
            lab.CFG(3).bands(**bad)


@pytest.mark.parametrize(
    ("at", "says"), [(Moment(0, 4, space=()), "packed"), (PICTURE, "no frames")], ids=["packed", "pictures"]
)
def test_latents_without_such_a_side_are_told_before_the_first_pass(at, says):
    term = as_guidance(lab.CFG(3).bands(time=[1, 2]))
    with pytest.raises(lab.GuidanceError, match=says):
        term.needed(at)
