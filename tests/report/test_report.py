"""The report as a file: it holds everything, asks for nothing, and shows texts as texts."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest
from kit.pipelines import SMALL

import stg_lab as lab
from stg_lab.recording import Recording
from stg_lab.report import explorers, write, write_report
from stg_lab.sheets import sheet_png

EVIL = "</script><img src=x onerror=alert(1)>"
CALL = {**SMALL, "prompt": ["a red seven moving left", "a blue two growing"], "num_inference_steps": 3}
LOADING = {"src", "href", "srcset", "data", "poster", "action", "formaction", "xlink:href"}


class Page(HTMLParser):
    """Elements, their attributes and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text: dict[str, str] = {}
        self.scripts: dict[str, str] = {}
        self._open: list[str] = []
        self._script = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open.append(tag)
        self._script = dict(attributes).get("id", "") if tag == "script" else ""

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        else:
            tag = self._open[-1] if self._open else ""
            self.text[tag] = self.text.get(tag, "") + data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def explored(page, id="x0-explorer"):
    """What an explorer of the page is started with."""
    return json.loads(page.scripts[f"{id}-data"])


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    run = lab.sample(tiny.pipe, guidance=lab.CFG(4) + lab.STG(1, lab.skip([1])), record=folder / "run.zarr", **CALL)
    return run, lab.sample(tiny.pipe, guidance=lab.CFG(4), record=folder / "baseline.zarr", **CALL)


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    run, baseline = runs
    plots = {f"Plot {EVIL}": go.Figure(go.Scatter(y=[1, 3, 2], name=EVIL)), "Second": go.Figure(go.Bar(y=[1]))}
    path = tmp_path_factory.mktemp("out") / "deep" / "report.html"
    png = sheet_png(run.video, run.captions)
    return write_report(path, run, baseline=baseline, title=EVIL, plots=plots, figure_png=png)


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text(encoding="utf-8"))


def test_nothing_is_loaded_from_elsewhere(page):
    asked = [(tag, v) for tag, attributes in page.elements for k, v in attributes.items() if k in LOADING]
    assert asked
    assert [(tag, v[:40]) for tag, v in asked if not v.startswith(("data:", "#"))] == []
    assert not re.search(r"@import|url\(", page.text["style"])


def test_the_policy_forbids_the_network(page):
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    allowed = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert allowed["default-src"] == "'none'"
    assert {value for values in allowed.values() for value in values.split()} == {
        "'none'",
        "'unsafe-inline'",
        "data:",
        "blob:",
    }


def test_texts_are_shown_and_never_interpreted(page):
    assert EVIL in page.text["h1"]
    assert EVIL in page.text["figcaption"]
    assert not [a for _, a in page.elements if "onerror" in a]
    plots = json.loads(page.scripts["plot-data"])
    assert plots["figures"][0]["data"][0]["name"] == EVIL


def test_captions_and_settings_are_escaped(runs, tmp_path):
    rec = runs[0].recording
    ds = rec.ds.assign_coords(caption=("sample", np.array([EVIL, "ok"], object)))
    ds.attrs = {**ds.attrs, "settings": {**rec.settings, "model": EVIL, "guidance_text": EVIL}}
    evil = Recording(ds, rec.path, complete=True, planned=rec.planned, preview=rec._preview)
    page = Page(write_report(tmp_path / "evil.html", evil).read_text(encoding="utf-8"))
    assert not [a for _, a in page.elements if "onerror" in a]
    assert explored(page)["values"]["view"]["samples"][0]["caption"] == EVIL


def test_the_facts_are_there(page, runs):
    text = " ".join(page.text.values())
    rec = runs[0].recording
    for fact in [*CALL["prompt"], "seed 0", "seed 1", rec.settings["guidance_text"], "WanPipeline", "FlowMatchEuler"]:
        assert fact in text
    for package in ("torch", "diffusers", "numpy"):
        assert f"{package} {rec.settings['versions'][package]}" in text
    assert json.loads(page.text["pre"]) == json.loads(json.dumps(rec.settings, default=str))


