"""A recording holds what happened, lazily, and says how it was made."""

import gc
import json

import numpy as np
import pytest
import torch
import xarray as xr
from kit.watch import captured

import stg_lab as lab
from stg_lab.preview import Preview
from stg_lab.recording import Recorder
from stg_lab.weak import parse

GUIDANCE = lab.CFG(4) + lab.STG(1, lab.skip([1]), stop=0.5)
PROMPTS = ["a red seven moving left", "a blue two growing"]
SHAPE = (2, 3, 2, 4, 5)  # sample, channel, frame, y, x


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "run.zarr"
    return tiny.sample(GUIDANCE, prompt=PROMPTS, seed=3, record=path, output_type="np")


@pytest.fixture(scope="module")
def rec(run):
    return lab.open(run.recording.path)


def write(
    path, *, steps=3, dtype="float32", branches=("cond", "guided"), captions=("one", "two"), settings=None, **rest
):
    """A recording made by hand; returns what was written."""
    rng = np.random.default_rng(0)
    x_t = rng.standard_normal((steps, *SHAPE)).astype(np.float32)
    predictions = rng.standard_normal((steps, len(branches), *SHAPE)).astype(np.float32)
    recorder = Recorder(path, dtype=dtype)
    recorder.start(
        steps=steps,
        branches=branches,
        shape=SHAPE,
        settings=settings or {},
        samples={"caption": list(captions)},
        **rest,
    )
    for k in range(steps):
        level = {"timestep": 900.0 - k, "sigma": 0.9 - 0.1 * k, "x0_sample": 1.0, "x0_prediction": 0.1 * k - 0.9}
        recorder.write(level, x_t[k], dict(zip(branches, predictions[k], strict=True)))
    recorder.finish(x_t[0])
    return x_t, predictions


def test_what_is_written_is_read_back_bit_for_bit(tmp_path):
    x_t, predictions = write(tmp_path / "a.zarr", settings={"deep": {"list": [1, 2.5, None, "ü"]}})
    rec = lab.open(tmp_path / "a.zarr")
    assert np.array_equal(rec.ds.x_t, x_t)
    assert np.array_equal(rec.ds.prediction, predictions)
    assert np.array_equal(rec.ds.final, x_t[0])
    assert np.array_equal(rec.ds.sigma, [0.9, 0.8, 0.9 - 0.2])
    assert rec.ds.timestep.values.tolist() == [900.0, 899.0, 898.0]
    assert rec.settings == {"deep": {"list": [1, 2.5, None, "ü"]}}
    assert (rec.branches, rec.captions, rec.steps, rec.complete) == (["cond", "guided"], ["one", "two"], 3, True)
    assert rec.ds.x_t.dims == ("step", "sample", "channel", "frame", "y", "x")
    assert rec.ds.prediction.dims == ("step", "branch", "sample", "channel", "frame", "y", "x")


def test_half_precision_is_the_rounded_run_at_half_the_size(tiny, run, tmp_path):
    half = tiny.sample(
        GUIDANCE, prompt=PROMPTS, seed=3, record=tmp_path / "half.zarr", record_dtype="float16"
    ).recording
    full = run.recording
    assert half.record_dtype == "float16"
    for name in ("x_t", "final", "prediction"):
        assert half.ds[name].dtype == np.float16
        assert np.array_equal(half.ds[name], full.ds[name].values.astype(np.float16), equal_nan=True)
    assert half.prediction("cond").dtype == half.x0("cond").dtype == np.float32
    assert half.ds.prediction.nbytes * 2 == full.ds.prediction.nbytes


