"""The command line, as a shell user meets it."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

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
        (["demo", "--cfg", "high"], "invalid float value: 'high'"),
        (["demo", "--cfg", "0.5"], "CFG(0.5) is below 1"),
        (["demo", "--weak", "skip:blokc:4"], "Did you mean 'block'?"),
        (["demo", "--weak", "skip:block:x"], "'x' is not a list of layers"),
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
        (["--prompt", "a purple seven turning"], "'purple' is not a colour"),
    ],
)
def test_what_only_the_model_can_refuse_is_refused_likewise(arguments, says, tmp_path):
    done = stg_lab("demo", "--out", str(tmp_path / "demo"), "--steps", "2", *arguments)
    assert done.returncode == 2
    assert says in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "demo").exists()  # nothing was sampled, so the corrected call finds the place free


def test_the_demo_is_text_to_video_and_says_so_before_it_loads(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("stg_lab.demo.load", lambda name: pytest.fail("the model was loaded"))
    assert cli.main(["demo", "--model", "digits-i2v", "--out", str(tmp_path / "demo")]) == 2
    assert "the demo is text to video, and digits-i2v is a StableVideoDiffusionPipeline" in capsys.readouterr().err
    assert "text to video" in " ".join(stg_lab("demo", "--help").stdout.lower().split())


@pytest.mark.parametrize("left", ["baseline.zarr", "run.zarr"])
def test_what_is_left_of_a_demo_is_told_in_the_shells_words(left, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("stg_lab.demo.load", lambda name: pytest.fail("the model was loaded"))
    (tmp_path / left).mkdir()
    assert cli.main(["demo", "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "--overwrite" in told
    assert "overwrite=True" not in told


def test_hints_are_translated_for_the_shell(monkeypatch, capsys):
    def refuse(**options):
        raise lab.RecordingError("taken; pass overwrite=True to replace it.")

    monkeypatch.setattr("stg_lab.demo.run_demo", refuse)
    assert cli.main(["demo"]) == 2
    assert "pass --overwrite to replace it" in capsys.readouterr().err


def test_info_names_versions_device_and_models(digits, capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    for word in ("stg-lab", "torch", "diffusers", "device", "digits-joint"):
        assert word in out


@pytest.fixture(scope="module")
def demo(digits, tmp_path_factory):
    """A short demo: its folder and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    arguments = ["demo", "--out", str(out), "--steps", "3", "--prompt", "a red seven moving left"]
    done = stg_lab(*arguments, "--prompt", "a blue zero growing")
    assert done.returncode == 0, done.stderr
    return out, done.stdout, arguments


def test_demo_ends_with_the_list_of_what_it_wrote(demo):
    out, printed, _ = demo
    listed = {line.split()[0] for line in printed.split("written:")[1].splitlines() if line.startswith("  ")}
    assert listed == {str(p) for p in out.iterdir()}
    names = {p.name for p in out.iterdir()}
    assert names >= {"run.zarr", "cfg.mp4", "stg.mp4", "weak_model.pdf", "weak_model.png", "report.html", "sheet.png"}
    assert "report.html" in printed.splitlines()[-1]


def test_demo_recordings_hold_the_same_seeds_and_first_latents(demo):
    out, _, _ = demo
    run, alone = lab.open(out / "run.zarr"), lab.open(out / "baseline.zarr")
    assert run.branches == ["cond", "uncond", "skip", "guided"]
    assert alone.branches == ["cond", "uncond", "guided"]
    np.testing.assert_array_equal(run.ds.seed, alone.ds.seed)
    np.testing.assert_array_equal(run.ds.x_t[0], alone.ds.x_t[0])
    assert abs(run.ds.final - alone.ds.final).max() > 1e-3


def test_demo_videos_play_and_show_the_recorded_frames(demo):
    import imageio_ffmpeg

    out, _, _ = demo
    reader = imageio_ffmpeg.read_frames(str(out / "stg.mp4"))
    meta = next(reader)
    width, height = meta["size"]
    frames = [np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in reader]
    assert len(frames) == 4 * 9  # looped four times
    video = lab.open(out / "run.zarr").video()
    zoom = height // 32
    shown = frames[4][: 32 * zoom, : 32 * zoom].reshape(32, zoom, 32, zoom, 3).mean((1, 3)) / 255
    assert np.abs(shown - video[0, 4]).mean() < 0.03


def test_demo_pictures_are_whole(demo):
    out, _, _ = demo
    with Image.open(out / "both.gif") as gif:
        assert gif.n_frames == 9
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 9 * 64
    pdf = (out / "weak_model.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf


def test_demo_report_holds_its_settings(demo):
    out, _, _ = demo
    page = (out / "report.html").read_text()
    assert "skip:block:4" in page
    assert re.search(r"a red seven moving left", page)
    assert json.loads((out / "run.zarr" / "zarr.json").read_text())["attributes"]["settings"]["seed"] == 0


def test_a_second_demo_is_refused_until_told_to_overwrite(demo):
    out, _, arguments = demo
    before = (out / "run.zarr" / "zarr.json").stat().st_mtime_ns
    refused = stg_lab(*arguments)
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr
    assert (out / "run.zarr" / "zarr.json").stat().st_mtime_ns == before
    done = stg_lab(*arguments, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert lab.open(out / "run.zarr").ds.sizes["sample"] == 1
