"""Figures, plots and analyses against the recording they show."""

import numpy as np
import pytest
from kit.figures import labels

import stg_lab as lab
from stg_lab import palette
from stg_lab.digits.pipeline import build_joint


@pytest.fixture(scope="module")
def run():
    pipe = build_joint(seed=1)
    pipe.set_progress_bar_config(disable=True)
    guidance = lab.CFG(3.0) + lab.STG(1.5, lab.skip([3]), stop=0.75)
    prompts = ["a red seven moving left", "a blue two growing"]
    return lab.sample(pipe, guidance=guidance, prompt=prompts, num_inference_steps=4)


def pictures(figure):
    """Rows of the figure's frames, as arrays."""
    grid = np.array([ax.images[0].get_array().data for ax in figure.axes])
    columns = len({ax.get_position().x0 for ax in figure.axes})
    return grid.reshape(-1, columns, *grid.shape[1:])


def test_the_weak_model_figure_has_the_papers_rows(run):
    figure = lab.figures.weak_model(run, step=1)
    words = ["conditional", "unconditional", "block 3 skipped", "CFG 3", "guided", "CFG 3 alone", "guided"]
    assert len(labels(figure)) == 7
    assert [label[:3] for label in labels(figure)] == [f"({c})" for c in "abcdefg"]
    for label, word in zip(labels(figure), words, strict=True):
        assert word in label


def test_its_rows_show_what_the_recording_holds(run):
    rec, rows = run.recording, pictures(lab.figures.weak_model(run, step=1, sample=1))
    sigma = float(rec.ds.sigma[1])
    x_t, p = rec.ds.x_t[1].values, {b: rec.prediction(b)[1].values for b in rec.branches}
    cfg = p["uncond"] + 3.0 * (p["cond"] - p["uncond"])
    for row, prediction in zip(rows[:5], (p["cond"], p["uncond"], p["skip"], cfg, p["guided"]), strict=True):
        np.testing.assert_allclose(row, lab.decode(run.pipe, x_t - sigma * prediction)[1], atol=1e-5)
    np.testing.assert_allclose(rows[5], run.baseline.video[1], atol=1e-6)
    np.testing.assert_allclose(rows[6], run.video[1], atol=1e-6)


def test_a_recording_alone_gives_the_figure_without_the_model(run):
    figure = lab.figures.weak_model(lab.open(run.recording.path), step=1)
    assert len(labels(figure)) == 6  # all but the baseline's final video
    with_baseline = lab.figures.weak_model(lab.open(run.recording.path), step=1, baseline=run.baseline.recording)
    assert len(labels(with_baseline)) == 7


@pytest.mark.parametrize(
    ("baseline", "words"),
    [("repair_unguided", "no guidance"), ("repair", "STG(1, skip:block:4,5)"), ("space_time", "CFG(4) + STG")],
)
def test_the_baseline_is_called_what_it_was(baseline, words):
    """Not what the run beside it was: that had CFG 2."""
    figure = lab.figures.weak_model(lab.open("repair_both"), baseline=lab.open(baseline), step=1)
    assert f"(f) final video, {words}" in " ".join(labels(figure))
    view = lab.widgets.x0_explorer(lab.open("repair_both"), baseline=lab.open(baseline)).view
    assert any(words in row.get("note", "") for row in view["finals"])


def test_a_weak_model_that_did_not_act_has_no_row(run):
    assert len(labels(lab.figures.weak_model(run, step=3))) == 6


@pytest.mark.parametrize("wrong", [{"step": 4}, {"step": -1}, {"sample": 2}])
def test_a_step_or_sample_out_of_range_is_refused(run, wrong):
    with pytest.raises(lab.RecordingError, match="out of range"):
        lab.figures.weak_model(run, **wrong)


def test_saving_twice_gives_the_same_bytes_with_embedded_fonts(run, tmp_path):
    figure = lab.figures.weak_model(run, step=1)
    first, second = lab.figures.save(figure, tmp_path / "a"), lab.figures.save(figure, tmp_path / "b")
    assert [p.suffix for p in first] == [".pdf", ".png"]
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()
    assert b"/FontFile2" in first[0].read_bytes()


def test_norms_are_root_mean_squares_of_the_vectors(run):
    rec, values = run.recording, lab.analysis.norms(run.recording)
    p = {b: rec.prediction(b).values.astype(np.float64) for b in rec.branches}
    for name, vector in (("uncond", p["cond"] - p["uncond"]), ("skip", p["cond"] - p["skip"])):
        expected = np.sqrt((vector**2).mean(axis=(2, 3, 4, 5)))
        np.testing.assert_allclose(values.norm.sel(vector=name), expected, rtol=1e-4)
    push = np.sqrt(((p["guided"] - p["cond"]) ** 2).mean(axis=(2, 3, 4, 5)))
    np.testing.assert_allclose(values.norm.sel(vector="guided"), push, rtol=1e-4)
    np.testing.assert_allclose(values.cosine.sel(vector="uncond"), 1.0, rtol=1e-4)
    a, b = (p["cond"] - p["skip"])[0, 0].ravel(), (p["cond"] - p["uncond"])[0, 0].ravel()
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    np.testing.assert_allclose(values.cosine.sel(vector="skip")[0, 0], cosine, rtol=1e-3)


def test_a_vector_outside_its_window_has_no_norm(run):
    skip = lab.analysis.norms(run.recording).norm.sel(vector="skip").values
    assert np.isfinite(skip[:3]).all()
    assert np.isnan(skip[3]).all()


def test_the_norms_plot_draws_each_vectors_mean_over_samples(run):
    figure, values = lab.plots.norms(run.recording), lab.analysis.norms(run.recording)
    lines = {t.name: np.array(t.y, float) for t in figure.data if t.showlegend is not False}
    assert len(lines) == 3
    (skip,) = (y for name, y in lines.items() if "skip" in name)
    np.testing.assert_allclose(skip, values.norm.sel(vector="skip").mean("sample", skipna=False), rtol=1e-6)


def test_the_norm_map_has_a_row_for_each_weak_model(run):
    look = lab.Probe(lab.skip([1])) + lab.Probe(lab.skip([2, 3], part="attention"))
    rec = lab.sample(run.pipe, guidance=look, prompt="a red seven moving left", num_inference_steps=2).recording
    (heat,) = lab.plots.norm_map(rec).data
    assert list(heat.y) == ["block 1 skipped", "attention of blocks 2,3 skipped"]
    cond = rec.prediction("cond").values[:, 0]
    for row, branch in zip(heat.z, ["skip:block:1", "skip:attention:2,3"], strict=True):
        apart = cond - rec.prediction(branch).values[:, 0]
        expected = [np.linalg.norm(a) / np.linalg.norm(c) for a, c in zip(apart, cond, strict=True)]
        np.testing.assert_allclose(row, expected, rtol=1e-4)
    with pytest.raises(lab.RecordingError, match="no weak model"):
        lab.plots.norm_map(run.baseline.recording)
    with pytest.raises(lab.RecordingError, match="sample 1 is out of range"):
        lab.plots.norm_map(rec, sample=1)


def test_branches_have_colours_of_their_own():
    names = ["cond", "uncond", "skip:block:1", "skip:block:2", "skip:attention:3", "guided"]
    assert len({palette.colour(n, names) for n in names}) == len(names)
