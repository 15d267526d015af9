"""Sums as guiders of diffusers: the guider makes the same prediction, and reads back as the sum."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kit.peers import guider_prediction
from kit.zoo import member

import stg_lab as lab
from stg_lab.guidance import Guidance, Moment, Probe, as_guidance, combine
from stg_lab.interop import from_guider
from stg_lab.interop import settings as plain_settings

scales = st.floats(1.01, 20)
numbers = st.floats(-5, 5).filter(bool)
layers = st.sets(st.integers(0, 30), min_size=1, max_size=4)
skips = st.builds(lambda ls, part: lab.skip(ls, part=part), layers, st.sampled_from(["block", "attention"]))


@st.composite
def windows(draw, steps, first=0, last=None):
    """Shares of whole steps."""
    start = draw(st.integers(first, (last or steps) - 1))
    return {"start": start / steps, "stop": draw(st.integers(start + 1, last or steps)) / steps}


@st.composite
def sums_of_cfg(draw):
    steps = draw(st.integers(1, 60))
    term = lab.CFG(draw(scales), **draw(windows(steps)))
    rule = draw(st.sampled_from(["none", "zero_star", "tangential", "magnitude", "apg"]))
    if rule == "zero_star":
        assume(term.start == 0)
        term = term.zero_star(draw(st.integers(0, int(term.stop * steps + 0.5))))
    elif rule == "magnitude":
        term = term.magnitude(draw(st.floats(0, 10)))
    elif rule == "apg":
        term = term.apg(
            draw(st.floats(-1, 0.9)),
            norm=draw(st.sampled_from([2.5, float("inf")])),
            momentum=draw(st.floats(-0.9, 0.9)),
        )
    elif rule == "tangential":
        term = term.tangential()
    phi = 0 if rule == "zero_star" else draw(st.sampled_from([0, 0.3, 1]))
    return term.rescale(phi), steps


@st.composite
def sums_with_skips(draw):
    steps = draw(st.integers(2, 60))
    skip = draw(windows(steps, first=1))
    first, last = round(skip["start"] * steps), round(skip["stop"] * steps)
    cfg = {"start": draw(st.integers(0, first)) / steps, "stop": draw(st.integers(last, steps)) / steps}
    total = lab.CFG(draw(scales), **cfg) + lab.STG(draw(numbers), draw(skips), **skip)
    return total.rescale(draw(st.sampled_from([0, 0.7]))), steps


@settings(max_examples=150, deadline=None)
@given(st.one_of(sums_of_cfg(), sums_with_skips()))
def test_a_sum_that_a_guider_says_comes_back_and_predicts_alike(drawn):
    guidance, steps = drawn
    guider = lab.export(guidance, "diffusers", steps=steps)
    assert from_guider(guider, steps=steps) == guidance
    memory: dict = {}
    for step in range(steps):
        g = torch.Generator().manual_seed(step)
        c, u, p = (torch.randn(2, 8, 3, generator=g) for _ in range(3))
        theirs = guider_prediction(guider, step, steps, {"pred_cond": c, "pred_uncond": u, "pred_cond_skip": p})
        ours = combine(guidance, {"cond": c, "uncond": u, "skip": p}, Moment(step, steps, memory=memory))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


@settings(max_examples=50, deadline=None)
@given(scales, layers, st.data())
def test_convention_b_is_autoguidance(scale, chosen, data):
    steps = data.draw(st.integers(1, 40))
    window = data.draw(windows(steps))
    weak = lab.skip(chosen, prompt="negative")
    guidance = lab.CFG(scale, **window) + lab.STG(scale - 1, weak, reference="uncond", **window)
    guider = lab.export(guidance, "diffusers", steps=steps)
    assert type(guider).__name__ == "AutoGuidance"
    assert from_guider(guider, steps=steps) == guidance


def test_what_the_arguments_are():
    """By hand: the names are diffusers' own, and the scale of the paper's form is one less."""
    sum_ = lab.CFG(4) + lab.STG(1.5, lab.skip([5, 9]), start=0.25, stop=0.5)
    assert plain_settings(sum_, "diffusers", steps=8) == {
        "class": "SkipLayerGuidance",
        "arguments": {
            "guidance_scale": 4,
            "skip_layer_guidance_scale": 1.5,
            "skip_layer_guidance_start": 1.5 / 8,  # int(1.5) < step
            "skip_layer_guidance_stop": 0.5,
            "skip_layer_config": [
                {"indices": [5, 9], "fqn": "auto", "skip_attention": True, "skip_attention_scores": False, "skip_ff": True}
            ],
        },
    }  # fmt: skip
    apg = plain_settings(lab.CFG(4).apg(eta=0.2, norm=3), "diffusers")["arguments"]
    assert (apg["guidance_scale"], apg["use_original_formulation"], apg["eta"]) == (3, True, 0.2)


def test_what_changes_nothing_is_left_out():
    sum_ = lab.CFG(4) + lab.STG(0, lab.skip([1])) + Probe(lab.skip([2]))
    assert plain_settings(sum_, "diffusers") == plain_settings(lab.CFG(4), "diffusers")
    assert from_guider(lab.export(Guidance(), "diffusers")) == as_guidance(lab.CFG(1))


@pytest.mark.parametrize(
    ("family", "weak", "names"),
    [
        ("wan", lab.skip([1]), {"blocks": [1]}),
        ("cogvideox", lab.skip([0, 2]), {"transformer_blocks": [0, 2]}),
        ("latte", lab.skip([1]), {"transformer_blocks": [1], "temporal_transformer_blocks": [1]}),
        ("latte", lab.skip([1], axis="spatial"), {"transformer_blocks": [1]}),
        ("latte", lab.skip([1], part="attention", axis="temporal"), {"temporal_transformer_blocks": [1]}),
    ],
)
def test_lists_of_blocks_are_named_by_the_pipeline(family, weak, names):
    guidance, pipe = lab.CFG(3) + lab.STG(1, weak, start=0.5), member(family).pipe
    guider = lab.export(guidance, "diffusers", steps=4, pipe=pipe)
    assert {c.fqn: c.indices for c in guider.skip_layer_config} == names
    assert from_guider(guider, steps=4, pipe=pipe) == guidance


def test_layers_over_two_lists_are_told_apart_and_put_together():
    """HunyuanVideo: single blocks are the layers after the double ones."""
    pipe = member("hunyuan").pipe
    double, single = len(pipe.transformer.transformer_blocks), len(pipe.transformer.single_transformer_blocks)
    guidance = lab.CFG(3) + lab.STG(1, lab.skip([double - 1, double, double + single - 1]), start=0.5)
    guider = lab.export(guidance, "diffusers", steps=4, pipe=pipe)
    assert {c.fqn: c.indices for c in guider.skip_layer_config} == {
        "transformer_blocks": [double - 1],
        "single_transformer_blocks": sorted({0, single - 1}),
    }
    assert from_guider(guider, steps=4, pipe=pipe) == guidance


BLOCK, ATTENTION = lab.skip([1]), lab.skip([1], part="attention")
BOTH = lab.STG(1, lab.skip([1], part="attention", axis="spatial")) + lab.STG(
    1, lab.skip([1], part="attention", axis="temporal")
)
REFUSED = {
    "step 0": (lab.CFG(4) + lab.STG(1, BLOCK), r"step 0 is never guided. Without step 0: lab.export\(lab.CFG\(4\) \+ lab.STG\(1, lab.skip\(\[1\]\), start=1/24\), to='diffusers', steps=24\)"),
    "a share that is step 0": (lab.CFG(4) + lab.STG(1, BLOCK, stop=0.5), "step 0 is never guided"),
    "no CFG": (lab.STG(1, BLOCK, start=0.5), r"Add lab.CFG\(scale\) above 1"),
    "CFG closed": (lab.CFG(4, stop=0.5) + lab.STG(1, BLOCK, start=0.25), "Make CFG's the wider one"),
    "no step in the window": (lab.CFG(4, start=0.01, stop=0.02), "acts at no step of a run of 24"),
    "two CFG": (lab.CFG(4) + lab.CFG(2), "one CFG scale and one weak pass"),
    "two skips": (lab.CFG(4) + lab.STG(1, BLOCK, start=0.5) + lab.STG(1, ATTENTION, start=0.5), "one CFG scale and one weak pass"),
    "a list of scales": (lab.CFG([4] * 24), "one scale for all steps"),
    "a function": (lab.CFG(4) + lab.STG(lambda share: 1 - share, BLOCK, start=0.5), "one scale for all steps"),
    "a window in sigma": (lab.CFG(4, sigma=(0.1, 0.9)), r"Type start= and stop="),
    "x0": (lab.CFG(4).rescale(0.7).in_x0(), r"Leave in_x0\(\) out"),
    "the batch": (lab.CFG(4).rescale(0.7, per="batch"), r"Type .rescale\(phi\)"),
    "Restart": (lab.CFG(4).restart(0.2, 0.5), "no Restart sampling"),
    "orthogonal vectors": (BOTH.orthogonalize(), "added as they are"),
    "CFG++": (lab.CFGpp(0.6), r"Type lab.CFG\(scale\) instead"),
    "two rules": (lab.CFG(4).zero_star(0).tangential(), "in one way"),
    "a rule with a weak pass": (lab.CFG(4).tangential() + lab.STG(1, BLOCK, start=0.5), "its CFG is plain"),
    "a rule on the skip": (lab.CFG(4) + lab.STG(1, BLOCK, start=0.5).apg(), r"it has no .apg\(\)"),
    "zeros rescaled": (lab.CFG(4).zero_star(1).rescale(0.5), "NaN"),
    "zeros before the window": (lab.CFG(4, start=0.5).zero_star(1), "Take a window that holds them"),
    "another weak model": (lab.CFG(4) + lab.STG(1, lab.blur([1]), start=0.5), r"whole blocks \(lab.skip\(\[5\]\)\)"),
    "another part": (lab.CFG(4) + lab.STG(1, lab.skip([1], part="feedforward"), start=0.5), "whole blocks"),
    "strength": (lab.CFG(4) + lab.STG(1, lab.skip([1], strength=0.5), start=0.5), r"can say is lab.skip\(\[1\]\)"),
    "heads": (lab.CFG(4) + lab.STG(1, lab.skip([1], part="attention", heads=[0]), start=0.5), r"is lab.skip\(\[1\], part='attention'\)"),
    "another prompt": (lab.CFG(4) + lab.STG(1, lab.skip([1], prompt="negative"), start=0.5), r"can say is lab.skip\(\[1\]\)"),
    "an axis without the pipeline": (lab.CFG(4) + lab.STG(1, lab.skip([1], axis="spatial"), start=0.5), "pipe=pipe"),
    "convention C": (lab.convention("C", BLOCK, cfg=4, scale=1), "to the conditional prediction, not to 'cfg'"),
    "convention B with a scale": (
        lab.CFG(4) + lab.STG(1, lab.skip([1], prompt="negative"), reference="uncond"), r"lab.convention\('B', lab.skip\(\[5\]\), cfg=4\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_guider_says_is_refused(name):
    guidance, says = REFUSED[name]
    with pytest.raises(lab.GuidanceError, match=says):
        lab.export(guidance, "diffusers", steps=24)


def test_a_window_needs_the_number_of_steps():
    with pytest.raises(lab.GuidanceError, match=r"lab.export\(..., steps=24\)"):
        lab.export(lab.CFG(4, start=0.1), "diffusers")


def test_layers_and_axes_that_the_pipeline_lacks_are_refused():
    pipe = member("wan").pipe
    for weak in (lab.skip([99]), lab.skip([1], axis="temporal")):
        with pytest.raises(
            lab.GuidanceError, match=f"no list of blocks for diffusers that holds layer {weak.layers[0]}"
        ):
            lab.export(lab.CFG(4) + lab.STG(1, weak, start=0.5), "diffusers", steps=4, pipe=pipe)
