"""Blind pairs in a real browser: keys and buttons answer, both videos play, and the page tells nothing before the end."""

import json

import nbformat
import numpy as np
import pytest

import stg_lab as lab

pytestmark = pytest.mark.browser

NAMES = ("Akelei", "Bovist")
MAKE = """import numpy as np
import stg_lab as lab
rng = np.random.default_rng(0)
sources = {name: rng.random((2, 4, 12, 16, 3), np.float32) for name in ("Akelei", "Bovist")}
"""
RATE = """rating = lab.rate(sources, captions=["a red seven", "a blue two"], out="ratings.jsonl", rater=1, seed=0)
rating
"""
PIXELS = """(side) => {
  const canvas = document.querySelector(`.stg-blind canvas[aria-label$="${side}"]`);
  return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
}"""
#: As in a notebook, where a kernel is there to ask; and a model that tells what was set.
KERNEL = (
    """Object.defineProperty(PageModel.prototype, "widget_manager", { get() { window.model = this; return {}; } });"""
)


def words(page) -> str:
    return page.locator(".stg-blind-words").inner_text()


def wait_for(page, text: str) -> None:
    page.wait_for_function("(text) => document.querySelector('.stg-status').textContent.includes(text)", arg=text)


@pytest.fixture
def rating(tmp_path):
    rng = np.random.default_rng(0)
    sources = {name: rng.random((2, 4, 12, 16, 3), np.float32) for name in NAMES}
    return lab.rate(sources, captions=["a red seven", "a blue two"], out=tmp_path / "r.jsonl", rater=1, seed=0)


@pytest.mark.parametrize(
    ("key", "what"),
    [("ArrowLeft", "left"), ("ArrowRight", "right"), ("ArrowDown", "equal"), ("=", "equal"), ("Backspace", "undo")],
)
def test_each_key_says_its_answer_once(visit_widget, rating, key, what):
    rating.answer("left")
    seen = visit_widget(rating.widget, before=KERNEL)
    page = seen.page
    page.locator(".stg-blind").focus()
    page.keyboard.press(key)
    page.keyboard.press(key)  # while the kernel has not dealt with the first one
    assert page.evaluate("() => window.model.get('given')") == {"count": 1, "do": what, "number": 1}
    assert (seen.faults, seen.outside) == ([], [])


def test_both_videos_play_together_and_are_the_questions(visit_widget, rating):
    seen = visit_widget(rating.widget, before=KERNEL)
    page, question = seen.page, rating.next()
    page.wait_for_function("() => document.querySelector('.stg-blind canvas').dataset.frame === '2'")
    page.locator(".stg-blind").focus()
    page.keyboard.press(" ")
    page.wait_for_function("() => document.querySelector('.stg-play').textContent === 'Play'")
    frames = {node.get_attribute("data-frame") for node in page.locator(".stg-blind canvas").all()}
    assert len(frames) == 1
    for side in ("left", "right"):
        rgba = np.array(page.evaluate(PIXELS, side), np.uint8).reshape(12, 16, 4)
        np.testing.assert_array_equal(rgba[..., :3], np.round(getattr(question, side)[int(*frames)] * 255))
    assert not [name for name in NAMES if name in page.content()]
    assert (seen.faults, seen.outside) == ([], [])


def test_a_page_without_a_kernel_says_so_and_answers_nothing(visit_widget, rating):
    seen = visit_widget(rating.widget)
    assert "needs a running notebook" in seen.page.locator(".stg-blind-note").inner_text()
    assert seen.page.locator(".stg-answer-left").is_disabled()
    seen.page.locator(".stg-blind").focus()
    seen.page.keyboard.press("ArrowLeft")
    assert seen.page.locator(".stg-status").inner_text() == "pair 1 of 2 · 0 of 8 questions answered"
    assert seen.faults == []


@pytest.mark.notebook
@pytest.mark.slow
def test_a_rater_in_a_notebook(run_notebook, tmp_path):
    folder = tmp_path / "rating"
    folder.mkdir()
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in (MAKE, RATE)])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, folder / "rating.ipynb")
    seen = run_notebook(folder / "rating.ipynb")
    page = seen.page
    page.wait_for_selector(".stg-blind[data-ready]")
    page.locator(".stg-blind").focus()
    for count, key in enumerate(("ArrowLeft", "=", "ArrowRight"), 1):
        page.keyboard.press(key)
        wait_for(page, f"{count} of 8")
    assert words(page).startswith("Which video is better overall")
    page.keyboard.press("Backspace")
    wait_for(page, "2 of 8")
    page.locator(".stg-answer-equal").click()
    wait_for(page, "3 of 8")
    lines = seen.ask("rating.path.read_text().splitlines()[1:]")
    said = [json.loads(line).get("answer", "undo") for line in eval(lines)]
    assert said == ["left", "equal", "right", "undo", "equal"]
    cell = page.locator(".stg-blind")
    assert not [name for name in NAMES if name in cell.evaluate("(node) => node.outerHTML")]
    cell.screenshot(path=tmp_path / "asked.png")
    cell.focus()
    for count in range(4, 9):
        page.keyboard.press("ArrowDown")
        wait_for(page, f"{count} of 8" if count < 8 else "all 8 questions answered")
    told = page.locator(".stg-blind-result").inner_text()
    assert all(name in told for name in NAMES)
    cell.screenshot(path=tmp_path / "result.png")
    assert (
        page.locator(".stg-notebook, .jp-Notebook").locator(".jp-CodeCell").count() == 2
    )  # no key reached the notebook
    assert seen.outside == []
