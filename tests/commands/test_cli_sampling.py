"""`stg-lab sample`, `ablate` and `search`, as a shell user meets them."""

import json

import numpy as np
import pytest
from kit.pipelines import PROMPT

import stg_lab as lab
from stg_lab import cli
from stg_lab.search import tasks

# What these tests share takes long to make: one worker makes it, once.
pytestmark = [pytest.mark.xdist_group("cli"), pytest.mark.usefixtures("digits")]

CALL = ["--steps", "1"]


def test_sample_makes_the_videos_of_lab_sample_and_goes_on(tmp_path, capsys, monkeypatch):
    out = tmp_path / "videos"
    wanted = [
        "sample",
        "digits-joint",
        "--prompts",
        PROMPT,
        "--out",
        str(out),
        "--weak",
        "skip:block:4",
        "--cfg",
        "2",
        *CALL,
    ]
    assert cli.main(wanted) == 0
    [film] = out.glob("*.mp4")
    assert film.name.startswith("a-red-seven-moving-left-seed-0-")
    assert str(film) in capsys.readouterr().out
    made = []
    real = tasks.sample
    monkeypatch.setattr(tasks, "sample", lambda *a, **k: made.append(k["seed"]) or real(*a, **k))
    assert cli.main([*wanted, "--seeds", "2"]) == 0
    assert made == [1]
    assert len(list(out.glob("*.mp4"))) == 2
    [kept] = [file for file in out.glob("cells/*.json") if json.loads(file.read_text())["seed"] == 1]
    guidance = lab.CFG(2) + lab.STG(1, lab.skip([4]))
    run = lab.sample(
        lab.load("digits-joint"), guidance=guidance, seed=1, prompt=PROMPT, record=False, num_inference_steps=1
    )
    assert np.abs(tasks.video_of(kept) - run.video[0]).max() < 0.6 / 255


def test_search_prints_its_verdict_and_writes_table_and_grid(tmp_path, capsys):
    captions, out = tmp_path / "captions.txt", tmp_path / "search"
    captions.write_text(f"{PROMPT}\na blue two growing\n")
    wanted = [
        "search",
        "digits-joint",
        "--prompts",
        str(captions),
        "--seeds",
        "2",
        "--candidates",
        "skip:block:3",
        "skip:block:4",
    ]
    wanted += ["--score", "probability", "smoothness", "--budget", "40 videos", "--out", str(out), *CALL]
    assert cli.main(wanted) == 0
    said = capsys.readouterr().out
    assert lab.open_search(out).verdict in said
    assert "skip:block:4 at 1" in (out / "table.csv").read_text()
    assert "GridExplorer" in (out / "grid.html").read_text()
    assert cli.main([*wanted, "--scale", "2"]) == 2
    said = capsys.readouterr().err
    assert "differs in candidates" in said
    assert "--overwrite" in said


def test_ablate_lists_what_is_worth_a_test(tmp_path, capsys):
    out = tmp_path / "sweep.zarr"
    wanted = [
        "ablate",
        "digits-joint",
        "--prompts",
        PROMPT,
        "--step",
        "0",
        "--layers",
        "4",
        "5",
        "--out",
        str(out),
        *CALL,
    ]
    assert cli.main(wanted) == 0
    said = capsys.readouterr().out
    assert "weak models are worth sampling" in said
    assert f"lab.open_ablation({str(out)!r})" in said
    assert list(lab.open_ablation(out).layer.values) == [4, 5]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["search", "--prompts", PROMPT, "--budget", "soon"], "budget='20 min'"),
        (["search", "--prompts", PROMPT, "--candidates", "skip:blokc:4"], "Did you mean 'block'?"),
        (["search", "--prompts", "a purple seven turning"], "'purple' is not a colour"),
        (["search", "--prompts", PROMPT, "--workers", "0"], "'0' is not a whole number from 1"),
        (["search", "--prompts", PROMPT, "--workers", "2", "--scheduler", "tcp://a"], "not allowed with"),
        (["search", "--prompts", PROMPT, "--cfg", "0.5"], "from 1"),
        (["search", "--prompts", "empty.txt"], "holds no prompts"),
        (["sample", "--prompts", PROMPT, "--weak", "skip:block:99"], "layer 99 is out of range"),
        (["ablate", "--prompts", PROMPT, "--parts", "blokc"], "'block'"),
    ],
)
def test_bad_arguments_give_one_clear_line_and_exit_code_2(arguments, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    try:
        code = cli.main([arguments[0], "digits-joint", *arguments[1:], "--out", "out.zarr"])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("stg-lab")]
    assert len(told) == 1
    assert says in told[0]
    assert not (tmp_path / "out.zarr").exists()
