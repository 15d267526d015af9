"""What executed notebooks hold, and which browser there is to run them in."""

import shutil
from importlib.util import find_spec

#: Run from top to bottom by browser/test_notebooks.py, where there is a browser, and else as all others, by docs/test_notebook.py.
#: They have x0, guidance, fork, ablation and grid explorers.
IN_A_BROWSER = ("01_first_light", "07_which_layer")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def browser_program():
    """The program of a browser on this machine; None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def can_browse() -> bool:
    """Whether the tests in a browser can run here."""
    return browser_program() is not None and all(find_spec(name) is not None for name in ("playwright", "jupyterlab"))


def outputs(notebook: dict, kind: str) -> list:
    """All outputs of a mime type."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [one["data"][kind] for cell in code for one in cell["outputs"] if kind in one.get("data", {})]


def check_outputs(notebook: dict) -> None:
    """Pictures, plots and explorers are really there, and nothing complains."""
    assert outputs(notebook, "image/png")
    figures = outputs(notebook, "application/vnd.plotly.v1+json")
    assert figures
    assert all(len(trace.get("y", trace.get("z", []))) for figure in figures for trace in figure["data"])
    assert outputs(notebook, "application/vnd.jupyter.widget-view+json")
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    streams = [one for cell in code for one in cell["outputs"] if one["output_type"] == "stream"]
    assert not [
        "".join(one["text"]) for one in streams if one["name"] == "stderr" and "Warning" in "".join(one["text"])
    ]
