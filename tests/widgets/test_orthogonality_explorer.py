"""The orthogonality explorer holds the recording's own numbers and pictures."""

import io

import numpy as np
import pytest
from kit.pipelines import SMALL
from PIL import Image

import stg_lab as lab
from stg_lab.recording import Recording

SPATIAL, TEMPORAL = (lab.skip([1], part="attention", axis=axis) for axis in ("spatial", "temporal"))
CALL = {"prompt": ["a red seven moving left", "a blue two growing"], "num_inference_steps": 3, **SMALL}


@pytest.fixture(scope="module")
def recording(tiny):
    """Two samples; the temporal weak model is off at the last step."""
    guidance = lab.CFG(3) + lab.STG(2, SPATIAL) + lab.STG(1, TEMPORAL, stop=0.6)
    return lab.sample(tiny.pipe, guidance=guidance, record=True, **CALL).recording


@pytest.fixture(scope="module")
def explorer(recording):
    return lab.widgets.orthogonality_explorer(recording)


def array(explorer, name):
    about = explorer.view["arrays"][name]
    return np.frombuffer(explorer.arrays[name], about["dtype"]).reshape(about["shape"]) * about["scale"]


def sheet(explorer, key):
    """A sheet of signed pictures as numbers `(step, frame, height, width, 3)`, in units of its scale."""
    pixels = np.asarray(Image.open(io.BytesIO(explorer.sheets[key]))).astype(float)
    frames, height, width = (explorer.view[name] for name in ("frames", "height", "width"))
    pixels = pixels.reshape(-1, height, frames, width, 3).transpose(0, 2, 1, 3, 4)
    return (pixels - 128) / 127


def test_it_finds_the_spatial_and_the_temporal_vector(recording, explorer):
    assert [v["label"] for v in explorer.view["vectors"]] == ["CFG", "spatial skip", "temporal skip"]
    assert (explorer.keeps, explorer.loses) == tuple(recording.weak)
    assert len({v["colour"] for v in explorer.view["vectors"]}) == 3


def test_its_angles_are_those_between_the_recordings_vectors(recording, explorer):
    names = [v["name"] for v in explorer.view["vectors"]]
    vectors = [recording.delta(n).values.astype(float).reshape(3, 2, -1) for n in names]
    angle, coefficient, length = (array(explorer, n) for n in ("angle", "coefficient", "length"))
    for i, a in enumerate(vectors):
        np.testing.assert_allclose(length[:, i].T, np.sqrt((a**2).mean(-1)), rtol=1e-4)
        for j, b in enumerate(vectors):
            inner, norms = (a * b).sum(-1), np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
            found = angle[:, i, j].T
            np.testing.assert_allclose(np.cos(np.radians(found)), inner / norms, atol=1e-5)
            np.testing.assert_allclose(coefficient[:, i, j].T, inner / (a**2).sum(-1), rtol=1e-3, atol=1e-6)
    assert np.isnan(angle[:, 1, 2, 2]).all()
    assert np.isfinite(angle[:, 0, 1]).all()


def test_its_pictures_are_what_each_vector_adds(recording, explorer):
    scale = array(explorer, "scale")
    for i, name in enumerate(["uncond", *recording.weak]):
        change = recording.x0("cond") - recording.x0(name)
        for step in range(2):
            latents = change.isel(step=step).values
            zero = recording.preview(np.zeros_like(latents), clip=False)
            added = recording.preview(latents, clip=False) - zero
            for sample in range(2):
                expected = np.clip(added[sample] / scale[sample, i, step], -1, 1)
                assert np.abs(sheet(explorer, f"{name}/{sample}")[step] - expected).max() < 0.6 / 127


