"""`lab.advise` against sweeps that are built so that the right answer is known."""

import itertools

import numpy as np
import pytest
import xarray as xr

import stg_lab as lab
from stg_lab.guidance.scores import SCORES

GOOD = {"x0_distance": 0.3, "sharpness_lost": 0.15, "cosine_cfg": 0.2, "ratio": 2.0}


def sweep(*models, steps=(4, 9), samples=2):
    """A sweep whose block `i` has the scores `models[i]`: numbers, or arrays (step, sample); None is a refused one."""
    shape = (len(steps), len(models), 1, 1, samples)
    dims = ("step", "layer", "part", "axis", "sample")
    values = {name: np.full(shape, np.nan) for name in SCORES}
    for i, model in enumerate(models):
        for name in SCORES if model is not None else ():
            values[name][:, i, 0, 0] = {**GOOD, **model}.get(name, 0.5)
    place = (len(models), 1, 1)
    coords = {
        "step": list(steps), "layer": range(len(models)), "part": ["block"], "axis": ["joint"],
        "weak": (dims[1:4], np.array([f"skip:block:{i}" for i in range(len(models))], object).reshape(place)),
        "caption": ("sample", [f"caption {i}" for i in range(samples)]),
        "seed": ("sample", list(range(samples))),
        "sigma": ("step", np.linspace(0.9, 0.5, len(steps))),
        "timestep": ("step", np.linspace(900, 500, len(steps))),
    }  # fmt: skip
    why = np.array(["" if model is not None else "refused, too large" for model in models], object).reshape(place)
    data = {name: (dims, v, SCORES[name].attrs()) for name, v in values.items()}
    nothing = np.zeros(shape, bool)
    return xr.Dataset({**data, "nothing_changed": (dims, nothing), "why": (dims[1:4], why)}, coords)


def order(advice):
    return [one.layer for one in advice]


ALL = {"worse": 0.02, "own": 0.5}  # what is asked only on request


def test_each_fault_puts_a_weak_model_behind_one_without():
    ds = sweep({"x0_distance": 0.9}, {"x0_distance": 0.01}, {"sharpness_lost": -0.4}, {"cosine_cfg": 0.9}, {})
    advice = lab.advise(ds, **ALL)
    assert order(advice)[0] == 4
    assert [one.layer for one in advice.shortlist] == [4]
    failing = {one.layer: [n for n, held in one.held.items() if not held.met] for one in advice}
    assert failing == {4: [], 0: ["aligned"], 1: ["acts"], 2: ["worse"], 3: ["own"]}


def test_what_did_not_predict_outcomes_is_asked_only_on_request():
    ds = sweep({"sharpness_lost": -0.4, "cosine_cfg": 0.9}, {})
    assert order(lab.advise(ds)) == [0, 1]
    assert len(lab.advise(ds).shortlist) == 2
    assert order(lab.advise(ds, worse=0.02)) == order(lab.advise(ds, own=0.5)) == [1, 0]


def test_two_faults_come_behind_one():
    advice = lab.advise(sweep({"cosine_cfg": 0.9, "sharpness_lost": -1}, {"cosine_cfg": 0.9}, {}), **ALL)
    assert order(advice) == [2, 1, 0]
    assert [one.met for one in advice] == [4, 3, 2]


def test_a_criterion_is_met_where_it_holds_often_enough():
    once_not = np.array([[0.1, 0.1], [0.1, 0.01]])  # acts in three of four states
    [one] = lab.advise(sweep({"x0_distance": once_not}))
    assert one.shortlisted
    assert one.together == 0.75
    assert not lab.advise(sweep({"x0_distance": once_not}), agree=1)[0].shortlisted


def test_criteria_that_hold_in_turn_never_hold_at_once():
    near = np.array([[0.3, 0.9], [0.3, 0.3]])
    sharp = np.array([[0.2, 0.2], [-0.2, 0.2]])
    [one] = lab.advise(sweep({"x0_distance": near, "sharpness_lost": sharp}), worse=0.02)
    assert one.held["aligned"].share == one.held["worse"].share == 0.75
    assert one.together == 0.5


