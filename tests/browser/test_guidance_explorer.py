"""The guidance explorer in a browser: what JavaScript adds up is the guidance's own arithmetic, decoded."""

import numpy as np
import pytest
from kit.pipelines import SMALL
from matplotlib import colormaps

import stg_lab as lab
from stg_lab.sheets import to_bytes

from .controls import shown

pytestmark = pytest.mark.browser

CALL = {**SMALL, "prompt": ["a red seven moving left", "a blue two growing"], "num_inference_steps": 3}
WEAK = lab.skip([1])
CANVAS = """(selector) => {
  const canvas = document.querySelector(selector);
  return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
}"""
SLIDE = """([name, value]) => {
  const slider = document.querySelector(`[data-vector="${name}"]`);
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
}"""


@pytest.fixture(scope="module")
def rec(tiny, tmp_path_factory):
    """Two samples; the weak model is off at step 0, and the sum is rescaled."""
    guidance = (lab.CFG(4) + lab.STG(1.5, WEAK, start=0.3)).rescale(0.7)
    return lab.sample(tiny.pipe, guidance=guidance, record=tmp_path_factory.mktemp("g") / "run.zarr", **CALL).recording


@pytest.fixture
def seen(visit_widget, rec):
    return visit_widget(lab.widgets.guidance_explorer(rec, step=2))


def painted(seen, selector):
    rgba = np.array(seen.page.evaluate(CANVAS, selector), np.uint8)
    side = round((len(rgba) / 4) ** 0.5)
    return rgba.reshape(side, side, 4)[..., :3].astype(int)


def expected(rec, guidance, *, step=2, sample=0, frame=2):
    x0 = rec.x0(rec.reweight(guidance)).isel(step=step).values
    return to_bytes(rec.preview(x0))[sample, frame].astype(int)


def facts(seen):
    names, values = (seen.page.locator(f".stg-gv-facts {tag}").all_inner_texts() for tag in ("span", "b"))
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize(("g", "s", "phi"), [(4, 1.5, 0.7), (1, 0, 0), (7.5, 0.5, 0), (12, -1, 0.45), (9, 4, 1)])
def test_any_scales_are_painted_as_they_would_have_been(seen, rec, g, s, phi):
    for name, value in (("uncond", g), ("skip", s), ("rescale", phi)):
        seen.page.evaluate(SLIDE, [name, value])
    seen.page.wait_for_function(
        "(g) => document.querySelector('[data-vector=uncond] + b').textContent === String(g)", arg=g
    )
    guidance = (lab.CFG(g) + lab.STG(s, WEAK)).rescale(phi)
    assert np.abs(painted(seen, ".stg-gv-yours canvas") - expected(rec, guidance)).max() <= 1
    own = rec.reweight(guidance).isel(step=2, sample=0)
    cond = rec.prediction("cond").isel(step=2, sample=0)
    said = facts(seen)["std of the prediction"]
    assert said == f"{float(own.std()):.3f} = {float(own.std() / cond.std()):.2f} × cond's"
    push = float(np.sqrt(((own - cond) ** 2).mean()))
    assert facts(seen)["length of the push"].startswith(f"RMS {push:.3f}")
    apart = float(np.sqrt(((own - rec.prediction("guided").isel(step=2, sample=0)) ** 2).mean()))
    assert float(facts(seen)["from the recorded one"].removeprefix("RMS ")) == pytest.approx(apart, abs=0.0051)
    assert seen.faults == []


def test_it_opens_on_what_the_sampler_used(seen, rec):
    recorded = to_bytes(rec.video("guided", step=2))[0, 2].astype(int)
    assert np.array_equal(painted(seen, ".stg-gv-recorded canvas"), recorded)
    assert np.abs(painted(seen, ".stg-gv-yours canvas") - recorded).max() <= 1
    assert np.abs(painted(seen, ".stg-gv-cond canvas") - to_bytes(rec.video("cond", step=2))[0, 2]).max() <= 1
    assert facts(seen)["from the recorded one"] == "RMS 0.00"
    assert "exact for this step; not the trajectory" in seen.page.locator(".stg-gv-exact").inner_text()


def test_sliders_answer_to_the_keyboard(seen, rec):
    page = seen.page
    page.locator("[data-vector=skip]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('[data-vector=skip] + b').textContent === '1.55'")
    after = expected(rec, (lab.CFG(4) + lab.STG(1.55, WEAK)).rescale(0.7))
    assert np.abs(painted(seen, ".stg-gv-yours canvas") - after).max() <= 1
    assert "(recorded: 1.5)" in page.locator(".stg-gv-row").nth(1).inner_text()
    page.locator(".stg-step").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => document.querySelector('.stg-readout b').textContent === '1'")
    before = expected(rec, (lab.CFG(4) + lab.STG(1.55, WEAK)).rescale(0.7), step=1)
    assert np.abs(painted(seen, ".stg-gv-yours canvas") - before).max() <= 1
    page.locator(".stg-frame").focus()
    page.keyboard.press("End")
    page.wait_for_function("() => document.querySelector('.stg-gv-frame output').textContent === 'frame 4 of 0–4'")
    last = expected(rec, (lab.CFG(4) + lab.STG(1.55, WEAK)).rescale(0.7), step=1, frame=4)
    assert np.abs(painted(seen, ".stg-gv-yours canvas") - last).max() <= 1


def test_buttons_lead_back(seen, rec):
    page = seen.page
    page.locator(".stg-all-off").click()
    page.wait_for_function("() => document.querySelector('[data-vector=uncond] + b').textContent === '1'")
    assert np.array_equal(painted(seen, ".stg-gv-yours canvas"), painted(seen, ".stg-gv-cond canvas"))
    assert facts(seen)["length of the push"] == "RMS 0.000 = 0.00 × cond"
    page.locator(".stg-as-recorded").click()
    page.wait_for_function("() => document.querySelector('[data-vector=rescale] + b').textContent === '0.7'")
    assert facts(seen)["from the recorded one"] == "RMS 0.00"


