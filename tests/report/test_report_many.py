"""A report of several recordings: all of it on one page, each thing once, and never more than the page may hold."""

import base64
import importlib
import io
import json
import re

import numpy as np
import pytest
import xarray as xr
from kit.pipelines import SMALL
from PIL import Image

import stg_lab as lab
from stg_lab import cli
from stg_lab.report import explorers, open_any, sources, write
from stg_lab.sheets import to_bytes

EVIL = "</script><img src=x onerror=alert(1)>"
CALL = {**SMALL, "prompt": ["a red seven moving left", "a blue two growing"], "num_inference_steps": 2}


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """Two recordings, of two samples and of one, and a sweep over layers: their paths."""
    folder = tmp_path_factory.mktemp("made")
    call = {**CALL, "prompt": CALL["prompt"][0]}
    guidance = lab.CFG(4) + lab.STG(1, lab.skip([1]))
    lab.sample(tiny.pipe, guidance=guidance, record=folder / "two_samples.zarr", **CALL)
    lab.sample(tiny.pipe, guidance=lab.CFG(2), record=folder / "one.zarr", **call)
    lab.ablate(tiny.pipe, step=1, record=folder / "sweep.zarr", progress=False, guidance_scale=4.0, **call)
    return {name: folder / f"{name}.zarr" for name in ("two_samples", "one", "sweep")}


@pytest.fixture(scope="module")
def text(made, tmp_path_factory):
    given = {"Two": open_any(made["two_samples"]), EVIL: lab.open(made["one"]), "Layers": made["sweep"]}
    path = lab.report(given, tmp_path_factory.mktemp("out") / "deep" / "report.html", title="All")
    return path.read_text(encoding="utf-8")


def carried(text, id):
    """What an explorer of the page is started with."""
    return json.loads(re.search(rf"<script type='application/json' id='{id}-data'>(.*?)</script>", text, re.DOTALL)[1])


def ids(text):
    return re.findall(r"<div class='explorer' id='([^']+)-explorer'", text)


def test_every_recording_has_a_tab_with_its_explorers(text):
    tabs = re.findall(r"role='tab' id='([^']+)-tab' aria-controls='\1'[^>]*>([^<]*)<", text)
    assert [id for id, _ in tabs] == [f"recording-{i}" for i in range(3)]
    assert [words for _, words in tabs] == ["Two", "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;", "Layers"]
    assert re.findall(r"role='tabpanel' id='([^']+)'", text) == [id for id, _ in tabs]
    recording = ["x0", "guidance", "orthogonality"]
    has = {i: [id.split("-")[2] for id in ids(text) if id.startswith(f"recording-{i}-")] for i in range(3)}
    assert has == {0: recording, 1: recording[:2], 2: ["ablation"]}  # one vector alone has no angle to another
    assert len(set(re.findall(r" id='([^']+)'", text))) == len(re.findall(r" id='([^']+)'", text))


def test_shared_code_and_style_are_there_once(text):
    code = json.loads(re.search(r"id='explorer-code'>(.*?)</script>", text, re.DOTALL)[1])
    assert set(code["own"]) == {"X0Explorer", "GuidanceExplorer", "OrthogonalityExplorer", "AblationExplorer"}
    whole = json.dumps(code) + "".join(re.findall(r"<script type='module'>(.*?)</script>", text, re.DOTALL))
    for once in ("class Sheets", "class LinePlot", "class PageModel", "class X0Explorer extends", "function renderer"):
        assert whole.count(once) == 1, once
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert style.count(".stg-ribbon {") == 1
    assert text.count("id='plotly-js'") == 1


def test_each_explorer_carries_its_own_recording(text, made):
    for i, name in enumerate(("two_samples", "one")):
        recording = lab.open(made[name])
        png = base64.b64decode(carried(text, f"recording-{i}-x0-explorer")["sheets"]["guided/0"])
        video = to_bytes(recording.video("guided", step=1)[0])  # (frame, height, width, 3)
        height, width = video.shape[1:3]
        sheet = np.asarray(Image.open(io.BytesIO(png)))
        np.testing.assert_array_equal(sheet[height:, : width * len(video)], np.concatenate([*video], axis=1))


