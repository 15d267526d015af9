"""Guidance in the plane, shown: the explorer holds the sweep's own numbers, the figure and the plot say what was measured."""

import numpy as np
import pytest
import torch

import stg_lab as lab
from stg_lab.errors import CallError
from stg_lab.gaussians import strays, sweep, two_arms
from stg_lab.palette import FIXED


@pytest.fixture(scope="module")
def toy():
    arms = two_arms()
    truth = arms.given(0)
    weak = {"all classes": arms.blurred(0.1), "blurred more": truth.blurred(0.2)}
    return arms, truth, sweep(truth.blurred(0.1), weak, truth, scales=(0, 1, 4), count=30, steps=6)


def numbers(explorer, name):
    about = explorer.view["arrays"][name]
    return np.frombuffer(explorer.arrays[name], about["dtype"]).reshape(about["shape"]) * about["scale"]


def test_it_holds_the_sweeps_own_points_and_measures(toy):
    arms, truth, swept = toy
    explorer = lab.widgets.gaussian_explorer(swept, truth, other=arms.given(1))
    points = numbers(explorer, "points")
    assert points.shape == (2, 3, 4, 30, 2)  # of levels 0 to 6 the 0th, 2nd, 4th and 6th
    largest = float(abs(swept.points).max())
    np.testing.assert_allclose(points[:, :, -1], swept.points.isel(sigma=-1), atol=2e-5 * largest)
    np.testing.assert_allclose(points[:, :, 0], swept.points.isel(sigma=0), atol=2e-5 * largest)
    np.testing.assert_allclose(numbers(explorer, "modes"), swept.modes, rtol=1e-6)
    ends = torch.from_numpy(swept.points.isel(sigma=-1, weak=0, scale=2).values)
    assert (numbers(explorer, "stray")[0, 2] == strays(ends, truth).numpy()).all()


def test_the_tint_is_where_the_data_is(toy):
    _, truth, swept = toy
    tint = numbers(lab.widgets.gaussian_explorer(swept, truth), "truth")
    x, y = truth.means[0].tolist()
    row, column = round((1.9 - y) / 3.8 * 127), round((x + 1.9) / 3.8 * 127)
    assert tint[row, column] > 0.9 * tint.max()
    assert tint[0, 0] == 0


def test_its_state_can_be_set_and_wrong_state_is_refused(toy):
    _, truth, swept = toy
    explorer = lab.widgets.gaussian_explorer(swept, truth)
    assert explorer.state == {"weak": "all classes", "scale": 1.0, "level": 3, "trails": False, "playing": False}
    explorer.weak, explorer.scale, explorer.level = "blurred more", 4.0, 0
    with pytest.raises(CallError, match=r"scale 3 was not swept; choose one of \[0.0, 1.0, 4.0\]"):
        explorer.scale = 3.0
    with pytest.raises(CallError, match="'all classes' or 'blurred more'"):
        explorer.weak = "blurred"
    with pytest.raises(CallError, match="level 4 is out of range: 0 to 3"):
        explorer.level = 4
    assert (explorer.weak, explorer.scale, explorer.level) == ("blurred more", 4.0, 0)


def test_the_figure_tells_strays_from_the_rest(toy):
    arms, truth, _ = toy
    figure = lab.figures.gaussian_samples(truth, {"right": truth.draw(200), "wrong": arms.given(1).draw(100)})
    right, wrong = figure.axes
    black, red = wrong.collections
    assert len(black.get_offsets()) + len(red.get_offsets()) == 100
    assert len(red.get_offsets()) > 90
    assert red.get_facecolor()[0, :3] == pytest.approx([int(FIXED["cfg"][i : i + 2], 16) / 255 for i in (1, 3, 5)])
    assert "9.0 of 9 modes" in right.get_xlabel() or "8.9 of 9 modes" in right.get_xlabel()
    with pytest.raises(CallError, match="at least one set"):
        lab.figures.gaussian_samples(truth, {})


def test_the_arrows_are_guidance_vectors(toy):
    arms, truth, _ = toy
    [axis] = lab.figures.gaussian_vectors(truth, {"CFG": (truth, arms)}, sigma=0.3).axes
    [arrows] = [c for c in axis.collections if hasattr(c, "U")]
    x = torch.from_numpy(np.asarray(arrows.XY))
    vector = (truth.denoise(x, 0.3) - arms.denoise(x, 0.3)).numpy()
    drawn = np.stack([arrows.U, arrows.V], 1)
    stretch = np.linalg.norm(drawn) / np.linalg.norm(vector)
    np.testing.assert_allclose(drawn, stretch * vector, atol=1e-9)
    assert f"× {stretch:.2g}" in axis.get_xlabel()
    with pytest.raises(CallError, match="sigma is a finite number above 0"):
        lab.figures.gaussian_vectors(truth, {"CFG": (truth, arms)}, sigma=0)


def test_the_plot_has_a_path_for_every_weak_model(toy):
    *_, swept = toy
    figure = lab.plots.gaussian_scores(swept)
    assert [trace.name for trace in figure.data] == ["all classes", "blurred more"]
    np.testing.assert_array_equal(figure.data[1].x, swept.modes.sel(weak="blurred more"))
    np.testing.assert_array_equal(figure.data[1].y, swept.strays.sel(weak="blurred more"))
