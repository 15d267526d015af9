"""stg_lab: a laboratory bench for guidance in video diffusion, on stock diffusers pipelines.

    import stg_lab as lab

    pipe = lab.load("digits-joint")
    run = lab.sample(pipe, guidance=lab.CFG(4) + lab.STG(1, lab.skip([5])), prompt="a red seven moving left")
    run.recording.x0("skip")

Names are imported when first used, so that importing the lab costs nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from stg_lab._version import __version__

if TYPE_CHECKING:
    import stg_lab.widgets as widgets
    from stg_lab import analysis, digits, families, figures, gaussians, metrics, plots
    from stg_lab.analysis import advise, compare  # type: ignore[no-redef]
    from stg_lab.errors import CallError, GuidanceError, LabError, RecordingError
    from stg_lab.families import register_family
    from stg_lab.guidance import CFG, STG, CFGpp, Edit, Guidance, Probe, convention
    from stg_lab.interop import export, from_guider, from_json  # type: ignore[no-redef]
    from stg_lab.loading import embedded, load
    from stg_lab.passes import Passes
    from stg_lab.rating import ratings
    from stg_lab.recommended import describe
    from stg_lab.recording import IncompleteRecordingWarning, Recording, open_ablation, pack, recordings
    from stg_lab.recording import open_recording as open
    from stg_lab.report import report  # type: ignore[no-redef]
    from stg_lab.sampling import Plan, Run, Trace, ablate, attach, attribute, decode, fork, guider, plan, rerun, sample  # type: ignore[no-redef]
    from stg_lab.search import open_search, search  # type: ignore[no-redef]
    from stg_lab.suites import prompts
    from stg_lab.weak import (
        blur,
        checkpoint,
        drop,
        early_exit,
        ema,
        empty,
        per_step,
        shuffle,
        skip,
        swap,
        temper,
        window,
    )
    from stg_lab.weak.predictor import rectified_cfg
    from stg_lab.widgets import rate

#: Public name -> (module, name there). A name of None is the module itself.
_PUBLIC: dict[str, tuple[str, str | None]] = {
    "embedded": ("stg_lab.loading", "embedded"),
    "load": ("stg_lab.loading", "load"),
    "describe": ("stg_lab.recommended", "describe"),
    "families": ("stg_lab.families", None),
    "register_family": ("stg_lab.families", "register_family"),
    "CFG": ("stg_lab.guidance", "CFG"),
    "CFGpp": ("stg_lab.guidance", "CFGpp"),
    "STG": ("stg_lab.guidance", "STG"),
    "Probe": ("stg_lab.guidance", "Probe"),
    "Edit": ("stg_lab.guidance", "Edit"),
    "Watch": ("stg_lab.weak.look", "Watch"),
    "Guidance": ("stg_lab.guidance", "Guidance"),
    "convention": ("stg_lab.guidance", "convention"),
    "rectified_cfg": ("stg_lab.weak.predictor", "rectified_cfg"),
    "export": ("stg_lab.interop", "export"),
    "from_guider": ("stg_lab.interop", "from_guider"),
    "from_json": ("stg_lab.interop", "from_json"),
    "weak": ("stg_lab.weak", None),
    "sample": ("stg_lab.sampling", "sample"),
    "attach": ("stg_lab.sampling", "attach"),
    "guider": ("stg_lab.sampling", "guider"),
    "rerun": ("stg_lab.sampling", "rerun"),
    "fork": ("stg_lab.sampling", "fork"),
    "decode": ("stg_lab.sampling", "decode"),
    "ablate": ("stg_lab.sampling", "ablate"),
    "advise": ("stg_lab.analysis", "advise"),
    "compare": ("stg_lab.analysis", "compare"),
    "attribute": ("stg_lab.sampling", "attribute"),
    "search": ("stg_lab.search", None),
    "open_search": ("stg_lab.search", "open_search"),
    "prompts": ("stg_lab.suites", "prompts"),
    "plan": ("stg_lab.sampling", "plan"),
    "Plan": ("stg_lab.sampling", "Plan"),
    "Passes": ("stg_lab.reuse", "Passes"),
    "Run": ("stg_lab.sampling", "Run"),
    "Trace": ("stg_lab.sampling", "Trace"),
    "open": ("stg_lab.recording", "open_recording"),
    "open_ablation": ("stg_lab.recording", "open_ablation"),
    "recordings": ("stg_lab.recording", "recordings"),
    "pack": ("stg_lab.recording", "pack"),
    "report": ("stg_lab.report", None),
    "rate": ("stg_lab.widgets", "rate"),
    "ratings": ("stg_lab.rating", "ratings"),
    "Recording": ("stg_lab.recording", "Recording"),
    "IncompleteRecordingWarning": ("stg_lab.recording", "IncompleteRecordingWarning"),
    "LabError": ("stg_lab.errors", "LabError"),
    "CallError": ("stg_lab.errors", "CallError"),
    "GuidanceError": ("stg_lab.errors", "GuidanceError"),
    "RecordingError": ("stg_lab.errors", "RecordingError"),
    "analysis": ("stg_lab.analysis", None),
    "digits": ("stg_lab.digits", None),
    "figures": ("stg_lab.figures", None),
    "gaussians": ("stg_lab.gaussians", None),
    "metrics": ("stg_lab.metrics", None),
    "plots": ("stg_lab.plots", None),
    "widgets": ("stg_lab.widgets", None),
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC and (name.startswith("_") or _is_room(name) or name not in _weak_models()):
        raise AttributeError(f"module 'stg_lab' has no attribute {name!r}")
    module, attribute = _PUBLIC.get(name, ("stg_lab.weak", name))
    value = importlib.import_module(module)
    if attribute is not None:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def _is_room(name: str) -> bool:
    """Whether it is a module of the package, which Python then imports by itself."""
    return importlib.util.find_spec(f"{__name__}.{name}") is not None


def _weak_models() -> list[str]:
    """Names of the weak models, one file each in `weak/`: `lab.skip`, `lab.blur`, ..."""
    return list(importlib.import_module("stg_lab.weak").KINDS)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_weak_models()})
