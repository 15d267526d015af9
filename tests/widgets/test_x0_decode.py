"""The x0 explorer decodes a step with the model itself, where its pictures are a linear preview."""

import io

import numpy as np
import pytest
from kit.zoo import member
from PIL import Image

import stg_lab as lab
from stg_lab.sheets import to_bytes


@pytest.fixture(scope="module")
def run():
    """A run of a model with a learned decoder."""
    one = member("svd")
    guidance = lab.CFG(3) + lab.STG(1, lab.skip([1]), start=0.5)
    return lab.sample(one.pipe, guidance=guidance, num_inference_steps=2, **one.call)


@pytest.fixture
def explorer(run):
    return lab.widgets.x0_explorer(run)


def frames(png: bytes, size: dict[str, int]) -> np.ndarray:
    """A strip as uint8 `(frame, height, width, 3)`."""
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    assert pixels.shape == (size["height"], size["frames"] * size["width"], 3)
    return np.stack(np.split(pixels, size["frames"], axis=1))


def test_a_decoded_step_shows_what_lab_decode_gives(explorer, run):
    assert explorer.view["decodable"]
    explorer.step = 1
    explorer.decode_step()
    assert explorer.wait(60)
    assert (explorer.problem, explorer.status) == ("", "step 1 is decoded")
    assert list(explorer.decoded) == ["0@1"]
    names = [row["name"] for row in explorer.view["rows"]]
    assert sorted(explorer.pictures) == sorted(f"{name}/0@1" for name in names)
    for name in names:
        x0 = run.recording.x0(name if name != "cfg" else run.recording.reweight(lab.CFG(3)))
        expected = lab.decode(run.pipe, x0.isel(step=1))[0]
        np.testing.assert_array_equal(
            frames(explorer.pictures[f"{name}/0@1"], explorer.decoded["0@1"]), to_bytes(expected)
        )
    assert explorer.decoded["0@1"]["height"] > explorer.view["height"]  # a preview has one pixel for each latent


def test_the_browser_asks_by_counting_and_other_steps_are_kept(explorer):
    for step in (1, 0):
        explorer.step = step
        explorer.set_state({"asked": explorer.asked + 1})
        assert explorer.wait(60)
    assert sorted(explorer.decoded) == ["0@0", "0@1"]
    assert "skip/0@1" in explorer.pictures
    assert "skip/0@0" not in explorer.pictures  # it was not computed there
    assert "guided/0@0" in explorer.pictures


def test_without_a_model_it_is_told_what_to_type(run, tiny):
    alone = lab.widgets.x0_explorer(run.recording)
    assert not alone.view["decodable"]
    alone.decode_step()
    assert "pipe=pipe" in alone.problem
    assert lab.widgets.x0_explorer(run.recording, pipe=run.pipe).view["decodable"]
    exact = lab.sample(tiny.pipe, guidance=lab.CFG(4), **{**tiny.arguments({}), "num_inference_steps": 2})
    assert not lab.widgets.x0_explorer(exact).view["decodable"]  # its preview is the decoder
