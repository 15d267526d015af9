"""Editing attention: every `scaled_dot_product_attention` of chosen self-attentions is answered by a function of ours.

An edit sees queries, keys and values as the kernel gets them: after projection, normalisation and rotary embedding, in
`(batch, head, token, channel)`. So it works on any attention of any family, and what is not reached this way (another
attention backend, linear attention) is counted as never reached and raises.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.patch import Hits, replaced_forward
from stg_lab.undone import stacked, undone
from stg_lab.weak.base import AXES, Layered, Pass, in_range, one_of
from stg_lab.weak.layers import format_layers, whole_numbers

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stg_lab.families import Family, Grid


@dataclass(frozen=True)
class Attention:
    """One attention call.

    Attributes:
        query, key, value: `(batch, head, token, channel)`.
        mask: as the kernel takes it, broadcast against `(batch, head, query token, key token)`; or None.
        options: the kernel's other arguments (scale, dropout).
        kernel: the real `scaled_dot_product_attention`.
        grid: how the video tokens lie, frame by frame, row by row; None where the family does not know.
        text: where text tokens lie among them: "none", "first" or "last".
        label: which attention it is, by its place in the network and the number of its call there.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    options: dict[str, Any]
    kernel: Callable[..., Tensor]
    grid: Grid | None
    text: str = "none"
    label: tuple[str, int] = ("", 1)

    def __call__(self, query: Any = None, key: Any = None, value: Any = None, mask: Any = None) -> Tensor:
        """The real attention, of the call's own tensors or of others; other tensors come with their own mask."""
        if query is None and key is None:
            return self.kernel(self.query, self.key, self.value, attn_mask=self.mask, **self.options)
        return self.kernel(query, key, value, attn_mask=mask, **self.options)

    @property
    def place(self) -> Grid:
        """The grid.

        Raises:
            GuidanceError: the family does not know it.
        """
        if self.grid is None:
            raise GuidanceError(
                "the lab does not know how the video tokens of this pipeline lie, so its attention cannot be edited by place. "
                "Identity attention needs no place: lab.skip(layers, part='attention')."
            )
        return self.grid

    @property
    def video(self) -> slice:
        """Which tokens are video.

        Raises:
            GuidanceError: there are fewer or more tokens than the grid and the text account for.
        """
        tokens, size = self.query.shape[2], self.place.size
        if tokens < size or (self.text == "none" and tokens != size) or self.key.shape[2] != tokens:
            raise GuidanceError(
                f"attention over {tokens} tokens ({self.key.shape[2]} keys) cannot be edited by place: the video has "
                f"{size} tokens ({self.grid}). The pipeline packs its tokens in a way that the lab does not know."
            )
        return slice(tokens - size, tokens) if self.text == "first" else slice(0, size)

    @property
    def words(self) -> slice:
        """Which tokens are text; an empty slice where there are none."""
        tokens, size = self.query.shape[2], self.place.size
        return slice(0, tokens - size) if self.text == "first" else slice(size, tokens)

    def each_head(self, x: Tensor) -> Tensor:
        """Keys or values with one head for each query head (grouped-query attention shares them)."""
        shared = self.query.shape[1] // x.shape[1]
        return x if shared == 1 else x.repeat_interleave(shared, dim=1)

    def map(self, rows: slice = slice(None)) -> Tensor:
        """The map of the call, `(batch, head, query token, key token)`, whose rows add up to one; of some of the queries alone
        where that is enough.

        Raises:
            GuidanceError: the attention is causal.
        """
        logits = self.logits(rows)
        return (logits if logits.dtype.itemsize >= 4 else logits.float()).softmax(-1).to(self.value.dtype)

    def logits(self, rows: slice = slice(None)) -> Tensor:
        """What the map is the softmax of; minus infinity where the mask hides. Raises as `map`."""
        if self.options.get("is_causal"):
            raise GuidanceError("this attention is causal, and the lab computes the map of such ones nowhere.")
        query = self.query[:, :, rows] * (self.options.get("scale") or self.query.shape[-1] ** -0.5)
        logits = query @ self.each_head(self.key).transpose(-1, -2)
        if self.mask is None:
            return logits
        mask = self.mask if self.mask.ndim < 2 or self.mask.shape[-2] == 1 else self.mask[..., rows, :]
        return logits + mask if mask.is_floating_point() else logits.masked_fill(~mask, -float("inf"))

    def keys_mask(self) -> Tensor | None:
        """The mask as one row for all video queries, `(batch or 1, 1, 1, key token)`.

        Raises:
            GuidanceError: the mask differs between video queries or between heads, or the attention is causal.
        """
        if self.options.get("is_causal"):
            raise GuidanceError("this attention is causal, which an edit by place does not know how to keep.")
        if self.mask is None:
            return None
        mask = self.mask[(None,) * (4 - self.mask.ndim)]
        if (
            mask.shape[2] != 1
        ):  # HunyuanVideo 1.5 hides keys from words that are padding, so that only their rows differ
            rows = mask[:, :, self.video]
            mask = rows[:, :, :1] if (rows == rows[:, :, :1]).all() else mask
        if mask.shape[1] != 1 or mask.shape[2] != 1:
            raise GuidanceError(
                f"this attention has a mask of shape {tuple(self.mask.shape)} that differs between queries or heads; "
                "an edit by place does not know how to keep it."
            )
        return mask.expand(-1, -1, -1, self.key.shape[2])

    def of_rows(self, rows: slice) -> Tensor:
        """The true attention of some of the queries."""
        mask = self.keys_mask()
        if self.mask is not None and self.mask.ndim > 1 and self.mask.shape[-2] != 1:
            mask = self.mask[..., rows, :]
        return self(self.query[:, :, rows], self.key, self.value, mask)

    def with_video(self, video: Tensor) -> Tensor:
        """A whole output: `video` for the video tokens, the true attention for the text tokens."""
        import torch

        if self.text == "none":
            return video
        words = self.of_rows(self.words)
        return torch.cat([words, video] if self.text == "first" else [video, words], dim=2)

    def with_query(self, query: Tensor) -> Tensor:
        """The true attention of other queries, one for every token."""
        return self(query, self.key, self.value, self.mask)


