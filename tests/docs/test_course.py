"""The course page's quiz checks itself, and the slides hold what the notebooks hold."""

import re
import runpy

import nbformat
import pytest
from kit import ROOT


def test_each_question_of_the_quiz_has_one_right_answer_and_reasons():
    page = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    quiz = page.split("## Check yourself")[1].split("\n## ")[0]
    questions = re.split(r"\*\*\d+\. ", quiz)[1:]
    assert len(questions) == 8
    for question in questions:
        answers = re.findall(r"<details><summary>(.+?)</summary>(.+?)</details>", question)
        assert len(answers) >= 2
        assert sum(told.startswith("Right: ") for _, told in answers) == 1, question
        assert all(told.startswith(("Right: ", "Not ")) and len(told) >= 20 for _, told in answers)


def test_answers_are_not_always_in_the_same_place():
    page = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    places = [re.findall(r"</summary>(\w+)", part).index("Right") for part in re.split(r"\*\*\d+\. ", page)[1:]]
    assert len(set(places)) > 1


@pytest.mark.parametrize("name", ["01_first_light", "03_guidance_in_two_dimensions"])
def test_slides_hold_every_picture_and_ask_nobody(name, tmp_path):
    slides = runpy.run_path(str(ROOT / "docs" / "slides.py"))
    slides["main"](tmp_path, [name])
    page = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"src=[\"']http", outside)
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    kept = [one.get("data", {}) for cell in notebook.cells if cell.cell_type == "code" for one in cell.outputs]
    plots = [data for data in kept if "application/vnd.plotly.v1+json" in data]
    pictures = [data for data in kept if "image/png" in data and data not in plots]
    assert outside.count("class='plot'") == len(plots) > 0
    assert outside.count("src='data:image/png") == len(pictures) > 1
    headings = sum(
        len(re.findall(r"^## ", cell.source, re.MULTILINE)) for cell in notebook.cells if cell.cell_type == "markdown"
    )
    assert outside.count("<section>") > headings > 3
    assert "$" not in re.sub(
        r"<pre>.*?</pre>|<code>.*?</code>|<script.*?</script>|src='[^']*'", "", outside, flags=re.DOTALL
    )
