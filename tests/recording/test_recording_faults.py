"""Whatever goes wrong around a recording gives one clear error that names it, and keeps what was written."""

import errno
import gc
import os
import re
import shutil
import signal
import warnings

import numpy as np
import pytest
import zarr
from kit.processes import run_python
from kit.watch import left_behind, stopping

import stg_lab as lab
from stg_lab.errors import RecordingExistsError
from stg_lab.recording.chunks import ChunkFiles

GUIDANCE = lab.CFG(4) + lab.STG(1, lab.skip([1]))
WRITE = ChunkFiles.write  # what every chunk is written by


def fail_at_write(monkeypatch, number, error):
    """Let a write fail: number 1 is the first of the first step."""
    count = []

    def write(self, *args):
        if count or self.name == "x_t":
            count.append(1)
        if len(count) == number:
            raise error
        WRITE(self, *args)

    monkeypatch.setattr(ChunkFiles, "write", write)


# ---- cut off ----


def test_a_killed_run_leaves_its_whole_steps(tiny, whole, tmp_path):
    """Killed for good in the middle of writing the third step: two steps are there, the very same numbers."""
    code = """
        import os, signal, sys, torch
        torch.set_num_threads(1)
        from kit.pipelines import SMALL, Rig, tiny_wan
        import stg_lab as lab
        from stg_lab.recording.chunks import ChunkFiles
        rig, stock, writes = Rig(tiny_wan(), SMALL), ChunkFiles.write, []
        def write(self, *args):
            if self.name == "x_t":
                writes.append(1)
            if len(writes) == 3 and self.name == "prediction":
                os.kill(os.getpid(), signal.SIGKILL)
            stock(self, *args)
        ChunkFiles.write = write
        rig.sample(lab.CFG(4) + lab.STG(1, lab.skip([1])), record=os.environ["PLACE"])
    """
    place = tmp_path / "killed.zarr"
    done = run_python(code, PLACE=str(place))
    assert done.returncode == -signal.SIGKILL, done.stderr
    with pytest.warns(lab.IncompleteRecordingWarning, match=r"killed.zarr is incomplete.*2 of 4 steps"):
        cut = lab.open(place)
    assert (cut.steps, cut.planned, cut.complete) == (2, 4, False)
    assert "INCOMPLETE: cut off after 2 of 4 steps" in repr(cut)
    assert "2 of 4: the run was cut off" in cut._repr_html_()
    full = lab.open(whole)
    for name in full.branches:
        assert np.array_equal(cut.x0(name), full.x0(name)[:2])
    assert np.array_equal(cut.reweight(GUIDANCE), full.reweight(GUIDANCE)[:2])
    assert cut.video("cond", step=1).shape == (1, 5, 16, 16, 3)
    with pytest.raises(lab.RecordingError, match="cut off after 2 of 4 steps: no final video"):
        cut.video()


def test_windows_of_a_run_that_was_cut_off_keep_their_place(tiny, tmp_path):
    """Shares are of the steps that were planned: half of four, not half of the two that are there."""
    guidance = lab.CFG(4) + lab.STG(1, lab.skip([1]), stop=0.5)

    with pytest.raises(KeyboardInterrupt):
        tiny.sample(guidance, record=tmp_path / "cut.zarr", callback_on_step_end=stopping(1))
    with pytest.warns(lab.IncompleteRecordingWarning):
        cut = lab.open(tmp_path / "cut.zarr")
    assert cut.steps == 2
    assert np.array_equal(cut.reweight(guidance), cut.prediction("guided"))


def test_a_run_that_the_pipeline_itself_breaks_off_is_incomplete(tiny, tmp_path):
    def interrupt(pipe, step, timestep, given):
        pipe._interrupt = step == 1
        return {}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lab.IncompleteRecordingWarning)
        run = tiny.sample(GUIDANCE, record=tmp_path / "cut.zarr", callback_on_step_end=interrupt)
    with pytest.warns(lab.IncompleteRecordingWarning, match="2 of 4"):
        assert lab.open(tmp_path / "cut.zarr").steps == run.recording.steps == 2


