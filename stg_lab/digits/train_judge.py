"""Training the judge: clips of its own 400 scans, bent and spoilt in the ways that sampled clips are.

Few scans are the difficulty, so no scan is seen twice alike: each is sheared, stretched, warped and drawn thicker or thinner
before its clip is rendered. The clips are then spoilt as samplers spoil them (wobble, blotches, blur, noise, missing ink), so
that the judge reads what a clip shows and not how well it is drawn.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor
from tqdm import tqdm

from stg_lab.digits import world
from stg_lab.digits.judge import ANSWERS, CONFIG, WEIGHTS, Judge, Score, moments, read

UPDATES, BATCH, PEAK_LR, WEIGHT_DECAY, SMOOTHING = 1000, 64, 3e-3, 0.02, 0.05
LENGTHS = (5, 8, 9, 9, 16, 17)  # frames that a training clip may have had before it was read at nine moments
CHECKED = 4000  # clips of the test split


def rand(g: Generator, low: float, high: float, *shape: int) -> Tensor:
    """Uniform numbers."""
    return low + (high - low) * torch.rand(*shape, generator=g)


def grid(batch: int, side: int) -> Float[Tensor, "batch side side 2"]:
    """Coordinates (x, y) in [-1, 1] that sample a picture unchanged."""
    axis = (torch.arange(side) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], -1).expand(batch, side, side, 2)


def smooth_field(g: Generator, batch: int, side: int, knots: int) -> Float[Tensor, "batch side side 2"]:
    """Displacements that vary smoothly: normal numbers at knots x knots points, bicubic between them."""
    coarse = torch.randn(batch, 2, knots, knots, generator=g)
    return F.interpolate(coarse, (side, side), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)


def bend(masks: Float[Tensor, "batch 1 side side"], g: Generator) -> Float[Tensor, "batch 1 side side"]:
    """Scans as other hands might have written them: sheared, stretched, turned, warped; thicker or thinner."""
    batch, _, side, _ = masks.shape
    angle, shear = rand(g, -0.15, 0.15, batch), rand(g, -0.2, 0.2, batch)
    sx, sy = rand(g, 0.85, 1.2, batch), rand(g, 0.88, 1.12, batch)
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([cos * sx, (shear * cos - sin) * sy], -1),
        torch.stack([sin * sx, (shear * sin + cos) * sy], -1),
    ]
    where = torch.einsum("bij,bhwj->bhwi", torch.stack(rows, 1), grid(batch, side))
    strength = rand(g, 0.0, 0.075, batch, 1, 1, 1)
    where = where + strength * smooth_field(g, batch, side, 5)
    bent = F.grid_sample(masks, where, padding_mode="zeros", align_corners=False)
    soft = F.avg_pool2d(bent, 5, 1, 2)
    ink = ((soft - rand(g, 0.18, 0.5, batch, 1, 1, 1)) / rand(g, 0.25, 0.45, batch, 1, 1, 1)).clamp(0, 1)
    return ink * ink * (3 - 2 * ink)


def spoil(video: Float[Tensor, "batch frame h w 3"], g: Generator) -> Float[Tensor, "batch frame h w 3"]:
    """The defects of sampled clips, each on some of the clips and at some strength."""
    batch, frames, side = video.shape[:3]

    def some(share: float, low: float, high: float, *shape: int) -> Tensor:
        chosen = (torch.rand(batch, generator=g) < share).float() * rand(g, low, high, batch)
        return chosen.view(batch, *([1] * len(shape))).expand(batch, *shape)

    flat = video.flatten(0, 1).permute(0, 3, 1, 2)
    still = smooth_field(g, batch, side, 4)[:, None] * some(0.5, 0.0, 0.05, 1, 1, 1, 1)
    wobble = smooth_field(g, batch * frames, side, 3).view(batch, frames, side, side, 2)
    shift = torch.randn(batch, frames, 1, 1, 2, generator=g) * some(0.5, 0.0, 0.025, 1, 1, 1, 1)
    where = grid(batch * frames, side).view(batch, frames, side, side, 2) + still + shift
    where = (where + wobble * some(0.5, 0.0, 0.04, 1, 1, 1, 1)).flatten(0, 1)
    flat = F.grid_sample(flat, where, padding_mode="border", align_corners=False)
    soft = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, 1)
    flat = flat.lerp(soft, some(0.4, 0.0, 1.0, frames).flatten().view(-1, 1, 1, 1))
    holes = (
        F.interpolate(torch.rand(batch * frames, 1, 6, 6, generator=g), (side, side), mode="bilinear") > 0.86
    ).float()
    ground = flat.amin((2, 3), keepdim=True)
    flat = flat.lerp(ground.expand_as(flat), holes * some(0.25, 0.3, 0.9, frames).flatten().view(-1, 1, 1, 1))
    blotches = F.interpolate(torch.randn(batch, 3, 8, 8, generator=g), (side, side), mode="bilinear")
    flat = flat + (blotches * some(0.3, 0.0, 0.06, 1, 1, 1)).repeat_interleave(frames, 0)
    flat = flat + torch.randn(flat.shape, generator=g) * some(0.5, 0.0, 0.06, frames).flatten().view(-1, 1, 1, 1)
    gain = rand(g, 0.85, 1.12, batch, 1, 1, 1, 1) * (1 + rand(g, -0.05, 0.05, batch, 1, 1, 1, 3))
    return (flat.permute(0, 2, 3, 1).view(video.shape) * gain + rand(g, -0.03, 0.03, batch, 1, 1, 1, 1)).clamp(0, 1)


def batch_of(update: int) -> tuple[Float[Tensor, "batch 9 32 32 3"], dict[str, Tensor]]:
    """One update's clips and what they show; depends on the update's number alone."""
    clips = world.draw(BATCH, seed=1_000_000 + update, split="judge")
    g = torch.Generator().manual_seed(update)
    frames = torch.randint(len(LENGTHS), (BATCH,), generator=g)
    times = torch.stack([moments(n) / (n - 1) for n in (LENGTHS[i] for i in frames.tolist())])
    video = world.render(clips, times=times, shapes=bend(world.scans(clips), g))
    return spoil(video, g), {name: getattr(clips, name) for name in ANSWERS}


def train(updates: int = UPDATES) -> Judge:
    """A judge from random weights: AdamW, one cycle of the learning rate, cross-entropy of the three answers."""
    torch.manual_seed(0)
    net = Judge().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_LR, total_steps=max(updates, 2), pct_start=0.1)
    bar = tqdm(range(updates), unit="update", mininterval=20)
    for update in bar:
        video, truth = batch_of(update)
        logits = net(video)
        losses = [F.cross_entropy(logits[name], truth[name], label_smoothing=SMOOTHING) for name in ANSWERS]
        optimiser.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()
        optimiser.step()
        cycle.step()
        if update % 100 == 0:
            bar.set_postfix_str(", ".join(f"{n} {x.item():.3f}" for n, x in zip(ANSWERS, losses, strict=True)))
    return net.eval()


def accuracy(net: Judge, clips: world.Clips) -> dict[str, dict[str, float]]:
    """The share of clips that the judge reads right, with two 95 % intervals.

    `interval` is Wilson's over clips. Clips share scans, and a scan that is hard to read is misread in most of its clips, so
    `interval_over_scans` draws whole scans anew (2,000 times): it is the one that speaks of handwriting not seen here.
    """
    seen: dict[str, list[Tensor]] = {name: [] for name in ANSWERS}
    for first in range(0, len(clips), 250):
        part = read(world.render(clips[first : first + 250]).numpy(), net)
        for name, answers in part.items():
            seen[name].append(torch.from_numpy(answers))
    right = {name: (torch.cat(seen[name]) == getattr(clips, name)).double() for name in ANSWERS}
    right["all three"] = torch.stack(list(right.values())).prod(0)
    return {name: _summary(ok, clips.scan) for name, ok in right.items()}


def _summary(ok: Float[Tensor, " clip"], scan: Tensor) -> dict[str, Any]:
    score = Score(int(ok.sum()), len(ok), 1.0)
    scans, row = scan.unique(return_inverse=True)
    of = torch.zeros(len(scans), dtype=torch.double).index_add_(0, row, torch.ones_like(ok))
    hits = torch.zeros(len(scans), dtype=torch.double).index_add_(0, row, ok)
    g = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(scans), (2000, len(scans)), generator=g)
    over_scans = (hits[drawn].sum(1) / of[drawn].sum(1)).quantile(torch.tensor([0.025, 0.975], dtype=torch.double))
    rounded = [[round(x, 4) for x in pair] for pair in (score.interval(), over_scans.tolist())]
    return {
        "share": round(score.right / score.of, 4),
        "clips": score.of,
        "interval": rounded[0],
        "scans": len(scans),
        "interval_over_scans": rounded[1],
    }


def export(net: Judge, folder: Path, updates: int, seconds: float) -> None:
    """Write the judge: weights, its accuracies on scans that it never saw, and a card."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / WEIGHTS)
    facts = {
        "updates": updates,
        "batch": BATCH,
        "minutes": round(seconds / 60, 1),
        "peak_learning_rate": PEAK_LR,
        "parameters": sum(p.numel() for p in net.parameters()),
        "trained_on": f"clips of the {world.SPLITS['judge']} scans of the judge split",
        "checked_on": f"clips of the {world.SPLITS['test']} scans of the test split",
        "accuracy": accuracy(net, world.draw(CHECKED, seed=2, split="test")),
        "torch": torch.__version__,
    }
    (folder / CONFIG).write_text(json.dumps(facts, indent=1) + "\n")
    write_card(folder)


