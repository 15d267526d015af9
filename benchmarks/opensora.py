"""Parity of the lab's Open-Sora 1.2 with the model's own code, on a CPU, at tiny sizes.

    python -m benchmarks.opensora --oracle FOLDER

FOLDER holds the package `opensora` of hpcaitech/Open-Sora at v1.2.0, which is not kept here. Of the packages that it imports, those
that are not installed (timm, xformers, mmengine, colossalai, apex) can be stood in for by modules of these names on PYTHONPATH:
only timm's `Mlp`, xformers' block-diagonal attention and mmengine's `Registry` are ever called. What it computes is written to
tests/data, so that the tests need none of this; the largest differences go to docs/agreement.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors.torch import save_file
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))  # the tiny parts of the tests

from kit import opensora as tiny  # noqa: E402

RESULT = HERE / "results" / "opensora.json"
DATA = HERE.parent / "tests" / "data"


class Text:
    """Stands for the reference's text encoder: the captions of the tests."""

    def __init__(self, captions: Tensor, null: Tensor) -> None:
        self.captions, self.nothing = captions[:, None], null

    def encode(self, prompts: list[str]) -> dict[str, Tensor]:
        return {"y": self.captions, "mask": tiny.mask(len(prompts))}

    def null(self, count: int) -> Tensor:
        return self.nothing.expand(count, 1, -1, -1)


def transformer() -> Any:
    from opensora.models.stdit.stdit3 import STDiT3, STDiT3Config

    return tiny.fill(STDiT3(STDiT3Config(**tiny.TRANSFORMER)))


def parts(model: Any) -> dict[str, Tensor]:
    given, frames = tiny.block_inputs(), tiny.LATENTS[1]
    places = tiny.PATCHES[0] * tiny.PATCHES[1]

    def positions(rows: int, columns: int, height: int, width: int) -> Tensor:
        scale, base = (height * width) ** 0.5 / 512, round((rows * columns) ** 0.5)
        return model.pos_embed(torch.zeros(1), rows, columns, scale=scale, base_size=base)[0]

    found = {
        "positions": positions(*tiny.PATCHES, 56, 72),
        "positions wide": positions(9, 16, 144, 256),
        "rotated": model.rope.rotate_queries_or_keys(tiny.numbers("query", 2, 2, frames, 24)),
    }
    for kind, blocks in (("spatial", model.spatial_blocks), ("temporal", model.temporal_blocks)):
        for name, which in ((kind, None), (f"{kind} masked", tiny.given_frames(1))):
            found[f"block {name}"] = blocks[1](
                given["tokens"], given["words"], given["time"], [tiny.SEEN], which, given["time zero"], frames, places
            )
    return found


def whole(model: Any) -> dict[str, Tensor]:
    given = tiny.inputs(2)
    told = {name: torch.tensor([float(value)]) for name, value in tiny.TOLD.items()}
    call = (given["hidden_states"], given["timestep"], given["encoder_hidden_states"][:, None])
    return {
        "model": model(*call, mask=tiny.mask(), **told),
        "model masked": model(*call, mask=tiny.mask(), x_mask=tiny.given_frames(2), **told),
        "model no mask": model(*call, **told),
    }


def sampled(model: Any) -> dict[str, Tensor]:
    from opensora.schedulers.rf import RFLOW

    given = tiny.inputs(2)
    told = {name: torch.tensor([float(value)] * 2) for name, value in tiny.TOLD.items()}
    sampler = RFLOW(num_sampling_steps=tiny.STEPS, cfg_scale=tiny.SCALE, use_timestep_transform=True)
    text = Text(given["encoder_hidden_states"], model.y_embedder.y_embedding)
    told["num_frames"] = torch.tensor([tiny.FRAMES] * 2)
    z = given["hidden_states"]
    return {"sampled": sampler.sample(model, text, z, ["", ""], "cpu", additional_args=told, progress=False)}


def vae() -> Any:
    from diffusers import AutoencoderKL
    from opensora.models.vae.vae import VideoAutoencoderKL, VideoAutoencoderPipeline, VideoAutoencoderPipelineConfig
    from opensora.models.vae.vae_temporal import VAE_Temporal

    c, levels = tiny.VAE, len(tiny.VAE["block_out_channels"])
    spatial = VideoAutoencoderKL.__new__(VideoAutoencoderKL)  # its own __init__ downloads
    nn.Module.__init__(spatial)
    spatial.module = AutoencoderKL(
        block_out_channels=c["block_out_channels"], layers_per_block=c["layers_per_block"],
        norm_num_groups=c["norm_num_groups"], down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels, latent_channels=4,
    )  # fmt: skip
    spatial.micro_batch_size, spatial.patch_size = 4, (1, 8, 8)
    temporal = VAE_Temporal(
        filters=c["filters"], num_res_blocks=c["num_res_blocks"], temporal_downsample=(False, True, True)
    )
    statistics = {"shift": (-0.10, 0.34, 0.27, 0.98), "scale": (3.85, 2.32, 2.33, 3.06)}
    config = VideoAutoencoderPipelineConfig(vae_2d=spatial, vae_temporal=temporal, micro_frame_size=17, **statistics)
    made = tiny.fill(VideoAutoencoderPipeline(config))
    tiny.certain(made.spatial_vae.module)
    return made