def test_then_the_one_along_cfg_comes_first():
    models = ({"cosine_cfg": 0.1}, {"cosine_cfg": 0.4, "x0_distance": 0.4}, {"cosine_cfg": 0.9, "x0_distance": 0.04})
    advice = lab.advise(sweep(*models))
    assert order(advice) == [1, 0, 2]  # the last changes next to nothing
    assert "those whose vector points most along CFG's first" in str(advice)


def test_without_cfgs_vector_the_nearest_comes_first():
    models = [{"x0_distance": d, "cosine_cfg": np.nan} for d in (0.4, 0.06, 0.04, 0.2)]
    advice = lab.advise(sweep(*models))
    assert order(advice) == [1, 3, 0, 2]
    assert "nearest first" in str(advice)


def test_what_it_answers_is_what_a_search_takes():
    advice = lab.advise(sweep({"cosine_cfg": 0.1}, {"x0_distance": 0.9}, {}))
    assert advice.models == [lab.skip([2]), lab.skip([0])]
    assert "lab.search(pipe, advice.models" in str(advice)


def test_equals_share_a_rank_in_the_order_of_the_sweep():
    advice = lab.advise(sweep({}, {"cosine_cfg": 0.1}, {}))
    assert order(advice) == [0, 2, 1]
    assert [one.rank for one in advice] == [1, 1, 3]


def test_the_order_does_not_depend_on_the_order_of_layers():
    models = [{"x0_distance": 0.9}, {"cosine_cfg": 0.3}, {"cosine_cfg": 0.1}, {"x0_distance": 0.01}]
    best = set()
    for shuffled in itertools.permutations(models):
        best.add(shuffled.index(models[1]) == lab.advise(sweep(*shuffled))[0].layer)
    assert best == {True}


def test_what_was_refused_or_changed_nothing_is_left_out_with_its_reason():
    ds = sweep(None, {}, {}, {})
    ds.nothing_changed[:, 2] = True
    for name in SCORES:
        ds[name][:, 3] = np.nan
    advice = lab.advise(ds)
    assert order(advice) == [1]
    assert advice.left_out["skip:block:0"] == "refused, too large"
    assert "nothing changed" in advice.left_out["skip:block:2"]
    assert "cut off" in advice.left_out["skip:block:3"]
    assert "3 could not be judged" in str(advice)


def test_what_the_model_does_not_have_is_not_counted():
    ds = sweep(None, {}, {})
    ds.nothing_changed[:, 2] = True
    ds.weak[0] = ""
    ds.why[0] = "asked for by name alone"
    advice = lab.advise(ds)
    assert advice.left_out["0 block joint"] == "asked for by name alone"
    assert "1 could not be judged" in str(advice)
    assert "1 could not be judged" in advice._repr_html_()
    ds.nothing_changed[:] = False
    assert "could not be judged" not in str(lab.advise(ds))


def test_a_weak_model_that_misses_states_says_on_how_many_it_rests():
    ds = sweep({}, {})
    for name in SCORES:
        ds[name][1, 0, 0, 0, 1] = np.nan
    one = next(one for one in lab.advise(ds) if one.layer == 0)
    assert (one.states, one.of) == (3, 4)
    assert "rests on 3 of 4 states" in one.reasons_against


def test_without_cfg_its_own_direction_cannot_be_judged_and_is_told():
    [one] = lab.advise(sweep({"cosine_cfg": np.nan, "ratio": np.nan}), own=0.5)
    assert one.shortlisted
    assert one.together == 1
    assert "cosine_cfg could not be judged" in one.reasons_against
    assert not any("CFG" in reason for reason in one.reasons_for)


