"""Fixtures that many tests share."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for `kit`

from kit.pipelines import SMALL, Rig, tiny_wan

import stg_lab as lab


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors gain nothing from threads, and one thread gives the same bits on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> Rig:
    """A three-block Wan pipeline with random weights. Shared: tests that change it take `tiny.copy()`."""
    return Rig(tiny_wan(), SMALL)


@pytest.fixture(scope="session")
def digits() -> Rig:
    """The embedded model, trained."""
    if "digits-joint" not in lab.embedded():
        pytest.skip("the embedded model digits-joint is not in data/models: make train")
    pipe = lab.load("digits-joint")
    pipe.set_progress_bar_config(disable=True)
    sizes = {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 8}
    return Rig(pipe, {**sizes, "num_inference_steps": 3})


MAKERS = {
    "euler": lambda: tiny_wan("euler"),
    "unipc": lambda: tiny_wan("unipc"),
    "dpm": lambda: tiny_wan("dpm"),
    "wan2.2": lambda: tiny_wan("unipc", two=True),
    "bfloat16": lambda: tiny_wan("euler", dtype=torch.bfloat16),
    "bfloat16-unipc": lambda: tiny_wan("unipc", dtype=torch.bfloat16),
}


@pytest.fixture(scope="session", params=[*MAKERS, "digits-joint"])
def each(request) -> Rig:
    """Every kind of pipeline in turn."""
    if request.param == "digits-joint":
        return request.getfixturevalue("digits")
    return Rig(MAKERS[request.param](), SMALL)


@pytest.fixture(scope="session")
def wan22() -> Rig:
    """Wan 2.2: two transformers, split by noise level."""
    return Rig(tiny_wan("euler", two=True), SMALL)


@pytest.fixture(scope="session", params=["tiny", "digits-joint"])
def small_and_trained(request) -> Rig:
    """The random pipeline, and the embedded model."""
    return request.getfixturevalue("tiny" if request.param == "tiny" else "digits")