Edit = Callable[[Attention], "Tensor"]


@dataclass(frozen=True, repr=False)
class AttentionEdit(Layered):
    """Base of the weak models that edit self-attention; a subclass gives `edit`.

    Attributes:
        axis: which tokens are concerned, see the subclass.
        heads: which heads are edited (numbers from 0); None for all (HeadHunter, Ahn et al. 2025).
        strength: t of the mixture `(1 - t) attention + t edited`; 1 is the edit alone (SoftPAG's tau, same source).
    """

    axis: str = field(default="joint", kw_only=True)  # type: ignore[misc]
    heads: tuple[int, ...] | None = field(default=None, kw_only=True)
    strength: float = field(default=1.0, kw_only=True)

    axes: ClassVar[tuple[str, ...]] = AXES

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("axis", self.axis, self.axes)
        object.__setattr__(self, "strength", in_range("strength", self.strength, 0, 1))
        if self.heads is not None:
            object.__setattr__(self, "heads", whole_numbers(self.heads, "heads", "heads=[0, 3]"))

    def _some(self) -> str:
        """The ending of `words` for an edit of some heads, or in part."""
        heads = "" if self.heads is None else f", head{'s' * (len(self.heads) > 1)} {format_layers(self.heads)} alone"
        return heads + ("" if self.strength == 1 else f", {self.strength:.0%}") + self._under_prompt()

    def edit(self, attention: Attention, at: Pass) -> Tensor:
        """What the attention gives instead, `(batch, head, token, channel)`."""
        raise NotImplementedError

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        super().check(family, component, denoiser)
        count = 0 if self.heads is None else family.heads(denoiser)
        outside = [h for h in self.heads or () if h >= count]
        if outside:
            raise GuidanceError(
                f"head {', '.join(map(str, outside))} is out of range: the attention of {type(denoiser).__name__} has "
                f"{count} heads, 0 to {count - 1}. Type for example {replace(self, heads=(count // 2,))!r}."
            )

    def perturb(self, at: Pass) -> contextlib.AbstractContextManager[Hits]:
        return self._edited(at)

    @contextlib.contextmanager
    def _edited(self, at: Pass) -> Iterator[Hits]:
        hits: Hits = {}
        with stacked() as stack:
            for place, axis, module in self.sublayers("attention", at.family, at.denoiser):
                stack.enter_context(edited(module, self._edit(at), at, axis, hits, f"attention {place}"))
            yield hits

    def _edit(self, at: Pass) -> Edit:
        return lambda attention: mixed(attention, self.edit(attention, at), self.heads, self.strength)


