"""Wherever a recording is looked at, a run, a path or a name that ships stands for it."""

import inspect
from pathlib import Path

import pytest
import xarray as xr

import stg_lab as lab
from stg_lab import analysis, figures, plots, widgets
from stg_lab.recording import as_source, recording_of
from stg_lab.recording.packed import place

SHIPPED = "space_time"  # with a spatial and a temporal weak model, so that everything can be asked of it
#: Public functions that are of something else: sweeps over layers, numbers, Gaussians, ratings.
OTHERS = {
    analysis: {"advise", "random_cosine", "rank_correlation", "scores", "compare", "watched"},
    plots: {"layer_scores", "aligned_and_worse", "comparison", "gaussian_scores", "strengths"},
}
ARGUMENTS = {"vector_map": {"step": 2}, "vector_spectra": {"step": 2}}
FUNCTIONS = [
    (module, name)
    for module in OTHERS
    for name in module.__all__
    if inspect.isfunction(getattr(module, name)) and name not in OTHERS[module]
]


@pytest.fixture(scope="module")
def folder():
    return place(SHIPPED)


@pytest.fixture(scope="module")
def rec(folder):
    return lab.open(folder[0])


@pytest.fixture(scope="module")
def run(rec):
    return lab.Run(None, None, None, {}, rec, rec.captions, None)


def same(one, other):
    if isinstance(one, xr.Dataset | xr.DataArray):
        return one.compute().identical(other.compute())
    if isinstance(one, tuple):
        return all(same(a, b) for a, b in zip(one, other, strict=True))
    return (one.to_json() == other.to_json()) if hasattr(one, "to_json") else one == other


@pytest.mark.parametrize(("module", "name"), FUNCTIONS, ids=[f"{m.__name__[8:]}.{n}" for m, n in FUNCTIONS])
def test_every_public_analysis_and_plot_takes_a_run_a_recording_or_a_name(module, name, rec, run):
    function = getattr(module, name)
    assert next(iter(inspect.signature(function).parameters)) == "recording"
    arguments = ARGUMENTS.get(name, {}) if module is plots else {}
    expected = function(rec, **arguments)
    for source in (run, SHIPPED):
        assert same(function(source, **arguments), expected), type(source)
    with pytest.raises(lab.CallError, match="give a Run or a Recording, or the path or name of one, got int"):
        function(7, **arguments)
    with pytest.raises(lab.RecordingError, match=r"no recording at space_tim.*Did you mean 'space_time'"):
        function("space_tim", **arguments)


SHOWS = {
    "weak_model": (figures.weak_model, {"step": 2, "frames": 1}),
    "weak_models": (figures.weak_models, {"step": 2, "frames": 1}),
    "spatial_temporal": (figures.spatial_temporal, {"step": 2, "frames": 1}),
    "scale_sweep": (figures.scale_sweep, {"step": 2, "frames": 1, "scales": [1, 2], "vary": "CFG"}),
    "x0_explorer": (widgets.x0_explorer, {}),
    "guidance_explorer": (widgets.guidance_explorer, {}),
    "orthogonality_explorer": (widgets.orthogonality_explorer, {}),
    "fork_explorer": (widgets.fork_explorer, {}),
}


@pytest.mark.parametrize("show", SHOWS)
def test_figures_and_explorers_take_a_name(show, rec):
    function, arguments = SHOWS[show]
    named, given = function(SHIPPED, **arguments), function(rec, **arguments)
    if hasattr(given, "sheets"):
        assert named.sheets == given.sheets
        assert named.state == given.state
    else:
        assert [len(f.axes) for f in (named, given)] == [len(given.axes)] * 2


def test_a_name_is_opened_and_all_else_is_left_as_it_is(rec, run, folder):
    assert as_source(rec) is rec
    assert as_source(run) is run
    assert recording_of(run) is rec
    assert as_source(SHIPPED).opened_from == SHIPPED
    assert recording_of(str(folder[0])).path == Path(folder[0])
