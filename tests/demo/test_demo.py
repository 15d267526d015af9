"""The demo: four columns from the same seeds, what the page says of them, and that it is so."""

import base64
import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from kit.pipelines import SMALL
from PIL import Image

import stg_lab as lab
from stg_lab import cli
from stg_lab.demo import page as words
from stg_lab.demo import run
from stg_lab.demo.columns import sample_columns
from stg_lab.demo.repair import Repair
from stg_lab.demo.wanted import Wanted
from stg_lab.digits import judge
from stg_lab.digits.captions import parse
from stg_lab.report import Column, Grid, report
from stg_lab.sheets import to_bytes

# What these tests share takes long to make: one worker makes it, once.
pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.slow]

CAPTIONS = ["a red seven moving left", "a blue zero growing"]
COLUMNS = ["No guidance", "STG", "CFG", "CFG + STG"]


def stg_lab(*arguments):
    """What the command returns and prints; `test_wheel.py` runs it as a process of its own."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([*arguments])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def demo(digits, tmp_path_factory):
    """A demo of two captions: its folder, what it printed, and what was typed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    arguments = ["demo", "--out", str(out), "--seed", "3", "--prompts", *CAPTIONS]
    code, printed, told = stg_lab(*arguments)
    assert code == 0, told
    return out, printed, arguments


@pytest.fixture(scope="module")
def page(demo):
    return (demo[0] / "report.html").read_text(encoding="utf-8")


def section(page, id):
    return re.search(rf"<section id='{id}'.*?</section>", page, re.DOTALL)[0]