def halves(temporal: Any) -> dict[str, Tensor]:
    found = {}
    for frames, latents in ((1, 1), (5, 2), (17, 5), (34, 9)):
        posterior = temporal.encode(tiny.numbers(f"frames {frames}", 1, 4, frames, 3, 2))
        found[f"temporal encoded {frames}"] = posterior.parameters
        found[f"temporal decoded {frames}"] = temporal.decode(tiny.numbers(f"z {frames}", 1, 4, latents, 3, 2), frames)
    return found


def stack(made: Any) -> dict[str, Tensor]:
    """Encoded as `encode` does it, but for the temporal posterior's mean in place of a sample."""
    x = made.spatial_vae.encode(tiny.numbers("video", 1, 3, tiny.STACK_FRAMES, 16, 16))
    z = torch.cat([made.temporal_vae.encode(clip).mode() for clip in x.split(made.micro_frame_size, dim=2)], dim=2)
    latents = tiny.numbers("stack z", 1, 4, tiny.STACK_LATENTS, 2, 2)
    return {
        "stack encoded": (z - made.shift) / made.scale,
        "stack decoded": made.decode(latents, num_frames=tiny.STACK_FRAMES),
    }


def layouts() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of everything in the two checkpoints, at the released sizes, without their numbers."""
    from opensora.models.stdit.stdit3 import STDiT3, STDiT3Config
    from opensora.models.vae.vae_temporal import VAE_Temporal_SD

    with init_empty_weights(include_buffers=False):
        made = {"transformer": STDiT3(STDiT3Config()), "temporal_vae": VAE_Temporal_SD()}
    return {name: {key: list(x.shape) for key, x in module.state_dict().items()} for name, module in made.items()}


def reference() -> dict[str, Tensor]:
    """All that `kit.opensora.computed` has, from the model's own code."""
    with torch.no_grad():
        model, made = transformer(), vae()
        found = parts(model) | whole(model) | sampled(model) | halves(made.temporal_vae) | stack(made)
    return {name: tensor.contiguous() for name, tensor in found.items()}


def section(result: dict[str, Any]) -> str:
    """Of docs/agreement.md, from the figures."""
    bars = {name: (f"{tiny.bar(name):.0e}" if tiny.bar(name) else "exact") for name in result["differences"]}
    rows = "\n".join(f"| {name} | {bars[name]} | {value:.1e} |" for name, value in result["differences"].items())
    return SECTION.format(rows=rows, torch=result["torch"])


SECTION = """
## Open-Sora 1.2 against its own code

Written by `python -m benchmarks.opensora --oracle FOLDER`: the classes of `stg_lab.opensora` against those of
hpcaitech/Open-Sora v1.2.0 with the same weights and inputs, at tiny sizes (three pairs of blocks of width 48; frames that are no
whole number of patches, padded captions, given frames, clips that are not full), in float32 on a CPU (torch {torch}). The largest
difference, over the largest value where that is above 1. Names and shapes of all 973 entries of the transformer and all of the VAE
are the checkpoints' own. The expected values ship with the tests (`tests/data/opensora.safetensors`).

| what | bar | largest difference |
|---|---|---|
{rows}
"""


def main() -> None:
    """Compute with both, write the expected values, the figures and the page, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--oracle", type=Path, required=True, help="folder with the package opensora of v1.2.0")
    sys.path.insert(0, str(parser.parse_args().oracle))
    torch.manual_seed(0)  # image posteriors have a width of 3e-7
    theirs = reference()
    torch.manual_seed(0)
    ours = tiny.computed()
    differences = {name: tiny.difference(ours[name], tensor) for name, tensor in theirs.items()}
    result = {"torch": torch.__version__, "differences": differences}
    DATA.mkdir(exist_ok=True)
    save_file(theirs, DATA / "opensora.safetensors")
    lines = [f'"{kind} {key}": {json.dumps(shape)}' for kind, keys in layouts().items() for key, shape in keys.items()]
    (DATA / "opensora_layout.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    from benchmarks import agreement  # which has this section on its page

    published = json.loads(agreement.RESULT.read_text(encoding="utf-8"))
    (HERE.parent / "docs" / "agreement.md").write_text(agreement.page(published), encoding="utf-8")
    print(section(result))


if __name__ == "__main__":
    main()
