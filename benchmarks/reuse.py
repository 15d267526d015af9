"""What CFG + STG costs a step, in conditional forward passes: prefix reuse beside the real alternatives.

Whole runs of the stock pipeline, not recorded. The unit is half a step of the stock pipeline with CFG, of the same round.
Alternatives: the lab without reuse; diffusers' own layer-skip hook with a plain third pass; one batch of three rows, as the
published STG pipelines have it (the denoiser alone, without their pipeline).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from diffusers import LayerSkipConfig
from diffusers.hooks import HookRegistry, apply_layer_skip

import stg_lab as lab
from benchmarks.models import CFG_SCALE, FULL, SMALL, Subject
from benchmarks.timing import interleaved, ratios, spread
from stg_lab.families import family_of
from stg_lab.seams import Call, Coming, Step, tapped

ROUNDS, STEPS = 5, 2
BAR = 1.08


def measure() -> dict[str, Any]:
    """Costs by model and variant, each a list of one figure a round."""
    found = {}
    for name, make in (FULL if torch.cuda.is_available() else SMALL).items():
        subject = make()
        print(f"  {name}", flush=True)
        found[name] = {"blocks": subject.blocks, "batched": subject.batched, "layers": subject.layers, **costs(subject)}
        del subject
    return {"rounds": ROUNDS, "steps": STEPS, "models": found}


def costs(subject: Subject) -> dict[str, Any]:
    """Cost of a step by variant, and whether reuse gave the same bits."""
    variants: dict[str, Callable[[], Any]] = {"stock, CFG": lambda: subject.run(STEPS)}
    for layer in subject.layers:
        variants |= {_name("reuse", layer, rows): _guided(subject, layer, rows=rows) for rows in _rows(subject)}
    middle = subject.layers[1]
    variants |= {
        _name("no reuse", middle, rows): _guided(subject, middle, rows=rows, reuse=False) for rows in _rows(subject)
    }
    variants["diffusers' hook, third pass"] = lambda: Hooked(subject, middle).run()
    variants["batch of three"] = batch_of_three(subject)
    same = {
        rows: torch.equal(variants[_name("reuse", middle, rows)](), variants[_name("no reuse", middle, rows)]())
        for rows in _rows(subject)
    }
    seconds = interleaved(variants, ROUNDS)
    unit = [s / STEPS / 2 for s in seconds["stock, CFG"]]
    cost = {name: ratios([v / STEPS for v in values], unit) for name, values in seconds.items()}
    return {"forward_seconds": statistics.median(unit), "same_bits": same, "cost": cost}


def _rows(subject: Subject) -> tuple[str, ...]:
    return ("own", "batch") if subject.batched else ("own",)


def _name(what: str, layer: int, rows: str) -> str:
    return f"{what}, block {layer}, {rows} rows"


def _guided(subject: Subject, layer: int, **passes: Any) -> Callable[[], Any]:
    guidance = lab.CFG(CFG_SCALE) + lab.STG(1.0, lab.skip([layer]))

    def run() -> Any:
        with lab.attach(subject.pipe, guidance=guidance, passes=lab.Passes(**passes)):
            return subject.run(STEPS)

    return run


class Hooked:
    """STG as one writes it with diffusers' own means: after the conditional pass a third one, whole, under the hook."""

    def __init__(self, subject: Subject, layer: int) -> None:
        self.subject = subject
        self.config = LayerSkipConfig(indices=[layer], skip_attention=True, skip_attention_scores=False, skip_ff=True)
        self.vector: Any = None

    def run(self) -> Any:
        """One run of the pipeline."""
        pipe = self.subject.pipe
        with tapped(pipe, family_of(pipe), self):
            return self.subject.run(STEPS)

    def before_call(self, call: Coming) -> None:
        pass

    def on_call(self, call: Call) -> None:
        if self.vector is not None:
            return  # the unconditional pass
        apply_layer_skip(call.module, self.config)
        with torch.no_grad():
            weak = call.module.forward(*call.args, **call.kwargs)[0]
        for block in call.module.modules():
            if hasattr(block, "_diffusers_hook"):
                HookRegistry.check_if_exists_or_initialize(block).remove_hook("layer_skip_hook", recurse=False)
        self.vector = (call.prediction - weak).chunk(2 if self.subject.batched else 1)[-1]

    def on_step(self, step: Step) -> Any:
        prediction, self.vector = step.model_output + self.vector.to(step.model_output), None
        return prediction

    def before_step(self, step: Step, prediction: Any) -> None:
        pass

    def after_step(self, step: Step, sample: Any) -> Any:
        return sample


def batch_of_three(subject: Subject) -> Callable[[], Any]:
    """A denoiser call of the pipeline, made with three rows, as often as the run has steps."""
    calls: list[tuple[tuple, dict[str, Any]]] = []
    hook = lambda module, args, kwargs: calls.append((args, dict(kwargs)))  # noqa: E731
    handle = subject.denoiser.register_forward_pre_hook(hook, with_kwargs=True)
    subject.run(2)
    handle.remove()
    args, kwargs = calls[0]
    rows = 2 if subject.batched else 1
    unbatched = family_of(subject.pipe).unbatched

    def three(name: str, x: Any) -> Any:
        return (
            torch.cat([x[-1:]] * 3) if isinstance(x, torch.Tensor) and len(x) == rows and name not in unbatched else x
        )

    wide = {name: three(name, value) for name, value in kwargs.items()}

    def run() -> None:
        with torch.no_grad():
            for _ in range(STEPS):
                subject.denoiser(*args, **wide)

    return run


def bound(model: dict[str, Any], layer: int, rows: str) -> float:
    """What a step may cost at most: the two passes of CFG and the blocks after the skipped one, for each row of the weak pass."""
    suffix = (model["blocks"] - layer - 1) / model["blocks"]
    return BAR * (2 + suffix * (2 if rows == "batch" else 1))


def table(result: dict[str, Any]) -> str:
    """Median costs with their range, and the bound of each."""
    lines = []
    for name, model in result["models"].items():
        lines += [
            f"{name}: a forward takes {model['forward_seconds']:.2f} s; the same bits as without reuse: {model['same_bits']}"
        ]
        for variant, cost in model["cost"].items():
            told = ""
            if variant.startswith("reuse"):
                _, block, rows = variant.split(", ")
                limit = bound(model, int(block.split()[1]), rows.split()[0])
                told = f"at most {limit:.2f}{'' if statistics.median(cost) <= limit else '  MISSED'}"
            lines.append(f"  {variant:<34} {spread(cost):<22} {told}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure()))
