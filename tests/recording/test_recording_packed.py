"""A recording as one file: the same arrays, the same errors, and what ships with the lab."""

import gc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import stg_lab as lab
from stg_lab.errors import RecordingExistsError
from stg_lab.shipped import data_folder

MOST = 32_000_000  # bytes of everything that ships


@pytest.fixture
def packed(whole, tmp_path):
    return lab.pack(whole, tmp_path / "run.zarr.zip")


def test_a_packed_recording_is_the_folder(whole, packed):
    folder, file = lab.open(whole), lab.open(packed)
    xr.testing.assert_identical(folder.ds.load(), file.ds.load())
    assert folder.settings == file.settings
    np.testing.assert_array_equal(folder.video("skip", step=2), file.video("skip", step=2))


def test_the_same_folder_gives_the_same_bytes(whole, packed, tmp_path):
    assert lab.pack(whole, tmp_path / "again.zarr.zip").read_bytes() == packed.read_bytes()


def test_what_was_unpacked_goes_with_the_last_that_reads_it(packed):
    recording = lab.open(packed)
    folder, lazy = recording.path, recording.x0("cond")
    del recording
    gc.collect()
    assert np.isfinite(lazy.isel(step=1).values).all()  # a lazy array keeps its files
    del lazy
    gc.collect()
    assert not folder.exists()


def test_names_are_kept_inside_the_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zarr.zip", "w") as file:
        file.writestr("../escaped.txt", "out")
    with pytest.raises(lab.RecordingError, match="is not a recording"):
        lab.open(tmp_path / "evil.zarr.zip")
    assert not list(tmp_path.parent.rglob("escaped.txt"))


def test_a_damaged_file_says_so(packed):
    packed.write_bytes(packed.read_bytes()[:500])
    with pytest.raises(lab.RecordingError, match="is damaged and cannot be unpacked"):
        lab.open(packed)


def test_packing_refuses_what_is_none(whole, packed, tmp_path):
    with pytest.raises(lab.RecordingError, match=r"no zarr\.json in it"):
        lab.pack(tmp_path, tmp_path / "x.zarr.zip")
    with pytest.raises(lab.RecordingError, match=r"ends in \.zarr\.zip"):
        lab.pack(whole, tmp_path / "x.zip")
    with pytest.raises(RecordingExistsError, match="overwrite=True"):
        lab.pack(whole, packed)
    lab.pack(whole, packed, overwrite=True)


def test_a_name_that_does_not_ship_is_told():
    with pytest.raises(lab.RecordingError, match=r"Did you mean 'repair_both'\?.*Make one with lab.sample"):
        lab.open("repair_bot")


def test_what_ships_is_light_and_whole():
    files = sorted(data_folder("recordings").glob("*.zarr.zip"))
    assert [f.name.removesuffix(".zarr.zip") for f in files] == lab.recordings()
    assert sum(f.stat().st_size for f in files) < MOST


@pytest.mark.parametrize("name", [n for n in lab.recordings() if not n.startswith("layers")])
def test_every_recording_that_ships_opens_without_its_model(name):
    recording = lab.open(name)
    assert recording.complete
    assert recording.preview_exact
    assert np.isfinite(recording.video("guided", step=recording.steps - 1)).all()


@pytest.mark.parametrize("name", [n for n in lab.recordings() if n.startswith("layers")])
def test_every_sweep_that_ships_is_whole(name):
    ds = lab.open_ablation(name)
    assert ds.attrs["complete"]
    there = ds.weak.values != ""
    assert np.isfinite(ds.l2.values.transpose(0, 4, 1, 2, 3)[..., there]).all()


def test_a_folder_of_that_name_comes_first(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("repair_both").symlink_to(whole)
    assert lab.open("repair_both").steps == 4
