"""The lab's own file for a guidance, and what `export` says of formats it does not know."""

import doctest
import importlib
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stg_lab as lab
from stg_lab.guidance import Guidance, Probe, as_guidance

SPATIAL, TEMPORAL = (lab.skip([5], part="attention", axis=axis) for axis in ("spatial", "temporal"))
SUMS = [
    Guidance(),
    lab.CFG(4),
    lab.CFG(4, start=1 / 3, stop=0.9, sigma=(0.1, float("inf"))),
    lab.CFG([4, 2.5, 1]) + lab.STG(1.5, lab.skip([5], strength=0.5)),
    lab.CFG(4).apg(norm=15, momentum=-0.5).rescale(0.7),
    lab.CFG(4).zero_star(2) + lab.STG(1, lab.blur([5])).tangential() + lab.STG(1, lab.shuffle([3])).magnitude(2),
    lab.CFGpp(0.6, stop=0.5).restart(0.2, 0.6, 3, seed=7),
    (lab.STG(1, SPATIAL) + lab.STG(2, TEMPORAL)).orthogonalize(loses="spatial", per="frame"),
    (lab.STG(1, lab.per_step((3, lab.skip([2])), None)) + Probe(lab.drop(2, seed=4))).in_x0().rescale(1, per="batch"),
    lab.convention("B", lab.window([3], frames=2), cfg=3),
    lab.convention("C", lab.checkpoint("out/worse model"), cfg=3, scale=0.5),
]


@pytest.mark.parametrize("guidance", SUMS, ids=str)
def test_a_guidance_survives_its_file(guidance, tmp_path):
    text = lab.export(guidance, "json")
    assert lab.from_json(text) == as_guidance(guidance)
    (tmp_path / "guidance.json").write_text(text, encoding="utf-8")
    assert (
        lab.from_json(tmp_path / "guidance.json")
        == lab.from_json(str(tmp_path / "guidance.json"))
        == lab.from_json(text)
    )


@pytest.mark.parametrize("guidance", SUMS, ids=str)
def test_the_file_is_json_for_other_tools_too(guidance):
    """No NaN and no Infinity, which other readers refuse; and it says in words what it is."""

    def no_constant(word):
        raise AssertionError(word)

    values = json.loads(lab.export(guidance, "json"), parse_constant=no_constant)
    assert values["stg_lab"] == 1
    assert values["text"] == str(as_guidance(guidance))


floats = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(1, 1e6),
    st.one_of(floats, st.lists(floats, min_size=1, max_size=5)),
    st.sets(st.integers(0, 99), min_size=1),
    st.floats(0, 0.5),
    st.floats(0.6, 1),
    st.floats(0, 1),
)
def test_numbers_survive_to_the_last_bit(cfg, scale, layers, start, stop, phi):
    guidance = (lab.CFG(cfg) + lab.STG(scale, lab.skip(layers), start=start, stop=stop)).rescale(phi)
    assert lab.from_json(lab.export(guidance, "json")) == guidance


def test_a_function_becomes_numbers():
    guidance = lab.CFG(lambda share: 4 - 2 * share)
    with pytest.raises(lab.GuidanceError, match=r"function as its scale"):
        lab.export(guidance, "json")
    assert lab.from_json(lab.export(guidance, "json", steps=4)) == as_guidance(lab.CFG([4, 3.5, 3, 2.5]))


def changed(**values):
    return json.dumps({**json.loads(lab.export(lab.CFG(4) + lab.STG(1, lab.skip([5])), "json")), **values})


def with_term(**values):
    whole = json.loads(lab.export(lab.CFG(4) + lab.STG(1, lab.skip([5])).apg(), "json"))
    whole["guidance"]["terms"][1] |= values
    return json.dumps(whole)


BROKEN = {
    "no JSON": ("{'stg_lab': 1}", "this is no JSON: Expecting property name"),
    "cut off": (changed()[:60], "this is no JSON"),
    "no such file": ("nowhere.json", "'nowhere.json' is neither JSON nor a file"),
    "an empty text": ("", "neither JSON nor a file"),
    "a list": ("[1, 2]", r'holds no guidance of the lab, which is \{"stg_lab": 1'),
    "another file": ('{"a": 1}', "holds no guidance of the lab"),
    "no guidance": (changed(guidance=None), "holds no guidance of the lab"),
    "a newer version": (
        changed(stg_lab=2),
        r"format 2; this stg_lab reads format 1 to 1.*CFG\(4\) \+ STG\(1, skip:block:5\)",
    ),
    "no version": (changed(stg_lab="1"), "format '1'"),
    "an unknown term": (with_term(method="SGT"), "term 'SGT' is unknown. Did you mean 'STG'"),
    "an unknown rule": (with_term(rules=[{"rule": "apgg"}]), "rule 'apgg' is unknown. Did you mean 'apg'"),
    "an unknown weak model": (with_term(weak="skp:block:5"), "'skp:block:5' names no weak model. Did you mean 'skip'"),
    "a broken weak model": (with_term(weak="skip:block:x"), "is not a list of layers"),
    "an unknown word": (with_term(strenght=2), r"damaged \(TypeError.*As text it says: CFG\(4\)"),
    "a scale that is no number": (with_term(scale="2"), "a scale is a number"),
    "a window that is none": (with_term(start=0.9, stop=0.1), "0 <= start < stop <= 1"),
    "no terms": (changed(guidance={}), r"damaged \(KeyError: 'terms'\)"),
    "terms that are none": (changed(guidance={"terms": [3]}), "damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_guidance_is_told_with_what_is_wrong(name):
    text, says = BROKEN[name]
    with pytest.raises(lab.GuidanceError, match=says):
        lab.from_json(text)


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(lab.GuidanceError, match="neither JSON nor a file that can be read"):
        lab.from_json(tmp_path / "binary.json")


def test_unknown_formats_and_other_things_are_refused():
    with pytest.raises(
        lab.GuidanceError, match=r"to='comfy' is unknown. Did you mean 'comfyui'.*diffusers, ltx, comfyui, json"
    ):
        lab.export(lab.CFG(4), "comfy")
    with pytest.raises(lab.GuidanceError, match="guidance must be a sum"):
        lab.export("CFG(4)", "json")


@pytest.mark.parametrize("module", ["as_code", "steps"])
def test_examples_are_true(module):
    results = doctest.testmod(importlib.import_module(f"stg_lab.interop.{module}"))
    assert results.attempted
    assert not results.failed


def test_reading_and_writing_files_needs_neither_torch_nor_diffusers():
    """Whoever only reads settings does not wait for them."""
    code = (
        "import sys, stg_lab as lab; g = lab.CFG(4) + lab.STG(1, lab.skip([5])); lab.from_json(lab.export(g, 'json'));"
        "lab.export(g, 'ltx'); lab.export(g, 'comfyui'); print({'torch', 'diffusers'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
