"""The scale sweep shows what the recordings hold, and what the one equation gives at other scales."""

import numpy as np
import pytest
from kit.figures import films, words

import stg_lab as lab
from stg_lab.digits.pipeline import build_joint

SKIP, OTHER = lab.skip([3]), lab.skip([5], part="attention")
CALL = {"prompt": "a red seven moving left", "num_inference_steps": 3}


@pytest.fixture(scope="module")
def pipe():
    pipe = build_joint(seed=1)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def runs(pipe):
    guidances = [lab.CFG(3), lab.CFG(3) + lab.STG(1, SKIP), lab.CFG(3) + lab.STG(2.5, SKIP)]
    return [lab.sample(pipe, guidance=g, **CALL) for g in guidances]


def clip_of(rec, prediction, step):
    """The one-step prediction, by the formula of flow matching."""
    x0 = rec.ds.x_t[step].values - float(rec.ds.sigma[step]) * prediction
    return rec.preview(x0)[0]


def test_runs_show_their_final_videos_labelled_by_the_scale_that_differs(runs):
    figure = lab.figures.scale_sweep(runs)
    assert [w for w in words(figure) if w.startswith("(")] == ["(a) STG 0", "(b) STG 1", "(c) STG 2.5"]
    rows = films(figure, 3)
    for row, run in zip(rows, runs, strict=True):
        np.testing.assert_allclose(row, run.video[0], atol=1e-6)


def test_by_scale_or_at_a_step(runs):
    figure = lab.figures.scale_sweep({0: runs[0], 1.0: runs[1], "more": runs[2].recording}, step=1)
    assert [w for w in words(figure) if w.startswith("(")] == ["(a) scale 0", "(b) scale 1", "(c) more"]
    for row, run in zip(films(figure, 3), runs, strict=True):
        rec = run.recording
        guided = rec.ds.prediction.sel(branch="guided")[1].values
        np.testing.assert_allclose(row, clip_of(rec, guided, 1), atol=1e-5)


def test_one_recording_gives_other_scales_exactly(runs):
    rec = runs[1].recording
    figure = lab.figures.scale_sweep(lab.open(rec.path), scales=[0, 1, 4], step=2)
    assert [w for w in words(figure) if w.startswith("(")] == ["(a) STG 0", "(b) STG 1 (as sampled)", "(c) STG 4"]
    assert any("exact one-step predictions at step 2 of 3" in w for w in words(figure))
    p = {b: rec.ds.prediction.sel(branch=b)[2].values for b in rec.branches}
    for row, s in zip(films(figure, 3), (0, 1, 4), strict=True):
        guided = p["uncond"] + 3 * (p["cond"] - p["uncond"]) + s * (p["cond"] - p["skip"])
        np.testing.assert_allclose(row, clip_of(rec, guided, 2), atol=1e-5)
    np.testing.assert_allclose(films(figure, 3)[1], clip_of(rec, p["guided"], 2), atol=1e-5)


def test_cfg_or_a_probe_may_be_turned(pipe):
    look = lab.CFG(3) + lab.Probe(SKIP) + lab.Probe(OTHER)
    rec = lab.sample(pipe, guidance=look, **CALL).recording
    p = {b: rec.ds.prediction.sel(branch=b)[0].values for b in rec.branches}
    for vary, weak, scale in (("CFG", None, 6), (SKIP, "skip:block:3", 2), ("skip:attention:5", "skip:attention:5", 2)):
        cfg = p["uncond"] + (scale if weak is None else 3) * (p["cond"] - p["uncond"])
        guided = cfg if weak is None else cfg + scale * (p["cond"] - p[weak])
        figure = lab.figures.scale_sweep(rec, scales=[scale], vary=vary, step=0)
        np.testing.assert_allclose(films(figure, 1)[0], clip_of(rec, guided, 0), atol=1e-5)
    with pytest.raises(lab.CallError, match=r"Say vary=.*'CFG', 'skip:block:3', 'skip:attention:5'"):
        lab.figures.scale_sweep(rec, scales=[1, 2])
    with pytest.raises(lab.CallError, match="was not recorded"):
        lab.figures.scale_sweep(rec, scales=[1, 2], vary=lab.skip([1]))


def test_rules_that_remember_see_the_steps_before(pipe):
    guidance = lab.CFG(3) + lab.STG(1, SKIP).apg(0.5, momentum=-0.5)
    rec = lab.sample(pipe, guidance=guidance, **CALL).recording
    figure = lab.figures.scale_sweep(rec, scales=[1], step=2)
    guided = rec.ds.prediction.sel(branch="guided")[2].values
    np.testing.assert_allclose(films(figure, 1)[0], clip_of(rec, guided, 2), atol=1e-5)


def test_one_frame_puts_scales_side_by_side(runs):
    figure = lab.figures.scale_sweep(runs[1].recording, scales=[0, 1, 2, 4], frames=1, width="column")
    pictures = [ax.images[0].get_array() for ax in figure.axes]
    assert len(pictures) == 4
    assert len({round(ax.get_position().y0, 9) for ax in figure.axes}) == 1
    strips = films(lab.figures.scale_sweep(runs[1].recording, scales=[0, 1, 2, 4], frames=9), 4)
    for picture, strip in zip(pictures, strips, strict=True):
        np.testing.assert_array_equal(picture, strip[4])
    assert {"STG 0", "STG 1 (as sampled)", "STG 2", "STG 4"} <= set(words(figure))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scales": None}, "needs scales="),
        ({"scales": []}, r"list that is not empty, got \[\]. Type for example scales=\[0, 0.5, 1, 2\]"),
        ({"scales": [1], "step": 3}, "step 3 is out of range"),
        ({"scales": [1], "sample": 1}, "sample 1 is out of range"),
        ({"scales": [1], "vary": "skp"}, "Did you mean 'skip'"),
        ({"scales": [1], "frames": 0}, "whole number from 1"),
        ({"scales": [1], "width": "colum"}, "Did you mean 'column'"),
    ],
)
def test_what_cannot_be_is_refused(runs, wrong, message):
    with pytest.raises((lab.CallError, lab.RecordingError), match=message):
        lab.figures.scale_sweep(runs[1].recording, **wrong)


def test_runs_that_differ_otherwise_are_refused(pipe, runs):
    other = lab.sample(pipe, guidance=lab.CFG(3), seed=5, **CALL)
    with pytest.raises(lab.CallError, match=r"different seeds \(0, 5\)"):
        lab.figures.scale_sweep([runs[0], other])
    with pytest.raises(lab.CallError, match="two runs or recordings or more, got 1"):
        lab.figures.scale_sweep([runs[0]])
    with pytest.raises(lab.CallError, match="for one recording"):
        lab.figures.scale_sweep(runs, scales=[1])


def test_a_step_at_which_the_term_did_not_act_is_refused(pipe):
    rec = lab.sample(pipe, guidance=lab.CFG(3) + lab.STG(1, SKIP, stop=0.5), **CALL).recording
    with pytest.raises(lab.RecordingError, match="was not computed at step 2"):
        lab.figures.scale_sweep(rec, scales=[1, 2], step=2)
