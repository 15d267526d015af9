"""Guidance vectors taken apart: against closed forms, plain numpy, and the guidance's own arithmetic."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from kit.pipelines import SMALL
from kit.zoo import member

import stg_lab as lab
from stg_lab import analysis
from stg_lab.analysis.spectra import rings
from stg_lab.analysis.vectors import LATENT_DIMS
from stg_lab.guidance import vectors as algebra
from stg_lab.preview import Preview
from stg_lab.recording import Recording

CALL = {**SMALL, "prompt": ["a red seven moving left", "a blue two growing"], "num_inference_steps": 3}
WEAK = lab.skip([1])


@pytest.fixture(scope="module")
def rec(tiny, tmp_path_factory):
    """Two samples; the weak model is off at step 0, and the sum is rescaled."""
    guidance = (lab.CFG(4) + lab.STG(1.5, WEAK, start=0.3)).rescale(0.7)
    return lab.sample(tiny.pipe, guidance=guidance, record=tmp_path_factory.mktemp("v") / "run.zarr", **CALL).recording


def built(rec, branches):
    """The recording with other predictions: `branches` by name, each like one prediction of one step."""
    names = list(branches)
    like = rec.ds.prediction.isel(branch=0, drop=True)
    given = {n: v.drop_vars("branch", errors="ignore") if hasattr(v, "dims") else v for n, v in branches.items()}
    arrays = [(like * 0 + given[name]).transpose(*like.dims) for name in names]
    ds = rec.ds.drop_dims("branch").assign_coords(branch=names)
    ds["prediction"] = xr.concat(arrays, xr.DataArray(names, dims="branch", name="branch")).transpose("step", ...)
    return Recording(ds, rec.path, complete=True, planned=3, preview=rec._preview)


def wave(rec, dim, cycles, amplitude):
    """A cosine along one dimension, the same along all others."""
    size = rec.ds.sizes[dim]
    return xr.DataArray(amplitude * np.cos(2 * np.pi * cycles * np.arange(size) / size), dims=dim)


def test_lengths_are_those_of_the_deltas(rec):
    found = analysis.vector_lengths(rec)
    assert found.frames.dims == ("vector", "step", "sample", "frame")
    assert found.channels.dims == ("vector", "step", "sample", "channel")
    assert list(found.vector.values) == ["uncond", "skip", "guided"]
    delta = rec.delta("skip").isel(step=2, sample=1).values.astype(np.float64)
    mine = found.sel(vector="skip").isel(step=2, sample=1)
    np.testing.assert_allclose(mine.norm, np.linalg.norm(delta) / delta.size**0.5)
    np.testing.assert_allclose(mine.frames, [np.sqrt(np.mean(delta[:, f] ** 2)) for f in range(delta.shape[1])])
    np.testing.assert_allclose(mine.channels, [np.sqrt(np.mean(plane**2)) for plane in delta])
    np.testing.assert_allclose((found.frames**2).mean("frame"), found.norm**2)
    np.testing.assert_allclose((found.channels**2).mean("channel"), found.norm**2)
    np.testing.assert_allclose(found.norm, analysis.norms(rec).norm, rtol=1e-5)


def test_what_was_not_computed_has_no_numbers(rec):
    off = {"vector": "skip", "step": 0}
    assert np.isnan(analysis.vector_lengths(rec).norm.sel(off)).all()
    assert np.isnan(analysis.vector_parts(rec).parallel.sel(off)).all()
    assert np.isnan(analysis.vector_spectra(rec).space.sel(off)).all()
    assert np.isnan(analysis.vector_map(rec).sel(off)).all()
    assert np.isfinite(analysis.vector_lengths(rec).norm.sel(vector="skip").isel(step=[1, 2])).all()


def test_parts_obey_pythagoras_and_are_the_guidances_own(rec):
    parts, lengths = analysis.vector_parts(rec), analysis.vector_lengths(rec).norm
    assert parts.parallel.dims == ("vector", "onto", "step", "sample")
    np.testing.assert_allclose(parts.parallel**2 + parts.orthogonal**2, (lengths**2).broadcast_like(parts.parallel).transpose(*parts.parallel.dims), rtol=1e-9)  # fmt: skip
    np.testing.assert_allclose(parts.parallel / parts.cosine, lengths.broadcast_like(parts.cosine).transpose(*parts.cosine.dims), rtol=1e-9)  # fmt: skip
    here = {"step": 2, "sample": slice(1)}
    vector, cfg, cond = (x.isel(here).values for x in (rec.delta("skip"), rec.delta("uncond"), rec.prediction("cond")))
    for name, onto in (("cond", cond), ("cfg", cfg), ("x0", rec.x0("cond").isel(here).values)):
        along, rest = algebra.parallel(vector, onto), algebra.orthogonal(vector, onto)
        mine = parts.sel(vector="skip", onto=name).isel(step=2, sample=0)
        np.testing.assert_allclose(abs(mine.parallel), np.sqrt(np.mean(along**2)), rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(mine.orthogonal, np.sqrt(np.mean(rest**2)), rtol=1e-4)


def test_cfgs_vector_lies_along_itself_and_a_vector_along_x0_raises_its_contrast(rec):
    parts = analysis.vector_parts(rec).sel(vector="uncond", onto="cfg")
    np.testing.assert_allclose(parts.cosine, 1)
    np.testing.assert_allclose(parts.orthogonal, 0, atol=1e-9)
    a, b = rec.ds.x0_sample, rec.ds.x0_prediction
    cond = (2 * rec.x0("cond") - a * rec.ds.x_t) / b  # its x0 is twice that of the recorded cond
    toward = built(rec, {"cond": cond, "weak": rec.prediction("cond")})
    along = analysis.vector_parts(toward).sel(onto="x0")
    np.testing.assert_allclose(along.cosine, 1, atol=1e-4)
    assert (along.parallel > 0).all()


def test_without_uncond_there_is_no_part_along_cfg(rec):
    alone = built(rec, {"cond": 1.0, "skip": 0.5})
    parts = analysis.vector_parts(alone)
    assert np.isnan(parts.parallel.sel(onto="cfg")).all()
    np.testing.assert_allclose(parts.parallel.sel(onto="cond"), 0.5)


def test_spectra_obey_parseval(rec):
    found, norm = analysis.vector_spectra(rec), analysis.vector_lengths(rec).norm
    np.testing.assert_allclose(found.space.sum("radius", skipna=False), norm**2)
    np.testing.assert_allclose(found.time.sum("frequency", skipna=False), norm**2)
    assert int(found.space_modes.sum()) == rec.ds.sizes["y"] * rec.ds.sizes["x"]
    assert int(found.time_modes.sum()) == rec.ds.sizes["frame"]


@pytest.mark.parametrize("cycles", [0, 1, 2, 4])
def test_a_wave_over_space_is_one_peak(rec, cycles):
    waving = built(rec, {"cond": wave(rec, "x", cycles, 0.5), "weak": 0.0})
    found = analysis.vector_spectra(waving).isel(step=0, sample=0, vector=0)
    peak = found.space.sel(radius=cycles / rec.ds.sizes["x"])
    closed = 0.25 if cycles in (0, rec.ds.sizes["x"] / 2) else 0.125  # mean square of a cosine of amplitude 1/2
    np.testing.assert_allclose(peak, closed)
    np.testing.assert_allclose(found.space.sum(), closed)
    np.testing.assert_allclose(found.space_mean, cycles / rec.ds.sizes["x"], atol=1e-12)
    np.testing.assert_allclose(found.time[0], closed)  # it stays over the frames


def test_a_wave_over_time_is_one_peak(rec):
    waving = built(rec, {"cond": wave(rec, "frame", 1, 0.5), "weak": 0.0})
    found = analysis.vector_spectra(waving).isel(step=1, sample=1, vector=0)
    assert float(found.frequency[1]) == 1 / rec.ds.sizes["frame"]
    np.testing.assert_allclose(found.time, [0, 0.125] + [0] * (len(found.frequency) - 2), atol=1e-12)
    np.testing.assert_allclose(found.space[0], 0.125)  # and it is the same everywhere


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 8), (6, 9), (1, 5)])
def test_rings_hold_every_mode_once_and_rise(height, width):
    ring, radius = rings(height, width)
    assert ring.shape == (height, width)
    assert ring[0, 0] == 0
    assert radius[0] == 0
    assert (np.diff(radius) > 0).all()
    distance = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    assert (abs(radius[ring] - distance) <= 0.5 / min(height, width) + 1e-9).all()


def test_the_map_finds_the_place(rec):
    spot = xr.zeros_like(rec.ds.prediction.isel(step=0, branch=0, drop=True))
    spot[{"frame": 1, "y": 2, "x": 3}] = 1.0
    there = analysis.vector_map(built(rec, {"cond": spot, "weak": 0.0}))
    assert there.dims == ("vector", "step", "sample", "frame", "y", "x")
    assert float(there.sum()) == pytest.approx(3 * 2)  # a channel RMS of 1 at one place, in 3 steps x 2 samples
    np.testing.assert_allclose(there.isel(frame=1, y=2, x=3), 1)
    lengths = analysis.vector_lengths(rec).norm
    np.testing.assert_allclose((analysis.vector_map(rec) ** 2).mean(("frame", "y", "x"), skipna=False), lengths**2)


def test_the_map_in_pixels_is_the_change_of_the_picture(rec):
    found = analysis.vector_map(rec, pixels=True)
    assert found.dims[-3:] == ("picture", "height", "width")
    far, near = (rec.preview(rec.x0(b).isel(step=2).values, clip=False) for b in ("skip", "cond"))
    expected = np.sqrt(((near - far) ** 2).mean(-1))
    np.testing.assert_allclose(found.sel(vector="skip").isel(step=2), expected, atol=1e-5)


def test_unclipped_pictures_add_up_and_clip_to_the_others(rec):
    one, two = (rec.x0(b).isel(step=1).values for b in ("cond", "uncond"))
    open_, shut = rec.preview(3 * one - 2 * two, clip=False), rec.preview(3 * one - 2 * two)
    np.testing.assert_allclose(open_, 3 * rec.preview(one, clip=False) - 2 * rec.preview(two, clip=False), atol=1e-4)
    assert open_.min() < 0 < open_.max()
    np.testing.assert_array_equal(shut, open_.clip(0, 1))


@pytest.mark.parametrize(("g", "s", "phi"), [(1, 0, 0), (4, 1.5, 0), (7.5, -1, 0.4), (12, 3, 1)])
def test_pictures_and_covariances_rebuild_any_scales(rec, g, s, phi):
    """What the explorer does in the browser, against the guidance's own arithmetic and the decoder."""
    pictures, table = analysis.mixing_pictures(rec).isel(step=2), analysis.gram(rec).isel(step=2)
    assert list(pictures.row.values) == ["x_t", "cond", "uncond", "skip"]
    w = xr.DataArray([1.0, g - 1, s], {"row": ["cond", "uncond", "skip"]}, "row")
    variance = xr.dot(w, table.covariance, w.rename(row="column"), dim=("row", "column"))
    factor = phi * np.sqrt(table.covariance.sel(row="cond", column="cond") / variance) + 1 - phi
    mixed = factor * (pictures * w).sum("row") + (1 - factor) * pictures.sel(row="x_t")
    guided = rec.reweight((lab.CFG(g) + lab.STG(s, WEAK)).rescale(phi))
    expected = rec.preview(rec.x0(guided).isel(step=2).values, clip=False)
    np.testing.assert_allclose(mixed.transpose("sample", ..., "rgb"), expected, atol=2e-4)
    own = guided.isel(step=2)
    np.testing.assert_allclose(factor * np.sqrt(variance), own.std(LATENT_DIMS), rtol=1e-5)
    np.testing.assert_allclose(factor * xr.dot(w, table["mean"], dim="row"), own.mean(LATENT_DIMS), atol=1e-5)


