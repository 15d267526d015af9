"""Train an embedded model: `make train`, or `python -m stg_lab.digits.train digits-joint`.

One command, CPU or CUDA, resumable: state is written every minute, data is a function of the update's number, so a run
that was killed goes on exactly where its last checkpoint stood. What is learnt, and from what, is the objective's.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from stg_lab.digits import world
from stg_lab.digits.captions import Label
from stg_lab.digits.depth import StochasticDepth
from stg_lab.digits.factorised import Factorised
from stg_lab.digits.i2v import ImageToVideo
from stg_lab.digits.joint import Joint
from stg_lab.digits.muon import Muon, has_bfloat16
from stg_lab.digits.objective import Objective
from stg_lab.digits.recipe import RECIPES, Recipe
from stg_lab.sheets import contact_sheet

CHECKPOINT_SECONDS = 60.0
CONTINUED = ("second", "depth", "depth-on")  # recipes that begin with trained weights
SHEET_SECONDS = 900.0


OBJECTIVES: dict[str, type[Objective]] = {kind.name: kind for kind in (Joint, Factorised, ImageToVideo)}


class Trainer:
    """The model, its average, its optimisers and its place in the recipe."""

    def __init__(self, recipe: Recipe, out: Path, device: str, compile: bool = True) -> None:
        self.recipe, self.out, self.device = recipe, out, torch.device(device)
        self.objective = OBJECTIVES[recipe.objective](recipe)
        self.pipe = self.objective.pipe
        self.model = nn.ModuleDict(self.objective.trained(self.pipe))
        self.model.to(self.device).train()
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.optimisers = self._optimisers()
        self.update, self.seconds = 0, 0.0
        denoiser = next(iter(self.model.values()))
        self.depth = StochasticDepth(self.objective.blocks(denoiser))
        self.forward: Any = torch.compile(denoiser, dynamic=False) if compile else denoiser

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        r = self.recipe
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            (matrices if self.objective.in_blocks(name, parameter) else rest).append(parameter)
        dtype = torch.bfloat16 if has_bfloat16(self.device) else torch.float32
        muon = Muon(matrices, dtype=dtype, lr=r.muon_lr, weight_decay=r.weight_decay, momentum=0.95)
        adam = torch.optim.AdamW(rest, lr=r.adam_lr, betas=(0.9, 0.99), weight_decay=0.0)
        return [muon, adam]

    def formats(self) -> str:
        """A line on the number formats that this machine trains in."""
        fast = has_bfloat16(self.device)
        return "forward passes and Muon's Newton-Schulz steps in " + (
            "bfloat16" if fast else "float32: this machine would only emulate bfloat16"
        )

    def data(self, update: int, split: str = "train") -> Any:
        """The data of one update; depends on the recipe's seed and the update's number alone."""
        return self.objective.data(update, split)

    def loss(self, batch: Any) -> Float[Tensor, " batch"]:
        """The loss of each clip."""
        return self.objective.loss(self.forward, batch, self.device)

    def step(self) -> float:
        """One update; returns its loss."""
        factor = self.recipe.learning_rate(self.update)
        for optimiser, lr in zip(self.optimisers, (self.recipe.muon_lr, self.recipe.adam_lr), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = lr * factor
        batch = self.data(self.update)
        count, draws = self.recipe.stage_at(self.update).batch, self.objective.depth_generator(self.update)
        self.depth.draw(self.recipe.stochastic_depth, count, draws, self.device)
        loss = self.loss(batch).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.update += 1
        decay = min(self.recipe.ema, (1 + self.update) / (10 + self.update))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        return loss.item()

    def save(self) -> None:
        """Write the whole state; a kill in the middle leaves the previous one whole."""
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "recipe": self.recipe.as_dict(), "update": self.update, "seconds": self.seconds,
            "model": self.model.state_dict(), "average": self.average,
            "optimisers": [o.state_dict() for o in self.optimisers],
        }  # fmt: skip
        partial = self.out / "state.pt.partial"
        torch.save(state, partial)
        os.replace(partial, self.out / "state.pt")

    def restore(self) -> bool:
        """Go on from the last state in the folder, if there is one.

        Raises:
            ValueError: the state was written by another architecture or seed.
        """
        path = self.out / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        mine = self.recipe.as_dict()
        for key in ("architecture", "seed"):
            if state["recipe"][key] != mine[key]:
                raise ValueError(
                    f"{path} was trained with {key} = {state['recipe'][key]}, this recipe has {mine[key]}. "
                    f"Choose another folder with --out, or delete {self.out} to begin again."
                )
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.update, self.seconds = state["update"], state["seconds"]
        return True

    def start_from(self, folder: Path) -> None:
        """Begin with the weights of a saved pipeline of the same architecture."""
        saved = type(self.pipe).from_pretrained(folder)
        for name, module in self.objective.trained(saved).items():
            self.model[name].load_state_dict(module.state_dict(), strict=False)  # buffers of training are ours alone
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def averaged_pipeline(self) -> Any:
        """A fresh pipeline in eval mode that holds the averaged weights."""
        pipe = self.objective.new()
        holder = nn.ModuleDict(self.objective.trained(pipe))
        holder.load_state_dict({k: v for k, v in self.average.items() if k in holder.state_dict()})
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(self.device)

    def validate(self, batches: int = 4) -> float:
        """Mean loss on clips of scans that training never sees, at fixed seeds, with the averaged weights."""
        held = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.depth.whole()
        try:
            with torch.no_grad():
                last = self.recipe.updates - 1  # the last stage's kind of clip
                return torch.cat([self.loss(self.data(last + (i << 20), "test")) for i in range(batches)]).mean().item()
        finally:
            self.model.load_state_dict(held)


SHEET_LABELS = [
    Label(digit, colour, motion)
    for digit, colour, motion in zip(
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 7, 3, 2, 5, 8, 4],
        ["red", "green", "blue", "yellow", "white"] * 3 + ["red"],
        ["left", "right", "up", "down", "turning", "growing", "still", "bouncing"] * 2,
        strict=True,
    )
]


def write_sheet(trainer: Trainer, path: Path, steps: int = 24, scale: float = 3.0) -> None:
    """Sample the fixed captions with the stock pipeline and the averaged weights."""
    clips = world.draw(len(SHEET_LABELS), seed=0, split="test", labels=SHEET_LABELS)
    video = trainer.objective.sample(
        trainer.averaged_pipeline(), clips, seeds=range(len(clips)), num_inference_steps=steps, guidance_scale=scale
    )
    captions = clips.captions
    contact_sheet(video, captions, path, columns=2)


def train(
    recipe: Recipe,
    out: Path,
    *,
    device: str = "cpu",
    compile: bool = True,
    seconds: float | None = None,
    init: Path | None = None,
) -> Trainer:
    """Train until the recipe is done (or for `seconds`), writing state, loss curve and sample sheets into `out`.

    A run that has state in `out` goes on from it; a new one starts from the saved pipeline `init`, or from random weights.
    """
    torch.set_float32_matmul_precision("high")
    trainer = Trainer(recipe, out, device, compile)
    if trainer.restore():
        print(f"going on from update {trainer.update} of {recipe.updates} in {out}")
    elif init is not None:
        trainer.start_from(init)
    print(trainer.formats())
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.json").write_text(json.dumps(recipe.as_dict(), indent=1))
    log = _open_log(out / "loss.csv", trainer.update)
    begun, saved, sheeted = time.monotonic(), time.monotonic(), time.monotonic()
    before, losses = trainer.seconds, []
    bar = tqdm(total=recipe.updates, initial=trainer.update, unit="update", smoothing=0.02, mininterval=5)
    while trainer.update < recipe.updates and (seconds is None or time.monotonic() - begun < seconds):
        losses.append(trainer.step())
        if not math.isfinite(losses[-1]):  # the last state on disk is sound: not one of these weights is kept
            raise FloatingPointError(
                f"the loss of update {trainer.update} is {losses[-1]}. Try --no-compile: compiled bfloat16 is wrong on some CPUs."
            )
        trainer.seconds = before + time.monotonic() - begun
        bar.update()
        if trainer.update % 20 == 0:
            stage, mean = recipe.stage_at(trainer.update - 1), sum(losses) / len(losses)
            log.writerow([trainer.update, stage.frames, f"{mean:.5f}", f"{trainer.seconds:.1f}"])
            rate = bar.format_dict["rate"] or 0.0
            bar.set_postfix_str(f"loss {mean:.4f}, {rate * stage.batch:.0f} clips of {stage.frames}/s", refresh=False)
            losses = []
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            trainer.save()
            saved = time.monotonic()
        if time.monotonic() - sheeted > SHEET_SECONDS:
            sheeted = time.monotonic()
            write_sheet(trainer, out / f"samples-{trainer.update:06d}.png")
    trainer.save()
    return trainer


def _open_log(path: Path, update: int):
    """The loss curve on disk, cut back to `update` so that a resumed run does not repeat rows."""
    rows = list(csv.reader(path.read_text().splitlines())) if path.exists() else []
    kept = [row for row in rows if len(row) == 4 and row[0].isdigit() and int(row[0]) <= update]
    file = path.open("w", newline="", buffering=1)
    writer = csv.writer(file)
    writer.writerows([["update", "frames", "loss", "seconds"], *kept])
    return writer


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stg_lab.digits.train", description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=sorted(RECIPES), nargs="?", default="digits-joint")
    parser.add_argument("--out", type=Path, help="folder for the run's state (default: runs/MODEL)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--recipe", choices=["cpu", "gpu", *CONTINUED], help="which recipe (default: by device)")
    parser.add_argument("--scale", type=float, default=1.0, help="make every stage this many times as long")
    parser.add_argument("--minutes", type=float, help="stop after this long; call again to go on")
    parser.add_argument("--init", type=Path, help="begin with the weights of this saved pipeline, not random ones")
    parser.add_argument(
        "--stochastic-depth", type=float, metavar="P", help="leave each block out with this probability"
    )
    parser.add_argument("--no-compile", action="store_true", help="do not use torch.compile")
    parser.add_argument("--export", type=Path, help="write the averaged model as a diffusers folder when done")
    a = parser.parse_args(arguments)
    chosen = a.recipe or ("gpu" if a.device.startswith("cuda") else "cpu")
    if chosen not in RECIPES[a.model]:
        parser.error(f"{a.model} has no recipe {chosen!r}; choose one of: {', '.join(RECIPES[a.model])}")
    if chosen in CONTINUED and a.init is None:
        parser.error(f"recipe {chosen!r} begins with trained weights: --init data/models/{a.model}")
    recipe = RECIPES[a.model][chosen].scaled(a.scale)
    if a.stochastic_depth is not None:
        if not 0 <= a.stochastic_depth < 1:
            parser.error(f"--stochastic-depth takes a probability from 0 to below 1, got {a.stochastic_depth:g}")
        recipe = replace(recipe, stochastic_depth=a.stochastic_depth)
    out = a.out or Path("runs") / a.model
    seconds = None if a.minutes is None else a.minutes * 60
    trainer = train(recipe, out, device=a.device, compile=not a.no_compile, seconds=seconds, init=a.init)
    if a.export:
        from stg_lab.digits.card import export

        export(trainer, a.export, begun_with=a.init)


if __name__ == "__main__":
    main()
