"""What the ablation explorer puts on board, against the sweep itself."""

import io

import numpy as np
import pytest
from PIL import Image

import stg_lab as lab
from stg_lab.guidance.scores import SCORES
from stg_lab.recording import ablation_preview


@pytest.fixture(scope="module")
def ds():
    return lab.open_ablation("layers")


@pytest.fixture(scope="module")
def explorer(ds):
    return lab.widgets.ablation_explorer(ds)


def numbers(explorer):
    about = explorer.view["arrays"]["scores"]
    return np.frombuffer(explorer.arrays["scores"], "<f4").reshape(about["shape"])


def test_every_score_is_the_sweeps_own(ds, explorer):
    found = numbers(explorer)
    for i, name in enumerate(SCORES):
        for k, cell in enumerate(explorer.view["cells"]):
            expected = ds[name].where(ds.weak == cell["name"], drop=True).squeeze()
            np.testing.assert_allclose(found[i, 0, 0, k], float(expected), rtol=1e-6)
    assert [s["name"] for s in explorer.view["scores"]] == list(SCORES)
    assert all(s["definition"] for s in explorer.view["scores"])


def test_its_grid_has_each_layer_by_part_and_axis_that_there_are(ds, explorer):
    assert explorer.view["columns"] == ["block", "attention", "attention, spatial", "attention, temporal"]
    assert explorer.view["layers"] == list(range(8))
    assert len(explorer.view["cells"]) == int((ds.weak != "").sum()) == 32
    assert len({(c["column"], c["layer"]) for c in explorer.view["cells"]}) == 32


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("cond", None),
        ("uncond", None),
        ("skip:attention:2@temporal", {"layer": 2, "part": "attention", "axis": "temporal"}),
    ],
)
def test_pictures_are_the_decoded_one_step_predictions(ds, explorer, name, where):
    x0 = ds[f"x0_{name}"] if where is None else ds.x0.sel(where)
    video = ablation_preview(ds).decode(x0.isel(step=0).values)[0]  # (frame, height, width, 3)
    sheet = np.asarray(Image.open(io.BytesIO(explorer.sheets[f"{name}/0"])))
    frames, height, width, _ = video.shape
    shown = sheet.reshape(height, frames, width, 3).transpose(1, 0, 2, 3)
    np.testing.assert_array_equal(shown, (video * 255 + 0.5).astype(np.uint8))


def test_its_shortlist_is_that_of_advise(ds, explorer):
    advice = lab.advise(ds)
    assert [one["name"] for one in explorer.view["shortlist"]] == [one.weak for one in advice.shown]
    assert explorer.view["shortlist"][0]["for"] == list(advice[0].reasons_for)
    assert explorer.cell == advice[0].weak


def test_scores_alone_still_show_grid_and_shortlist():
    explorer = lab.widgets.ablation_explorer("layers_scores")
    assert {key.split("/")[0] for key in explorer.sheets} == {"cond", "uncond"}
    assert "kept scores alone" in explorer.view["why"]
    assert numbers(explorer).shape == (len(SCORES), 2, 4, 32)
    assert len(explorer.view["samples"]) == 4


def test_without_a_preview_there_are_no_pictures_and_it_says_why(ds):
    bare = ds.drop_vars([name for name in ds if str(name).startswith("preview_")])
    explorer = lab.widgets.ablation_explorer(bare)
    assert explorer.sheets == {}
    assert "carries no preview" in explorer.view["why"]
    assert np.isfinite(numbers(explorer)).all()


def test_a_refused_weak_model_keeps_its_place_and_its_reason(ds):
    other = ds.copy()
    for name in SCORES:
        other[name] = ds[name].where(ds.weak != "skip:block:3")
    other["why"] = other.why.copy()
    other.why.loc[{"layer": 3, "part": "block", "axis": "joint"}] = "too large for this machine"
    explorer = lab.widgets.ablation_explorer(other, cell="skip:block:3")
    [cell] = [c for c in explorer.view["cells"] if c["name"] == "skip:block:3"]
    assert cell["why"] == "too large for this machine"
    assert cell["advice"] is None
    assert "skip:block:3/0" not in explorer.sheets


def test_a_selected_step_is_a_sweep_too():
    ds = lab.open_ablation("layers_scores")
    explorer = lab.widgets.ablation_explorer(ds.sel(step=2).isel(sample=1))
    assert [one["step"] for one in explorer.view["steps"]] == [2]
    assert [one["caption"] for one in explorer.view["samples"]] == ["a green three growing"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("step", 3, "step 3 is not in this sweep. It has: 6"),
        ("sample", 1, "sample 1 is out of range"),
        ("score", "sharpnes_lost", "Did you mean 'sharpness_lost'"),
        ("cell", "skip:block:9", "'skip:block:9' is not in this sweep"),
        ("cell", "", "is not in this sweep"),
        ("pinned", "skip:blok:1", "Did you mean 'skip:block:1'"),
        ("gain", 0.0, "gain is a number above 0"),
    ],
)
def test_a_state_that_cannot_be_is_told(explorer, name, value, message):
    before = getattr(explorer, name)
    with pytest.raises(lab.LabError, match=message):
        setattr(explorer, name, value)
    assert getattr(explorer, name) == before


def test_what_is_no_sweep_is_told():
    with pytest.raises(lab.CallError, match=r"give a sweep of lab.ablate"):
        lab.widgets.ablation_explorer(lab.open("repair_both"))
    with pytest.raises(lab.CallError, match="score 'loss' is unknown"):
        lab.widgets.ablation_explorer("layers", score="loss")


def test_measured_outcomes_stand_beside_the_scores():
    """Those of the search that ships, against its own table; the others are as without it."""
    found, ds = lab.open_search("layers"), lab.open_ablation("layers")
    explorer = lab.widgets.ablation_explorer(ds, outcomes=found, score="measured: right", cell="skip:block:4")
    alone = lab.widgets.ablation_explorer(ds)
    np.testing.assert_array_equal(numbers(explorer)[:-1], numbers(alone))
    table = found.table
    for k, cell in enumerate(explorer.view["cells"]):
        rows = table[table.weak == cell["name"]]
        fresh = rows[rows.states == "fresh"]
        expected = (fresh if len(fresh) else rows).right.mean() if len(rows) else np.nan
        np.testing.assert_allclose(numbers(explorer)[-1, :, :, k], expected, rtol=1e-6)
    [told] = [c["advice"]["for"][0] for c in explorer.view["cells"] if c["name"] == "skip:block:4"]
    assert told.startswith("measured: right 0.767 of 30 videos at scale 1; +0.13 (")
    assert "fresh seeds" in told
    with pytest.raises(lab.CallError, match=r"what lab\.search or"):
        lab.widgets.ablation_explorer(ds, outcomes="layers")
    with pytest.raises(lab.CallError, match="is unknown"):
        lab.widgets.ablation_explorer(ds, score="measured: right")
