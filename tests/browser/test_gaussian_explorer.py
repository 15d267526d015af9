"""The explorer of guidance in the plane, in a real browser without a kernel: controls move the points, and they say so."""

import pytest

import stg_lab as lab
from stg_lab.gaussians import sweep, two_arms

pytestmark = pytest.mark.browser

PIXELS = """() => {
  const plane = document.querySelector(".stg-plane");
  return plane.getContext("2d").getImageData(0, 0, plane.width, plane.height).data.reduce((sum, v, i) => (sum * 31 + v * (i % 97)) % 1e9, 7);
}"""


def test_every_control_moves_the_picture(visit_widget):
    arms = two_arms()
    truth = arms.given(0)
    weak = {"all classes": arms.blurred(0.1), "blurred more": truth.blurred(0.2)}
    swept = sweep(truth.blurred(0.1), weak, truth, scales=(0, 1, 4), count=60, steps=6)
    seen = visit_widget(lab.widgets.gaussian_explorer(swept, truth, other=arms.given(1)))
    page = seen.page
    said = page.locator(".stg-said")
    assert f"{float(swept.modes.sel(weak='all classes', scale=1)):.1f} of 9 modes" in said.inner_text()
    before = page.evaluate(PIXELS)
    scale, level = (page.get_by_role("slider", name=name) for name in ("Scale", "Noise level"))
    page.get_by_role("button", name="blurred more").click()
    assert f"{float(swept.strays.sel(weak='blurred more', scale=1)):.0%}".replace("%", " %") in said.inner_text()
    for change in (
        lambda: scale.fill("2"),
        lambda: level.fill("1"),
        lambda: page.get_by_role("button", name="Trails").click(),
    ):
        after = page.evaluate(PIXELS)
        assert after != before
        change()
        before = after
    assert page.evaluate(PIXELS) != before
    page.locator(".stg-lab").focus()
    page.keyboard.press("ArrowLeft")
    assert scale.input_value() == "1"
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelectorAll('.stg-field input')[1].value === '3'")
    page.get_by_role("button", name="Pause").click()
    assert (seen.faults, seen.outside) == ([], [])
