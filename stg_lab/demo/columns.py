"""The columns of the demo: the same captions and seeds, sampled under each guidance, and what the judge sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stg_lab.guidance import Guidance
from stg_lab.metrics import caption_accuracy, caption_probability
from stg_lab.report import Column
from stg_lab.sampling import Plan, Run, plan, sample


@dataclass(frozen=True)
class Sampled:
    """One column.

    Attributes:
        run: its videos, and where asked for their recording.
        shown: the same for the page.
        rows: passes through the network for each video and step.
        cost: the same with what is reused left out.
    """

    run: Run
    shown: Column
    rows: float
    cost: float


def sample_columns(
    pipe: Any,
    guidances: Mapping[str, Guidance],
    captions: Sequence[str],
    *,
    judged: bool,
    places: Mapping[str, Path],
    **call: Any,
) -> dict[str, Sampled]:
    """Sample the captions once for each guidance, from the same seeds.

    Args:
        guidances: by heading.
        judged: whether the captions are of the digits world, so that its judge can be asked.
        places: where to record, by heading; the others are not recorded.
        **call: for `lab.sample`.

    Raises:
        LabError: what `lab.plan` refuses, of any column, before the first is sampled.
    """
    call = {**call, "prompt": list(captions)}
    plans = {name: plan(pipe, total, record=places.get(name, False), **call) for name, total in guidances.items()}
    found = {}
    for name, total in guidances.items():
        pipe.set_progress_bar_config(desc=f"{name:<11}", leave=True)
        run = sample(pipe, guidance=total, record=places.get(name, False), **call)
        right = caption_accuracy(run.video, captions) if judged else {}
        probability = caption_probability(run.video, captions) if judged else {}
        shown = Column(name, str(total), run.video, right, probability)
        found[name] = Sampled(run, shown, *_passes(plans[name], len(captions)))
    return found


def _passes(planned: Plan, samples: int) -> tuple[float, float]:
    """Passes for each video and step: all, and with what is reused left out."""
    each = len(planned.steps) * samples
    return planned.rows / each, planned.cost / each