def test_zeros_are_kept_apart_from_branches_that_were_not_computed(tmp_path):
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.start(steps=1, branches=("cond", "skip"), shape=SHAPE, settings={}, samples={"caption": ["", ""]})
    level = dict.fromkeys(("timestep", "sigma", "x0_sample", "x0_prediction"), 0.0)
    recorder.write(level, np.zeros(SHAPE), {"cond": np.zeros(SHAPE)})
    recorder.finish(np.zeros(SHAPE))
    rec = lab.open(tmp_path / "a.zarr")
    assert (rec.ds.x_t == 0).all()
    assert (rec.prediction("cond") == 0).all()
    assert (rec.ds.final == 0).all()
    assert rec.ds.sigma.values.tolist() == [0.0]
    assert np.isnan(rec.prediction("skip")).all()


def test_a_run_that_diverged_can_be_opened_and_looked_at(tmp_path):
    """Overflow gives NaN states; that is a result, not damage."""
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.start(steps=2, branches=("cond",), shape=SHAPE, settings={}, samples={"caption": ["", ""]})
    level = dict.fromkeys(("timestep", "sigma", "x0_sample", "x0_prediction"), 0.5)
    for value in (1.0, np.nan):
        recorder.write(level, np.full(SHAPE, value), {"cond": np.full(SHAPE, np.nan)})
    recorder.finish(np.full(SHAPE, np.nan))
    rec = lab.open(tmp_path / "a.zarr")
    assert (rec.steps, rec.complete) == (2, True)
    assert np.isnan(rec.ds.x_t.values[1]).all()


def test_the_record_is_of_the_states_and_branches_of_the_run(tiny, rec):
    with captured(tiny.pipe) as calls:
        tiny.sample(GUIDANCE, prompt=PROMPTS, seed=3, record=False)
    for step in range(rec.steps):
        module, args, kwargs = calls.made[2 * step]
        with torch.no_grad():
            assert np.array_equal(rec.prediction("cond").values[step], module(*args, **kwargs)[0].numpy())
        assert np.array_equal(rec.ds.x_t.values[step], kwargs["hidden_states"].numpy())
    assert np.array_equal(rec.ds.sigma.values, tiny.pipe.scheduler.sigmas[:-1].double().numpy())


def test_settings_say_how_the_run_was_made(rec):
    s = rec.settings
    json.dumps(s)
    assert s["captions"] == rec.captions == PROMPTS
    assert s["seed"] == 3
    assert rec.ds.seed.values.tolist() == [3, 4]
    assert (s["pipeline"], s["family"], s["device"], s["dtype"]) == ("WanPipeline", "Wan", "cpu", "float32")
    assert s["guidance_text"] == "CFG(4) + STG(1, skip:block:1, stop=0.5)"
    assert lab.Guidance.from_dict(s["guidance"], parse) == GUIDANCE
    assert s["call"] | {"num_inference_steps": 4, "height": 16, "guidance_scale": 4, "prompt": PROMPTS} == s["call"]
    assert s["scheduler"]["class"] == "FlowMatchEulerDiscreteScheduler"
    assert s["scheduler"]["shift"] == 3.0
    assert set(s["versions"]) >= {"python", "torch", "diffusers", "transformers", "xarray", "zarr", "numpy"}
    assert s["versions"]["torch"] == torch.__version__


def test_xarrays_own_exports_take_a_recording_with_its_settings(rec, tmp_path):
    rec.ds.to_netcdf(tmp_path / "run.nc")
    with xr.open_dataset(tmp_path / "run.nc") as back:
        assert json.loads(back.attrs["settings"]) == rec.settings == lab.open(rec.path).settings
        for name in ("x_t", "prediction", "final", "sigma", "caption", "branch", "seed"):
            np.testing.assert_array_equal(back[name].values, rec.ds[name].values)
    rec.x0("cond").to_netcdf(tmp_path / "x0.nc")
    assert isinstance(rec.settings, dict)


def test_arguments_that_a_file_cannot_hold_are_marked(tiny):
    recording = tiny.sample(lab.CFG(4), callback_on_step_end=lambda *_: {}, num_inference_steps=1).recording
    assert recording.settings["call"]["callback_on_step_end"] == {"not kept": "function"}
    json.dumps(recording.settings)


