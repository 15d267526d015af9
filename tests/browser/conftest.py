"""A real browser, a gate that lets nothing out of this machine, and a JupyterLab to throw away."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from kit.notebooks import BROWSERS, browser_program

import stg_lab as lab
from stg_lab.digits.pipeline import build_joint
from stg_lab.widgets.page import alone

REPOSITORY = Path(__file__).parents[2]
QUIET = "--disable-background-networking --disable-component-update --disable-sync --no-first-run --disable-gpu"
NO_NAMES = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # also for what no gate sees, such as websockets

#: Run every cell and give back the errors. Only the promises say when a kernel is truly there: the status line reads
#: "idle" before one is connected.
RUN_ALL = """async (seconds) => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.context.ready;
  await panel.sessionContext.ready;
  for (; !panel.sessionContext.session?.kernel; ) await new Promise(requestAnimationFrame);
  await panel.sessionContext.session.kernel.info;
  const done = window.jupyterapp.commands.execute("notebook:run-all-cells");
  const late = new Promise((resolve) => setTimeout(resolve, 1000 * seconds, "late"));
  if ((await Promise.race([done, late])) === "late") return [`cells still ran after ${seconds} seconds`];
  const outputs = panel.content.model.toJSON().cells.flatMap((cell) => cell.outputs ?? []);
  return outputs.filter((one) => one.output_type === "error").map((one) => `${one.ename}: ${one.evalue}`);
}"""

#: Evaluate an expression in the notebook's kernel, as its text.
ASK = """async (expression) => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const asked = kernel.requestExecute({ code: "", silent: true, user_expressions: { it: expression } });
  const answer = (await asked.done).content.user_expressions.it;
  return answer.status === "ok" ? answer.data["text/plain"] : `${answer.ename}: ${answer.evalue}`;
}"""

TILE = """([branch, index]) => {
  const tile = document.querySelectorAll(`.stg-branch[data-branch="${branch}"] canvas`)[index];
  return [...tile.getContext("2d").getImageData(0, 0, tile.width, tile.height).data];
}"""


@dataclass
class Visit:
    """A page, with everything that went wrong on it.

    Attributes:
        page: the playwright page.
        outside: addresses that the page asked for beyond this machine; every one was refused.
        faults: errors of the console and of scripts.
    """

    page: object
    outside: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def tile(self, branch: str, index: int = 0) -> np.ndarray:
        """The painted pixels of a picture of the x0 explorer, uint8 `(height, width, 3)`."""
        rgba = np.array(self.page.evaluate(TILE, [branch, index]), np.uint8)
        side = round((len(rgba) / 4) ** 0.5)
        return rgba.reshape(side, side, 4)[..., :3]

    def ask(self, expression: str) -> str:
        """What an expression is in the notebook's kernel."""
        return self.page.evaluate(ASK, expression)

    def becomes(self, expression: str, expected: str, seconds: float = 60) -> None:
        """Wait until an expression in the notebook's kernel is as expected, for what a widget in the page has just set.

        While the kernel is busy with one change, ipywidgets holds back the next ones, so that a question may overtake them.
        """
        until = time.monotonic() + seconds
        while (found := self.ask(expression)) != expected:
            assert time.monotonic() < until, f"{expression} is {found} after {seconds:g} s, not {expected}"
            time.sleep(0.05)