def mixed(attention: Attention, edited: Tensor, heads: tuple[int, ...] | None, strength: float) -> Tensor:
    """The edit on some heads only, or mixed with the true attention."""
    if heads is None and strength == 1:
        return edited
    true = attention()
    chosen = list(range(true.shape[1])) if heads is None else list(heads)
    out = true.clone()
    out[:, chosen] = (
        true[:, chosen] + strength * (edited[:, chosen] - true[:, chosen]) if strength != 1 else edited[:, chosen]
    )
    return out


@contextlib.contextmanager
def edited(module: nn.Module, edit: Edit, at: Pass, axis: str, hits: Hits, place: str) -> Iterator[None]:
    """Answer every attention kernel call of one module with `edit` inside the `with`, and count them under `place`."""
    hits.setdefault(place, 0)
    text = at.family.text_tokens if axis == "joint" else "none"
    _kernel_mode()  # made before the pass, which may run inside a compiler
    try:
        lying = at.grid  # asked before the pass, which may run inside a compiler
    except GuidanceError:
        lying = None  # an edit by place will say so

    def answer(
        kernel: Callable[..., Tensor], query: Any, key: Any, value: Any, attn_mask: Any = None, **rest: Any
    ) -> Tensor:
        hits[place] += 1
        grid = None if lying is None else at.family.places(lying, axis, query.shape[2])
        return edit(Attention(query, key, value, attn_mask, rest, kernel, grid, text, (place, hits[place])))

    def make(forward: Callable[..., Any]) -> Callable[..., Any]:
        def inside_mode(*args: Any, **kwargs: Any) -> Any:
            with intercepted(answer):
                return forward(*args, **kwargs)

        return at.family.attend(module, answer) or inside_mode

    with replaced_forward(module, make, {}, place):
        yield


@contextlib.contextmanager
def intercepted(answer: Callable[..., Tensor]) -> Iterator[None]:
    """Inside the `with`, attention kernel calls are answered by `answer(kernel, query=..., key=..., value=..., ...)`."""
    inside = _kernel_mode()(answer)
    with undone(inside.leave):
        inside.__enter__()
        yield


@functools.cache
def _kernel_mode() -> Any:
    """The torch function mode that hands attention kernel calls over (made late: naming a weak model needs no torch)."""
    import torch
    from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

    kernel = torch.nn.functional.scaled_dot_product_attention
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")

    class KernelMode(TorchFunctionMode):
        def __init__(self, answer: Callable[..., Tensor]) -> None:
            super().__init__()
            self.answer = answer

        def leave(self) -> None:
            """As `__exit__`, and nothing where that has been done."""
            if self in _get_current_function_mode_stack():
                self.__exit__(None, None, None)

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is not kernel:
                return func(*args, **(kwargs or {}))
            return self.answer(kernel, **dict(zip(names, args, strict=False)), **(kwargs or {}))

    return KernelMode