def test_nothing_is_loaded_until_it_is_asked_for(rec, tmp_path):
    import shutil

    copy = tmp_path / "copy.zarr"
    shutil.copytree(rec.path, copy)
    for chunk in [*(copy / "prediction").glob("c.*"), *(copy / "x_t").glob("c.*"), *(copy / "final").glob("c.*")]:
        chunk.write_bytes(b"not to be read")
    opened = lab.open(copy)
    lazy = [opened.x0("guided"), opened.delta("skip"), opened.delta("uncond"), opened.prediction("cond"), opened.ds.x_t]
    assert all(type(array.data).__module__.startswith("dask") for array in lazy)
    repr(opened), opened._repr_html_(), opened.settings, opened.captions
    for array in lazy:
        with pytest.raises(Exception):  # noqa: B017, PT011 (whatever the codec says of rubbish)
            array.compute()


def test_a_guidance_vector_is_cond_minus_the_branch(rec):
    c = rec.prediction("cond").values
    assert np.array_equal(rec.delta("skip"), c - rec.prediction("skip").values, equal_nan=True)
    assert np.array_equal(rec.delta("uncond"), c - rec.prediction("uncond").values)
    assert rec.delta("skip").name == "cond - skip"


@pytest.mark.parametrize(
    "ask", [lambda rec: rec.x0("skp"), lambda rec: rec.delta("skp"), lambda rec: rec.prediction("skp")]
)
def test_an_unknown_branch_is_named_with_a_hint(rec, ask):
    with pytest.raises(
        lab.GuidanceError, match=r"no branch 'skp'.*Did you mean 'skip'.*It has: cond, uncond, skip, guided"
    ):
        ask(rec)


def test_reweighting_to_the_runs_own_guidance_gives_its_guided_prediction_bit_for_bit(rec):
    again = rec.reweight(GUIDANCE)
    assert np.array_equal(again.values, rec.prediction("guided").values)
    assert again.dims == rec.prediction("guided").dims
    assert again.dtype == np.float32
    assert np.array_equal(again.sigma, rec.ds.sigma)


def test_x0_of_a_reweighted_prediction_is_x0_of_that_branch(rec):
    assert np.array_equal(rec.x0(rec.reweight(GUIDANCE)), rec.x0("guided"))


def test_reweighting_is_what_another_run_would_have_done_at_the_same_state(tiny, rec):
    other = lab.CFG(2) + lab.STG(3, lab.skip([1]), stop=0.25)
    run = tiny.sample(other, prompt=PROMPTS, seed=3)
    assert np.array_equal(rec.reweight(other).values[0], run.recording.prediction("guided").values[0])


def test_reweighting_with_rescaling_is_the_runs_own_to_rounding(tiny):
    guidance = (lab.CFG(4) + lab.STG(1, lab.skip([1]))).rescale(0.7)
    rec = tiny.sample(guidance).recording
    assert np.allclose(rec.reweight(guidance), rec.prediction("guided"), atol=1e-5)


def test_reweighting_towards_a_branch_that_is_not_there_is_refused(tiny):
    run = tiny.sample(lab.STG(1, lab.skip([1])), num_inference_steps=1)
    with pytest.raises(lab.GuidanceError, match="'uncond'"):
        run.recording.reweight(lab.CFG(2))


def test_reweighting_takes_a_weak_model_for_no_other(rec):
    """The branch is called `skip`, but it is of layer 1."""
    with pytest.raises(lab.GuidanceError, match=r"skip:block:2|skip\(\[2\]\)"):
        rec.reweight(lab.STG(1, lab.skip([2]), stop=0.5))


def test_reweighting_finds_each_weak_model_of_a_run_with_several(tiny):
    near, far = lab.skip([1]), lab.skip([2], part="attention")
    run = tiny.sample(lab.STG(1, near) + lab.STG(1, far), num_inference_steps=2)
    c, p = run.recording.prediction("cond").values, run.recording.prediction("skip:attention:2").values
    assert np.array_equal(run.recording.reweight(lab.STG(2, far)).values, c + 2 * (c - p))


