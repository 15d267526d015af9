"""What a stranger types first: every line of Python in the README runs, in order."""

import re

import pytest

from stg_lab.shipped import data_folder

README = data_folder("models").parents[1] / "README.md"


@pytest.mark.skipif(not README.exists(), reason="the README is not installed with the package")
def test_every_line_of_python_in_the_readme_runs(tmp_path, monkeypatch, digits):
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks:
        assert "num_inference_steps=24" in block
        exec(compile(block.replace("num_inference_steps=24", "num_inference_steps=12"), str(README), "exec"), names)
    assert (tmp_path / "out" / "run.mp4").stat().st_size > 1000
    assert (tmp_path / "out.html").stat().st_size > 100_000
    assert names["trace"].recording.steps == names["run"].recording.steps == 12
