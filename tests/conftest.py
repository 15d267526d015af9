"""Fixtures that many tests share."""

import os
import shutil
import sys
import tempfile
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

# Kernels and command lines that tests start. One worker a core leaves none for a second thread, which then only waits
# its turn: notebooks take nearly twice as long with it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))  # for `kit`
# Tests write thousands of small files. In memory that takes a fraction of the time; containers may have too little of it.
MEMORY = Path("/dev/shm")
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4e9:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
# Shapes stand in signatures; under test they are checked at every call.
install_import_hook("stg_lab.digits", "beartype.beartype")

pytest.register_assert_rewrite("kit")

from kit.outcomes import OUTCOMES, note  # noqa: E402
from kit.pipelines import SMALL, Rig, tiny_wan  # noqa: E402

import stg_lab as lab  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--write-families", action="store_true", help="write what the tests of the families found")


def pytest_configure(config):
    config.stash[OUTCOMES] = {}
    config.pluginmanager.register(Outcomes(config.stash[OUTCOMES]))


def pytest_collection_modifyitems(items):
    """Files that take long come first, so that no worker waits for another's; tests that tell what others found come last."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.get_closest_marker("last") is not None, item.path not in slow))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.getvalue("dist") == "loadgroup":
        from kit.schedule import FilesTogether

        return FilesTogether(config, log)
    return None


class Outcomes:
    """Keeps what the tests of the families found, for the table of `lab.families()`."""

    def __init__(self, outcomes):
        self.outcomes = outcomes

    def pytest_runtest_logreport(self, report):
        note(self.outcomes, report)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors gain nothing from threads, and one thread gives the same bits on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def _temporary_folders(tmp_path_factory):
    """Recordings of runs that fail on purpose are kept for their users; here they go where pytest clears up."""
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("temporary"))
    yield
    tempfile.tempdir = before


@pytest.fixture(scope="session")
def tiny() -> Rig:
    """A three-block Wan pipeline with random weights. Shared: tests that change it take `tiny.copy()`."""
    return Rig(tiny_wan(), SMALL)


@pytest.fixture(scope="session")
def digits() -> Rig:
    """The embedded model, trained."""
    if "digits-joint" not in lab.embedded():
        pytest.skip("the embedded model digits-joint is not in data/models: make train")
    # A copy: weights as read from a file lie at odd addresses, and a matrix product of the very same numbers at other
    # addresses may differ in its last bit. Copies of this copy give its bits.
    pipe = deepcopy(lab.load("digits-joint"))
    pipe.set_progress_bar_config(disable=True)
    sizes = {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 8}
    return Rig(pipe, {**sizes, "num_inference_steps": 2})


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


@pytest.fixture(scope="session")
def whole(tiny, tmp_path_factory) -> Path:
    """A whole recording of four steps; tests that break it take `copy`."""
    path = tmp_path_factory.mktemp("whole") / "run.zarr"
    tiny.sample(lab.CFG(4) + lab.STG(1, lab.skip([1])), record=path)
    return path


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    """A copy of the whole recording."""
    return shutil.copytree(whole, tmp_path / "copy.zarr")