def test_what_eq_21_removes_is_a_share_of_the_kept_vectors_picture(recording, explorer):
    """The browser adds the pictures of two vectors; that is right because decoding a change is linear."""
    scale, coefficient = array(explorer, "scale"), array(explorer, "coefficient")
    left = lab.analysis.removed(recording).left.values[1]
    b = float(recording.ds.x0_prediction[1])
    expected = recording.preview((b * left).astype(np.float32), clip=False)
    expected = expected - recording.preview(np.zeros_like(left), clip=False)
    kept, loser = (sheet(explorer, f"{n}/0")[1] * scale[0, i, 1] for i, n in enumerate(recording.weak, start=1))
    painted = loser - coefficient[0, 1, 2, 1] * kept
    inside = (np.abs(kept) < scale[0, 1, 1]) & (np.abs(loser) < scale[0, 2, 1])  # a few pixels saturate
    assert inside.mean() > 0.98
    assert np.abs(painted - expected[0])[inside].max() < 0.02 * max(scale[0, 1, 1], scale[0, 2, 1])


def test_paths_are_the_principal_components_of_each_sample(recording, explorer):
    for unit in (0, 1):
        for sample in range(2):
            found = lab.analysis.components(recording, sample=sample, unit=bool(unit))
            np.testing.assert_allclose(array(explorer, "score")[unit, sample], found.score.values[:, :, 0], atol=1e-4)
            np.testing.assert_allclose(array(explorer, "origin")[unit, sample], found.origin, atol=1e-4)


def test_any_two_vectors_can_be_chosen(recording):
    spatial, temporal = recording.weak
    chosen = lab.widgets.orthogonality_explorer(recording, spatial=temporal, temporal="uncond", sample=1)
    assert (chosen.keeps, chosen.loses, chosen.sample) == (temporal, "uncond", 1)
    assert lab.widgets.orthogonality_explorer(recording, temporal=spatial).keeps != spatial
    chosen.step, chosen.unit, chosen.gain = 0, False, 4
    assert chosen.state == {"step": 0, "sample": 1, "keeps": temporal, "loses": "uncond", "unit": False, "gain": 4.0}


def test_without_space_and_time_the_first_two_vectors_are_shown(tiny):
    guidance = lab.CFG(3) + lab.Probe(lab.skip([1]))
    recording = lab.sample(tiny.pipe, guidance=guidance, record=True, **CALL).recording
    explorer = lab.widgets.orthogonality_explorer(recording)
    assert (explorer.keeps, explorer.loses) == ("skip", "uncond")


def test_without_a_preview_there_are_numbers_and_no_pictures(recording):
    blind = Recording(recording.ds, recording.path, complete=True, planned=3, preview=None)
    explorer = lab.widgets.orthogonality_explorer(blind)
    assert explorer.sheets == {}
    assert "frames" not in explorer.view
    assert array(explorer, "angle").shape == (2, 3, 3, 3)


def test_what_cannot_be_is_told_and_nothing_changes(recording, explorer, tiny):
    before = explorer.state
    for name, value, error, said in (
        ("step", 3, lab.RecordingError, "steps 0 to 2"),
        ("sample", 2, lab.RecordingError, "samples 0 to 1"),
        ("keeps", "guided", lab.CallError, "keeps is 'uncond'"),
        ("gain", 0, lab.CallError, "gain lies above 0"),
    ):
        with pytest.raises(error, match=said):
            setattr(explorer, name, value)
    assert explorer.state == before
    with pytest.raises(lab.GuidanceError, match="vector away from 'space'"):
        lab.widgets.orthogonality_explorer(recording, spatial="space")
    with pytest.raises(lab.GuidanceError, match="the same vector"):
        lab.widgets.orthogonality_explorer(recording, spatial="uncond", temporal="uncond")
    with pytest.raises(lab.RecordingError, match="sample 5 is out of range"):
        lab.widgets.orthogonality_explorer(recording, sample=5)
    with pytest.raises(lab.CallError, match=r"Run or a Recording, .*got int"):
        lab.widgets.orthogonality_explorer(7)
    alone = lab.sample(tiny.pipe, guidance=lab.CFG(3), record=True, **CALL)
    with pytest.raises(lab.RecordingError, match="between two guidance vectors"):
        lab.widgets.orthogonality_explorer(alone)
