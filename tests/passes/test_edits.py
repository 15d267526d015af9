"""Edits of the pipeline's own pass, each against the same thing written out on a copy of the transformer."""

import copy

import numpy as np
import pytest
import torch
from kit import explicit
from kit.watch import branch, captured, left_behind, passes
from kit.zoo import member

import stg_lab as lab
from stg_lab.families import Grid
from stg_lab.guidance import as_guidance
from stg_lab.interop.json_file import from_json
from stg_lab.weak.attention import Attention
from stg_lab.weak.pladis import entmax, sparsemax

STEPS = 2


def recorded(rig, guidance, **changes):
    with captured(rig.pipe) as calls:
        recording = rig.sample(guidance, **{"num_inference_steps": STEPS, **changes}).recording
    return recording, calls.made


def predict(module, args, kwargs):
    with torch.no_grad():
        return module(*args, **kwargs)[0].float()


def heads(x, count):
    return x.unflatten(2, (count, -1)).transpose(1, 2).double()


def cross(attn, h, context, change):
    """Wan's cross-attention written out: `change(q, k, v)` gives what goes to the output projection, head by head."""
    q, k, v = attn.norm_q(attn.to_q(h)), attn.norm_k(attn.to_k(context)), attn.to_v(context)
    out = change(*(heads(x, attn.heads) for x in (q, k, v)))
    return attn.to_out[0](out.transpose(1, 2).flatten(2).to(h.dtype))


def negative_contexts(pipe, module, args, kwargs, text):
    """What each cross-attention is given under another caption, seen in a whole pass."""
    like = kwargs["encoder_hidden_states"]
    embeds, _ = pipe.encode_prompt(text, do_classifier_free_guidance=False, max_sequence_length=like.shape[1])
    seen, plain = [], copy.deepcopy(module)
    for block in plain.blocks:
        block.attn2.register_forward_pre_hook(lambda attn, given: seen.append(given[1]))
    predict(plain, args, {**kwargs, "encoder_hidden_states": embeds.to(like).expand(len(like), -1, -1)})
    return seen


def normalised(positive, negative, scale, alpha, tau):
    """NAG in the authors' order (attention_flux_nag.py): heads side by side, lengths are sums of absolute values."""
    z, n = (x.transpose(1, 2).flatten(2) for x in (positive, negative))
    guided = z * scale - n * (scale - 1)
    ratio = guided.norm(p=1, dim=-1, keepdim=True) / z.norm(p=1, dim=-1, keepdim=True)
    guided = guided * torch.minimum(ratio, torch.tensor(tau, dtype=ratio.dtype)) / ratio
    return heads(guided * alpha + z * (1 - alpha), positive.shape[1])


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lab.nag(), ""), (lab.nag(5, alpha=0.5, tau=1.5), ""), (lab.nag(20, tau=1.1, layers=[1, 2]), ""),
        (lab.nag(3, alpha=1, negative="a blue two growing"), "a blue two growing"),
    ],
    ids=str,
)  # fmt: skip
def test_nag_is_the_authors_attention(small_and_trained, edit, text):
    rig = small_and_trained
    recording, calls = recorded(rig, lab.Edit(edit))
    module, args, kwargs = calls[0]
    layers = range(len(module.blocks)) if edit.layers is None else edit.layers
    contexts = negative_contexts(rig.pipe, module, args, kwargs, text)
    assert all(torch.equal(contexts[0], one) for one in contexts)
    oracle = copy.deepcopy(module)
    for layer in layers:

        def guided(attn, given, output, layer=layer):
            z = [cross(attn, given[0], c, explicit.attend) for c in (given[1], contexts[layer])]
            assert torch.allclose(z[0], output, atol=1e-4)  # the written out attention is the stock one

            def change(q, k, v):
                negative = [
                    heads(x, attn.heads) for x in (attn.norm_k(attn.to_k(contexts[layer])), attn.to_v(contexts[layer]))
                ]
                return normalised(
                    explicit.attend(q, k, v), explicit.attend(q, *negative), edit.scale, edit.alpha, edit.tau
                )

            return cross(attn, given[0], given[1], change)

        oracle.blocks[layer].attn2.register_forward_hook(guided)
    plain = predict(module, args, kwargs)
    expected = predict(oracle, args, kwargs)
    assert (expected - plain).norm() > 1e-3 * plain.norm()
    assert torch.allclose(branch(recording, "cond", 0), expected, atol=2e-4 * float(plain.abs().max()))


