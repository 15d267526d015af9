"""The layer figure and the plots of sweeps show the sweep's own numbers and pictures."""

import re

import numpy as np
import pytest
import xarray as xr

import stg_lab as lab
from stg_lab.recording import ablation_preview


@pytest.fixture(scope="module")
def ds():
    return lab.open_ablation("layers")


def pictures(figure):
    """Frames in the order of drawing; the colour bar is no frame."""
    shown = [np.asarray(image.get_array()) for ax in figure.axes for image in ax.images]
    return [picture for picture in shown if picture.shape[:2] == (32, 32)]


def words(figure):
    return [text.get_text() for text in figure.texts]


def test_it_shows_every_weak_models_prediction_and_score(ds):
    figure = lab.figures.layer_ablation(ds, frame=3)
    decode = ablation_preview(ds).decode
    expected = [decode(ds.x0_cond[0].values)[0, 3], decode(ds.x0_uncond[0].values)[0, 3]]
    numbers = []
    for part, axis in (("block", "joint"), ("attention", "joint"), ("attention", "spatial"), ("attention", "temporal")):
        for layer in range(8):
            one = ds.sel(step=6, layer=layer, part=part, axis=axis)
            expected.append(decode(one.x0.values)[0, 3])
            numbers.append(f"{one.sharpness_lost.item():.2f}")
    np.testing.assert_allclose(pictures(figure), expected, atol=1e-6)
    shown = [w for w in words(figure) if re.fullmatch(r"-?\d\.\d\d", w)]
    assert shown[2:] == numbers  # after the ends of the colour bar
    assert "“a red seven moving left”, one-step predictions at step 6, σ = 0.82" in words(figure)


def test_layers_step_and_score_are_chosen(ds):
    figure = lab.figures.layer_ablation(ds.sel(part=["block"], axis=["joint"]), layers=[6, 2], score="x0_distance")
    assert len(pictures(figure)) == 2 + 2
    expected = [f"{ds.x0_distance.sel(layer=layer, part='block', axis='joint').item():.2f}" for layer in (6, 2)]
    assert [w for w in words(figure) if re.fullmatch(r"\d\.\d\d", w)][2:] == expected


@pytest.mark.parametrize("width", ["page", "column"])
def test_no_layer_of_a_small_model_is_left_out(ds, width):
    figure = lab.figures.layer_ablation(ds, width=width)
    assert len(pictures(figure)) == 2 + 4 * 8
    assert {str(layer) for layer in range(1, 8)} <= set(words(figure))


def test_layers_that_have_no_room_are_told():
    many = lab.open_ablation("layers_scores").isel(step=[0], sample=[0])
    many = xr.concat([many.assign_coords(layer=many.layer + 8 * k) for k in range(3)], dim="layer", data_vars="minimal")
    for width, count in (("page", 12), ("column", 8)):
        shown = words(lab.figures.layer_ablation(many, width=width))
        assert sum(f"{count} of 24 layers" in one.replace("\n", " ") for one in shown) == 1
    assert not any(" of 24 layers" in one for one in words(lab.figures.layer_ablation(many, layers=[1, 2])))


def test_scores_alone_make_a_table_of_means():
    ds = lab.open_ablation("layers_scores")
    figure = lab.figures.layer_ablation(ds, step=2, score="cosine_cfg")
    assert pictures(figure) == []
    mean = ds.cosine_cfg.sel(step=2, layer=4, part="block", axis="joint").mean().item()
    assert f"{mean:.2f}" in words(figure)
    assert any("mean of 4 samples" in w for w in words(figure))


def test_a_weak_model_that_is_not_there_is_hatched(ds):
    score = ds.sharpness_lost.where(ds.weak != "skip:block:3")
    other = ds.assign(sharpness_lost=score, x0=ds.x0.where(ds.weak != "skip:block:3"))
    figure = lab.figures.layer_ablation(other)
    assert sum(ax.patch.get_hatch() is not None for ax in figure.axes) == 1
    assert len(pictures(figure)) == 2 + 31


@pytest.mark.parametrize("width", ["page", "column"])
def test_the_same_sweep_gives_the_same_bytes_at_the_width_asked_for(ds, tmp_path, width):
    small = ds.isel(layer=[2, 3])
    first = lab.figures.save(lab.figures.layer_ablation(small, width=width), tmp_path / "a")
    second = lab.figures.save(lab.figures.layer_ablation(small, width=width), tmp_path / "b")
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()
    assert b"/FontFile2" in first[0].read_bytes()
    inches = {"page": 6.9, "column": 3.3}[width]
    assert lab.figures.layer_ablation(small, width=width).get_size_inches()[0] == inches


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"score": "loss"}, lab.CallError, "score 'loss' is unknown"),
        ({"step": 3}, lab.RecordingError, "step 3 is not in this sweep. It has: 6"),
        ({"sample": 1}, lab.RecordingError, "sample 1 is out of range"),
        ({"layers": [8]}, lab.CallError, r"layers=\[8\] are not in this sweep"),
        ({"frame": 9}, lab.CallError, "frame 9 is out of range: the pictures are 0 to 8"),
        ({"width": "pages"}, lab.CallError, "Did you mean 'page'"),
    ],
)
def test_what_cannot_be_shown_is_told(ds, wrong, error, message):
    with pytest.raises(error, match=message):
        lab.figures.layer_ablation(ds, **wrong)


def test_the_heat_map_has_the_mean_of_each_weak_model():
    ds = lab.open_ablation("layers_scores")
    [heat] = lab.plots.layer_scores(ds, score="ratio", step=2).data
    assert list(heat.y) == ["block", "attention", "attention, spatial", "attention, temporal"]
    there = ds.ratio.sel(step=2).mean("sample")
    np.testing.assert_allclose(np.array(heat.z, float)[0], there.sel(part="block", axis="joint"))
    np.testing.assert_allclose(np.array(heat.z, float)[3], there.sel(part="attention", axis="temporal"))


def test_the_plane_has_a_marker_for_each_candidate_and_shades_what_is_asked():
    advice, figure = lab.advise("layers_scores"), lab.plots.aligned_and_worse("layers_scores")
    found = {x[0]: (a, b) for t in figure.data for x, a, b in zip(t.customdata, t.x, t.y, strict=True)}
    for one in advice:
        expected = one.scores["x0_distance"].mean, one.scores["sharpness_lost"].mean
        np.testing.assert_allclose(found[one.typed], expected)
    assert len(found) == len(advice)
    [box] = figure.layout.shapes
    assert (box.x0, box.x1) == (0.05, 0.5)
    full = [c[0] for t in figure.data for c, ink in zip(t.customdata, t.marker.color, strict=True) if ink != "white"]
    assert sorted(full) == sorted(one.typed for one in advice.shortlist)
