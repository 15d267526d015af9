"""What weak models keep: waves with known answers, and a shipped recording."""

import numpy as np
import pytest
import xarray as xr

import stg_lab as lab
from stg_lab.analysis import kept
from stg_lab.errors import RecordingError

ANGLE = 2 * np.pi * np.arange(16) / 16
COARSE, FINE, OTHER = np.cos(2 * ANGLE), np.cos(6 * ANGLE), np.sin(6 * ANGLE)


class Drawn(lab.Recording):
    """A recording of one step whose decoder is the identity."""

    def __init__(self, pictures):
        self.pictures = pictures
        self.ds = xr.Dataset(coords={"x": range(16), "step": [0], "branch": [*pictures]})

    def x0(self, branch):
        return xr.DataArray(self.pictures[branch][None], dims=("step", "sample", "frame", "y", "x", "colour"))

    def preview(self, latents, *, clip):
        return latents


def drawn(**waves):
    """A wave along x for each branch, 3 frames of 16 x 16, three colours."""
    return Drawn({name: np.broadcast_to(wave[:, None], (1, 3, 16, 16, 3)) for name, wave in waves.items()})


def test_each_band_is_judged_by_itself():
    values = kept(
        drawn(
            cond=3 + COARSE + FINE,
            same=3 + COARSE + FINE,
            brighter=4 + COARSE + FINE,
            blurred=3 + COARSE + 0.5 * FINE,
            redrawn=3 + COARSE + OTHER,
            opposite=3 - 2 * COARSE + FINE,
            gone=np.full(16, np.nan),
        )
    ).isel(step=0, sample=0)

    def of(name):
        one = values.sel(branch=name)
        return [*one.alike.values, *one.power.values, float(one.distance)]

    assert of("same") == pytest.approx([1, 1, 1, 1, 0], abs=1e-9)
    assert of("brighter") == pytest.approx([1, 1, 1, 1, 0], abs=1e-9)  # a frame's mean colour is in no band
    assert of("blurred") == pytest.approx([1, 1, 1, 0.5, np.sqrt(0.25 / 2)])
    assert of("redrawn") == pytest.approx([1, 0, 1, 1, 1], abs=1e-9)
    assert of("opposite") == pytest.approx([-1, 1, 2, 1, np.sqrt(9 / 2)])
    assert np.isnan(of("gone")).all()


def test_the_cut_decides_what_is_coarse():
    recording = drawn(cond=COARSE + FINE, redrawn=COARSE + OTHER)
    assert float(kept(recording, cut=7).alike.sel(band="coarse").item()) == pytest.approx(0.5)
    with pytest.raises(RecordingError, match="at most 8 here, got 9"):
        kept(recording, cut=9)


def test_a_shipped_recording_gives_a_plot_of_what_was_computed():
    recording = lab.open("weak_models")
    values = kept(recording)
    assert values.alike.sizes == {"band": 2, "branch": len(recording.branches) - 1, "step": 10, "sample": 1}
    figure = lab.plots.kept(recording)
    weak = [trace for trace in figure.data if trace.legendgroup == "blur"]
    np.testing.assert_allclose(weak[1].y, values.alike.sel(band="fine", branch="blur").isel(sample=0))
    np.testing.assert_allclose(weak[2].y, values.power.sel(band="coarse", branch="blur").isel(sample=0))
    assert {trace.legendgroup for trace in figure.data} == {"uncond", *recording.weak}
