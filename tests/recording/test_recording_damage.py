"""A recording with holes is an error that names it; a whole one is read without torch."""

import shutil

import pytest
from kit.processes import run_python

import stg_lab as lab

DAMAGE = {
    "no root metadata": lambda p: (p / "zarr.json").unlink(),
    "root metadata cut short": lambda p: (p / "zarr.json").write_text((p / "zarr.json").read_text()[:100]),
    "root metadata of something else": lambda p: (p / "zarr.json").write_text("[]"),
    "array metadata cut short": lambda p: (p / "x_t" / "zarr.json").write_text("{"),
    "states gone": lambda p: shutil.rmtree(p / "x_t"),
    "predictions gone": lambda p: shutil.rmtree(p / "prediction"),
    "final sample gone": lambda p: shutil.rmtree(p / "final"),
    "progress gone": lambda p: shutil.rmtree(p / "progress"),
    "names of branches gone": lambda p: shutil.rmtree(p / "branch"),
    "sigmas gone": lambda p: shutil.rmtree(p / "sigma"),
    "coefficients gone": lambda p: shutil.rmtree(p / "x0_prediction"),
    "a state's data gone": lambda p: next((p / "x_t").glob("c.1.*")).unlink(),
    "a prediction's data gone": lambda p: (p / "prediction" / "c.2.0.0.0.0.0.0").unlink(),
    "the guided prediction's data gone": lambda p: (p / "prediction" / "c.2.3.0.0.0.0.0").unlink(),
    "the final sample's data gone": lambda p: (p / "final" / "c.0.0.0.0.0").unlink(),
    "a sigma gone": lambda p: (p / "sigma" / "c.0").unlink(),
    "a coefficient gone": lambda p: (p / "x0_prediction" / "c.0").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_damage_is_an_error_that_names_the_recording(copy, damage):
    """At the latest when what is missing is read; never NaN without a word."""
    DAMAGE[damage](copy)
    with pytest.raises(lab.RecordingError, match=r"copy.zarr"):
        _read_everything(lab.open(copy))


def _read_everything(rec):
    rec.video()
    for name in rec.branches:
        rec.prediction(name).values, rec.x0(name).values


def test_reading_everything_of_a_whole_recording_is_no_error(copy):
    """Else the test above would prove nothing."""
    _read_everything(lab.open(copy))


def test_a_recording_of_a_newer_lab_is_told_so(copy):
    text = (copy / "zarr.json").read_text()
    (copy / "zarr.json").write_text(text.replace('"stg_lab_recording": 3', '"stg_lab_recording": 99'))
    with pytest.raises(
        lab.RecordingError, match=r"copy.zarr was written by a newer stg_lab \(format 99, this one reads 3\)"
    ):
        lab.open(copy)


WITHOUT_TORCH = """
    import os, sys
    sys.modules["torch"] = sys.modules["diffusers"] = sys.modules["transformers"] = None  # importing them fails
    import stg_lab as lab
    rec = lab.open(os.environ["PLACE"])
"""


def test_a_recording_is_read_where_there_is_no_torch(whole):
    code = """
    assert rec.x0("skip").values.shape == rec.delta("skip").values.shape == rec.ds.x_t.shape
    assert rec.reweight(lab.CFG(2)).shape == rec.ds.x_t.shape
    assert rec.video().shape == rec.video("cond", step=0).shape == (1, 5, 16, 16, 3)
    repr(rec), rec._repr_html_(), rec.settings
    print("fine")
    """
    done = run_python(WITHOUT_TORCH + code, PLACE=str(whole))
    assert done.stdout == "fine\n", done.stderr


def test_a_recording_is_reweighted_with_weak_models_where_there_is_no_torch(whole):
    code = """
    assert rec.reweight(lab.CFG(2) + lab.STG(1, lab.skip([1]))).shape == rec.ds.x_t.shape
    print("fine")
    """
    done = run_python(WITHOUT_TORCH + code, PLACE=str(whole))
    assert done.stdout == "fine\n", done.stderr


def test_opening_a_recording_does_not_import_torch(whole):
    code = """
        import os, sys
        import stg_lab as lab
        rec = lab.open(os.environ["PLACE"])
        rec.x0("skip").values, rec.video(), repr(rec), lab.CFG(2)
        print([name for name in ("torch", "diffusers", "transformers", "sklearn", "matplotlib") if name in sys.modules])
    """
    done = run_python(code, PLACE=str(whole))
    assert done.stdout == "[]\n", done.stderr
