"""What is watched inside the model against maps and norms computed by hand on a copy of it."""

import copy

import numpy as np
import pytest
import torch
from kit import explicit
from kit.peak import Peak
from kit.watch import branch, captured, left_behind, passes
from kit.zoo import member

import stg_lab as lab
from stg_lab.guidance import as_guidance
from stg_lab.interop.json_file import from_json

STEPS = 3
EVERYTHING = lab.Watch([0, 2]) + lab.Watch([1, 2], "hidden") + lab.Watch([1], "residual")


@pytest.fixture(scope="module")
def seen(tiny):
    """A watched run of two samples, its calls under the caption, and the same run without eyes."""
    call = {"num_inference_steps": STEPS, "prompt": ["a red seven moving left", "a blue two growing"]}
    guidance = lab.CFG(4) + lab.STG(1, lab.skip([1]))
    with captured(tiny.pipe) as calls:
        run = tiny.sample(guidance + EVERYTHING, **call)
    return run, calls.made[::2], tiny.sample(guidance, **call)


def test_the_bits_are_the_same_and_no_pass_is_added(tiny, seen):
    run, _, plain = seen
    assert np.array_equal(run.video, plain.video)
    for name in ("x_t", "final"):
        assert np.array_equal(run.recording.ds[name], plain.recording.ds[name])
    for k in range(STEPS):
        for name in ("cond", "uncond", "skip", "guided"):
            assert torch.equal(branch(run.recording, name, k), branch(plain.recording, name, k))
    with passes(tiny.pipe) as made:
        tiny.sample(lab.CFG(4) + EVERYTHING, num_inference_steps=STEPS)
    assert len(made) == 2 * STEPS
    assert left_behind(tiny.pipe) == []


def by_hand(module, args, kwargs, layer):
    """Both maps of a layer, `(sample, head, query, key)`, from q and k on a copy."""
    found, oracle = {}, copy.deepcopy(module)

    def own(attn, given, output):
        def keep(q, k, v):
            found["self"] = explicit.attention_map(q, k)
            return explicit.attend(q, k, v)

        explicit.wan_attention(attn, given[0], given[3], keep)

    def cross(attn, given, output):
        q, k = (
            x.unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for x in (attn.norm_q(attn.to_q(given[0])), attn.norm_k(attn.to_k(given[1])))
        )
        found["cross"] = explicit.attention_map(q, k)

    oracle.blocks[layer].attn1.register_forward_hook(own)
    oracle.blocks[layer].attn2.register_forward_hook(cross)
    with torch.no_grad():
        oracle(*args, **kwargs)
    return found


def test_maps_are_those_of_q_and_k_and_add_up_to_one(seen):
    run, calls, _ = seen
    w = lab.analysis.watched(run)
    assert w.words.dims == ("step", "attention_layer", "sample", "word", "frame", "y", "x")
    assert np.allclose(w.frames.sum("to"), 1, atol=1e-5)
    assert np.allclose(w.words.sum("word"), 1, atol=1e-5)
    frames, height, width = w.sizes["frame"], w.sizes["y"], w.sizes["x"]
    for step in (0, STEPS - 1):
        for number, layer in enumerate(w.attention_layer.values):
            maps = by_hand(*calls[step], layer)
            own = maps["self"].mean(1).unflatten(1, (frames, -1)).unflatten(3, (frames, -1)).sum(-1).mean(2)
            assert np.allclose(w.frames[step, number], own, atol=1e-5)
            entropy = -(maps["self"] * maps["self"].log()).sum(-1).mean(1).unflatten(1, (frames, -1)).mean(-1)
            assert np.allclose(w.entropy[step, number], entropy, atol=1e-4)
            words = maps["cross"].mean(1).movedim(-1, 1).unflatten(2, (frames, height, width))
            assert np.allclose(w.words[step, number, :, :-1], words, atol=1e-5)
            assert (w.words[step, number, :, -1] == 0).all()


def test_words_that_are_not_kept_are_summed_up_and_have_names(tiny, seen):
    run, *_ = seen
    full = lab.analysis.watched(run)
    few = lab.analysis.watched(
        tiny.sample(
            lab.Watch([0], words=3), num_inference_steps=1, prompt=["a red seven moving left", "a blue two growing"]
        )
    )
    assert few.sizes["word"] == 4
    assert np.allclose(few.words[0, 0, :, :3], full.words[0, 0, :, :3], atol=1e-6)
    assert np.allclose(few.words[0, 0, :, 3], full.words[0, 0, :, 3:].sum("word"), atol=1e-6)
    assert full.attrs["words"][0][:3] == ["a", "red", "seven"]


def test_hidden_streams_and_branches_are_what_hooks_see(seen):
    run, calls, _ = seen
    w = lab.analysis.watched(run)
    streams, added = [], []
    for module, args, kwargs in calls:
        oracle, found = copy.deepcopy(module), {}
        for layer in (1, 2):
            oracle.blocks[layer].register_forward_hook(
                lambda block, given, out, layer=layer, found=found: found.update({layer: (given[0], out)})
            )
        for name, part in (("attention", "attn1"), ("cross_attention", "attn2"), ("feedforward", "ffn")):
            getattr(oracle.blocks[1], part).register_forward_hook(
                lambda block, given, out, name=name, found=found: found.update({name: out})
            )
        with torch.no_grad():
            oracle(*args, **kwargs)
        streams.append(found)
        added.append(
            {name: found[name].pow(2).mean((1, 2)).sqrt() for name in ("attention", "cross_attention", "feedforward")}
        )
    for step, found in enumerate(streams):
        for number, layer in enumerate((1, 2)):
            norm = found[layer][1].unflatten(1, (w.sizes["frame"], -1)).pow(2).mean((2, 3)).sqrt()
            assert np.allclose(w.norm[step, number], norm, rtol=1e-4)
            if step:
                a, b = streams[step - 1][layer][1].flatten(1), found[layer][1].flatten(1)
                assert np.allclose(w.change[step, number], (b - a).norm(dim=1) / a.norm(dim=1), rtol=1e-4)
        given, out = found[1]
        assert np.allclose(w.block[step, 0], (out - given).pow(2).mean((1, 2)).sqrt(), rtol=1e-4)
        for name, value in added[step].items():
            assert np.allclose(w[name][step, 0], value, rtol=1e-4)
    assert np.isnan(w.change[0]).all()


