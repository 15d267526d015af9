"""The app: what it shows without a browser, and whom its server lets in."""

import contextlib
import json
import logging
import os
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import ipywidgets
import pytest
from kit.app import free_port, running_app

import stg_lab as lab
from stg_lab import cli
from stg_lab.app import Bench, bench, serve

pytestmark = pytest.mark.xdist_group("app")
REFUSED = {401, 403, 404}


@pytest.fixture(scope="module")
def other(tiny, tmp_path_factory):
    """A recording without a weak model."""
    path = tmp_path_factory.mktemp("other") / "other.zarr"
    tiny.sample(lab.CFG(2), record=path)
    return path


# --- what it shows ------------------------------------------------------------------------------------------------


def shown(app):
    """The class of what each tab holds, by its title."""
    return {
        title: type(tab.children[0]).__name__ for title, tab in zip(app.tabs.titles, app.tabs.children, strict=True)
    }


def test_an_explorer_is_made_when_its_tab_is_first_opened(whole):
    app = Bench([str(whole)])
    assert shown(app) == {"Predictions": "X0Explorer", "Guidance": "HTML", "Orthogonality": "HTML", "Settings": "HTML"}
    app.tabs.selected_index = 1
    assert shown(app)["Guidance"] == "GuidanceExplorer"
    first = app.tabs.children[1].children[0]
    app.tabs.selected_index = 0
    app.tabs.selected_index = 1
    assert app.tabs.children[1].children[0] is first


def test_another_recording_takes_the_place_of_the_first(whole, other):
    app = Bench([str(whole), str(other)])
    app.tabs.selected_index = 1
    app.chooser.value = str(other)
    assert app.tabs.selected_index == 0
    assert "CFG(2)" in app.tabs.children[0].children[0].view["guidance"]
    app.tabs.selected_index = 3
    assert json.dumps(lab.open(other).settings["guidance_text"]) in ipywidgets_text(app.tabs.children[3])


def ipywidgets_text(box: ipywidgets.VBox) -> str:
    from html import unescape

    return unescape(box.children[0].value)


def test_what_data_do_not_have_is_told_in_place(other):
    app = Bench([str(other)])
    app.tabs.selected_index = 2  # one vector alone has no angle to another
    assert "stg-problem" in app.tabs.children[2].children[0].value


def test_a_broken_recording_is_told_in_place_and_the_next_one_opens(copy, whole):
    (copy / "zarr.json").write_text("{")
    app = Bench([str(copy), str(whole)])
    assert "stg-problem" in app.says.value
    assert app.tabs.children == ()
    app.chooser.value = str(whole)
    assert app.says.value == ""
    assert shown(app)["Predictions"] == "X0Explorer"


def test_given_recordings_come_before_those_that_ship(whole, monkeypatch):
    monkeypatch.setenv(bench.GIVEN, json.dumps([str(whole)]))
    monkeypatch.setattr(bench, "Bench", lambda places, rated: (places, rated))
    assert bench.show() == ([str(whole), *lab.recordings()], [str(whole)])


def test_several_given_recordings_can_be_rated_and_the_app_goes_on_where_it_stopped(
    whole, other, tmp_path, monkeypatch
):
    monkeypatch.setenv(bench.FOLDER, str(tmp_path))
    assert bench.PAIRS not in dict(Bench([str(whole)], [str(whole)]).chooser.options).values()
    app = Bench([str(whole), str(other)], [str(whole), str(other)])
    app.chooser.value = bench.PAIRS
    assert shown(app) == {"Blind pairs": "BlindPairs"}
    app.tabs.children[0].children[0].do("left")
    again = Bench([str(whole), str(other)], [str(other), str(whole)])
    again.chooser.value = bench.PAIRS
    assert again.tabs.children[0].children[0].progress == 1
    [kept] = (tmp_path / "out").iterdir()
    assert lab.ratings(kept).answers == 1
    again.chooser.value = str(whole)
    assert shown(again)["Predictions"] == "X0Explorer"


def test_recordings_that_are_no_pairs_are_told_in_place(whole, monkeypatch, tmp_path):
    monkeypatch.setenv(bench.FOLDER, str(tmp_path))
    app = Bench(["layers", str(whole)], ["layers", str(whole)])
    app.chooser.value = bench.PAIRS
    assert "two recordings or more" in app.tabs.children[0].children[0].value


# --- starting it --------------------------------------------------------------------------------------------------


