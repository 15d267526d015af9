"""The server itself. Importing this module needs voila, which the extra `lab` brings."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from traitlets import default
from traitlets.config import Config
from voila.app import Voila
from voila.tornado.handler import TornadoVoilaHandler

HERE = Path(__file__).parent
NOTEBOOK = HERE / "notebook" / "app.ipynb"


class OwnKernels(KernelSpecManager):
    """Knows this interpreter alone: a user's kernel named python3 may belong to another environment."""

    @default("kernel_dirs")
    def _kernel_dirs_default(self) -> list[str]:
        return []


class Page(TornadoVoilaHandler):
    """The page, with the cookie that lets it end its kernel when it is closed; voila itself never sets it."""

    async def prepare(self, **how: Any) -> None:
        await super().prepare(**how)
        _ = self.xsrf_token  # reading it sets the cookie


class Server(Voila):
    """voila without configuration files: it would take one from the current folder, too."""

    @default("config_file_paths")
    def _config_file_paths_default(self) -> list[str]:
        return []

    @property
    def address(self) -> str:
        """What opens the app."""
        return f"{self.connection_url}?token={self.token}"

    def init_handlers(self) -> list[Any]:
        """voila's, but for the page; and without the way out, whose page voila does not have: the token is the only login."""
        return [
            tuple(Page if part is TornadoVoilaHandler else part for part in handler)
            for handler in super().init_handlers()
            if not handler[0].endswith("/logout")
        ]

    def launch_browser(self) -> None:
        """Open the address with its token, which voila's own way leaves out."""
        threading.Thread(target=_open, args=[self.address], daemon=True).start()

    def listen(self) -> None:
        """Listen until stopped; the address is printed when it answers."""
        import tornado.ioloop

        tornado.ioloop.IOLoop.current().add_callback(self._tell)
        super().listen()

    def _tell(self) -> None:
        print(f"stg-lab app: {self.address}\nCtrl-C stops it.", flush=True)


def hide_tokens(token: str) -> None:
    """Leave the token out of whatever is logged in this process from here on, by whomever: failed requests are, with their
    whole address."""
    make = logging.getLogRecordFactory()

    def hidden(text: str) -> str:
        return re.sub(r"(token(?:=|%3D))[^&\s'\"]+", r"\1...", text.replace(token, "...") if token else text)

    def without(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.msg, record.args = hidden(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = hidden(logging.Formatter().formatException(record.exc_info))  # what handlers then print
        return record

    logging.setLogRecordFactory(without)


def settings(*, port: int, token: str, browser: bool) -> Config:
    """One notebook, no other file, no other host; nothing in an address changes what is run or how it is shown."""
    config = Config()
    config.Voila.update(
        {
            "ip": "127.0.0.1",
            "port": port,
            "token": token,
            "open_browser": browser,
            "notebook_path": str(NOTEBOOK),
            "root_dir": str(NOTEBOOK.parent),
            "tornado_settings": {
                "allow_remote_access": False,
                "ws_ping_timeout": 30_000,
            },  # the name in a request must be this machine's
            "log_level": "ERROR",
        }
    )
    config.VoilaConfiguration.update(
        {
            "template": "stg_lab",
            "theme": "light",  # the template's own colours follow the system's look
            "allow_template_override": "NO",
            "allow_theme_override": "NO",
            "file_allowlist": [],
            "kernel_spec_manager_class": OwnKernels,
            "show_tracebacks": True,
        }
    )
    if os.name == "posix":
        config.KernelManager.transport = "ipc"  # not even a port of loopback between server and kernel
    config.MappingKernelManager.update({"cull_idle_timeout": 1800, "cull_interval": 60})
    return config


def start(*, port: int, token: str, browser: bool) -> None:
    """Serve until interrupted."""
    paths = [str(HERE / "jupyter"), os.environ.get("JUPYTER_PATH", "")]
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, paths))  # where voila looks for the template
    hide_tokens(token)
    server = Server.instance(config=settings(port=port, token=token, browser=browser))
    server.initialize([])
    server.start()


def _open(address: str) -> None:
    """By way of a file that only this user may read: other users see the arguments of programs, and so a token there."""
    handle, file = tempfile.mkstemp(prefix="stg_lab-", suffix=".html")
    with open(handle, "w", encoding="utf-8") as page:
        page.write(f"<!doctype html><meta http-equiv='refresh' content='0;url={address}'><title>stg-lab app</title>\n")
    webbrowser.open(Path(file).as_uri())