def test_the_preview_is_the_pipelines_own_decoder(small_and_trained):
    run = small_and_trained.sample(GUIDANCE, output_type="np")
    rec = lab.open(run.recording.path)
    assert abs(rec.video() - run.output.frames).max() < 1e-6
    for step in (0, -1):
        x0 = rec.x0("cond").isel(step=step)
        assert abs(rec.video("cond", step=step) - lab.decode(run.pipe, x0)).max() < 1e-6


def test_asking_for_a_picture_that_is_not_there_says_what_is(rec):
    with pytest.raises(lab.RecordingError, match=r"say at which step: rec.video\('cond', step=0..3\)"):
        rec.video("cond")
    with pytest.raises(lab.RecordingError, match="step 4 is out of range: this recording has steps 0 to 3"):
        rec.video("cond", step=4)
    with pytest.raises(lab.GuidanceError, match="no branch 'wrong'"):
        rec.video("wrong", step=0)


def test_a_preview_is_one_matrix_per_latent_pixel():
    rng = np.random.default_rng(0)
    preview = Preview(rng.random((12, 5)), rng.random(12), rng.random((24, 5)), rng.random(24), 2, 2, False)
    z = rng.standard_normal((2, 5, 3, 4, 6)) * 0.1
    video = preview.decode(z)
    assert video.shape == (2, 1 + 2 * 2, 8, 12, 3)
    block = (preview.rest @ z[1, :, 2, 3, 4] + preview.rest_bias).reshape(2, 2, 2, 3)  # time, row, column, colour
    assert np.allclose(video[1, 3:5, 6:8, 8:10], np.clip(block / 2 + 0.5, 0, 1), atol=1e-6)
    block = (preview.first @ z[0, :, 0, 1, 2] + preview.first_bias).reshape(2, 2, 3)
    assert np.allclose(video[0, 0, 2:4, 4:6], np.clip(block / 2 + 0.5, 0, 1), atol=1e-6)


def test_a_recording_is_one_line_of_text(rec):
    assert repr(rec) == (
        "Recording(run.zarr: 4 steps x 4 branches [cond, uncond, skip, guided] x 2 samples, "
        "CFG(4) + STG(1, skip:block:1, stop=0.5))"
    )


def test_a_recording_as_html_escapes_what_users_wrote(tmp_path):
    evil = "<script>alert('x')</script>&"
    write(tmp_path / "<b>.zarr", captions=[evil, ""], settings={"model": evil, "guidance_text": evil, "note": evil})
    page = lab.open(tmp_path / "<b>.zarr")._repr_html_()
    assert "<script" not in page
    assert "<b>.zarr" not in page
    assert page.count("&lt;script&gt;") >= 4
    assert "(no caption)" in page


def test_a_temporary_recording_goes_with_the_last_reference_to_it(tiny):
    run = tiny.sample(lab.CFG(4), num_inference_steps=1)
    rec = run.recording
    folder = rec.path.parent
    del run
    gc.collect()
    assert rec.ds.final.values.any()  # the recording alone keeps it
    del rec
    gc.collect()
    assert not folder.exists()


def test_a_lazy_array_keeps_the_temporary_recording_that_it_reads_from(tiny):
    """Else `lab.sample(...).recording.x0()` in one line would read NaN, without a word."""
    array = tiny.sample(lab.CFG(4), num_inference_steps=1).recording.x0("guided")
    gc.collect()
    assert np.isfinite(array.values).all()


def test_a_recording_at_a_path_stays(tiny, tmp_path):
    tiny.sample(lab.CFG(4), num_inference_steps=1, record=str(tmp_path / "deep" / "er" / "run.zarr"))
    gc.collect()
    assert lab.open(str(tmp_path / "deep" / "er" / "run.zarr")).complete
