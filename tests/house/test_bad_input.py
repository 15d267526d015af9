"""Bad values of every argument of every public name: each call ends in one line that names what was typed, before any compute.

`kit.typed` has the table. CI draws from it by a seed; `python tests/campaign/bad_input.py` makes every call.
"""

import random

import numpy as np
import pytest
import torch
from kit.typed import NOT_HERE, Good, refusal, table

import stg_lab as lab
from stg_lab import analysis, figures, gaussians, metrics, plots, widgets
from stg_lab.cli import main
from stg_lab.errors import MetricError

#: How many bad values of each argument CI draws.
DRAWN = 2


@pytest.fixture(scope="module")
def good(tiny, whole, tmp_path_factory):
    return Good(tiny, whole, tmp_path_factory.mktemp("typed"))


def test_every_public_name_is_in_the_table(good):
    rooms = {"analysis": analysis, "figures": figures, "metrics": metrics, "plots": plots, "widgets": widgets}
    public = {f"{room}.{name}" for room, module in rooms.items() for name in module.__all__}
    public |= {name for name in dir(lab) if name in lab.__all__ or name in lab.weak.KINDS}
    functions = {name for name in public if name.rpartition(".")[2].islower()}
    covered = {row.partition(" ")[0] for row in table(good)} | {"analysis.advise"}
    assert functions - covered - NOT_HERE == set()


def test_bad_values_are_refused_before_any_compute(good):
    draw = random.Random(0)
    cases = [
        (name, function, arguments, argument, value)
        for name, (function, arguments, bad) in table(good).items()
        for argument, values in bad.items()
        for value in draw.sample(values, min(DRAWN, len(values)))
    ]
    told = {f"{name}({argument}=...)": refusal(good, *call, argument, value) for name, *call, argument, value in cases}
    assert {where: fault for where, fault in told.items() if fault} == {}


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        ({"seed": 2**64}, lab.CallError, "seed is one whole number from 0 to .*got 18446744073709551616"),
        ({"height": 0}, lab.CallError, "height is a whole number from 1, got 0"),
        ({"num_frames": -1}, lab.CallError, "num_frames is a whole number from 1, got -1"),
        ({"num_inference_steps": None}, lab.CallError, "num_inference_steps is a whole number from 1, got None"),
        ({"num_inference_steps": 10**9}, lab.CallError, "from 1 to 10000, got 1000000000"),
        ({"guidance_scale": float("nan")}, lab.CallError, "guidance_scale is a finite number, got nan"),
        ({"latents": torch.full((1, 16, 2, 2, 2), float("nan"))}, lab.CallError, "complex, infinite or NaN"),
        ({"record": 5}, lab.CallError, "record is True, False, or the path.*got 5"),
        ({"record": "s3://bucket/x"}, lab.CallError, "got 's3://bucket/x'. Files elsewhere are not reached"),
        ({"height": 16384, "width": 16384, "num_frames": 16384}, lab.CallError, "more pixels than any machine holds"),
        ({"height": 17}, lab.CallError, "refuses this call: `height` and `width` have to be divisible by 16"),
        ({"overwrite": "no"}, lab.CallError, "overwrite is True or False, got 'no'"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else None,
)
def test_a_call_of_sample_that_cannot_be_says_what_was_typed(tiny, call, error, says):
    with pytest.raises(error, match=says) as told:
        tiny.sample(lab.STG(1, lab.skip([1])), **call)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: lab.CFG(b"4"), "a scale is a number.*got b'4'"),
        (lambda: lab.CFG(4, sigma=0.2), r"sigma=\(low, high\).*got 0.2"),
        (lambda: lab.CFG(4, start="a"), "start is a number, got 'a'"),
        (lambda: lab.skip(b"4"), "layers are whole numbers.*got b'4'"),
        (lambda: lab.from_json("[" * 100_000), "no JSON"),
        (lambda: lab.weak.parse("skip:block:1-99999999999"), "not a list of layers"),
        (lambda: lab.per_step((10**9, lab.skip([1]))), "from 1 to 10000, got 1000000000"),
    ],
)
def test_a_guidance_that_cannot_be_says_what_was_typed(make, says):
    with pytest.raises(lab.GuidanceError, match=says):
        make()


@pytest.mark.parametrize("dtype", [bool, complex])
def test_a_video_of_no_real_numbers_is_no_video(dtype):
    with pytest.raises(MetricError, match=f"real numbers.*got ndarray of shape.*{np.dtype(dtype)}"):
        metrics.flicker(np.zeros((1, 3, 8, 8, 3), dtype))


def test_numbers_of_numpy_and_torch_are_numbers(tiny):
    plain = tiny.sample(lab.CFG(4), seed=3, num_inference_steps=1)
    typed = tiny.sample(
        lab.CFG(np.float32(4)),
        seed=np.int64(3),
        num_inference_steps=torch.tensor(1),
        height=np.int32(16),
        record=np.True_,
    )
    assert torch.equal(plain.output.frames, typed.output.frames)
    assert typed.recording.settings["seed"] == 3
    assert gaussians.noise(np.int64(2), seed=np.uint8(1)).shape == (2, 2)


def test_the_home_folder_is_known_everywhere(tiny, whole, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = tiny.sample(lab.CFG(4), record="~/run.zarr", num_inference_steps=1)
    assert run.recording.path == tmp_path / "run.zarr"
    assert lab.open("~/run.zarr").steps == 1
    assert lab.pack("~/run.zarr", "~/run.zarr.zip") == tmp_path / "run.zarr.zip"
    assert lab.report("~/run.zarr", "~/page.html") == tmp_path / "page.html"
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--cfg", "nan"],
        ["demo", "--steps", "1000000000"],
        ["demo", "--seed", "-1"],
        ["demo", "--out", "s3://bucket/x"],
        ["evaluate", "x.mp4", "--resamples", "99999999999"],
        ["evaluate", "x.mp4", "--seed", "1.5"],
        ["report", "first_light", "--out", "."],
        ["app", "--port", "99999999"],
    ],
    ids=" ".join,
)
def test_the_command_line_says_it_in_one_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as end:  # argparse
        code = end.code
    [told] = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert arguments[-1] in told
