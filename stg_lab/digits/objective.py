"""What an embedded model learns: its pipeline, its data and its loss. The trainer knows the rest."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import transformers
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from stg_lab.digits import world
from stg_lab.digits.muon import has_bfloat16
from stg_lab.digits.recipe import Recipe

CAPTIONS = """**Captions** follow one grammar: `a COLOUR DIGIT MOTION` with red, green, blue, yellow, white; zero to nine; moving left,
right, up, down, turning, growing, standing still, bouncing. The empty caption is the unconditional prompt."""


@dataclass(frozen=True)
class Card:
    """What a model card says of one kind of model; the class, the training and the scores it reads off by itself.

    Attributes:
        description: goes on after "A stock `CLASS`", to the end of the sentence.
        example: Python that makes a video with `pipe`.
        parts: what the pipeline is made of, as one paragraph.
        loss: what the loss curve shows.
        condition: what the model is told, as one paragraph.
        task: the hub's name for what it does.
        imports: lines that the example needs before it.
    """

    description: str
    example: str
    parts: str
    loss: str
    condition: str = CAPTIONS
    task: str = "text-to-video"
    imports: str = ""


class Objective(ABC):
    """One kind of embedded model as something to train.

    Attributes:
        recipe: the whole training run.
        pipe: the pipeline whose weights are trained, in place.
        name: how recipes call it.
    """

    name: ClassVar[str]

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.pipe = self.new()

    @abstractmethod
    def build(self) -> Any:
        """A new, untrained stock pipeline; the recipe's seed decides its weights."""

    def new(self) -> Any:
        """A new pipeline to train: untrained, but for a text encoder that the recipe takes from another model."""
        pipe = self.build()
        if self.recipe.text_from:
            take_text_encoder(pipe.text_encoder, Path(self.recipe.text_from) / "text_encoder")
        return pipe

    def trained(self, pipe: Any) -> dict[str, nn.Module]:
        """What of a pipeline is trained by this recipe, by name; the denoiser first."""
        return {name: part for name, part in self.parts(pipe).items() if not (self.recipe.text_from and name == "text")}

    @abstractmethod
    def parts(self, pipe: Any) -> dict[str, nn.Module]:
        """What of a pipeline is trained from scratch, by name; the denoiser first, and the text encoder as "text"."""

    @abstractmethod
    def blocks(self, denoiser: Any) -> list[nn.Module]:
        """What stochastic depth leaves out: the residual blocks that weak models skip, in the order in which they run."""

    @abstractmethod
    def data(self, update: int, split: str = "train") -> Any:
        """The data of one update: a function of the recipe's seed and the update's number alone."""

    @abstractmethod
    def loss(self, forward: Callable[..., Any], batch: Any, device: torch.device) -> Float[Tensor, " batch"]:
        """The loss of each clip.

        Args:
            forward: the denoiser, compiled or not.
        """

    @abstractmethod
    def sample(self, pipe: Any, clips: world.Clips, *, seeds: Sequence[int], **call: Any) -> Any:
        """One video a clip's label from the stock pipeline, `(batch, frame, height, width, 3)` in [0, 1].

        Args:
            seeds: of each sample's generator.
            **call: further arguments of the pipeline, such as `num_inference_steps` and its guidance scale.
        """

    @abstractmethod
    def card(self) -> Card:
        """The lines of the model card that only this kind of model can fill in."""

    def text_encoder_of(self) -> str:
        """For the card: where the text encoder comes from."""
        other = self.recipe.text_from
        return f"taken from `{Path(other).name}` as it is" if other else "trained with it"

    def in_blocks(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether a parameter, named as in `parts`, is a matrix inside the repeated blocks, which Muon is made for."""
        return "blocks." in name and parameter.ndim == 2

    def clips(self, update: int, split: str) -> tuple[world.Clips, torch.Generator]:
        """The clips of an update and a generator for whatever else is random in it."""
        clips = world.draw(self.recipe.stage_at(update).batch, seed=self._seed(update, 0), split=split)
        return clips, torch.Generator().manual_seed(self._seed(update, 2))

    def depth_generator(self, update: int) -> torch.Generator:
        """Random numbers of an update's stochastic depth, apart from its data: the same clips and noise at every probability."""
        return torch.Generator().manual_seed(self._seed(update, 1))

    def _seed(self, update: int, stream: int) -> int:
        return (self.recipe.seed << 40) + (stream << 38) + update


def take_text_encoder(encoder: nn.Module, folder: Path) -> None:
    """Load the weights of a saved text encoder, in place, and freeze them.

    It may be of the other class of T5s: those differ in how they see distances between tokens, which stays the encoder's own.

    Raises:
        ValueError: anything else has another shape.
    """
    kind = getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])
    saved, own = kind.from_pretrained(folder).state_dict(), encoder.state_dict()
    other = {name for name, value in own.items() if name not in saved or saved[name].shape != value.shape}
    if strange := sorted(name for name in other if "relative_attention_bias" not in name):
        raise ValueError(f"the text encoder in {folder} has another architecture: it differs in {strange[0]}.")
    encoder.load_state_dict({name: own[name] if name in other else saved[name] for name in own})
    encoder.requires_grad_(False)


def shifted(u: Float[Tensor, " batch"], shift: float) -> Float[Tensor, " batch"]:
    """Levels in [0, 1] shifted towards 1, as flow samplers shift their noise levels (Esser et al. 2024, section 5.3.2)."""
    return shift * u / (1 + (shift - 1) * u)


def noise_levels(batch: int, recipe: Recipe, generator: torch.Generator) -> Float[Tensor, " batch"]:
    """Noise levels in (0, 1): a shifted logit-normal (Esser et al. 2024, section 3.1) with a uniform share."""
    s = shifted(torch.sigmoid(torch.randn(batch, generator=generator)), recipe.noise_shift)
    uniform, choice = torch.rand(2, batch, generator=generator)
    return torch.where(choice < recipe.uniform_noise, uniform, s).clamp(1e-3, 1.0)


@contextmanager
def mixed_precision(device: torch.device) -> Iterator[None]:
    """Forward passes for training: in bfloat16 where the machine computes in it, with the attention that trains fastest.

    Elsewhere bfloat16 is emulated, at half the speed of float32. On a CPU the fused attention is slow in its backward pass
    for sequences as short as these, so that the plain products are taken: 1.6 times as fast for a clip's whole update.
    """
    if device.type != "cpu":
        with torch.autocast(device.type, torch.bfloat16):
            yield
        return
    allowed = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # those products in bfloat16 too; not of CUDA alone
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(device)), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(allowed)
