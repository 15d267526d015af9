"""NAG where text and video share one attention, against both texts led through a copy of the model block by block."""

import copy
import inspect

import numpy as np
import pytest
import torch
from kit.siblings import sibling
from kit.watch import branch, captured, left_behind
from kit.zoo import member

import stg_lab as lab
from stg_lab.families import family_of

KERNEL = torch.nn.functional.scaled_dot_product_attention
POOLED = "pooled_projections"
NAMES = ["mochi", "cogvideox", "sd3", "flux", "hunyuan"]


def run(one, guidance, **how):
    changes = how.pop("changes", {})
    with captured(one.pipe) as calls, lab.attach(one.pipe, guidance=guidance, record=True, **how) as trace:
        one.stock(**changes)
    return trace.recording, calls.made


class kernel:
    """Attention kernels are answered by a function, one call after the other."""

    def __init__(self, answer):
        self.answer = answer

    def __enter__(self):
        def called(query, key, value, attn_mask=None, *args, **kwargs):
            return self.answer(query, key, value, lambda q, k, v: KERNEL(q, k, v, attn_mask, *args, **kwargs))

        torch.nn.functional.scaled_dot_product_attention = called

    def __exit__(self, *raised):
        torch.nn.functional.scaled_dot_product_attention = KERNEL


def normalised(z, n, scale, alpha, tau):
    """The authors' order: heads side by side, lengths are sums of absolute values."""
    z, n = (x.transpose(1, 2).flatten(2) for x in (z, n))
    guided = z * scale - n * (scale - 1)
    ratio = guided.norm(p=1, dim=-1, keepdim=True) / z.norm(p=1, dim=-1, keepdim=True)
    guided = guided * ratio.clamp(max=tau) / ratio
    return guided * alpha + z * (1 - alpha)


def by_hand(one, module, positive, negative, edit):
    """The prediction of one caption: every block is run for the negative text, with the video tokens of the positive run."""
    family, oracle = family_of(one.pipe), copy.deepcopy(module)
    first = family.text_tokens == "first"
    size = family.grid(module, (), positive).size
    blocks, given = family.blocks(oracle), {}

    def bound(block, args, kwargs):
        named = inspect.signature(type(block).forward).bind(block, *args, **kwargs).arguments
        rest = named.pop("kwargs", {})
        return {name: value for name, value in (named | rest).items() if name != "self"}

    handles = [
        block.register_forward_pre_hook(lambda b, a, k, n=n: given.update({n: bound(b, a, k)}), with_kwargs=True)
        for n, block in enumerate(blocks)
    ]
    with torch.no_grad():
        oracle(**negative)
    for handle in handles:
        handle.remove()
    text = [given[0]["encoder_hidden_states"]]

    def video(x):
        return x[:, :, -size:] if first else x[:, :, :size]

    def wrapped(block, number):
        forward = block.forward

        def both(*args, **kwargs):
            mine = bound(block, args, kwargs)
            tensors, others = [], []

            def keep(q, k, v, attend):
                tensors.append((q, k, v))
                return attend(q, k, v)

            with kernel(keep):
                forward(**mine)
            theirs = {**given[number], "hidden_states": mine["hidden_states"], "encoder_hidden_states": text[0]}
            seen = iter(tensors)

            def share(*call):
                *given_, attend = call
                changed = [x.clone() for x in given_]
                for x, own in zip(changed, next(seen), strict=True):
                    video(x)[:] = video(own)
                others.append(attend(*changed))
                return others[-1]

            with kernel(share):
                out = forward(**theirs)
            text[0] = out[1 - family.video_stream]
            negatives = iter(others)

            def guided(q, k, v, attend):
                z, n = attend(q, k, v).clone(), next(negatives)
                if edit.layers is None or number in edit.layers:
                    new = normalised(video(z), video(n), edit.scale, edit.alpha, edit.tau)
                    video(z)[:] = new.unflatten(2, (z.shape[1], -1)).transpose(1, 2)
                return z

            with kernel(guided):
                return forward(**mine)

        return both

    for number, block in enumerate(blocks):
        block.forward = wrapped(block, number)
    with torch.no_grad():
        return family.prediction(oracle(**positive))


def both_texts(one, kwargs):
    """Arguments of a call for the caption alone, and for the negative prompt with the caption's own pooled text."""
    family = family_of(one.pipe)
    if not family.batched:
        text = {k: v for k, v in kwargs.items() if k in ("encoder_hidden_states", "encoder_attention_mask")}
        call = one.call
        new = {"encoder_hidden_states": call["negative_prompt_embeds"]}
        if "encoder_attention_mask" in text:
            new["encoder_attention_mask"] = call["negative_prompt_attention_mask"]
        return kwargs, {**kwargs, **{k: v.to(text[k]) for k, v in new.items()}}
    rows = len(kwargs["hidden_states"])

    def rows_of(index):
        return {
            k: v.chunk(2)[index]
            if isinstance(v, torch.Tensor) and v.ndim and len(v) == rows and k not in family.unbatched
            else v
            for k, v in kwargs.items()
        }

    positive, negative = rows_of(1), rows_of(0)
    return positive, {**negative, **({POOLED: positive[POOLED]} if POOLED in positive else {})}


