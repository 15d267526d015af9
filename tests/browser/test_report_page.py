"""The report in a browser, with no network and no kernel."""

import numpy as np
import plotly.graph_objects as go
import pytest

import stg_lab as lab
from stg_lab.report import write_report
from stg_lab.sheets import sheet_png, to_bytes

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_file(recorded, tmp_path_factory):
    run, baseline = recorded
    plots = {f"Plot {i}": go.Figure(go.Scatter(y=[1, i, 3])) for i in range(2)}
    png = sheet_png(run.video, run.captions)
    path = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(path, run, baseline=baseline, title="<i>Seven</i>", plots=plots, figure_png=png)


@pytest.fixture
def report(visit, page_file):
    seen = visit(page_file.as_uri(), color_scheme="light")
    seen.page.wait_for_selector(".stg-x0[data-ready]")
    return seen


def frames(recording, branch, step, sample=0):
    return to_bytes(recording.video(branch, step=step)[sample])


def test_the_page_is_whole_without_a_network(report, tmp_path):
    page = report.page
    page.locator(".plotly-figure").last.scroll_into_view_if_needed()  # they are drawn when they are near
    page.wait_for_function("() => document.querySelectorAll('.plotly-figure .main-svg .trace').length >= 2")
    assert page.evaluate("() => [...document.querySelectorAll('.plotly-figure')].map((p) => p._fullData[0].y[1])") == [
        0,
        1,
    ]
    page.wait_for_function("() => [...document.querySelectorAll('video')].every((v) => v.readyState >= 2)")
    assert page.locator("video").count() == 2
    assert page.evaluate("() => document.querySelector('.print img').naturalWidth") > 100
    assert page.locator("h1").inner_text() == "<i>Seven</i>"
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    page.screenshot(path=tmp_path / "report.png", full_page=True)
    assert (report.faults, report.outside) == ([], [])


def test_the_page_may_ask_nobody(report):
    asked = "fetch('https://example.org/').then(() => 'answered', () => 'refused')"
    assert report.page.evaluate(asked) == "refused"
    assert report.outside == []  # the page's own policy stopped it before the gate
    assert any("Content Security Policy" in fault for fault in report.faults)


def test_every_painted_pixel_is_the_recordings(report, recorded):
    recording, middle = recorded[0].recording, 2
    for branch in ("cond", "uncond", "skip", "guided"):
        for frame, pixels in enumerate(frames(recording, branch, middle)):
            np.testing.assert_array_equal(report.tile(branch, frame), pixels)
    for name, run in zip(("final", "baseline"), recorded, strict=True):
        np.testing.assert_array_equal(report.tile(name, 8), to_bytes(run.video)[0, 8])
    assert report.tile("cfg").std() > 1


def test_arrow_keys_move_the_step(report, recorded):
    page, recording = report.page, recorded[0].recording
    page.locator(".stg-x0 .stg-step").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.stg-readout b').textContent === '3'")
    np.testing.assert_array_equal(report.tile("skip", 4), frames(recording, "skip", 3)[4])
    assert page.locator(".stg-x0 .stg-step").get_attribute("aria-valuetext").startswith("step 3 of 0 to 3, sigma ")
    page.locator(".stg-mode-frames").focus()  # from anywhere in the explorer
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => document.querySelector('.stg-readout b').textContent === '2'")


def test_a_branch_that_was_not_computed_says_so(report):
    page = report.page
    why = page.locator(".stg-branch[data-branch=skip] .stg-why")
    assert not why.is_visible()
    page.locator(".stg-x0 .stg-step").focus()
    page.keyboard.press("Home")
    why.wait_for(state="visible")
    assert why.inner_text() == "not computed at this step"
    assert not report.tile("skip").any()
    assert report.tile("cond").any()


def test_the_difference_is_signed_around_grey(report, recorded):
    page, recording = report.page, recorded[0].recording
    before = report.tile("cond", 3)
    page.locator(".stg-difference").click()
    page.wait_for_selector(".stg-difference[aria-pressed=true]")
    gain = lab.widgets.x0_explorer(recording).gain
    weak, cond = (frames(recording, branch, 2)[3].astype(float) for branch in ("skip", "cond"))
    expected = np.clip(127.5 + gain * (weak - cond), 0, 255)
    assert np.abs(report.tile("skip", 3) - expected).max() <= 0.5
    np.testing.assert_array_equal(report.tile("cond", 3), before)
    assert f"gain ×{gain:g}" in page.locator(".stg-legend").inner_text()


def test_space_plays_and_pauses(report):
    page = report.page
    page.locator(".stg-x0 .stg-step").focus()
    page.keyboard.press("Space")
    page.wait_for_function("() => document.querySelector('.stg-x0').dataset.mode === 'video'")
    frame = "document.querySelector('.stg-branch[data-branch=cond] canvas').dataset.frame"
    assert page.locator(".stg-branch[data-branch=cond] canvas").count() == 1
    page.wait_for_function(f"() => +{frame} >= 2")
    page.keyboard.press("Space")
    page.wait_for_selector(".stg-play[aria-label='Play the videos']")
    stopped = page.evaluate(frame)
    page.wait_for_timeout(400)
    assert page.evaluate(frame) == stopped


def test_another_sample_can_be_chosen(report, recorded):
    report.page.locator(".stg-sample").select_option("1")
    report.page.wait_for_function("() => document.querySelector('.stg-sample').value === '1'")
    expected = frames(recorded[0].recording, "guided", 2, sample=1)[0]
    report.page.wait_for_timeout(200)
    np.testing.assert_array_equal(report.tile("guided"), expected)
    assert "a blue two" in report.page.locator(".stg-sample option").nth(1).inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [900, 420])
def test_it_fits_and_follows_the_systems_look(visit, page_file, scheme, width, tmp_path):
    seen = visit(page_file.as_uri(), color_scheme=scheme)
    seen.page.set_viewport_size({"width": width, "height": 900})
    seen.page.wait_for_selector(".stg-x0[data-ready]")
    seen.page.wait_for_timeout(200)  # for the resize observer
    assert seen.page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert seen.page.evaluate("() => document.querySelector('.stg-x0').scrollWidth") <= width
    red = seen.page.evaluate(
        "() => +getComputedStyle(document.querySelector('.stg-x0')).backgroundColor.match(/\\d+/)[0]"
    )
    assert (red > 200) == (scheme == "light")
    seen.page.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)
    assert seen.faults == []


def test_a_fault_is_shown_in_place(visit, page_file, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(page_file.read_text().replace('"skip/0": "', '"skip/0": "AAAA', 1))
    seen = visit(broken.as_uri())
    seen.page.locator(".stg-error").wait_for(state="visible")
    assert "The explorer failed" in seen.page.locator(".stg-error").inner_text()
