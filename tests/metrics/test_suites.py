"""Prompts from files and suites: one reader for searches, the command line and evaluate."""

import json
from pathlib import Path

import pytest

import stg_lab as lab
from stg_lab import suites
from stg_lab.commands.typed import prompts_of
from stg_lab.errors import CallError
from stg_lab.search.states import states

TWO = ["a cat, on a wall", "a ship at sea"]
FORMS = {
    "a.txt": "a cat, on a wall\n\na ship at sea\na cat, on a wall\n",
    "a.json": json.dumps(TWO),
    "table.json": json.dumps({"1.mp4": TWO[0], "2.mp4": TWO[1]}),
    "records.json": json.dumps([{"prompt_en": one, "dimension": ["colour"]} for one in TWO]),
    "column.csv": '\ufeffnumber,prompt\n1,"a cat, on a wall"\n2,a ship at sea\n',
    "alone.csv": 'what\n"a cat, on a wall"\na ship at sea\n',
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_read_by_all_who_read(name, tmp_path):
    path = tmp_path / name
    path.write_text(FORMS[name], encoding="utf-8")
    assert lab.prompts(path) == TWO
    assert [call["prompt"] for call in states(path, [0]).prompts] == TWO
    assert prompts_of(type("Options", (), {"prompts": [str(path)]})) == TWO


def test_files_of_videos_are_told_beside_prompts(tmp_path):
    (tmp_path / "c.csv").write_text("file,prompt\nb.mp4,a ship at sea\n", encoding="utf-8")
    assert suites.read_file(tmp_path / "c.csv") == {"b.mp4": "a ship at sea"}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("no.txt", None, "could not be read"),
        ("a.txt", "\n", "holds no prompts"),
        ("a.json", "{", "could not be read"),
        ("a.json", "[1]", "is to hold captions"),
        ("a.csv", "one,two\n1,2\n", "has columns one, two; call the one with prompts `prompt`"),
        ("a.csv", "number,prompt\n1\n", "is to hold captions"),
    ],
)
def test_what_is_no_list_of_prompts_is_refused(name, text, says, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(CallError, match=says):
        lab.prompts(tmp_path / name)


@pytest.fixture
def vbench(tmp_path, monkeypatch):
    """A package of VBench's name, in the form that its prompts have, which must not be imported."""
    (tmp_path / "vbench").mkdir()
    (tmp_path / "vbench" / "__init__.py").write_text("raise RuntimeError('imported')")
    records = [
        {"prompt_en": "a red cat", "dimension": ["color", "object_class"]},
        {"prompt_en": "a stop sign, frozen", "dimension": ["temporal_flickering"]},
        {"prompt_en": "a red cat", "dimension": ["human_action"]},
    ]
    (tmp_path / "vbench" / "VBench_full_info.json").write_text(json.dumps(records))
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_suite_of_vbench_comes_from_its_package(vbench):
    assert lab.prompts("vbench") == ["a red cat", "a stop sign, frozen"]
    assert lab.prompts("vbench:temporal_flickering") == ["a stop sign, frozen"]
    with pytest.raises(CallError, match="Did you mean 'color'"):
        lab.prompts("vbench:colour")


def test_a_suite_that_is_not_there_is_told(monkeypatch):
    monkeypatch.delenv("STG_LAB_VBENCH", raising=False)
    monkeypatch.setattr(suites, "VBENCH", "vbench_that_is_nowhere")
    with pytest.raises(CallError, match="pip install --no-deps vbench"):
        lab.prompts("vbench_that_is_nowhere")


def test_the_suite_is_found_in_an_environment_of_its_own(vbench, tmp_path, monkeypatch):
    """As VBench needs one: the other Python is asked where it is."""
    other = tmp_path / "python"
    other.write_text(f"#!/bin/sh\necho {tmp_path / 'vbench'}\n")
    other.chmod(0o755)
    monkeypatch.setattr(suites.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("STG_LAB_VBENCH", str(other))
    assert suites._vbench_folder() == Path(tmp_path / "vbench")
