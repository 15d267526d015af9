"""Zoom of the x0 explorer, and the model's own decoding in place of a preview, on a page."""

import numpy as np
import pytest
from kit.zoo import member

import stg_lab as lab
from stg_lab.sheets import to_bytes

pytestmark = pytest.mark.browser

WIDE = "() => document.querySelector('.stg-tile').getBoundingClientRect().width"


def test_buttons_and_keys_zoom(visit_widget, recorded, tmp_path):
    seen = visit_widget(lab.widgets.x0_explorer(recorded[0]))
    page = seen.page
    first = page.evaluate(WIDE)
    assert page.locator(".stg-fit").get_attribute("aria-pressed") == "true"
    page.locator(".stg-larger").click()
    page.wait_for_function("() => document.querySelector('.stg-fit').getAttribute('aria-pressed') === 'false'")
    larger = page.evaluate(WIDE)
    assert larger == min(size for size in (96, 128, 192, 256) if size > first)
    page.locator(".stg-step").focus()
    page.keyboard.press("+")
    page.wait_for_function(f"() => ({WIDE})() > {larger}")
    left = page.locator("[data-branch=cond] canvas").count()
    assert left < 9  # fewer frames rather than a wider page, and not without a word
    assert page.locator(".stg-legend").inner_text() == f"{left} of 9 frames; − shows more"
    assert page.evaluate(
        "() => document.querySelector('.stg-x0').scrollWidth <= document.querySelector('.stg-x0').clientWidth"
    )
    page.screenshot(path=tmp_path / "larger.png")
    page.keyboard.press("-")
    page.wait_for_function(f"() => ({WIDE})() === {larger}")
    page.locator(".stg-fit").click()
    page.wait_for_function(f"() => ({WIDE})() === {first}")
    page.locator(".stg-smaller").click()
    page.wait_for_function(f"() => ({WIDE})() < {first}")
    assert page.locator(".stg-legend").inner_text() == ""  # all are there again
    np.testing.assert_array_equal(seen.tile("skip", 8), to_bytes(recorded[0].recording.video("skip", step=2))[0, 8])
    assert seen.faults == []


def test_a_decoded_step_takes_the_previews_place(visit_widget, tmp_path):
    one = member("svd")
    run = lab.sample(one.pipe, guidance=lab.CFG(3), num_inference_steps=2, **one.call)
    explorer = lab.widgets.x0_explorer(run)
    explorer.decode_step()
    assert explorer.wait(60)
    step, size = explorer.step, next(iter(explorer.decoded.values()))
    explorer.set_trait("status", "")
    seen = visit_widget(explorer)
    page = seen.page
    shown = page.evaluate(
        "() => [...document.querySelectorAll('[data-branch=cond] canvas')].map((c) => [c.width, c.height])"
    )
    assert set(map(tuple, shown)) == {(size["width"], size["height"])}
    assert page.locator(".stg-start").inner_text() == "This step is decoded"
    page.screenshot(path=tmp_path / "decoded.png")
    page.locator(".stg-step").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"() => document.querySelector('.stg-readout b').textContent === '{step - 1}'")
    page.wait_for_function(
        f"() => document.querySelector('[data-branch=cond] canvas').width === {explorer.view['width']}"
    )
    assert page.locator(".stg-start").inner_text() == "Decode this step"
    assert seen.faults == []
