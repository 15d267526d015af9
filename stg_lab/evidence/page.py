"""The page of evidence: a verdict, a table and a figure for each claim, all from kept findings."""

from __future__ import annotations

import csv
import json
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stg_lab.evidence.claim import CLAIMS, Claim, Finding, Line, Panel
from stg_lab.evidence.findings import file_of, read
from stg_lab.evidence.statistics import Estimate
from stg_lab.palette import SERIES
from stg_lab.shipped import data_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INTRODUCTION = """# The claims, put to the test

Made by `make evidence` from the findings in `data/evidence/`; nothing here is typed by hand. Claims of the paper
([arXiv:2411.18664](https://arxiv.org/abs/2411.18664)), and some of this project's own, are put to the embedded models, which are
small, know one world, and are read by a judge that knows it too. A verdict is about them: **it says what holds here**, not what
holds for Mochi.

- **Settings with room.** Most cells have 16 steps and no CFG, CFG 1.5 or 2: at CFG 3 nearly all videos of digits-joint are right
  already, and nothing is left to repair. Claim 3 shows the higher scales and 8 steps beside them.
- **Layers are chosen by outcome, on other videos.** Every layer, and its attention alone, was tried on captions and seeds that no
  test looks at ([the choice](#how-layers-and-scales-were-chosen)); so was CFG's scale. Beside it stands what the paper would take,
  fixed before anything was measured: its part, its scale, its relative depth (section A1.3).
- The rules were written, and committed, before the videos were sampled. A finding that rests on other rules than those
  printed above it says so.
- Every cell has videos of the same captions (first frames, for image to video) and the same seeds: video *i* is seeded *i*.
- Intervals are 95 %, from a bootstrap that resamples captions; differences are paired by seed. Those of shares know that where
  all videos are right, one more might not be: with 256 videos none is narrower than about 1 % to each side. They are not corrected
  for the number of claims: of some sixty intervals, three miss.
- A verdict is *holds here* or *does not hold here* only where the intervals decide; else *undecided*.
- "Right" is a video in which the judge sees all that the caption asked for (image to video: digit and colour of the first
  frame). **Log-probability** is the mean logarithm of the judge's calibrated probability of that, at least log 0.001 a video: it
  still moves where nearly all are right ([calibration](../data/judge/README.md)).
- **Texture distance** is the grain: the Frechet distance to rendered clips in features of the judge's first layers, which see how
  well a video is drawn. The content distance is the same in its last layers, which see what it shows ([metrics](metrics.md)).
  Neither is FVD. Both are taken to rendered clips of unseen scans that show what the videos were asked for, 1,024 or more.
  Coverage is the share of rendered clips, as many as there are videos, that have a video nearer to them, in the last layers, than the
  third nearest of the other clips (every caption has four).
- "Passes" are forward passes of the denoiser for one video, each counted whole; beside them what they come to with prefix reuse,
  where a weak pass counts by the share of the blocks that it runs.

What might be objected: the judge was made for this world, by the same project. So it is held against rendered clips it never saw, its
calibration is shown, and every video of the main settings can be looked at. That digits are not film is true; what they have
is a right answer to count by.

Doubt one? Rerun it with fewer videos: `make evidence CLAIMS=14 VIDEOS=32 MODELS=digits-joint`, some minutes on two cores. What
stands here rests on more videos and stays; yours goes to `runs/evidence/findings`. What was measured of every video ships in
`data/evidence/scores`: `make evidence KNOWN=1 CLAIMS=14 MODELS=digits-joint` reaches the verdict again from it, without sampling.
"""
STALE = (
    "*Measured by the rules of an earlier round (24 steps, the layer fixed at the paper's relative depth), on the model as it was then "
    "(of digits-joint: today's digits-joint-plain); to be made anew.*"
)


