"""The documentation, built with warnings as errors and opened in a browser with the network refused.

By default some of its pages are opened: those that nothing else is like, and others by a fixed draw. With STG_LAB_ALL_PAGES=1 it
is every page.
"""

import os
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import stg_lab as lab

pytest.importorskip("sphinx", reason="the docs extra is not installed")

ROOT = Path(__file__).parents[2]
ALWAYS = ("docs/index.html", "docs/gallery.html", "docs/api.html", "notebooks/06_space_and_time.html", "search.html")
DRAWN = 5

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("docs")]

MISSING = """() => [...document.images].filter((image) => image.checkVisibility() && !(image.complete && image.naturalWidth))
  .map((image) => image.src)"""


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder of the built documentation. STG_LAB_DOCS names one that is there already."""
    if known := os.environ.get("STG_LAB_DOCS"):
        return Path(known).resolve()
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(folder / "read")]
    done = subprocess.run([*command, "-c", "docs", ".", str(folder / "out")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def pages(built):
    """The pages to open, as addresses below the top folder."""
    every = sorted(
        str(path.relative_to(built))
        for kind in ("docs", "notebooks", "data")
        for path in (built / kind).rglob("*.html")
    )
    if os.environ.get("STG_LAB_ALL_PAGES"):
        return [*every, "search.html", "genindex.html"]
    return [*ALWAYS, *random.Random(0).sample([page for page in every if page not in ALWAYS], DRAWN)]


def test_every_page_is_whole_without_a_network(built, visit):
    for name in pages(built):
        seen = visit((built / name).as_uri(), color_scheme="dark")
        for frame in seen.page.locator("iframe.stg-explorer").all():
            frame.scroll_into_view_if_needed()
            frame.content_frame.locator(".stg-lab[data-ready]").wait_for()
            assert not frame.content_frame.locator(".stg-error").is_visible(), name
        for plot in seen.page.locator(".stg-plotly").all():
            plot.scroll_into_view_if_needed()
            plot.locator(".main-svg").first.wait_for()
        seen.page.wait_for_load_state("load")
        assert seen.page.evaluate(MISSING) == [], name
        assert (seen.faults, seen.outside) == ([], []), name
        seen.page.context.close()


def test_the_top_folder_leads_to_the_first_page(built, visit):
    seen = visit((built / "index.html").as_uri())
    seen.page.wait_for_url("**/docs/index.html")
    assert seen.page.locator("h1").first.inner_text().startswith("stg_lab")


def test_the_search_works_from_a_folder(built, visit):
    seen = visit((built / "search.html").as_uri() + "?q=orthogonal")
    seen.page.wait_for_function("() => document.querySelectorAll('#search-results li').length >= 3")
    assert (seen.faults, seen.outside) == ([], [])


def test_an_explorer_follows_the_pages_look(built, visit):
    seen = visit((built / "docs/index.html").as_uri(), color_scheme="light")
    frame = seen.page.locator("iframe.stg-explorer").first
    frame.content_frame.locator(".stg-lab[data-ready]").wait_for()
    dark = "(root) => +getComputedStyle(root).backgroundColor.match(/\\d+/)[0] < 60"
    assert not frame.content_frame.locator(".stg-lab").evaluate(dark)
    seen.page.evaluate("() => { document.body.dataset.theme = 'dark'; }")
    inner = frame.element_handle().content_frame()
    inner.wait_for_function(f"() => ({dark})(document.querySelector('.stg-lab'))")
    assert seen.page.evaluate("(f) => f.clientHeight", frame.element_handle()) > 400  # as high as what is in it
    assert seen.faults == []


def test_the_reference_has_every_public_name(built):
    text = (built / "docs/api.html").read_text(encoding="utf-8")
    rooms = [lab.analysis, lab.figures, lab.metrics, lab.plots, lab.widgets]
    names = [
        f"stg_lab.{name}"
        for name in lab.__all__
        if not name.startswith("__") and not isinstance(getattr(lab, name), ModuleType)
    ]
    names += [f"{room.__name__}.{name}" for room in rooms for name in room.__all__ if callable(getattr(room, name))]
    assert [name for name in names if f'id="{name}"' not in text] == []