def test_a_vector_that_was_not_computed_cannot_be_moved(seen):
    page = seen.page
    assert page.locator("[data-vector=skip]").is_enabled()
    page.locator(".stg-step").focus()
    page.keyboard.press("Home")
    page.wait_for_function("() => document.querySelector('[data-vector=skip]').disabled")
    assert "not computed at this step" in page.locator(".stg-gv-row").nth(1).inner_text()
    assert facts(seen)["from the recorded one"] == "RMS 0.00"  # CFG alone, rescaled
    assert "NaN" not in page.locator(".stg-lab").inner_text()


def test_the_maps_show_the_place(seen, rec):
    """Viridis over the grey picture, by how much the vector changes each decoded pixel; the bar names the range."""
    shown_there = lab.analysis.vector_map(rec, pixels=True).sel(vector="uncond").isel(step=2, sample=0)
    high = np.sort(shown_there.values.ravel())[int(np.floor(0.99 * (shown_there.size - 1)))]
    bar = seen.page.locator("[data-strip=uncond] .stg-scale").inner_text().split()
    assert float(bar[-1]) == pytest.approx(high, rel=0.02)
    cond = to_bytes(rec.video("cond", step=2))[0]
    stops = 255 * colormaps["viridis"](np.linspace(0, 1, 9))[:, :3]
    for frame in (0, 3):
        place = np.clip(shown_there[frame].values / high, 0, 1)
        cover = (0.6 + 0.4 * place)[..., None]
        grey = (cond[frame] @ [0.299, 0.587, 0.114])[..., None]
        colours = np.stack([np.interp(place, np.linspace(0, 1, 9), stop) for stop in stops.T], -1)
        tile = painted(seen, f"[data-strip=uncond] canvas[data-frame='{frame}']")
        assert np.abs(tile - (cover * colours + (1 - cover) * grey)).max() < 4
    seen.page.locator("[data-strip=skip] canvas[data-frame='4']").click()
    seen.page.wait_for_function("() => document.querySelector('.stg-frame').value === '4'")


def test_charts_follow_step_sample_and_choice(seen, rec):
    page = seen.page
    norm = lab.analysis.vector_lengths(rec).norm.sel(vector="uncond")
    legend = "[data-panel=lengths] .stg-plot-legend span:first-child b"
    assert float(page.locator(legend).first.inner_text()) == pytest.approx(float(norm[2, 0]), rel=6e-3)
    page.locator(".stg-sample").select_option("1")
    page.wait_for_function("(was) => document.querySelector('.stg-sample').value === '1'", arg=None)
    page.wait_for_timeout(200)
    assert float(page.locator(legend).first.inner_text()) == pytest.approx(float(norm[2, 1]), rel=6e-3)
    page.locator(".stg-panel-parts").click()
    page.locator(".stg-onto-cfg").click()
    page.wait_for_selector(".stg-onto-cfg[aria-pressed=true]")
    along = page.locator("[data-panel=parts] .stg-plot-legend").first.inner_text()
    part = lab.analysis.vector_parts(rec).parallel.sel(vector="skip", onto="cfg")[2, 1]
    assert f"{float(part):.3g}"[:5] in along
    page.locator(".stg-panel-spectra").click()
    page.wait_for_selector("[data-panel=spectra] .stg-line")
    assert not page.locator("[data-panel=parts]").is_visible()
    assert page.locator("[data-panel=spectra] .stg-line").count() == 6  # three vectors, two charts
    assert (seen.faults, seen.outside) == ([], [])


def test_what_is_shown_is_the_state_and_nothing_else(seen, visit_widget, rec):
    """So that a page that is opened again looks as it was left."""
    seen.page.locator(".stg-panel-parts").click()
    seen.page.locator(".stg-panel-spectra").click()
    seen.page.evaluate(SLIDE, ["skip", -1])
    seen.page.locator(".stg-common").click()
    seen.page.wait_for_selector(".stg-common[aria-pressed=true]")
    again = lab.widgets.guidance_explorer(rec, step=2)
    again.panel, again.common, again.scales = "spectra", True, {"uncond": 4, "skip": -1}
    fresh = visit_widget(again)
    assert shown(seen.page.locator(".stg-gv")) == shown(fresh.page.locator(".stg-gv"))


def test_it_plays_and_pauses(seen):
    page = seen.page
    page.locator(".stg-play").click()
    page.wait_for_function("() => document.querySelector('.stg-gv-frame output').textContent.startsWith('frame 4')")
    page.locator(".stg-play").click()
    page.wait_for_function("() => document.querySelector('.stg-play').textContent === 'Play'")
    stopped = page.locator(".stg-gv-frame output").inner_text()
    page.wait_for_timeout(400)
    assert page.locator(".stg-gv-frame output").inner_text() == stopped


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1920), ("light", 420)])
def test_it_fits_and_follows_the_systems_look(visit_widget, rec, scheme, width):
    seen = visit_widget(lab.widgets.guidance_explorer(rec), color_scheme=scheme)
    seen.page.set_viewport_size({"width": width, "height": 900})
    seen.page.wait_for_timeout(200)  # for the resize observer
    assert seen.page.evaluate("() => document.documentElement.scrollWidth") <= width
    red = seen.page.evaluate(
        "() => +getComputedStyle(document.querySelector('.stg-gv')).backgroundColor.match(/\\d+/)[0]"
    )
    assert (red > 200) == (scheme == "light")
    assert seen.faults == []
