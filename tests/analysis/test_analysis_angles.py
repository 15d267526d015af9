"""Angles, eq. 21 and principal components, on vectors whose answers are known beforehand."""

import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import stg_lab as lab
from stg_lab import analysis
from stg_lab.analysis.directions import vector_label
from stg_lab.guidance import Moment, combine
from stg_lab.recording import Recording

SPATIAL, TEMPORAL = "skip:attention:3@spatial", "skip:attention:3@temporal"
SHAPE = (2, 3, 2, 4)  # channel, frame, y, x


def recording(vectors, *, weak=None, seed=0):
    """A recording whose guidance vectors are these, by branch: arrays `(step, sample, *SHAPE)`."""
    rng = np.random.default_rng(seed)
    first = next(iter(vectors.values()))
    steps, samples = first.shape[:2]
    cond = rng.normal(size=first.shape).astype(np.float64)
    names = ["cond", *vectors, "guided"]
    predictions = np.stack([cond, *(cond - v for v in vectors.values()), cond], axis=1)
    latent = ("channel", "frame", "y", "x")
    ds = xr.Dataset(
        {
            "x_t": (("step", "sample", *latent), rng.normal(size=first.shape).astype(np.float32)),
            "prediction": (("step", "branch", "sample", *latent), predictions.astype(np.float32)),
            "final": (("sample", *latent), cond[-1].astype(np.float32)),
        },
        coords={
            "branch": names,
            "step": np.arange(steps),
            "sigma": ("step", np.linspace(1, 0.1, steps)),
            "caption": ("sample", ["a red seven"] * samples),
        },
        attrs={"settings": {"weak": weak or {n: n for n in vectors if n != "uncond"}}},
    )
    return Recording(ds, Path("made.zarr"), complete=True, planned=steps, preview=None)


def noise(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=(*shape, *SHAPE))


def flat(a):
    return a.reshape(len(a), a.shape[1], -1)


def turned(a, degrees, seed=2):
    """Vectors of another length at a known angle to `a`, for each step and sample."""
    b = noise(*a.shape[:2], seed=seed)
    rows, other = flat(a), flat(b)
    other = other - (other * rows).sum(-1, keepdims=True) / (rows**2).sum(-1, keepdims=True) * rows
    unit = [v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (rows, other)]
    t = np.radians(degrees)[..., None]
    return (3.0 * (np.cos(t) * unit[0] + np.sin(t) * unit[1])).reshape(a.shape)


@pytest.fixture(scope="module")
def known():
    """Spatial and temporal vectors at angles that were chosen, one for each of 3 steps x 2 samples."""
    degrees = np.array([[10.0, 60.0], [90.0, 120.0], [45.0, 179.0]])
    spatial = noise(3, 2)
    return degrees, recording({"uncond": noise(3, 2, seed=5), SPATIAL: spatial, TEMPORAL: turned(spatial, degrees)})


def test_angles_are_those_that_were_put_in(known):
    degrees, rec = known
    found = analysis.angles(rec)
    pair = {"vector": SPATIAL, "other": TEMPORAL}
    np.testing.assert_allclose(found.angle.sel(pair), degrees, atol=2e-2)  # float32 predictions
    np.testing.assert_allclose(found.cosine.sel(pair), np.cos(np.radians(degrees)), atol=1e-5)
    np.testing.assert_allclose(found.cosine.values, found.cosine.transpose("other", "vector", ...).values)
    np.testing.assert_allclose(np.diagonal(found.cosine.values, axis1=0, axis2=1), 1, atol=1e-6)
    assert list(found.vector.values) == ["uncond", SPATIAL, TEMPORAL]


def test_frames_have_angles_of_their_own():
    a = noise(2, 1)
    b = a * np.array([2.0, -0.5, 0.0])[:, None, None]  # with it, against it, and nothing, frame by frame
    found = analysis.angles(recording({"a": a, "b": b}), "a", "b")
    frames = found.frame_angle.sel(vector="a", other="b").isel(sample=0).values
    np.testing.assert_allclose(frames[:, :2], [[0, 180]] * 2, atol=0.1)
    assert np.isnan(frames[:, 2]).all()  # no length, no direction
    assert found.frame_cosine.dims == ("vector", "other", "step", "sample", "frame")


