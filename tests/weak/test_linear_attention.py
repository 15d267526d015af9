"""SanaVideo's linear attention, edited as the same matrix written out."""

import copy

import pytest
import torch
from kit import explicit
from kit.watch import branch, captured, left_behind
from kit.zoo import STEPS, member

import stg_lab as lab
from stg_lab.families import family_of

LAYER, GRID = 1, (3, 2, 4)
L = [LAYER]
TOKENS = explicit.places(GRID)


def projected(attn, h, rotary):
    """Queries, keys and values `(batch, head, token, channel)` in float64: plain queries and keys, then rotated ones."""

    def heads(x):
        return x.unflatten(2, (attn.heads, -1)).transpose(1, 2).double()

    def turned(x):
        cos, sin = (f.double().reshape(1, 1, -1, f.shape[-1]) for f in rotary)
        turn = torch.complex(cos[..., 0::2].contiguous(), sin[..., 1::2].contiguous())
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)

    q, k = heads(attn.norm_q(attn.to_q(h))).relu(), heads(attn.norm_k(attn.to_k(h))).relu()
    return q, k, turned(q), turned(k), heads(attn.to_v(h))


def matrix(q, k, rq, rk, seen=None):
    """Weights `(batch, head, token, token)`: rotated products over the sum of plain ones, of the tokens that are seen."""
    seen = torch.ones(len(TOKENS), len(TOKENS), dtype=torch.bool) if seen is None else seen
    return (rq @ rk.mT * seen) / (q @ k.mT * seen).sum(-1, keepdim=True)


def by_rule(rule):
    return lambda q, k, rq, rk: matrix(q, k, rq, rk, explicit.seen(TOKENS, rule))


def by_blur(sigma, over):
    blur = explicit.gaussian(TOKENS, sigma, over)
    return lambda q, k, rq, rk: matrix(blur @ q, k, blur @ rq, rk)


def identity(q, k, rq, rk):
    return torch.eye(len(TOKENS), dtype=torch.float64).expand(*q.shape[:2], -1, -1)


def in_part(q, k, rq, rk):
    weights = matrix(q, k, rq, rk)
    weights[:, 1] = 0.4 * weights[:, 1] + 0.6 * identity(q, k, rq, rk)[:, 1]
    return weights


EDITS = {
    "identity": (lab.skip(L, part="attention"), identity),
    "one head in part": (lab.skip(L, part="attention", heads=[1], strength=0.6), in_part),
    "within frames": (lab.skip(L, part="attention", axis="temporal"), by_rule(explicit.same_frame)),
    "within positions": (lab.skip(L, part="attention", axis="spatial"), by_rule(explicit.same_position)),
    "window": (lab.window(L, frames=1), by_rule(explicit.near(1))),
    "blur in space": (lab.blur(L, sigma=0.9), by_blur(0.9, "spatial")),
    "blur without end": (lab.blur(L, axis="joint"), by_blur(1e9, "joint")),
}


def written_out(attn, weigh):
    def forward(hidden_states, rotary_emb):
        q, k, rq, rk, v = projected(attn, hidden_states, rotary_emb)
        out = (weigh(q, k, rq, rk) @ v).transpose(1, 2).flatten(2).to(hidden_states.dtype)
        return attn.to_out[0](out)

    return forward


@pytest.mark.parametrize("case", EDITS)
def test_linear_attention_is_edited_as_written_out(case):
    weak, weigh = EDITS[case]
    one = member("sana")
    with captured(one.pipe) as calls, lab.attach(one.pipe, guidance=lab.Probe(weak), record=True) as trace:
        one.stock()
    assert len(calls) == STEPS
    for step, (module, args, kwargs) in enumerate(calls.made):
        oracle = copy.deepcopy(module)
        attn = oracle.transformer_blocks[LAYER].attn1
        attn.forward = written_out(attn, weigh)
        with torch.no_grad():
            expected = oracle(*args, **kwargs)[0].chunk(2)[1]
        given, cond = (branch(trace.recording, name, step) for name in (weak.name, "cond"))
        off = (expected - cond).abs().max()
        assert off > 1e-4
        assert (given - expected).abs().max() <= 1e-3 * off
    assert left_behind(one.pipe) == []


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_attention_that_is_handed_over_and_left_alone_is_the_stock_one(dtype, tolerance):
    one = member("sana")
    transformer = one.pipe.transformer.to(dtype)
    attn = transformer.transformer_blocks[LAYER].attn1
    g = torch.Generator().manual_seed(0)
    h = torch.randn(2, len(TOKENS), 24, generator=g).to(dtype)
    rotary = transformer.rope(torch.zeros(2, 4, 3, 4, 8))
    forward = family_of(one.pipe).attend(attn, lambda kernel, *given: kernel(*given))
    with torch.no_grad():
        ours, stock = forward(h, rotary_emb=rotary), attn(h, rotary_emb=rotary)
    assert ours.dtype == stock.dtype
    assert (ours - stock).abs().max() <= tolerance * stock.abs().max()


def test_a_window_over_the_whole_video_changes_nothing_and_says_so():
    one = member("sana")
    with (
        pytest.raises(lab.GuidanceError, match="changed nothing"),
        lab.attach(one.pipe, guidance=lab.STG(1, lab.window(L, frames=2)), record=True),
    ):
        one.stock()
    assert left_behind(one.pipe) == []
