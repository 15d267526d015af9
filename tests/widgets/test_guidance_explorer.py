"""The guidance explorer's kernel side: its numbers rebuild the guidance's own, its state can be set, its errors help."""

import numpy as np
import pytest
from kit.pipelines import SMALL
from kit.zoo import member

import stg_lab as lab
from stg_lab.recording import Recording
from stg_lab.widgets.base import module, style

CALL = {**SMALL, "prompt": ["a red seven moving left", "a blue two growing"], "num_inference_steps": 3}


@pytest.fixture(scope="module")
def rec(tiny, tmp_path_factory):
    """Two samples; the weak model is off at step 0, and the sum is rescaled."""
    guidance = (lab.CFG(4) + lab.STG(1.5, lab.skip([1]), start=0.3)).rescale(0.7)
    return lab.sample(tiny.pipe, guidance=guidance, record=tmp_path_factory.mktemp("g") / "run.zarr", **CALL).recording


@pytest.fixture
def explorer(rec):
    return lab.widgets.guidance_explorer(rec)


def numbers(explorer, name):
    """An array as the browser reads it."""
    about = explorer.view["arrays"][name]
    kind = {"float32": "<f4", "int16": "<i2"}[about["dtype"]]
    return np.frombuffer(explorer.arrays[name], kind).reshape(about["shape"]) * about["scale"]


def test_the_pictures_add_up_to_the_guided_prediction(rec, explorer):
    pictures = numbers(explorer, "pictures") * numbers(explorer, "unit")[..., None, None, None, None]
    assert pictures.shape == (4, 3, 2, 5, 16, 16, 3)  # x_t, cond, uncond, skip; steps; samples; pictures
    mixed = pictures[1] + 5 * pictures[2] + 2 * pictures[3]
    guided = rec.x0(rec.reweight(lab.CFG(6) + lab.STG(2, lab.skip([1]))))
    for step in (1, 2):
        expected = rec.preview(guided.isel(step=step).values, clip=False)
        assert np.abs(mixed[step] - expected).max() < 1 / 255
    assert not pictures[3, 0].any()  # not computed there


def test_rows_steps_and_scales_are_the_runs(rec, explorer):
    uncond, skip = explorer.view["vectors"]
    assert (uncond["name"], uncond["label"], uncond["off"], uncond["recorded"]) == ("uncond", "CFG", 1.0, [4, 4, 4])
    assert (skip["name"], skip["off"], skip["recorded"]) == ("skip", 0.0, [0, 1.5, 1.5])
    assert (uncond["computed"], skip["computed"]) == ([True] * 3, [False, True, True])
    assert "block 1 skipped" in skip["note"]
    assert [s["sigma"] for s in explorer.view["steps"]] == pytest.approx(rec.ds.sigma.values)
    assert [c["name"] for c in explorer.view["curves"]] == ["uncond", "skip", "guided"]
    assert explorer.view["note"] == ""
    assert numbers(explorer, "norm")[1, 2] == pytest.approx(lab.analysis.norms(rec).norm.sel(vector="skip")[2].values)


def test_state_round_trips(explorer):
    state = {"step": 2, "sample": 1, "frame": 3, "playing": True, "scales": {"uncond": 6.0, "skip": -1.0}}
    state |= {"rescale": 0.25, "panel": "parts", "onto": "cfg", "common": True}
    for name, value in state.items():
        setattr(explorer, name, value)
    assert explorer.state == state
    assert repr(explorer) == "GuidanceExplorer(3 steps x vectors [uncond, skip] x 2 samples, at step 2)"


def test_it_starts_as_the_run_was(explorer):
    assert explorer.state | {"frame": 0} == {
        "step": 1, "sample": 0, "frame": 0, "playing": False, "scales": {}, "rescale": 0.7, "panel": "lengths",
        "onto": "cond", "common": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("step", 3, lab.RecordingError, "steps 0 to 2"),
        ("sample", 2, lab.RecordingError, "samples 0 to 1"),
        ("frame", 5, lab.CallError, "0 to 4"),
        ("scales", {"skp": 1}, lab.CallError, r"no vector 'skp'.*Did you mean 'skip'"),
        ("scales", {"skip": float("nan")}, lab.CallError, "a number from -100 to 100"),
        ("scales", {"skip": "2"}, lab.CallError, "a number from -100 to 100, got '2'"),
        ("rescale", 1.5, lab.CallError, r"0 \(off\) to 1"),
        ("panel", "norms", lab.CallError, "'lengths' or 'parts' or 'spectra'"),
        ("onto", "uncond", lab.CallError, "'cond' or 'x0' or 'cfg'"),
    ],
)
def test_state_that_cannot_be_is_refused_and_nothing_changes(explorer, name, value, error, words):
    before = explorer.state
    with pytest.raises(error, match=words):
        setattr(explorer, name, value)
    assert explorer.state == before