def write_page(findings: Path, page: Path, images: Path) -> list[str]:
    """Write the page and its figures; returns the names of the findings that are on it.

    Args:
        findings: folder of kept findings.
        page: the Markdown file.
        images: folder of the figures, below the page's own.
    """
    parts, there, summary = [], [], []
    sheets = Path(os.path.relpath(findings, page.parent)).as_posix()
    for number, claim in sorted(CLAIMS.items()):
        found = {m: read(f) for m in claim.models if (f := file_of(findings, number, m)).exists()}
        if not found:
            continue
        body = [f"## {number}. {claim.title}", f"*{claim.source}.* {claim.test}"]
        body += [part for n in claim.tables for part in published(n)]
        for model, (finding, about) in found.items():
            image = images / f"claim-{number:02d}-{model}.png"
            if finding.panels:
                draw(finding.panels, image)
            body += _section(claim, model, finding, about, image.relative_to(page.parent).as_posix(), sheets)
            there.append(f"claim {number} on {model}")
        cells = [_verdict(claim, m, found) for m in _models()]
        summary.append(f"| [{number}](#{_anchor(number, claim.title)}) | {claim.title} | " + " | ".join(cells) + " |")
        parts.append("\n\n".join(body))
    head = [f"| | claim | {' | '.join(_models())} |", "|---|---|" + "---|" * len(_models()), *summary]
    page.write_text("\n".join([INTRODUCTION, *head]) + "\n\n" + "\n\n".join([*_choices(findings), *parts]) + "\n")
    return there


def _verdict(claim: Claim, model: str, found: Mapping[str, tuple[Finding, dict[str, Any]]]) -> str:
    if model not in found:
        return "not yet" if model in claim.models else "-"
    finding, about = found[model]
    return finding.verdict + (" (earlier rules)" if about["test"] != claim.test else "")


def _choices(findings: Path) -> list[str]:
    """The choice of every model for which one was made, with all that was tried."""
    parts = ["## How layers and scales were chosen"]
    for name in _models():
        file = findings / f"choice-{name}.json"
        if not file.exists():
            continue
        kept = json.loads(file.read_text())
        rows = [{k: v for k, v in row.items() if k != "weak"} for row in kept["rows"]]
        parts += [
            f"**{name}**: `{kept['weak']}`, and CFG {kept['cfg']:g}. All candidates on {min(r['videos'] for r in rows)} videos, the best, "
            f"and the best of each kind, on {max(r['videos'] for r in rows)}; what decides: {kept['rule']}; {kept['steps']} steps, "
            f"captions drawn with seed {kept['captions_seed']}, seeds from {kept['seeds_from']:,}. The best of many looks better than "
            "it is: what the chosen one does on other videos is below.",
            f"<details><summary>all {len(rows)} settings</summary>\n\n{table(rows)}\n\n</details>",
        ]
    return parts if len(parts) > 1 else []


def _section(claim: Claim, model: str, finding: Finding, about: dict[str, Any], image: str, sheets: str) -> list[str]:
    known = f"{about['videos']} videos a cell, seeds 0 to {about['videos'] - 1}; model {about['weights']}, judge {about['judge']}; {about['device']}"
    folders = "\n".join(f"- `{folder}`" for folder in finding.folders)
    links = ", ".join(f"[{sheet.title}]({sheets}/{sheet.file})" for sheet in finding.sheets)
    shown = [f"All videos, unpicked, five of nine frames each: {links}."] if links else []
    return [
        f"### {model}: {finding.verdict}",
        *([STALE] if about["test"] != claim.test else []),
        f"{finding.because[:1].upper()}{finding.because[1:]}.",
        *([f"![{claim.title}: {model}]({image})"] if finding.panels else []),
        table(finding.rows),
        *shown,
        f"<details><summary>{known}</summary>\n\n{folders}\n\n</details>",
    ]


