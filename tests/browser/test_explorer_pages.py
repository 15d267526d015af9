"""`to_html()` in a browser with the network refused, alone and in a frame; and the picture of a notebook that is not trusted."""

import nbformat
import pytest

import stg_lab as lab
from stg_lab.gaussians import sweep, two_arms

pytestmark = pytest.mark.browser

#: A page around an explorer's, as the documentation has it: it follows the height and tells the look.
AROUND = """<!doctype html><body style="margin:0"><iframe id="f" src="{}" style="width:100%;height:60px;border:0"></iframe><script>
addEventListener("message", ({{ source, data }}) => {{
  if (source === f.contentWindow && data.stgLab === "height") f.style.height = data.height + "px";
}});
</script>"""
GROUND = "() => +getComputedStyle(document.querySelector('.stg-lab')).backgroundColor.match(/\\d+/)[0]"


@pytest.fixture(scope="module")
def pages(recorded, tmp_path_factory):
    """A page of each sort of explorer, by name."""
    folder = tmp_path_factory.mktemp("pages")
    run, baseline = recorded
    plane = two_arms()
    truth = plane.given(0)
    swept = sweep(truth.blurred(0.1), {"all": plane.blurred(0.1)}, truth, scales=(0, 1), count=50, steps=4)
    made = {
        "x0": lab.widgets.x0_explorer(run, baseline=baseline),
        "guidance": lab.widgets.guidance_explorer(run),
        "orthogonality": lab.widgets.orthogonality_explorer(run),
        "ablation": lab.widgets.ablation_explorer("layers"),
        "fork": lab.widgets.fork_explorer(run),
        "plane": lab.widgets.gaussian_explorer(swept, truth),
        "grid": lab.widgets.grid_explorer({"CFG": baseline, "CFG + STG": run}),
        "pairs": lab.rate(run, baseline, out=folder / "ratings.jsonl").widget,
    }
    files = {name: folder / f"{name}.html" for name in made}
    for name, explorer in made.items():
        files[name].write_text(explorer.to_html(title=f"The {name} explorer"))
    return files


@pytest.mark.parametrize("name", ["x0", "guidance", "orthogonality", "ablation", "fork", "plane", "grid", "pairs"])
def test_a_page_is_whole_without_a_network(visit, pages, name, tmp_path):
    seen = visit(pages[name].as_uri(), color_scheme="light")
    root = seen.page.locator(".stg-lab")
    seen.page.wait_for_selector(".stg-lab[data-ready]")
    assert seen.page.title() == f"The {name} explorer"
    assert not root.locator(".stg-error").is_visible()
    assert seen.page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    seen.page.wait_for_timeout(200)  # for the resize observer
    seen.page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
    assert (
        seen.page.evaluate("() => fetch('https://example.org/').then(() => 'answered', () => 'refused')") == "refused"
    )
    assert seen.outside == []  # the page's own policy stopped it before the gate
    assert [fault for fault in seen.faults if "Content Security Policy" not in fault] == []


def test_in_a_frame_a_page_tells_its_height_and_takes_the_look(visit, pages, tmp_path):
    around = tmp_path / "around.html"
    around.write_text(AROUND.format(pages["x0"].as_uri()))
    seen = visit(around.as_uri(), color_scheme="light")
    frame = seen.page.frame_locator("#f")
    frame.locator(".stg-lab[data-ready]").wait_for()
    inner = next(one for one in seen.page.frames if one.parent_frame)
    seen.page.wait_for_function("() => f.clientHeight > 300")
    assert inner.evaluate("() => document.documentElement.scrollHeight <= innerHeight")  # no second scroll bar
    assert inner.evaluate(GROUND) > 200
    seen.page.evaluate("() => f.contentWindow.postMessage({ stgLab: 'look', look: 'dark' }, '*')")
    inner.wait_for_function(f"() => ({GROUND})() < 60")
    seen.page.evaluate("() => f.contentWindow.postMessage({ stgLab: 'look', look: '<b>' }, '*')")
    seen.page.evaluate("() => f.contentWindow.postMessage(null, '*')")
    assert inner.evaluate(GROUND) < 60
    assert (seen.faults, seen.outside) == ([], [])


@pytest.mark.notebook
@pytest.mark.slow
def test_a_notebook_that_is_not_trusted_shows_the_picture(jupyter, open_notebook, recorded):
    """As on a clone: nobody here has run it, so that no script of its outputs may run."""
    explorer = lab.widgets.x0_explorer(recorded[0])
    data, _ = explorer._repr_mimebundle_()
    shown = nbformat.v4.new_output("execute_result", data, execution_count=1)
    cell = nbformat.v4.new_code_cell("explorer", outputs=[shown], execution_count=1)
    path = jupyter[1] / "untrusted.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    seen = open_notebook(path.name)
    image = seen.page.locator(".jp-OutputArea-output img")
    image.wait_for()
    seen.page.wait_for_function("(img) => img.naturalWidth > 400", arg=image.element_handle())
    assert seen.page.locator(".stg-lab").count() == 0


def explorers():
    """Every explorer of what ships, by name."""
    both, alone = lab.open("repair_both"), lab.open("repair_unguided")
    return {
        "x0": lab.widgets.x0_explorer(both, baseline=alone),
        "guidance": lab.widgets.guidance_explorer(both),
        "orthogonality": lab.widgets.orthogonality_explorer(lab.open("space_time")),
        "ablation": lab.widgets.ablation_explorer(lab.open_ablation("layers")),
        "grid": chosen(lab.open_search("layers").grid(candidates=5)),
        "comparison": lab.widgets.comparison_explorer(both, alone),
    }


def chosen(grid):
    """A grid with two videos enlarged."""
    grid.size, grid.playing, grid.chosen = 64, False, ["2/5", "3/5"]
    return grid


def test_every_explorer_is_whole_in_sight_on_a_small_screen(visit_widget):
    """At 1280 x 800, with nothing beyond its own edges."""
    for name, explorer in explorers().items():
        seen = visit_widget(explorer, height=800)
        page = seen.page
        page.set_viewport_size({"width": 1280, "height": 800})
        page.wait_for_function("() => document.querySelector('.stg-lab').getBoundingClientRect().width > 1200")
        page.wait_for_function("() => document.documentElement.scrollHeight <= 800", timeout=5_000)
        assert page.evaluate("() => document.documentElement.scrollWidth") == 1280, name
        assert page.evaluate(
            "() => document.querySelector('.stg-lab').scrollWidth <= document.querySelector('.stg-lab').clientWidth"
        ), name
        assert seen.faults == [], name
        page.context.close()
