"""What a search found: the verdict, the table, the best guidance, the videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab.errors import CallError
from stg_lab.guidance import Guidance
from stg_lab.search.candidates import Candidate
from stg_lab.search.course import Result
from stg_lab.search.folder import Folder
from stg_lab.search.race import Entry, paired_interval
from stg_lab.search.scores import SHARES
from stg_lab.sheets import to_bytes
from stg_lab.videogrid import CHOSEN, FRESH, Setting, State, VideoGrid

if TYPE_CHECKING:
    import pandas as pd

    from stg_lab.rating import Rating
    from stg_lab.widgets import GridExplorer


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

    def grid(self, videos: int = 6, *, candidates: int = 8) -> GridExplorer:
        """The videos, all playing under one clock, baselines first: of the candidates on the first seeds to choose by, and of the
        winner and the baselines on fresh ones. `found.grid().save("grid.html")` writes it as a page; .png, .pdf, .gif and .mp4 too.

        Args:
            videos: how many of each.
            candidates: how many candidates, best first; none where 0.

        Raises:
            CallError: nothing is made yet.
        """
        from stg_lab.widgets import grid_explorer

        return grid_explorer(self._videos(videos, candidates))

    @property
    def videos(self) -> VideoGrid:
        """The videos that `grid` shows, for `lab.figures.grid(found)`."""
        return self._videos(6, 8)

    def _videos(self, videos: int, candidates: int) -> VideoGrid:
        r = self._result
        ranked = sorted((n for n in r.entries if n != r.reference), key=lambda n: -_mean(r.entries[n][0]))
        ranked = [n for n in ranked if len(r.entries[n][0].values)][:candidates]
        shown = {CHOSEN: [r.reference, *ranked] if r.entries else [], FRESH: [n for n in r.fresh if n != r.winner]}
        shown[FRESH] += [r.winner] * bool(r.fresh)
        made = {group: self._made(names, videos, group == FRESH) for group, names in shown.items() if names}
        names = list(dict.fromkeys(name for group in made.values() for name in group))
        columns = [(group, k) for group, of in made.items() for k in range(max(map(len, of.values())))]
        if not columns:
            raise CallError(f"no videos are there yet: {self._waiting()}.")
        return self._filled(names, columns, made)

    def _made(self, names: Sequence[str], videos: int, fresh: bool) -> dict[str, list[str]]:
        """The files of the first states of some candidates, as far as they are made."""
        listed = {name: self._folder.ids(name, fresh)[:videos] for name in names}
        return {name: [i for i in ids if self._folder.has_video(i)] for name, ids in listed.items()}

    def _filled(
        self, names: Sequence[str], columns: Sequence[tuple[str, int]], made: Mapping[str, Mapping[str, Sequence[str]]]
    ) -> VideoGrid:
        ids = [[_at(made[group].get(name, ()), k) for group, k in columns] for name in names]
        there = np.array([[id is not None for id in row] for row in ids])
        clips = [[None if id is None else to_bytes(self._folder.video(id)) for id in row] for row in ids]
        like = next(clip for row in clips for clip in row if clip is not None)
        cells = [[self._folder.cell(id) if id else None for id in row] for row in ids]
        known = [next(c for row in cells if (c := row[k])) for k in range(len(columns))]
        values = {
            score: np.array(
                [[np.nan if c is None else c["values"].get(score, np.nan) for c in row] for row in cells], float
            )
            for score in self.scores
        }
        return VideoGrid(
            tuple(self._setting(name) for name in names),
            tuple(State(c["caption"], c["seed"], group) for c, (group, _) in zip(known, columns, strict=True)),
            np.stack([np.stack([np.zeros_like(like) if clip is None else clip for clip in row]) for row in clips]),
            there,
            values,
            {score: int(sign) for score, sign in zip(self.scores, self._signs, strict=True)},
            self.verdict,
        )

    def _setting(self, name: str) -> Setting:
        one = self._result.candidates[name]
        tried = name in self._result.entries and name != self._result.reference
        if tried and one.weak:
            return Setting(one.weak, one.scale, str(one.guidance))
        return Setting(name, None, str(one.guidance), not tried)

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
            return f"{100 * value:+.0f} points ({round(100 * low)} to {round(100 * high)})"
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


def _mean(entry: Entry) -> float:
    return float(entry.values[:, 0].mean()) if len(entry.values) else -np.inf


def _at(ids: Sequence[str], place: int) -> str | None:
    return ids[place] if place < len(ids) else None
