"""Starting the app: voila on one notebook of ours, on loopback, behind a token."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from stg_lab.app.bench import FOLDER, GIVEN
from stg_lab.errors import CallError
from stg_lab.recording import recordings
from stg_lab.report.sources import open_any

PORT = 8866


def serve(given: Iterable[str] = (), *, port: int = PORT, browser: bool = True) -> None:
    """Serve the explorers of recordings until interrupted. Only who has the printed address, with its token, is let in.

    Args:
        given: paths of recordings and sweeps; those that ship are there in any case. Several recordings of the same captions and
            seeds can be rated in blind pairs; the answers go to `out/ratings-....jsonl` of the current folder.
        port: of 127.0.0.1; the next free one where it is taken.
        browser: open the address in a browser.

    Raises:
        CallError: voila is not installed, or there is no such port.
        RecordingError: no recording at a path.
    """
    if not 1 <= port <= 65535:
        raise CallError(f"port {port} is out of range: 1 to 65535, {PORT} by default.")
    places = [_place(path) for path in given]
    if find_spec("voila") is None:
        raise CallError("the app is served by voila, which is not installed. Type: pip install 'stg-lab[lab]'.")
    from stg_lab.app.server import start

    os.environ[GIVEN] = json.dumps(places)  # for the kernels, which inherit it
    os.environ[FOLDER] = str(Path.cwd())
    start(port=port, token=secrets.token_urlsafe(24), browser=browser)


def _place(path: str) -> str:
    """The name of one that ships, or where a recording lies for kernels that work in another folder."""
    open_any(path)  # a wrong path is told here and not in the browser
    return path if path in recordings() and not Path(path).exists() else str(Path(path).resolve())