def test_without_voila_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("stg_lab.app.launch.find_spec", lambda name: None)
    assert cli.main(["app", "--no-browser"]) == 2
    assert "pip install 'stg-lab[lab]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--port", "70000"], "1 to 65535"), (["nowhere"], "no recording at nowhere")]
)
def test_wrong_arguments_are_told_before_anything_is_served(arguments, says, capsys):
    with contextlib.suppress(SystemExit):  # of argparse, which says what it read itself
        assert cli.main(["app", "--no-browser", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_paths_are_whole_when_kernels_get_them(whole, monkeypatch):
    pytest.importorskip("voila", reason="voila is not installed")
    started = {}
    monkeypatch.setattr("stg_lab.app.server.start", lambda **given: started.update(given))
    monkeypatch.setenv(bench.GIVEN, "")
    monkeypatch.chdir(whole.parent)
    serve([whole.name], port=free_port(), browser=False)
    assert json.loads(os.environ[bench.GIVEN]) == [str(whole)]
    assert len(started["token"]) >= 32


# --- its server ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A real server, started in a folder with a notebook and settings that are not ours."""
    pytest.importorskip("voila", reason="voila is not installed")
    home, cwd = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("cwd")
    notebook = json.loads((Path(bench.__file__).parent / "notebook" / "app.ipynb").read_text())
    notebook["cells"][0]["source"] = f"open({str(cwd / 'ran')!r}, 'w')"
    (cwd / "evil.ipynb").write_text(json.dumps(notebook))
    (cwd / "app.ipynb").write_text(json.dumps(notebook))
    (cwd / "secret.png").write_text("secret")
    (cwd / "voila.json").write_text(json.dumps({"Voila": {"notebook_path": str(cwd / "evil.ipynb"), "token": ""}}))
    with running_app(home, cwd=cwd) as url:
        (cwd / "home").write_text(str(home))
        yield url, cwd


def ask(url: str, opener=None, **headers: str) -> tuple[int, str, str]:
    """Status, final address and text."""
    request = urllib.request.Request(url, headers=headers)
    try:
        with (opener or urllib.request.build_opener()).open(request, timeout=60) as answer:
            return answer.status, answer.url, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.url, refused.read().decode()


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong"])
def test_without_the_token_there_is_only_the_way_in(address, query):
    url, _ = address
    status, reached, text = ask(url.partition("?")[0] + query)
    assert (status, "/login" in reached) == (200, True)
    assert "stg-app" not in text
    assert "kernelId" not in text


def test_with_the_token_there_is_the_app(address):
    url, _ = address
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    status, _, text = ask(url, opener)
    assert (status, "stg-app" in text) == (200, True)
    kernel = json.loads(
        text.partition('id="jupyter-config-data" type="application/json">')[2].partition("</script>")[0]
    )
    base = url.partition("?")[0]
    at = f"{base}api/kernels/{kernel['kernelId']}"
    assert ask(at)[0] in REFUSED  # a kernel's address is worth nothing without the token
    assert ask(at, opener)[0] == 200
    assert ask(f"{at}/channels")[0] in REFUSED
    assert "://" not in "".join(part.partition('"')[0] for part in text.split('src="')[1:])  # no script of any CDN


def test_a_log_holds_no_token(caplog):
    for name in ("tornado.access", "tornado.application"):  # whose level a server in this process may have set
        caplog.set_level(logging.WARNING, name)
    server = pytest.importorskip("stg_lab.app.server", reason="voila is not installed")
    before = logging.getLogRecordFactory()
    try:
        server.hide_tokens("s3cret")
        logging.getLogger("tornado.access").warning("404 GET %s (%s)", "/x?token=s3cret&a=1", "127.0.0.1")
        logging.getLogger("tornado.access").warning("302 GET /login?next=%2F%3Ftoken%3Ds3cret")
        try:
            raise ValueError("/logout?token=other")
        except ValueError:
            logging.getLogger("tornado.application").exception("Uncaught exception GET /logout?token=s3cret")
    finally:
        logging.setLogRecordFactory(before)
    assert "404 GET /x?token=...&a=1 (127.0.0.1)" in caplog.text
    assert "s3cret" not in caplog.text
    assert "other" not in caplog.text


def test_failed_requests_are_logged_without_the_token(address):
    url, cwd = address
    base, _, query = url.partition("?")
    assert ask(f"{base}logout?{query}")[0] in REFUSED
    assert ask(f"{base}api/kernels/none?{query}")[0] in REFUSED
    log = Path((cwd / "home").read_text()) / "log"
    said = [line for line in log.read_text().splitlines() if not line.startswith("stg-lab app: ")]
    assert query.partition("=")[2] not in "\n".join(said)


def test_another_hosts_name_is_refused(address):
    url, _ = address
    assert ask(url, Host="evil.example")[0] == 403


@pytest.mark.parametrize(
    "place",
    [
        "evil.ipynb",
        "app.ipynb",
        "voila/render/evil.ipynb",
        "voila/files/secret.png",
        "voila/tree",
        "voila/files/app.ipynb",
    ],
)
def test_nothing_of_the_current_folder_is_served_or_run(address, place):
    url, cwd = address
    base, _, query = url.partition("?")
    _, _, text = ask(f"{base}{place}?{query}")
    assert "secret" not in text
    assert not (cwd / "ran").exists()


def test_it_listens_on_loopback_alone(address):
    psutil = pytest.importorskip("psutil")
    port = int(address[0].split(":")[2].partition("/")[0])
    seen = {c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port}
    assert seen == {"127.0.0.1"}
