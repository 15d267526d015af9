"""The plots of angles and components draw the analysis's own numbers."""

import numpy as np
import pytest
from kit.pipelines import SMALL

import stg_lab as lab
from stg_lab import analysis, plots

SPATIAL, TEMPORAL = (lab.skip([1], part="attention", axis=axis) for axis in ("spatial", "temporal"))
CALL = {**SMALL, "prompt": ["a red seven moving left", "a blue two growing"], "num_inference_steps": 3}


@pytest.fixture(scope="module")
def recording(tiny):
    """Two samples; the temporal weak model is off at the last step; a third weak model is looked at."""
    guidance = lab.CFG(3) + lab.STG(2, SPATIAL) + lab.STG(1, TEMPORAL, stop=0.6) + lab.Probe(lab.skip([2]))
    return lab.sample(tiny.pipe, guidance=guidance, record=True, **CALL).recording


def lines(figure):
    return {trace.name: np.array(trace.y, float) for trace in figure.data if "lines+markers" in trace.mode}


def bands(figure):
    return [trace for trace in figure.data if trace.fill == "toself"]


def test_angles_are_means_over_samples_with_their_range(recording):
    figure, found = plots.angles(recording), analysis.angles(recording).angle
    drawn = lines(figure)
    assert list(drawn) == ["CFG – spatial skip", "CFG – temporal skip", "spatial skip – temporal skip"]
    spatial, temporal = list(recording.weak)[:2]
    pair = found.sel(vector=spatial, other=temporal)
    np.testing.assert_allclose(drawn["spatial skip – temporal skip"][:2], pair.mean("sample")[:2])
    assert np.isnan(drawn["spatial skip – temporal skip"][2])
    to_cfg = found.sel(vector="uncond", other=spatial)
    high, low = np.split(np.array(bands(figure)[0].y, float), 2)
    np.testing.assert_allclose(high, to_cfg.max("sample"))
    np.testing.assert_allclose(low[::-1], to_cfg.min("sample"))


def test_a_grey_band_says_what_chance_gives(recording):
    n = int(np.prod([recording.ds.sizes[d] for d in ("channel", "frame", "y", "x")]))
    random = bands(plots.angles(recording, cosine=True))[-1]
    assert "random vectors" in random.name
    np.testing.assert_allclose(np.abs(np.array(random.y, float)), 2 / np.sqrt(n))
    in_degrees = bands(plots.angles(recording))[-1]
    np.testing.assert_allclose(np.abs(np.array(in_degrees.y, float) - 90), np.degrees(np.arcsin(2 / np.sqrt(n))))
    spatial, temporal = list(recording.weak)[:2]
    moved, _ = bands(plots.angles(recording, spatial, temporal, cosine=True))[-2:]
    widest = 2 * analysis.shifted_cosine(recording, spatial, temporal)[0, 1].max("sample")
    np.testing.assert_allclose(np.array(moved.y, float)[:2], widest[:2])


def test_angles_to_one_vector_are_those_of_all_others(recording):
    assert list(lines(plots.angles(recording, to="uncond"))) == [
        "CFG – spatial skip",
        "CFG – temporal skip",
        "CFG – skip:block:2",
    ]
    with pytest.raises(lab.GuidanceError, match="away from 'uncnd'"):
        plots.angles(recording, to="uncnd")


def test_the_angle_map_has_frames_as_rows(recording):
    (heat,) = plots.angle_map(recording, sample=1).data
    spatial, temporal = list(recording.weak)[:2]
    found = analysis.angles(recording).frame_angle.sel(vector=spatial, other=temporal).isel(sample=1)
    np.testing.assert_allclose(np.array(heat.z, float), found.T)
    assert heat.zmin + heat.zmax == pytest.approx(180)  # white is a right angle


def test_what_is_removed_is_drawn_in_percent(recording):
    drawn = list(lines(plots.removed(recording)).values())
    share = analysis.removed(recording).share
    np.testing.assert_allclose(drawn[0], 100 * share.mean("sample", skipna=False), rtol=1e-6)
    np.testing.assert_allclose(drawn[1], 100 * (share**0.5).mean("sample", skipna=False), rtol=1e-6)


@pytest.mark.parametrize("unit", [False, True])
def test_paths_are_the_scores(recording, unit):
    figure, found = (
        plots.components(recording, sample=1, unit=unit),
        analysis.components(recording, sample=1, unit=unit),
    )
    paths = [trace for trace in figure.data if "lines" in trace.mode]
    assert [trace.name for trace in paths] == ["CFG", "spatial skip", "temporal skip", "skip:block:2"]
    for trace, score in zip(paths, found.score.values[:, :, 0], strict=True):
        np.testing.assert_allclose(np.stack([trace.x, trace.y], 1).astype(float), score)
    (cross,) = (trace for trace in figure.data if "lines" not in trace.mode)
    np.testing.assert_allclose([cross.x[0], cross.y[0]], found.origin)
    assert figure.layout.yaxis.scaleanchor == "x"  # angles in the plane are what they are
