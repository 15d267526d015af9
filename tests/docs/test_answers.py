"""The instructors' answers: there is one for every question of the course, and what they compute comes out as they say."""

import json
import re
import warnings

from kit import ROOT

NOTEBOOKS = ROOT / "notebooks"
ANSWERS = (NOTEBOOKS / "ANSWERS.md").read_text(encoding="utf-8")


def words(text):
    """The words of a text, whatever stands between them."""
    return re.findall(r"\w+", text)


def questions(path):
    """The beginnings of a notebook's questions: what follows the bold word."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return [
        words(found)[:8]
        for found in re.findall(r"\*\*(?:Question|Your turn)\.\*\*\s+(.+?)(?:\n\n|\Z)", text, re.DOTALL)
    ]


def test_every_question_has_an_answer():
    answered = {}
    for title, part in re.findall(r"^## (\d\d) .+?\n(.+?)(?=^## |\Z)", ANSWERS, re.MULTILINE | re.DOTALL):
        answered[title] = [words(found) for found in re.findall(r"^\*\*(.+?)\*\*", part, re.MULTILINE | re.DOTALL)]
    count = 0
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        own = answered[path.name[:2]]
        for asked in questions(path):
            known = [one for one in own if one[: len(asked)] == asked[: len(one)]]
            assert known or asked[0] == "Autoguidance", f"{path.name}: {' '.join(asked)} ..."
            count += 1
    assert count > 70


def test_what_the_answers_compute_comes_out_so(digits):
    blocks = re.findall(r"```python\n(.*?)```", ANSWERS, re.DOTALL)
    assert sum(block.count("assert ") for block in blocks) > 20
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in blocks:
            exec(compile(block, "ANSWERS.md", "exec"), names)
