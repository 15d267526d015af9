"""One environment, told four times: pyproject.toml, requirements.lock, environment.yml and the Makefile agree."""

import re
import runpy
import tomllib

import pytest
import yaml
from kit import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
NEEDED = PYPROJECT["build-system"]["requires"] + sum(EXTRAS.values(), PROJECT["dependencies"])

LOCK = [line for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
PINS = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in LOCK)}

ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
CONDA = [entry for entry in ENVIRONMENT["dependencies"] if isinstance(entry, str)]
[CONDA_PIP] = [entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict)]


@pytest.mark.parametrize("line", LOCK)
def test_lock_holds_exact_public_versions(line):
    assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), "no URL, path, marker or build tag"


def test_lock_leaves_builds_and_installers_to_the_machine():
    assert PINS["torch"] == "2.13.0"
    assert not [name for name in PINS if name.startswith(("nvidia", "cuda", "triton"))]
    assert PINS.keys().isdisjoint({"pip", "setuptools", "stg-lab"})
    assert len(PINS) == len(LOCK)


@pytest.mark.parametrize("needed", NEEDED)
def test_lock_pins_what_the_project_needs(needed):
    requirement = Requirement(needed)
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_conda_python_is_one_the_project_allows():
    [python] = [entry.removeprefix("python") for entry in CONDA if re.match(r"python\W", entry)]
    conda = SpecifierSet(re.sub(r"^=(?!=)(.+)$", r"==\1.*", python.strip()))  # conda's =3.11 is pip's ==3.11.*
    offered = [version for version in (f"3.{minor}.9" for minor in range(40)) if version in conda]
    assert offered
    assert all(version in SpecifierSet(PROJECT["requires-python"]) for version in offered)


def test_conda_installs_the_lock_and_then_the_project():
    lock, project = CONDA_PIP
    assert lock == "-r requirements.lock"
    editable = re.fullmatch(r"-e \.\[(.+)\]", project)
    assert set(editable[1].split(",")) <= EXTRAS.keys()
    assert {"pip", "ffmpeg"} <= set(CONDA)


def test_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == runpy.run_path(str(ROOT / "stg_lab" / "_version.py"))["__version__"]


def test_makefile_has_every_promised_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    described = re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE)
    promised = "help demo test campaign-threads lab docs slides wheel train judge evidence bench fuzz campaign lint format lock clean"
    assert described == promised.split()
    assert set(described) == set(re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split())
    assert f"TORCH := {PINS['torch']}\n" in makefile