def test_all_settings_are_there(text, made):
    from html import unescape

    folded = [json.loads(unescape(pre)) for pre in re.findall(r"<pre>(.*?)</pre>", text, re.DOTALL)]
    plain = [json.loads(json.dumps(lab.open(made[n]).settings, default=str)) for n in ("two_samples", "one")]
    assert folded[:2] == plain
    assert folded[2]["arguments"]["step"] == [1]
    assert folded[2]["versions"]["torch"] == plain[0]["versions"]["torch"]


def test_plots_of_all_recordings_are_numbered_through(text):
    figures = json.loads(re.search(r"id='plot-data'>(.*?)</script>", text, re.DOTALL)[1])["figures"]
    assert re.findall(r"data-figure='(\d+)'", text) == [str(i) for i in range(len(figures))]
    headings = re.findall(r"<figure class='plot'><figcaption>([^<]*)", text)
    assert headings.count("How long the guidance vectors are") == 2
    assert headings.count("The angles between them") == 1


def test_no_text_is_interpreted(text):
    assert "<img src=x" not in text
    assert text.count("</script>") == text.count("<script ")


def test_titles_come_from_names_and_no_two_are_alike(made):
    given = [made["two_samples"], str(made["two_samples"]), lab.open(made["one"]), lab.open_ablation(made["sweep"])]
    assert [item.title for item in sources.items(given)] == [
        "two samples",
        "two samples (2)",
        "one",
        "Sweep over layers",
    ]
    assert sources.named("runs/space_time.zarr.zip") == "space time"


def test_it_is_never_larger_than_it_may_be(made, text, tmp_path, monkeypatch):
    recordings = {"Two": made["two_samples"], "One": made["one"]}
    whole = lab.report(recordings, tmp_path / "whole.html").read_text(encoding="utf-8")
    data = sum(len(json.dumps(carried(whole, f"{id}-explorer"))) for id in ids(whole))
    for part, most in ((0.9, 5), (0.2, 2)):
        limit = int(len(whole) - data * (1 - part))
        monkeypatch.setattr(write, "LIMIT", limit)
        monkeypatch.setattr(explorers, "SMALLEST", 10_000)
        cut = lab.report(recordings, tmp_path / "cut.html").read_text(encoding="utf-8")
        assert len(cut.encode()) <= limit
        assert "first 1 of 2 samples" in cut
        assert len(ids(cut)) <= most
        assert {"recording-0-x0", "recording-1-x0"} <= set(ids(cut))
        missing = set(ids(whole)) - set(ids(cut))
        assert cut.count("Left out to keep this page small") == len(missing)
        assert all(f"<section id='{id}'>" in cut for id in missing)  # and each says so in its place


def test_what_does_not_fit_at_all_is_told_and_not_written(made, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "LIMIT", 50_000)
    with pytest.raises(lab.CallError, match="Give fewer recordings"):
        lab.report([made["one"]], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_videos_without_room_are_told(made, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "VIDEOS", 0)
    page = lab.report([made["one"], made["two_samples"]], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<video" not in page
    assert "the video of one, two samples" in page


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ([], lab.CallError, "at least one recording"),
        ({"a": 3}, lab.CallError, "got int"),
        (["nowhere_at_all"], lab.RecordingError, "no recording at nowhere_at_all"),
        (xr.Dataset({"a": ("time", [1])}), lab.RecordingError, "not one of lab.ablate"),
    ],
)
def test_what_is_no_recording_is_told(given, error, says, tmp_path):
    with pytest.raises(error, match=says):
        lab.report(given, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_plots_of_ones_own_are_for_one_recording(made, tmp_path):
    with pytest.raises(lab.CallError, match="plots are for a report of one"):
        lab.report([made["one"], made["sweep"]], tmp_path / "r.html", plots={"a": None})


def test_the_name_is_callable_whatever_was_imported_first():
    importlib.import_module("stg_lab.report.parts")
    assert callable(lab.report)
    assert lab.report is importlib.import_module("stg_lab.report")


def test_the_command_writes_it(made, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert cli.main(["report", str(made["sweep"]), "--out", str(out), "--title", EVIL]) == 0
    assert str(out) in capsys.readouterr().out
    assert re.findall(r"<h1>(.*?)</h1>", out.read_text()) == ["&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;"]
    assert cli.main(["report", str(tmp_path / "none.zarr"), "--out", str(out)]) == 2
    assert "stg-lab report:" in capsys.readouterr().err