def encoding(one):
    """A pipeline that is given embeddings, made to encode its negative prompt."""
    call = one.call
    found = [call["negative_prompt_embeds"], call.get("negative_pooled_prompt_embeds")]
    found.append(call.get("negative_prompt_attention_mask", torch.zeros(6, 3)))
    return answering(one, found)


def answering(one, found):
    own = one.pipe.encode_prompt

    def encode(*args, **kwargs):
        return own(*args, **kwargs) if kwargs.get("prompt_embeds") is not None else tuple(found)

    one.pipe.encode_prompt = encode
    return one


@pytest.mark.parametrize("edit", [lab.nag(3, alpha=0.5, tau=1.2), lab.nag(6, alpha=1, layers=[1])], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_it_is_two_texts_led_through_the_model_beside_each_other(name, edit):
    one = member(name)
    off = {}
    if not family_of(one.pipe).batched:
        off, one = {"true_cfg_scale": 1.0}, encoding(one)
    recording, calls = run(one, lab.Edit(edit) + lab.Probe(lab.plain()), changes=off)
    module, args, kwargs = calls[0]
    assert not args
    positive, negative = both_texts(one, kwargs)
    expected = one.predicted(by_hand(one, module, positive, negative, edit))
    cond, plain = branch(recording, "cond", 0), branch(recording, "plain", 0)
    assert (cond - plain).norm() > 1e-3 * plain.norm()
    assert torch.allclose(cond, expected.float(), atol=2e-4 * float(plain.abs().max()))
    assert set(left_behind(one.pipe)) <= {"pipe.encode_prompt"}  # the test's own


@pytest.mark.parametrize("name", ["mochi", "sd3", "cogvideox"])
def test_uncond_is_as_it_is_and_weak_models_are_of_the_edited_model(name):
    one = member(name)
    stock, _ = run(one, lab.Probe(lab.skip([1])))
    runs = {}
    for rows, reuse in (("own", True), ("batch", True), ("batch", False)):
        passes = lab.Passes(rows=rows, reuse=reuse)
        runs[rows, reuse], _ = run(one, lab.Edit(lab.nag(4, alpha=1)) + lab.Probe(lab.skip([1])), passes=passes)
    base = runs["batch", False]
    close = 1e-5 * float(branch(base, "cond", 0).abs().max())
    assert torch.allclose(branch(base, "uncond", 0), branch(stock, "uncond", 0), atol=close)
    assert not torch.allclose(branch(base, "skip", 0), branch(stock, "skip", 0), atol=10 * close)
    for other in runs.values():
        for which in ("cond", "uncond", "skip"):
            assert torch.allclose(branch(other, which, 0), branch(base, which, 0), atol=5 * close)


@pytest.mark.parametrize("name", ["sd3", "cogvideox"])
def test_off_is_the_stock_prediction_and_a_probe_touches_nothing(name):
    one = member(name)
    stock, _ = run(one, lab.Guidance())
    off, _ = run(one, lab.Edit(lab.nag(1)))
    assert torch.allclose(branch(off, "cond", 0), branch(stock, "cond", 0), atol=1e-5)
    probed, _ = run(one, lab.Probe(lab.nag(4, alpha=1)))
    edited, _ = run(one, lab.Edit(lab.nag(4, alpha=1)))
    assert np.array_equal(probed.ds.final, stock.ds.final)
    assert torch.allclose(branch(probed, "nag", 0), branch(edited, "cond", 0), atol=1e-5)


@pytest.mark.parametrize("name", ["sd3", "mochi"])
@pytest.mark.parametrize("rows", ["own", "batch"])
def test_the_rows_of_the_plan_are_those_that_the_blocks_see(name, rows):
    one = member(name)
    guidance = lab.Edit(lab.nag(4)) + lab.Probe(lab.plain()) + lab.Probe(lab.skip([1], part="attention"))
    seen = []
    block = family_of(one.pipe).blocks(one.pipe.transformer)[0]
    handle = block.register_forward_pre_hook(
        lambda b, a, k: seen.append(len(a[0] if a else k["hidden_states"])), with_kwargs=True
    )
    passes = lab.Passes(rows=rows, reuse=False)
    with lab.attach(one.pipe, guidance=guidance, passes=passes):
        one.stock(guidance_scale=3.0)
    handle.remove()
    plan = lab.plan(
        one.pipe,
        lab.CFG(3) + guidance,
        passes=passes,
        **{**one.arguments({}), "guidance_scale": None} | {"guidance_scale": 3.0},
    )
    steps = [seen[k : k + 3] for k in range(0, len(seen), 3)]
    assert [sorted(p.rows for p in s.passes) for s in plan.steps] == list(map(sorted, steps))
    assert plan.rows == sum(seen)


def test_what_it_cannot_encode_is_told_before_a_pass():
    one = member("mochi")
    with (
        captured(one.pipe) as calls,
        pytest.raises(lab.GuidanceError, match="own negative prompt is taken"),
        lab.attach(one.pipe, guidance=lab.Edit(lab.nag(negative="ugly"))),
    ):
        one.stock()
    assert len(calls) <= 1
    with (
        pytest.raises(lab.GuidanceError, match="out of range"),
        lab.attach(one.pipe, guidance=lab.Edit(lab.nag(layers=[9]))),
    ):
        one.stock()
    flux = answering(member("flux"), (torch.zeros(1, 4, 16), torch.zeros(1, 8), torch.zeros(4, 3)))
    with pytest.raises(lab.GuidanceError, match="same length"), lab.attach(flux.pipe, guidance=lab.Edit(lab.nag())):
        flux.stock(true_cfg_scale=1.0)


@pytest.mark.parametrize("name", ["qwen", "chroma", "flux2", "motif", "hunyuan-image-replace"])
def test_siblings_whose_captions_the_lab_cannot_encode_say_so(name):
    one = sibling(name)
    with (
        pytest.raises(lab.GuidanceError, match="does not know how"),
        lab.attach(one.pipe, guidance=lab.Edit(lab.nag())),
    ):
        one.stock()


@pytest.mark.parametrize("name", ["flux", "hunyuan"])
def test_distilled_models_know_the_empty_caption(name):
    one = encoding(member(name))
    recording, calls = run(one, lab.Probe(lab.empty()), changes={"true_cfg_scale": 1.0})
    module, args, kwargs = calls[0]
    _, negative = both_texts(one, kwargs)
    negative[POOLED] = one.call["negative_pooled_prompt_embeds"]
    with torch.no_grad():
        expected = one.predicted(family_of(one.pipe).prediction(module(*args, **negative)))
    assert torch.allclose(branch(recording, "empty", 0), expected.float(), atol=1e-5 * float(expected.abs().max()))


def test_the_rounds_of_restart_are_made_under_it_and_a_failure_leaves_nothing():
    one = member("sd3")
    guidance = (lab.Edit(lab.nag(4, alpha=1)) + lab.Probe(lab.plain())).restart(0.3, 0.95, 1)
    recording, _ = run(one, guidance)
    assert recording.ds.restart.values.max() == 1
    for k in range(recording.steps):
        cond, plain = branch(recording, "cond", k), branch(recording, "plain", k)
        assert (cond - plain).norm() > 1e-3 * plain.norm()

    def fail(*_):
        raise RuntimeError("stop")

    handle = one.pipe.transformer.transformer_blocks[1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="stop"), lab.attach(one.pipe, guidance=guidance):
        one.stock()
    handle.remove()
    assert left_behind(one.pipe) == []


@pytest.mark.parametrize("name", ["cogvideox", "hunyuan"])
def test_who_looks_on_sees_the_caption_alone(name):
    watch = lab.Watch([0, 1]) + lab.Watch([1], "hidden") + lab.Watch([1], "residual")
    seen = []
    for edit in (lab.Guidance(), lab.Guidance() + lab.Edit(lab.nag(1)), lab.Guidance() + lab.Edit(lab.nag(6, alpha=1))):
        one = encoding(member(name)) if name == "hunyuan" else member(name)
        off = {"true_cfg_scale": 1.0} if name == "hunyuan" else {}
        seen.append(lab.analysis.watched(run(one, edit + watch, changes=off)[0]).isel(step=0))
    for array in seen[0].data_vars:
        assert seen[1][array].shape == seen[0][array].shape
        assert np.allclose(seen[1][array], seen[0][array], rtol=1e-3, atol=1e-5, equal_nan=True)
    assert not np.allclose(seen[2].block, seen[0].block, rtol=1e-3)


def test_gates_of_several_samples_are_refused_under_it():
    one = member("sd3")
    call = {**one.arguments({}), **one.two()}
    with pytest.raises(lab.GuidanceError, match="every row of a call twice"):
        lab.attribute(
            one.pipe, 1, layers=[1], parts=["block"], guidance=lab.CFG(3) + lab.Edit(lab.nag(4)), progress=False, **call
        )