def test_a_vector_that_was_not_computed_has_no_angle(known):
    _, rec = known
    broken = rec.ds.copy(deep=True)
    broken.prediction[1, 2] = np.nan
    found = analysis.angles(Recording(broken, rec.path, complete=True, planned=3, preview=None))
    seen = found.angle.sel(vector="uncond", other=SPATIAL)
    assert np.isnan(seen[1]).all()
    assert np.isfinite(seen[[0, 2]]).all()
    assert np.isfinite(found.angle.sel(vector="uncond", other=TEMPORAL)).all()


def test_random_vectors_are_at_right_angles_but_for_one_over_root_n():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4000, 400))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert analysis.random_cosine(400) == pytest.approx(cosines.std(), rel=0.05)
    assert abs(cosines.mean()) < 4 * analysis.random_cosine(400) / math.sqrt(4000)
    rec = recording({"a": noise(1, 1), "b": noise(1, 1, seed=3)})
    counts = analysis.angles(rec).attrs
    assert (counts["dimensions"], counts["frame_dimensions"]) == (48, 16)


def test_shifted_cosines_are_those_of_rolled_vectors():
    a, b = noise(2, 2), noise(2, 2, seed=9)
    found = analysis.shifted_cosine(recording({"a": a, "b": b})).sel(vector="a", other="b")
    for step in range(2):
        for sample in range(2):
            one, two = a[step, sample], b[step, sample]
            shifts = [np.roll(one, (f, y, x), (1, 2, 3)) for f in range(3) for y in range(2) for x in range(4)][1:]
            cosines = [(s * two).sum() / np.linalg.norm(one) / np.linalg.norm(two) for s in shifts]
            assert found.values[step, sample] == pytest.approx(np.sqrt(np.mean(np.square(cosines))), rel=1e-4)


@pytest.mark.parametrize("loses", ["temporal", "spatial"])
def test_what_eq_21_leaves_is_orthogonal_and_the_parts_add_up(known, loses):
    degrees, rec = known
    found = analysis.removed(rec, loses=loses)
    kept, loser = (SPATIAL, TEMPORAL) if loses == "temporal" else (TEMPORAL, SPATIAL)
    keep, vector = flat(rec.delta(kept).values), flat(rec.delta(loser).values)
    left, taken = flat(found.left.values), flat(found.removed.values)
    lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(keep, axis=-1)
    assert np.abs((left * keep).sum(-1) / lengths).max() < 1e-4
    np.testing.assert_allclose(left + taken, vector, atol=1e-5)
    np.testing.assert_allclose(found.share, np.cos(np.radians(degrees)) ** 2, atol=1e-4)
    np.testing.assert_allclose(found.coefficient.values[..., None] * keep, taken, atol=1e-5)
    along = analysis.angles(rec).coefficient.sel(vector=kept, other=loser)
    np.testing.assert_allclose(along, found.coefficient, rtol=1e-5)
    assert (found.attrs["kept"], found.attrs["loses"]) == (kept, loser)


def test_it_is_what_the_guidance_itself_takes_away(known):
    """The equation, as sampling computes it, against the analysis."""
    _, rec = known
    weak = [lab.skip([3], part="attention", axis=axis) for axis in ("spatial", "temporal")]
    plain = lab.STG(1, weak[0]) + lab.STG(2, weak[1])
    cond = rec.prediction("cond").values
    arrays = {"cond": cond[0], SPATIAL: rec.prediction(SPATIAL).values[0], TEMPORAL: rec.prediction(TEMPORAL).values[0]}
    named = {name: arrays[str(model)] for name, model in plain.weak.items()}
    guided = [combine(g, {"cond": cond[0], **named}, Moment(0, 3)) for g in (plain, plain.orthogonalize())]
    np.testing.assert_allclose(guided[0] - guided[1], 2 * analysis.removed(rec).removed.values[0], atol=1e-5)


def test_frame_by_frame_every_frame_is_orthogonal(known):
    found = analysis.removed(known[1], per="frame")
    keep, left = known[1].delta(SPATIAL).values, found.left.values
    assert np.abs((keep * left).sum(axis=(2, 4, 5))).max() < 1e-4
    assert "coefficient" not in found
    assert (found.share >= analysis.removed(known[1]).share - 1e-6).all()  # more freedom removes no less


