"""What a stranger types first: every line of Python in the README and on its page of examples runs, in order."""

import re

import pytest

from stg_lab.shipped import data_folder

ROOT = data_folder("models").parents[1]
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(not README.exists(), reason="the README is not installed with the package")


def run_python_of(page, tmp_path, monkeypatch):
    """Runs a page's blocks of Python one after the other, at half the steps; gives back what they name."""
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        assert "num_inference_steps=24" in block
        exec(compile(block.replace("num_inference_steps=24", "num_inference_steps=12"), str(page), "exec"), names)
    return names


def test_every_line_of_python_in_the_readme_runs(tmp_path, monkeypatch, digits):
    names = run_python_of(README, tmp_path, monkeypatch)
    assert names["run"].recording.steps == 12
    assert (tmp_path / "seven.mp4").stat().st_size > 1000
    assert (tmp_path / "seven.html").stat().st_size > 100_000


def test_every_line_of_the_page_of_examples_runs(tmp_path, monkeypatch, digits):
    names = run_python_of(ROOT / "docs" / "python.md", tmp_path, monkeypatch)
    assert (tmp_path / "out" / "run.mp4").stat().st_size > 1000
    assert (tmp_path / "out.html").stat().st_size > 100_000
    assert names["trace"].recording.steps == names["run"].recording.steps == 12


def test_the_readme_is_read_in_a_few_minutes_and_leads_somewhere():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    [block] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in block.splitlines() if line]) <= 10
    targets = [target for target in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in target]
    assert len(targets) > 20
    assert [target for target in targets if not (ROOT / target).exists()] == []
