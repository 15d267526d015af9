"""The watch explorer: which word goes where in which frame at which step, and which frames look at which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from stg_lab import analysis
from stg_lab.errors import RecordingError
from stg_lab.given import takes
from stg_lab.guidance import GUIDED
from stg_lab.palette import SERIES
from stg_lab.recording import Name, check_number, recording_of
from stg_lab.widgets.base import Explorer, Quantised, Stepped, module, style
from stg_lab.widgets.sprites import facts, make_sprites
from stg_lab.widgets.still import Still, Strip, cut

if TYPE_CHECKING:
    from stg_lab.recording import Recording
    from stg_lab.sampling import Run

BUDGET = 40_000_000  # numbers of the maps of words that an explorer carries
REST = "(all others)"


class WatchExplorer(Stepped, Explorer):
    """Attention maps of a watched run, all on board. Make it with `watch_explorer`.

    Attributes:
        step, sample: what is shown, from 0.
        layer: which of the watched layers, from 0 in their order.
        word: which word's map is shown, from 0.
        view, sheets, arrays: what is shown; fixed.
    """

    _esm, _css = module("watch_explorer"), style("watch_explorer")
    STATE = ("step", "sample", "layer", "word")

    layer = traitlets.Int(0).tag(sync=True)
    word = traitlets.Int(0).tag(sync=True)

    @traitlets.validate("layer")
    def _check_layer(self, proposal: Any) -> int:
        return check_number("layer", proposal["value"], len(self.view["layers"]))

    @traitlets.validate("word")
    def _check_word(self, proposal: Any) -> int:
        return check_number("word", proposal["value"], self.view["kept"])

    def still(self) -> Still:
        """The word's map in every frame, under what the sampler went on with."""
        maps = self.numbers("words")[self.step, self.layer, self.sample, self.word]
        grey = np.nan_to_num(maps / max(float(np.nanmax(maps)), 1e-12)) * 255
        pixels = np.concatenate(list(np.repeat(np.repeat(grey, 8, 1), 8, 2)), 1).astype(np.uint8)
        word = self.view["words"][self.sample][self.word]
        strips = [Strip(f"attention to {word!r}", SERIES[0], np.stack([pixels] * 3, -1))]
        if self.sheets:
            sheet = self.sheets[f"{GUIDED}/{self.sample}"]
            strips.insert(0, Strip(GUIDED, SERIES[6], cut(sheet, self.view["height"], self.step)))
        return Still(f"Layer {self.view['layers'][self.layer]} at step {self.step}, {self.caption}", strips)


@takes()
def watch_explorer(source: Run | Recording | Name, *, sample: int = 0) -> WatchExplorer:
    """Show the attention that `lab.Watch(layers)` kept of a run.

    Args:
        source: a recorded run, a recording, or the path or name of one, whose guidance had a `Watch` of attention.
        sample: which sample to show first.

    Returns:
        A widget; its state (`step`, `sample`, `layer`, `word`) can be set from Python.

    Raises:
        RecordingError: no attention was watched, no such sample, or too many maps for one page.

    >>> lab.widgets.watch_explorer(lab.sample(pipe, guidance=lab.CFG(4) + lab.Watch([3]), ...))  # doctest: +SKIP
    """
    recording = recording_of(source)
    seen = analysis.watched(recording)
    if "words" not in seen:
        raise RecordingError(
            f"no attention to words was watched in {recording.path.name}. Record it with lab.Watch(layers): guidance=lab.CFG(4) + "
            "lab.Watch([3, 4])."
        )
    check_number("sample", sample, recording.ds.sizes["sample"])
    names = _names(seen, recording.ds.sizes["sample"])
    maps, kept = _kept(seen.words.values, names)
    if maps.size > BUDGET:
        raise RecordingError(
            f"{maps.size:,} numbers of word maps are more than a page holds ({BUDGET:,}). Watch fewer layers, fewer words (words=8) or "
            "every few steps (every=4)."
        )
    view = facts(recording) | {
        "layers": [int(n) for n in seen.attention_layer.values],
        "words": [[*row[: kept - 1], REST] for row in names],
        "kept": kept,
        "map": [int(seen.sizes[d]) for d in ("frame", "y", "x")],
        "frames": int(seen.sizes["frame"]),
        "colour": SERIES[0],
    }
    sheets: dict[str, bytes] = {}
    if recording.has_preview:
        sprites = make_sprites(recording, branches=[GUIDED], cfg=False)
        view |= {name: sprites.view[name] for name in ("frames", "height", "width", "shrink")}
        sheets = {key: png for key, png in sprites.sheets.items() if key.startswith(f"{GUIDED}/")}
    # Shares of attention by word over the steps, for the chart: (layer, sample, word, step).
    shares = np.nanmean(maps, (4, 5, 6)).transpose(1, 2, 3, 0) if maps.size else maps
    arrays = {
        "words": Quantised(np.nan_to_num(maps)),
        "frames": np.nan_to_num(seen.frames.values),
        "shares": shares,
        "entropy": seen.entropy.mean("frame").transpose("attention_layer", "sample", "step").values,
        "looked": (~np.isnan(seen.frames.values)).all((1, 2, 3, 4)).astype("u1"),
    }
    word = min(2, kept - 1)  # past an article, mostly
    return WatchExplorer(view, sheets, arrays, step=recording.steps // 2, sample=sample, word=word)


def _names(seen: Any, samples: int) -> list[list[str]]:
    """Words of every sample; numbers where the recording has no names for them."""
    count = seen.sizes["word"] - 1
    known = seen.attrs["words"] or [[]] * samples
    if len(known) != samples:
        known = [known[0]] * samples
    return [[*row, *(f"token {n}" for n in range(len(row), count))][:count] for row in known]


def _kept(maps: np.ndarray, names: list[list[str]]) -> tuple[np.ndarray, int]:
    """Maps of the words of the captions, and the sum of all others as the last; padding is among those."""
    longest = max(next((n for n, name in enumerate(row) if name.startswith("token ")), len(row)) for row in names)
    if not longest:
        longest = len(names[0])
    rest = maps[:, :, :, longest:].sum(3, keepdims=True)
    return np.concatenate([maps[:, :, :, :longest], rest], 3), longest + 1