@pytest.mark.parametrize("weight", [1.0, 40.0])
def test_enhance_a_video_is_the_authors_score(small_and_trained, weight):
    recording, calls = recorded(small_and_trained, lab.Edit(lab.enhance(weight)))
    module, args, kwargs = calls[0]
    frames, height, width = (
        n // p for n, p in zip(kwargs["hidden_states"].shape[2:], module.config.patch_size, strict=True)
    )
    oracle, scores = copy.deepcopy(module), []

    def enhanced(attn, given, output):
        def seen(q, k, v):
            a, b = (x.unflatten(2, (frames, height * width)).permute(0, 3, 1, 2, 4).flatten(0, 1) for x in (q, k))
            maps = (a * a.shape[-1] ** -0.5 @ b.transpose(-1, -2)).softmax(-1).reshape(-1, frames, frames)
            off = maps.masked_fill(torch.eye(frames, dtype=torch.bool), 0).sum((1, 2)) / (frames * frames - frames)
            scores.append((off.mean() * (frames + weight)).clamp(min=1))
            return explicit.attend(q, k, v)

        explicit.wan_attention(attn, given[0], given[3], seen)
        return output * scores[-1].float()

    for block in oracle.blocks:
        block.attn1.register_forward_hook(enhanced)
    assert torch.allclose(branch(recording, "cond", 0), predict(oracle, args, kwargs), atol=1e-4)
    assert len(scores) == len(module.blocks)
    if weight == 40:
        assert max(scores) > 1


@pytest.mark.parametrize("sparse", ["entmax", "sparsemax"])
def test_pladis_goes_on_from_the_map_towards_the_sparse_one(small_and_trained, sparse):
    recording, calls = recorded(small_and_trained, lab.Edit(lab.pladis(1.5, sparse=sparse)))
    module, args, kwargs = calls[0]
    oracle = copy.deepcopy(module)

    def change(q, k, v):
        logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return explicit.attend(q, k, v) + 1.5 * (
            by_bisection(logits, 1.5 if sparse == "entmax" else 2) @ v - explicit.attend(q, k, v)
        )

    for block in oracle.blocks:
        block.attn2.register_forward_hook(lambda attn, given, output: cross(attn, given[0], given[1], change))
    plain, expected = predict(module, args, kwargs), predict(oracle, args, kwargs)
    assert torch.allclose(branch(recording, "cond", 0), expected, atol=2e-4 * float(plain.abs().max()))


def by_bisection(logits, alpha):
    """alpha-entmax by halving an interval for its threshold."""
    x = (alpha - 1) * logits
    low, high = x.amax(-1, keepdim=True) - 1, x.amax(-1, keepdim=True)
    for _ in range(60):
        middle = (low + high) / 2
        total = (x - middle).clamp(min=0).pow(1 / (alpha - 1)).sum(-1, keepdim=True)
        low, high = torch.where(total >= 1, middle, low), torch.where(total >= 1, high, middle)
    return (x - low).clamp(min=0).pow(1 / (alpha - 1))