def test_covariances_are_of_the_frames_that_are_stepped():
    """Else the explorer would rescale by another factor than the run."""
    guidance = lab.CFG(3) + lab.STG(1, WEAK)
    rec = member("ltx-image").sample(guidance.rescale(1.0)).recording
    table = analysis.gram(rec)
    w = xr.DataArray([1.0, 2.0, 1.0], {"row": ["cond", "uncond", "skip"]}, "row")
    variance = xr.dot(w, table.covariance, w.rename(row="column"), dim=("row", "column"))
    factor = np.sqrt(table.covariance.sel(row="cond", column="cond") / variance)
    np.testing.assert_allclose(factor * rec.reweight(guidance), rec.prediction("guided"), rtol=1e-4, atol=1e-5)


def test_recorded_scales_rebuild_the_recorded_prediction(rec):
    scales, phi = analysis.recorded_scales(rec)
    assert scales.sel(vector="uncond").values.tolist() == [4, 4, 4]
    assert scales.sel(vector="skip").values.tolist() == [0, 1.5, 1.5]
    assert phi == 0.7


def test_scales_of_other_references_are_the_same_sum(rec):
    """Vectors that start from CFG's result or from uncond, told as vectors away from cond, give the same prediction."""
    for reference in ("cfg", "uncond"):
        guidance = lab.CFG(rec.settings["guidance_scale"]) + lab.STG(0.5, WEAK, reference=reference)
        settings = {**rec.settings, "guidance": guidance.to_dict()}
        ds = rec.ds.assign_attrs(settings=settings)
        scales, _ = analysis.recorded_scales(replace_dataset(rec, ds))
        g, s = (float(scales.sel(vector=name)[2]) for name in ("uncond", "skip"))
        mine = rec.prediction("cond") + (g - 1) * rec.delta("uncond") + s * rec.delta("skip")
        theirs = rec.reweight(guidance)
        np.testing.assert_allclose(mine.isel(step=2), theirs.isel(step=2), atol=2e-5)


