"""The CFG scale that a pipeline itself used, where it is not one for the whole run: recorded at every step, and read from there.

Wan 2.2 has a second scale for its second transformer, CogVideoX may change its scale at every step, SVD has one for each
frame. The truth is measured in the recorded predictions: guided = u + scale (c - u).
"""

import shutil
import warnings

import numpy as np
import pytest
import torch
from kit.figures import films, labels
from kit.older import as_older
from kit.trust import attached, tensor
from kit.watch import branch
from kit.zoo import STEPS, member

import stg_lab as lab
from stg_lab.analysis import recorded_scales

WEAK = lab.skip([1])
WAN = {"guidance_scale": 4.0, "guidance_scale_2": 2.0}


def measured(recording):
    """The scale of each step, by least squares over its predictions."""
    scales = []
    for step in range(recording.steps):
        c, u, g = (branch(recording, name, step).double() for name in ("cond", "uncond", "guided"))
        scales.append(float(((g - u) * (c - u)).sum() / ((c - u) ** 2).sum()))
    return scales


@pytest.fixture(scope="module")
def dynamic():
    return member("cogvideox").sample(None, guidance_scale=6.0, use_dynamic_cfg=True, seed=0).recording


@pytest.fixture(scope="module")
def second(wan22):
    return wan22.sample(None, **WAN, seed=0).recording


@pytest.fixture(params=["dynamic", "second"])
def recording(request):
    return request.getfixturevalue(request.param)


def test_the_scale_of_each_step_is_recorded(recording):
    truth = measured(recording)
    assert max(truth) - min(truth) > 1
    np.testing.assert_allclose(recording.ds.guidance_scale.values, truth, rtol=1e-5)
    scales, _ = recorded_scales(recording)
    np.testing.assert_allclose(scales.sel(vector="uncond").values, truth, rtol=1e-5)


def test_the_setting_is_what_the_call_asked_for(dynamic, second):
    assert dynamic.settings["guidance_scale"] == 6.0
    assert second.settings["guidance_scale"] == 4.0


@pytest.mark.parametrize(
    "guidance",
    [lab.STG(1.5, WEAK), lab.CFG(4) + lab.STG(1.5, WEAK), lab.CFG(4, stop=0.75) + lab.STG(1.5, WEAK)],
    ids=str,
)
def test_recorded_scales_and_reweighting_are_what_was_stepped_with(wan22, guidance):
    guidance = lab.Guidance() + guidance
    call = WAN if not guidance.has_cfg else {"guidance_scale_2": 2.0}
    recording = wan22.sample(guidance, **call, seed=0).recording
    scales, phi = recorded_scales(recording)
    assert phi == 0
    for step in range(recording.steps):
        c, u, p, guided = (branch(recording, name, step) for name in ("cond", "uncond", "skip", "guided"))
        w, s = (float(scales.sel(vector=name)[step]) for name in ("uncond", "skip"))
        torch.testing.assert_close(c + (w - 1) * (c - u) + s * (c - p), guided, rtol=1e-5, atol=1e-5)
    if guidance.has_cfg:
        again = recording.reweight(guidance).values
        np.testing.assert_allclose(again, recording.prediction("guided").values, rtol=1e-5, atol=1e-5)


def test_a_step_without_cfg_has_scale_1(wan22):
    recording = wan22.sample(None, guidance_scale=1.0, seed=0).recording
    assert list(recording.ds.guidance_scale.values) == [1.0] * recording.steps


def test_an_older_recording_has_the_scale_of_its_settings(second, tmp_path):
    old = tmp_path / "old.zarr"
    as_older(shutil.copytree(second.path, old))
    shutil.rmtree(old / "guidance_scale")
    assert list(lab.open(old).ds.guidance_scale.values) == [4.0] * second.steps
    assert list(recorded_scales(lab.open(old))[0].sel(vector="uncond").values) == [4.0] * second.steps


@pytest.mark.parametrize("name", ["repair_both", "repair_unguided", "space_time", "weak_models"])
def test_recordings_that_ship_are_read_as_before(name):
    recording = lab.open(name)
    scale = recording.settings["guidance_scale"]
    assert list(recording.ds.guidance_scale.values) == [scale] * recording.steps


def test_a_fork_keeps_the_scales_of_the_steps_before(wan22):
    run = wan22.sample(None, guidance_scale=4.0, seed=0)
    forked = lab.fork(run, 2, lab.CFG(6.0), pipe=wan22.pipe).recording
    assert list(forked.ds.guidance_scale.values) == [4.0, 4.0, 6.0, 6.0]
    np.testing.assert_allclose(measured(forked), [4.0, 4.0, 6.0, 6.0], rtol=1e-5)


# ---- what is drawn from it ----


@pytest.fixture(scope="module")
def svd():
    one = member("svd")
    call = {k: v for k, v in one.call.items() if k != "max_guidance_scale"}
    guidance = lab.CFG(3.0) + lab.STG(1.0, WEAK)
    return lab.sample(one.pipe, guidance=guidance, seed=0, num_inference_steps=STEPS, **call)


