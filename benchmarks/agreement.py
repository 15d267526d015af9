"""Numeric agreement with the published STG pipelines of diffusers' `examples/community`, on tiny random models.

    python -m benchmarks.agreement --oracle FOLDER

FOLDER holds `pipeline_stg_*.py` as they stand in the diffusers repository; they are not kept here. Both sides run on the same
weights, embeddings and seeds at batch 1 in float32. The published pipelines put [uncond, cond, perturbed] into one batch of
three, or (Wan, HunyuanVideo) call the model anew for each; where batch shapes differ, so do the last bits.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import inspect
import json
import sys
import types
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))  # the tiny pipelines of the tests

from kit.pipelines import generators  # noqa: E402
from kit.zoo import Member, member  # noqa: E402

import stg_lab as lab  # noqa: E402
from benchmarks import opensora  # noqa: E402

RESULT = HERE / "results" / "agreement.json"
CFG, SCALE, LAYER, STEPS = 3.0, 1.5, 1, 4
#: Member of the zoo -> file and class of the published pipeline, and whether its passes have the lab's batch shapes.
PUBLISHED = {
    "wan": ("pipeline_stg_wan.py", "WanSTGPipeline", True),
    "mochi": ("pipeline_stg_mochi.py", "MochiSTGPipeline", False),
    "cogvideox": ("pipeline_stg_cogvideox.py", "CogVideoXSTGPipeline", False),
    "ltx": ("pipeline_stg_ltx.py", "LTXSTGPipeline", False),
    "hunyuan": ("pipeline_stg_hunyuan_video.py", "HunyuanVideoSTGPipeline", True),
}
NOTES = {
    "cogvideox": "as published it stops with a TypeError; its block is called here without attention_kwargs",
    "hunyuan": "as published it stops with a TypeError; its block is called here with its first five arguments",
}


def published(folder: Path, name: str, one: Member) -> Any:
    """The published pipeline on a member's own components, its two broken families mended at the call of a block."""
    file, kind, _ = PUBLISHED[name]
    text_cleaner = types.ModuleType(
        "ftfy"
    )  # imported by the Wan pipeline, for prompts; here there are captions of plain words
    text_cleaner.fix_text = lambda text: text  # type: ignore[attr-defined]
    sys.modules.setdefault("ftfy", text_cleaner)
    spec = importlib.util.spec_from_file_location(file.removesuffix(".py"), folder / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if name == "cogvideox":
        whole = module.forward_with_stg
        module.forward_with_stg = lambda self, *a, attention_kwargs=None, **k: whole(self, *a, **k)
    if name == "hunyuan":
        for function in ("forward_with_stg", "forward_without_stg"):
            inner = getattr(module, function)
            setattr(module, function, lambda self, *a, inner=inner, **k: inner(self, *a[:5], **k))
    if name == "wan":
        one.pipe.vae.temperal_downsample = [
            True
        ]  # the digits' codec has no such list; the pipeline reads its factors off it
    build = getattr(module, kind)
    pipe = build(**{k: v for k, v in one.pipe.components.items() if k in inspect.signature(build).parameters})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stepped(pipe: Any, arguments: dict[str, Any], guidance: Any = None) -> tuple[list[Tensor], Tensor]:
    """What a pipeline really stepped with at each step, under the lab's guidance if any, and the latents it returned."""
    seen: list[Tensor] = []
    step = pipe.scheduler.step

    def watch(model_output: Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(model_output.detach().float().clone())
        return step(model_output, *args, **kwargs)

    watch.__signature__ = inspect.signature(step)  # type: ignore[attr-defined]
    pipe.scheduler.step = watch
    try:
        with lab.attach(pipe, guidance=guidance) if guidance is not None else contextlib.nullcontext():
            return seen, pipe(**arguments).frames.float()
    finally:
        del pipe.scheduler.step


def compare(folder: Path, name: str, *, phi: float = 0.0) -> dict[str, Any]:
    """Largest differences between the published pipeline and the lab, at the first step and in the final latents."""
    theirs, ours = member(name), member(name)
    call = {**ours.arguments({"num_inference_steps": STEPS, "output_type": "latent"}), "generator": generators(0, 1)}
    if name == "hunyuan":  # distilled: the published pipeline knows no unconditional prediction
        call = {k: v for k, v in call.items() if not k.startswith(("negative", "true_cfg"))}
    else:
        call["guidance_scale"] = CFG
    stg = {"stg_applied_layers_idx": [LAYER], "stg_scale": SCALE}
    stg |= {"do_rescaling": phi > 0} if name in ("mochi", "cogvideox", "ltx") else {}
    first, latents = stepped(published(folder, name, theirs), {**call, **stg, "generator": generators(0, 1)})
    guidance = lab.STG(SCALE, lab.skip([LAYER])).rescale(phi, per="batch")
    own_first, own_latents = stepped(ours.pipe, {**call, "generator": generators(0, 1)}, guidance)
    plain = stepped(member(name).pipe, {**call, "generator": generators(0, 1)})[1]
    return {
        "first_step": float((first[0] - own_first[0]).abs().max()),
        "final_latents": float((latents - own_latents).abs().max()),
        "final_relative": float((latents - own_latents).norm() / latents.norm()),
        "stg_itself": float((own_latents - plain).norm() / plain.norm()),
    }


def measure(folder: Path) -> dict[str, Any]:
    """All families whose published file is there."""
    rows = []
    for name, (file, _, same_batch) in PUBLISHED.items():
        if not (folder / file).is_file():
            continue
        for phi in (0.0, 0.7) if name in ("mochi", "cogvideox", "ltx") else (0.0,):
            row = {"family": name, "rescale": phi, "same_batch_shapes": same_batch, **compare(folder, name, phi=phi)}
            rows.append(row | ({"note": NOTES[name]} if name in NOTES else {}))
    return {"torch": torch.__version__, "diffusers": diffusers.__version__, "rows": rows, "bfloat16": batch_noise()}


def batch_noise() -> list[dict[str, Any]]:
    """How much of a guidance vector is rounding, if the weak pass ran at another batch shape than the conditional one."""
    rows = []
    for name in ("mochi", "cogvideox", "ltx"):
        for dtype in (torch.float32, torch.bfloat16):
            one = member(name)
            one.pipe.to(dtype)
            one.call = {
                k: v.to(dtype) if torch.is_tensor(v) and v.is_floating_point() else v for k, v in one.call.items()
            }
            vectors = {}
            for scale in (CFG, 1.0):  # with CFG the batch is two, without it one
                with lab.attach(one.pipe, guidance=lab.Probe(lab.skip([LAYER])), record=True) as trace:
                    one.stock(num_inference_steps=2, guidance_scale=scale)
                at = trace.recording.ds.prediction.isel(step=0)
                vectors[scale] = (at.sel(branch="cond").values, at.sel(branch="skip").values)
            (c2, p2), (_, p1) = vectors[CFG], vectors[1.0]
            own, mixed = c2 - p2, c2 - p1
            share = float(((mixed - own) ** 2).sum() ** 0.5 / (own**2).sum() ** 0.5)
            rows.append({"family": name, "dtype": str(dtype).removeprefix("torch."), "noise_share": share})
    return rows


def page(result: dict[str, Any]) -> str:
    """docs/agreement.md, from the figures."""
    rows = "\n".join(
        f"| {r['family']} | {r['rescale'] or 'no'} | {'the same' if r['same_batch_shapes'] else 'three against two'} | "
        f"{r['first_step']:.1e} | {r['final_latents']:.1e} | {r['stg_itself']:.2f} |"
        for r in result["rows"]
    )
    notes = "\n".join(f"- {name}: {text}." for name, text in NOTES.items())
    noise = "\n".join(f"| {r['family']} | {r['dtype']} | {r['noise_share']:.1e} |" for r in result["bfloat16"])
    facts = {"torch": result["torch"], "diffusers": result["diffusers"]}
    settings = {"cfg": CFG, "scale": SCALE, "layer": LAYER, "steps": STEPS}
    own = json.loads(opensora.RESULT.read_text(encoding="utf-8"))
    return PAGE.format(rows=rows, notes=notes, noise=noise, **settings, **facts) + opensora.section(own)


PAGE = """# Agreement with the published STG pipelines

Written by `python -m benchmarks.agreement --oracle FOLDER` from what it measured: the STG pipelines of diffusers'
`examples/community` against `lab.attach(pipe, guidance=lab.STG(s, lab.skip([l])))` around the stock pipeline, on the same tiny
random weights, embeddings and seeds (batch 1, float32, CPU, {steps} steps, CFG {cfg:g}, STG {scale:g}, block {layer}; torch {torch},
diffusers {diffusers}). With rescaling, theirs takes one deviation for the whole batch: `.rescale(0.7, per="batch")`.

| family | rescaled | batch shapes | largest difference, first step | final latents | what STG itself changes (relative) |
|---|---|---|---|---|---|
{rows}

{notes}

The published pipelines differ from the paper's sum in places that the lab does not repeat: a patch that is never undone (a plain
call after an STG call is wrong), the conditional rows skipped too for more than one prompt, no STG at all without CFG, and a last
Mochi block that is never skipped. So only their first call, at batch 1, with CFG on and another block is a fair comparison.

## Rounding in the guidance vector

If the conditional prediction comes from a batch of [uncond, cond] and the weak one from a batch of one, their difference holds
rounding, which the scale multiplies. Share of it in the length of the guidance vector, at the first step of the tiny models:

| family | dtype | rounding, as a share of the vector |
|---|---|---|
{noise}

In bfloat16 and float16 the lab runs both at the same batch shape, where the share is zero by construction; in float32 the weak
pass has its own rows alone, for half the price (`lab.Passes` chooses otherwise).
"""


def main() -> None:
    """Measure, write the result and the page, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--oracle", type=Path, required=True, help="folder with the published pipeline_stg_*.py")
    result = measure(parser.parse_args().oracle)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (HERE.parent / "docs" / "agreement.md").write_text(page(result), encoding="utf-8")
    print(page(result))


if __name__ == "__main__":
    main()
