"""A look inside models with blocks for space and for time, against maps of q and k and norms by hooks on a copy."""

import copy

import numpy as np
import pytest
import torch
from kit import explicit
from kit.siblings import sibling
from kit.watch import branch, captured, left_behind
from kit.zoo import member

import stg_lab as lab
from stg_lab.families import family_of

MAKERS = {"latte": member, "svd": member, "animatediff": sibling}


def watched_run(name, guidance, **changes):
    one = MAKERS.get(name, member)(name)
    with captured(one.pipe) as calls, lab.attach(one.pipe, guidance=guidance, record=True) as trace:
        one.stock(num_inference_steps=2, **changes)
    assert left_behind(one.pipe) == []
    return one, trace.recording, calls.made


def hooked(one, call, modules):
    """What modules of a copy, chosen by `modules(layers)`, were given and gave: {name: (arguments, output)}."""
    module, args, kwargs = call
    oracle, found = copy.deepcopy(module), {}
    for name, chosen in modules(family_of(one.pipe).layers(oracle)).items():

        def keep(attn, given, named, out, name=name):
            found[name] = attn, [*given, *named.values()], out

        chosen.register_forward_hook(keep, with_kwargs=True)
    with torch.no_grad():
        oracle(*args, **kwargs)
    return found


def qk_map(attn, queries, keys):
    q, k = (x.unflatten(2, (attn.heads, -1)).transpose(1, 2) for x in (attn.to_q(queries), attn.to_k(keys)))
    return explicit.attention_map(q, k)


def rows_under_the_caption(x, batch):
    """(batch * folded, ...) as (folded, ...) of the last row of a batch [uncond, cond]."""
    return x.unflatten(0, (batch, -1))[-1]


@pytest.mark.parametrize("name", MAKERS)
def test_frames_look_at_frames_as_the_attention_over_time_does(name):
    one, recording, calls = watched_run(name, lab.Watch([0, 1]))
    w = lab.analysis.watched(recording)
    for number in (0, 1):
        found = hooked(one, calls[0], lambda layers, n=number: {"time": layers[n]["temporal"].attn1})
        attn, given, _ = found["time"]
        batch = len(calls[0][1][0] if calls[0][1] else calls[0][2].get("hidden_states", calls[0][2].get("sample")))
        maps = rows_under_the_caption(qk_map(attn, given[0], given[0]), batch).mean((0, 1))
        assert maps.shape[0] == w.sizes["frame"]
        assert np.allclose(w.frames[0, number, 0], maps.detach(), atol=1e-5)
        assert np.allclose(w.frames[0, number, 0].sum("to"), 1, atol=1e-5)
        whole = rows_under_the_caption(qk_map(attn, given[0], given[0]), batch)
        entropy = -(whole * whole.log()).sum(-1).mean((0, 1))
        assert np.allclose(w.entropy[0, number, 0], entropy.detach(), atol=1e-4)


def test_words_have_frames_and_places():
    one, recording, calls = watched_run("latte", lab.Watch([0, 1]))
    w = lab.analysis.watched(recording)
    module, args, kwargs = calls[0]
    frames, height, width = family_of(one.pipe).grid(module, args, kwargs).__dict__.values()
    found = hooked(one, calls[0], lambda layers: {n: layers[n]["spatial"].attn2 for n in (0, 1)})
    for number in (0, 1):
        attn, given, _ = found[number]
        mask = kwargs.get("encoder_attention_mask")
        context = next(x for x in given[1:] if torch.is_tensor(x) and x.ndim == 3)
        q, k = (x.unflatten(2, (attn.heads, -1)).transpose(1, 2) for x in (attn.to_q(given[0]), attn.to_k(context)))
        hidden = None if mask is None else mask.bool().repeat_interleave(frames, 0)[:, None, None, :]
        maps = explicit.attention_map(q, k, mask=hidden)
        maps = rows_under_the_caption(maps, len(kwargs["hidden_states"])).mean(1)  # (frame, token, word)
        maps = maps.permute(2, 0, 1).unflatten(2, (height, width)).detach()
        assert np.allclose(w.words[0, number, 0, : len(maps)], maps, atol=1e-5)
        assert np.allclose(w.words[0, number, 0].sum("word"), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["latte", "svd"])
def test_streams_and_branches_are_what_hooks_see(name):
    one, recording, calls = watched_run(name, lab.Watch([0, 1], "hidden") + lab.Watch([1], "residual"))
    w = lab.analysis.watched(recording)
    batch = len(calls[0][1][0] if calls[0][1] else calls[0][2].get("hidden_states", calls[0][2].get("sample")))
    pick = lambda layers: {  # noqa: E731
        "norm": layers[1]["spatial"], "temporal_block": layers[1]["temporal"],
        "attention": layers[1]["spatial"].attn1, "temporal_attention": layers[1]["temporal"].attn1,
        "temporal_feedforward": layers[1]["temporal"].ff,
    }  # fmt: skip
    found = hooked(one, calls[0], pick)
    stream = rows_under_the_caption(found["norm"][2], batch)
    assert np.allclose(w.norm[0, 1, 0], stream.pow(2).mean((1, 2)).sqrt(), rtol=1e-4)
    for part in ("attention", "temporal_attention", "temporal_feedforward", "temporal_block"):
        _, given, out = found[part]
        added = out - given[0] if part.endswith("block") else out
        assert np.allclose(w[part][0, 0, 0], rows_under_the_caption(added, batch).pow(2).mean().sqrt(), rtol=1e-4)
    assert np.isnan(w.change[0]).all()
    assert not np.isnan(w.change[1]).any()


@pytest.mark.parametrize("name", [*MAKERS, "opensora"])
def test_watched_or_not_the_bits_are_the_same(name):
    everything = lab.Watch([0, 1], "hidden") + lab.Watch([1], "residual") + lab.Watch([0, 1])
    if name == "opensora":  # its cross-attention has all rows in one
        everything = lab.Watch([0, 1], "hidden") + lab.Watch([1], "residual")
    weak = lab.STG(1, lab.skip([1]))
    _, seen, _ = watched_run(name, weak + everything)
    _, plain, _ = watched_run(name, weak)
    for array in ("x_t", "final"):
        assert np.array_equal(seen.ds[array], plain.ds[array])
    for which in ("cond", "uncond", "skip", "guided"):
        assert torch.equal(branch(seen, which, 1), branch(plain, which, 1))


def test_the_plan_bounds_what_is_kept_of_a_unet():
    one = member("svd")
    guidance = lab.Watch([0, 1]) + lab.Watch([0], "residual")
    call = {**one.arguments({}), "num_inference_steps": 2}
    plan = lab.plan(one.pipe, guidance, **call)
    _, recording, _ = watched_run("svd", guidance)
    kept = lab.analysis.watched(recording)
    assert 0 < sum(v.nbytes for v in kept.data_vars.values()) <= plan.watched_bytes
    assert "words" not in kept  # a picture is one word, which everything looks at
