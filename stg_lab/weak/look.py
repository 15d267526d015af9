"""A look inside the pipeline's own pass: attention maps, hidden states and residual branches, reduced as they come."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.guidance.edits import Edit
from stg_lab.guidance.guidance import TERMS
from stg_lab.guidance.rules import Rule
from stg_lab.undone import stacked
from stg_lab.weak.attention import Attention, intercepted
from stg_lab.weak.base import Hits, Layered, Pass, one_of, place, replaced_forward
from stg_lab.weak.layers import whole_number
from stg_lab.weak.look_folded import between_frames, by_sample, rows_of, unfolded, words_by_frame

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stg_lab.families import Family, Grid

WHAT = ("attention", "hidden", "residual")
SIDE = 32  # places along one side of a word's map at most
CELLS = 2**25  # entries of a map that are held at once


@dataclass(frozen=True, repr=False)
class Look(Layered):
    """What `lab.Watch` looks at; as a weak model it changes nothing. See `Watch`."""

    kind: ClassVar[str] = "look"
    example: ClassVar[str] = "lab.Watch([5])"
    by_rows: ClassVar[bool] = True
    watches: ClassVar[bool] = True

    what: str = field(default="attention", kw_only=True)
    words_kept: int = field(default=64, kw_only=True)
    every: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("what", self.what, WHAT)
        for name in ("words_kept", "every"):
            object.__setattr__(self, name, whole_number(getattr(self, name), name, 1, self.example))

    @property
    def words(self) -> str:
        return f"{self.what} watched"

    def acts(self, step: int, steps: int) -> bool:
        return step % self.every == 0

    def unchanged(self, at: Pass) -> bool:
        return True

    def most_bytes(self, shape: tuple[int, ...]) -> int:
        samples, _, frames, height, width = shape
        words = (self.words_kept + 1) * frames * min(height, SIDE) * min(width, SIDE)
        each = {"attention": words + frames * frames + frames, "hidden": frames + 1, "residual": 8}[self.what]
        return 4 * each * samples * len(self.layers)

    @contextlib.contextmanager
    def perturb(self, at: Pass) -> Iterator[Hits]:
        hits: Hits = {}
        seen: dict[tuple[str, int], Tensor] = {}
        at.memory[self, "seen"] = seen
        with stacked() as stack:
            for layer, axis, block in self.blocks(at.family, at.denoiser):
                for module, make in self._eyes(at, layer, axis, block, seen):
                    stack.enter_context(replaced_forward(module, self._while_open(at, make), hits, place(layer, axis)))
            yield hits

    def _while_open(self, at: Pass, make: Callable[..., Any]) -> Callable[..., Any]:
        """Only the pipeline's own pass is looked at: `at.memory["looked"]` says that it is over."""

        def around(forward: Callable[..., Any]) -> Callable[..., Any]:
            looking = make(forward)
            return lambda *args, **kwargs: (forward if at.memory.get("looked") == at.step else looking)(*args, **kwargs)

        return around

    def _eyes(
        self, at: Pass, layer: int, axis: str, block: Any, seen: dict
    ) -> Iterator[tuple[nn.Module, Callable[..., Any]]]:
        family = at.family
        if self.what == "hidden":
            if axis != "temporal":  # frames lie behind each other there, place by place
                yield block, self._on_output(lambda out, given: self._hidden(at, layer, out, seen), family)
            return
        if self.what == "residual":
            yield from self._branches(at, layer, axis, block, seen)
            return
        has_words = "cross_attention_zero" in family.parts and axis != "temporal"
        parts = [("attention", "self" if axis == "joint" else "time")] * (axis != "spatial")
        for part, kind in [*parts, *[("cross_attention", "cross")] * has_words]:
            for module in family.sublayers(block, part)[:1]:
                yield module, self._on_maps(at, layer, kind, seen)

    def _branches(
        self, at: Pass, layer: int, axis: str, block: Any, seen: dict
    ) -> Iterator[tuple[nn.Module, Callable[..., Any]]]:
        family, of = at.family, "temporal_" if axis == "temporal" else ""

        def on(part: str, *, adds: bool) -> Callable[..., Any]:
            return self._on_output(
                lambda out, given: _store(seen, of + part, layer, rms(by_sample(at, out if adds else out - given))),
                family,
            )

        yield block, on("block", adds=False)
        parts = ("attention", "cross_attention", "feedforward")
        for part in (p for p in parts if f"{p}_zero" in family.parts or p in family.parts):
            for module in family.sublayers(block, part)[:1]:
                yield module, on(part, adds=True)

    @staticmethod
    def _on_output(look: Callable[..., Any], family: Family) -> Callable[..., Any]:
        def make(forward: Callable[..., Any]) -> Callable[..., Any]:
            def looked_at(*args: Any, **kwargs: Any) -> Any:
                output = forward(*args, **kwargs)
                out = output[family.video_stream] if isinstance(output, tuple) else output
                look(out.detach(), (args[0] if args else kwargs["hidden_states"]).detach())
                return output

            return looked_at

        return make

    def _hidden(self, at: Pass, layer: int, out: Tensor, seen: dict) -> None:
        """RMS of the stream frame by frame, and how far it went since the last step that was watched."""
        out = unfolded(at, out, at.grid.frames)
        _store(seen, "norm", layer, (out.float() ** 2).mean((2, 3)) ** 0.5)
        before: Any = at.memory.get((self, "before", layer))
        at.memory[self, "before", layer] = out.clone()
        if before is None or before.shape != out.shape:
            _store(seen, "change", layer, out.new_full((len(out),), math.nan).float())
            return
        apart, length = ((x.float() ** 2).flatten(1).sum(1) ** 0.5 for x in (out - before, before))
        _store(seen, "change", layer, apart / length)

    def _on_maps(self, at: Pass, layer: int, kind: str, seen: dict) -> Callable[..., Any]:
        text = at.family.text_tokens if kind == "self" else "none"
        grid = at.grid if at.args or at.kwargs else None

        def answer(
            kernel: Callable[..., Tensor], query: Any, key: Any, value: Any, attn_mask: Any = None, **rest: Any
        ) -> Tensor:
            attention = Attention(query, key, value, attn_mask, rest, kernel, grid, text)
            if kind == "self":
                if len(query) < at.piece[1] or ("frames", layer) in seen:
                    raise GuidanceError(
                        f"{at.family.name} models attend to the samples of a batch one by one, so their maps cannot be told apart. Watch "
                        "hidden or residual: lab.Watch(layers, 'hidden')."
                    )
                self._self_maps(at, layer, attention, seen)
            elif kind == "time":
                for name, values in zip(("frames", "entropy"), between_frames(at, attention, CELLS), strict=True):
                    _store(seen, name, layer, values)
            elif len(query) > rows_of(at):
                if key.shape[2] > 1:  # a picture's embedding is one word, which everything looks at
                    _store(seen, "words", layer, self._folded_words(at, attention))
            elif ("words", layer) not in seen:  # pictures have a kernel call of their own after the text's, or before
                _store(
                    seen,
                    "words",
                    layer,
                    self._word_maps(at, attention, slice(0, key.shape[2]), slice(0, query.shape[2])),
                )
            return attention()

        def make(forward: Callable[..., Any]) -> Callable[..., Any]:
            def looked_at(*args: Any, **kwargs: Any) -> Any:
                with intercepted(answer):
                    return forward(*args, **kwargs)

            return looked_at

        return make

    def _self_maps(self, at: Pass, layer: int, attention: Attention, seen: dict) -> None:
        """Frame by frame: where the attention of a frame's tokens goes, and its entropy in nats; means over tokens and heads."""
        import torch

        frames, video = attention.place.frames, attention.video
        places = attention.place.size // frames
        rows = self._rows(attention)
        to, entropy = [], []
        for first in range(0, attention.place.size, rows):
            part = slice(video.start + first, min(video.start + first + rows, video.start + attention.place.size))
            weights = _concerned(at, attention.map(part)).float()
            to.append(weights[..., video].unflatten(-1, (frames, places)).sum(-1).mean(1))
            entropy.append(-(weights * weights.clamp(min=1e-30).log()).sum(-1).mean(1))
        _store(seen, "frames", layer, torch.cat(to, 1).unflatten(1, (frames, places)).mean(2))
        _store(seen, "entropy", layer, torch.cat(entropy, 1).unflatten(1, (frames, places)).mean(2))
        if attention.text != "none":
            _store(seen, "words", layer, self._word_maps(at, attention, attention.words, video))

    def _folded_words(self, at: Pass, attention: Attention) -> Tensor:
        """`_word_maps` of a cross-attention with the frames in its batch."""
        maps = words_by_frame(at, attention, CELLS)
        grid = at.family.places(at.grid, "spatial", maps.shape[2])
        return self._pooled(maps.flatten(1, 2), replace(grid, frames=maps.shape[1]))

    def _word_maps(self, at: Pass, attention: Attention, words: slice, video: slice) -> Tensor:
        """How much each place of each frame looks at each word, `(sample, word, frame, y, x)`, a mean over heads; the last word is
        the sum of those that are not kept by themselves."""
        import torch

        grid, rows = attention.place, self._rows(attention)
        found = []
        for first in range(0, grid.size, rows):
            part = slice(video.start + first, min(video.start + first + rows, video.start + grid.size))
            found.append(_concerned(at, attention.map(part)[..., words]).float().mean(1))
        return self._pooled(torch.cat(found, 1), grid)

    def _pooled(self, maps: Tensor, grid: Grid) -> Tensor:
        """Maps `(sample, token, word)` as `(sample, word, frame, y, x)`, with few words and places."""
        import torch

        kept = min(self.words_kept, maps.shape[-1])
        maps = torch.cat([maps[..., :kept], maps[..., kept:].sum(-1, keepdim=True)], -1)
        maps = maps.movedim(-1, 1).unflatten(2, (grid.frames, grid.height, grid.width))
        size = (min(grid.height, SIDE), min(grid.width, SIDE))
        pooled = torch.nn.functional.adaptive_avg_pool2d(maps.flatten(0, 2)[:, None], size)
        return pooled.unflatten(0, maps.shape[:3])[:, :, :, 0]

    @staticmethod
    def _rows(attention: Attention) -> int:
        """How many queries are looked at together."""
        batch, heads = attention.query.shape[:2]
        return max(1, CELLS // (batch * heads * attention.key.shape[2]))


def rms(x: Tensor) -> Tensor:
    """Root mean square of each sample."""
    return (x.float() ** 2).flatten(1).mean(1) ** 0.5


def _concerned(at: Pass, x: Tensor) -> Tensor:
    index, count = at.piece
    return x.chunk(count)[index]


def _store(seen: dict, name: str, layer: int, values: Tensor) -> None:
    seen[name, layer] = values.detach()


@dataclass(frozen=True, init=False)
class Watch(Edit):
    """Look into layers of the pipeline's own pass under the caption, at every step, without acting.

    The bits of the run are the same with it and without. What is seen is reduced on the way and lies in the recording, in
    arrays of a few numbers for each step and layer (`lab.analysis.watched`):

    - "attention": `frames (step, layer, sample, frame, to)`, how much of the self-attention of a frame's tokens goes to each
      frame; its `entropy (step, layer, sample, frame)`; and `words (step, layer, sample, word, frame, y, x)`, how much each place
      looks at each word. Over frames (and, where text is in the same attention, words) a map adds up to one.
      In models with blocks for space and for time, frames are those of attention over time, place by place.
    - "hidden": `norm (step, layer, sample, frame)`, RMS of the stream after a layer, and `change (step, layer, sample)`, its
      distance from the step before, relative.
    - "residual": RMS of what `attention`, `cross_attention` and `feedforward` give (before gates), and of what the whole `block` adds;
      blocks for time have arrays of their own, `temporal_attention` and so on.

    Args:
        layers: block numbers from 0.
        what: "attention", "hidden" or "residual".
        words: how many words have maps of their own, from the first token on; the rest is summed up.
        every: look at every so many steps, the first among them; maps of long videos take time.
    """

    def __init__(
        self,
        layers: Any = None,
        what: str = "attention",
        *,
        words: int = 64,
        every: int = 1,
        weak: Look | None = None,
        **window: Any,
    ) -> None:
        if any(
            window.get(name, default) not in (default,)
            for name, default in (("start", 0.0), ("stop", 1.0), ("sigma", None))
        ):
            raise GuidanceError(
                "a Watch has no window: what it keeps is laid out at the first step. Look at fewer steps with every=2."
            )
        look = Look(layers, what=what, words_kept=words, every=every) if weak is None else weak
        super().__init__(look)

    def _with(self, rule: Rule) -> Any:
        raise GuidanceError(f"a Watch never acts, so {rule} would do nothing.")

    def __str__(self) -> str:
        look: Any = self.weak
        options = {"what": (look.what, "attention"), "words": (look.words_kept, 64), "every": (look.every, 1)}
        given = "".join(f", {name}={value!r}" for name, (value, default) in options.items() if value != default)
        return f"Watch({list(look.layers)}{given})"


TERMS["Watch"] = Watch
