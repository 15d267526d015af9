"""Blurred queries (SEG) against one matrix over all tokens, and against the convolution that the authors use."""

import math

import pytest
import torch
from kit import explicit
from torch.nn.functional import conv2d, pad, scaled_dot_product_attention

import stg_lab as lab
from stg_lab.families import Grid
from stg_lab.weak.attention import Attention
from stg_lab.weak.blur import gaussian

GRID = (3, 2, 4)
VIDEO, WORDS, HEADS = 24, 5, 4
AXES = ["spatial", "temporal", "joint"]


def attention(text="none", *, grid=GRID, kv_heads=HEADS, mask=None, seed=0):
    draw = torch.Generator().manual_seed(seed)
    count = math.prod(grid) + (0 if text == "none" else WORDS)
    q, k, v = (torch.randn(2, h, count, 8, generator=draw, dtype=torch.float64) for h in (HEADS, kv_heads, kv_heads))
    options = {"dropout_p": 0.0, "is_causal": False, "enable_gqa": kv_heads != HEADS}
    return Attention(q, k, v, mask, options, scaled_dot_product_attention, Grid(*grid), text)


def over_all_tokens(text, blur):
    """A blur of the video's tokens as a matrix over all tokens, which leaves text alone."""
    video = torch.tensor([place is not None for place in explicit.places(GRID, text, 0 if text == "none" else WORDS)])
    matrix = torch.eye(len(video), dtype=torch.float64)
    matrix[video.outer(video)] = blur.flatten()
    return matrix


def close(a, b, atol=1e-10):
    return a.shape == b.shape and torch.allclose(a, b, atol=atol, rtol=0)


@pytest.mark.parametrize("kv_heads", [HEADS, 2], ids=["a key for each head", "shared keys"])
@pytest.mark.parametrize("text", ["none", "first", "last"])
@pytest.mark.parametrize("sigma", [0.5, 1.3, 10.0])
@pytest.mark.parametrize("axis", AXES)
def test_blurring_is_a_matrix_applied_to_the_queries(axis, sigma, text, kv_heads):
    a = attention(text, kv_heads=kv_heads)
    blur = over_all_tokens(text, explicit.gaussian(explicit.places(GRID), sigma, axis))
    assert close(blur.sum(1), torch.ones(len(blur), dtype=torch.float64))
    expected = explicit.attend(torch.einsum("ij,bhjc->bhic", blur, a.query), a.key, a.value)
    assert close(lab.blur([0], sigma=sigma, axis=axis).edit(a, None), expected)
    assert not close(expected, a(), atol=1e-3)


def test_a_mask_is_kept_whatever_its_shape():
    draw = torch.Generator().manual_seed(1)
    for shape in [(2, 1, 1, VIDEO), (VIDEO, VIDEO), (2, HEADS, VIDEO, VIDEO)]:
        mask = torch.rand(shape, generator=draw) > 0.3
        mask[..., 0] = True
        a = attention(mask=mask)
        blur = explicit.gaussian(explicit.places(GRID), 1.0, "spatial")
        assert close(lab.blur([0], sigma=1).edit(a, None), explicit.attend(blur @ a.query, a.key, a.value, mask=mask))


def test_blurring_queries_is_blurring_the_logits_over_their_query_place():
    """SEG's own statement; the equation that lets queries stand in for the logits."""
    a = attention()
    blur = explicit.gaussian(explicit.places(GRID), 1.5, "spatial")
    logits = blur @ (a.query @ a.key.transpose(-1, -2)) * 8**-0.5
    assert close(lab.blur([0], sigma=1.5).edit(a, None), logits.softmax(-1) @ a.value)


MEANS = {
    "spatial": lambda q: q.unflatten(2, GRID).mean((3, 4), keepdim=True).expand(-1, -1, *GRID, -1).flatten(2, 4),
    "temporal": lambda q: q.unflatten(2, GRID).mean(2, keepdim=True).expand(-1, -1, *GRID, -1).flatten(2, 4),
    "joint": lambda q: q.mean(2, keepdim=True).expand_as(q),
}


@pytest.mark.parametrize("axis", AXES)
def test_an_infinite_sigma_is_the_mean_query(axis):
    a = attention()
    expected = explicit.attend(MEANS[axis](a.query), a.key, a.value)
    assert close(lab.blur([0], axis=axis).edit(a, None), expected)
    assert close(lab.blur([0], sigma=1e6, axis=axis).edit(a, None), expected)


@pytest.mark.parametrize("axis", AXES)
def test_a_vanishing_sigma_is_the_true_attention(axis):
    a = attention("last")
    near, nearer = ((lab.blur([0], sigma=s, axis=axis).edit(a, None) - a()).abs().max() for s in (0.4, 0.3))
    assert nearer < near < 0.2
    assert torch.equal(lab.blur([0], sigma=0.02, axis=axis).edit(a, None), a())


@pytest.mark.parametrize("sigma", [0.7, 3.0, math.inf])
def test_the_joint_blur_is_the_spatial_and_the_temporal_one_after_the_other(sigma):
    kernels = {axis: explicit.gaussian(explicit.places(GRID), min(sigma, 1e9), axis) for axis in AXES}
    assert close(kernels["spatial"] @ kernels["temporal"], kernels["joint"])
    one_dimension = [gaussian(size, sigma) for size in GRID]
    assert close(torch.kron(one_dimension[0], torch.kron(one_dimension[1], one_dimension[2])), kernels["joint"])


def test_away_from_the_border_it_is_the_authors_reflected_convolution():
    """SEG-SDXL's `gaussian_blur_2d`: a picture reflected at its border and a kernel as wide as it takes."""
    sigma, size, half = 1.0, 21, 6
    a = attention(grid=(1, size, size))
    place = torch.arange(-half, half + 1, dtype=torch.float64)
    row = torch.exp(-0.5 * (place / sigma) ** 2)
    row = row / row.sum()
    picture = a.query.transpose(2, 3).unflatten(3, (size, size)).flatten(0, 2)[:, None]
    theirs = conv2d(pad(picture, [half] * 4, mode="reflect"), torch.outer(row, row)[None, None])
    theirs = theirs.unflatten(0, (2, HEADS, 8)).flatten(3).transpose(2, 3)
    expected = explicit.attend(theirs, a.key, a.value).unflatten(2, (size, size))
    ours = lab.blur([0], sigma=sigma).edit(a, None).unflatten(2, (size, size))
    inner = slice(half, size - half)
    assert close(ours[:, :, inner, inner], expected[:, :, inner, inner], atol=1e-7)
    assert not close(ours, expected, atol=1e-3)  # near the border the two differ, as the docstring says


def test_blurring_flattens_the_attention_map():
    """What SEG is for: rows of the map lose contrast among each other the more, the wider the blur."""
    a = attention(seed=3)
    spreads = []
    for sigma in (0.02, 0.5, 1.0, 3.0, math.inf):
        out = lab.blur([0], sigma=sigma, axis="joint").edit(a, None)
        spreads.append(out.std(dim=2).mean())
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[-1] < 1e-10


@pytest.mark.parametrize("sigma", [0, -1, math.nan, "wide", None], ids=repr)
def test_a_sigma_that_is_none_is_refused(sigma):
    with pytest.raises(lab.GuidanceError, match=r"sigma must lie above 0 and at most at inf, got"):
        lab.blur([5], sigma=sigma)