def test_the_pipelines_own_scale_is_told_where_no_guidance_was_given(tiny):
    run = lab.sample(tiny.pipe, record=True, guidance_scale=3.0, **{**CALL, "num_inference_steps": 2})
    scales, phi = analysis.recorded_scales(run.recording)
    assert (scales.values.tolist(), phi) == ([[3.0, 3.0]], 0.0)


def test_a_step_without_signal_has_no_picture(rec):
    ds = rec.ds.assign_coords(x0_sample=rec.ds.x0_sample.copy(), x0_prediction=rec.ds.x0_prediction.copy())
    ds.x0_sample[0], ds.x0_prediction[0] = np.inf, -np.inf
    blind = replace_dataset(rec, ds)
    assert np.isnan(analysis.mixing_pictures(blind).isel(step=0)).all()
    assert np.isnan(analysis.vector_parts(blind).parallel.sel(onto="x0").isel(step=0)).all()
    assert np.isfinite(analysis.vector_parts(blind).parallel.sel(onto="cond", vector="uncond").isel(step=0)).all()


def test_pictures_can_be_fewer_and_smaller(rec):
    whole, small = analysis.mixing_pictures(rec), analysis.mixing_pictures(rec, samples=1, shrink=2)
    expected = whole.isel(sample=slice(1)).coarsen(height=2, width=2).mean()
    assert small.sizes["sample"] == 1
    np.testing.assert_allclose(small, expected, atol=1e-5)


