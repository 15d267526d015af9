"""A report of several recordings in a browser: tabs, explorers that start when they are needed, and no network."""

import numpy as np
import pytest

import stg_lab as lab
from stg_lab.digits.pipeline import build_joint
from stg_lab.sheets import to_bytes

pytestmark = pytest.mark.browser

STARTED = (
    "() => [...document.querySelectorAll('.explorer[data-started]')].map((place) => place.id.replace('-explorer', ''))"
)
EVIL = "<b>Layers</b>"


@pytest.fixture(scope="module")
def page_file(recorded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    pipe = build_joint()
    pipe.set_progress_bar_config(disable=True)
    call = {"prompt": "a red seven moving left", "num_inference_steps": 2, "guidance_scale": 4.0}
    sweep = lab.ablate(pipe, step=1, layers=[2, 5], record=folder / "sweep.zarr", progress=False, **call)
    run, baseline = recorded
    return lab.report({"With STG": run, "CFG alone": baseline, EVIL: sweep}, folder / "report.html")


@pytest.fixture
def report(visit, page_file):
    seen = visit(page_file.as_uri(), color_scheme="light")
    seen.page.wait_for_selector(".stg-lab[data-ready]")
    return seen


def tab(report, name):
    report.page.get_by_role("tab", name=name).click()


def test_only_what_is_looked_at_is_started(report):
    page = report.page
    assert [id for id in page.evaluate(STARTED) if not id.startswith("recording-0-")] == []
    assert page.evaluate("() => window.Plotly === undefined")
    tab(report, "CFG alone")
    page.wait_for_selector("#recording-1 .stg-x0[data-ready]")
    assert not page.locator("#recording-0").is_visible()
    assert "recording-2-ablation" not in page.evaluate(STARTED)
    assert (report.faults, report.outside) == ([], [])


def test_every_tab_shows_its_own_recording(report, recorded):
    page = report.page
    for i, (name, run) in enumerate(zip(("With STG", "CFG alone"), recorded, strict=True)):
        tab(report, name)
        page.wait_for_selector(f"#recording-{i} .stg-x0[data-ready]")
        pixels = page.evaluate(
            """(id) => {
              const tile = document.querySelector(`#${id} .stg-branch[data-branch="guided"] canvas`);
              return [...tile.getContext("2d").getImageData(0, 0, tile.width, tile.height).data];
            }""",
            f"recording-{i}",
        )
        shown = np.array(pixels, np.uint8).reshape(32, 32, 4)[..., :3]
        np.testing.assert_array_equal(shown, to_bytes(run.recording.video("guided", step=2))[0, 0])


def test_every_explorer_starts_and_plots_are_drawn(report, tmp_path):
    page = report.page
    for i in range(3):
        page.get_by_role("tab").nth(i).click()
        for place in page.locator(f"#recording-{i} .explorer").all():
            place.scroll_into_view_if_needed()
            place.locator(".stg-lab[data-ready]").wait_for()
            assert not place.locator(".stg-error").first.is_visible()
        for plot in page.locator(f"#recording-{i} .plotly-figure").all():
            plot.scroll_into_view_if_needed()
            plot.locator(".main-svg .trace").first.wait_for()
        page.screenshot(path=tmp_path / f"{i}.png", full_page=True)
    assert len(page.evaluate(STARTED)) == page.locator(".explorer").count()
    assert (report.faults, report.outside) == ([], [])


def test_tabs_answer_to_keys_and_are_kept_in_the_address(report):
    page = report.page
    page.get_by_role("tab", name="With STG").focus()
    page.keyboard.press("ArrowLeft")  # around the end
    last = page.get_by_role("tab", name=EVIL)
    assert last.get_attribute("aria-selected") == "true"
    assert last.evaluate("(tab) => tab === document.activeElement")
    assert page.locator("[role=tabpanel]:visible").count() == 1
    tab(report, "CFG alone")
    page.reload()
    page.wait_for_selector("#recording-1 .stg-x0[data-ready]")
    assert page.get_by_role("tab", name="CFG alone").get_attribute("aria-selected") == "true"
    assert page.locator(".panel h2").last.text_content() == EVIL


def test_the_table_of_recordings_leads_to_their_tabs(report):
    page = report.page
    page.locator(".overview a", has_text="CFG alone").click()
    page.wait_for_selector("#recording-1 .stg-x0[data-ready]")
    assert page.locator("#recording-1").is_visible()
    page.go_back()
    page.locator(".overview a", has_text="With STG").click()
    page.wait_for_function("() => !document.getElementById('recording-0').hidden")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(visit, page_file, scheme, tmp_path):
    seen = visit(page_file.as_uri(), color_scheme=scheme)
    seen.page.set_viewport_size({"width": 390, "height": 844})
    seen.page.wait_for_selector(".stg-lab[data-ready]")
    for i in range(3):
        seen.page.get_by_role("tab").nth(i).click()
        for place in seen.page.locator(f"#recording-{i} .explorer, #recording-{i} .plotly-figure").all():
            place.scroll_into_view_if_needed()
            place.locator(".stg-lab[data-ready], .main-svg").first.wait_for()
        seen.page.wait_for_timeout(200)  # for the resize observers
        assert seen.page.evaluate("() => document.documentElement.scrollWidth") <= 390
    seen.page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    assert seen.faults == []
