"""Other tools' arithmetic, written a second time from their sources: what settings mean to the tool that reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: A weak prediction by the layers that are skipped.
Skipped = Callable[[tuple[int, ...]], Array]


def guider_prediction(guider: Any, step: int, steps: int, by_name: dict[str, torch.Tensor]) -> torch.Tensor:
    """What a guider of diffusers makes of predictions, through its own methods; no model is run."""
    guider.set_state(step=step, num_inference_steps=steps, timestep=torch.tensor(0))
    batches = guider.prepare_inputs({"encoder_hidden_states": (torch.zeros(1), torch.zeros(1))})
    for batch in batches:
        batch.noise_pred = by_name[getattr(batch, guider._identifier_key)]
    return guider(batches).pred


def ltx_prediction(text: str, t: float, c: Array, u: Array, p: Skipped) -> Array:
    """One step of LTX-Video's pipeline at timestep t, from the lines of a YAML file; one sample."""
    settings = yaml.safe_load(text)
    bounds = settings.get("guidance_timesteps")
    at = 0 if bounds is None else next((i for i, bound in enumerate(bounds) if bound <= t), len(bounds) - 1)

    def now(name: str) -> Any:
        value = settings[name]
        if name == "skip_block_list":
            return value[at] if value and isinstance(value[0], list) else value
        return value[at] if isinstance(value, list) else value

    g, s, r = now("guidance_scale"), now("stg_scale"), now("rescaling_scale")
    v = c
    if g > 1:
        if settings["cfg_star_rescale"]:
            u = u * (c * u).sum() / ((u * u).sum() + 1e-8)
        v = u + g * (c - u)
    if s > 0:
        v = v + s * (c - p(tuple(now("skip_block_list"))))
        if r != 1.0:
            v = v * (r * c.std() / v.std() + (1 - r))
    return v


def percent_to_sigma(percent: float, shift: float) -> float:
    """Of ComfyUI's flow models."""
    if percent <= 0:
        return 1.0
    time = 1 - percent
    return 0.0 if percent >= 1 else shift * time / (1 + (shift - 1) * time)


def comfyui_denoised(nodes: dict[str, Any], sigma: float, shift: float, c: Array, u: Array, p: Skipped) -> Array:
    """What the guider at the end of a chain of nodes gives; c, u and p are x0 of a whole batch."""
    *before, (_, guider) = sorted(nodes.items(), key=lambda item: int(item[0]))
    for number, node in nodes.items():  # each is fed by the one before
        assert node["inputs"].get("model", ["0", 0]) == [str(int(number) - 1), 0]
    inputs = guider["inputs"]
    if guider["class_type"] == "CFGGuider":
        denoised = c if math.isclose(inputs["cfg"], 1) else u + inputs["cfg"] * (c - u)
        for _, node in before:
            denoised = _skip_layer_node(node, denoised, sigma, shift, c, p)
        return denoised
    if guider["class_type"] == "STGGuider":
        [(_, applied)] = before
        assert applied["class_type"] == "LTXVApplySTG"
        layers = tuple(int(i) for i in applied["inputs"]["block_indices"].split(","))
        return _stg(c, u, p, inputs["cfg"], inputs["stg"], inputs["rescale"], layers)
    return _advanced(inputs, sigma, c, u, p)


def _skip_layer_node(node: dict[str, Any], denoised: Array, sigma: float, shift: float, c: Array, p: Skipped) -> Array:
    i = node["inputs"]
    assert node["class_type"] == "SkipLayerGuidanceDiT"
    assert i["single_layers"] == ""
    begin, end = (percent_to_sigma(i[f"{name}_percent"], shift) for name in ("start", "end"))
    if i["scale"] > 0 and end < sigma <= begin:
        denoised = denoised + (c - p(tuple(map(int, re.findall(r"\d+", i["double_layers"]))))) * i["scale"]
        if i["rescaling_scale"] != 0:
            denoised = denoised * (i["rescaling_scale"] * c.std() / denoised.std() + (1 - i["rescaling_scale"]))
    return denoised


def _advanced(i: dict[str, Any], sigma: float, c: Array, u: Array, p: Skipped) -> Array:
    assert i["cfg_star_rescale"] is False
    assert i["apply_apg"] is False
    assert sigma <= i["skip_steps_sigma_threshold"]
    sigmas, cfg, stg, rescale = (
        [float(x) for x in i[name].split(",")]
        for name in ("sigmas", "cfg_values", "stg_scale_values", "stg_rescale_values")
    )
    layers = [tuple(map(int, re.findall(r"\d+", each))) for each in re.findall(r"\[[^\]]*\]", i["stg_layers_indices"])]
    assert len(sigmas) == len(cfg) == len(stg) == len(rescale) == len(layers)
    higher = [x for x in sigmas if x >= sigma]
    k = sigmas.index(min(higher)) if higher else -1
    return _stg(c, u, p, cfg[k], stg[k], rescale[k], layers[k])


def _stg(c: Array, u: Array, p: Skipped, cfg: float, stg: float, rescale: float, layers: tuple[int, ...]) -> Array:
    x = c + (cfg - 1) * (c - u) + (0 if math.isclose(stg, 0) else stg * (c - p(layers)))
    return x if rescale == 0 else x * (rescale * c.std() / x.std() + (1 - rescale))
