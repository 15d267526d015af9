"""A sweep carries the family's preview, so that its predictions can be looked at where no model is."""

import shutil

import numpy as np
import xarray as xr
import zarr
from kit.older import as_older
from kit.processes import run_python
from kit.watch import passes
from kit.zoo import member

import stg_lab as lab
from stg_lab.preview import Preview
from stg_lab.recording import ablation_preview
from stg_lab.recording.layout import SWEEP_MARK
from stg_lab.recording.previews import packed_preview


def sweep(rig, **changes):
    return lab.ablate(rig.pipe, **{"step": 1, "parts": "block", "progress": False, **rig.arguments({}), **changes})


def test_the_preview_of_a_sweep_shows_what_the_models_own_decoder_shows(tiny):
    ds = sweep(tiny, layers=[1])
    x0 = ds.x0.sel(step=1, layer=1, part="block", axis="joint").values
    decoded = lab.decode(tiny.pipe, x0)
    np.testing.assert_allclose(ablation_preview(ds).decode(x0), decoded, atol=1e-5)
    assert decoded.std() > 0.01
    np.testing.assert_array_equal(ablation_preview(ds.sel(step=1)).decode(x0), ablation_preview(ds).decode(x0))


def test_it_is_found_without_torch_and_survives_packing(tiny, tmp_path):
    sweep(tiny, layers=[1], record=tmp_path / "sweep.zarr")
    file = lab.pack(tmp_path / "sweep.zarr", tmp_path / "sweep.zarr.zip")
    code = f"""
        import sys, stg_lab as lab
        from stg_lab.recording import ablation_preview
        ds = lab.open_ablation({str(file)!r})
        video = ablation_preview(ds).decode(ds.x0_cond[0].values)
        assert video.shape[-1] == 3 and 0 <= video.min() < video.max() <= 1
        assert "torch" not in sys.modules
    """
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_a_sweep_from_before_opens_and_gets_one_without_a_pass(tiny, tmp_path):
    place = tmp_path / "sweep.zarr"
    before = sweep(tiny, layers=[1], record=place).load()
    as_older(place, mark=1, kind=SWEEP_MARK)
    for folder in place.glob("preview_*"):
        shutil.rmtree(folder)
    old = lab.open_ablation(place)
    assert ablation_preview(old) is None
    assert old.rms.equals(before.rms)
    with passes(tiny.pipe) as made:
        again = sweep(tiny, layers=[1], record=place)
    assert len(made) == 0
    assert (
        {n for n in again if "preview" in n}
        == {n for n in before if "preview" in n}
        == {"preview_matrix", "preview_bias"}
    )
    np.testing.assert_array_equal(ablation_preview(again).rest, ablation_preview(before).rest)


def test_a_family_without_one_keeps_none(tmp_path):
    place = tmp_path / "sweep.zarr"
    ds = sweep(member("mochi"), record=place)
    assert ablation_preview(ds) is None
    assert not [name for name in zarr.open_group(place, mode="r") if name.startswith("preview_")]


def test_a_preview_is_the_same_after_packing_and_after_a_copy_on_disk(tmp_path):
    rng = np.random.default_rng(0)
    first, rest = rng.normal(size=(12, 5)), rng.normal(size=(24, 5))
    preview = Preview(first, rng.normal(size=12), rest, rng.normal(size=24), spatial=2, temporal=2, exact=False, r2=0.9)
    ds = xr.Dataset(packed_preview(preview))
    ds.to_zarr(tmp_path / "copy.zarr", zarr_format=3, consolidated=False)
    for one in (ds, xr.open_zarr(tmp_path / "copy.zarr", consolidated=False)):
        found = ablation_preview(one)
        for name, value in preview.to_dict().items():
            np.testing.assert_array_equal(getattr(found, name), value)
    assert ablation_preview(ds.drop_attrs()) is None