@pytest.fixture(scope="session")
def chromium():
    """A Chromium of this machine, without a window."""
    program = browser_program()
    if program is None:
        pytest.skip(f"no browser on this machine: none of {', '.join(BROWSERS)} is there")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", *QUIET.split(), NO_NAMES])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Open pages behind the gate: `visit(url, allowed=(...), color_scheme=...)` gives a `Visit`."""
    contexts = []

    def open_page(url, *, allowed=(), height=1000, wait_until="domcontentloaded", **options):
        context = chromium.new_context(viewport={"width": 1180, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)  # two workers and their kernels share two cores
        seen = Visit(page)

        def gate(route):
            if route.request.url.startswith(("file:", "data:", "blob:", *allowed)):
                return route.continue_()
            seen.outside.append(route.request.url)
            return route.abort()

        context.route("**/*", gate)
        page.on("pageerror", lambda error: seen.faults.append(str(error)))
        page.on("console", lambda said: seen.faults.append(said.text) if said.type == "error" else None)
        page.goto(url, wait_until=wait_until)
        return seen

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def visit_widget(visit, tmp_path):
    """Show an explorer on a page of its own, without a kernel: `visit_widget(widget)` gives a `Visit`; JavaScript
    may run `before` it is mounted."""

    def show(widget, *, before="", **options):
        file = tmp_path / f"{type(widget).__name__}-{time.monotonic_ns()}.html"
        file.write_text(alone(widget, before=before))
        seen = visit(file.as_uri(), **{"color_scheme": "light", **options})
        seen.page.wait_for_selector(".stg-lab[data-ready]")
        return seen

    return show


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """A run of an untrained model, its weak model off in the first quarter, and its baseline; both recorded."""
    folder = tmp_path_factory.mktemp("recordings")
    pipe = build_joint()
    pipe.set_progress_bar_config(disable=True)
    call = {"prompt": ["a red seven moving left", "a blue two growing"], "num_inference_steps": 4}
    stg = lab.STG(1, lab.skip([5]), start=0.25)
    run = lab.sample(pipe, guidance=lab.CFG(4) + stg, record=folder / "run.zarr", **call)
    baseline = lab.sample(pipe, guidance=lab.CFG(4), record=folder / "baseline.zarr", **call)
    return run, baseline


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory):
    """Address and root folder of a JupyterLab of its own, which knows nothing of the user's settings."""
    root = tmp_path_factory.mktemp("root")
    with jupyterlab(tmp_path_factory.mktemp("jupyter"), f"--ServerApp.root_dir={root}") as url:
        yield url, root


@contextlib.contextmanager
def jupyterlab(home, *arguments, cwd=None):
    """A JupyterLab that keeps everything under `home`; gives its address."""
    pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    log = home / "log"
    with log.open("wb") as out:
        server = subprocess.Popen([*command, *arguments], env=_environment(home), stdout=out, stderr=out, cwd=cwd)
    try:
        _wait_for(f"{url}/api/status", server, log)
        yield url
    finally:
        server.terminate()  # it ends its kernels itself
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment(home: Path) -> dict[str, str]:
    """An environment in which Jupyter keeps everything under `home` and kernels import this checkout."""
    wishes = {
        "apputils-extension/notification": {"fetchNews": "false"},  # no pop-up over the page
        "notebook-extension/tracker": {"windowingMode": "none"},  # outputs are painted wherever they are
    }
    for name, wish in wishes.items():
        file = home / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(wish))
    kinds = "JUPYTER_CONFIG_DIR JUPYTER_DATA_DIR JUPYTER_RUNTIME_DIR JUPYTERLAB_SETTINGS_DIR JUPYTERLAB_WORKSPACES_DIR"
    folders = {kind: home / kind for kind in [*kinds.split(), "IPYTHONDIR"]}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **{kind: str(folder) for kind, folder in folders.items()}, "PYTHONPATH": path}


def _wait_for(url: str, server: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")


@pytest.fixture
def open_notebook(jupyter, visit):
    """Open a notebook of the server's root, by its path there, without running it."""
    url, _ = jupyter

    def open_it(name: str, **options) -> Visit:
        # A workspace of its own: the default one would open the notebooks of earlier tests again, and in front.
        seen = visit(f"{url}/lab/workspaces/w{time.monotonic_ns()}/tree/{name}", allowed=(url,), **options)
        seen.page.wait_for_function(
            "(name) => window.jupyterapp?.shell.currentWidget?.sessionContext?.path === name", arg=name
        )
        return seen

    return open_it


@pytest.fixture
def run_notebook(jupyter, open_notebook):
    """Run every cell of a notebook in the browser: `run_notebook(path)` gives a `Visit`; an error in a cell fails.

    JupyterLab saves what it opens, so the notebook's whole folder is copied first.
    """
    _, root = jupyter
    opened = []

    def run(path: Path, *, seconds: float = 60, **options) -> Visit:
        folder = root / f"{path.parent.name}_{time.monotonic_ns()}"
        shutil.copytree(path.parent, folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "out", "runs"))
        seen = open_notebook(f"{folder.name}/{path.name}", **options)
        opened.append(seen)
        errors = seen.page.evaluate(RUN_ALL, seconds)
        assert errors == []
        return seen

    yield run
    for seen in opened:  # a kernel that holds a model is large
        seen.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
