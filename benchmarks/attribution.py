"""First-order attribution beside the exact sweep, on the embedded model: how well it ranks the layers, and at what price.

`lab.ablate` pays a weak pass for every layer and part; `lab.attribute` one backward pass for all of them, or one for each
random direction where norms are wanted. Rank correlations are Spearman's, with a bootstrap 95 % interval over the samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

import stg_lab as lab
from benchmarks.timing import interleaved, spread

ROUNDS, STEPS, WANTED, PROBES = 2, 24, [4, 10, 16], 16
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
    probes = f"attribution, {PROBES} probes"
    found: dict[str, xr.Dataset] = {}
    variants: dict[str, Callable[[], Any]] = {
        "the runs down alone": lambda: _down(pipe),
        "exact sweep": lambda: lab.ablate(pipe, parts=PARTS, axes="joint", keep_x0=False, **call),
        "attribution along CFG": lambda: lab.attribute(pipe, parts=PARTS, **call),
        "attribution along c": lambda: lab.attribute(pipe, parts=PARTS, along="cond", **call),
        probes: lambda: lab.attribute(pipe, parts=PARTS, probes=PROBES, along="cond", **call),
    }
    seconds = interleaved(
        {name: lambda name=name, run=run: found.update({name: run()}) for name, run in variants.items()}, ROUNDS
    )
    exact, along, cond, norms = (found[name] for name in list(variants)[1:])
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


def _down(pipe: Any) -> Any:
    """The stock pipeline down to the last state, which every way pays for."""

    def stop(pipe: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step == max(WANTED)
        return given

    sizes = {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 8, "guidance_scale": 4.0}
    return pipe(CAPTIONS, num_inference_steps=STEPS, output_type="latent", callback_on_step_end=stop, **sizes)


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
    lines = [f"{name:<28} {spread(values)} s" for name, values in result["seconds"].items()]
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
