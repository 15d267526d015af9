"""The figure of spatial and temporal guidance shows what the recording holds."""

import numpy as np
import pytest
from kit.figures import films, words
from kit.pipelines import SMALL

import stg_lab as lab

SPATIAL, TEMPORAL = (lab.skip([1], part="attention", axis=axis) for axis in ("spatial", "temporal"))
CALL = {"prompt": ["a red seven moving left", "a blue two growing"], "num_inference_steps": 3, **SMALL}


@pytest.fixture(scope="module")
def run(tiny):
    guidance = lab.CFG(3) + lab.STG(2, SPATIAL) + lab.STG(1, TEMPORAL, stop=0.6)
    return lab.sample(tiny.pipe, guidance=guidance, record=True, **CALL)


def labels(figure):
    return [text for text in words(figure) if text.startswith("(")]


def test_its_rows_are_the_sums_that_their_labels_say(run):
    rec, step, sample = run.recording, 1, 1
    figure = lab.figures.spatial_temporal(run, step=step, sample=sample)
    assert labels(figure) == [
        "(a) conditional",
        "(b) weak model: spatial attention of block 1 skipped",
        "(c) weak model: temporal attention of block 1 skipped",
        "(d) CFG 3",
        "(e) CFG 3 + 2 × spatial",
        "(f) CFG 3 + 2 × spatial + 1 × temporal",
        "(g) final video, CFG 3 alone",
        "(h) final video, CFG + spatial + temporal",
    ]
    c, u, s, t = (rec.prediction(b)[step].values for b in ("cond", "uncond", *rec.weak))
    predictions = [c, s, t, c + 2 * (c - u), c + 2 * (c - u) + 2 * (c - s), c + 2 * (c - u) + 2 * (c - s) + (c - t)]
    x_t, sigma = rec.ds.x_t[step].values, float(rec.ds.sigma[step])
    rows = films(figure, 8)
    for row, prediction in zip(rows, predictions, strict=False):
        np.testing.assert_allclose(row, rec.preview(x_t - sigma * prediction)[sample], atol=2e-5)
    np.testing.assert_allclose(rows[5], rec.video("guided", step=step)[sample], atol=2e-5)
    np.testing.assert_allclose(rows[6], run.baseline.video[sample], atol=1e-6)
    np.testing.assert_allclose(rows[7], run.video[sample], atol=1e-6)


def test_its_title_gives_the_angle(run):
    rec = run.recording
    a, b = (rec.delta(name).values[1, 0].ravel().astype(float) for name in rec.weak)
    angle = np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    (title,) = (text for text in words(lab.figures.spatial_temporal(rec, step=1)) if "vector at" in text)
    assert f"at {angle:.0f}°" in title


def test_vectors_that_were_only_looked_at_are_shown_at_scale_one(tiny):
    guidance = lab.Probe(SPATIAL) + lab.Probe(TEMPORAL)
    rec = lab.sample(
        tiny.pipe, guidance=guidance, record=True, **{**CALL, "prompt": "a red seven moving left"}
    ).recording
    figure = lab.figures.spatial_temporal(rec, step=0)
    assert labels(figure)[3:] == [
        "(d) cond + 1 × spatial",
        "(e) cond + 1 × spatial + 1 × temporal",
        "(f) final video, as sampled",
    ]
    c, s = (rec.prediction(b)[0].values for b in ("cond", next(iter(rec.weak))))
    expected = rec.preview(rec.ds.x_t[0].values - float(rec.ds.sigma[0]) * (2 * c - s))[0]
    np.testing.assert_allclose(films(figure, 6)[3], expected, atol=2e-5)


@pytest.mark.parametrize(("width", "wide"), [("page", 6.9), ("column", 3.3)])
def test_it_is_as_wide_as_the_paper_wants_and_the_same_every_time(run, tmp_path, width, wide):
    files = []
    for name in "ab":
        figure = lab.figures.spatial_temporal(run.recording, step=1, width=width)
        assert figure.get_size_inches()[0] == pytest.approx(wide)
        files.append(lab.figures.save(figure, tmp_path / name, dpi=60)[0].read_bytes())
    assert files[0] == files[1]
    assert b"/FontFile2" in files[0]


def test_what_cannot_be_shown_is_told(run):
    rec = run.recording
    with pytest.raises(lab.RecordingError, match=r"not computed at step 2.*Choose another"):
        lab.figures.spatial_temporal(rec, step=2)
    with pytest.raises(lab.RecordingError, match="out of range"):
        lab.figures.spatial_temporal(rec, step=3)
    with pytest.raises(lab.GuidanceError, match="both a spatial and a temporal"):
        lab.figures.spatial_temporal(run.baseline)
    with pytest.raises(lab.GuidanceError, match="vector away from 'space'"):
        lab.figures.spatial_temporal(rec, spatial="space")
    with pytest.raises(lab.CallError, match="width='wide'"):
        lab.figures.spatial_temporal(rec, width="wide")
