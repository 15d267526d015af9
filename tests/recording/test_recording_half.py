"""float16 recordings keep three digits of predictions and of x0 alike, whatever the model predicts."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from diffusers import DDIMScheduler
from kit.older import as_older

import stg_lab as lab
from stg_lab.families.noise import noise_level
from stg_lab.recording import Recorder
from stg_lab.recording.layout import MARK, X0_KEPT
from stg_lab.x0 import PREDICTION_TYPES, OneStep, one_step

SHAPE = (2, 4, 3, 8, 8)
BRANCHES = ("cond", "skip", "guided")
SIGMAS = {
    "flow": (0.999, 0.7, 0.3, 0.01),
    "flow_reversed": (0.001, 0.3, 0.7, 0.99),
    "epsilon_sigma": (157.4, 14.6, 1.5, 0.03),
    "v_prediction_sigma": (700.0, 14.6, 1.5, 0.002),
    "sample_sigma": (80.0, 5.0, 1.0, 0.01),
}
ALPHAS = (4e-5, 0.01, 0.5, 0.9999)  # the first is where digits-factorised and Latte begin


def levels(kind):
    name = "sigma" if kind in SIGMAS else "alpha"
    return [one_step(kind, **{name: value}) for value in SIGMAS.get(kind, ALPHAS)]


def sizes(kind):
    """Of x_t at each level: where x_t = x0 + sigma eps it grows with sigma, elsewhere it is one."""
    return [max(1.0, sigma) if kind.endswith("_sigma") else 1.0 for sigma in SIGMAS.get(kind, ALPHAS)]


def write(path, steps, dtype="float16", sizes=(1.0,)):
    """A recording of x_t and predictions from which x0 is of unit size; returns them, float32."""
    rng = np.random.default_rng(0)
    x_t = np.stack([rng.standard_normal(SHAPE) * size for size in np.broadcast_to(sizes, len(steps))]).astype(
        np.float32
    )
    x0 = rng.standard_normal((len(steps), len(BRANCHES), *SHAPE)).astype(np.float32)
    predictions = np.stack([(x0[k] - s.sample * x_t[k]) / s.prediction for k, s in enumerate(steps)]).astype(np.float32)
    predictions[1, BRANCHES.index("skip")] = np.nan  # not computed there
    recorder = Recorder(path, dtype=dtype)
    recorder.start(
        steps=len(steps), branches=BRANCHES, shape=SHAPE, settings={}, samples={"caption": ["", ""], "seed": [0, 1]}
    )
    for k, step in enumerate(steps):
        level = {"timestep": k, "sigma": 0.5, "x0_sample": step.sample, "x0_prediction": step.prediction}
        given = {b: p for b, p in zip(BRANCHES, predictions[k], strict=True) if not np.isnan(p).any()}
        recorder.write(level, x_t[k], given)
    recorder.finish(x_t[0])
    return x_t, predictions


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_x0_and_predictions_are_off_by_no_more_than_the_rounding_of_what_they_are_made_of(kind, tmp_path):
    steps = levels(kind)
    x_t, predictions = write(tmp_path / "half.zarr", steps, sizes=sizes(kind))
    recording = lab.open(tmp_path / "half.zarr")
    assert np.array_equal(recording.ds.x_t, x_t.astype(np.float16))
    for k, step in enumerate(steps):
        # In float64, with room for what float32 rounds of a * x_t. What x_t adds is divided by b where x0 is kept.
        exact, added = step(x_t[k].astype(np.float64), predictions[k].astype(np.float64)), abs(step.sample * x_t[k])
        rounded = np.fmax(abs(exact), abs(predictions[k])) + min(1.0, 1 / abs(step.prediction)) * added
        allowed = 2.0**-11 * rounded + 2.0**-21 * added + 1e-7
        for b, name in enumerate(BRANCHES):
            kept, x0 = (get(name).isel(step=k).values for get in (recording.prediction, recording.x0))
            if (name, k) == ("skip", 1):
                assert np.isnan(kept).all()
                assert np.isnan(x0).all()
                continue
            assert (abs(kept - predictions[k, b]) <= allowed[b]).all()
            assert (abs(x0 - exact[b]) <= allowed[b]).all()


@pytest.mark.parametrize("kind", ["epsilon", "epsilon_sigma"])
def test_predictions_rounded_by_themselves_would_not_do(kind, tmp_path):
    """Else the test above would prove nothing."""
    step = levels(kind)[0]
    x_t, predictions = write(tmp_path / "half.zarr", [step] * 2, sizes=sizes(kind)[0])
    naive = step(x_t[0].astype(np.float64), predictions[0].astype(np.float16).astype(np.float64))
    exact = step(x_t[0].astype(np.float64), predictions[0].astype(np.float64))
    x0 = np.stack([lab.open(tmp_path / "half.zarr").x0(name).isel(step=0) for name in BRANCHES])
    off, off_naive = (np.linalg.norm(x - exact) / np.linalg.norm(exact) for x in (x0, naive))
    assert off_naive > 0.02
    assert off < 4e-4


def test_a_run_of_an_epsilon_model_is_kept_to_three_digits_from_its_first_step_on(tmp_path):
    pipe = lab.load("digits-factorised")
    pipe.set_progress_bar_config(disable=True)
    call = {"guidance": lab.CFG(3.0), "seed": 0, "prompt": "a red seven moving left", "num_inference_steps": 6}
    full = lab.sample(pipe, **call).recording
    half = lab.sample(pipe, record_dtype="float16", record=tmp_path / "half.zarr", **call).recording
    assert full.ds.x0_sample[0] > 100
    for name in full.branches:
        for get in ("x0", "prediction"):
            exact, kept = getattr(full, get)(name).values, getattr(half, get)(name).values
            for k in range(full.steps):
                assert np.linalg.norm(kept[k] - exact[k]) < 5e-4 * np.linalg.norm(exact[k]), (name, get, k)
    vector, rounded = full.delta("uncond"), half.delta("uncond")
    assert abs(rounded - vector).max() < 1e-3 * abs(full.prediction("cond")).max()
    weighed = [r.reweight(lab.CFG(5.0)) for r in (full, half)]
    assert np.linalg.norm(weighed[1] - weighed[0]) < 5e-3 * np.linalg.norm(weighed[0])
    assert half.video("cond", step=0) == pytest.approx(full.video("cond", step=0), abs=2e-3)
    assert half.ds.prediction.chunks is not None  # still lazy
    size = sum(sum(f.stat().st_size for f in r.path.rglob("*") if f.is_file()) for r in (half,))
    assert size < 0.6 * sum(f.stat().st_size for f in full.path.rglob("*") if f.is_file())


def test_a_step_without_any_signal_keeps_its_prediction(tmp_path):
    """x0 of an epsilon model at alpha = 0 is not finite, and its prediction is."""
    scheduler = DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(4)
    step = noise_level(scheduler, scheduler.timesteps[0]).one_step
    predictions = np.ones((2, *SHAPE), np.float32) / 3
    recorder = Recorder(tmp_path / "a.zarr", dtype="float16")
    recorder.start(steps=1, branches=("cond",), shape=SHAPE, settings={}, samples={"caption": ["", ""]})
    level = {"timestep": 0, "sigma": 0.5, "x0_sample": step.sample, "x0_prediction": step.prediction}
    recorder.write(level, predictions[0], {"cond": predictions[0]})
    recorder.finish(predictions[0])
    kept = lab.open(tmp_path / "a.zarr").prediction("cond").values[0]
    assert (abs(kept - predictions[0]) < 2.0**-11).all()


# ---- what other versions make of them ----


def test_older_readers_refuse_later_recordings(tmp_path):
    """They would take x0 for predictions, and look for a file of each coordinate of each step."""
    for dtype in ("float32", "float16"):
        write(tmp_path / dtype, levels("epsilon"), dtype)
        assert json.loads((tmp_path / dtype / "zarr.json").read_text())["attributes"][MARK] == 3


def test_a_float16_recording_that_lost_what_tells_the_two_apart_is_damaged(tmp_path):
    write(tmp_path / "half.zarr", levels("epsilon"))
    shutil.rmtree(tmp_path / "half.zarr" / X0_KEPT)
    with pytest.raises(lab.RecordingError, match=r"half.zarr is damaged: x0_kept is gone"):
        lab.open(tmp_path / "half.zarr")


def test_float16_recordings_of_older_versions_open_as_they_were(tmp_path, monkeypatch):
    """Everything in them is float16, and nothing is said of x0."""
    plan = Recorder._plan

    def older(self, *args):
        half = {n: dataclasses.replace(p, dtype="float16") for n, p in plan(self, *args).items() if len(p.shape) > 3}
        return plan(self, *args) | half

    monkeypatch.setattr(Recorder, "_plan", older)
    x_t, predictions = write(tmp_path / "old.zarr", levels("epsilon"), "float32")
    shutil.rmtree(as_older(tmp_path / "old.zarr", mark=1) / X0_KEPT)
    recording = lab.open(tmp_path / "old.zarr")
    assert recording.record_dtype == "float16"
    assert np.array_equal(recording.ds.x_t, x_t.astype(np.float16))
    assert np.array_equal(recording.ds.prediction, predictions.astype(np.float16), equal_nan=True)
    step = OneStep(*(float(recording.ds[f"x0_{name}"][0]) for name in ("sample", "prediction")))
    expected = step(x_t[0].astype(np.float16).astype(float), predictions[0, 0].astype(np.float16).astype(float))
    assert np.allclose(recording.x0("cond")[0], expected, rtol=1e-4, atol=1e-3)
