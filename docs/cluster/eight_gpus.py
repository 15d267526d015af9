"""Which layers to skip, on one machine with eight GPUs: one process each. Nothing has to be started or installed for it."""

from pathlib import Path

import torch

import stg_lab as lab

MODEL = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"  # a name, a folder or a repository id: each process loads it by itself, onto its GPU
PROMPTS = "captions.txt"  # a line a caption
OUT = "out/search"  # the same call goes on where it was stopped
CALL = {"num_inference_steps": 30, "num_frames": 49, "height": 480, "width": 832}

found = lab.search(
    lab.load(MODEL, dtype=torch.bfloat16),
    [lab.skip([layer]) for layer in range(5, 25)],
    prompts=Path(PROMPTS).read_text().splitlines(),
    seeds=range(32),
    guidance=lab.CFG(5),
    score="smoothness",  # or a function of yours, from a video to a number
    budget="8 h",
    record=OUT,
    client=8,
    **CALL,
)
print(found)
found.grid().save(f"{OUT}/grid.html")
