"""From slider to picture, in a real browser on the recordings that ship: no model, no kernel, no network.

Each explorer stands on a page of its own. Its step slider is moved to every step, back and forth; a time runs from the event
to the end of the frame in which the browser has painted the answer, so that at 60 Hz nothing can take less than about 16 ms.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import stg_lab as lab
from stg_lab.widgets.page import alone

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # where a browser is found for the tests

from kit.notebooks import browser_program

#: Explorers with a step slider, each with the recording that it is measured on.
EXPLORERS: dict[str, Callable[[], Any]] = {
    "x0_explorer, frames": lambda: lab.widgets.x0_explorer(
        lab.open("repair_both"), baseline=lab.open("repair_unguided")
    ),
    "x0_explorer, difference": lambda: _different(lab.widgets.x0_explorer(lab.open("weak_models"))),
    "guidance_explorer": lambda: lab.widgets.guidance_explorer(lab.open("repair_both")),
    "orthogonality_explorer": lambda: lab.widgets.orthogonality_explorer(lab.open("space_time")),
}
ROUNDS = 4

MOVE = """async (rounds) => {
  const root = document.querySelector(".stg-lab"), slider = root.querySelector(".stg-step");
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const times = [];
  const places = [...Array(+slider.max + 1).keys()];
  for (let round = 0; round < rounds; round++) {
    for (const place of round % 2 ? places.toReversed() : places) {
      if (+slider.value === place) continue;
      const shown = new Promise((done) => root.addEventListener("stg-shown", done, { once: true }));
      const from = performance.now();
      slider.value = place;
      slider.dispatchEvent(new Event("input"));
      await shown;
      await frame();
      times.push(performance.now() - from);
    }
  }
  return times;
}"""


def _different(widget: Any) -> Any:
    widget.difference = True
    return widget


def _pages(folder: Path) -> Iterator[tuple[str, Path]]:
    for number, (name, make) in enumerate(EXPLORERS.items()):
        widget, file = make(), folder / f"{number}.html"
        file.write_text(alone(widget))
        yield name, file


def measure() -> dict[str, Any]:
    """Milliseconds of every move, by explorer."""
    from playwright.sync_api import sync_playwright

    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_program(), args=["--no-sandbox", "--disable-gpu"])
        for name, file in _pages(Path(folder)):
            shown = browser.new_page(viewport={"width": 1280, "height": 1000})
            shown.goto(file.as_uri())
            shown.wait_for_selector(".stg-lab[data-ready]")
            rows.append(
                {"explorer": name, "milliseconds": shown.evaluate(MOVE, ROUNDS), "page_bytes": file.stat().st_size}
            )
            shown.close()
        version = browser.version
        browser.close()
    return {"browser": version, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [f"Chromium {result['browser']}, 1280 px", f"{'explorer':<26} moves   median    worst"]
    for row in result["rows"]:
        times = row["milliseconds"]
        lines.append(f"{row['explorer']:<26} {len(times):>5} {statistics.median(times):>5.0f} ms {max(times):>5.0f} ms")
    return "\n".join(lines)
