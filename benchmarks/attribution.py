"""First-order attribution beside the exact sweep, on the embedded model: how well it ranks the layers, and at what price.

`lab.ablate` pays a weak pass for every layer and part; `lab.attribute` one backward pass for all of them, or one for each
random direction where norms are wanted. Rank correlations are Spearman's, with a bootstrap 95 % interval over the samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

import stg_lab as lab

STEPS, WANTED, PROBES = 24, [4, 10, 16], 16
PARTS = ("block", "attention_zero", "feedforward")
CAPTIONS = [
    "a red seven moving left",
    "a blue two growing",
    "a green zero turning",
    "a yellow four standing still",
    "a white nine bouncing",
    "a red three moving up",
    "a blue eight moving right",
    "a green five moving down",
]
SHOWN = ("rms", "ratio", "cosine_cfg", "x0_distance", "spatial_energy", "temporal_energy", "sharpness_lost")


def measure() -> dict[str, Any]:
    """Correlations by target and step, seconds of each way, and the exact scores, means over the samples."""
    pipe = lab.load("digits-joint")
    pipe.set_progress_bar_config(disable=True)
    call: dict[str, Any] = {"step": WANTED, "prompt": CAPTIONS, "num_inference_steps": STEPS, "guidance_scale": 4.0}
    call |= {"output_type": "latent", "progress": False}
    seconds: dict[str, float] = {}

    def timed(name: str, run: Callable[[], xr.Dataset]) -> xr.Dataset:
        start = time.perf_counter()
        ds = run()
        seconds[name] = time.perf_counter() - start
        return ds

    exact = timed("exact sweep", lambda: lab.ablate(pipe, parts=PARTS, axes="joint", keep_x0=False, **call))
    along = timed("attribution along CFG", lambda: lab.attribute(pipe, parts=PARTS, **call))
    cond = timed("attribution along c", lambda: lab.attribute(pipe, parts=PARTS, along="cond", **call))
    norms = timed(
        f"attribution, {PROBES} probes", lambda: lab.attribute(pipe, parts=PARTS, probes=PROBES, along="cond", **call)
    )
    exact = exact.sel(axis="joint", drop=True)
    pairs = {
        "projection on CFG's vector": (exact.l2 * exact.cosine_cfg, along.projection),
        "size of that projection": (abs(exact.l2 * exact.cosine_cfg), abs(along.projection)),
        "projection on c": (exact.l2 * exact.cosine_cond, cond.projection),
        f"norm, {PROBES} probes": (exact.l2, norms.l2),
    }
    return {
        "model": "digits-joint",
        "steps": WANTED,
        "of": STEPS,
        "captions": CAPTIONS,
        "parts": list(PARTS),
        "layers": exact.layer.values.tolist(),
        "seconds": seconds,
        "rank_correlation": {name: _correlations(*pair) for name, pair in pairs.items()},
        "exact": {name: np.round(exact[name].mean("sample").values, 5).tolist() for name in SHOWN},
    }


def _correlations(exact: xr.DataArray, estimated: xr.DataArray) -> dict[str, Any]:
    """(rho, low, high) at each step: of all parts together, and of each part among its own layers."""
    found = {"all parts": lab.analysis.rank_correlation(exact, estimated)}
    for part in PARTS:
        pair = (a.sel(part=[part]) for a in (exact, estimated))
        found[part] = lab.analysis.rank_correlation(*pair)
    return {
        which: {str(int(s)): [round(float(ds[n].sel(step=s)), 4) for n in ("rho", "low", "high")] for s in ds.step}
        for which, ds in found.items()
    }


def table(result: dict[str, Any]) -> str:
    """Correlations with their intervals, seconds, and the exact scores."""
    lines = [f"{name:<28} {value:>7.1f} s" for name, value in result["seconds"].items()]
    lines += ["", f"{'rank correlation':<28} {'among':<15} " + "".join(f"step {s:<22}" for s in result["steps"])]
    for name, by_part in result["rank_correlation"].items():
        for part, by_step in by_part.items():
            cells = (f"{rho:>5.2f} ({low:.2f} to {high:.2f})" for rho, low, high in by_step.values())
            lines.append(f"{name:<28} {part:<15} " + "".join(f"{cell:<27}" for cell in cells))
    for k, step in enumerate(result["steps"]):
        lines += ["", f"{f'exact, step {step}':<28} " + "".join(f"{name:>16}" for name in SHOWN)]
        for j, part in enumerate(result["parts"]):
            for i, layer in enumerate(result["layers"]):
                row = "".join(f"{result['exact'][name][k][i][j]:>16.3f}" for name in SHOWN)
                lines.append(f"{f'{part} {layer}':<28} {row}")
    return "\n".join(lines)