def test_components_are_those_of_the_singular_values(known):
    _, rec = known
    found = analysis.components(rec, count=3)
    points = np.stack([flat(rec.delta(n).values) for n in ("uncond", SPATIAL, TEMPORAL)]).reshape(18, -1)
    centred = points.astype(np.float64) - points.mean(0)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.explained, (s**2 / (s**2).sum())[:3], rtol=1e-4)
    scores = found.score.values.reshape(18, 3)
    np.testing.assert_allclose(np.abs(scores), np.abs((u * s)[:, :3]), atol=1e-3)
    directions = found.direction.values.reshape(3, -1)
    np.testing.assert_allclose(np.abs(directions @ vt[:3].T), np.eye(3), atol=1e-3)
    # The points come back from their scores, and 0 lies where the origin says.
    everything = analysis.components(rec, count=17)
    rebuilt = everything.score.values.reshape(18, 17) @ everything.direction.values.reshape(17, -1)
    np.testing.assert_allclose(rebuilt + everything["mean"].values.ravel(), points, atol=1e-4)
    np.testing.assert_allclose(found.origin, directions @ -found["mean"].values.ravel(), atol=1e-6)


def test_components_of_one_sample_do_not_see_the_other(known):
    rec = known[1]
    alone = Recording(rec.ds.isel(sample=[1]), rec.path, complete=True, planned=3, preview=None)
    np.testing.assert_allclose(analysis.components(rec, sample=1).score, analysis.components(alone).score, atol=1e-6)


def test_unit_components_forget_lengths(known):
    rec = known[1]
    longer = rec.ds.copy(deep=True)
    longer["prediction"] = rec.ds.prediction + 6 * (rec.ds.prediction.sel(branch=TEMPORAL) - rec.prediction("cond")) * (
        rec.ds.branch == TEMPORAL
    )
    other = Recording(longer, rec.path, complete=True, planned=3, preview=None)
    a, b = (analysis.components(r, unit=True) for r in (rec, other))
    np.testing.assert_allclose(a.score, b.score, atol=1e-4)
    assert np.abs(analysis.components(rec).score - analysis.components(other).score).max() > 1


def test_a_step_without_a_vector_is_a_gap_in_its_path(known):
    broken = known[1].ds.copy(deep=True)
    broken.prediction[0, 3] = np.nan
    found = analysis.components(Recording(broken, Path("x"), complete=True, planned=3, preview=None))
    assert np.isnan(found.score.sel(vector=TEMPORAL)[0]).all()
    assert np.isfinite(found.score.sel(vector=TEMPORAL)[1:]).all()


def test_space_and_time_are_found_by_what_the_weak_models_are():
    weak = {"b": "shuffle:4@temporal", "a": "skip:attention:3-5@spatial", "c": "skip:block:4", "d": "not:known:to:us"}
    rec = recording({name: noise(1, 1) for name in ("c", "b", "a", "d")}, weak=weak)
    assert analysis.space_and_time(rec) == ("a", "b")
    assert [vector_label(rec, n) for n in ("a", "b", "c", "d")] == ["spatial skip", "temporal shuffle", "c", "d"]


def test_what_cannot_be_is_told(known):
    _, rec = known
    with pytest.raises(lab.GuidanceError, match=r"vector away from 'uncnd'.*Did you mean 'uncond'"):
        analysis.angles(rec, "uncnd", SPATIAL)
    with pytest.raises(lab.GuidanceError, match="away from 'guided'"):
        analysis.angles(rec, "guided", SPATIAL)
    with pytest.raises(lab.RecordingError, match="between two guidance vectors"):
        analysis.angles(rec, "uncond")
    with pytest.raises(lab.GuidanceError, match=r"both a spatial and a temporal.*axis='temporal'"):
        analysis.removed(recording({"uncond": noise(1, 1), SPATIAL: noise(1, 1)}))
    with pytest.raises(lab.GuidanceError, match="loses='both'"):
        analysis.removed(rec, loses="both")
    with pytest.raises(lab.RecordingError, match="sample 2 is out of range"):
        analysis.components(rec, sample=2)
    with pytest.raises(lab.RecordingError, match="count=19"):
        analysis.components(rec, count=19)