def write_card(folder: Path) -> None:
    """Write the judge's card anew, from what its config.json says."""
    (folder / "README.md").write_text(_card(json.loads((folder / CONFIG).read_text())))


def _card(facts: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {name} | {a['share']:.2%} | {_percent(a['interval'])} | {_percent(a['interval_over_scans'])} |"
        for name, a in facts["accuracy"].items()
    )
    return f"""---
license: mit
---

# The judge of the digits world

A 3-D convolutional network of {facts["parameters"]:,} parameters that reads which digit, colour and motion a clip shows. Input:
float32 `(batch, frame, height, width, 3)` in [0, 1], five frames or more; clips are brought to nine frames of 32 x 32. Its 128
penultimate features are those of the set metrics in `stg_lab.metrics`.

```python
from stg_lab import metrics

metrics.caption_accuracy(video, captions)     # dict of (batch,) bool: digit, colour, motion, all three
metrics.caption_probability(video, captions)  # the same as calibrated probabilities
metrics.judge_features(video)                 # (batch, 128)
```

**Training.** {facts["updates"]:,} updates on {facts["batch"]} {facts["trained_on"]}, which no diffusion model saw, in
{facts["minutes"]:g} minutes on two shared CPU cores. Scans are sheared, stretched, warped, drawn thicker or thinner; clips are wobbled,
blotched, blurred, noised and holed as sampled clips are. `make judge` trains it again.

**Accuracy** on {facts["accuracy"]["digit"]["clips"]:,} clean clips of {facts["accuracy"]["digit"]["scans"]} scans that neither it nor a diffusion model saw:

| | right | 95 % interval over clips (Wilson) | 95 % interval over scans (bootstrap) |
|---|---|---|---|
{rows}

The clips share {facts["accuracy"]["digit"]["scans"]} scans, so the interval over scans is the honest one for the digit. It always answers: a clip that shows no digit
gets one all the same.
{_calibration(facts["calibration"]) if "calibration" in facts else ""}"""


