"""The recommended weak model: from beside the weights, as a value that goes into a sum, and told in words."""

import json
import shutil

import pytest

import stg_lab as lab
from stg_lab.loading import models_folder
from stg_lab.recommended import FILE, recommendation


@pytest.fixture
def copy(tmp_path):
    """A copy of an embedded model."""

    def made(text):
        folder = tmp_path / "model"
        shutil.copytree(models_folder() / "digits-joint-small", folder, ignore=shutil.ignore_patterns("*.png", "*.csv"))
        if text is not None:
            (folder / FILE).write_text(text)
        return lab.load(folder)

    return made


def test_it_is_the_weak_model_of_the_file(copy):
    told = lab.describe(copy(json.dumps({"weak": "skip:attention:1", "because": "it mends most"})))
    assert told.recommended == lab.skip([1], part="attention")
    assert "recommended" in str(told)
    assert "lab.STG(1, lab.skip([1], part='attention')): it mends most" in str(told)
    assert "it mends most" in told._repr_html_()


def test_a_model_without_one_says_nothing(copy):
    told = lab.describe(copy(None))
    assert told.recommended is None
    assert "recommended" not in str(told)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weak": "nothing:3", "because": ""}', '{"weak": "skip:block:1"}', '{"weak": 3}']
)
def test_a_broken_file_is_told(copy, text):
    with pytest.raises(lab.GuidanceError, match="does not say which weak model is recommended"):
        lab.describe(copy(text))


@pytest.mark.parametrize("name", [n for n in lab.embedded() if (models_folder() / n / FILE).exists()])
def test_what_ships_fits_its_model(name):
    pipe = lab.load(name)
    weak, told = lab.describe(pipe).recommended, recommendation(pipe)
    call = {} if name.endswith("i2v") else {"prompt": "a red seven moving left"}
    if call:
        lab.plan(pipe, lab.STG(1, weak), num_inference_steps=2, **call)
    assert told["because"]
    repair = told.get("repair", {"repaired": 0, "broken": 0, "of": 1})
    assert 0 <= repair["repaired"] + repair["broken"] <= repair["of"]
