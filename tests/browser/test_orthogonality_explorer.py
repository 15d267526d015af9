"""The orthogonality explorer in a browser: what is painted and drawn is the analysis's own."""

import numpy as np
import pytest
from kit.pipelines import SMALL

import stg_lab as lab
from stg_lab.analysis.vectors import change_of_pixels

pytestmark = pytest.mark.browser

SPATIAL, TEMPORAL = (lab.skip([1], part="attention", axis=axis) for axis in ("spatial", "temporal"))
CALL = {**SMALL, "prompt": ["a red seven moving left", "a blue two growing"], "num_inference_steps": 3}
STILL = """([role, index]) => {
  const still = document.querySelectorAll(`.stg-role[data-role="${role}"] canvas`)[index];
  return [...still.getContext("2d").getImageData(0, 0, still.width, still.height).data];
}"""


@pytest.fixture(scope="module")
def recording(tiny):
    """Two samples; the temporal weak model is off at the last step."""
    guidance = lab.CFG(3) + lab.STG(2, SPATIAL) + lab.STG(1, TEMPORAL, stop=0.6)
    return lab.sample(tiny.pipe, guidance=guidance, record=True, **CALL).recording


@pytest.fixture
def seen(visit_widget, recording):
    return visit_widget(lab.widgets.orthogonality_explorer(recording))


def still(seen, role, frame=2):
    rgba = np.array(seen.page.evaluate(STILL, [role, frame]), np.uint8)
    side = round((len(rgba) / 4) ** 0.5)
    return rgba.reshape(side, side, 4)[..., :3].astype(float)


def angle(recording, one, other, step=1, sample=0):
    return float(lab.analysis.angles(recording, one, other).angle.values[0, 1, step, sample])


def wait_for_angle(seen, degrees):
    seen.page.wait_for_function(
        "(text) => document.querySelector('.stg-fact').textContent.startsWith(text)", arg=f"{degrees:.1f}°"
    )


def grey(recording, latents, most, step, sample=0, frame=2):
    """A change of latents in pixels around grey, as it should be painted where `most` is as bright as can be."""
    b = recording.ds.x0_prediction.values[step]
    return np.clip(127.5 + 127.5 * change_of_pixels(recording, latents, b)[sample, frame] / most, 0, 255)


def test_the_angle_is_told_and_drawn(seen, recording):
    degrees = angle(recording, *recording.weak)
    wait_for_angle(seen, degrees)
    share = 100 * np.cos(np.radians(degrees)) ** 2
    removed = seen.page.locator(".stg-fact b").nth(1).inner_text()
    assert float(removed.removesuffix(" %")) == pytest.approx(share, rel=0.01)
    x1, y1, x2, y2 = (
        float(seen.page.locator(".stg-arrow-loser line").get_attribute(name)) for name in ("x1", "y1", "x2", "y2")
    )
    assert np.degrees(np.arctan2(y1 - y2, x2 - x1)) == pytest.approx(degrees, abs=0.2)
    assert (seen.faults, seen.outside) == ([], [])


def test_pictures_are_the_vectors_and_what_eq_21_makes_of_them(visit_widget, recording):
    explorer, step, gain = lab.widgets.orthogonality_explorer(recording), 0, 8.0
    explorer.step, explorer.gain = step, gain
    seen = visit_widget(explorer)
    scale = np.frombuffer(explorer.arrays["scale"], np.float32).reshape(2, 3, 3)[0, 1:, step].max()
    found = lab.analysis.removed(recording)
    spatial = recording.delta(next(iter(recording.weak)))
    parts = {"keeps": spatial, "loses": found["vector"], "removed": found["removed"], "left": found["left"]}
    for role, part in parts.items():
        wanted, painted = grey(recording, part.values[step], scale / gain, step), still(seen, role)
        inside = (wanted > 20) & (wanted < 235)
        assert inside.mean() > 0.2, role
        assert np.abs(painted - wanted)[inside].max() <= 0.75 * gain, (
            role
        )  # a sheet has 8 bits, which the gain stretches
        assert painted.std() > 5, role


def test_step_sample_and_pair_change_everything(seen, recording):
    page, (spatial, temporal) = seen.page, recording.weak
    page.locator(".stg-step").focus()
    page.keyboard.press("ArrowLeft")
    wait_for_angle(seen, angle(recording, spatial, temporal, step=0))
    page.locator(".stg-sample").select_option("1")
    wait_for_angle(seen, angle(recording, spatial, temporal, step=0, sample=1))
    before = still(seen, "keeps")
    page.locator(".stg-keeps").select_option("uncond")
    wait_for_angle(seen, angle(recording, "uncond", temporal, step=0, sample=1))
    assert np.abs(still(seen, "keeps") - before).max() > 3
    page.locator(".stg-loses").select_option("uncond")  # the other shows it: the two change places
    page.wait_for_function("(name) => document.querySelector('.stg-keeps').value === name", arg=temporal)
    assert seen.faults == []


def test_the_keyboard_moves_and_swaps(seen, recording):
    page, (spatial, temporal) = seen.page, recording.weak
    page.locator(".stg-swap").focus()
    page.keyboard.press("s")
    page.wait_for_function("(name) => document.querySelector('.stg-keeps').value === name", arg=temporal)
    assert page.locator(".stg-role[data-role=keeps] .stg-name").inner_text() == "temporal skip"
    page.keyboard.press("ArrowLeft")
    wait_for_angle(seen, angle(recording, temporal, spatial, step=0))


def test_a_vector_that_was_not_computed_says_so(seen):
    page = seen.page
    page.locator(".stg-step").focus()
    page.keyboard.press("End")
    page.locator(".stg-role[data-role=loses] .stg-why").wait_for(state="visible")
    assert "there is no angle" in page.locator(".stg-fact").inner_text()
    assert not still(seen, "left").any()
    assert still(seen, "keeps").std() > 5  # as bright as at any other step


def test_the_paths_mark_the_step_and_answer_to_clicks(seen, recording):
    page, (spatial, temporal) = seen.page, recording.weak
    path = page.locator(f".stg-path[data-vector='{spatial}']")
    assert path.locator("circle").count() == 3
    assert path.locator(".stg-now").get_attribute("data-step") == "1"
    assert page.locator(f".stg-path[data-vector='{temporal}'] circle").count() == 2  # off at the last step
    path.locator("circle[data-step='2']").click()
    page.wait_for_function("() => document.querySelector('.stg-readout b').textContent === '2'")
    before = path.locator("path").get_attribute("d")
    page.locator(".stg-unit-off").click()
    page.wait_for_function(
        "([name, d]) => document.querySelector(`.stg-path[data-vector='${name}'] > path`).getAttribute('d') !== d",
        arg=[spatial, before],
    )


def test_it_fits_a_narrow_cell(seen):
    seen.page.set_viewport_size({"width": 520, "height": 900})
    seen.page.wait_for_selector(".stg-orth.stg-narrow")
    assert seen.page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
