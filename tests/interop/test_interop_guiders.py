"""diffusers' guiders as guidance: the same prediction at every step, or an error that says what to type."""

import math

import pytest
import torch
from diffusers import guiders as diffusers
from diffusers.hooks import LayerSkipConfig, SmoothedEnergyGuidanceConfig
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.peers import guider_prediction
from kit.watch import branch, captured
from kit.zoo import member

import stg_lab as lab
from stg_lab.guidance import CFG, Moment, combine
from stg_lab.interop import from_guider
from stg_lab.weak.skip import Skip
from stg_lab.x0 import OneStep

RUNS = (4, 7, 24, 25, 50, 100)
SLG, PAG, SEG = diffusers.SkipLayerGuidance, diffusers.PerturbedAttentionGuidance, diffusers.SmoothedEnergyGuidance
BLOCKS = {"skip_layer_config": LayerSkipConfig(indices=[1])}


def predictions(seed):
    """(sample, token, channel): MagnitudeAwareGuidance of diffusers 0.42.1 takes a matrix norm, which more dimensions break."""
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 12, 5, generator=g) * (1 + i) for i in range(3)]


def compare(guider, steps):
    """The converted sum against the guider itself, at every step of a run."""
    guidance, memory = from_guider(guider, steps=steps), {}
    for step in range(steps):
        c, u, p = predictions(step)
        theirs = guider_prediction(guider, step, steps, {"pred_cond": c, "pred_uncond": u, "pred_cond_skip": p})
        ours = combine(guidance, {"cond": c, "uncond": u, "skip": p}, Moment(step, steps, memory=memory))
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)
    return guidance


PLAIN = {
    "cfg": lambda **k: diffusers.ClassifierFreeGuidance(guidance_scale=4.5, **k),
    "cfg of the paper": lambda **k: diffusers.ClassifierFreeGuidance(3.5, use_original_formulation=True, **k),
    "cfg, rescaled": lambda **k: diffusers.ClassifierFreeGuidance(4.5, 0.7, **k),
    "cfg, fully rescaled": lambda **k: diffusers.ClassifierFreeGuidance(4.5, 1.0, **k),
    "cfg off": lambda **k: diffusers.ClassifierFreeGuidance(1.0, **k),
    "cfg of the paper off": lambda **k: diffusers.ClassifierFreeGuidance(0.0, use_original_formulation=True, **k),
    "cfg disabled": lambda **k: diffusers.ClassifierFreeGuidance(4.5, 0.7, enabled=False, **k),
    "zero star": lambda **k: diffusers.ClassifierFreeZeroStarGuidance(4.5, 2, **k),
    "zero star, rescaled": lambda **k: diffusers.ClassifierFreeZeroStarGuidance(4.5, 0, 0.7, **k),
    "zero star of the paper": lambda **k: diffusers.ClassifierFreeZeroStarGuidance(4.5, use_original_formulation=True, **k),
    "tangential": lambda **k: diffusers.TangentialClassifierFreeGuidance(4.5, 0.3, **k),
    "tangential of the paper": lambda **k: diffusers.TangentialClassifierFreeGuidance(
        4.5, use_original_formulation=True, **k
    ),
    "magnitude": lambda **k: diffusers.MagnitudeAwareGuidance(10.0, 0.5, **k),
    "magnitude of the paper": lambda **k: diffusers.MagnitudeAwareGuidance(10.0, 0.5, use_original_formulation=True, **k),
    "projected": lambda **k: diffusers.AdaptiveProjectedGuidance(4.5, -0.5, 3.0, eta=0.3, use_original_formulation=True, **k),
    "projected, no bound": lambda **k: diffusers.AdaptiveProjectedGuidance(
        4.5, None, 0.0, eta=0.0, guidance_rescale=0.2, use_original_formulation=True, **k
    ),
    "projected with nothing to project": lambda **k: diffusers.AdaptiveProjectedGuidance(4.5, None, 0.0, **k),
}  # fmt: skip