def test_a_run_cut_off_in_its_first_step_holds_nothing_and_says_so(tiny, tmp_path, monkeypatch):
    fail_at_write(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tiny.sample(GUIDANCE, record=tmp_path / "cut.zarr")
    with pytest.raises(lab.RecordingError, match=r"cut.zarr holds no whole step: the run was cut off in the first one"):
        lab.open(tmp_path / "cut.zarr")
    tiny.sample(GUIDANCE, record=tmp_path / "cut.zarr", overwrite=True)  # and it can be replaced
    assert lab.open(tmp_path / "cut.zarr").complete


@pytest.mark.parametrize("k", [0, 1, 3])
def test_a_full_disk_gives_one_clear_error_and_keeps_the_whole_steps(tiny, tmp_path, monkeypatch, k):
    writes = 1 + 4 + 12 + 1  # of a step: x_t, four branches, twelve coordinates, progress
    fail_at_write(monkeypatch, k * writes + 4, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    place = tmp_path / "full.zarr"
    with pytest.raises(
        lab.RecordingError, match=rf"full.zarr.*step {k}: No space left on device. {k} whole steps are kept"
    ):
        tiny.sample(GUIDANCE, record=place)
    assert left_behind(tiny.pipe) == []
    if k:
        with pytest.warns(lab.IncompleteRecordingWarning):
            assert lab.open(place).steps == k


def test_a_disk_that_will_not_hold_the_run_is_told_before_its_first_step(tiny, tmp_path, monkeypatch):
    steps = []
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(
        lab.RecordingError, match=r"takes .* kB, but only 1.0 kB are free.*record_dtype='float16'.*record=False"
    ):
        tiny.sample(
            GUIDANCE, record=tmp_path / "run.zarr", callback_on_step_end=lambda p, i, t, given: steps.append(i) or {}
        )
    assert steps == []
    assert not (tmp_path / "run.zarr").exists()
    assert left_behind(tiny.pipe) == []


def test_the_size_that_a_run_is_said_to_need_is_what_it_takes(whole):
    """Uncompressed: a little more than what lies on disk."""
    ds = lab.open(whole).ds
    said = (4 * (4 + 1) + 1) * ds.final.nbytes
    there = sum(f.stat().st_size for f in whole.rglob("*") if f.is_file())
    assert 0.5 * said < there < 1.5 * said + 50_000


def test_a_run_that_fails_on_the_way_says_where_its_steps_are_kept(tiny):
    """Also in a temporary folder, which else would be gone with the error."""

    def fail(pipe, step, timestep, given):
        if step == 1:
            raise ZeroDivisionError("the user's own")
        return {}

    with pytest.raises(ZeroDivisionError, match="the user's own") as caught:
        tiny.sample(GUIDANCE, callback_on_step_end=fail)
    [note] = caught.value.__notes__
    place = re.fullmatch(r"The 2 whole steps recorded before this are kept: lab.open\('(.+)'\)\.", note)[1]
    del caught
    gc.collect()
    with pytest.warns(lab.IncompleteRecordingWarning):
        assert lab.open(place).steps == 2


INTERRUPTED = """
    import os, signal, sys, torch
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what runs in the background of a shell
    from kit.pipelines import SMALL, Rig, tiny_wan
    import stg_lab as lab
    rig = Rig(tiny_wan(), SMALL)
    def stop(pipe, step, timestep, given):
        if step == int(os.environ["STEP"]):
            os.kill(os.getpid(), signal.SIGINT)
        return {}
"""
WAYS_OUT = {
    "a script": (1, 2, "rig.sample(lab.CFG(4), callback_on_step_end=stop)"),
    "IPython": (1, 2, """from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    shell.push({"rig": rig, "lab": lab, "stop": stop})
    shell.run_cell("rig.sample(lab.CFG(4), callback_on_step_end=stop)")"""),
    "sys.exit inside attach": (9, 4, """with lab.attach(rig.pipe, record=True):
        rig.stock()
        sys.exit()"""),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS_OUT)
def test_whoever_sees_how_a_process_ended_is_told_where_its_steps_are(way, tmp_path):
    """The folder of `record=True` stays then, and its place must be known."""
    step, whole, code = WAYS_OUT[way]
    done = run_python(f"{INTERRUPTED}\n    {code}", STEP=str(step), TMPDIR=str(tmp_path))
    said = done.stdout + done.stderr
    place = re.search(r"The (\d) whole steps recorded before this are kept: lab.open\('(.+)'\)\.", said)
    assert place is not None, said
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lab.IncompleteRecordingWarning)
        assert lab.open(place[2]).steps == int(place[1]) == whole
    assert [p.name for p in tmp_path.glob("stg_lab-*")] == [place[2].split("/")[-2]]


def test_a_process_that_is_interrupted_before_its_first_whole_step_leaves_no_folder(tmp_path):
    code = """
    from stg_lab.recording.chunks import ChunkFiles
    stock = ChunkFiles.write
    def write(self, *args):
        if self.name == "progress" and args[0][0] == 1:
            raise KeyboardInterrupt
        stock(self, *args)
    ChunkFiles.write = write
    rig.sample(lab.CFG(4))
    """
    done = run_python(INTERRUPTED + code, STEP="9", TMPDIR=str(tmp_path))
    assert "KeyboardInterrupt" in done.stderr
    assert "are kept" not in done.stderr
    assert list(tmp_path.glob("stg_lab-*")) == []


def test_a_run_that_is_stopped_while_it_is_decoded_says_where_its_steps_are_kept(monkeypatch):
    """A learned decoder works after the pipeline's call, in time and memory enough to be stopped or to fail."""
    from kit.pipelines import SMALL, Rig, tiny_wan

    from stg_lab.sampling import Run

    def fail(self):
        raise KeyboardInterrupt

    rig = Rig(tiny_wan(), SMALL)
    monkeypatch.setattr(type(lab.families.family_of(rig.pipe)), "preview", lambda self, pipe: None)
    monkeypatch.setattr(Run, "video", property(fail))
    with pytest.raises(KeyboardInterrupt) as caught:
        rig.sample(GUIDANCE, output_type="np")
    [note] = caught.value.__notes__
    place = re.fullmatch(r"The 4 whole steps recorded before this are kept: lab.open\('(.+)'\)\.", note)[1]
    del caught
    gc.collect()
    assert lab.open(place).complete


# ---- places ----


def test_no_such_folder_is_named(tmp_path):
    with pytest.raises(lab.RecordingError, match=r"there is no recording at .*/nowhere.zarr. Make one with lab.sample"):
        lab.open(tmp_path / "nowhere.zarr")


def test_a_recording_is_not_written_over_unless_asked(tiny, copy):
    before = (copy / "zarr.json").read_bytes()
    with pytest.raises(RecordingExistsError, match=r"copy.zarr already holds a recording.*overwrite=True"):
        tiny.sample(lab.CFG(2), record=copy)
    assert (copy / "zarr.json").read_bytes() == before
    tiny.sample(lab.CFG(2), record=copy, overwrite=True)
    assert lab.open(copy).settings["guidance_text"] == "CFG(2)"


def test_a_call_that_is_refused_does_not_cost_the_recording_that_it_was_to_replace(tiny, copy):
    with pytest.raises(lab.LabError):
        tiny.sample(lab.CFG(2), record=copy, overwrite=True, prompt="a red seven flying")
    with pytest.raises(lab.GuidanceError), lab.attach(tiny.pipe, guidance=lab.CFG(2), record=copy, overwrite=True):
        tiny.stock(guidance_scale=3.0)
    assert lab.open(copy).complete


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_recording_is_never_touched(tiny, tmp_path, overwrite):
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.txt").write_text("years of work")
    with pytest.raises(RecordingExistsError, match="thesis exists and is not a recording of the lab; it is left alone"):
        tiny.sample(GUIDANCE, record=foreign, overwrite=overwrite)
    assert [f.read_text() for f in foreign.iterdir()] == ["years of work"]
    with pytest.raises(lab.RecordingError, match="thesis is not a recording of the lab"):
        lab.open(foreign)


def test_somebody_elses_zarr_store_is_no_recording(tiny, tmp_path):
    zarr.create_group(tmp_path / "other.zarr").create_array("x_t", shape=(2,), dtype="float32")[:] = 1
    with pytest.raises(lab.RecordingError, match=r"other.zarr is not a recording of the lab"):
        lab.open(tmp_path / "other.zarr")
    with pytest.raises(RecordingExistsError, match=r"other.zarr exists and is not a recording"):
        tiny.sample(GUIDANCE, record=tmp_path / "other.zarr", overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_way_is_named(tiny, tmp_path, overwrite):
    (tmp_path / "file").write_text("hello")
    for place in (tmp_path / "file", tmp_path / "file" / "run.zarr"):
        with pytest.raises(lab.RecordingError, match="file"):
            tiny.sample(GUIDANCE, record=place, overwrite=overwrite)
    with pytest.raises(lab.RecordingError, match="file is not a recording"):
        lab.open(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "hello"


def test_an_empty_folder_is_a_place_like_any_other(tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    tiny.sample(lab.CFG(4), record=tmp_path / "empty", num_inference_steps=1)
    assert lab.open(tmp_path / "empty").complete
