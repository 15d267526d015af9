"""Loading pipelines: the embedded ones, a local folder, or any diffusers repository."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stg_lab.errors import ModelNotFoundError, did_you_mean

_PACKAGE = Path(__file__).resolve().parent


def models_folder() -> Path:
    """Where the embedded models lie: `STG_LAB_MODELS` if set, else the checkout's data/models or the installed copy."""
    chosen = os.environ.get("STG_LAB_MODELS")
    if chosen:
        return Path(chosen)
    checkout = _PACKAGE.parent / "data" / "models"
    return checkout if checkout.is_dir() else _PACKAGE / "_data" / "models"


def embedded() -> list[str]:
    """Names of the models that ship with the lab; each loads with `lab.load(name)`, without a download."""
    folder = models_folder()
    if not folder.is_dir():
        return []
    whole = (p for p in folder.iterdir() if p.suffix != ".partial")  # an export on its way is none yet
    return sorted(p.name for p in whole if (p / "model_index.json").is_file())


def load(name: str | os.PathLike[str], **kwargs: Any) -> Any:
    """A stock diffusers pipeline, unchanged, from an embedded name, a local folder or a repository id.

    Args:
        name: one of `embedded()`, a folder with a `model_index.json`, or a repository id such as "genmo/mochi-1-preview".
        **kwargs: for `DiffusionPipeline.from_pretrained`, for example `torch_dtype=torch.bfloat16`.

    Returns:
        Whatever class the model's `model_index.json` names. Move it with `.to("cuda")` as usual.

    Raises:
        ModelNotFoundError: the name is none of the three.
    """
    text = os.fspath(name)
    place = models_folder() / text
    if text in embedded():
        return _from_folder(place, **kwargs)
    if (Path(text) / "model_index.json").is_file():
        return _from_folder(Path(text), **kwargs)
    if Path(text).is_dir():
        raise ModelNotFoundError(f"{text} is a folder without a model_index.json, so it is not a saved pipeline.")
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise ModelNotFoundError(
            f"{text!r} is no embedded model, no folder, and no repository id (owner/name).{did_you_mean(text, embedded())} "
            f"Embedded: {', '.join(embedded()) or 'none found'}."
        )
    from diffusers import DiffusionPipeline

    try:
        return DiffusionPipeline.from_pretrained(text, **kwargs)
    except OSError as error:
        raise ModelNotFoundError(
            f"{text!r} could not be loaded from the model hub: {error}\n"
            f"Check the name and the network, or start with an embedded model: {', '.join(embedded())}."
        ) from error


def _from_folder(folder: Path, **kwargs: Any) -> Any:
    from diffusers import DiffusionPipeline

    import stg_lab.digits.codec  # noqa: F401  (diffusers loads a component's class only if its module is imported already)

    with _quiet():
        return DiffusionPipeline.from_pretrained(str(folder), **kwargs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars for files that load in a blink, and no note that the VAE is not Wan's own: it is meant so."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    def drop(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Expected types for vae")

    logger = logging.getLogger("diffusers.pipelines.pipeline_utils")
    bars = (
        (diffusers_logging, diffusers_logging.is_progress_bar_enabled()),
        (
            transformers_logging,
            transformers_logging.is_progress_bar_enabled(),
        ),
    )
    logger.addFilter(drop)
    for module, _ in bars:
        module.disable_progress_bar()
    try:
        yield
    finally:
        logger.removeFilter(drop)
        for module, enabled in bars:
            if enabled:
                module.enable_progress_bar()