def shown(text):
    """The videos of a grid as they stand on the page: uint8 `(row, column, frame, height, width, 3)`."""
    clips = []
    for png in re.findall(r"data:image/png;base64,([^']+)'", text):
        strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
        height, width, _ = strip.shape
        clips.append(strip.reshape(height, width // height, height, 3).swapaxes(0, 1))
    return np.stack(clips).reshape(-1, len(COLUMNS), *clips[0].shape)


def judged(videos, captions):
    """Right or wrong by the judge, asked anew, of videos from the page: `(row, column)`."""
    labels = [parse(caption) for caption in captions]
    each = [judge.right(videos[:, i] / 255, labels)["all three"] for i in range(len(COLUMNS))]
    return np.stack(each, axis=1)


def test_it_ends_with_the_list_of_what_it_wrote(demo):
    out, printed, _ = demo
    listed = {line.split()[0] for line in printed.split("written:")[1].splitlines() if line.startswith("  ")}
    assert listed == {str(p) for p in out.iterdir()}
    files = {"report.html", "grid.mp4", "sheet.png", "weak_model.pdf", "weak_model.png"}
    assert {p.name for p in out.iterdir()} == files | {"run.zarr", "stg.zarr", "baseline.zarr"}
    assert "report.html" in printed.splitlines()[-1]


def test_the_videos_come_before_any_table_and_any_explanation(page):
    body = page[page.index("<main>") :]
    places = [body.index(f"<section id='{id}'") for id in ("unpicked", "chosen")]
    assert places == sorted(places)
    assert places[-1] < min(body.index("<table"), body.index("<header"), body.index("class='explorer'"))
    above = re.sub("<[^>]+>", "", body[: body.index("<img")])
    assert len(" ".join(above.split())) < 500  # headings, and two lines at the page's width


def test_it_says_what_was_chosen_and_what_was_not(page):
    unpicked, chosen = section(page, "unpicked"), section(page, "chosen")
    assert "unpicked</h2>" in unpicked
    assert "chosen" not in unpicked
    assert "chosen because it shows the repair</h2>" in chosen
    kept = json.loads((lab.loading.folder_of("digits-joint") / "recommended.json").read_text())["repair"]
    assert f"Of {kept['of']} videos" in chosen
    assert f"turned {kept['repaired']} from wrong to right and {kept['broken']} from right to wrong" in chosen
    for caption, seed in [*zip(CAPTIONS, (3, 4), strict=True), (kept["example"]["caption"], kept["example"]["seed"])]:
        assert f"{caption} <span>seed {seed}</span>" in page


def test_counts_and_marks_are_those_of_the_judge_asked_anew(page):
    unpicked = section(page, "unpicked")
    right = judged(shown(unpicked), CAPTIONS)
    marks = np.array(re.findall(r"<figcaption class='(right|wrong)'", unpicked)).reshape(right.shape)
    np.testing.assert_array_equal(marks == "right", right)
    sentence = re.search(r"right by the judge in (.*?)\.</p>", unpicked)[1]
    told = [int(n) for n in re.findall(r"(\d+) with", sentence)]
    assert told == right.sum(0).tolist()
    assert sentence.endswith(f"of {len(CAPTIONS)} each")
    assert [unpicked.count(sign) for sign in "✓✗"] == [right.sum() + 1, (~right).sum() + 1]  # once in the words


def test_the_shipped_example_is_repaired(page):
    chosen = section(page, "chosen")
    kept = json.loads((lab.loading.folder_of("digits-joint") / "recommended.json").read_text())["repair"]["example"]
    [right] = judged(shown(chosen), [kept["caption"]])
    assert right[:2].tolist() == [False, True]


def test_it_says_what_a_step_costs(page):
    # STG adds a pass, CFG another; of eight blocks a pass that skips the fifth has three left to run.
    sentence = re.search(r"A step of one video takes .*?</p>", section(page, "unpicked"))[0]
    assert "takes 1, 2, 2 and 3 passes" in sentence
    weak = lab.loading.folder_of("digits-joint") / "recommended.json"
    if json.loads(weak.read_text())["weak"] == "skip:block:4":
        assert "they cost 1, 1.38, 2 and 2.38." in sentence


def test_nothing_is_asked_of_a_network(page):
    assert not re.search(r"""(?:src|href)=['"](?!data:|#)""", page.split("id='plotly-js'")[0])
    assert "default-src 'none'" in page


def test_recordings_hold_what_the_page_shows(demo, page):
    out, _, _ = demo
    videos, chosen = shown(section(page, "unpicked")), shown(section(page, "chosen"))
    run, alone, stg = (lab.open(out / f"{name}.zarr") for name in ("run", "baseline", "stg"))
    assert run.branches == ["cond", "uncond", "skip", "guided"]
    assert alone.branches == ["cond", "uncond", "guided"]
    assert stg.branches == ["cond", "skip", "guided"]
    np.testing.assert_array_equal(run.ds.x_t[0], alone.ds.x_t[0])
    assert run.ds.seed.values.tolist() == alone.ds.seed.values.tolist() == [3, 4]
    # Final latents decoded in another batch: a last bit may fall on the other side of a rounding.
    np.testing.assert_allclose(to_bytes(alone.video()).astype(int), videos[:, 2], atol=1)
    np.testing.assert_allclose(to_bytes(run.video()).astype(int), videos[:, 3], atol=1)
    np.testing.assert_allclose(to_bytes(stg.video()).astype(int), chosen[:, 1], atol=1)


def test_the_film_plays_all_columns(demo, page):
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(demo[0] / "grid.mp4"))
    width, height = next(reader)["size"]
    frames = [np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in reader]
    assert len(frames) == 4 * 9  # looped four times
    videos = shown(section(page, "unpicked"))
    large = videos[1, 3, 4].repeat(3, axis=0).repeat(3, axis=1)
    x, y = 12 + 3 * 102, 22 + 12 + 120 + 18
    assert np.abs(frames[4][y : y + 96, x : x + 96].astype(float) - large).mean() < 8


def test_pictures_are_whole(demo):
    out, _, _ = demo
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 4 * 9 * 64
    pdf = (out / "weak_model.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf


def test_a_second_demo_is_refused_until_told_to_overwrite(demo):
    out, _, arguments = demo
    before = (out / "run.zarr" / "zarr.json").stat().st_mtime_ns
    code, _, told = stg_lab(*arguments)
    assert code == 2
    assert "--overwrite" in told
    assert (out / "run.zarr" / "zarr.json").stat().st_mtime_ns == before


def test_with_other_settings_nothing_is_said_of_the_repair_that_was_counted(digits, tmp_path):
    out = tmp_path / "demo"
    arguments = ["demo", "--out", str(out), "--steps", "2"]
    assert cli.main([*arguments, "--prompts", *CAPTIONS]) == 0
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "<section id='unpicked'" in text
    assert "<section id='chosen'" not in text
    assert lab.open(out / "stg.zarr").captions == CAPTIONS  # the column, as there is no chosen video
    assert cli.main([*arguments, "--prompt", CAPTIONS[1], "--overwrite"]) == 0
    assert lab.open(out / "run.zarr").captions == CAPTIONS[1:]


def test_columns_are_the_stock_pipelines_own_and_share_seeds(digits):
    guidances = Wanted(out=Path("unused"), steps=2).guidances(lab.skip([4]))
    columns = sample_columns(digits.pipe, guidances, CAPTIONS, judged=False, places={}, seed=3, num_inference_steps=2)
    assert list(columns) == COLUMNS
    for name, scale in (("No guidance", 1.0), ("CFG", 2.0)):
        generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
        stock = digits.pipe(
            prompt=CAPTIONS, guidance_scale=scale, generator=generators, output_type="np", **digits.call
        ).frames
        np.testing.assert_array_equal(columns[name].run.video, stock)


@pytest.mark.parametrize("seed", [0, 20])
def test_eight_captions_are_drawn_by_the_seed(seed, digits, monkeypatch, tmp_path):
    asked = []

    def instead(pipe, guidances, captions, *, seed, **call):
        asked.append((list(captions), seed))
        return {}

    monkeypatch.setattr(run, "sample_columns", instead)
    run._sampled(digits.pipe, Wanted(out=tmp_path / "demo", seed=seed))
    assert asked[0] == (lab.digits.world.draw(8, seed=seed, split="test").captions, seed)
    assert len(asked[0][0]) == 8
    assert len(asked) == 2  # and the chosen one, from a seed that is none of theirs
    assert asked[1][1] not in range(seed, seed + 8)


def test_a_model_outside_the_digits_world_has_no_judge(tiny, tmp_path):
    wanted = Wanted(out=Path("unused"), model="owner/name", prompts=tuple(CAPTIONS), steps=2, weak="skip:block:1")
    columns = sample_columns(
        tiny.pipe, wanted.guidances(wanted.given), wanted.prompts, judged=False, places={"STG": tmp_path / "stg.zarr"}, seed=0,
        num_inference_steps=2, **SMALL,
    )  # fmt: skip
    grid = words.drawn_grid(wanted, list(wanted.prompts), columns)
    text = report(columns["STG"].run, tmp_path / "r.html", grids=[grid]).read_text(encoding="utf-8")
    assert "figcaption class" not in text
    assert "judge" not in section(text, "unpicked")
    assert "A step of one video takes 1, 2, 2 and 3 passes" in text


@pytest.mark.parametrize(
    ("kept", "says"),
    [(None, None), ({}, None), ({"repair": {"repaired": 1}}, "cannot be read"), ({"repair": 3}, "cannot be read")],
)
def test_a_repair_is_read_or_left_out_or_refused(kept, says):
    if says is None:
        assert Repair.kept(kept) is None
        return
    with pytest.raises(lab.GuidanceError, match=says):
        Repair.kept(kept)


def test_texts_of_a_grid_are_shown_and_never_interpreted():
    evil, clip = "'><img src=x onerror=alert(1)>", np.zeros((1, 5, 4, 4, 3), np.float32)
    text = Grid("g", evil, evil, [evil], [0], [Column(evil, evil, clip)], (evil,)).html
    assert "onerror" in text
    assert not re.search(r"<img (?!alt='[^'<>]*' src='data:)", text)


def test_a_grid_wants_one_video_a_caption():
    clip = np.zeros((1, 5, 4, 4, 3), np.float32)
    with pytest.raises(lab.CallError, match="one video a caption"):
        Grid("g", "G", "", ["a", "b"], [0, 1], [Column("A", "", clip)])
    with pytest.raises(lab.CallError, match="no column"):
        Grid("g", "G", "", ["a"], [0], [])
