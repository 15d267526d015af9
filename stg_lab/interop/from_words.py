"""Wan2GP's settings, and what people write in threads: "blocks 9,10 start 0.1 end 0.9"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.given import shown
from stg_lab.guidance import CFG, STG, Guidance, convention, number
from stg_lab.weak.skip import Skip

WORDS = re.compile(r"^\s*(?:slg|skip|blocks?|layers?)\b", re.I)
_PAIR = re.compile(r"(blocks?|layers?|start|end|stop|cfg|scale)[\s:=]*((?:\d+\s*,\s*)*[\d.]+)\s*(%?)", re.I)
#: Settings of Wan2GP that change the guidance, with the values at which they do nothing.
OFF: dict[str, tuple[Any, ...]] = {
    "apg_switch": (0,),
    "perturbation_switch": (0,),
    "NAG_scale": (0, 1),
    "guidance_phases": (0, 1),
    "alt_guidance_scale": (0, 1),
}
#: And those that are arguments of the call.
CALL = ("num_inference_steps", "flow_shift", "embedded_guidance_scale", "audio_guidance_scale", "resolution", "video_length", "seed")  # fmt: skip


def is_wan2gp(values: Any) -> bool:
    """Whether these are settings of Wan2GP."""
    return isinstance(values, Mapping) and "guidance_scale" in values and any(
        name in values for name in ("slg_switch", "settings_version", "model_type", "model_filename")
    )  # fmt: skip


def from_wan2gp(values: Mapping[str, Any], steps: int | None, left: list[str]) -> Guidance:
    """The guidance of a settings file. Its skip guidance is convention B, at the steps
    `int(start * n) <= k < int(end * n)`.

    Args:
        steps: how many the run has; else the file says it.
        left: filled with arguments of the call that the file has beside it.

    Raises:
        GuidanceError: it has more than can be said; all reasons at once.

    Source: wgp.py and models/wan/any2video.py of deepbeepmeep/Wan2GP.
    """
    cfg, n = float(values["guidance_scale"]), steps or values.get("num_inference_steps")
    problems = [
        f"{name}={values[name]}" for name, off in OFF.items() if values.get(name) is not None and values[name] not in off
    ]  # fmt: skip
    slg, star = bool(values.get("slg_switch")), bool(values.get("cfg_star_switch"))
    zeros = int(values.get("cfg_zero_step", -1) if values.get("cfg_zero_step") is not None else -1) + 1
    if slg and star:
        problems.append("cfg_star_switch=1 together with slg_switch=1, which scales the weak prediction")
    elif zeros and not star:
        problems.append(f"cfg_zero_step={zeros - 1}")
    if slg and not n:
        problems.append("slg_start_perc and slg_end_perc, which it rounds to steps; say lab.from_json(..., steps=30)")
    if problems:
        raise GuidanceError(f"these settings of Wan2GP cannot be said in full: {'; '.join(problems)}.")
    left += [f"{name}={shown(values[name])}" for name in CALL if values.get(name) not in (None, "", -1)]
    main = CFG(cfg).zero_star(zeros) if star else CFG(cfg)
    if not slg or cfg <= 1:
        left += ["slg_switch=1, which does nothing without CFG"] * slg
        return Guidance((main,)) if cfg > 1 else Guidance()
    first, last = (int(float(values.get(name, d)) / 100 * int(n)) for name, d in (("slg_start_perc", 10), ("slg_end_perc", 90)))  # type: ignore[arg-type]  # fmt: skip
    layers = values.get("slg_layers", [9])
    found = layers if isinstance(layers, list) else re.findall(r"\d+", str(layers))
    weak = Skip(tuple(sorted({int(k) for k in found})))
    return convention("B", weak, cfg=cfg, start=first / int(n), stop=last / int(n))  # type: ignore[arg-type]


def from_words(text: str, cfg: float | None) -> Guidance:
    """What people write in threads: blocks, a window as shares of the steps, and perhaps "cfg 6" and "scale 3". With a scale it is
    convention A, else B, as the skip nodes for Wan have it.

    Raises:
        GuidanceError: no blocks, words that are not read, or no CFG scale where one is needed.
    """
    said = {name.lower().rstrip("s"): (value, percent) for name, value, percent in _PAIR.findall(text)}
    rest = re.sub(
        r"\b(?:slg|skip|and|from|to|at|layer guidance)\b|[;:|/()]|,(?!\d)", " ", _PAIR.sub(" ", text), flags=re.I
    ).split()
    where = said.get("block") or said.get("layer")
    if rest or where is None:
        what = f"it does not read {' '.join(rest)!r}" if rest else "it names no blocks"
        raise GuidanceError(
            f"the lab reads words such as 'blocks 9,10 start 0.1 end 0.9 cfg 6 scale 3'; in {shown(text)} {what}."
        )
    weak = Skip(tuple(sorted({int(float(k)) for k in where[0].split(",")})))
    start, stop = (_share(*said[name]) if name in said else d for name, d in (("start", 0.0), ("end", _end(said))))
    main = float(said["cfg"][0]) if "cfg" in said else cfg
    if "scale" in said:
        term = STG(float(said["scale"][0]), weak, start=start, stop=stop)
        return Guidance((term,)) if main in (None, 1) else CFG(main) + term  # type: ignore[arg-type]
    if main is None:
        raise GuidanceError(
            f"{shown(text)} has no scale, so it means the skip nodes for Wan, where the unconditional pass is the weak one and the "
            "strength is CFG's. Say that: lab.from_json(..., cfg=6)."
        )
    return convention("B", weak, cfg=main, start=start, stop=stop)


def _end(said: Mapping[str, tuple[str, str]]) -> float:
    return _share(*said["stop"]) if "stop" in said else 1.0


def _share(value: str, percent: str) -> float:
    found = float(value)
    share = found / 100 if percent or found > 1 else found
    if not 0 <= share <= 1:
        raise GuidanceError(f"a window is a share of the steps, 0 to 1, or a percentage, got {number(found)}.")
    return share