def _calibration(found: dict[str, Any]) -> str:
    temperatures = ", ".join(f"{name} {t:g}" for name, t in found["temperature"].items())
    rows = "\n".join(
        f"| {name} | {found['before'][name]['error']:.1%} | {found['after'][name]['error']:.1%} |"
        for name in found["after"]
    )
    return f"""
**Calibration.** Its probabilities are those of its logits divided by one temperature a question ({temperatures}), which changes no
answer. Temperatures were fitted on {found["clips"]:,} clips of one half of the unseen scans, bent, and spoilt up to three times over; what
is shown was measured on as many clips of the other half (`stg_lab.digits.calibrate`). Sampled videos fail in ways of their own, above
all in their motion, where no rendered clip fails: there the probability is a guess.

| | mean gap between probability and share right, before | after |
|---|---|---|
{rows}

![reliability diagrams](calibration.png)
"""


def _percent(interval: list[float]) -> str:
    return f"{interval[0]:.2%} to {interval[1]:.2%}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stg_lab.digits.train_judge", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/judge"), help="folder to write (default: %(default)s)")
    parser.add_argument("--updates", type=int, default=UPDATES, help="how many updates (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    begun = time.monotonic()
    net = train(chosen.updates)
    export(net, chosen.out, chosen.updates, time.monotonic() - begun)
    print((chosen.out / "README.md").read_text())


if __name__ == "__main__":
    main()
