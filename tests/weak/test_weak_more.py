"""Swapped tokens, attention averaged over steps, and early exit, each against the same thing written out."""

import copy
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from kit import explicit
from kit.watch import branch, passes, predict
from kit.watch import recorded as recorded_in

import stg_lab as lab
from stg_lab.families import Grid
from stg_lab.weak import parse
from stg_lab.weak.attention import Attention
from stg_lab.weak.swap import most_dissimilar, order

STEPS = 3


recorded = partial(recorded_in, steps=STEPS)


# ---- swapped tokens ----


def swapped(x, share):
    """As the authors' code for SDXL finds and swaps pairs: all of them from one table, `(batch, token, channel)`."""
    tokens = x.shape[1]
    unit = F.normalize(x, p=2, dim=2)
    table = unit @ unit.transpose(1, 2)
    i, j = torch.triu_indices(tokens, tokens, offset=1)
    _, lowest = torch.topk(table[:, i, j], k=int(tokens * share), dim=1, largest=False)
    there = torch.arange(tokens).repeat(len(x), 1)
    there = there.scatter(1, i[lowest], j[lowest])
    there = there.scatter(1, j[lowest], i[lowest])
    return x.gather(1, there.unsqueeze(-1).expand_as(x))


@pytest.mark.parametrize("what", ["tokens", "channels", "both"])
@pytest.mark.parametrize("layers", [[1], [0, 2]], ids=str)
def test_swapping_is_the_authors_permutation_at_the_blocks_input(tiny, what, layers):
    share = 0.2
    recording, calls = recorded(
        tiny, lab.swap(layers, share=share, what=what), prompt=["a red seven moving left", "a blue two growing"]
    )
    for step, (module, args, kwargs) in enumerate(calls):
        oracle = copy.deepcopy(module)
        for layer in layers:

            def change(block, given):
                x = given[0] if what == "channels" else swapped(given[0], share)
                return (x if what == "tokens" else swapped(x.transpose(1, 2), share).transpose(1, 2), *given[1:])

            oracle.blocks[layer].register_forward_pre_hook(change)
        assert torch.allclose(branch(recording, "swap", step), predict(oracle, args, kwargs), atol=1e-5)


def test_pairs_are_found_alike_in_parts_of_the_table(monkeypatch):
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    whole = most_dissimilar(x, 9)
    monkeypatch.setattr(sys.modules["stg_lab.weak.swap"], "ROWS", 7)
    assert most_dissimilar(x, 9) == whole
    cosines = {(i, j): float(F.cosine_similarity(x[i], x[j], dim=0)) for i in range(40) for j in range(i + 1, 40)}
    assert whole == sorted(cosines, key=cosines.get)[:9]
    one = order(x, 1)
    assert [k for k in range(40) if one[k] != k] == list(whole[0])


# ---- attention averaged over steps ----


@pytest.mark.parametrize("of", ["map", "output"])
@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_the_average_over_steps_is_written_out(tiny, of, decay):
    weak = lab.ema([1], decay=decay, of=of)
    recording, calls = recorded(tiny, weak)
    averages = []

    def attend(q, k, v):
        now = explicit.attention_map(q, k) if of == "map" else explicit.attend(q, k, v)
        averages.append(decay * averages[-1] + (1 - decay) * now if averages else now)
        return averages[-1] @ v if of == "map" else averages[-1]

    for step, (module, args, kwargs) in enumerate(calls):
        oracle = copy.deepcopy(module)
        oracle.blocks[1].attn1.register_forward_hook(
            lambda attn, given, output: explicit.wan_attention(attn, given[0], given[3], attend)
        )
        expected, cond = predict(oracle, args, kwargs), branch(recording, "cond", step)
        assert torch.allclose(branch(recording, "ema", step), expected, atol=1e-5)
        assert ((expected - cond).norm() > 1e-4 * cond.norm()) == (step > 0)