def test_arguments_that_do_not_fit_are_told(rec):
    with pytest.raises(lab.CallError, match=r"Run or a Recording, .*got int"):
        lab.widgets.guidance_explorer(7)
    with pytest.raises(lab.RecordingError, match="steps 0 to 2"):
        lab.widgets.guidance_explorer(rec, step=3)
    with pytest.raises(lab.RecordingError, match="sample 2 is out of range"):
        lab.widgets.guidance_explorer(rec, sample=2)
    with pytest.raises(lab.CallError, match="frames a second"):
        lab.widgets.guidance_explorer(rec, fps=0)
    with pytest.raises(lab.CallError, match="megabytes"):
        lab.widgets.guidance_explorer(rec, budget=0)
    blind = Recording(rec.ds, rec.path, complete=True, planned=3, preview=None)
    with pytest.raises(lab.RecordingError, match="no linear preview"):
        lab.widgets.guidance_explorer(blind)
    bare = Recording(rec.ds.sel(branch=["cond"]), rec.path, complete=True, planned=3, preview=rec._preview)
    with pytest.raises(lab.RecordingError, match=r"no guidance vector.*lab.Probe"):
        lab.widgets.guidance_explorer(bare)


def test_what_does_not_fit_is_left_out_and_said(rec):
    one = 2 * 3 * 4 * 3 * 5 * 16 * 16  # bytes of one sample's pictures
    fewer = lab.widgets.guidance_explorer(rec, budget=1.5 * one / 1e6)
    assert len(fewer.view["samples"]) == 1
    assert "the first 1 of 2 samples" in fewer.view["note"]
    assert {key.rpartition("/")[2] for key in fewer.sheets} == {"0"}
    with pytest.raises(lab.RecordingError, match=r"sample 1 does not fit.*budget="):
        lab.widgets.guidance_explorer(rec, sample=1, budget=1.5 * one / 1e6)
    smaller = lab.widgets.guidance_explorer(rec, budget=0.3 * one / 1e6)
    assert (smaller.view["width"], smaller.view["shrink"]) == (8, 2)
    assert "1/2 of their size" in smaller.view["note"]
    blocks = numbers(smaller, "pictures") * numbers(smaller, "unit")[..., None, None, None, None]
    expected = rec.preview(rec.x0("cond").isel(step=1, sample=[0]).values, clip=False)[0]
    expected = expected.reshape(5, 8, 2, 8, 2, 3).mean((2, 4))
    np.testing.assert_allclose(blocks[1, 1, 0], expected, atol=1e-3)


def test_the_shipped_recordings_fit_their_budget():
    for name in ("repair_both", "weak_models", "space_time"):
        explorer = lab.widgets.guidance_explorer(lab.open(name))
        size = sum(map(len, explorer.arrays.values())) + sum(map(len, explorer.sheets.values()))
        assert size < 6_000_000
        assert explorer.view["shrink"] == 1


def test_everything_the_browser_loads_is_in_the_package():
    for text in (module("guidance_explorer"), style("guidance_explorer")):
        text = text.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
        assert not any(word in text for word in ("http", "import ", "import(", "@import", "url("))


def test_a_learned_decoder_is_shown_through_its_preview_and_says_so():
    """SVD: another prediction type, a learned decoder, and a CFG scale for each frame, which is no single scale."""
    one = member("svd")
    run = lab.sample(one.pipe, guidance=lab.CFG(3), record=True, num_inference_steps=2, **one.call)
    explorer = lab.widgets.guidance_explorer(run)
    assert "linear preview" in explorer.view["preview"]
    pictures = numbers(explorer, "pictures") * numbers(explorer, "unit")[..., None, None, None, None]
    rec = run.recording
    x0 = rec.x0(rec.prediction("cond") + 1.5 * rec.delta("uncond")).isel(step=1).values
    expected = rec.preview(x0, clip=False)
    assert np.abs(pictures[1, 1] + 1.5 * pictures[2, 1] - expected).max() < 1 / 255
