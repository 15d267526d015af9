"""The list of metrics: what each is called, which function it is, its unit, range, direction and source."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """One metric. `higher_is_better` is None where neither end is better by itself.

    `quality` is False where a spoilt video can have the better value (docs/metrics.md has the figures): such a metric says something
    about a video, and not how good it is.
    """

    name: str
    function: str  # "module:function" inside stg_lab.metrics
    unit: str
    range: str
    higher_is_better: bool | None
    source: str
    of: str  # "video", "extra" (video, by the extra `metrics`), "digits" (video of that world), "latents", "caption", "pair",
    # "group" (each other), "set" (a reference)
    quality: bool = True

    @property
    def better(self) -> str:
        """Which end is better: "higher", "lower", or nothing where the metric says neither or nothing about quality."""
        return {True: "higher", False: "lower", None: ""}[self.higher_is_better if self.quality else None]

    def load(self) -> Callable[..., Any]:
        """The function itself."""
        module, name = self.function.split(":")
        return getattr(importlib.import_module(f"stg_lab.metrics.{module}"), name)


def _rows() -> list[Metric]:
    vbench, naeem = "after VBench, Huang et al. 2024", "Naeem et al. 2020"
    return [
        Metric("flow_motion", "motion:flow_motion", "frame heights per clip", "0 up", None, f"Farneback 2003; {vbench}", "video"),
        Metric("smoothness", "motion:smoothness", "1 - error of 255", "0 to 1", True, vbench, "video", quality=False),
        Metric("flicker", "pixels:flicker", "1 - difference of 255", "0 to 1", True, "VBench, Huang et al. 2024", "video", quality=False),
        Metric("laplacian_variance", "pixels:laplacian_variance", "squared brightness", "0 up", None, "Pech-Pacheco et al. 2000", "video"),
        Metric("spectral_slope", "pixels:spectral_slope", "exponent of frequency", "about -6 to 0", None, "Field 1987", "video"),
        Metric("saturation", "pixels:saturation", "chroma", "0 to 1", None, "C of HSV", "video"),
        Metric("clipped", "pixels:clipped", "share of values", "0 to 1", False, "own", "video", quality=False),
        Metric("contrast", "pixels:contrast", "brightness", "0 to 0.5", None, "Peli 1990", "video"),
        Metric("niqe", "natural:niqe", "distance in features", "0 up", False, "Mittal et al. 2013", "extra"),
        Metric("perceptual_change", "perceptual:perceptual_change", "ST-LPIPS per frame", "0 up", None, "Ghildyal and Liu 2022", "extra"),
        Metric("perceptual_distance", "perceptual:perceptual_distance", "ST-LPIPS", "0 up", None, "Ghildyal and Liu 2022", "pair"),
        Metric("latent_variance", "pixels:latent_variance", "squared latents", "0 up", None, "own", "latents"),
        Metric("ink_motion", "motion:ink_motion", "frame heights per clip", "0 up", None, "own; digits world", "digits"),
        Metric("nearest_scan", "judged:nearest_scan", "cosine", "0 to 1", None, "own; digits world", "digits"),
        Metric("caption_accuracy", "judged:caption_accuracy", "share of clips", "0 to 1", True, "the judge", "caption"),
        Metric("caption_probability", "judged:caption_probability", "probability", "0 to 1", True, "the judge, calibrated", "caption"),
        Metric("pixel_diversity", "diversity:pixel_diversity", "RMS difference", "0 to 1", True, "own", "group"),
        Metric("feature_diversity", "diversity:feature_diversity", "distance in features", "0 up", True, "own", "group"),
        Metric("vendi_score", "sets:vendi_score", "effective clips", "1 to clips", True, "Friedman and Dieng 2023", "group"),
        Metric("frechet_distance", "sets:frechet_distance", "squared features", "0 up", False, "Dowson and Landau 1982; Heusel et al. 2017", "set"),
        Metric("precision", "sets:precision", "share of clips", "0 to 1", True, "Kynkaanniemi et al. 2019", "set"),
        Metric("recall", "sets:recall", "share of reference", "0 to 1", True, "Kynkaanniemi et al. 2019", "set"),
        Metric("density", "sets:density", "reference clips per k", "0 up", True, naeem, "set"),
        Metric("coverage", "sets:coverage", "share of reference", "0 to 1", True, naeem, "set"),
        Metric("nearest", "sets:nearest", "distance in features", "0 up", None, "after Meehan et al. 2020", "set"),
    ]  # fmt: skip


METRICS: dict[str, Metric] = {metric.name: metric for metric in _rows()}
ALSO = tuple(metric.name for metric in METRICS.values() if metric.of in ("extra", "pair"))


def describe() -> str:
    """The list as text, one metric a line."""
    head = ("metric", "unit", "range", "better", "source")
    rows = [head, *((m.name, m.unit, m.range, m.better or "-", m.source) for m in METRICS.values())]
    return f"{aligned(rows)}\n\nmeasured where --also names them: {', '.join(ALSO)}"


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of text in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
