"""What a search found: the verdict, the table, the best guidance, the videos."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab.errors import CallError
from stg_lab.guidance import Guidance
from stg_lab.report.grid import Column, Grid
from stg_lab.search.candidates import Candidate
from stg_lab.search.course import Result
from stg_lab.search.folder import Folder
from stg_lab.search.race import Entry, paired_interval
from stg_lab.search.scores import SHARES

if TYPE_CHECKING:
    import pandas as pd

    from stg_lab.rating import Rating


class Found:
    """What a search found. Prints as the verdict and the table; `lab.open_search(folder)` reads it back, also while it runs.

    Attributes:
        path: the folder.
        done: whether the search came to its end.
        notes: what was left out, and why.
        question: with score="ask", the blind pairs that are to be answered before it goes on; else None.
    """

    def __init__(self, folder: Folder, result: Result, *, keep: Any = None, question: Rating | None = None) -> None:
        self._folder, self._result, self._keep = folder, result, keep
        self.path, self.notes, self.question = folder.path, tuple(result.notes), question
        self.done = not result.waiting
        self._signs = np.array(folder.told["asked"]["signs"], float)
        self.scores: tuple[str, ...] = tuple(folder.told["asked"]["scores"])
        self._error = float(folder.told["asked"]["error"])

    @property
    def wins(self) -> bool:
        """Whether the best candidate is better than the guidance that it was added to, by the interval on fresh states."""
        r = self._result
        if not self.done:
            return False
        return paired_interval(r.fresh[r.winner][:, 0], r.fresh[r.reference][:, 0], self._error)[0] > 0

    @property
    def best(self) -> Guidance:
        """For `lab.sample(guidance=found.best)`: the winner, or the guidance alone where nothing beats it."""
        r = self._result
        return r.candidates[r.winner if self.wins else r.reference].guidance

    @property
    def verdict(self) -> str:
        """What may be said, by fresh seeds."""
        r = self._result
        if not self.done:
            so_far = f"; the best so far is {r.winner}, not yet tested on fresh seeds" if r.winner else ""
            return f"not finished: {self._waiting()}{so_far}"
        mine, alone = r.fresh[r.winner], r.fresh[r.reference]
        gain = f"{self._change(mine, alone)} over {r.reference}, {len(mine)} videos each"
        others = [name for name in r.fresh if name not in (r.winner, r.reference)]
        rest = "".join(f"; {name}: {self._change(r.fresh[name], alone)}" for name in others)
        if self.wins:
            return f"{r.winner}: {gain}{rest}"
        alone_ = "" if not r.candidates[r.reference].guidance.terms else " alone"
        return f"nothing beats {r.reference}{alone_}; the best, {r.winner}: {gain}{rest}"

    @property
    def front(self) -> list[str]:
        """Candidates that were not dropped and that no other one beats in every score: with one score the best."""
        r = self._result
        means = {n: e.values.mean(0) for n, (e, _) in r.entries.items() if not e.dropped and len(e.values)}
        means = {n: m for n, m in means.items() if n != r.reference} or means
        return [n for n, m in means.items() if not any((o >= m).all() and (o > m).any() for o in means.values())]

    @property
    def table(self) -> pd.DataFrame:
        """Every candidate and baseline: its scores, the difference to the guidance alone on the same states with its 95 %
        interval, videos, cost in passes, and when it was dropped and why. Rows with states="fresh" are those that count; of the
        others the best looks better than it is."""
        import pandas as pd

        r = self._result
        rows = [
            self._row(r.candidates[name], "fresh", values, r.fresh[r.reference]) for name, values in r.fresh.items()
        ]
        alone = r.entries[r.reference][0].values if r.reference in r.entries else np.empty((0, 0))
        order = sorted(
            r.entries.items(), key=lambda item: (item[0] != r.winner, item[1][0].dropped != 0, -_mean(item[1][0]))
        )
        for name, (entry, step) in order:
            row = self._row(r.candidates[name], "to choose by", entry.values, alone)
            rows.append({**row, "step": step + 1, "dropped in round": entry.dropped or None, "why": entry.why})
        return pd.DataFrame(rows)

    def grid(self, videos: int = 6, *, candidates: int = 6) -> Page:
        """The videos, side by side and playing in step: baselines first, then the winner, on fresh seeds; and the candidates on
        the first states that all of them made.

        Args:
            videos: how many of each.
            candidates: how many candidates, best first; none where 0.

        Raises:
            CallError: nothing is made yet.
        """
        r = self._result
        grids = []
        if r.fresh:
            names = [*(n for n in r.fresh if n != r.winner), r.winner]
            grids.append(self._grid("fresh", "On fresh seeds: baselines first, then the winner", names, videos, True))
        if r.entries and candidates:
            ranked = sorted((n for n in r.entries if n != r.reference), key=lambda n: -_mean(r.entries[n][0]))
            names = [r.reference, *[n for n in ranked if len(r.entries[n][0].values)][:candidates]]
            grids.append(self._grid("chosen", "Candidates on the seeds to choose by, best first", names, videos, False))
        if not grids:
            raise CallError(f"no videos are there yet: {self._waiting()}.")
        return Page(self.verdict, grids)

    def _grid(self, id: str, heading: str, names: Sequence[str], videos: int, fresh: bool) -> Grid:
        ids = {name: self._folder.ids(name, fresh) for name in names}
        count = min(videos, *(sum(self._folder.cell(i) is not None for i in listed) for listed in ids.values()))
        cells = [self._folder.cell(i) for i in ids[names[0]][:count]]
        columns = [
            Column(
                name,
                str(self._result.candidates[name].guidance),
                np.stack([self._folder.video(i) for i in ids[name][:count]]),
            )
            for name in names
        ]
        return Grid(id, heading, "", [c["caption"] for c in cells if c], [c["seed"] for c in cells if c], columns)

    def _row(self, one: Candidate, kind: str, values: np.ndarray, alone: np.ndarray) -> dict[str, Any]:
        n = min(len(values), len(alone))
        row: dict[str, Any] = {
            "candidate": one.name,
            "weak": one.weak,
            "scale": one.scale if one.weak else None,
            "states": kind,
        }
        for k, name in enumerate(self.scores):
            row[name] = float(values[:, k].mean() * self._signs[k]) if len(values) else None
            if n > 1 and one.name != self._result.reference:
                value, low, high = self._difference(values[:n], alone[:n], k)
                row |= {f"{name} gain": value, f"{name} low": low, f"{name} high": high}
        return row | {"videos": len(values), "passes a video": round(one.cost, 2)}

    def _difference(self, one: np.ndarray, other: np.ndarray, k: int) -> tuple[float, float, float]:
        """Mean difference and its interval, in the score's own direction."""
        ends = paired_interval(one[:, k], other[:, k], self._error)
        low, high = sorted(end * self._signs[k] for end in ends)
        return float((one[:, k] - other[:, k]).mean() * self._signs[k]), low, high

    def _change(self, one: np.ndarray, other: np.ndarray) -> str:
        value, low, high = self._difference(one, other, 0)
        if not np.isfinite(low):
            return f"{value:+.3g} (one video, no interval)"
        if self.scores[0] in SHARES:
            return f"{100 * value:+.0f} points ({100 * low:.0f} to {100 * high:.0f})"
        less = ", less is better" if self._signs[0] < 0 else ""
        return f"{value:+.3g} ({low:.3g} to {high:.3g}{less})"

    def _waiting(self) -> str:
        if self.question is not None:
            left = self.question.total - self.question.done
            return f"{left} blind pair{'s' * (left > 1)} to answer (found.question), then the same call goes on"
        return self._result.waiting

    def __repr__(self) -> str:
        notes = "".join(f"\nleft out: {note}" for note in self.notes)
        return f"{self.verdict}\n\n{self.table.to_string(index=False, na_rep='', float_format=lambda v: f'{v:.3g}')}{notes}"

    def _repr_html_(self) -> str:
        table = self.table.to_html(index=False, na_rep="", float_format=lambda v: f"{v:.3g}", border=0)
        return f"<div><b>{escape(self.verdict)}</b>{table}{''.join(f'<p>left out: {escape(n)}</p>' for n in self.notes)}</div>"


class Page:
    """Grids of videos that play in step: shown in a notebook, or saved as a page that needs nothing else."""

    def __init__(self, title: str, grids: Sequence[Grid]) -> None:
        self.title, self.grids = title, list(grids)

    @property
    def html(self) -> str:
        """The whole page."""
        from stg_lab.report.parts import page

        return page(self.title, [f"<h1>{escape(self.title)}</h1>\n", *(grid.html for grid in self.grids)])

    def save(self, path: str | Path) -> Path:
        """Write the page, and say where.

        Raises:
            CallError: a name that does not end in ".html".
        """
        from stg_lab.files import write

        if Path(path).suffix != ".html":
            raise CallError(f"a grid is saved as a page, .html, got {str(path)!r}.")
        write(Path(path), self.html.encode())
        return Path(path)

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{escape(self.html, quote=True)}" style="width:100%;height:70vh;border:0"></iframe>'


def _mean(entry: Entry) -> float:
    return float(entry.values[:, 0].mean()) if len(entry.values) else -np.inf