def test_scores_come_with_their_range_and_reasons_with_their_numbers():
    lost = np.array([[0.1, 0.2], [0.3, -0.2]])
    [one] = lab.advise(sweep({"sharpness_lost": lost}), worse=0.02)
    spread = one.scores["sharpness_lost"]
    np.testing.assert_allclose([spread.mean, spread.low, spread.high], [0.1, -0.2, 0.3])
    [reason] = [r for r in one.reasons_for if "sharpness" in r]
    assert reason == "loses sharpness (sharpness_lost 0.10 (-0.20 to 0.30), at least 0.02, holds in 3 of 4 states)"


def test_what_to_type_makes_the_weak_model_again():
    for one in lab.advise("layers"):
        assert str(eval(one.typed, {"lab": lab})) == one.weak


def test_thresholds_are_arguments():
    ds = sweep({"x0_distance": 0.6}, {"x0_distance": 0.3})
    assert len(lab.advise(ds).shortlist) == 1
    assert len(lab.advise(ds, aligned=0.7).shortlist) == 2
    assert lab.advise(ds, aligned=0.7).criteria["aligned"].rule == "x0_distance at most 0.7"
    assert len(lab.advise(ds, aligned=0.6).shortlist) == 2  # the threshold itself holds


def test_a_dataset_its_path_and_its_name_give_the_same(tmp_path):
    by_name, by_dataset = lab.advise("layers_scores"), lab.advise(lab.open_ablation("layers_scores"))
    assert str(by_name) == str(by_dataset)
    assert by_name.steps == (2, 6)
    assert by_name.samples == 4


def test_a_selection_is_judged_by_itself():
    ds = sweep({"x0_distance": np.array([[0.3, 0.3], [0.7, 0.7]])})
    assert lab.advise(ds.sel(step=4))[0].shortlisted
    assert not lab.advise(ds.sel(step=9))[0].shortlisted
    assert lab.advise(ds.isel(sample=0)).samples == 1
    assert lab.advise(ds.isel(layer=[0], step=[0], sample=[0])).steps == (4,)
    assert lab.advise(ds.sel(part="block", axis="joint"))[0].weak == "skip:block:0"


def test_it_says_what_it_rests_on_and_that_it_is_no_proof():
    text = str(lab.advise(sweep({}, steps=(4,), samples=1)))
    assert "Rests on 1 sample at step 4. One state says little" in text
    assert "which is best only sampling tells" in text
    assert "aligned: x0_distance at most 0.5" in text
    assert "One state" not in str(lab.advise(sweep({})))


def test_the_notebooks_table_has_every_shown_candidate_and_escapes_words():
    ds = sweep({}, {"cosine_cfg": 0.9})
    page = lab.advise(ds, own=0.5)._repr_html_()
    assert page.count("<tr") == 3
    for one in lab.advise(ds):
        assert one.typed in page
    assert "its vector is much like CFG&#x27;s: 0 of 4" in page


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "got a int: 3. Type for example lab.open_ablation"),
        (xr.Dataset({"rms": 1.0}), "got a Dataset without l2, ratio"),
    ],
)
def test_what_is_no_sweep_is_told(given, message):
    with pytest.raises(lab.CallError, match=message):
        lab.advise(given)


def test_a_name_that_does_not_ship_is_told():
    with pytest.raises(lab.RecordingError, match="Did you mean 'layers'"):
        lab.advise("layer")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"aligned": "far"}, "aligned='far' is no number"),
        ({"own": float("nan")}, "own=nan is no number"),
        ({"agree": 0}, "agree=0 is the share of states"),
        ({"agree": 1.5}, "above 0, at most 1"),
        ({"worse": True}, "worse=True is no number"),
    ],
)
def test_a_threshold_that_cannot_be_compared_is_told(wrong, message):
    with pytest.raises(lab.CallError, match=message):
        lab.advise(sweep({}), **wrong)


def test_a_sweep_with_nothing_to_judge_has_no_candidates():
    advice = lab.advise(sweep(None, None))
    assert len(advice) == 0
    assert "0 of 0" in str(advice)
    assert "<table>" in advice._repr_html_()
