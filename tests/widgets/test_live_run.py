"""The live run: a recording like `lab.sample`'s, pictures of every step as it comes, and a stop that keeps the whole steps."""

import io
import threading

import numpy as np
import pytest
import torch
from kit.pipelines import SMALL, Rig, tiny_wan
from kit.zoo import prepared, wan_vae
from PIL import Image

import stg_lab as lab
from stg_lab.errors import UnsupportedPipelineError
from stg_lab.sheets import to_bytes
from stg_lab.widgets.previews import StepPictures

SUM = lab.CFG(4) + lab.STG(1, lab.skip([1]), start=0.25)
CALL = {**SMALL, "prompt": ["a red seven moving left", "a blue two growing"], "num_inference_steps": 4}


@pytest.fixture(scope="module")
def expected(tiny):
    return lab.sample(tiny.pipe, guidance=SUM, seed=3, **CALL)


def frames(png: bytes, width: int) -> np.ndarray:
    """A strip as uint8 `(frame, height, width, 3)`."""
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    return np.stack(np.split(pixels, pixels.shape[1] // width, axis=1))


def finished(live):
    assert live.wait(60)
    assert live.problem == ""
    return live


def test_it_makes_the_run_that_sample_makes(tiny, expected, tmp_path):
    live = finished(lab.widgets.live_run(tiny.pipe, guidance=SUM, seed=3, record=tmp_path / "live.zarr", **CALL))
    np.testing.assert_array_equal(live.run.video, expected.video)
    np.testing.assert_array_equal(live.recording.ds.prediction.values, expected.recording.ds.prediction.values)
    assert live.recording.complete
    assert lab.open(tmp_path / "live.zarr").settings["call"] == expected.recording.settings["call"]
    assert (live.status, live.running) == ("done", False)
    np.testing.assert_array_equal(live.run.baseline.video, expected.baseline.video)


def test_every_step_is_shown_as_it_comes(tiny, expected):
    live = lab.widgets.live_run(tiny.pipe, guidance=SUM, seed=3, **CALL)
    seen = []
    live.observe(lambda change: seen.append((dict(change["new"]), dict(live.pictures))), "told")
    finished(live)
    steps = {told["step"]: (told, pictures) for told, pictures in seen if told["rows"][-1]["name"] == "guided"}
    assert steps  # those that came after the look began
    for k, (told, pictures) in steps.items():
        names = [row["name"] for row in told["rows"]]
        assert names == (["cond", "uncond", "skip", "guided"] if k else ["cond", "uncond", "guided"])
        assert told["sigma"] == pytest.approx(float(expected.recording.ds.sigma[k]))
        for name in names:
            for i in range(2):
                shown = frames(pictures[f"{name}/{i}"], told["width"])
                np.testing.assert_array_equal(shown, to_bytes(expected.recording.video(name, step=k)[i]))
        trail = frames(pictures["trail/1"], told["width"])
        assert len(trail) == told["trail"] == k + 1
        np.testing.assert_array_equal(trail[-1], to_bytes(expected.recording.video("guided", step=k)[1, 2]))
    assert [row["name"] for row in live.told["rows"]] == ["cond", "uncond", "skip", "guided", "final"]
    np.testing.assert_array_equal(frames(live.pictures["final/0"], 16), to_bytes(expected.video[0]))


def test_stop_keeps_the_whole_steps_and_leaves_the_pipeline_as_it_was(tiny, expected):
    live = lab.widgets.live_run(tiny.pipe, guidance=SUM, seed=3, **{**CALL, "num_inference_steps": 40})
    reached = threading.Event()
    live.observe(lambda change: change["new"].get("step", 0) >= 1 and reached.set(), "told")
    assert reached.wait(60)
    live.stop = True
    finished(live)
    done = live.recording.steps
    assert 2 <= done < 40
    assert live.run is None
    assert not live.recording.complete
    assert live.status == f"stopped after {done} of 40 steps, which are kept"
    assert np.isfinite(live.recording.prediction("guided").values).all()
    again = lab.sample(tiny.pipe, guidance=SUM, seed=3, **CALL)
    np.testing.assert_array_equal(again.recording.ds.final.values, expected.recording.ds.final.values)


def test_nobody_else_samples_with_the_pipeline_meanwhile():
    rig = Rig(tiny_wan("euler"), SMALL)
    at_work, go_on = threading.Event(), threading.Event()
    rig.pipe.transformer.register_forward_pre_hook(lambda *given: (at_work.set(), go_on.wait(60))[0])
    live = lab.widgets.live_run(rig.pipe, guidance=lab.CFG(4), **CALL)
    assert at_work.wait(60)
    with pytest.raises(lab.CallError, match=r"sampling in another thread.*lab\.load"):
        lab.sample(rig.pipe, guidance=lab.CFG(4), **CALL)
    go_on.set()
    finished(live)
    assert live.run.recording.complete


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"prompt": None}, lab.CallError, "no prompt"),
        ({"guidance": lab.STG(1, lab.skip([9]))}, lab.GuidanceError, "layer"),
        ({"record": False}, lab.CallError, "always recorded"),
        ({"steps": 3}, lab.CallError, "takes no argument 'steps'"),
        ({"guidnace": lab.CFG(2)}, lab.CallError, r"Did you mean 'guidance'.*lab.widgets.live_run itself takes"),
        ({"on_step": print}, lab.CallError, "looks on itself"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work_begins(tiny, changes, error, words):
    before = threading.active_count()
    with pytest.raises(error, match=words):
        lab.widgets.live_run(tiny.pipe, **{"guidance": SUM, **CALL, **changes})
    assert threading.active_count() == before


def test_a_place_that_is_taken_is_told_before_the_work_begins(tiny, whole):
    with pytest.raises(lab.RecordingError, match="already holds a recording"):
        lab.widgets.live_run(tiny.pipe, guidance=SUM, record=whole, **CALL)


def test_a_fault_on_the_way_is_shown_and_the_whole_steps_are_kept(tiny, tmp_path):
    def broken(pipe, step, timestep, given):
        if step == 2:
            raise ZeroDivisionError("broken")
        return {}

    place = tmp_path / "broken.zarr"
    live = lab.widgets.live_run(tiny.pipe, guidance=SUM, record=place, callback_on_step_end=broken, **CALL)
    assert live.wait(60)
    assert live.problem.startswith("ZeroDivisionError: broken\nThe 3 whole steps")
    assert (live.status, live.run, live.recording.steps) == ("failed", None, 3)


def test_latents_of_a_learned_decoder_are_shown_through_a_map_that_is_fitted_once(tiny, monkeypatch):
    rig = tiny.copy()
    rig.pipe.vae = prepared(wan_vae())
    rig.pipe.vae_scale_factor_spatial, rig.pipe.vae_scale_factor_temporal = 8, 4
    latents = np.random.default_rng(0).standard_normal((1, rig.pipe.vae.config.z_dim, 2, 4, 4)).astype(np.float32)
    decoded = []
    real = lab.decode
    monkeypatch.setattr("stg_lab.widgets.previews.decode", lambda *a: decoded.append(1) or real(*a))
    show = StepPictures(rig.pipe)
    assert show(np.full_like(latents, np.nan)) is None
    video = show(latents)
    show(latents)
    assert decoded == [1]
    assert video.shape == (1, 2, 4, 4, 3)
    assert "linear preview of the latents, R²" in show.note


def test_a_model_that_cannot_be_decoded_is_sampled_without_pictures(tiny, monkeypatch):
    monkeypatch.setattr(type(tiny.pipe.vae), "decode", None)
    monkeypatch.setattr("stg_lab.families.wan.Wan.preview", lambda self, pipe: None)

    def never(*given):
        raise UnsupportedPipelineError("no")

    monkeypatch.setattr("stg_lab.widgets.previews.decode", never)
    live = finished(lab.widgets.live_run(tiny.pipe, guidance=lab.CFG(4), **{**CALL, "output_type": "latent"}))
    assert live.told["note"] == "no pictures on the way: the lab cannot decode this model"
    assert live.pictures == {}
    assert isinstance(live.run.output.frames, torch.Tensor)
