"""`make lab` opens JupyterLab at the course page, and the page is rendered, not shown as source."""

import shlex
import subprocess
from pathlib import Path

import pytest

from .conftest import jupyterlab

pytestmark = [pytest.mark.browser, pytest.mark.notebook]

ROOT = Path(__file__).parents[2]


def test_make_lab_opens_the_course_page(visit, tmp_path):
    told = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [line] = [line for line in told.splitlines() if "jupyter lab" in line]
    with jupyterlab(tmp_path, *shlex.split(line)[2:], cwd=ROOT) as url:
        seen = visit(url, allowed=(url,))
        heading = seen.page.locator(".jp-RenderedMarkdown h1").first
        heading.wait_for(timeout=60_000)
        first = (ROOT / "notebooks" / "README.md").read_text().splitlines()[0].removeprefix("# ")
        assert heading.inner_text().startswith(first)
        assert seen.outside == []
