"""What is shown can be had as a picture, a page, an animation, a film, as code and as a link; and steps can move together."""

import io
import json
import re
import zlib

import numpy as np
import pytest
from PIL import Image, ImageSequence

import stg_lab as lab
from stg_lab.metrics import read_video
from stg_lab.videogrid import Setting, State, VideoGrid

pytestmark = pytest.mark.browser

SIZE = 24
TILES = """() => { const root = document.querySelector(".stg-lab").getBoundingClientRect();
  return [...document.querySelectorAll(".stg-video canvas")].map((tile) => { const at = tile.getBoundingClientRect();
    return [at.x - root.x + at.width / 2, at.y - root.y + at.height / 2]; }); }"""


@pytest.fixture
def grid():
    """Two settings and two states; each frame of each video has a grey of its own."""
    video = np.zeros((2, 2, 3, SIZE, SIZE, 3), np.uint8)
    for i, k, t in np.ndindex(2, 2, 3):
        video[i, k, t] = 40 + 64 * i + 32 * k + 9 * t
    settings = (Setting("no guidance", None, "", True), Setting("skip:block:1", 1.0, "STG(1, skip:block:1)"))
    return VideoGrid(settings, (State("a", 1), State("b", 2)), video, np.ones((2, 2), bool))


def download(seen, kind, path):
    seen.page.click(".stg-save-key")
    with seen.page.expect_download() as got:
        seen.page.click(f".stg-save-{kind}")
    got.value.save_as(path / got.value.suggested_filename)
    seen.page.wait_for_function("() => document.querySelector('.stg-save .stg-say').textContent !== '…'")
    seen.page.keyboard.press("Escape")
    seen.page.click(".stg-title")
    return path / got.value.suggested_filename


def shades(pixels, places, scale):
    return [int(pixels[round(y * scale), round(x * scale)].mean()) for x, y in places]


def test_pictures_pages_animations_and_films_hold_what_is_shown(visit_widget, grid, tmp_path):
    explorer = lab.widgets.grid_explorer(grid)
    explorer.playing = False
    seen = visit_widget(explorer)
    places = seen.page.evaluate(TILES)
    expected = [40, 72, 104, 136]
    png = np.asarray(Image.open(download(seen, "png", tmp_path)).convert("RGB"))
    np.testing.assert_allclose(shades(png, places, 2), expected, atol=1)
    pdf = download(seen, "pdf", tmp_path).read_bytes()
    about = re.search(rb"/Width (\d+)/Height (\d+).*?/Length (\d+)>>stream\n", pdf, re.DOTALL)
    width, height, length = map(int, about.groups())
    pixels = np.frombuffer(zlib.decompress(pdf[about.end() : about.end() + length]), np.uint8).reshape(height, width, 3)
    np.testing.assert_array_equal(pixels, png)
    assert pdf[int(re.search(rb"startxref\n(\d+)", pdf)[1]) :].startswith(b"xref")
    with Image.open(download(seen, "gif", tmp_path)) as gif:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
    assert len(frames) == 3
    for t, frame in enumerate(frames):
        np.testing.assert_allclose(shades(frame, places, 1), np.add(expected, 9 * t), atol=4)
    film = (read_video(download(seen, "film", tmp_path))[0] * 255).astype(int)
    found = {tuple(shades(frame, places, 1)) for frame in film}
    for t in range(3):
        assert any(np.abs(np.subtract(one, np.add(expected, 9 * t))).max() <= 4 for one in found)
    assert seen.faults == seen.outside == []


def test_the_code_and_the_link_come_back_to_the_same_state(visit_widget, visit, grid):
    seen = visit_widget(lab.widgets.grid_explorer(grid), permissions=["clipboard-read", "clipboard-write"])
    seen.page.click(".stg-video[data-key='1/0']")
    seen.page.click(".stg-larger")
    said = {}
    for kind in ("code", "link"):
        seen.page.click(".stg-save-key")
        seen.page.click(f".stg-save-{kind}")
        seen.page.wait_for_function("() => document.querySelector('.stg-save .stg-say').textContent === 'copied'")
        said[kind] = seen.page.evaluate("() => navigator.clipboard.readText()")
        seen.page.click(".stg-title")
    names = {"explorer": lab.widgets.grid_explorer(grid)}
    exec("\n".join(said["code"].splitlines()[1:]), names)
    assert said["code"].startswith("explorer = lab.widgets.grid_explorer(")
    assert names["explorer"].chosen == ["1/0"]
    assert names["explorer"].size > 0
    again = visit(said["link"])
    again.page.wait_for_selector(".stg-video[data-key='1/0'][aria-pressed='true']")
    assert again.page.locator(".stg-card").count() == 2  # the baseline of the same noise stands beside it
    assert again.faults == []


def test_an_address_of_something_else_changes_nothing(visit_widget, visit, grid):
    seen = visit_widget(lab.widgets.grid_explorer(grid))
    for end in ("#explorer?{", "#other?%7B%22chosen%22%3A%5B%221%2F0%22%5D%7D", '#explorer?{"chosen":7,"view":1}'):
        again = visit(f"{seen.page.url}{end}")
        again.page.wait_for_selector(".stg-lab[data-ready]")
        assert again.page.locator(".stg-video[aria-pressed='true']").count() == 0
        assert again.faults == []


def test_x0_pictures_follow_the_step(visit_widget, recorded, tmp_path):
    explorer = lab.widgets.x0_explorer(recorded[0])
    explorer.step = 1
    seen = visit_widget(explorer)
    one = download(seen, "png", tmp_path).read_bytes()
    seen.page.keyboard.press("ArrowRight")
    seen.page.wait_for_function("() => document.querySelector('.stg-step').value === '2'")
    other = download(seen, "png", tmp_path).read_bytes()
    assert one != other
    assert Image.open(io.BytesIO(one)).size == Image.open(io.BytesIO(other)).size


def test_steps_move_together_once_they_are_linked(visit, recorded, tmp_path):
    page = lab.report(recorded[0], tmp_path / "r.html")
    seen = visit(page.as_uri(), color_scheme="light")
    for name in ("x0", "guidance"):
        seen.page.locator(f"#{name}-explorer").scroll_into_view_if_needed()
        seen.page.wait_for_selector(f"#{name}-explorer .stg-lab[data-ready]")
    steps = "() => [...document.querySelectorAll('.stg-step')].map((slider) => +slider.value)"
    first, second = seen.page.evaluate(steps)[:2]
    seen.page.locator("#x0-explorer .stg-step").fill(str(first - 1))
    assert seen.page.evaluate(steps)[:2] == [first - 1, second]
    seen.page.locator("#x0-explorer .stg-link").click()
    seen.page.locator("#x0-explorer .stg-step").fill("0")
    seen.page.wait_for_function(f"() => JSON.stringify(({steps})()).startsWith('[0,0')")
    assert (
        json.loads(
            seen.page.evaluate(
                "() => JSON.stringify([...document.querySelectorAll('.stg-link')].map((one) => one.ariaPressed))"
            )
        ).count("true")
        >= 2
    )
    assert seen.faults == []
