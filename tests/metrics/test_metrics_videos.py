"""Metrics of single videos, on videos whose answers are known."""

import numpy as np
import pytest
from scipy import ndimage

from stg_lab import metrics
from stg_lab.digits import world
from stg_lab.errors import MetricError

rng = np.random.default_rng(0)
RAMP = np.linspace(0, 1, 9)


def texture(side=96, sigma=2.0):
    """A smooth random picture, periodic, in [0, 1]."""
    x = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=(side, side)), sigma, mode="wrap")
    x = (x - x.min()) / (x.max() - x.min())
    return np.repeat(x[..., None], 3, -1).astype(np.float32)


def shifted(dx, dy, frames=5, **options):
    """A texture that moves by (dx, dy) pixels a frame, wrapping round."""
    picture = texture(**options)
    steps = [ndimage.shift(picture, (dy * f, dx * f, 0), order=3, mode="grid-wrap") for f in range(frames)]
    return np.stack(steps)[None].clip(0, 1)


def grey(level, frames=4, side=16):
    return np.full((1, frames, side, side, 3), level, np.float32)


@pytest.mark.parametrize(("dx", "dy"), [(1, 0), (0, -2), (1.5, 2), (0, 0)])
def test_flow_measures_a_known_translation(dx, dy):
    got = metrics.flow_motion(shifted(dx, dy, side=128, sigma=3))[0]
    assert got == pytest.approx(4 * np.hypot(dx, dy) / 128, rel=0.15, abs=2e-3)


def test_flow_of_small_videos_is_in_their_own_frame_heights():
    got = metrics.flow_motion(shifted(1, 0, side=32))[0]
    assert got == pytest.approx(4 / 32, rel=0.2)


def test_motion_of_rendered_clips_agrees_three_ways():
    clips = world.draw(64, seed=3, split="test")
    video = world.render(clips).numpy()
    truth, ink, flow = metrics.pose_motion(clips), metrics.ink_motion(video), metrics.flow_motion(video)
    assert np.corrcoef(truth, ink)[0, 1] > 0.9
    assert np.corrcoef(truth, flow)[0, 1] > 0.85
    motion = np.array([label.motion for label in clips.labels])
    straight = np.isin(motion, ["left", "right", "up", "down"])
    np.testing.assert_allclose(ink[straight], truth[straight], rtol=0.1)
    np.testing.assert_allclose(flow[straight], truth[straight], rtol=0.35)
    assert (ink[motion == "still"] < 0.01).all()
    assert (flow[motion == "still"] < 0.01).all()


def test_pose_motion_of_straight_paths_is_their_length():
    clips = world.draw(40, seed=1)
    motion = np.array([label.motion for label in clips.labels])
    got = metrics.pose_motion(clips)
    straight = np.isin(motion, ["left", "right", "up", "down"])
    np.testing.assert_allclose(got[straight], 10 * clips.speed.numpy()[straight] / 32, rtol=1e-5)
    assert (got[motion == "still"] == 0).all()


def test_pose_motion_of_turning_is_what_the_ink_points_do():
    """Ink points taken from the rendered middle frame, carried along by the turn, one by one."""
    clips = world.draw(200, seed=2)
    i = [label.motion for label in clips.labels].index("turning")
    one = clips[i : i + 1]
    frames = 9
    angles = world.pose(one, world.torch.linspace(0, 1, frames)[None]).angle[0].numpy()
    upright = world.render(one, times=world.torch.full((1, 1), 0.5), size=128).numpy()
    from stg_lab.metrics.motion import ink

    weight = ink(upright)[0, 0]
    y, x = (np.mgrid[:128, :128] + 0.5) / 4 - 16
    points = (x - one.start[0, 0].item()) + 1j * (y - one.start[0, 1].item())
    steps = np.abs(np.diff(np.exp(1j * angles)[:, None, None] * points, axis=0)) ** 2
    expected = np.sqrt((steps * weight).sum((1, 2)) / weight.sum()).sum() / 32
    assert metrics.pose_motion(one)[0] == pytest.approx(expected, rel=0.02)


def test_ink_motion_of_growing_is_exact():
    """A square that grows from side a to side b moves its points by (b - a) / a of their distance from the middle."""
    video = np.zeros((1, 2, 64, 64, 3), np.float32)
    video[0, 0, 22:42, 22:42], video[0, 1, 17:47, 17:47] = 1, 1
    spread = [np.sqrt(2 * (side**2 - 1) / 12) for side in (20, 30)]
    assert metrics.ink_motion(video)[0] == pytest.approx((spread[1] - spread[0]) / 64, rel=0.01)