@pytest.mark.parametrize("steps", RUNS)
@pytest.mark.parametrize("window", [(0, 1), (0.28, 0.29), (0.1, 0.8), (1 / 3, 1), (0, 0.57)], ids=str)
@pytest.mark.parametrize("name", PLAIN)
def test_guiders_of_cfg_give_the_same_prediction_at_every_step(name, window, steps):
    guider = PLAIN[name](start=window[0], stop=window[1])
    holds_a_step = int(window[0] * steps) < int(window[1] * steps)
    if not holds_a_step and "off" not in name and "disabled" not in name:
        with pytest.raises(lab.GuidanceError, match=f"holds no step of a run of {steps}"):
            from_guider(guider, steps=steps)
        return
    first = int(window[0] * steps)
    if name in ("zero star", "zero star of the paper") and (
        first or (name == "zero star" and int(window[1] * steps) < 2)
    ):
        with pytest.raises(lab.GuidanceError, match="whatever its scale and its window are"):
            from_guider(guider, steps=steps)
        return
    compare(guider, steps)


def test_what_the_sums_look_like():
    """By hand, since the lab's own words are what one goes on with."""
    read = {name: str(from_guider(make())) for name, make in PLAIN.items()}
    assert read["cfg"] == "CFG(4.5)"
    assert read["cfg of the paper"] == "CFG(4.5)"
    assert read["cfg disabled"] == "CFG(1)"
    assert read["cfg, rescaled"] == "(CFG(4.5)).rescale(0.7)"
    assert from_guider(PLAIN["zero star"]()).terms == (lab.CFG(4.5).zero_star(2),)
    assert from_guider(PLAIN["projected"]()).terms == (lab.CFG(5.5).apg(0.3, norm=3.0, momentum=-0.5),)
    skipping = diffusers.SkipLayerGuidance(skip_layer_guidance_layers=[7, 8, 9])
    assert from_guider(skipping, steps=24) == lab.CFG(7.5) + lab.STG(
        2.8, lab.skip([7, 8, 9]), start=1 / 24, stop=4 / 24
    )


@pytest.mark.parametrize(
    "options", [{}, {"eta": 0.4}, {"adaptive_projected_guidance_momentum": None}, {"start": 0.2, "stop": 0.8}], ids=str
)
@pytest.mark.parametrize("change", [-1, 2, 30])
def test_projection_that_begins_on_the_way_gives_the_same_prediction_at_every_step(change, options):
    mixed = diffusers.AdaptiveProjectedMixGuidance(
        3.5, 0.3, adaptive_projected_guidance_rescale=3.0, use_original_formulation=True,
        adaptive_projected_guidance_start_step=change, **options
    )  # fmt: skip
    compare(mixed, 10)


@pytest.mark.parametrize("scales", [(3.0, 1.0), (1.0, 1.5), (4.0, 0.0)], ids=str)
@pytest.mark.parametrize("rescale", [0.0, 0.7])
@pytest.mark.parametrize("window", [(0.0, 1.0), (0.1, 0.85)], ids=str)
def test_ltx2s_guider_gives_the_same_x0_at_every_step(scales, rescale, window):
    """Its denoiser hands it x0 of every pass; here what is predicted is x0, so that the sum's own conversion does nothing."""
    guider = diffusers.LTX2Guidance(*scales, 1.0, rescale, [28], start=window[0], stop=window[1])
    guidance = from_guider(guider, steps=7)
    assert guidance.space == "x0"
    for step in range(7):
        c, u, p = predictions(step)
        guider.set_state(step, 7, torch.tensor(0))
        at = Moment(step, 7, one_step=OneStep(0.0, 1.0), x_t=torch.zeros_like(c))
        ours = combine(guidance, {"cond": c, "uncond": u, "skip": p}, at)
        torch.testing.assert_close(ours, guider.forward(c, u, p).pred, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("steps", [7, 24, 25, 50])
@pytest.mark.parametrize("original", [False, True])
@pytest.mark.parametrize("rescale", [0.0, 0.7])
@pytest.mark.parametrize("window", [(0.02, 1.0), (0.1, 0.85), (0.3, 0.71)], ids=str)
@pytest.mark.parametrize("kind", ["SkipLayerGuidance", "PerturbedAttentionGuidance"])
def test_guiders_that_skip_give_the_same_prediction_at_every_step(kind, window, rescale, original, steps):
    common = {"guidance_scale": 4.5, "guidance_rescale": rescale, "use_original_formulation": original}
    name = "skip_layer_guidance" if kind == "SkipLayerGuidance" else "perturbed_guidance"
    own = {f"{name}_scale": 1.5, f"{name}_start": window[0], f"{name}_stop": window[1], f"{name}_layers": [1]}
    guider = getattr(diffusers, kind)(**common, **own)
    meant = math.ceil(window[0] * steps - 1e-9)
    if meant <= int(window[0] * steps):  # a whole step: diffusers begins one later
        with pytest.raises(lab.GuidanceError, match="begins with"):
            from_guider(guider, steps=steps)
        return
    guidance = compare(guider, steps)
    part = "block" if kind == "SkipLayerGuidance" else "attention"
    assert list(guidance.weak.values()) == [lab.skip([1], part=part)]


@pytest.mark.parametrize("window", [(0.0, 1.0), (0.1, 0.85)], ids=str)
@pytest.mark.parametrize("original", [False, True])
def test_autoguidance_is_the_weak_pass_in_place_of_the_unconditional_one(original, window):
    """Its second prediction is the weak one, with the negative prompt; what the plain one would be does not matter."""
    guider = diffusers.AutoGuidance(
        4.5,
        [1, 2],
        dropout=1.0,
        guidance_rescale=0.4,
        use_original_formulation=original,
        start=window[0],
        stop=window[1],
    )
    steps = 24
    guidance = from_guider(guider, steps=steps)
    [weak] = guidance.weak.values()
    assert weak == lab.skip([1, 2], prompt="negative")
    for step in range(steps):
        c, u, p = predictions(step)
        theirs = guider_prediction(guider, step, steps, {"pred_cond": c, "pred_uncond": p})
        ours = combine(guidance, {"cond": c, "uncond": u, "skip": p}, Moment(step, steps))
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)


