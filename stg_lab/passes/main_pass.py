"""What is done to the pipeline's own pass under the caption while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from stg_lab.errors import GuidanceError
from stg_lab.guidance import COND
from stg_lab.patch import Hits, in_place, plain_around, uncompiled, watched
from stg_lab.weak import Pass, Weak


class MainPass:
    """Holds edits in place from just before the pipeline's own call until whoever asked for them lets go.

    Attributes:
        editing: whether the call that is on its way, or was made last, was under an edit.
    """

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._hits: dict[Weak, Hits] = {}
        self.editing = False

    def begin(self, at: Pass, branches: tuple[str, ...], edits: Sequence[Weak]) -> None:
        """Put edits in place for a coming call that computes these branches, of which one may be under the caption.

        Raises:
            GuidanceError: the call computes others besides, which the edit cannot leave alone.
        """
        self.end()
        self.editing = COND in branches and bool(edits)
        if not self.editing:
            return
        if len(branches) > 1 and (whole := [edit for edit in edits if not edit.by_rows]):
            raise GuidanceError(
                f"{whole[0]} edits every row of a call, and {at.family.name} pipelines compute {' and '.join(branches)} in one. Edit "
                "with lab.nag, lab.enhance or lab.pladis, or take the edit as a weak model: lab.STG(scale, weak)."
            )
        at = replace(at, piece=(branches.index(COND), len(branches)))
        there = self._open.enter_context(watched())
        for edit in edits:
            self._hits[edit] = self._open.enter_context(edit.perturb(at))
        changed = [module for module, name, _ in there() if name == "forward"]
        self._open.enter_context(in_place(plain_around(changed, uncompiled(at.denoiser))))

    def check(self) -> None:
        """Raise `GuidanceError` where the call went past an edit."""
        for edit, hits in self._hits.items():
            if unreached := [place for place, count in hits.items() if not count]:
                raise GuidanceError(
                    f"{edit}: {', '.join(unreached)} was never reached in the pipeline's own pass, so nothing was edited there. The "
                    "pipeline bypasses it (a step cache or another attention backend?)."
                )

    def end(self) -> None:
        """Take the edits away."""
        self._hits = {}
        self._open.close()