def test_a_recording_without_vectors_says_what_to_record(rec):
    bare = built(rec, {"cond": 1.0})
    for ask in (analysis.vector_lengths, analysis.vector_parts, analysis.vector_spectra, analysis.vector_map):
        with pytest.raises(lab.RecordingError, match=r"no guidance vector, only: cond.*lab.Probe"):
            ask(bare)
    blind = Recording(rec.ds, rec.path, complete=True, planned=3, preview=None)
    with pytest.raises(lab.RecordingError, match="no linear preview"):
        analysis.vector_map(blind, pixels=True)


def drawn(figure):
    """The lines or heat maps of a figure."""
    return [np.asarray(trace.z if trace.type == "heatmap" else trace.y, np.float64) for trace in figure.data]


@pytest.mark.parametrize("over", ["frame", "channel"])
def test_plotted_lengths_are_the_measured_ones(rec, over):
    maps = drawn(lab.plots.vector_lengths(rec, over, sample=1))
    expected = analysis.vector_lengths(rec)[f"{over}s"].isel(sample=1).transpose("vector", over, "step")
    np.testing.assert_array_equal(maps, expected)


def test_plotted_parts_are_the_measured_ones(rec):
    parts = analysis.vector_parts(rec).sel(onto="cfg").mean("sample", skipna=False)
    np.testing.assert_array_equal(drawn(lab.plots.vector_parts(rec, "cfg")), [*parts.parallel, *parts.orthogonal])


def test_plotted_spectra_are_the_power_of_a_mode(rec):
    lines = drawn(lab.plots.vector_spectra(rec, step=1, sample=1))
    found = analysis.vector_spectra(rec).isel(step=1, sample=1)
    for line, power, time in zip(lines, found.space, lines[3:], strict=False):
        np.testing.assert_allclose(line @ found.space_modes.values, power.sum())
        assert len(time) == len(found.frequency)


def test_a_plotted_map_leaves_out_what_was_not_computed(rec):
    shown = analysis.vector_map(rec, pixels=True).isel(step=0, sample=0)
    maps = drawn(lab.plots.vector_map(rec, step=0, frames=2))
    assert len(maps) == 4  # uncond and the whole push, first and last frame
    np.testing.assert_allclose(maps[1], shown.sel(vector="uncond").isel(picture=4), atol=1e-6)


def test_plots_say_what_they_can_draw(rec):
    with pytest.raises(lab.CallError, match="'frame' or 'channel', got 'step'"):
        lab.plots.vector_lengths(rec, "step")
    with pytest.raises(lab.CallError, match="'cond', 'x0', 'cfg', got 'skip'"):
        lab.plots.vector_parts(rec, "skip")
    with pytest.raises(lab.RecordingError, match="no CFG vector"):
        lab.plots.vector_parts(built(rec, {"cond": 1.0, "skip": 0.5}), "cfg")
    with pytest.raises(lab.RecordingError, match="steps 0 to 2"):
        lab.plots.vector_spectra(rec, step=3)
    with pytest.raises(lab.RecordingError, match="samples 0 to 1"):
        lab.plots.vector_map(rec, step=0, sample=2)


def replace_dataset(rec, ds):
    assert isinstance(rec._preview, Preview)
    return Recording(ds, rec.path, complete=True, planned=3, preview=replace(rec._preview))
