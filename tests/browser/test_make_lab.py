"""`make lab` opens JupyterLab at a copy of the course page, and the page is rendered, not shown as source."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import jupyterlab

pytestmark = [pytest.mark.browser, pytest.mark.notebook]

ROOT = Path(__file__).parents[2]


def test_make_lab_opens_a_copy_of_the_course(visit, tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    subprocess.run(["make", "course"], cwd=tmp_path, check=True, capture_output=True)
    told = subprocess.run(["make", "-n", "lab"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    [line] = [line for line in told.splitlines() if "jupyter lab" in line]
    assert "cp " not in told, "what is there already is somebody's work"
    with jupyterlab(tmp_path, *shlex.split(line)[2:], cwd=tmp_path) as url:
        seen = visit(url, allowed=(url,))
        heading = seen.page.locator(".jp-RenderedMarkdown h1").first
        heading.wait_for(timeout=60_000)
        first = (ROOT / "notebooks" / "README.md").read_text().splitlines()[0].removeprefix("# ")
        assert heading.inner_text().startswith(first)
        assert "/course/" in seen.page.url
        assert seen.outside == []