shares = st.one_of(st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.28, 0.29, 1 / 3, 0.5, 0.57]), st.floats(0, 0.999))
runs = st.integers(1, 60)


@settings(max_examples=300, deadline=None)
@given(shares, shares, runs)
def test_a_main_window_is_the_very_steps_or_refused(a, b, steps):
    start, stop = min(a, b), max(a, b)
    guider = diffusers.ClassifierFreeGuidance(4.0, start=start, stop=stop)
    theirs = []
    for step in range(steps):
        guider.set_state(step, steps, None)
        theirs += [step] * (guider.num_conditions == 2)
    try:
        [cfg] = from_guider(guider, steps=steps).terms
    except lab.GuidanceError:
        assert theirs == []
        return
    assert theirs == [k for k in range(steps) if cfg.active(Moment(k, steps))]


@settings(max_examples=300, deadline=None)
@given(shares, shares, shares, runs)
def test_a_skip_window_is_the_very_steps_or_refused(a, b, cfg_start, steps):
    """Refused exactly where nothing is skipped, where CFG is off, or where the start is a whole step and so comes late."""
    start, stop = min(a, b), max(a, b)
    guider = diffusers.SkipLayerGuidance(
        4.0, 1.0, skip_layer_guidance_start=start, skip_layer_guidance_stop=stop, start=cfg_start, **BLOCKS
    )
    skipped, open_ = [], []
    for step in range(steps):
        guider.set_state(step, steps, None)
        skipped += [step] * guider._is_slg_enabled()
        open_ += [step] * guider._is_cfg_enabled()
    late = skipped and skipped[0] - 1 >= start * steps - 1e-9
    try:
        guidance = from_guider(guider, steps=steps)
    except lab.GuidanceError:
        assert not skipped or late or not set(skipped) <= set(open_)
        return
    assert not late
    at = [Moment(k, steps) for k in range(steps)]
    assert skipped == [m.step for m in at if guidance.terms[1].active(m)]
    assert open_ == [m.step for m in at if guidance.terms[0].active(m)]


def test_the_weak_pass_is_the_one_that_diffusers_runs(tiny):
    """The whole way at one step: the guider runs the model with its own hooks, on the arguments of the pipeline's calls."""
    guider = diffusers.SkipLayerGuidance(
        4.5, 1.5, skip_layer_guidance_start=0.1, skip_layer_guidance_stop=1.0, guidance_rescale=0.7,
        skip_layer_config=LayerSkipConfig(indices=[0, 2]),
    )  # fmt: skip
    rig = tiny.copy()  # the hooks of diffusers leave something behind
    with captured(rig.pipe) as calls:
        run = rig.sample(guider)
    step, steps = 2, rig.steps
    (model, _, cond), (_, _, uncond) = calls.made[2 * step : 2 * step + 2]
    guider.set_state(step, steps, None)
    batches = guider.prepare_inputs(
        {"encoder_hidden_states": (cond["encoder_hidden_states"], uncond["encoder_hidden_states"])}
    )
    assert len(batches) == 3
    for batch in batches:
        guider.prepare_models(model)
        arguments = {**cond, "encoder_hidden_states": batch.encoder_hidden_states, "return_dict": False}
        with torch.no_grad():
            batch.noise_pred = model(**arguments)[0]
        guider.cleanup_models(model)
    torch.testing.assert_close(branch(run.recording, "guided", step), guider(batches).pred, rtol=1e-5, atol=1e-5)
    assert torch.equal(branch(run.recording, "skip", step), batches[2].noise_pred)


