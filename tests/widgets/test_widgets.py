"""The x0 explorer's kernel side: its pictures are the recording's, its state can be set, its errors say what to type."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from kit.pipelines import SMALL
from PIL import Image

import stg_lab as lab
from stg_lab.guidance import combine_cfg
from stg_lab.recording import Recording
from stg_lab.sheets import to_bytes
from stg_lab.widgets import sprites
from stg_lab.widgets.base import module, style

CALL = {**SMALL, "prompt": ["a red seven moving left", "a blue two growing"], "num_inference_steps": 4}


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """Two samples; the weak model is off at step 0."""
    guidance = lab.CFG(4) + lab.STG(1, lab.skip([1]), start=0.25)
    return lab.sample(tiny.pipe, guidance=guidance, record=tmp_path_factory.mktemp("run") / "run.zarr", **CALL)


@pytest.fixture
def explorer(run):
    return lab.widgets.x0_explorer(run)


def pictures(sheet: bytes, height: int, width: int) -> np.ndarray:
    """A sprite sheet as uint8 `(step, frame, height, width, 3)`."""
    pixels = np.asarray(Image.open(io.BytesIO(sheet)))
    rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
    return pixels.reshape(rows, height, columns, width, 3).transpose(0, 2, 1, 3, 4)


def row(explorer, name):
    return next(r for r in explorer.view["rows"] if r["name"] == name)


@pytest.mark.parametrize("branch", ["cond", "uncond", "skip", "guided"])
def test_sheets_hold_the_recordings_pixels(run, explorer, branch):
    for sample in range(2):
        shown = pictures(explorer.sheets[f"{branch}/{sample}"], 16, 16)
        for step, computed in enumerate(row(explorer, branch)["computed"]):
            if computed:
                expected = to_bytes(run.recording.video(branch, step=step)[sample])
                np.testing.assert_array_equal(shown[step], expected)


def test_a_branch_says_where_it_was_not_computed(explorer):
    assert row(explorer, "skip")["computed"] == [False, True, True, True]
    assert row(explorer, "guided")["computed"] == [True] * 4
    assert not pictures(explorer.sheets["skip/0"], 16, 16)[0].any()


def test_cfg_alone_is_rebuilt_from_its_branches(run, explorer):
    rec = run.recording
    x0 = combine_cfg(rec.x0("cond"), rec.x0("uncond"), 4).isel(step=2).values
    expected = to_bytes(rec._preview.decode(x0)[1]).astype(int)
    shown = pictures(explorer.sheets["cfg/1"], 16, 16)[2].astype(int)
    assert np.abs(shown - expected).max() <= 1  # the same sum in another order
    assert "cfg" not in [r["name"] for r in lab.widgets.x0_explorer(run, cfg=False).view["rows"]]


def test_the_first_guided_step_without_stg_is_cfg_alone(explorer):
    guided, alone = (pictures(explorer.sheets[f"{name}/0"], 16, 16)[0] for name in ("guided", "cfg"))
    np.testing.assert_array_equal(guided, alone)


def test_final_videos_are_those_of_the_runs(run, tiny):
    explorer = lab.widgets.x0_explorer(run.recording, baseline=run.baseline)
    assert [r["name"] for r in explorer.view["finals"]] == ["final", "baseline"]
    for name, who in (("final", run), ("baseline", run.baseline)):
        np.testing.assert_array_equal(pictures(explorer.sheets[f"{name}/1"], 16, 16)[0], to_bytes(who.video)[1])


def test_rows_are_told_in_plain_words(explorer):
    notes = {r["label"]: r["note"] for r in explorer.view["rows"]}
    assert list(notes) == ["cond", "uncond", "skip", "CFG", "guided"]
    assert notes["uncond"] == "unconditional (empty caption)"
    assert notes["skip"] == "weak model: block 1 skipped"
    assert notes["CFG"] == "no weak model: u + 4 (c\u00a0−\u00a0u)"
    assert notes["guided"] == "CFG + STG, what the sampler used"
    assert len({r["colour"] for r in explorer.view["rows"]}) == 5


def test_steps_and_samples_are_those_of_the_recording(run, explorer):
    assert [s["sigma"] for s in explorer.view["steps"]] == pytest.approx(run.recording.ds.sigma.values)
    assert [s["caption"] for s in explorer.view["samples"]] == CALL["prompt"]
    assert [s["seed"] for s in explorer.view["samples"]] == [0, 1]


def test_state_can_be_set_from_python(explorer):
    explorer.step, explorer.sample, explorer.mode, explorer.difference = 3, 1, "video", True
    assert explorer.state | {"gain": 0} == {
        "step": 3, "sample": 1, "mode": "video", "playing": False, "difference": True, "gain": 0, "size": 0,
    }  # fmt: skip
    assert repr(explorer) == "X0Explorer(4 steps x [cond, uncond, skip, cfg, guided] x 2 samples, at step 3)"


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("step", 4, lab.RecordingError, "steps 0 to 3"),
        ("step", -1, lab.RecordingError, "steps 0 to 3"),
        ("sample", 2, lab.RecordingError, "samples 0 to 1"),
        ("mode", "film", lab.CallError, "'frames' or 'video'"),
        ("gain", -1.0, lab.CallError, "positive"),
    ],
)
def test_state_that_cannot_be_is_refused_and_nothing_changes(explorer, name, value, error, words):
    before = explorer.state
    with pytest.raises(error, match=words):
        setattr(explorer, name, value)
    assert explorer.state == before


def test_arguments_that_do_not_fit_are_told(run):
    with pytest.raises(lab.GuidanceError, match=r"no branch 'skp'.*Did you mean 'skip'"):
        lab.widgets.x0_explorer(run, branches=["cond", "skp"])
    with pytest.raises(lab.CallError, match=r"branches is a list that is not empty, got \[\]"):
        lab.widgets.x0_explorer(run, branches=[])
    with pytest.raises(lab.RecordingError, match="sample 2 is out of range"):
        lab.widgets.x0_explorer(run, sample=2)
    with pytest.raises(lab.CallError, match=r"Run or a Recording, .*got int"):
        lab.widgets.x0_explorer(7)
    with pytest.raises(lab.CallError, match="frames a second"):
        lab.widgets.x0_explorer(run, fps=0)
    with pytest.raises(lab.CallError, match=r"1 x 5 frames.*2 x 5 frames"):
        lab.widgets.x0_explorer(run, baseline=SimpleNamespace(video=run.video[:1]))


def test_a_recording_without_pictures_is_told_at_once(run):
    rec = run.recording
    blind = Recording(rec.ds, rec.path, complete=True, planned=4, preview=None)
    with pytest.raises(lab.RecordingError, match="no linear preview"):
        lab.widgets.x0_explorer(blind)


def test_chosen_branches_keep_their_order(run):
    explorer = lab.widgets.x0_explorer(run, branches=["guided", "skip"], cfg=False)
    assert [r["name"] for r in explorer.view["rows"]] == ["skip", "guided"]


def test_a_run_that_was_cut_off_has_no_final_video(run):
    rec = run.recording
    short = Recording(rec.ds.isel(step=slice(2)), rec.path, complete=False, planned=4, preview=rec._preview)
    explorer = lab.widgets.x0_explorer(short)
    assert len(explorer.view["steps"]) == 2
    assert explorer.view["finals"] == []


def test_cfg_alone_has_no_second_row(tiny):
    run = lab.sample(tiny.pipe, guidance=lab.CFG(4), record=True, **CALL)
    explorer = lab.widgets.x0_explorer(run)
    assert [r["name"] for r in explorer.view["rows"]] == ["cond", "uncond", "guided"]
    assert explorer.view["rows"][-1]["note"] == "CFG, what the sampler used"


def test_large_pictures_are_made_smaller(run):
    few = sprites.make_sprites(run, budget=4 * 5 * 8 * 8)
    assert (few.view["shrink"], few.view["width"], few.pixels) == (2, 8, 4 * 5 * 8 * 8)
    blocks = run.recording.video("cond", step=1)[0].reshape(5, 8, 2, 8, 2, 3).mean((2, 4))
    np.testing.assert_array_equal(pictures(few.sheets["cond/0"], 8, 8)[1], to_bytes(blocks))


def test_everything_the_browser_loads_is_in_the_package():
    for text in (module("x0_explorer"), style("x0_explorer")):
        text = text.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
        assert not any(word in text for word in ("http", "import ", "import(", "@import", "url("))
