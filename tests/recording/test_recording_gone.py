"""A recording that is not there any more, or not the same any more, is an error when it is read: never zeros, never NaN."""

import copy as copying
import os
import pickle
import shutil
import signal

import numpy as np
import pytest
import xarray as xr
from kit.processes import run_python
from kit.watch import stopping

import stg_lab as lab
from stg_lab.recording import successor

GUIDANCE = lab.CFG(4) + lab.STG(1, lab.skip([1]), stop=0.5)  # two of four steps have no weak pass
EVERYTHING = {
    "a prediction": lambda rec: rec.prediction("cond").values,
    "a one-step prediction": lambda rec: rec.x0("guided").values,
    "a guidance vector": lambda rec: rec.delta("uncond").values,
    "a branch that was not computed at all steps": lambda rec: rec.prediction("skip").values,
    "the final video": lambda rec: rec.video(),
    "the guidance anew": lambda rec: rec.reweight(lab.CFG(2)),
    "the dataset": lambda rec: rec.ds.compute(),
    "one number": lambda rec: float(rec.ds.x_t[0, 0, 0, 0, 0, 0]),
    "a mean": lambda rec: rec.ds.prediction.mean().compute(),
}
each_read = pytest.mark.parametrize("read", EVERYTHING.values(), ids=EVERYTHING)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory to begin in, and to leave."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


# ---- names that begin where the process was ----


def test_a_run_is_read_from_another_working_directory(tiny, elsewhere):
    run = tiny.sample(GUIDANCE, record="rel.zarr")
    before = run.recording.prediction("cond").values
    os.chdir(elsewhere)
    assert run.recording.path == elsewhere / "here" / "rel.zarr"
    assert np.array_equal(run.recording.prediction("cond").values, before)
    assert np.abs(before).sum() > 0


@each_read
def test_an_opened_recording_is_read_from_another_working_directory(whole, elsewhere, read):
    shutil.copytree(whole, "rel.zarr")
    rec = lab.open("rel.zarr")
    os.chdir(elsewhere)
    expected = read(lab.open(whole))
    same = (
        xr.Dataset.identical if isinstance(expected, xr.Dataset) else lambda a, b: np.array_equal(a, b, equal_nan=True)
    )
    assert same(expected, read(rec))


def test_an_attached_recording_is_one_folder_wherever_the_call_goes(tiny, elsewhere):
    """The user's own code may change the working directory between two steps."""

    def leave(pipe, step, timestep, given):
        os.chdir(elsewhere)
        return {}

    with lab.attach(tiny.pipe, record="rel.zarr") as trace:
        tiny.stock(callback_on_step_end=leave)
    assert trace.recording.complete
    assert not (elsewhere / "rel.zarr").exists()


def test_a_packed_recording_is_opened_by_a_relative_name(whole, elsewhere):
    lab.pack(whole, "rel.zarr.zip")
    rec = lab.open("rel.zarr.zip")
    os.chdir(elsewhere)
    assert np.array_equal(rec.ds.x_t, lab.open(whole).ds.x_t)


def test_a_sweep_is_read_from_another_working_directory(tiny, elsewhere):
    sweep = tiny_sweep(tiny, record="rel.zarr")
    os.chdir(elsewhere)
    assert np.isfinite(sweep.x0_cond.values).all()


def tiny_sweep(tiny, **changes):
    arguments = {name: value for name, value in tiny.arguments({}).items() if name != "output_type"}
    return lab.ablate(tiny.pipe, step=1, layers=[1], parts=["block"], progress=False, **arguments, **changes)


# ---- gone while it is open ----


@each_read
@pytest.mark.parametrize(
    "go", [shutil.rmtree, lambda path: path.rename(path.parent / "moved.zarr")], ids=["deleted", "moved"]
)
def test_a_folder_that_went_is_named_when_it_is_read(copy, go, read):
    rec = lab.open(copy)
    go(copy)
    with pytest.raises(lab.RecordingError, match=r"copy.zarr is gone: it was moved, deleted.*lab.open\("):
        read(rec)


def test_a_sweep_whose_folder_went_is_named_when_it_is_read(tiny, tmp_path):
    sweep = tiny_sweep(tiny, record=tmp_path / "sweep.zarr")
    shutil.rmtree(tmp_path / "sweep.zarr")
    with pytest.raises(lab.RecordingError, match=r"sweep.zarr is gone"):
        sweep.x0.compute()


