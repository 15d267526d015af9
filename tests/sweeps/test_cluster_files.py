"""The files of docs/cluster.md, as they stand there, on a cluster that stands in for theirs."""

import os
import re
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest
from kit.pipelines import PROMPT

import stg_lab as lab

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.xdist_group("sweeps"), pytest.mark.usefixtures("digits")]

FOLDER = Path(lab.__file__).parents[1] / "docs" / "cluster"


def small(name, tmp_path):
    """A file with the model, captions and call of a test in its place."""
    (tmp_path / "captions.txt").write_text(f"{PROMPT}\n")
    changes = {
        "MODEL": "digits-joint", "PROMPTS": str(tmp_path / "captions.txt"), "OUT": str(tmp_path / "search"), "JOBS": 1,
        "CALL": {"num_inference_steps": 1},
    }  # fmt: skip
    source = (FOLDER / name).read_text()
    for constant, value in changes.items():
        source = re.sub(
            rf"^{constant} = .*$", lambda _, c=constant, v=value: f"{c} = {v!r}", source, flags=re.MULTILINE
        )
    return source.replace("range(5, 25)", "range(4, 6)").replace("range(32)", "range(2)")


def test_slurm(tmp_path, monkeypatch):
    """Jobs are asked for as dask-jobqueue's own scripts have them; a local cluster stands in for what they start."""
    asked = {}

    class SLURMCluster(distributed.LocalCluster):
        def __init__(self, **options):
            asked.update(options)
            extra = options["worker_extra_args"]
            limit = extra[extra.index("--memory-limit") + 1]
            super().__init__(
                n_workers=0, threads_per_worker=options["cores"] // options["processes"], memory_limit=int(limit),
                dashboard_address=options["scheduler_options"]["dashboard_address"], processes=False,
            )  # fmt: skip

        def scale(self, jobs):
            super().scale(jobs)

    stands_in = types.ModuleType("dask_jobqueue")
    stands_in.SLURMCluster = SLURMCluster
    monkeypatch.setitem(sys.modules, "dask_jobqueue", stands_in)
    exec(compile(small("slurm.py", tmp_path), "slurm.py", "exec"), {"__name__": "__main__"})
    assert "--gpus=1" in asked["job_extra_directives"]
    assert lab.open_search(tmp_path / "search").done


def test_one_machine_with_eight_gpus(tmp_path, monkeypatch):
    source = small("eight_gpus.py", tmp_path)
    assert "client=8" in source
    monkeypatch.setattr("stg_lab.search.run.crew", lambda client: lab.search.run.ALONE)
    exec(compile(source, "eight_gpus.py", "exec"), {"__name__": "__main__"})
    assert lab.open_search(tmp_path / "search").done
    assert (tmp_path / "search" / "grid.html").exists()


@pytest.mark.skipif(os.name != "posix", reason="a shell")
def test_ssh(tmp_path):
    """Scheduler and worker are dask's own commands; another shell stands in for ssh."""
    (tmp_path / "captions.txt").write_text(f"{PROMPT}\n")
    (tmp_path / "ssh").write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    (tmp_path / "ssh").chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ, "PYTHONPATH": str(FOLDER.parents[1]), "PYTHON": sys.executable, "HOSTS": "here", "GPUS": "0", "ADDRESS": "127.0.0.1",
        "PORT": str(port), "SSH": str(tmp_path / "ssh"), "MODEL": "digits-joint",
        "MORE": "--steps 1 --seeds 2 --score smoothness --candidates skip:block:4",
    }  # fmt: skip
    done = subprocess.run(
        ["sh", str(FOLDER / "ssh.sh"), "captions.txt", "out"],
        cwd=tmp_path,
        env=environment,
        timeout=280,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert lab.open_search(tmp_path / "out").verdict in done.stdout
