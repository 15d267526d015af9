"""The page on adding a family: all its code is run, in its order; and what registering checks."""

import re

import numpy as np
import pytest
from kit import ROOT
from kit.zoo import member

import stg_lab as lab
from stg_lab import families
from stg_lab.errors import FamilyError
from stg_lab.families import Family, family_of
from stg_lab.families.wan import Wan

PAGE = ROOT / "docs" / "adding_a_family.md"


@pytest.fixture(autouse=True)
def only_here(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(families, "_registered", [])


def test_the_code_of_the_page_runs(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    names: dict = {}

    def run_all():
        for number, block in enumerate(blocks):
            exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)

    with pytest.warns(UserWarning, match="EasyAnimatePipeline is of no family that the lab knows"):
        run_all()
    said = capsys.readouterr().out
    assert "EasyAnimate pipeline" in said
    assert "one call with the batch [uncond, cond]" in said
    assert "EasyAnimatePipeline" in str(lab.families())
    run = names["run"]
    assert run.video.shape == (1, 5, 32, 64, 3)
    assert np.isfinite(run.video).all()
    assert run.recording.settings["cfg_rebuilt_exactly"]


def test_every_word_of_the_page_for_a_family_is_there():
    """What its table tells to define exists."""
    table = PAGE.read_text().partition("| where the pipeline")[2].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        for name in re.findall(r"`(\w+)", row.split("|")[2]):
            assert hasattr(Family, name), name


class Mine(Family):
    name = "Mine"
    pipelines = ("MinePipeline",)

    def blocks(self, denoiser):
        return list(denoiser.blocks)

    def sublayers(self, block, part):
        return []


def changed(**attributes):
    return type("Changed", (Mine,), attributes)()


def test_a_family_from_outside_is_known_by_the_class_of_the_pipeline_and_comes_in_the_table():
    lab.register_family(Mine())
    pipe = type("MinePipeline", (), {})()
    derived = type("OtherPipeline", (type(pipe),), {})()
    assert family_of(pipe).name == family_of(derived).name == "Mine"
    assert "MinePipeline" in str(lab.families())
    assert "<td" in lab.families()._repr_html_()
    assert "<b>" not in families.FamilyTable.of([changed(cfg_form="<b>")])._repr_html_()
    assert len(lab.families()) == len(families.FAMILIES) + 1


def test_the_nearest_class_decides():
    class NarrowPipeline(type(member("wan").pipe)):
        pass

    narrow = NarrowPipeline.__new__(NarrowPipeline)
    assert family_of(narrow).name == "Wan"
    lab.register_family(changed(pipelines=("NarrowPipeline",)))
    assert family_of(narrow).name == "Mine"
    assert family_of(member("wan").pipe).name == "Wan"


def test_a_family_is_replaced_only_if_asked():
    lab.register_family(Mine())
    with pytest.raises(FamilyError, match=r"pipelines of MinePipeline belong to the family Mine already.*replace=True"):
        lab.register_family(Mine())
    with pytest.raises(FamilyError, match=r"the name 'Mine' belongs to the family Mine already"):
        lab.register_family(changed(pipelines=("AnotherPipeline",)))
    with pytest.raises(FamilyError, match=r"pipelines of WanPipeline belong to the family Wan"):
        lab.register_family(changed(name="Own", pipelines=("WanPipeline",)))
    newer = Mine()
    lab.register_family(newer, replace=True)
    assert family_of(type("MinePipeline", (), {})()) is newer
    own = type("Own", (Wan,), {})()
    lab.register_family(own, replace=True)
    assert family_of(member("wan").pipe) is own
    assert len(lab.families()) == len(families.FAMILIES) + 1


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (Mine, r"Mine is a class; give an object of it: lab.register_family\(Mine\(\)\)"),
        ("wan", r"an object of a class derived from stg_lab.families.Family, got 'wan'"),
        (None, "got None"),
        (changed(name=""), r'has no name.*name = "My model"'),
        (changed(name=3), "has no name"),
        (changed(pipelines=()), r"names pipeline classes, got \(\)"),
        (changed(pipelines="MinePipeline"), r"got 'MinePipeline'\. Type pipelines = \(\"MyPipeline\",\)"),
        (changed(pipelines=("a b",)), r"got \('a b',\)"),
        (changed(pipelines=(Mine,)), "names pipeline classes"),
        (changed(parts=()), "parts is a tuple of what can be skipped"),
        (changed(parts="block"), "parts is a tuple of what can be skipped, got 'block'"),
        (changed(parts=("blok",)), "parts has 'blok'.*Did you mean 'block'"),
        (changed(axes=("space",)), r"axes is \('space',\); it can be one of: \('joint',\), \('spatial', 'temporal'\)"),
        (changed(text_tokens="front"), "text_tokens is 'front'; it can be one of: 'none', 'first', 'last'"),
        (changed(parts=("attention_video",)), r"has no text, and offers 'attention_video'.*text_tokens"),
        (changed(blocks=Family.blocks), "does not say which its blocks are. Define blocks"),
        (changed(sublayers=Family.sublayers), r"but does not say where those are.*or offer blocks alone"),
        (changed(axes=("spatial", "temporal")), r"which belong together. Define layers"),
    ],
)
def test_what_is_no_whole_family_is_refused(family, message):
    with pytest.raises(FamilyError, match=message):
        lab.register_family(family)
    assert len(lab.families()) == len(families.FAMILIES)


def test_blocks_alone_are_a_whole_family():
    lab.register_family(changed(parts=("block",), sublayers=Family.sublayers))


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.name)
def test_the_labs_own_families_would_be_taken(family):
    lab.register_family(family, replace=True)


def test_the_package_is_the_table_when_called():
    assert lab.families is families
    text = str(lab.families())
    for family in families.FAMILIES:
        assert family.name in text
        assert family.cfg_form in text
        assert all(name in text for name in family.pipelines)
