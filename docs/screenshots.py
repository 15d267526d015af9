"""Makes the pictures of the explorers in README and docs: `python docs/screenshots.py [NAME ...]`. Needs Chromium, no kernel.

Each explorer stands on a page of its own, is moved to a telling place, and is photographed in a light or a dark look.

`python docs/screenshots.py --all FOLDER` is for looking everything over before a release: every explorer and every page that
`make docs` built, at 1280 and 1920 pixels, light and dark, into a folder. It tells what is wider or, of explorers, higher than the screen.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

import stg_lab as lab
from stg_lab.widgets.page import alone

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # where a browser is found for the tests

from kit.notebooks import browser_program

IMAGES = Path(__file__).resolve().parent / "images"


def x0() -> Any:
    """Every branch's one-step predictions."""
    return lab.widgets.x0_explorer(lab.open("repair_both"), baseline=lab.open("repair_unguided"))


def guidance() -> Any:
    """Guidance vectors, and the scales to turn."""
    return lab.widgets.guidance_explorer(lab.open("repair_both"))


def orthogonality() -> Any:
    """Angles between spatial and temporal vectors."""
    return lab.widgets.orthogonality_explorer(lab.open("space_time"))


def ablation() -> Any:
    """Layer x part x axis."""
    return lab.widgets.ablation_explorer(lab.open_ablation("layers"))


def grid() -> Any:
    """Candidates of a search by seed, two of them large."""
    widget = lab.open_search("layers").grid(candidates=5)
    widget.size, widget.playing, widget.chosen = 64, False, ["2/5", "3/5"]
    return widget


def fork() -> Any:
    """A recorded run sampled on from step 3 under another weak model. Samples with the embedded model."""
    pipe = lab.load("digits-joint")
    pipe.set_progress_bar_config(disable=True)
    widget = lab.widgets.fork_explorer(lab.open("repair_both"), pipe)
    widget.step, widget.stg, widget.layers = 3, 2.0, "2"
    widget.sample_on()
    widget.wait()
    return widget


def pairs() -> Any:
    """A question about two videos."""
    with tempfile.TemporaryDirectory() as folder:
        rating = lab.rate("repair_both", "repair_unguided", out=Path(folder) / "ratings.jsonl", rater=1, seed=0)
        rating.answer("equal")
        return rating.widget


#: Name -> explorer, look, width of the page in pixels.
SHOTS: dict[str, tuple[Callable[[], Any], str, int]] = {
    "x0_explorer": (x0, "dark", 1180),
    "guidance_explorer": (guidance, "light", 1180),
    "orthogonality_explorer": (orthogonality, "light", 1180),
    "ablation_explorer": (ablation, "dark", 1180),
    "grid_explorer": (grid, "light", 1180),
    "fork_explorer": (fork, "light", 1180),
    "blind_pairs": (pairs, "light", 900),
}


#: Explorers that compute look as they do in a notebook, where a kernel is there to ask.
KERNEL = "Object.defineProperty(PageModel.prototype, 'widget_manager', { get() { return {}; } });"


def shoot_report(browser: Any, folder: Path) -> Path:
    """Photograph the top of a report of two recordings and a sweep."""
    sources = {
        "first light": lab.open("repair_both"),
        "space and time": lab.open("space_time"),
        "layers": lab.open_ablation("layers"),
    }
    file = lab.report(sources, folder / "report.html", title="Skipping block 4")
    shown = browser.new_page(viewport={"width": 1180, "height": 1000}, color_scheme="dark", device_scale_factor=1.5)
    shown.goto(file.as_uri())
    shown.locator(".tabs").first.evaluate(
        "(tabs) => window.scrollTo(0, tabs.getBoundingClientRect().top + scrollY - 20)"
    )
    shown.wait_for_selector(".stg-lab[data-ready]")
    shown.wait_for_timeout(1000)
    shown.screenshot(path=IMAGES / "report.png")
    shown.close()
    return IMAGES / "report.png"


def shoot(browser: Any, name: str, folder: Path) -> Path:
    """Photograph one explorer."""
    if name == "report":
        return shoot_report(browser, folder)
    make, look, width = SHOTS[name]
    widget, file = make(), folder / f"{name}.html"
    file.write_text(alone(widget, before=KERNEL, style="main { max-width: none; padding: 0 } "))
    shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=look, device_scale_factor=1.5)
    shown.goto(file.as_uri())
    shown.wait_for_selector(".stg-lab[data-ready]")
    shown.wait_for_timeout(400)  # for the resize observer
    IMAGES.mkdir(exist_ok=True)
    shown.locator(".stg-lab").first.screenshot(path=IMAGES / f"{name}.png")
    shown.close()
    return IMAGES / f"{name}.png"


SCREENS = ((1280, 800), (1920, 1080))
TALLEST = 9000  # pixels of a page that are photographed


def look_over(browser: Any, folder: Path) -> None:
    """Photograph every explorer and every built page, as screens of both sizes show them in both looks."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, _, _) in SHOTS.items():
        (folder / f"{name}.html").write_text(alone(make(), before=KERNEL))
    built = Path(__file__).resolve().parents[1] / "out/docs"
    pages = {path.stem: path for path in sorted(folder.glob("*.html"))}
    pages |= {"-".join(p.relative_to(built).with_suffix("").parts): p for p in sorted(built.glob("[dn]*/**/*.html"))}
    for name, file in pages.items():
        for width, height in SCREENS:
            for look in ("light", "dark"):
                _photograph(browser, file, folder / f"{name}-{width}-{look}.jpg", (width, height), look)


def _photograph(browser: Any, file: Path, picture: Path, screen: tuple[int, int], look: Any) -> None:
    width, height = screen
    shown = browser.new_page(viewport={"width": width, "height": height}, color_scheme=look)
    shown.goto(file.as_uri())
    shown.wait_for_load_state("load")
    shown.wait_for_timeout(400)
    across, down = shown.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    if across > width or (file.stem in SHOTS and down > height):
        print(f"{picture.stem}: {across} x {down}")
    tall = min(down, TALLEST)
    for top in range(0, tall, height):  # explorers and plots come when they are scrolled near
        shown.evaluate(f"scrollTo(0, {top})")
        shown.wait_for_timeout(150)
    shown.evaluate("scrollTo(0, 0)")
    area = {"x": 0, "y": 0, "width": width, "height": tall}
    shown.screenshot(path=picture, type="jpeg", quality=70, full_page=True, clip=area)
    shown.close()


def main(names: list[str]) -> None:
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=browser_program(), args=["--no-sandbox", "--disable-gpu"])
        if names[:1] == ["--all"]:
            look_over(browser, Path(names[1]))
        else:
            for name in names or [*SHOTS, "report"]:
                print(shoot(browser, name, Path(folder)))
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