def test_every_run_begins_its_average_anew_and_windows_begin_it_late(tiny):
    late = lab.CFG(4) + lab.STG(1, lab.ema([1]), start=0.5)
    with passes(tiny.pipe) as made:
        first = tiny.sample(late, num_inference_steps=4).recording
    assert len(made) == 2 * 4 + 2
    again = tiny.sample(late, num_inference_steps=4).recording
    for step in (2, 3):
        assert torch.equal(branch(first, "ema", step), branch(again, "ema", step))
    assert torch.allclose(branch(first, "ema", 2), branch(first, "cond", 2), atol=1e-5)
    assert not torch.allclose(branch(first, "ema", 3), branch(first, "cond", 3), atol=1e-5)


# ---- windows in space, beside text and under masks ----


@pytest.mark.parametrize("text", ["none", "first", "last"])
@pytest.mark.parametrize(("reach", "frames"), [(0, 0), (1, 2), (2, 1)])
@pytest.mark.parametrize("hidden", ["nothing", "some keys", "a bias"])
def test_a_window_in_space_is_a_mask_over_all_tokens(text, reach, frames, hidden):
    grid, draw = (3, 3, 4), torch.Generator().manual_seed(0)
    tokens = explicit.places(grid, text, 0 if text == "none" else 5)
    q, k, v = (torch.randn(2, 3, len(tokens), 8, generator=draw, dtype=torch.float64) for _ in range(3))
    mask = torch.rand(2, 1, 1, len(tokens), generator=draw) > 0.2 if hidden == "some keys" else None
    mask = torch.randn(1, 1, 1, len(tokens), generator=draw, dtype=torch.float64) if hidden == "a bias" else mask
    if hidden == "some keys":
        mask[..., [n for n, place in enumerate(tokens) if place is not None]] = True  # a token always sees itself
    rule = explicit.seen(
        tokens, lambda a, b: abs(a[0] - b[0]) <= frames and max(abs(a[1] - b[1]), abs(a[2] - b[2])) <= reach
    )
    a = Attention(q, k, v, mask, {}, F.scaled_dot_product_attention, Grid(*grid), text)
    edited = lab.window([0], axis="joint", reach=reach, frames=frames).edit(a, None)
    assert torch.allclose(edited, explicit.attend(q, k, v, rule=rule, mask=mask), atol=1e-12)
    assert torch.allclose(a.map(), explicit.attention_map(q, k, mask=mask), atol=1e-6)


# ---- early exit ----


@pytest.mark.parametrize("first", [0, 1, 2])
def test_early_exit_is_skipping_all_that_follow_and_costs_what_comes_before(tiny, first):
    same = lab.skip(range(first, 3))
    recording, _ = recorded(tiny, lab.early_exit(first), same)
    for step in range(STEPS):
        assert torch.equal(branch(recording, "early_exit", step), branch(recording, "skip", step))
    plan = lab.plan(
        tiny.pipe, lab.CFG(4) + lab.STG(1, lab.early_exit(first)), **tiny.arguments({"num_inference_steps": 2})
    )
    assert [p.share for s in plan.steps for p in s.passes if p.weak] == [0, 0]


# ---- all ----


@pytest.mark.parametrize(
    "weak",
    [
        lab.swap([3, 4], share=0.2, what="tokens"), lab.temper([5], temperature=3, heads=[1]), lab.early_exit(4),
        lab.ema([5], decay=0.7, of="map"), lab.window([5], axis="joint", frames=2, reach=3),
    ],
    ids=str,
)  # fmt: skip
def test_they_are_read_back_from_text(weak):
    assert parse(str(weak)) == weak
    assert eval(repr(weak), {"lab": lab}) == weak
    assert weak.words


def test_what_cannot_be_is_said():
    for make in (
        lambda: lab.swap([1], share=0), lambda: lab.swap([1], what="all"), lambda: lab.temper([1], temperature=0),
        lambda: lab.ema([1], decay=1), lambda: lab.ema([1], of="q"), lambda: lab.early_exit(-1), lambda: lab.window([1], reach=-1),
    ):  # fmt: skip
        with pytest.raises(lab.GuidanceError, match=r"got|unknown"):
            make()
