"""Notebooks in JupyterLab in a browser: the explorer answers, and stays where it was after a reload."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
from kit.notebooks import IN_A_BROWSER, check_outputs

from stg_lab.sheets import to_bytes

from .controls import move_all, settled

pytestmark = [pytest.mark.browser, pytest.mark.notebook, pytest.mark.slow]

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
RED = "() => +getComputedStyle(document.querySelector('.stg-x0')).backgroundColor.match(/\\d+/)[0]"
READOUT = "() => document.querySelector('.stg-readout b')?.textContent"


@pytest.fixture
def small_notebook(recorded, tmp_path):
    run, baseline = recorded
    folder = tmp_path / "small"
    folder.mkdir()
    code = (
        "import stg_lab as lab\n"
        f"run, baseline = lab.open({str(run.recording.path)!r}), lab.open({str(baseline.recording.path)!r})\n"
        "explorer = lab.widgets.x0_explorer(run, baseline=baseline)\n"
        "explorer"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / "small.ipynb"
    nbformat.write(notebook, path)
    return path


def press_until(seen, key, step):
    seen.page.locator(".stg-step").focus()
    seen.page.keyboard.press(key)
    seen.page.wait_for_function(f"() => ({READOUT})() === '{step}'")


def test_the_explorer_lives_in_jupyterlab(run_notebook, small_notebook, recorded, tmp_path):
    seen = run_notebook(small_notebook)
    page, recording = seen.page, recorded[0].recording
    page.wait_for_selector(".stg-x0[data-ready]")
    assert (page.evaluate(READOUT), seen.ask("explorer.step")) == ("2", "2")

    press_until(seen, "ArrowRight", 3)
    seen.becomes("explorer.step", "3")
    np.testing.assert_array_equal(seen.tile("skip", 5), to_bytes(recording.video("skip", step=3))[0, 5])

    seen.ask("explorer.set_trait('step', 1)")  # and the other way round
    page.wait_for_function(f"() => ({READOUT})() === '1'")
    np.testing.assert_array_equal(seen.tile("cond", 0), to_bytes(recording.video("cond", step=1))[0, 0])
    assert page.evaluate(
        "() => document.querySelector('.stg-x0').scrollWidth <= document.querySelector('.stg-x0').clientWidth"
    )
    page.screenshot(path=tmp_path / "light.png")

    page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    page.wait_for_function(f"() => ({RED})() < 60")  # the notebook's theme, though the system's look is light
    page.locator("#jupyterlab-splash").wait_for(state="detached")
    page.screenshot(path=tmp_path / "dark.png")

    page.locator(".stg-difference").click()
    page.wait_for_selector(".stg-difference[aria-pressed=true]")
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.reload(wait_until="domcontentloaded")
    page.wait_for_selector(".stg-x0[data-ready]")
    assert page.evaluate(READOUT) == "1"
    assert page.locator(".stg-difference").get_attribute("aria-pressed") == "true"
    assert seen.outside == []


@pytest.mark.parametrize("name", IN_A_BROWSER)
def test_a_notebook_lives_in_jupyterlab(run_notebook, name, tmp_path):
    """Run all, move every control of every explorer, reload, and find everything where it was."""
    seen = run_notebook(NOTEBOOKS / f"{name}.ipynb", seconds=420, height=1400)
    page = seen.page
    check_outputs(page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.toJSON()"))
    explorers = page.locator(".stg-lab")
    page.wait_for_selector(".stg-lab[data-ready]")
    assert explorers.count() >= 1
    for root in explorers.all():
        root.scroll_into_view_if_needed()
        page.wait_for_function("(root) => root.dataset.ready", arg=root.element_handle())
        assert move_all(page, root) == []
        for frames in root.locator(".stg-mode-frames").all():
            frames.click()  # which frame of a video shows is no state of the x0 explorer; a film strip shows them all
    page.screenshot(path=tmp_path / f"{name}.png")

    left = [settled(page, root) for root in explorers.all()]
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.reload(wait_until="domcontentloaded")
    page.wait_for_function(
        "(count) => document.querySelectorAll('.stg-lab[data-ready]').length === count", arg=len(left), timeout=60_000
    )
    for root, before in zip(explorers.all(), left, strict=True):
        root.scroll_into_view_if_needed()
        page.wait_for_function("(root) => root.dataset.ready", arg=root.element_handle())
        assert settled(page, root) == before
    assert (seen.faults, seen.outside) == ([], [])
