"""What `lab.Watch` writes is in the plan's bytes, and the disk is asked for it before anything is computed."""

import shutil

import pytest
from kit.watch import passes

import stg_lab as lab
from stg_lab.recording.layout import WATCHED

GUIDANCE = lab.CFG(4) + lab.Watch([0, 1, 2]) + lab.Watch([1], "hidden") + lab.Watch([2], "residual")
CALL = {"num_inference_steps": 4, "height": 32, "width": 32, "num_frames": 9}


def folder_bytes(place, names):
    return sum(f.stat().st_size for name in names for f in (place / name).glob("c*"))


def test_the_plan_bounds_all_arrays_and_tells_both_kinds_apart(tiny, tmp_path):
    place = tmp_path / "run.zarr"
    call = tiny.arguments(CALL)
    plan = lab.plan(tiny.pipe, GUIDANCE.restart(0.3, 0.9, 1), record=place, **call)
    run = lab.sample(tiny.pipe, guidance=GUIDANCE.restart(0.3, 0.9, 1), record=place, **call)
    ds = run.recording.ds
    latents = sum(ds[name].nbytes for name in ("x_t", "prediction", "final"))
    assert plan.recording_bytes - plan.watched_bytes == latents
    looks = [path.name for path in place.iterdir() if path.name.startswith(WATCHED)]
    written = sum(v.nbytes for v in lab.analysis.watched(run).data_vars.values())
    assert len(looks) == 3 + 2 + 4
    assert 0 < written <= plan.watched_bytes  # uncompressed
    assert 0 < folder_bytes(place, looks) <= plan.watched_bytes + 2048 * len(looks)
    bare = lab.plan(tiny.pipe, lab.CFG(4).restart(0.3, 0.9, 1), record=place, overwrite=True, **call)
    assert (bare.watched_bytes, bare.recording_bytes) == (0, latents)
    assert lab.plan(tiny.pipe, GUIDANCE, record=False, **call).recording_bytes == 0


@pytest.mark.parametrize("by", ["sample", "attach"])
def test_a_disk_that_holds_the_run_but_not_what_is_watched_is_told_at_once(tiny, tmp_path, monkeypatch, by):
    place, call = tmp_path / "run.zarr", tiny.arguments(CALL)
    plan = lab.plan(tiny.pipe, GUIDANCE, record=place, **call)
    free = plan.recording_bytes - plan.watched_bytes // 2

    def around():
        with lab.attach(tiny.pipe, guidance=GUIDANCE, record=place):
            tiny.pipe(**call, guidance_scale=4.0)

    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "TOO LITTLE" in str(lab.plan(tiny.pipe, GUIDANCE, record=place, **call))
    by_itself = {"sample": lambda: lab.sample(tiny.pipe, guidance=GUIDANCE, record=place, **call), "attach": around}[by]
    with passes(tiny.pipe) as made, pytest.raises(lab.RecordingError, match="are free there"):
        by_itself()
    assert len(made) == (0 if by == "sample" else 1)
    lab.sample(tiny.pipe, guidance=lab.CFG(4), record=place, **call)  # without looks it fits