def test_the_weak_model_figure_has_the_scale_of_each_frame(svd):
    figure = lab.figures.weak_model(svd, step=1)
    rows = labels(figure)
    assert rows[3] == "(d) CFG 1 to 3 over the frames"
    assert rows[5] == "(f) final video, CFG 1 to 3 over the frames alone"
    recording = svd.recording
    c, u = (recording.prediction(name).isel(step=1).values for name in ("cond", "uncond"))
    cfg = u + np.array([1, 2, 3], np.float32)[:, None, None] * (c - u)
    x0 = recording.x0(recording.prediction("cond").isel(step=[1]) * 0 + cfg)
    shown = films(figure, len(rows))[3]
    expected = lab.decode(svd.pipe, x0.isel(step=0).values)[0]
    np.testing.assert_allclose(shown, expected, atol=1e-5)


def test_the_weak_model_figure_has_the_scale_of_its_step(wan22):
    recording = wan22.sample(lab.STG(1.0, WEAK), **WAN, seed=0, output_type="np").recording
    assert labels(lab.figures.weak_model(recording, step=1))[3] == "(d) CFG 4"
    assert labels(lab.figures.weak_model(recording, step=3))[3] == "(d) CFG 2"


def test_explorers_say_how_the_scale_changes(svd, wan22):
    rows = {row["name"]: row["note"] for row in lab.widgets.x0_explorer(svd.recording).view["rows"]}
    assert rows["cfg"].endswith("g 1 to 3 over the frames")
    assert "1 to 3 over the frames; the slider sets one" in lab.widgets.guidance_explorer(svd).view["note"]
    recording = wan22.sample(lab.STG(1.0, WEAK), **WAN, seed=0, output_type="np").recording
    rows = {row["name"]: row["note"] for row in lab.widgets.x0_explorer(recording).view["rows"]}
    assert rows["cfg"].endswith("g 2 to 4 over the steps")
    vectors = {v["name"]: v for v in lab.widgets.guidance_explorer(recording).view["vectors"]}
    assert vectors["uncond"]["recorded"] == [4, 4, 2, 2]


# ---- pipelines that do something else than CFG on the way ----


def turning(one):
    """Call arguments with which the pipeline rescales its prediction from step 1 on."""

    def rescale(pipe, step, timestep, given):
        pipe._guidance_rescale = 0.7
        return given

    return {**one.call, "callback_on_step_end": rescale}


@pytest.fixture
def ltx():
    one = member("ltx")
    one.call = turning(one)
    return one


def test_a_recording_says_from_where_on_it_is_no_cfg(ltx):
    stock = tensor(ltx.stock())
    with pytest.warns(UserWarning, match="from step 1 on LTXPipeline does not step with.*recording only") as told:
        recorded, trace = attached(ltx)
    assert len([w for w in told if "recording only" in str(w.message)]) == 1
    assert trace.rebuilt is False
    assert trace.recording.complete
    assert torch.equal(recorded, stock)


def test_guidance_is_not_put_in_the_place_of_something_else(ltx):
    told = "from step 1 on LTXPipeline does not step with.*Record only"
    with pytest.raises(lab.GuidanceError, match=told):
        attached(ltx, lab.STG(1.0, WEAK))
    with (
        pytest.warns(UserWarning, match="from step 1 on"),
        pytest.raises(lab.GuidanceError, match="from step 2 on LTXPipeline does not step with"),
    ):
        attached(ltx, lab.STG(1.0, WEAK, start=2 / STEPS))


def test_guidance_that_ends_before_is_left_alone(ltx):
    with pytest.warns(UserWarning, match="from step 1 on"):
        _, trace = attached(ltx, lab.STG(1.0, WEAK, stop=1 / STEPS))
    assert trace.recording.complete
    c, u, p, guided = (branch(trace.recording, name, 0) for name in ("cond", "uncond", "skip", "guided"))
    assert torch.equal(guided, u + 3.0 * (c - u) + (c - p))


@pytest.mark.parametrize("guidance", [None, lab.STG(1.0, lab.skip([1], part="attention"))])
def test_a_scale_that_changes_is_still_cfg(guidance, wan22):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*does not step with")
        _, trace = attached(member("cogvideox"), guidance, use_dynamic_cfg=True, guidance_scale=6.0)
        assert trace.rebuilt
        with lab.attach(wan22.pipe, guidance=guidance) as trace:
            wan22.stock(**WAN)
        assert trace.rebuilt


@pytest.mark.parametrize("cfg", [lab.CFG(6.0).apg(), lab.CFG(lambda done: 6 - done)], ids=["rule", "schedule"])
def test_a_scale_that_changes_is_not_replaced_unsaid(cfg):
    one, made = member("cogvideox"), []
    one.pipe.transformer.register_forward_pre_hook(lambda *_: made.append(1))
    with pytest.raises(lab.GuidanceError, match=r"use_dynamic_cfg=True .* would replace"):
        one.sample(cfg, use_dynamic_cfg=True)
    assert not made
    one.sample(lab.CFG(6.0, stop=0.5), use_dynamic_cfg=True)
    assert made


@pytest.mark.parametrize("cfg", [lab.CFG(6.0).apg(), lab.CFG(lambda done: 6 - done)], ids=["rule", "schedule"])
def test_attach_finds_it_at_the_first_step(cfg):
    """It does not see the call's arguments, but the scale has changed once the denoiser has answered."""
    one, made = member("cogvideox"), []
    one.pipe.transformer.register_forward_pre_hook(lambda *_: made.append(1))
    with pytest.raises(lab.GuidanceError, match=r"use_dynamic_cfg=True .* would replace"):
        attached(one, cfg, use_dynamic_cfg=True, guidance_scale=6.0)
    assert len(made) == 1
