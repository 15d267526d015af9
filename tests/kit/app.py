"""`stg-lab app` as a process of its own, with folders of its own for everything that Jupyter keeps."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from kit import ROOT

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/\?token=\S+")
KINDS = "JUPYTER_CONFIG_DIR JUPYTER_DATA_DIR JUPYTER_RUNTIME_DIR IPYTHONDIR"


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running_app(home: Path, *recordings: str, cwd: Path | None = None, seconds: float = 90) -> Iterator[str]:
    """The address, with its token, of an app that ends with the block."""
    folders = {kind: str(home / kind) for kind in KINDS.split()}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "stg_lab", "app", *recordings, "--no-browser", "--port", str(free_port())]
    log = home / "log"
    with log.open("wb") as out:
        environment = {**os.environ, **folders, "PYTHONPATH": path}
        app = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=cwd)
    try:
        yield _address(app, log, seconds)
    finally:
        app.terminate()  # it ends its kernels itself
        try:
            app.wait(20)
        except subprocess.TimeoutExpired:
            app.kill()


def _address(app: subprocess.Popen, log: Path, seconds: float) -> str:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up and app.poll() is None:
        if found := ADDRESS.search(log.read_text()):
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"the app did not start:\n{log.read_text()}")
