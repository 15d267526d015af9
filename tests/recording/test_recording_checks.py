"""What is read is what was written, or an error: whatever became of the files, and whenever the writer was killed."""

import json
import os
import shutil
import warnings

import numpy as np
import pytest
import xarray as xr
from kit.fuzz import fuzz
from kit.kills import campaign
from kit.older import as_older
from kit.stores import everything, same, small

import stg_lab as lab
from stg_lab.errors import LabError, RecordingExistsError
from stg_lab.files import written
from stg_lab.recording.writer import Recorder


@pytest.fixture
def store(tmp_path):
    return small(tmp_path / "run.zarr", steps=2)


def files_of(store):
    return sorted(f.relative_to(store).as_posix() for f in store.rglob("*") if f.is_file())


def refused(store):
    with pytest.raises(lab.RecordingError, match=r"run.zarr"):
        everything(store)


# ---- checksums ----


def test_a_flipped_bit_in_any_file_of_any_array_is_told(store):
    for name in files_of(store):
        file = store / name
        before = file.read_bytes()
        after = bytearray(before)
        after[len(after) // 2] ^= 0x10
        file.write_bytes(after)
        refused(store)
        file.write_bytes(before)
    everything(store)


def test_any_file_that_is_gone_is_told(store):
    for name in files_of(store):
        before = (store / name).read_bytes()
        (store / name).unlink()
        refused(store)
        (store / name).write_bytes(before)


def test_a_whole_file_of_another_recording_is_told(store, tmp_path):
    """Of one with the very same settings and layout, too."""
    twin = small(tmp_path / "twin.zarr", steps=2)
    for name in files_of(store):
        before, foreign = ((folder / name).read_bytes() for folder in (store, twin))
        (store / name).write_bytes(foreign)
        if foreign != before:  # documents of arrays are the same in both
            refused(store)
        (store / name).write_bytes(before)


@pytest.mark.parametrize(
    "names",
    [
        ("x_t/c.0.0.0.0.0.0", "x_t/c.1.0.0.0.0.0"),
        ("prediction/c.0.0.0.0.0.0.0", "prediction/c.0.1.0.0.0.0.0"),
        ("x_t/c.0.0.0.0.0.0", "final/c.0.0.0.0.0"),
        ("sigma/c.0", "timestep/c.0"),
        ("preview_first_bias/c.0", "preview_rest_bias/c.0"),
        ("seed/c.0", "step/c.0"),
    ],
)
def test_files_that_changed_places_are_told(store, names):
    one, other = (store / name for name in names)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second), other.write_bytes(first)
    refused(store)


def test_checksums_that_were_taken_away_are_told(store):
    document = json.loads((store / "zarr.json").read_text())
    del document["attributes"]["stg_lab_checksums"]
    (store / "zarr.json").write_text(json.dumps(document))
    refused(store)


