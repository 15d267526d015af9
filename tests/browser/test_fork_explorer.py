"""Explorers that compute, in a real JupyterLab: they work beside the notebook, show each step, and stop when asked."""

from pathlib import Path

import nbformat
import numpy as np
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.notebook, pytest.mark.slow]

HEAD = f"""import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import time
import torch
from kit.pipelines import SMALL, tiny_wan
import stg_lab as lab
torch.set_num_threads(1)
pipe = tiny_wan()
call = dict(SMALL, prompt="a red seven moving left")
weak = lab.skip([1])
allowed = 1e9

def wait(*_):
    global allowed
    while allowed <= 0:
        time.sleep(0.01)
    allowed -= 1

pipe.transformer.register_forward_pre_hook(wait)
"""
#: So many passes more may the model make, and then it waits: no run is over before somebody stops it.
ALLOW = "globals().update(allowed={})"
FORK = """run = lab.sample(pipe, guidance=lab.CFG(4) + lab.STG(1, weak), num_inference_steps=24, **call)
allowed = 12
explorer = lab.widgets.fork_explorer(run)
explorer
"""
LIVE = """allowed = 12
live = lab.widgets.live_run(pipe, guidance=lab.CFG(4) + lab.STG(1, weak), num_inference_steps=40, **call)
live
"""
SCREEN = """(name) => {
  const screen = document.querySelector(`[data-player="${name}"] canvas`);
  return [...screen.getContext("2d").getImageData(0, 0, screen.width, screen.height).data];
}"""
STATUS = "() => document.querySelector('.stg-status').textContent"


@pytest.fixture
def notebook(tmp_path):
    """A notebook of these cells: `notebook(code, ...)` gives its path."""

    def write(*codes):
        folder = tmp_path / "working"
        folder.mkdir()
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])
        book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, folder / "working.ipynb")
        return folder / "working.ipynb"

    return write


def screen(page, name):
    return np.array(page.evaluate(SCREEN, name), np.uint8)


def test_sample_on_and_cancel(run_notebook, notebook, tmp_path):
    seen = run_notebook(notebook(HEAD, FORK), height=1300)
    page = seen.page
    page.wait_for_selector(".stg-fork[data-ready]")
    page.locator(".stg-fork").scroll_into_view_if_needed()
    page.locator(".stg-play").click()  # pictures that stand still can be compared
    page.wait_for_function("() => document.querySelector('.stg-play').textContent === 'Play'")

    page.locator("input.stg-stg").fill("3")
    page.locator("select.stg-part").select_option("attention")
    page.locator(".stg-step").fill("10")
    page.wait_for_function("() => document.querySelector('.stg-start').textContent === 'Sample on from step 10'")
    assert page.locator(".stg-sum").inner_text() == "CFG(4) + STG(3, skip:attention:1)"
    seen.becomes("str(explorer.guidance), explorer.step", "('CFG(4) + STG(3, skip:attention:1)', 10)")

    page.locator(".stg-start").click()
    page.wait_for_function("() => +document.querySelector('.stg-progress').value > 0.1")
    assert page.locator(".stg-start").is_disabled()
    assert seen.ask("explorer.running, 6 * 7") == "(True, 42)"  # the kernel answers meanwhile
    page.screenshot(path=tmp_path / "on_its_way.png")
    seen.ask(ALLOW.format(1e9))
    page.wait_for_selector(".stg-fork[data-running=false]", timeout=60_000)
    page.wait_for_function(f"() => ({STATUS})() === 'done'")
    assert seen.ask("len(explorer.forks)") == "1"
    frame = int(page.locator("[data-player=fork] canvas").get_attribute("data-frame"))
    expected = seen.ask(f"__import__('stg_lab.sheets').sheets.to_bytes(explorer.forks[0].video)[0, {frame}].sum()")
    rgba = screen(page, "fork").reshape(-1, 4)
    assert f"np.uint64({int(rgba[:, :3].sum(dtype=int))})" == expected
    assert not np.array_equal(screen(page, "fork"), screen(page, "original"))
    assert (screen(page, "difference").reshape(-1, 4)[:, :3] != 127).any()
    page.screenshot(path=tmp_path / "forked.png")

    seen.ask(ALLOW.format(12))
    page.locator(".stg-step").fill("0")
    page.locator(".stg-start").click()
    page.wait_for_function("() => +document.querySelector('.stg-progress').value > 0.05")
    page.locator(".stg-stop").click()
    seen.becomes("explorer.stop or not explorer.running", "True")
    seen.ask(ALLOW.format(1e9))
    page.wait_for_selector(".stg-fork[data-running=false]")
    page.wait_for_function(f"() => ({STATUS})().startsWith('cancelled at step ')")
    assert page.locator(".stg-chip").count() == 2
    assert "cancelled at step" in page.locator(".stg-chip").nth(1).inner_text()
    assert seen.ask("len(explorer.forks), len(explorer.recordings), explorer.problem") == "(1, 2, '')"
    assert seen.ask("0 < explorer.recordings[1].steps < 24") == "True"
    cancelled = screen(page, "fork")
    page.locator(".stg-chip").nth(0).click()
    page.wait_for_function("() => document.querySelector('.stg-chip').getAttribute('aria-pressed') === 'true'")
    page.wait_for_timeout(200)
    assert not np.array_equal(screen(page, "fork"), cancelled)

    page.locator(".stg-layers").fill("9")
    page.wait_for_function("() => document.querySelector('.stg-sum').textContent.endsWith(':9)')")
    page.locator(".stg-start").click()
    page.locator(".stg-error").wait_for(state="visible")
    assert "layer" in page.locator(".stg-error").inner_text()
    page.screenshot(path=tmp_path / "refused.png")
    assert seen.outside == []


def test_a_live_run_goes_on_beside_the_notebook_and_stops(run_notebook, notebook, tmp_path):
    seen = run_notebook(notebook(HEAD, LIVE), height=1300)
    page = seen.page
    page.wait_for_selector(".stg-live[data-ready]")
    page.locator(".stg-live").scroll_into_view_if_needed()
    page.wait_for_function("() => +document.querySelector('.stg-readout b')?.textContent >= 2")
    assert seen.ask("live.running, 6 * 7") == "(True, 42)"
    names = page.evaluate("() => [...document.querySelectorAll('.stg-live-row')].map((row) => row.dataset.branch)")
    assert names == ["cond", "uncond", "skip", "guided"]
    first = page.evaluate("() => document.querySelector('[data-branch=guided] canvas').toDataURL()")
    seen.ask(ALLOW.format(12))
    page.wait_for_function(
        "(before) => document.querySelector('[data-branch=guided] canvas').toDataURL() !== before", arg=first
    )
    page.screenshot(path=tmp_path / "live.png")
    page.locator(".stg-stop").click()
    seen.becomes("live.stop or not live.running", "True")
    seen.ask(ALLOW.format(1e9))
    page.wait_for_selector(".stg-live[data-running=false]")
    page.wait_for_function(f"() => ({STATUS})().startsWith('stopped after ')")
    assert seen.ask("live.run is None and 0 < live.recording.steps < 40 and live.problem == ''") == "True"
    again = "lab.sample(pipe, guidance=lab.CFG(4), num_inference_steps=2, **call).recording.complete"
    assert seen.ask(again) == "True"
    assert seen.outside == []
