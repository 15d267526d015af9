"""The command line, as a shell user meets it."""

import subprocess
import sys

import pytest

import stg_lab as lab
from stg_lab import cli

# What these tests share takes long to make: one worker makes it, once.
pytestmark = pytest.mark.xdist_group("cli")

HEAVY = ("torch", "diffusers", "transformers", "numpy", "xarray", "zarr", "matplotlib", "plotly", "sklearn", "PIL")


def stg_lab(*arguments: str, cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "stg_lab", *arguments], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["--version"]])
def test_help_answers_without_importing_anything_heavy(arguments):
    code = f"""
import sys
from stg_lab import cli
try:
    cli.main({arguments!r})
except SystemExit as stop:
    assert stop.code == 0
print([m for m in {HEAVY!r} if m in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--bogus"], "required: COMMAND"),
        (["dmeo"], "invalid choice: 'dmeo'"),
        (["demo", "--bogus"], "unrecognized arguments: --bogus"),
        (["demo", "--steps", "0"], "'0' is not a whole number from 1"),
        (["demo", "--cfg", "high"], "'high' is not a finite number. See"),
        (["demo", "--cfg", "0.5"], "CFG(0.5) is below 1"),
        (["demo", "--weak", "skip:blokc:4"], "Did you mean 'block'?"),
        (["demo", "--weak", "skip:block:x"], "'x' is not a list of layers"),
        (["demo", "--weak", "skip:nothing:3"], "part 'nothing' is unknown. Known: block, attention,"),
        (["demo", "--cfg", "1"], "Type for example --cfg 2"),
        (["demo", "--stg", "0"], "Type for example --stg 1"),
        (["demo", "--stg", "nan"], "nan"),
        (["demo", "--seed", "-1"], "'-1' is not a whole number from 0"),
        (["demo", "--prompts", "a purple seven turning"], "'purple' is not a colour"),
        (["demo", "--model", "owner/name"], "Say what to show: --prompts"),
        (["demo", "--model", "digits-joit"], "Did you mean 'digits-joint'?"),
    ],
)
def test_bad_arguments_give_one_clear_line_and_exit_code_2(arguments, says, tmp_path):
    done = stg_lab(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--weak", "skip:block:8"], "layer 8 is out of range"),
        (["--model", "digits-joint-early"], "no weak model is recommended"),
    ],
)
def test_what_only_the_model_can_refuse_is_refused_likewise(arguments, says, tmp_path, capsys):
    assert cli.main(["demo", "--out", str(tmp_path / "demo"), "--steps", "2", *arguments]) == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "demo").exists()  # nothing was sampled, so the corrected call finds the place free


@pytest.mark.parametrize(
    "arguments",
    [["--weak", "skip:nothing:3"], ["--cfg", "0.5"], ["--prompts", "a red ten turning"], ["--model", "digits-joit"]],
)
def test_a_wrong_demo_is_refused_before_anything_heavy_is_imported(arguments, tmp_path):
    code = f"""
import sys
from stg_lab import cli
assert cli.main(["demo", "--out", {str(tmp_path / "demo")!r}, *{arguments!r}]) == 2
print([m for m in {HEAVY!r} if m in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_the_demo_is_text_to_video_and_says_so_before_it_loads(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("stg_lab.demo.run.load", lambda name: pytest.fail("the model was loaded"))
    assert cli.main(["demo", "--model", "digits-i2v", "--out", str(tmp_path / "demo")]) == 2
    assert "the demo is text to video, and digits-i2v is a StableVideoDiffusionPipeline" in capsys.readouterr().err
    assert "text to video" in " ".join(stg_lab("demo", "--help").stdout.lower().split())


@pytest.mark.parametrize("left", ["baseline.zarr", "run.zarr", "stg.zarr"])
def test_what_is_left_of_a_demo_is_told_in_the_shells_words(left, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("stg_lab.demo.run.load", lambda name: pytest.fail("the model was loaded"))
    (tmp_path / left).mkdir()
    assert cli.main(["demo", "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "--overwrite" in told
    assert "overwrite=True" not in told


def test_hints_are_translated_for_the_shell(monkeypatch, capsys, tmp_path):
    def refuse(wanted):
        raise lab.RecordingError("taken; pass overwrite=True to replace it.")

    monkeypatch.setattr("stg_lab.demo.run.run_demo", refuse)
    assert cli.main(["demo", "--out", str(tmp_path / "demo")]) == 2
    assert "pass --overwrite to replace it" in capsys.readouterr().err


def test_info_names_versions_device_and_models(digits, capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    for word in ("stg-lab", "torch", "diffusers", "device", "digits-joint"):
        assert word in out
