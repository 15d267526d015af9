"""The fork explorer's kernel side: its forks are `lab.fork`'s, they are kept, and Cancel keeps what is done."""

import io
import sys
import threading

import numpy as np
import pytest
from kit.pipelines import SMALL
from kit.zoo import member
from PIL import Image

import stg_lab as lab
from stg_lab.sheets import to_bytes

SUM = lab.CFG(4) + lab.STG(1.5, lab.skip([1], part="attention"))
CALL = {**SMALL, "prompt": ["a red seven moving left", "a blue two growing"], "num_inference_steps": 4}


@pytest.fixture(scope="module")
def run(tiny):
    return lab.sample(tiny.pipe, guidance=SUM, **CALL)


@pytest.fixture
def explorer(run):
    return lab.widgets.fork_explorer(run)


def frames(png: bytes, width: int = 16) -> np.ndarray:
    """A strip as uint8 `(frame, height, width, 3)`."""
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    return np.stack(np.split(pixels, pixels.shape[1] // width, axis=1))


def sampled_on(explorer):
    explorer.sample_on()
    assert explorer.wait(60)
    assert explorer.problem == ""
    return explorer.forks[-1]


def test_it_begins_with_what_the_run_was_sampled_under(explorer, run):
    assert explorer.state | {"gain": 0} == {
        "step": 2, "sample": 0, "layers": "1", "part": "attention", "axis": "joint", "stg": 1.5, "cfg": 4.0, "shown": -1,
        "playing": True, "frame": 0, "gain": 0, "made": [],
    }  # fmt: skip
    assert explorer.guidance == SUM
    np.testing.assert_array_equal(frames(explorer.sheets["original/1"]), to_bytes(run.video[1]))
    explorer.stg = 0.0
    assert str(explorer.guidance) == "CFG(4)"


def test_a_fork_is_the_one_that_lab_fork_makes(explorer, run):
    explorer.step, explorer.layers, explorer.part, explorer.stg, explorer.cfg = 1, "1-2", "block", 2.0, 3.0
    expected = lab.fork(run, 1, lab.CFG(3) + lab.STG(2, lab.skip([1, 2])))
    forked = sampled_on(explorer)
    np.testing.assert_array_equal(forked.video, expected.video)
    np.testing.assert_array_equal(forked.recording.ds.final.values, expected.recording.ds.final.values)
    assert explorer.shown == 0
    assert explorer.made == [
        {"step": 1, "guidance": "CFG(3) + STG(2, skip:block:1,2)", "until": None, "note": "",
         "size": {"frames": 5, "height": 16, "width": 16}}
    ]  # fmt: skip
    np.testing.assert_array_equal(frames(explorer.sheets["fork0/1"]), to_bytes(expected.video[1]))
    assert (explorer.status, explorer.running, explorer.pictures) == ("done", False, {})


def test_every_fork_is_kept(explorer, run):
    first = sampled_on(explorer)
    explorer.step, explorer.stg = 3, 0.0
    second = sampled_on(explorer)
    assert explorer.forks == [first, second]
    assert [one["step"] for one in explorer.made] == [2, 3]
    assert [rec.settings["fork_step"] for rec in explorer.recordings] == [2, 3]
    np.testing.assert_array_equal(first.video, run.video)  # nothing was changed
    assert explorer.shown == 1
    explorer.shown = 0


def test_each_step_of_a_fork_is_shown_as_it_comes(explorer, run):
    explorer.step, explorer.cfg = 1, 2.0
    seen = []
    explorer.observe(lambda change: change["new"] and seen.append(dict(change["new"])), "pictures")
    forked = sampled_on(explorer)
    assert len(seen) == 3
    for k, pictures in enumerate(seen, start=1):
        shown = to_bytes(forked.recording.video("guided", step=k))
        np.testing.assert_array_equal(frames(pictures["now/0"]), shown[0])
        np.testing.assert_array_equal(frames(pictures["now/1"]), shown[1])


def test_cancel_keeps_what_is_done(tiny):
    long = lab.sample(tiny.pipe, guidance=lab.CFG(4), **{**CALL, "num_inference_steps": 30})
    explorer = lab.widgets.fork_explorer(long)
    explorer.step = 5
    reached = threading.Event()
    explorer.observe(lambda change: change["new"] > 0.1 and reached.set(), "progress")
    explorer.sample_on()
    assert reached.wait(60)
    explorer.stop = True
    assert explorer.wait(60)
    [said] = explorer.made
    [cut] = explorer.recordings
    assert explorer.forks == []
    assert (explorer.problem, explorer.shown) == ("", 0)
    assert 5 <= said["until"] < 29
    assert explorer.status == f"cancelled at step {said['until']}; what is done is kept"
    assert (cut.steps, cut.complete) == (said["until"] + 1, False)
    last = to_bytes(cut.video("guided", step=said["until"]))
    np.testing.assert_array_equal(frames(explorer.sheets["fork0/0"]), last[0])
    again = sampled_on(explorer)  # and the pipeline still samples
    assert again.recording.complete


def test_the_browser_asks_by_counting_and_a_refusal_leaves_what_is_shown(explorer):
    explorer.set_state({"asked": 1})
    assert explorer.wait(60)
    assert len(explorer.forks) == 1
    explorer.layers = "9"
    explorer.set_state({"asked": 2})
    assert explorer.wait(60)
    assert "layer 9" in explorer.problem
    assert (len(explorer.forks), explorer.shown) == (1, 0)


def test_a_recording_loads_its_model_when_first_needed(run, tiny, monkeypatch):
    loaded = []
    there = sys.modules["stg_lab.widgets.fork_explorer"]  # the package's attribute of that name is the function
    monkeypatch.setattr(there, "load", lambda name: loaded.append(name) or tiny.pipe)
    explorer = lab.widgets.fork_explorer(run.recording)
    assert loaded == []
    sampled_on(explorer)
    sampled_on(explorer)
    assert loaded == [run.recording.settings["model"]]


def test_models_with_a_learned_decoder_show_like_beside_like():
    """A run's videos are decoded; a recording has the same linear preview for both."""
    one = member("mochi")
    one.call = {"prompt": "a cat", **one.call}
    parts = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")
    encoded = tuple(one.call.pop(name) for name in parts)
    one.pipe.encode_prompt = lambda *args, **kwargs: encoded  # a recording holds no embeddings
    run = one.sample(lab.CFG(3), output_type="np")
    for source, pipe in ((run, None), (run.recording, run.pipe)):
        explorer = lab.widgets.fork_explorer(source, pipe)
        forked = sampled_on(explorer)
        size = explorer.view["final"]
        assert explorer.made[0]["size"] == size
        video = run.video if pipe is None else run.recording.video()
        assert size == dict(zip(("frames", "height", "width"), video.shape[1:4], strict=True))
        shown = forked.video if pipe is None else run.recording.preview(forked.recording.ds.final.values)
        np.testing.assert_array_equal(frames(explorer.sheets["fork0/0"], size["width"]), to_bytes(shown[0]))


@pytest.mark.parametrize(
    ("state", "words"),
    [({"layers": "five"}, "'five' is not a list of layers"), ({"layers": "9"}, "layer")],
)
def test_what_does_not_fit_is_shown_in_place_and_nothing_is_sampled(explorer, state, words):
    for name, value in state.items():
        setattr(explorer, name, value)
    explorer.sample_on()
    assert explorer.wait(60)
    assert words in explorer.problem
    assert (explorer.made, explorer.shown, explorer.running) == ([], -1, False)


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("step", 4, lab.RecordingError, "steps 0 to 3"),
        ("sample", 2, lab.RecordingError, "samples 0 to 1"),
        ("part", "blok", lab.CallError, "'block' or"),
        ("axis", "time", lab.CallError, "'joint' or 'spatial' or 'temporal'"),
        ("stg", 1e9, lab.CallError, "up to 100"),
        ("shown", 3, lab.CallError, "there is no fork 3"),
    ],
)
def test_state_that_cannot_be_is_refused_and_nothing_changes(explorer, name, value, error, words):
    before = explorer.state
    with pytest.raises(error, match=words):
        setattr(explorer, name, value)
    assert explorer.state == before


def test_what_cannot_be_forked_is_told_at_once(tiny):
    rounds = tiny.sample(lab.CFG(4).restart(0.5, 0.9, 1), num_inference_steps=6, output_type="np")
    with pytest.raises(lab.CallError, match="rounds of Restart"):
        lab.widgets.fork_explorer(rounds)
    with lab.attach(tiny.pipe, record=True) as trace:
        tiny.stock()
    with pytest.raises(lab.CallError, match="cannot be made again"):
        lab.widgets.fork_explorer(trace.recording)
    with pytest.raises(lab.CallError, match=r"Run or a Recording, .*got int"):
        lab.widgets.fork_explorer(7)