def test_the_runs_own_sum_is_written_out(written):
    sums = re.search(r"<span class='own'>(.*?)</span>", written.read_text(encoding="utf-8"))[1]
    assert re.sub("<[^>]+>", "", sums) == "guided = cond + 3 (cond − uncond) + 1 (cond − skip)"


def test_videos_loop_side_by_side_with_cfg_first(page, runs):
    videos = page.all("video")
    assert [v["aria-label"] for v in videos] == [str(run.guidance) for run in reversed(runs)]
    assert all(v["src"].startswith("data:video/mp4;base64,") for v in videos)
    assert all({"loop", "muted", "autoplay", "playsinline", "controls"} <= v.keys() for v in videos)


def test_plotly_is_there_once_and_shares_nothing(page):
    assert [s.get("id") for s in page.all("script")].count("plotly-js") == 1
    config = json.loads(page.scripts["plot-data"])["config"]
    assert (config["displaylogo"], config["showSendToCloud"]) == (False, False)


def test_without_plots_there_is_no_plotly(runs, tmp_path):
    path = write_report(tmp_path / "small.html", runs[0].recording)
    page = Page(path.read_text(encoding="utf-8"))
    assert "plotly-js" not in page.scripts
    assert len(page.all("video")) == 1
    assert path.stat().st_size < 1_500_000


def test_given_videos_are_shown_instead(runs, tmp_path):
    page = Page(write_report(tmp_path / "r.html", runs[0], videos={"mine": b"mp4"}).read_text(encoding="utf-8"))
    assert [v["src"] for v in page.all("video")] == ["data:video/mp4;base64,bXA0"]


def test_headings_are_in_order(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels == [1] + [2] * (len(levels) - 1)
    assert len(page.all("main")) == 1


def test_a_page_stays_small(written):
    assert written.stat().st_size < 8_000_000


def test_samples_without_room_are_left_out_and_told(runs, tmp_path, monkeypatch):
    whole = write_report(tmp_path / "whole.html", runs[0])
    carried = sum(len(s) for id, s in Page(whole.read_text()).scripts.items() if id.endswith("-explorer-data"))
    monkeypatch.setattr(write, "LIMIT", whole.stat().st_size - carried * 2 // 5)
    text = write_report(tmp_path / "cut.html", runs[0]).read_text(encoding="utf-8")
    assert "This explorer holds the first 1 of 2 samples." in text
    assert len(explored(Page(text))["values"]["view"]["samples"]) == 1
    assert len(text) < write.LIMIT


def test_pictures_without_room_become_smaller(runs, tmp_path, monkeypatch):
    whole = write_report(tmp_path / "whole.html", runs[0])
    page = Page(whole.read_text(encoding="utf-8"))
    carried = sum(len(text) for id, text in page.scripts.items() if id.endswith("-explorer-data"))
    sheets = sum(map(len, explored(page)["sheets"].values()))
    monkeypatch.setattr(explorers, "SMALLEST", 0)
    monkeypatch.setattr(write, "LIMIT", whole.stat().st_size - carried + sheets // 3)
    page = Page(write_report(tmp_path / "cut.html", runs[0]).read_text(encoding="utf-8"))
    assert explored(page)["values"]["view"]["shrink"] > 1
    assert "pictures are smaller than the videos" in page.text["p"]


def test_a_recording_without_pictures_still_gives_a_page(runs, tmp_path):
    rec = runs[0].recording
    blind = Recording(rec.ds, rec.path, complete=True, planned=rec.planned, preview=None)
    page = Page(write_report(tmp_path / "blind.html", blind).read_text(encoding="utf-8"))
    assert "There is no explorer on this page" in page.text["p"]
    assert page.all("video") == []


def test_arguments_that_do_not_fit_are_told(runs, tmp_path):
    with pytest.raises(lab.CallError, match="Run or a Recording, got int"):
        write_report(tmp_path / "r.html", 3)
    with pytest.raises(lab.CallError, match="bytes of a PNG"):
        write_report(tmp_path / "r.html", runs[0], figure_png=b"GIF89a")
    assert not (tmp_path / "r.html").exists()
