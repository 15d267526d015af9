"""What `lab.describe(pipe).recommended` tells of an embedded model: the choice, and what fresh videos say of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stg_lab.evidence.claim import Bench
from stg_lab.evidence.subjects import STEPS
from stg_lab.evidence.tables import NONE
from stg_lab.recommended import FILE


def recommend(bench: Bench, folder: Path) -> Path:
    """Write a model's recommendation beside its weights: the weak model that was chosen, with the numbers of the test videos, which
    took no part in choosing it; and how many videos it repairs and breaks, with the clearest repair as an example.

    Args:
        folder: of the model.
    """
    none, stg, weak = bench(NONE), bench(bench.who.stg()), bench.who.best()
    before, after, gain = none.mean("right").value, stg.mean("right").value, stg.minus(none, "right")
    mended = stg.mended(none)
    better = np.where(mended, stg["log_probability"] - none["log_probability"], -np.inf)
    example, call = int(better.argmax()), bench.who.call(0, none.videos)
    found: dict[str, Any] = {
        "weak": str(weak),
        "because": f"{after:.0%} of {none.videos} videos right instead of {before:.0%} without guidance, a difference of "
        f"{100 * gain.value:.0f} points ({100 * gain.low:.0f} to {100 * gain.high:.0f}); {STEPS} steps, chosen by outcome on other "
        "captions and seeds",
        "steps": STEPS,
    }
    if mended.any() and "prompt" in call:
        found["repair"] = {
            "repaired": int(mended.sum()),
            "broken": int(none.mended(stg).sum()),
            "of": none.videos,
            "example": {"caption": call["prompt"][example], "seed": example},
        }
    file = folder / FILE
    file.write_text(json.dumps(found, indent=1) + "\n")
    return file
