"""What is released: a wheel and an sdist of bounded size, and a demo that runs from the wheel with no checkout in sight."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from kit import ROOT
from packaging.specifiers import SpecifierSet

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WHEEL_MB, SDIST_MB = 110, 130  # the largest that either may be; models in half precision will bring both down

pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder of both, built as `make wheel` builds them."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory):
    """A folder with the package as the wheel puts it, and nothing else."""
    [wheel] = dist.glob("*.whl")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return folder


def test_they_are_small_enough(dist):
    [wheel], [sdist] = dist.glob("*.whl"), dist.glob("*.tar.gz")
    assert wheel.stat().st_size < WHEEL_MB * 1e6
    assert sdist.stat().st_size < SDIST_MB * 1e6


def test_the_wheel_holds_what_the_program_opens(dist):
    [wheel] = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    kept = [
        path
        for kind in ("models", "judge", "recordings", "searches")
        for path in (ROOT / "data" / kind).rglob("*")
        if path.is_file()
    ]
    kept = [path for path in kept if path.suffix in (".safetensors", ".json", ".zip", ".npz")]
    assert len(kept) > 20
    assert {f"stg_lab/_data/{path.relative_to(ROOT / 'data')}" for path in kept} <= names
    static = [path for path in (ROOT / "stg_lab").rglob("static/*") if path.is_file()]
    assert {str(path.relative_to(ROOT)) for path in static} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "notebooks/", "data/"))]


def test_the_sdist_holds_what_builds_and_tests_it(dist):
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "requirements.lock", "Makefile", "docs/conf.py"} <= names
    assert "tests/house/test_wheel.py" in names
    assert not [name for name in names if name.startswith(("out/", "runs/", ".venv/"))]


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel_in_an_empty_folder(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}

    def stg_lab(*arguments):
        command = [sys.executable, "-m", "stg_lab", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout

    where = [sys.executable, "-c", "import stg_lab; print(stg_lab.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout
    assert Path(found.strip()).is_relative_to(installed)
    assert "digits-joint" in stg_lab("info")
    stg_lab("demo", "--out", "demo", "--steps", "2", "--prompts", "a red seven moving left")
    assert (tmp_path / "demo" / "report.html").stat().st_size > 100_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo"]


def test_the_workflow_tries_every_python_that_is_promised():
    workflow = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"].keys() == {"lint", "tests", "docs", "wheel"}
    allowed = SpecifierSet(PROJECT["requires-python"])
    told = [
        one.rpartition(" ")[2]
        for one in PROJECT["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", one)
    ]
    for job in ("tests", "wheel"):
        tried = workflow["jobs"][job]["strategy"]["matrix"]["python"]
        assert tried == told == ["3.11", "3.12", "3.13"]
        assert all(f"{version}.0" in allowed for version in tried)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = [target for step in steps for target in re.findall(r"^make (\w+)", step)]
    assert targets == ["lint", "test", "docs"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