@pytest.mark.parametrize("size", [1, 2, 9])
def test_sparse_maps_add_up_to_one_and_are_those_of_bisection(size):
    logits = 4 * torch.randn(5, 7, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    logits[0, 0, size // 2 :] = -torch.inf if size > 1 else 0.0
    for project, alpha in ((sparsemax, 2), (entmax, 1.5)):
        weights = project(logits)
        assert torch.allclose(weights.sum(-1), torch.ones(5, 7, dtype=torch.float64))
        assert torch.allclose(weights, by_bisection(logits.clamp(min=-1e4), alpha), atol=1e-8)


# ---- the term ----


def test_the_plain_prediction_stands_beside_the_edited_one_and_the_pass_is_planned(tiny):
    guidance = lab.CFG(4) + lab.Edit(lab.nag(), start=0.5) + lab.Probe(lab.plain())
    with passes(tiny.pipe) as made:
        recording, calls = recorded(tiny, guidance, num_inference_steps=4)
    assert len(made) == 4 * 3 + 2  # for the negative prompt, up to the first cross-attention
    plan = lab.plan(tiny.pipe, guidance, **tiny.arguments({"num_inference_steps": 4}))
    assert plan.passes == len(made)
    assert plan.cost == 12
    late = lab.plan(tiny.pipe, lab.Edit(lab.nag(layers=[2])), **tiny.arguments({"num_inference_steps": 1}))
    assert late.cost == pytest.approx(1 + 2 / 3)
    for k in range(4):
        module, args, kwargs = calls[2 * k]
        plain, cond = branch(recording, "plain", k), branch(recording, "cond", k)
        assert torch.allclose(plain, predict(module, args, kwargs), atol=1e-5)
        assert torch.equal(plain, cond) == (k < 2)
        u = branch(recording, "uncond", k)
        assert torch.equal(branch(recording, "guided", k), u + 4.0 * (cond - u))


def test_weak_models_are_of_the_edited_model_and_share_its_prefix(tiny):
    edit, weak = lab.nag(layers=[0, 1]), lab.skip([2])
    both, _ = recorded(tiny, lab.Edit(edit) + lab.Probe(weak))
    full = tiny.sample(
        lab.Edit(edit) + lab.Probe(weak), num_inference_steps=STEPS, passes=lab.Passes(reuse=False)
    ).recording
    assert torch.equal(branch(both, "skip", 0), branch(full, "skip", 0))
    alone = recorded(tiny, lab.Probe(weak))[0]
    assert not torch.allclose(branch(both, "skip", 0), branch(alone, "skip", 0), atol=1e-5)


def test_an_edit_that_is_probed_touches_nothing_and_gives_the_same_vector(tiny):
    stock, _ = recorded(tiny, lab.Guidance())
    probed, _ = recorded(tiny, lab.Probe(lab.nag()))
    edited, _ = recorded(tiny, lab.Edit(lab.nag()))
    assert np.array_equal(stock.ds.x_t, probed.ds.x_t)
    assert np.array_equal(stock.ds.final, probed.ds.final)
    assert torch.allclose(branch(probed, "nag", 0), branch(edited, "cond", 0), atol=1e-6)


@pytest.mark.parametrize("off", [lab.nag(1), lab.pladis(0), lab.enhance(-100)], ids=str)
def test_off_is_off_to_the_bit(tiny, off):
    stock, _ = recorded(tiny, lab.Guidance())
    edited, _ = recorded(tiny, lab.Edit(off))
    exact = not isinstance(off, type(lab.nag()))  # alpha z + (1 - alpha) z rounds
    for k in range(STEPS):
        a, b = branch(stock, "cond", k), branch(edited, "cond", k)
        assert torch.equal(a, b) if exact else torch.allclose(a, b, atol=1e-5)


def test_an_edit_without_effect_is_told_where_the_plain_pass_is_there_to_see_it(tiny):
    with pytest.raises(lab.GuidanceError, match="changed nothing"):
        tiny.sample(lab.Edit(lab.enhance(-100)) + lab.Probe(lab.plain()))


def test_nothing_is_left_behind_after_a_failure(tiny):
    def fail(*args):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        tiny.sample(lab.Edit(lab.nag()) + lab.Edit(lab.enhance()), callback_on_step_end=fail)
    assert left_behind(tiny.pipe) == []


@pytest.mark.parametrize("name", ["latte", "ltx", "allegro"])
def test_in_pipelines_that_batch_uncond_and_cond_only_the_caption_is_edited(name):
    one = member(name)
    runs = {}
    for key, guidance in (("stock", None), ("edited", lab.Edit(lab.nag(3, alpha=1)) + lab.Probe(lab.skip([1])))):
        with lab.attach(one.pipe, guidance=guidance, record=True) as trace:
            one.stock()
        runs[key] = trace.recording
    same = [
        torch.allclose(branch(runs["stock"], b, 0), branch(runs["edited"], b, 0), atol=1e-6) for b in ("uncond", "cond")
    ]
    assert same == [True, False]


def test_a_weak_model_can_be_an_edit_where_the_call_has_the_caption_alone(tiny):
    edited, _ = recorded(tiny, lab.CFG(4) + lab.Edit(lab.skip([1])))
    alone, _ = recorded(tiny, lab.CFG(4) + lab.Probe(lab.skip([1])))
    assert torch.equal(branch(edited, "cond", 0), branch(alone, "skip", 0))
    assert torch.equal(branch(edited, "uncond", 0), branch(alone, "uncond", 0))
    latte = member("latte")
    with pytest.raises(lab.GuidanceError, match="every row"), lab.attach(latte.pipe, guidance=lab.Edit(lab.skip([1]))):
        latte.stock()


def test_it_prints_goes_into_a_file_and_says_what_is_wrong(tiny):
    guidance = as_guidance(lab.CFG(4) + lab.Edit(lab.nag(5, alpha=0.5, negative="blurry, 2: ugly"), stop=0.5))
    assert from_json(lab.export(guidance, to="json")) == guidance
    for model in (lab.nag(5), lab.nag(), lab.pladis(1, sparse="sparsemax"), lab.enhance(3, layers=[1, 2]), lab.plain()):
        assert lab.weak.parse(str(model)) == model
        assert eval(repr(model), {"lab": lab}) == model
    with pytest.raises(lab.GuidanceError, match="no edits of the main pass"):
        lab.export(guidance, to="comfyui")
    for make in (
        lambda: lab.nag(alpha=2), lambda: lab.nag(tau=0), lambda: lab.pladis(sparse="max"), lambda: lab.Edit(lab.empty()), lambda: lab.Edit(4),
        lambda: lab.Edit(lab.nag()).apg(), lambda: lab.plain(prompt="none"),
    ):  # fmt: skip
        with pytest.raises(lab.GuidanceError):
            make()
    with pytest.raises(lab.GuidanceError, match="out of range"):
        tiny.sample(lab.Edit(lab.nag(layers=[9])))
    with pytest.raises(lab.GuidanceError, match=r"have not|made otherwise"):
        member("mochi").pipe and lab.attach(member("mochi").pipe, guidance=lab.Edit(lab.pladis())).__enter__()


def test_between_frames_is_written_out():
    grid = (3, 2, 2)
    q, k = (torch.randn(2, 3, 12, 8, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (0, 1))
    rule = explicit.seen(explicit.places(grid), explicit.same_position)
    maps = explicit.attention_map(q, k, rule=rule)  # each place sees itself over time
    diagonal = maps.diagonal(dim1=-2, dim2=-1)
    off = (maps.sum((-1, -2)) - diagonal.sum(-1)) / (4 * (9 - 3))
    from stg_lab.weak.enhance import between_frames

    a = Attention(q, k, q, None, {}, torch.nn.functional.scaled_dot_product_attention, Grid(*grid))
    assert torch.allclose(between_frames(a).double(), off.mean(1), atol=1e-6)


def test_a_run_under_an_edit_is_made_again_and_forked_with_it_and_without(tiny):
    guidance = lab.CFG(4) + lab.Edit(lab.nag()) + lab.Watch([1])
    run = tiny.sample(guidance, num_inference_steps=4)
    final = run.recording.ds.final
    assert np.array_equal(lab.rerun(run.recording, tiny.pipe).recording.ds.final, final)
    same = lab.fork(run.recording, step=2, pipe=tiny.pipe)
    assert np.allclose(same.recording.ds.final, final, atol=1e-5)
    without = lab.fork(run.recording, step=2, pipe=tiny.pipe, guidance=lab.CFG(4))
    assert np.array_equal(without.recording.ds.x_t[2], run.recording.ds.x_t[2])
    assert not np.allclose(without.recording.ds.final, final, atol=1e-5)


def test_samples_of_a_batch_do_not_touch_each_other_under_an_edit(tiny):
    guidance = lab.CFG(4) + lab.Edit(lab.enhance(20)) + lab.Edit(lab.nag()) + lab.STG(1, lab.skip([1]))
    call = {"num_inference_steps": 2, "prompt": ["a red seven moving left", "a blue two growing"]}
    both, alone = tiny.sample(guidance, **call), tiny.sample(guidance, **{**call, "prompt": call["prompt"][0]})
    assert np.allclose(both.video[0], alone.video[0], atol=1e-4)


def test_the_rounds_of_restart_are_edited_and_watched_too(tiny):
    guidance = (lab.Edit(lab.nag()) + lab.Probe(lab.plain()) + lab.Watch([1], "hidden")).restart(0.3, 0.9, 1)
    run = tiny.sample(guidance, num_inference_steps=4)
    rounds = run.recording.ds.restart.values
    assert rounds.max() == 1
    assert not np.isnan(lab.analysis.watched(run).norm).any()
    for k in np.flatnonzero(rounds):
        assert not torch.allclose(
            branch(run.recording, "plain", int(k)), branch(run.recording, "cond", int(k)), atol=1e-5
        )