@pytest.mark.parametrize(
    ("name", "says"), [("prediction/c.2.1.", r"\(step 2, branch 1\)"), ("x_t/c.2.", r"\(step 2\)"), ("final/c.", "")]
)
def test_one_file_that_went_is_named_and_the_others_are_read(copy, name, says):
    rec = lab.open(copy)
    [file] = [f for f in copy.rglob("c.*") if f.relative_to(copy).as_posix().startswith(name)]
    file.unlink()
    with pytest.raises(lab.RecordingError, match=rf"copy.zarr is damaged: the data of {name}.*{says} is gone"):
        rec.ds[file.parent.name].compute()
    assert np.isfinite(rec.ds.isel(step=[0, 1, 3])[["x_t", "prediction"]].sel(branch="cond").to_array()).all()


def test_a_folder_put_back_is_read_again(copy):
    rec = lab.open(copy)
    copy.rename(copy.parent / "moved.zarr")
    with pytest.raises(lab.RecordingError):
        rec.video()
    (copy.parent / "moved.zarr").rename(copy)
    rec.video()


def test_branches_that_were_not_computed_and_steps_that_were_cut_off_are_no_damage(tiny, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        tiny.sample(GUIDANCE, record=tmp_path / "cut.zarr", callback_on_step_end=stopping(2))
    with pytest.warns(lab.IncompleteRecordingWarning):
        cut = lab.open(tmp_path / "cut.zarr")
    skipped = np.isnan(cut.prediction("skip").values).all((1, 2, 3, 4, 5))
    assert skipped.tolist() == [False, False, True]
    assert np.isfinite(cut.prediction("cond").values).all()
    assert np.isnan(cut.ds.final.values).all()


# ---- cut short ----


@pytest.mark.parametrize("left", [0.0, 0.5, 0.98])
def test_a_file_that_was_cut_short_is_named_with_its_step(copy, left):
    file = copy / "prediction" / "c.2.1.0.0.0.0.0"
    file.write_bytes(file.read_bytes()[: int(left * file.stat().st_size)])
    rec = lab.open(copy)
    with pytest.raises(
        lab.RecordingError, match=r"copy.zarr.*prediction/c.2.1.0.0.0.0.0 \(step 2, branch 1\) cannot be"
    ):
        rec.ds.prediction.compute()
    with pytest.raises(lab.RecordingError, match=r"step 2"):
        rec.x0("uncond").isel(step=2).compute()
    assert np.isfinite(rec.x0("uncond").isel(step=[0, 1, 3]).values).all()
    assert np.isfinite(rec.x0("cond").values).all()


def test_a_coordinate_that_was_cut_short_is_named(copy):
    (copy / "sigma" / "c.0").write_bytes(b"")
    with pytest.raises(lab.RecordingError, match=r"copy.zarr is damaged: sigma/c.0 cannot be read"):
        lab.open(copy)


def test_a_prediction_of_a_sweep_that_was_cut_short_is_named(tiny, tmp_path):
    sweep = tiny_sweep(tiny, record=tmp_path / "sweep.zarr")
    [file] = (tmp_path / "sweep.zarr" / "x0").glob("c.*")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(lab.RecordingError, match=r"sweep.zarr is damaged: x0/c.0.0"):
        sweep.x0.compute()


# ---- pickled ----

READ = """
    import os, pickle
    rec = pickle.load(open(os.environ["FILE"], "rb"))
    print(float(abs(rec.ds.x_t).sum()))
"""


def test_a_recording_with_a_place_of_its_own_is_pickled(copy, tmp_path):
    rec = lab.open(copy)
    (tmp_path / "rec.pickle").write_bytes(pickle.dumps(rec))
    done = run_python(READ, FILE=str(tmp_path / "rec.pickle"))
    assert float(done.stdout) == float(abs(rec.ds.x_t).sum()), done.stderr
    shutil.rmtree(copy)
    done = run_python(READ, FILE=str(tmp_path / "rec.pickle"))
    assert "copy.zarr is gone" in done.stderr


@pytest.mark.parametrize("what", [lambda rec: rec, lambda rec: rec.ds, lambda rec: rec.x0("cond")])
def test_a_temporary_recording_is_not_pickled_and_says_what_to_do(tiny, what):
    """Who unpickled it in another process, or tomorrow, would find its folder gone."""
    run = tiny.sample(lab.CFG(4), num_inference_steps=1)
    with pytest.raises(lab.RecordingError, match=r"temporary folder, .*cannot be pickled.*record='some/folder.zarr'"):
        pickle.dumps(what(run.recording))
    pickle.dumps(run.recording.x0("cond").compute())  # numbers by themselves are
    copied = copying.deepcopy(run.recording)
    assert np.array_equal(copied.ds.x_t, run.recording.ds.x_t)


# ---- replaced ----


def test_a_recording_that_was_replaced_is_an_error_not_the_later_runs_numbers(tiny, tmp_path):
    place, weak = tmp_path / "o.zarr", lab.Probe(lab.skip([1]))
    first = tiny.sample(lab.CFG(2) + weak, seed=0, record=place)
    opened = lab.open(place)
    later = tiny.sample(lab.CFG(2) + weak, seed=7, record=place, overwrite=True)
    for read in EVERYTHING.values():
        for rec in (first.recording, opened):
            with pytest.raises(lab.RecordingError, match=r"o.zarr was replaced by a later run.*lab.open\("):
                read(rec)
        read(later.recording), read(lab.open(place))
    assert later.recording.ds.seed.values.tolist() == [7]
    assert [p.name for p in tmp_path.iterdir()] == ["o.zarr"]


def test_two_recordings_in_one_place_are_told_apart_by_dask(tiny, tmp_path):
    """Equal names of tasks would make one of the two arrays stand for both."""
    tiny.sample(lab.CFG(2), seed=0, record=tmp_path / "o.zarr")
    first = lab.open(tmp_path / "o.zarr")
    tiny.sample(lab.CFG(2), seed=7, record=tmp_path / "o.zarr", overwrite=True)
    assert first.ds.x_t.data.name != lab.open(tmp_path / "o.zarr").ds.x_t.data.name


def test_a_sweep_that_was_replaced_is_an_error(tiny, tmp_path):
    first = tiny_sweep(tiny, record=tmp_path / "sweep.zarr", seed=0)
    tiny_sweep(tiny, record=tmp_path / "sweep.zarr", seed=7, overwrite=True)
    with pytest.raises(lab.RecordingError, match=r"sweep.zarr was replaced by a later run"):
        first.x0.compute()


@pytest.mark.parametrize("dies", ["killed", "interrupted"])
def test_a_run_that_ends_in_its_first_step_does_not_cost_the_recording_that_it_was_to_replace(copy, dies):
    code = """
        import os, signal, torch
        torch.set_num_threads(1)
        from kit.pipelines import SMALL, Rig, tiny_wan
        import stg_lab as lab
        from stg_lab.recording.chunks import ChunkFiles
        stock = ChunkFiles.write
        def write(self, *args):
            if self.name == "progress" and args[0][0] == 1:  # all of the first step but its mark
                if os.environ["DIES"] == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise KeyboardInterrupt
            stock(self, *args)
        ChunkFiles.write = write
        Rig(tiny_wan(), SMALL).sample(lab.CFG(2), record=os.environ["PLACE"], overwrite=True)
    """
    before = lab.open(copy)
    done = run_python(code, PLACE=str(copy), DIES=dies)
    assert done.returncode == -signal.SIGKILL if dies == "killed" else "KeyboardInterrupt" in done.stderr, done.stderr
    assert lab.open(copy).settings["guidance_text"] == before.settings["guidance_text"] != "CFG(2)"
    before.ds.compute()
    assert [p.name for p in copy.parent.iterdir()] == ["copy.zarr"]


@pytest.mark.filterwarnings("ignore::stg_lab.IncompleteRecordingWarning")
def test_from_its_first_whole_step_on_a_run_has_taken_the_place(tiny, copy):
    seen = []

    def look(pipe, step, timestep, given):
        if step == 1:
            seen.append(trace.recording.settings["guidance_text"])
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt), lab.attach(tiny.pipe, record=copy, overwrite=True) as trace:
        tiny.stock(callback_on_step_end=look)
    assert lab.open(copy).steps == 2
    assert lab.open(copy).settings["guidance_text"] == seen[0]
    assert [p.name for p in copy.parent.iterdir()] == ["copy.zarr"]


def test_a_disk_that_fails_when_places_are_changed_leaves_the_earlier_recording_and_says_so(tiny, copy, monkeypatch):
    replace, failed = os.replace, []

    def fail(source, target):
        if str(target) == str(copy) and not failed:
            failed.append(source)
            raise OSError(5, "Input/output error")
        replace(source, target)

    before = lab.open(copy)
    monkeypatch.setattr(successor, "exchange", lambda *folders: False)  # as where the file system has no such thing
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(
        lab.RecordingError, match=r"written at step 0: Input/output error. The earlier recording there is as"
    ):
        tiny.sample(lab.CFG(2), record=copy, overwrite=True)
    assert lab.open(copy).settings == before.settings
    before.ds.compute()
    assert [p.name for p in copy.parent.iterdir()] == ["copy.zarr"]
