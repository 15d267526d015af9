"""The self-check of a run: what the pipeline really steps with, from which scale, and whether its latents are what it was given."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from stg_lab.families import Family
from stg_lab.guidance import UNCOND, Moment
from stg_lab.sampling.form import Form, changed, find_form, same_bits
from stg_lab.seams import Step


class SelfCheck:
    """What is seen of a run's steps. It wins over what the pipeline says of itself, whose word is taken before the first step.

    Attributes:
        rebuilt: whether CFG rebuilt from the branches equals what the pipeline steps with, bit for bit, at every step so far; None
            before the first one.
        asked: the CFG scale that the run began with; some pipelines change theirs on the way.
        edited: whether somebody changed the latents between the last step and this one.
    """

    def __init__(self, pipe: Any, family: Family) -> None:
        self._pipe, self._family = pipe, family
        self.rebuilt: bool | None = None
        self.asked, self.edited, self._told = 1.0, False, set[str]()
        self._forms: dict[int, Form | None] = {}

    def begin(self, denoiser: str) -> None:
        """A new run."""
        self.rebuilt, self.edited, self._forms = None, False, {}
        self._told.discard("recording only")
        self.asked = float(self._family.scale(self._pipe, denoiser))

    def see(self, step: Step, number: int, index: int, predictions: Mapping[str, Tensor], denoiser: str) -> Form | None:
        """The form of a step: by the family's own arithmetic, or else as it is found; None where it has none that is known.

        Args:
            number: of the step in this run.
            index: of the step in the scheduler's run.
            denoiser: name of the last one that was called.
        """
        own = self._family.scales(self._pipe, denoiser)
        expected = self._family.stock(self._pipe, predictions, own, step.sample, index)
        if same_bits(expected, step.model_output):
            form: Form | None = Form(own)
        else:
            before = self._forms.get(number - 1)
            said = [own, self.asked, *([] if before is None else [before.scale])]
            form = find_form(predictions, step.model_output, step.sample, said)
            if form is not None and not number:
                self.asked = float(form.scale)
        self._forms[number] = form
        self.rebuilt = form is not None and form.exact and self.rebuilt is not False
        return form

    def scales(self, number: int, predictions: Mapping[str, Tensor], denoiser: str, uncond: bool) -> Any:
        """The CFG scale that the pipeline works with at a step, 1 without CFG; a tensor where frames have their own.

        Args:
            predictions: of the step, as far as they are there.
            uncond: whether the run computes the unconditional prediction.
        """
        form = self._forms.get(number)
        if UNCOND not in predictions and (form is not None or not uncond):
            return 1.0
        return self._family.scales(self._pipe, denoiser) if form is None else form.scale

    def by_frame(self, own: Any, denoiser: str) -> Callable[[float], Tensor] | None:
        """The CFG scale of each frame by the call's scale, where frames have their own: where `own`, from `scales`, has them."""
        if not isinstance(own, Tensor) or own.numel() == 1:
            return None
        return lambda scale: self._family.scales(self._pipe, denoiser, scale)

    def knows_x0(self, number: int) -> bool:
        """Whether x0 follows from what was stepped with."""
        return self._forms.get(number, True) is not None

    def tell_once(self, what: str) -> bool:
        """Whether something has not been told yet; it counts as told from here on."""
        new = what not in self._told
        self._told.add(what)
        return new

    def check_edited(self, step: Step, number: int, at: Moment) -> None:
        """Whether somebody changed the latents after the scheduler's last step; told once."""
        stepped = at.stepped if at.given else ...
        before = None if step.came_down is None or number == 0 else step.came_down[stepped]
        self.edited = changed(before, step.sample[stepped])
        if self.edited and self.tell_once("edited"):
            warnings.warn(
                f"the latents were changed between steps {number - 1} and {number}, after the scheduler's step: by a callback, or by "
                f"{type(self._pipe).__name__} itself. Guidance goes on from what it finds; recordings mark such steps (`edited`).",
                stacklevel=2,
            )
