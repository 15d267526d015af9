"""The notebooks run from top to bottom, and what they show is really there."""

import copy
import json

import nbformat
import pytest
from kit import ROOT
from kit.notebooks import IN_A_BROWSER, can_browse, check_outputs, outputs
from kit.pipelines import tiny_wan
from nbclient import NotebookClient

# What these tests share takes long to make: one worker makes it, once.
pytestmark = [pytest.mark.xdist_group("notebook"), pytest.mark.slow]

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def executed(request, digits):
    """A notebook, executed here and now."""
    if request.param.stem in IN_A_BROWSER and can_browse():
        pytest.skip("browser/test_notebooks.py runs this one in a real JupyterLab")
    return run(request.param)


def run(path):
    notebook = copy.deepcopy(nbformat.read(path, as_version=4))
    for cell in notebook.cells:
        cell.pop("outputs", None) if cell.cell_type == "markdown" else None
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    resources = {"metadata": {"path": str(path.parent)}}
    return NotebookClient(notebook, timeout=300, resources=resources, store_widget_state=False).execute()


@pytest.mark.notebook
def test_your_own_model_may_be_any_saved_pipeline(tmp_path, monkeypatch):
    tiny_wan().save_pretrained(tmp_path / "mine")
    monkeypatch.setenv("STG_LAB_MODEL", str(tmp_path / "mine"))
    [path] = [p for p in NOTEBOOKS if p.stem == "02_your_own_model"]
    executed = run(path)
    assert "3 blocks" in outputs(executed, "text/plain")[0]
    assert len(outputs(executed, "image/png")) >= 2


@pytest.mark.notebook
def test_what_a_notebook_shows_is_there_and_nothing_complains(executed):
    check_outputs(executed)


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_committed_notebook_is_executed_light_and_readable(path):
    notebook = json.loads(path.read_text())
    cells = notebook["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert all(c["execution_count"] for c in code), "commit notebooks executed from the top"
    assert not any(o["output_type"] == "error" for c in code for o in c["outputs"])
    assert all("".join(c["source"]).count("\n") < 10 for c in code), "code cells have at most ten lines"
    assert "widgets" not in notebook["metadata"]
    assert path.stat().st_size < 1_500_000