SAMPLED = {
    "skip": (
        lambda: diffusers.SkipLayerGuidance(4.5, 1.5, 0.1, 0.8, skip_layer_guidance_layers=[1]),
        lab.CFG(4.5) + lab.STG(1.5, lab.skip([1]), start=1 / 4, stop=3 / 4),
    ),
    "attention": (
        lambda: diffusers.PerturbedAttentionGuidance(4.5, 1.5, 0.1, 1.0, [1], guidance_rescale=0.5),
        (lab.CFG(4.5) + lab.STG(1.5, lab.skip([1], part="attention"), start=1 / 4)).rescale(0.5),
    ),
    "auto": (
        lambda: diffusers.AutoGuidance(4.5, [1], dropout=1.0),
        lab.convention("B", lab.skip([1]), cfg=4.5),
    ),
    "cfg": (lambda: diffusers.ClassifierFreeGuidance(4.5, stop=0.5), lab.CFG(4.5, stop=0.5)),
    "zero star": (lambda: diffusers.ClassifierFreeZeroStarGuidance(4.5), lab.CFG(4.5).zero_star(1)),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_sampling_under_a_guider_is_sampling_under_its_sum(tiny, name):
    guider, guidance = SAMPLED[name]
    read, own = tiny.sample(guider()), tiny.sample(guidance)
    assert torch.equal(torch.as_tensor(read.output.frames), torch.as_tensor(own.output.frames))
    assert read.recording.settings["guidance"] == own.recording.settings["guidance"]


def test_attach_takes_a_guider_whose_windows_are_the_whole_run(tiny):
    guider = diffusers.ClassifierFreeGuidance(4.5, 0.5)
    with lab.attach(tiny.pipe, guidance=guider, record=True) as trace:
        tiny.stock(guidance_scale=4.5)
    run = tiny.sample(lab.CFG(4.5).rescale(0.5))
    assert torch.equal(branch(trace.recording, "guided", 3), branch(run.recording, "guided", 3))


def test_a_run_is_made_again_under_a_guider(tiny):
    run = tiny.sample(lab.CFG(4.5))
    again = lab.rerun(run.recording, tiny.pipe, guidance=SLG(3.0, 1.0, 0.1, 1.0, [1]))
    assert again.guidance == lab.CFG(3.0) + lab.STG(1.0, lab.skip([1]), start=1 / 4)


def test_the_number_of_steps_comes_from_the_call(tiny):
    guider = diffusers.SkipLayerGuidance(3.0, 1.0, 0.01, 0.5, [1])
    assert tiny.sample(guider, num_inference_steps=6).guidance.terms[1].stop == 3 / 6
    with (
        pytest.raises(lab.GuidanceError, match=r"lab.from_guider\(guider, steps=24\)"),
        lab.attach(tiny.pipe, guidance=guider),
    ):
        pass


# ---- refusals ----


def config(**flags):
    return {"skip_layer_config": LayerSkipConfig(indices=[1], **flags), "skip_layer_guidance_start": 0.1}


REFUSED = {
    "step 0": (lambda: SLG(4.0, 1.0, 0.0, 1.0, [1]), r"never guides step 0.*STG\(1, lab.skip\(\[1\]\)\), for what"),
    "a late start": (lambda: SLG(4.0, 1.0, 0.25, 1.0, [1]), r"step 6, but diffusers begins with step 7.*start=6/24.*start=7/24"),
    "no step": (lambda: SLG(4.0, 1.0, 0.5, 0.5, [1]), "holds no step of a run of 24"),
    "CFG off": (lambda: SLG(1.0, 1.0, 0.1, 1.0, [1]), r"the negative prompt and no hook.*type lab.STG\(1, lab.skip\(\[1\]\)\)"),
    "CFG of the paper off": (lambda: PAG(0.0, 1.0, 0.1, 1.0, [1], use_original_formulation=True), "CFG off"),
    "CFG closed": (lambda: SLG(4.0, 1.0, 0.1, 1.0, [1], stop=0.5), "at step 12, 13, .*, 23 its window for CFG is closed"),
    "CFG below 1": (lambda: diffusers.ClassifierFreeGuidance(0.5), r"CFG\(0.5\) is below 1"),
    "attention alone": (lambda: SLG(4.0, 1.0, **config(skip_ff=False)), r"return its own input.*part='attention_zero'"),
    "feed-forward alone": (lambda: SLG(4.0, 1.0, **config(skip_attention=False)), r"return its own input.*part='feedforward'"),
    "scores and feed-forward": (
        lambda: SLG(4.0, 1.0, **config(skip_attention=False, skip_attention_scores=True)), "return its own input",
    ),
    "both ways of attention": (lambda: SLG(4.0, 1.0, **config(skip_attention_scores=True)), "says attention in two ways"),
    "nothing skipped": (lambda: SLG(4.0, 1.0, **config(skip_attention=False, skip_ff=False)), "skips nothing"),
    "dropout": (lambda: SLG(4.0, 1.0, **config(dropout=0.3)), r"at random.*lab.skip\(\[1\], strength=0.3\)"),
    "dropout of AutoGuidance": (lambda: diffusers.AutoGuidance(4.0, [1], dropout=0.3), r"strength=0.3"),
    "unknown list": (lambda: SLG(4.0, 1.0, **config(fqn="layers")), "pipe=pipe"),
    "list that depends on the model": (lambda: SLG(4.0, 1.0, **config(fqn="transformer_blocks")), "pipe=pipe"),
    "parts mixed": (
        lambda: SLG(4.0, 1.0, 0.1, 1.0, skip_layer_config=[
            LayerSkipConfig([1]), LayerSkipConfig([2], skip_attention=False, skip_attention_scores=True, skip_ff=False)
        ]), "Make two terms",
    ),
    "axes mixed": (
        lambda: SLG(4.0, 1.0, 0.1, 1.0, skip_layer_config=[
            LayerSkipConfig([1]), LayerSkipConfig([2], fqn="temporal_transformer_blocks")
        ]), "along each of joint, temporal",
    ),
    "no configuration": (lambda: SLG(4.0, 1.0, 0.1, 1.0, skip_layer_config=[]), "is empty"),
    "negative layer": (lambda: SLG(4.0, 1.0, 0.1, 1.0, [-1]), "whole numbers from 0"),
    "SEG": (lambda: SEG(4.0, 1.5, seg_guidance_layers=[1, 2]), r"lab.CFG\(4\) \+ lab.STG\(1.5, lab.blur\(\[1, 2\]\)\)\."),
    "SEG, finite": (
        lambda: SEG(4.0, 1.5, 3.0, seg_guidance_config=SmoothedEnergyGuidanceConfig([1]), seg_guidance_stop=0.5),
        r"lab.STG\(1.5, lab.blur\(\[1\], sigma=3.0\), stop=0.5\)",
    ),
    "APG of diffusers": (lambda: diffusers.AdaptiveProjectedGuidance(4.0), r"type lab.CFG\(4\).apg\(eta=1.0, norm=15.0\)\."),
    "APG over dimensions": (
        lambda: diffusers.AdaptiveProjectedGuidance(
            4.0, adaptive_projected_guidance_norm_dim=(-1, -2), use_original_formulation=True), "other dimensions",
    ),
    "zeros without CFG": (lambda: diffusers.ClassifierFreeZeroStarGuidance(1.0), "Take zero_init_steps=0"),
    "zeros before the window": (lambda: diffusers.ClassifierFreeZeroStarGuidance(4.0, start=0.1), "Take zero_init_steps=0"),
    "zeros rescaled": (
        lambda: diffusers.ClassifierFreeZeroStarGuidance(4.0, 1, 0.7), r"NaN.*\(lab.CFG\(4\).zero_star\(\)\).rescale\(0.7\)",
    ),
    "mixed projection": (
        diffusers.AdaptiveProjectedMixGuidance, r"u \+ 10 N, unless .*\.apg\(norm=10.0, momentum=-0.5, after=6\)\.",
    ),
    "LTX-2's modality": (lambda: diffusers.LTX2Guidance(3.0, modality_scale=3.0), "Take modality_scale=1"),
    "LTX-2 without blocks": (lambda: diffusers.LTX2Guidance(3.0, stg_scale=1.0), "names no blocks"),
    "extrapolated rescaling": (lambda: diffusers.ClassifierFreeGuidance(4.0, 1.5), r"0 \(off\) to 1 \(full\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_guider_that_does_not_do_what_it_says_is_refused_with_what_to_type(name):
    make, says = REFUSED[name]
    with pytest.raises(lab.GuidanceError, match=says):
        from_guider(make(), steps=24)


def test_the_defects_are_still_there():
    """Refusals rest on these facts of diffusers 0.42.1; where one is mended, its refusal can go."""
    c, u, p = predictions(0)
    by_name = {"pred_cond": c, "pred_uncond": u, "pred_cond_skip": p, "pred_cond_seg": p}
    every = {"skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 1.0}
    assert torch.equal(guider_prediction(SLG(4.0, 1.5, **every, **BLOCKS), 0, 4, by_name), u + 4 * (c - u))
    off = SLG(1.0, 1.5, **every, **BLOCKS)
    off.set_state(1, 4, None)
    [_, second] = off.prepare_inputs({"prompt": (torch.zeros(1), torch.ones(1))})
    assert second.prompt == 1  # the negative prompt
    off._count_prepared = 2
    assert not off.is_conditional  # so no hook
    seg = SEG(4.0, 1.5, seg_guidance_layers=[1])
    seg.set_state(1, 4, None)
    for _ in range(3):
        seg.prepare_models(torch.nn.Identity())  # would fail if it looked for blocks
    zeros = diffusers.ClassifierFreeZeroStarGuidance(4.0, 1, 0.7)
    assert guider_prediction(zeros, 0, 4, by_name).isnan().all()


def test_other_things_are_refused_as_before(tiny):
    for other in (4.0, "CFG(4)", lab.skip([1])):
        with pytest.raises(lab.GuidanceError, match="guidance must be a sum"):
            tiny.sample(other)


def test_a_class_of_ones_own_is_refused():
    class Mine(diffusers.ClassifierFreeGuidance):
        pass

    with pytest.raises(lab.GuidanceError, match="Mine is none of diffusers' own classes"):
        from_guider(Mine())
    with pytest.raises(lab.GuidanceError, match=r"from_guider takes a guider of diffusers.*got CFG"):
        from_guider(CFG(4))
    with pytest.raises(lab.GuidanceError, match="steps is a whole number from 1, got 0"):
        from_guider(diffusers.ClassifierFreeGuidance(), steps=0)


# ---- lists of blocks ----


def slg(fqn):
    return SLG(4.0, 1.0, 0.1, 1.0, skip_layer_config=LayerSkipConfig(indices=[1], fqn=fqn))


@pytest.mark.parametrize(
    ("family", "fqn", "axis"),
    [
        ("wan", "auto", "joint"), ("wan", "blocks", "joint"), ("mochi", "auto", "joint"),
        ("cogvideox", "transformer_blocks", "joint"), ("latte", "transformer_blocks", "spatial"),
        ("latte", "temporal_transformer_blocks", "temporal"),
    ],
)  # fmt: skip
def test_a_list_of_blocks_is_looked_up_in_the_pipeline(family, fqn, axis):
    guidance = from_guider(slg(fqn), steps=8, pipe=member(family).pipe)
    assert guidance.terms[1].weak == Skip((1,), axis=axis)


@pytest.mark.parametrize(
    ("family", "fqn", "says"),
    [
        (
            "latte",
            "auto",
            "transformer_blocks and temporal_transformer_blocks, of which diffusers takes the one that a set",
        ),
        ("svd", "auto", r"no list of transformer blocks.*Type lab.STG\(scale, lab.skip\(\[5\]\)\)"),
        ("wan", "transformer_blocks", "no list of the layers of WanPipeline. It has: blocks"),
    ],
)
def test_a_list_that_is_not_there_or_not_clear_is_refused(family, fqn, says):
    with pytest.raises(lab.GuidanceError, match=says):
        from_guider(slg(fqn), steps=8, pipe=member(family).pipe)


def test_two_lists_with_the_same_layers_are_the_layers_themselves():
    both = [LayerSkipConfig([1], fqn="transformer_blocks"), LayerSkipConfig([1], fqn="temporal_transformer_blocks")]
    guider = SLG(4.0, 1.0, 0.1, 1.0, skip_layer_config=both)
    assert from_guider(guider, steps=8, pipe=member("latte").pipe).terms[1].weak == lab.skip([1])
