"""The weak model that outcomes chose for a model: kept beside its weights, told by `lab.describe`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stg_lab.errors import GuidanceError
from stg_lab.families import Description as Facts
from stg_lab.families import describe_pipeline
from stg_lab.weak import parse

if TYPE_CHECKING:
    from stg_lab.weak import Weak

FILE = "recommended.json"  # in a model's folder


@dataclass(frozen=True)
class Description(Facts):
    """Facts about one pipeline, as rows of (what, value). `str()` gives text; Jupyter shows a table.

    Attributes:
        recommended: the weak model with which most videos came right when many were sampled, of all that were tried; None for
            a model of which that is not known.
    """

    recommended: Weak | None = None


def describe(pipe: Any) -> Description:
    """What a pipeline is and what can be skipped in it: family, layers, parts, axes, CFG form, latent layout; and for models
    whose videos were scored, the weak model to start with (`.recommended`).

    Prints well in a terminal and shows as a table in Jupyter.

    Raises:
        UnsupportedPipelineError: no family knows it.
        GuidanceError: the recommendation beside its weights cannot be read.
    """
    facts = describe_pipeline(pipe)
    found = recommendation(pipe)
    if found is None:
        return Description(**vars(facts))
    weak = parse(found["weak"])
    row = ("recommended", f"lab.STG(1, {weak!r}): {found['because']}")
    return replace(Description(**vars(facts)), rows=(*facts.rows, row), recommended=weak)


def recommendation(pipe: Any) -> dict[str, Any] | None:
    """What is kept beside a model's weights about the weak model to use: its specification ("weak"), the numbers that speak for
    it in a sentence ("because"), and how it was chosen. None where nothing is kept.

    Raises:
        GuidanceError: the file cannot be read.
    """
    folder = getattr(pipe, "name_or_path", None) or getattr(getattr(pipe, "config", None), "_name_or_path", None)
    file = Path(folder) / FILE if folder else None
    if file is None or not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        parse(found["weak"])
        return {**found, "because": str(found["because"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, GuidanceError) as error:
        raise GuidanceError(
            f"{file} does not say which weak model is recommended ({type(error).__name__}: {error}). Delete it, or write "
            '{"weak": "skip:block:4", "because": "..."} into it.'
        ) from None
