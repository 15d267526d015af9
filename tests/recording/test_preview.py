"""The linear preview: exact where the decoder is linear, honest where it is not, kept with the recording."""

import numpy as np
import pytest
from kit.zoo import member

import stg_lab as lab
from stg_lab.preview import fit_preview

RNG = np.random.default_rng(0)


def world(*, frames=4, length=13, noise=0.0):
    """Latents, and a video that a linear decoder would make of them: blocks of 2 x 2 pixels, and of time where causal."""
    latents = RNG.standard_normal((2, 5, frames, 6, 8)).astype(np.float32)
    matrix = 0.03 * RNG.standard_normal((3, 5))
    small = 0.5 + np.einsum("rc,ncfyx->nfyxr", matrix, latents)
    step = (length - 1) // (frames - 1) if length != frames else 1
    times = [0, *(f for f in range(1, frames) for _ in range(step))]
    video = small[:, times].repeat(2, axis=2).repeat(2, axis=3)
    return latents, (video + noise * RNG.standard_normal(video.shape)).astype(np.float32), small


@pytest.mark.parametrize(("frames", "length"), [(4, 13), (4, 4), (1, 1), (3, 9)])
def test_a_linear_decoder_is_found_exactly(frames, length):
    latents, video, small = world(frames=frames, length=length)
    preview = fit_preview(latents, video)
    assert np.allclose(preview.decode(latents), small, atol=1e-5)
    assert preview.r2 == pytest.approx(1, abs=1e-6)
    assert not preview.exact


def test_the_share_explained_is_measured_on_pixels_that_were_not_fitted():
    latents, video, _ = world()
    noise = RNG.standard_normal(video.shape).astype(np.float32)
    assert fit_preview(latents, noise).r2 < 0.05
    half = fit_preview(latents, video + 0.3 * noise).r2
    assert 0.05 < half < 0.99


def test_each_latent_frame_shows_the_middle_of_its_stretch_of_time():
    latents = np.zeros((1, 1, 3, 2, 2), np.float32)
    latents[0, 0] = np.arange(3)[:, None, None]
    video = np.zeros((1, 9, 2, 2, 3), np.float32)
    video[0, [0, 2, 6]] = np.array([0.1, 0.4, 0.7])[:, None, None, None]
    shown = fit_preview(latents, video).decode(latents)[0, :, 0, 0, 0]
    assert np.allclose(shown, [0.1, 0.4, 0.7], atol=1e-5)


def test_clips_that_each_begin_with_a_latent_frame_of_one_picture_are_found():
    """Open-Sora: 17 pictures for 5 latent frames, again and again."""
    latents = np.zeros((1, 1, 10, 2, 2), np.float32)
    latents[0, 0] = np.arange(10)[:, None, None]
    stretches = np.repeat(np.arange(10), [1, 4, 4, 4, 4] * 2)
    video = 0.1 * np.broadcast_to(stretches[None, :, None, None, None], (1, 34, 2, 2, 3)).astype(np.float32)
    preview = fit_preview(latents, video)
    assert np.allclose(preview.decode(latents)[0, :, 0, 0, 0], 0.1 * np.arange(10), atol=1e-5)
    assert preview.r2 == pytest.approx(1, abs=1e-6)


def test_what_does_not_belong_together_is_refused():
    latents, video, _ = world()
    with pytest.raises(ValueError, match="do not decode to"):
        fit_preview(latents, video[:1])
    with pytest.raises(ValueError, match="do not decode to"):
        fit_preview(latents, video[:, :, :3])


def test_sampling_keeps_a_fitted_preview_with_the_recording(tmp_path):
    one = member("svd")
    run = lab.sample(one.pipe, guidance=lab.CFG(3), record=tmp_path / "run.zarr", num_inference_steps=2, **one.call)
    reopened = lab.open(tmp_path / "run.zarr")
    assert reopened.has_preview
    assert not reopened.preview_exact
    assert np.array_equal(reopened.video("cond", step=0), run.recording.video("cond", step=0))
    own = fit_preview(run.recording.ds.final.values, run.video)
    assert np.allclose(reopened.video(), own.decode(run.recording.ds.final.values))
    again = reopened.fit_preview(run.video)
    assert again.r2 == pytest.approx(own.r2)


def test_latents_are_not_decoded_for_a_preview_that_nobody_asked_for(tmp_path, monkeypatch):
    one = member("svd")
    call = {**one.call, "output_type": "latent", "num_inference_steps": 2}
    monkeypatch.setattr(type(one.pipe), "decode_latents", lambda *_: pytest.fail("decoded"))
    run = lab.sample(one.pipe, guidance=lab.CFG(3), **call)
    assert "not decoded yet" in repr(run)
    with pytest.raises(lab.RecordingError, match=r"rec.fit_preview\(lab.decode"):
        run.recording.video("cond", step=0)
