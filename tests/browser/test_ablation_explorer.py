"""The ablation explorer on a page: the grid answers to mouse and keys, and pictures and numbers are the sweep's."""

import time

import numpy as np
import pytest

import stg_lab as lab
from stg_lab.recording import ablation_preview

from .controls import settled

pytestmark = pytest.mark.browser

TILES = """(key) => [...document.querySelectorAll(`.stg-ab-strip[data-strip="${key}"] canvas`)].map((tile) =>
  tile.hidden ? null : [...tile.getContext("2d").getImageData(0, 0, tile.width, tile.height).data])"""


@pytest.fixture(scope="module")
def ds():
    return lab.open_ablation("layers")


def tiles(seen, key):
    """Painted pixels of a strip, uint8 `(frame, height, width, 3)`."""
    return np.array(seen.page.evaluate(TILES, key), np.uint8).reshape(-1, 32, 32, 4)[..., :3]


def video(ds, **where):
    """What a strip must show."""
    x0 = ds.x0.sel(**where) if where else ds.x0_cond
    return (ablation_preview(ds).decode(x0.isel(step=0).values)[0] * 255 + 0.5).astype(np.uint8)


def current(seen):
    return seen.page.locator('.stg-ab-cell[aria-current="true"]').get_attribute("data-cell")


def until(get, expected, seconds=5.0):
    """An explorer answers a moment after it was asked: wait until it shows what it should."""
    give_up = time.monotonic() + seconds
    while get() != expected and time.monotonic() < give_up:
        time.sleep(0.05)
    assert get() == expected


def value(seen, score):
    return float(seen.page.locator(f'tr[data-score="{score}"] td').first.inner_text())


def test_a_click_shows_prediction_vector_and_scores(visit_widget, ds):
    seen = visit_widget(lab.widgets.ablation_explorer(ds))
    seen.page.click('[data-cell="skip:block:6"].stg-ab-cell')
    where = {"layer": 6, "part": "block", "axis": "joint"}
    until(lambda: current(seen), "skip:block:6")
    settled(seen.page, seen.page.locator(".stg-lab").first)
    np.testing.assert_array_equal(tiles(seen, "cell"), video(ds, **where))
    np.testing.assert_array_equal(tiles(seen, "cond"), video(ds))
    gain = float(seen.page.locator(".stg-ab-gain").input_value())
    vector = 127.5 + gain * (video(ds).astype(float) - video(ds, **where))
    assert np.abs(tiles(seen, "cell-vector") - np.clip(vector, 0, 255)).max() <= 1
    assert value(seen, "x0_distance") == pytest.approx(float(ds.x0_distance.sel(**where).squeeze()), rel=0.01)
    assert "draws the same thing" in seen.page.locator(".stg-ab-reasons").first.inner_text()
    assert (seen.faults, seen.outside) == ([], [])


def test_arrow_keys_walk_the_grid(visit_widget, ds):
    seen = visit_widget(lab.widgets.ablation_explorer(ds, cell="skip:block:0"))
    seen.page.focus('[data-cell="skip:block:0"].stg-ab-cell')
    for key, now in (
        ("ArrowRight", "skip:block:1"),
        ("ArrowDown", "skip:attention:1"),
        ("ArrowDown", "skip:attention:1@spatial"),
        ("ArrowLeft", "skip:attention:0@spatial"),
        ("ArrowLeft", "skip:attention:0@spatial"),  # at the edge
        ("ArrowUp", "skip:attention:0"),
    ):
        seen.page.keyboard.press(key)
        until(lambda: current(seen), now)
        until(lambda: seen.page.evaluate("document.activeElement.dataset.cell"), now)
    assert seen.faults == []


def test_a_pinned_cell_stays_beside_the_next(visit_widget, ds):
    seen = visit_widget(lab.widgets.ablation_explorer(ds, cell="skip:block:2"))
    assert seen.page.locator('[data-strip="pinned"]').is_hidden()
    seen.page.click(".stg-ab-pin >> visible=true")
    seen.page.click('[data-cell="skip:attention:3"].stg-ab-cell')
    settled(seen.page, seen.page.locator(".stg-lab").first)
    np.testing.assert_array_equal(tiles(seen, "pinned"), video(ds, layer=2, part="block", axis="joint"))
    np.testing.assert_array_equal(tiles(seen, "cell"), video(ds, layer=3, part="attention", axis="joint"))
    assert seen.page.locator(".stg-ab-chosen >> visible=true").count() == 2
    seen.page.click('text="Unpin"')
    until(lambda: seen.page.locator('[data-strip="pinned"]').is_hidden(), True)
    assert seen.faults == []


def test_the_score_recolours_and_the_shortlist_selects(visit_widget, ds):
    seen = visit_widget(lab.widgets.ablation_explorer(ds, cell="skip:block:0"))
    cell = seen.page.locator('[data-cell="skip:block:0"].stg-ab-cell')
    before = cell.evaluate("(node) => node.style.background")
    seen.page.select_option(".stg-ab-score", "temporal_energy")
    until(lambda: cell.evaluate("(node) => node.style.background") != before, True)
    assert cell.inner_text() == f"{float(ds.temporal_energy.sel(layer=0, part='block', axis='joint').squeeze()):.2f}"
    assert "energy of the mean over frames" in seen.page.locator(".stg-ab-definition").inner_text()
    third = lab.advise(ds)[2]
    seen.page.click(".stg-ab-item >> nth=2")
    until(lambda: current(seen), third.weak)
    until(lambda: third.typed in seen.page.locator(".stg-ab-chosen").first.inner_text(), True)
    assert seen.faults == []


def test_step_and_sample_choose_a_state(visit_widget):
    ds = lab.open_ablation("layers_scores")
    seen = visit_widget(lab.widgets.ablation_explorer(ds, cell="skip:block:5"))
    for step, sample in ((2, 0), (2, 3), (6, 3)):
        seen.page.select_option(".stg-ab-step", str(step))
        seen.page.select_option(".stg-sample", str(sample))
        there = ds.rms.sel(step=step, layer=5, part="block", axis="joint").isel(sample=sample)
        until(lambda: value(seen, "rms"), pytest.approx(float(there), rel=0.01))
    assert "kept scores alone" in seen.page.locator('[data-strip="cell"]').inner_text()
    assert seen.faults == []


def test_a_refused_cell_is_hatched_and_says_why(visit_widget, ds):
    other = ds.copy()
    other["why"] = ds.why.copy()
    other.why.loc[{"layer": 3, "part": "block", "axis": "joint"}] = "too large for this machine"
    for name in lab.analysis.CRITERIA:
        score = lab.analysis.CRITERIA[name].score
        other[score] = ds[score].where(ds.weak != "skip:block:3")
    seen = visit_widget(lab.widgets.ablation_explorer(other, cell="skip:block:2"), color_scheme="dark")
    cell = seen.page.locator('[data-cell="skip:block:3"].stg-ab-cell')
    assert "repeating-linear-gradient" in cell.evaluate("(node) => getComputedStyle(node).backgroundImage")
    assert cell.get_attribute("aria-label") == "block 3 skipped: too large for this machine"
    cell.click()
    until(lambda: "too large for this machine" in seen.page.locator('[data-strip="cell"]').inner_text(), True)
    assert seen.faults == []