def published(number: int) -> list[str]:
    """A table of the paper, as it was published."""
    with (data_folder("paper") / f"table{number}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        f"Published (table {number}; VBench and FVD on other models, not to be compared with ours number by number):",
        table(rows),
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    return "\n".join(lines + ["| " + " | ".join(cell(row[n]) for n in names) + " |" for row in rows])


def cell(value: Any) -> str:
    """A value of a table in a few words."""
    if isinstance(value, Estimate):
        digits = 3 if abs(value.value) < 10 else 1
        return value.text(digits + 2 * (0 < abs(value.value) < 0.05))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _models() -> list[str]:
    return list(dict.fromkeys(m for c in CLAIMS.values() for m in c.models))


def _anchor(number: int, title: str) -> str:
    return "".join(c for c in f"{number}. {title}".lower().replace(" ", "-") if c.isalnum() or c == "-")


def draw(panels: Sequence[Panel], image: Path) -> None:
    """Draw a finding into a PNG."""
    image.parent.mkdir(parents=True, exist_ok=True)
    figure_of(panels).savefig(image, dpi=130, metadata={"Software": None})


def figure_of(panels: Sequence[Panel]) -> Figure:
    """A finding as a matplotlib figure: estimates with their intervals."""
    from stg_lab.figures.printed import PrintedFigure

    width = 3.4 * len(panels) + 0.4
    figure = PrintedFigure(figsize=(width, 3.1), layout="constrained")
    named: dict[str, Any] = {}  # one legend for all panels, beside none of the data
    for ax, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(ax, panel)
        named |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if named:
        columns = max(1, int(width / (0.55 + 0.075 * max(map(len, named)))))  # inches of a line and of a letter
        rows = -(-len(named) // columns)
        figure.set_figheight(3.1 + 0.16 * (rows - 1))
        figure.legend(
            named.values(),
            named.keys(),
            loc="outside lower center",
            ncols=min(len(named), columns),
            frameon=False,
            fontsize=8,
        )
    return figure


def _draw(ax: Any, panel: Panel) -> None:
    (_draw_points if panel.is_plane else _draw_lines)(ax, panel)
    ax.set(title=panel.title, xlabel=panel.xlabel)
    ax.title.set_size(9)
    ax.xaxis.label.set_size(8)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    if panel.log:
        ax.set_yscale("log")
    elif panel.title.startswith("share"):
        _end_at_one(ax)


def _draw_points(ax: Any, panel: Panel) -> None:
    """One point a setting, with an interval along each axis and its name beside it."""
    for number, line in enumerate(panel.lines):
        (x,), (y,) = line.x, line.y
        assert isinstance(x, Estimate)
        reach = [[x.value - x.low], [x.high - x.value]], [[y.value - y.low], [y.high - y.value]]
        colour = SERIES[number % len(SERIES)]
        ax.errorbar([x.value], [y.value], reach[1], reach[0], fmt="o", color=colour, ms=5, lw=0.9, capsize=2)
        above = number % 2 == 0  # neighbours in the table are often neighbours here
        ax.annotate(
            line.name, (x.value, y.value), (5, 5 if above else -5), textcoords="offset points", fontsize=7, color=colour,
            va="bottom" if above else "top",
        )  # fmt: skip
    ax.margins(x=0.15, y=0.12)
    ax.set_ylabel(panel.ylabel, fontsize=8)


def _draw_lines(ax: Any, panel: Panel) -> None:
    for number, line in enumerate(panel.lines):
        names = isinstance(line.x[0], str)
        x: list[Any] = list(range(len(line.x))) if names else list(line.x)
        style = {"color": SERIES[number % len(SERIES)], "label": line.name or None}
        if len(x) > 12 or _level(line, panel):
            ax.plot(x, [e.value for e in line.y], lw=1.4, **style)
            ax.fill_between(x, [e.low for e in line.y], [e.high for e in line.y], color=style["color"], alpha=0.2, lw=0)
        else:
            # Intervals of lines that share their points stand side by side.
            apart = (number - (len(panel.lines) - 1) / 2) * 0.012 * (x[-1] - x[0])
            _points(ax, [at + apart for at in x], line.y, fmt="o" if names else "o-", **style)
        if names:
            width = 14 if len(x) < 4 else 9
            ax.set_xticks(x, [textwrap.fill(str(n), width, break_long_words=False) for n in line.x])
            ax.margins(x=0.25 if len(x) < 4 else 0.08)
    measured = {value for line in panel.lines for value in line.x if isinstance(value, int | float)}
    if 0 < len(measured) <= 12:
        ax.set_xticks(sorted(measured), [f"{value:g}" for value in sorted(measured)])
    if panel.real is not None:
        ax.axhline(panel.real, color="0.45", lw=0.9, ls="--", label="rendered clips")
    if panel.bar is not None:
        ax.axhline(panel.bar, color=SERIES[1], lw=1.2, ls=":", label="asked for")


def _level(line: Line, panel: Panel) -> bool:
    """Whether it is one setting, drawn across a panel for the others to be compared with."""
    return len(panel.lines) > 1 and len(line.y) > 1 and len(set(line.y)) == 1


def _points(ax: Any, x: Sequence[float], y: Sequence[Estimate], **style: Any) -> None:
    below, above = [e.value - e.low for e in y], [e.high - e.value for e in y]
    ax.errorbar(x, [e.value for e in y], [below, above], ms=4, lw=1.2, capsize=2.5, **style)


def _end_at_one(ax: Any) -> None:
    """Let the axis of shares end where shares end."""
    low = min(ax.get_ylim()[0], 0.9)
    ax.set_ylim(low, 1 + 0.03 * (1 - low))
    ax.set_yticks([tick for tick in ax.get_yticks() if low <= tick <= 1])
