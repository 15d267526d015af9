"""Two runs compared: where they part, in which frames and bands, what differs, and both under one slider."""

import numpy as np
import pytest
import torch
import xarray as xr
from kit.watch import branch

import stg_lab as lab
from stg_lab.analysis.compare import relative

STEPS = 4


@pytest.fixture(scope="module")
def pair(tiny):
    """The same call with CFG, and with a weak model that acts in the second half alone."""
    a = tiny.sample(lab.CFG(4), num_inference_steps=STEPS).recording
    b = tiny.sample(lab.CFG(4) + lab.STG(3, lab.skip([1]), start=0.5), num_inference_steps=STEPS).recording
    return a, b


def test_it_finds_the_step_after_which_they_part(pair):
    found = lab.compare(*pair)
    assert found.ds.parts.values.tolist() == [3]  # step 2 is the first that is guided otherwise
    assert (found.ds.x_t[:3] == 0).all()
    assert float(found.ds.prediction.sel(branch="cond")[2, 0]) == 0
    assert float(found.ds.prediction.sel(branch="guided")[2, 0]) > 0
    assert "part before step 3 of 4" in str(found)
    assert "part before step 3" in found._repr_html_()


def test_distances_are_lengths_by_hand(pair):
    a, b = pair
    ds = lab.compare(a, b).ds
    x, y = (np.asarray(one.ds.x_t[3].values, float) for one in pair)
    assert float(ds.x_t[3, 0]) == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x))
    for f in range(x.shape[2]):
        assert float(ds.frames[3, 0, f]) == pytest.approx(np.linalg.norm((y - x)[:, :, f]) / np.linalg.norm(x[:, :, f]))
    p, q = (branch(one, "guided", 3).double() for one in pair)
    assert float(ds.prediction.sel(branch="guided")[3, 0]) == pytest.approx(
        float(torch.linalg.norm(q - p) / torch.linalg.norm(p)), rel=1e-5
    )
    assert ds.prediction.branch.values.tolist() == ["cond", "uncond", "guided"]


def test_what_differs_stands_by_name(pair):
    settings = lab.compare(*pair).settings
    assert settings["guidance_text"] == ("CFG(4)", "CFG(4) + STG(3, skip:block:1, start=0.5)")
    assert settings["weak.skip"] == (None, "skip:block:1")
    assert lab.compare(pair[0], pair[0]).settings == {}
    assert "Every step starts from the same latents" in str(lab.compare(pair[0], pair[0]))


def test_runs_with_other_steps_meet_at_their_noise_levels(tiny, pair):
    longer = tiny.sample(lab.CFG(4), num_inference_steps=2 * STEPS).recording
    found = lab.compare(pair[0], longer).ds
    noise = longer.ds.noise.values
    for k, j in enumerate(found.other.values):
        assert abs(noise[j] - pair[0].ds.noise.values[k]) == np.abs(noise - pair[0].ds.noise.values[k]).min()
    assert found.sizes["step"] == STEPS


def test_another_seed_starts_from_other_noise(tiny, pair):
    other = tiny.sample(lab.CFG(4), num_inference_steps=STEPS, seed=5).recording
    found = lab.compare(pair[0], other)
    assert found.ds.parts.values.tolist() == [0]
    assert "start from other noise" in str(found)
    assert found.settings["seed"] == (0, 5)


def test_a_change_of_one_band_is_found_in_that_band(pair, tmp_path):
    a = pair[0]
    ds = a.ds.compute().copy(deep=True)
    flicker = np.array([1.0, -1.0] * 9)[: ds.sizes["frame"]].reshape(1, 1, -1, 1, 1)
    changed = ds.assign(x_t=ds.x_t + xr.zeros_like(ds.x_t) + 0.5 * flicker)
    b = lab.Recording(changed, a.path, complete=True, planned=a.planned, preview=a._preview)
    bands = lab.compare(a, b).ds.bands[0, 0]
    energy = (bands * 1.0).to_pandas()
    assert energy.loc["time"].idxmax() == "fine"
    assert energy.loc["space"].idxmax() == "coarse"


def test_relative_is_zero_where_nothing_is():
    assert relative(np.zeros((2, 3)), np.zeros((2, 3))).tolist() == [0, 0]


def test_other_sizes_are_told(tiny, pair):
    other = tiny.sample(lab.CFG(4), num_inference_steps=2, num_frames=9).recording
    with pytest.raises(lab.RecordingError, match="agree in samples and sizes"):
        lab.compare(pair[0], other)


def test_the_plot_shows_both(pair):
    figure = lab.plots.comparison(*pair)
    assert [trace.name for trace in figure.data[:-1]] == ["x_t", "cond", "uncond", "guided"]
    assert figure.data[-1].type == "heatmap"
    assert np.allclose(figure.data[0].y, lab.compare(*pair).ds.x_t.mean("sample"))


def test_the_explorer_has_both_under_one_slider():
    explorer = lab.widgets.comparison_explorer("repair", "repair_unguided")
    assert [row["name"] for row in explorer.view["rows"]] == ["a", "b"]
    assert [row["name"] for row in explorer.view["finals"]] == ["final a", "final b"]
    assert explorer.view["reference"] == "a"
    assert ["guidance_text", "STG(1, skip:block:4,5)", "CFG(1)"] in explorer.view["settings"]
    assert explorer.comparison.ds.sizes["step"] == len(explorer.view["steps"])
    explorer.step, explorer.difference = 3, True
    assert explorer.still() is not None
    assert "Settings that differ" in explorer.to_html()