def test_other_readers_of_zarr_read_the_same(store):
    """The checksum is a frame that decoders pass over."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's notes on strings
        theirs = xr.open_zarr(store, consolidated=False).load()
    ours = everything(store)
    for name in ("x_t", "prediction", "final", "sigma", "seed", "caption", "branch"):
        np.testing.assert_array_equal(theirs[name].values, ours[name])


@pytest.mark.parametrize("mark", [1, 2])
def test_older_recordings_open_as_before_and_say_that_they_carry_none(store, mark):
    expected = everything(store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recording = lab.open(as_older(store, mark))
    assert same(everything(store), expected)
    assert not recording.checked
    assert repr(recording).endswith(", no checksums)")


@pytest.mark.parametrize("said", [(2, 2), (-1, 1), (3, 0), (1, 1), (2, -1)])
def test_progress_that_no_run_writes_is_told(store, said):
    """Older recordings have no checksum that would tell it."""
    from stg_lab.recording.chunks import ChunkFiles
    from stg_lab.recording.planned import Planned

    as_older(store)
    plan = Planned.read(json.loads((store / "progress" / "zarr.json").read_text()))
    ChunkFiles(plan, store / "progress").write(said)
    with pytest.raises(lab.RecordingError, match="progress says"):
        lab.open(store)


def test_sizes_that_are_not_true_are_told_before_memory_is_taken(store):
    as_older(store)
    for name in ("step", "sigma", "x_t", "prediction"):
        document = json.loads((store / name / "zarr.json").read_text())
        document["shape"][0] = 10**12
        if name == "step":
            document["chunk_grid"]["configuration"]["chunk_shape"][0] = 10**12
        (store / name / "zarr.json").write_text(json.dumps(document))
    refused(store)


def test_steps_have_one_file_for_each_coordinate(store):
    assert [f.name for f in (store / "sigma").glob("c*")] == ["c.0"]


# ---- the place ----


def test_files_that_are_not_the_labs_survive_an_overwrite(store):
    (store / "notes.txt").write_text("years of work")
    (store / "x_t" / "c.bak").write_text("mine")
    (store / "other" / "deep").mkdir(parents=True)
    (store / "other" / "deep" / "zarr.json").write_text("{}")
    small(store, seed=1, overwrite=True)
    assert (store / "notes.txt").read_text() == "years of work"
    assert (store / "x_t" / "c.bak").read_text() == "mine"
    assert (store / "other" / "deep" / "zarr.json").read_text() == "{}"
    assert lab.open(store).ds.seed.values.tolist() == [6, 7]
    assert os.listdir(store.parent) == ["run.zarr"]


def test_what_is_left_of_a_recording_yields_to_an_overwrite(store):
    (store / "zarr.json").unlink()
    with pytest.raises(RecordingExistsError, match=r"what is left of a recording.*overwrite=True"):
        small(store)
    (store / "notes.txt").write_text("a folder of somebody's")
    with pytest.raises(RecordingExistsError, match="is not a recording of the lab; it is left alone"):
        small(store, overwrite=True)
    (store / "notes.txt").unlink()
    small(store, overwrite=True)
    assert lab.open(store).complete


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_runs_that_claim_one_place_are_one_run_and_one_error(tmp_path, overwrite):
    place = tmp_path / "run.zarr"
    if overwrite:
        small(place)
    first = Recorder(place, overwrite=overwrite)
    second = None if overwrite else Recorder(place)
    start(first)
    with pytest.raises(RecordingExistsError, match=r"another run (is writing to|has taken the place)"):
        small(place, overwrite=True) if second is None else start(second)
    first.give_up()


def start(recorder):
    recorder.start(steps=1, branches=("cond",), shape=(1, 1, 1, 1, 1), settings={}, samples={"caption": [""]})


def test_a_link_is_the_place_that_it_points_to(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run.zarr").symlink_to(tmp_path / "disk" / "real.zarr")
    small(tmp_path / "run.zarr")
    small(tmp_path / "run.zarr", seed=1, overwrite=True)
    assert (tmp_path / "run.zarr").is_symlink()
    assert lab.open(tmp_path / "run.zarr").ds.seed.values.tolist() == [6, 7]
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(lab.RecordingError, match="leads back to itself"):
        small(tmp_path / "loop")


def test_a_failed_first_write_says_that_nothing_is_kept(tmp_path):
    recorder = Recorder(tmp_path / "run.zarr")
    start(recorder)
    shutil.rmtree(tmp_path / "run.zarr" / "x_t")
    level = dict.fromkeys(("timestep", "sigma", "x0_sample", "x0_prediction"), 0.5)
    with pytest.raises(lab.RecordingError, match="0 whole steps are kept there, so there is nothing to open"):
        recorder.write(level, np.zeros((1, 1, 1, 1, 1)), {})


# ---- processes ----


def test_a_forked_child_reads_what_its_parent_has_read(store):
    expected = everything(store)

    def read():
        import signal

        signal.alarm(60)
        assert same(everything(store), expected)

    assert ended(read) == 0


def test_workers_of_a_data_loader_read_what_their_parent_has_opened(store):
    from torch.utils.data import DataLoader, Dataset

    recording = lab.open(store)
    known = [recording.prediction("cond").isel(step=k).values for k in range(2)]  # read here, before there are workers

    class Steps(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, k):
            return recording.prediction("cond").isel(step=k).values

    loaded = list(DataLoader(Steps(), batch_size=None, num_workers=2, timeout=60))
    assert all(np.array_equal(one.numpy(), expected) for one, expected in zip(loaded, known, strict=True))


def test_a_forked_child_leaves_its_parents_temporary_recording(store, tmp_path):
    recording = lab.open(lab.pack(store, tmp_path / "run.zarr.zip"))
    folder = recording.path

    def let_go():
        nonlocal recording
        recording = None

    assert ended(let_go) == 0
    assert folder.exists()


def ended(work):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# ---- one file ----


def fill(path):
    with written(path) as file:
        file.write_text("half")
        raise OSError(28, "no space")


def test_a_file_that_cannot_be_written_leaves_the_older_one(tmp_path):
    (tmp_path / "page.html").write_text("older")
    with pytest.raises(LabError, match=r"page.html could not be written: no space. The older file there is as it was"):
        fill(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "older"
    assert os.listdir(tmp_path) == ["page.html"]
    with pytest.raises(LabError, match="it is a folder"), written(tmp_path):
        pass


def test_a_packed_file_that_would_unpack_to_much_more_is_refused(store, tmp_path):
    import zipfile

    packed = lab.pack(store, tmp_path / "run.zarr.zip")
    with zipfile.ZipFile(packed) as good, zipfile.ZipFile(tmp_path / "bad.zarr.zip", "w", zipfile.ZIP_DEFLATED) as bad:
        for name in good.namelist():
            bad.writestr(name, bytes(30_000_000) if name.startswith("x_t/c.1") else good.read(name))
    with pytest.raises(lab.RecordingError, match=r"x_t/c.1.* would unpack to 30000000 bytes"):
        lab.open(tmp_path / "bad.zarr.zip")


# ---- at random ----


def test_random_damage_is_refused_or_does_not_matter():
    outcomes, wrong = fuzz(300)
    assert wrong == []
    assert sum(outcomes.values()) == 300
    assert outcomes["folder: refused"] > 100


def test_random_kills_cost_neither_an_earlier_recording_nor_whole_steps():
    outcomes = campaign(15)
    assert not [name for name in outcomes if "WRONG" in name], outcomes