def test_skipping_a_branch_is_seen_in_that_branch(tiny):
    watch = lab.Watch([0, 1], "residual")
    plain = lab.analysis.watched(tiny.sample(watch, num_inference_steps=1))
    skipped = lab.analysis.watched(
        tiny.sample(lab.Edit(lab.skip([1], part="attention_zero")) + watch, num_inference_steps=1)
    )
    assert float(skipped.attention[0, 1, 0]) == 0 < float(plain.attention[0, 1, 0])
    for name in ("attention", "cross_attention", "feedforward", "block"):
        assert float(skipped[name][0, 0, 0]) == float(plain[name][0, 0, 0])  # the layer before is as it was
    assert float(skipped.cross_attention[0, 1, 0]) != float(plain.cross_attention[0, 1, 0])


@pytest.mark.parametrize("name", ["cogvideox", "hunyuan"])
def test_text_in_the_same_attention_has_its_share(name):
    one = member(name)
    with lab.attach(one.pipe, guidance=lab.Watch([1]), record=True) as trace:
        one.stock()
    w = lab.analysis.watched(trace.recording)
    per_frame = w.words.sum("word").mean(("y", "x"))
    assert np.allclose(w.frames.sum("to") + per_frame, 1, atol=1e-5)
    assert (per_frame > 0.01).all()
    assert w.sizes["sample"] == 1


def test_memory_does_not_grow_with_the_steps_and_the_plan_bounds_the_recording(tiny):
    peaks = []
    for steps in (6, 18):
        with Peak() as peak:  # what is handed to the recorder waits in a queue of fixed length, on a thread of its own
            lab.sample(tiny.pipe, guidance=EVERYTHING, record=False, **tiny.arguments({"num_inference_steps": steps}))
        peaks.append(peak.bytes)
        plan = lab.plan(tiny.pipe, EVERYTHING, **tiny.arguments({"num_inference_steps": steps}))
        run = tiny.sample(EVERYTHING, num_inference_steps=steps)
        assert sum(v.nbytes for v in lab.analysis.watched(run).data_vars.values()) <= plan.watched_bytes
        assert "watched" in str(plan)
    assert peaks[1] <= 1.02 * peaks[0]


def test_every_second_step_is_looked_at(tiny):
    w = lab.analysis.watched(tiny.sample(lab.Watch([1], every=2), num_inference_steps=4))
    assert [bool(np.isnan(w.frames[k]).all()) for k in range(4)] == [False, True, False, True]


def test_it_prints_goes_into_a_file_and_says_what_is_wrong(tiny):
    guidance = as_guidance(lab.CFG(4) + lab.Watch([3, 4], "hidden", every=2))
    assert from_json(lab.export(guidance, to="json")) == guidance
    assert lab.export(guidance, to="comfyui") == lab.export(lab.CFG(4), to="comfyui")  # it never acts
    assert str(guidance) == "CFG(4) + Watch([3, 4], what='hidden', every=2)"
    for make in (
        lambda: lab.Watch([1], "pixels"),
        lambda: lab.Watch([]),
        lambda: lab.Watch([1], words=0),
        lambda: lab.Watch([1], start=0.5),
        lambda: lab.Watch([1]).apg(),
    ):
        with pytest.raises(lab.GuidanceError):
            make()
    with pytest.raises(lab.GuidanceError, match="out of range"):
        tiny.sample(lab.Watch([9]))
    mochi = member("mochi")
    with pytest.raises(lab.GuidanceError, match="one by one"), lab.attach(mochi.pipe, guidance=lab.Watch([1])):
        mochi.stock()
    with pytest.raises(lab.RecordingError, match="nothing was watched"):
        lab.analysis.watched(tiny.sample(lab.CFG(4), num_inference_steps=1))


def test_the_explorer_has_all_maps_on_board(seen, tiny):
    run, *_ = seen
    explorer = lab.widgets.watch_explorer(run, sample=1)
    w = lab.analysis.watched(run)
    assert explorer.view["layers"] == [0, 2]
    assert explorer.view["words"][0][:3] == ["a", "red", "seven"]
    assert explorer.view["words"][1][-1] == "(all others)"
    maps = explorer.numbers("words")
    assert maps.shape[3] == explorer.view["kept"]
    assert np.allclose(maps[1, 0, :, 1], w.words[1, 0, :, 1], atol=1e-4)
    assert np.allclose(maps.sum(3), 1, atol=1e-3)  # nothing is lost
    assert np.allclose(explorer.numbers("frames"), w.frames, atol=1e-6)
    explorer.step, explorer.layer, explorer.word = 1, 1, 0
    assert explorer.still() is not None
    assert "Attention inside the model" in explorer.to_html()
    for name, value in (("layer", 2), ("word", 99), ("step", 9)):
        with pytest.raises((lab.RecordingError, lab.CallError)):
            setattr(explorer, name, value)
    with pytest.raises(lab.RecordingError, match="no attention to words"):
        lab.widgets.watch_explorer(tiny.sample(lab.Watch([1], "hidden"), num_inference_steps=1))