def test_smooth_motion_is_smoother_than_jerky_motion():
    steady = metrics.smoothness(shifted(1.5, 0.5, frames=7))[0]
    order = [0, 1, 0, 3, 2, 4, 6]
    jerky = metrics.smoothness(shifted(1.5, 0.5, frames=7)[:, order])[0]
    assert metrics.smoothness(grey(0.3)) == pytest.approx(1, abs=1e-9)
    assert 0.98 < steady <= 1
    assert jerky < steady - 0.005


def test_flicker_is_vbenchs():
    assert metrics.flicker(grey(0.4)) == pytest.approx(1)
    blink = np.concatenate([grey(0.0, 1), grey(1.0, 1)] * 3, axis=1)
    assert metrics.flicker(blink) == pytest.approx(0)
    video = rng.integers(0, 256, (1, 6, 12, 10, 3), np.uint8)
    theirs = [np.mean(np.abs(a.astype(np.float32) - b)) for a, b in zip(video[0], video[0, 1:], strict=False)]
    assert metrics.flicker(video / 255)[0] == pytest.approx((255 - np.mean(theirs)) / 255, rel=1e-6)


def test_blur_lowers_both_sharpnesses():
    sharp = shifted(1, 0, sigma=0.8)
    slopes, variances = [], []
    for sigma in (0, 0.7, 1.4, 2.8):
        soft = ndimage.gaussian_filter(sharp, (0, 0, sigma, sigma, 0), mode="wrap")
        slopes.append(metrics.spectral_slope(soft)[0])
        variances.append(metrics.laplacian_variance(soft)[0])
    assert slopes == sorted(slopes, reverse=True)
    assert variances == sorted(variances, reverse=True)


@pytest.mark.parametrize("exponent", [0, -1, -2, -3])
@pytest.mark.parametrize("shape", [(128, 128), (96, 160)])
def test_the_spectral_slope_of_coloured_noise_is_its_exponent(exponent, shape):
    f = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None])
    f[0, 0] = 1
    noise = np.fft.ifft2(np.fft.fft2(np.random.default_rng(1).normal(size=(8, *shape))) * f ** (exponent / 2)).real
    noise = 0.5 + 0.1 * noise / noise.std()
    video = np.repeat(noise[None, ..., None], 3, -1).clip(0, 1)
    assert metrics.spectral_slope(video)[0] == pytest.approx(exponent, abs=0.25)


def test_flat_frames_have_no_spectrum():
    assert np.isnan(metrics.spectral_slope(grey(0.5, side=32))).all()


def test_laplacian_variance_is_scipys():
    video = rng.random((2, 3, 12, 9, 3)).astype(np.float32)
    luma = video @ np.array([0.299, 0.587, 0.114])
    theirs = [np.mean([ndimage.laplace(f)[1:-1, 1:-1].var() for f in clip]) for clip in luma]
    np.testing.assert_allclose(metrics.laplacian_variance(video), theirs, rtol=1e-5)


def test_colours_and_contrast_of_known_pictures():
    video = np.zeros((3, 1, 8, 8, 3), np.float32)
    video[0, ..., 0] = 1  # pure red
    video[1] = 0.5  # grey
    video[2, :, :, :4] = 0.8  # half light, half black
    np.testing.assert_allclose(metrics.saturation(video), [1, 0, 0])
    np.testing.assert_allclose(metrics.clipped(video), [1, 0, 0.5])
    np.testing.assert_allclose(metrics.contrast(video), [0, 0, 0.4], atol=1e-6)


def test_latent_variance():
    z = rng.normal(size=(2, 4, 3, 8, 8)) * np.array([1.0, 3.0])[:, None, None, None, None]
    np.testing.assert_allclose(metrics.latent_variance(z), [z[0].var(), z[1].var()])


@pytest.mark.parametrize(
    ("video", "says"),
    [
        (np.zeros((4, 8, 8, 3)), "got (4, 8, 8, 3)"),
        (np.zeros((1, 1, 8, 8, 3)), "needs 2 frames or more"),
        (np.full((1, 2, 8, 8, 3), 200, np.uint8), "divide bytes by 255"),
        (np.full((1, 2, 8, 8, 3), np.nan), "values in [0, 1]"),
    ],
)
def test_what_is_no_video_is_refused(video, says):
    with pytest.raises(MetricError) as caught:
        metrics.flicker(video)
    assert says in str(caught.value)


def test_every_metric_of_the_table_is_there_and_public():
    for name, metric in metrics.METRICS.items():
        assert metric.load() is getattr(metrics, name)
        assert metric.load().__doc__


def test_a_clip_of_a_training_scan_is_nearer_to_it_than_clips_of_other_scans_are():
    own, others = (world.draw(40, seed=4, split=split) for split in ("train", "test"))
    (near, index), (far, _) = (metrics.nearest_scan(world.render(c).numpy()) for c in (own, others))
    assert (index == own.scan.numpy()).mean() > 0.6
    assert near.mean() > far.mean() + 0.01
