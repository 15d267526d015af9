"""Every explorer tells what its parts do: as tooltips, and all together behind the key "?"; and CFG has one colour on a page."""

import pytest

import stg_lab as lab
from stg_lab import palette
from stg_lab.gaussians import sweep, two_arms

pytestmark = [pytest.mark.browser]


def plane():
    arms = two_arms()
    truth = arms.given(0)
    return lab.widgets.gaussian_explorer(
        sweep(truth.blurred(0.1), {"all": arms.blurred(0.1)}, truth, scales=(0, 1), count=20, steps=4), truth
    )


def watched(run):
    call = {"prompt": "a red seven moving left", "num_inference_steps": 2}
    return lab.widgets.watch_explorer(lab.sample(run.pipe, guidance=lab.Watch([1]), **call))


EXPLORERS = {
    "x0": lambda run, folder: lab.widgets.x0_explorer(run),
    "comparison": lambda run, folder: lab.widgets.comparison_explorer(run, run),
    "watch": lambda run, folder: watched(run),
    "guidance": lambda run, folder: lab.widgets.guidance_explorer(run),
    "orthogonality": lambda run, folder: lab.widgets.orthogonality_explorer(run),
    "ablation": lambda run, folder: lab.widgets.ablation_explorer("layers"),
    "fork": lambda run, folder: lab.widgets.fork_explorer(run),
    "plane": lambda run, folder: plane(),
    "grid": lambda run, folder: lab.widgets.grid_explorer({"a": run, ("b", 1): run, ("b", 2): run}),
    "pairs": lambda run, folder: lab.rate({"a": run, "b": run}, out=folder / "ratings.jsonl").widget,
}

#: Controls in sight that no tooltip speaks for, neither their own nor that of what they stand in.
SILENT = """() => [...document.querySelectorAll(".stg-lab :is(button, select, input)")]
  .filter((node) => node.checkVisibility() && !node.closest("[title]:not([title=''])"))
  .map((node) => node.className || node.textContent)"""


@pytest.mark.parametrize("name", EXPLORERS)
def test_the_parts_are_explained(visit_widget, recorded, name, tmp_path):
    seen = visit_widget(EXPLORERS[name](recorded[0], tmp_path))
    page, panel = seen.page, seen.page.locator(".stg-help")
    assert page.evaluate(SILENT) == []
    page.locator(".stg-lab").focus()
    assert not panel.is_visible()
    page.keyboard.press("?")
    panel.wait_for(state="visible")
    words = panel.locator("dd").all_inner_texts()
    assert len(words) >= 4
    assert all(len(text) > 20 for text in words)
    assert panel.evaluate(
        "(node) => node.getBoundingClientRect().left >= 0 && node.getBoundingClientRect().right <= innerWidth"
    )
    page.screenshot(path=tmp_path / f"help-{name}.png")
    page.keyboard.press("Escape")
    panel.wait_for(state="hidden")
    page.locator(".stg-help-key").click()
    panel.wait_for(state="visible")
    page.locator(".stg-title").first.click()  # elsewhere
    panel.wait_for(state="hidden")
    assert seen.faults == []


def test_a_question_mark_in_a_field_is_a_letter(visit_widget, recorded):
    seen = visit_widget(lab.widgets.fork_explorer(recorded[0]))
    seen.page.locator("input.stg-layers").fill("")
    seen.page.keyboard.type("?")
    assert seen.page.locator("input.stg-layers").input_value() == "?"
    assert not seen.page.locator(".stg-help").is_visible()


def test_cfg_has_one_colour_on_a_page(visit, recorded, tmp_path):
    """Its row of pictures, its slider, its vector and its lines, in three explorers and a plot."""
    seen = visit(lab.report(recorded[0], tmp_path / "report.html").as_uri(), color_scheme="light")
    page = seen.page
    for id in ("x0-explorer", "guidance-explorer", "orthogonality-explorer"):
        page.locator(f"#{id}").scroll_into_view_if_needed()
        page.wait_for_selector(f"#{id} .stg-lab[data-ready]")
    page.locator("#plots").scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('.plotly-figure')?._fullData?.length")
    border = "(node) => getComputedStyle(node, null).borderLeftColor"
    line = "() => document.querySelector('.plotly-figure')._fullData.find((one) => one.name.startsWith('cond − uncond')).line.color"
    strips = page.locator(".stg-gv-strip[data-strip=uncond] .stg-label")
    shown = {
        "x0": page.locator(".stg-branch[data-branch=cfg] .stg-label").evaluate(border),
        "strip": strips.evaluate(border),
        "legend": page.locator('[data-panel=lengths] .stg-plot-legend span:has-text("CFG\'s") i').first.evaluate(
            "(node) => getComputedStyle(node).backgroundColor"
        ),
        "role": page.locator(".stg-role:has(.stg-name:text-is('CFG')) .stg-label").evaluate(border),
    }
    red, green, blue = (int(palette.FIXED["cfg"][i : i + 2], 16) for i in (1, 3, 5))
    assert shown == dict.fromkeys(shown, f"rgb({red}, {green}, {blue})")
    assert page.evaluate(line).lower() == palette.FIXED["cfg"].lower()
