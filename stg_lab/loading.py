"""Loading pipelines: the embedded ones, a local folder, or any diffusers repository."""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stg_lab.errors import CallError, LabError, ModelNotFoundError, UnsafeModelError, did_you_mean
from stg_lab.given import shown
from stg_lab.opensora import checkpoints
from stg_lab.shipped import data_folder

PICKLED = (".bin", ".ckpt", ".pt", ".pth")
#: Packages whose errors are about reaching the hub; not all of them are `OSError`.
NETWORK = ("httpx", "httpx2", "httpcore", "httpcore2", "huggingface_hub", "requests", "urllib3")
#: Arguments that are about reaching the hub.
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token")

#: How messages begin that would worry whoever loads a model, and should not.
NEEDLESS = ("Expected types for vae", "Couldn't connect to the Hub", "`CLIPImageProcessor` requires torchvision")


def models_folder() -> Path:
    """Where the embedded models lie: `STG_LAB_MODELS` if set, else the checkout's data/models or the installed copy."""
    chosen = os.environ.get("STG_LAB_MODELS")
    if chosen:
        return Path(chosen)
    return data_folder("models")


def embedded() -> list[str]:
    """Names of the models that ship with the lab; each loads with `lab.load(name)`, without a download."""
    folder = models_folder()
    if not folder.is_dir():
        return []
    whole = (p for p in folder.iterdir() if p.suffix != ".partial")  # an export on its way is none yet
    return sorted(p.name for p in whole if (p / "model_index.json").is_file())


def folder_of(name: str | os.PathLike[str]) -> Path:
    """Where an embedded model or a local folder lies; of a repository id, a place that is not there."""
    text = os.fspath(name)
    return models_folder() / text if text in embedded() else Path(text)


def pipeline_name(name: str | os.PathLike[str]) -> str:
    """Class of an embedded or local model's pipeline, without loading it; "" where only loading tells."""
    try:
        index = json.loads((folder_of(name) / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(index.get("_class_name", "")) if isinstance(index, dict) else ""


def load(name: str | os.PathLike[str], **kwargs: Any) -> Any:
    """A stock diffusers pipeline, unchanged, from an embedded name, a local folder or a repository id.

    Nothing that comes with a model is run: weights are read from safetensors alone, and classes that a model brings along are
    refused. Diffusers' own `use_safetensors=None` and `trust_remote_code=True` allow it for a source that you trust.

    Open-Sora 1.2, which diffusers does not have, is "hpcai-tech/OpenSora-STDiT-v3" or a folder of it. It takes `vae=` (a repository
    id, by default "hpcai-tech/OpenSora-VAE-v1.2", a folder or a loaded one), `text_encoder=` and `tokenizer=` (a T5 v1.1 XXL of
    yours; without one it is called with `prompt_embeds`), `scheduler=` and `dtype=`; see `stg_lab.opensora`.

    Args:
        name: one of `embedded()`, a folder with a `model_index.json`, or a repository id such as "genmo/mochi-1-preview".
        **kwargs: for `DiffusionPipeline.from_pretrained`, for example `dtype=torch.bfloat16`.

    Returns:
        Whatever class the model's `model_index.json` names. Move it with `.to("cuda")` as usual.

    Raises:
        ModelNotFoundError: the name is none of the three, or the repository cannot be reached and is not in the cache.
        UnsafeModelError: the model has pickled weights alone, or classes of its own.
    """
    if check_name(name):
        import stg_lab.digits.codec  # noqa: F401  (diffusers loads a component's class only if its module is imported already)

        with _quiet(bars=False):
            return _from_pretrained(str(folder_of(name)), kwargs)
    with _quiet(bars=True):
        return _from_pretrained(os.fspath(name), kwargs)


def check_name(name: str | os.PathLike[str]) -> bool:
    """Refuse what names no model, without importing anything heavy; whether it lies on this machine, else it is a repository id.

    Raises:
        ModelNotFoundError: no embedded name, no folder of a pipeline, and no repository id.
    """
    if not isinstance(name, str | os.PathLike):
        raise ModelNotFoundError(
            f"a model is named by text: an embedded name ({', '.join(embedded()) or 'none found'}), a folder, or a repository id, "
            f"got {shown(name)}. Type for example lab.load('digits-joint'). A pipeline that you have already needs no lab.load."
        )
    text, folder = os.fspath(name), folder_of(name)
    if (folder / "model_index.json").is_file() or (folder.is_dir() and checkpoints.is_released(folder)):
        return True
    if folder.is_dir():
        raise ModelNotFoundError(f"{text} is a folder without a model_index.json, so it is not a saved pipeline.")
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise ModelNotFoundError(
            f"{text!r} is no embedded model, no folder, and no repository id (owner/name).{did_you_mean(text, embedded())} "
            f"Embedded: {', '.join(embedded()) or 'none found'}."
        )
    return False


def _from_pretrained(place: str, kwargs: dict[str, Any]) -> Any:
    if checkpoints.is_released(place):
        return _open_sora(place, **kwargs)
    from diffusers import DiffusionPipeline

    asked = {"use_safetensors": True, **kwargs}
    kind: Any = _checking(DiffusionPipeline, place, asked)
    if pipeline_name(place) == "OpenSoraPipeline":  # diffusers finds only classes of its own by name
        from stg_lab.opensora import OpenSoraPipeline as kind

    def read() -> Any:
        _check_shards(Path(place), place, asked)
        return kind.from_pretrained(place, **asked)

    return _or_told(place, asked, read)


def _checking(stock: Any, place: str, asked: Mapping[str, Any]) -> Any:
    """diffusers' general pipeline, which looks at the shards of a repository between fetching and reading them."""

    class DiffusionPipeline(
        stock
    ):  # by its name and module diffusers knows the class that takes the pipeline's from the model
        __module__ = stock.__module__

        @classmethod
        def download(cls, name: Any, **options: Any) -> Any:
            folder = super().download(name, **options)
            _check_shards(Path(folder), place, asked)
            return folder

    return DiffusionPipeline


def _or_told(place: str, asked: Mapping[str, Any], read: Callable[[], Any], advice: str = "") -> Any:
    """What is read from a place, or an error that says what to do."""
    try:
        return read()
    except Exception as error:
        told = _told(place, asked, error, advice)
        if told is None:
            raise
        # Chained to nothing: what the libraries below had to say is in the message.
        raise told from None


def _check_shards(folder: Path, place: str, asked: Mapping[str, Any]) -> None:
    """Weights in several files have an index that names them, and what it names is read by its ending: safetensors alone, there.

    Raises:
        UnsafeModelError: an index of safetensors names a file of another kind, or one that lies elsewhere.
    """
    if not asked["use_safetensors"]:
        return
    for index in sorted(folder.glob("**/*.safetensors.index*.json")):
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            continue  # diffusers will say that it cannot be read
        wrong = sorted(str(n) for n in named if not str(n).endswith(".safetensors") or Path(str(n)).name != n)
        if wrong:
            raise UnsafeModelError(
                f"{index.relative_to(folder)} of {place} names {wrong[0]!r}: shards of safetensors end in .safetensors and lie "
                "beside their index. Anything else can run code when it is read. If you trust its source, type "
                f"lab.load({place!r}, use_safetensors=None)."
            )


def _open_sora(place: str, vae: Any = checkpoints.VAE, **kwargs: Any) -> Any:
    """Open-Sora 1.2 from its two checkpoints, each a folder or a repository id."""
    from huggingface_hub import snapshot_download

    from stg_lab.opensora import from_released

    hub = {name: kwargs.pop(name) for name in HUB_OPTIONS if name in kwargs}
    kwargs.pop("use_safetensors", None)  # there is nothing else
    if unknown := kwargs.keys() - inspect.signature(from_released).parameters.keys():
        taken = ", ".join([*list(inspect.signature(from_released).parameters)[1:], *HUB_OPTIONS])
        raise CallError(f"Open-Sora 1.2 is loaded with {taken}; got {sorted(unknown)[0]!r}.")

    def folder_of_checkpoint(one: Any) -> Any:
        if not isinstance(one, str | os.PathLike) or Path(one).is_dir():
            return one
        files = [checkpoints.CONFIG, checkpoints.WEIGHTS]
        name = os.fspath(one)
        return _or_told(name, {}, lambda: snapshot_download(name, allow_patterns=files, **hub), checkpoints.ADVICE)

    folders = [folder_of_checkpoint(one) for one in (place, vae)]
    text = kwargs.get("text_encoder")  # all that is left to be looked for; folders tell by themselves what they lack
    place = os.fspath(text) if isinstance(text, str | os.PathLike) else place
    advice = f"fetch it on another machine with `hf download {place} --local-dir T5` and type text_encoder='T5'"
    return _or_told(place, {"use_safetensors": True}, lambda: from_released(*folders, **kwargs), advice)


def _told(place: str, asked: Mapping[str, Any], error: Exception, advice: str = "") -> Exception | None:
    """What to tell of a model that could not be loaded; None where the error says it itself, or is not about the model."""
    if isinstance(error, LabError):
        return None
    text, folder = str(error), Path(place)
    if isinstance(error, ValueError) and "custom code" in text and not asked.get("trust_remote_code"):
        return UnsafeModelError(
            f"{place} comes with code of its own, which loading would run. Read it; if you trust it, type "
            f"lab.load({place!r}, trust_remote_code=True)."
        )
    pickled = _pickled(folder)
    if isinstance(error, OSError) and asked.get("use_safetensors") and (pickled or "`safetensors` weights" in text):
        return UnsafeModelError(
            f"{place} has no safetensors weights{f' for {pickled[0]}, only {pickled[1]}' if pickled else ''}: pickled weights can "
            "run code when they are read. If you trust their source, type "
            f"lab.load({place!r}, use_safetensors=None), and .save_pretrained(folder) what you get: that writes safetensors."
        )
    root = _root(error)
    network = type(root).__module__.partition(".")[0] in NETWORK or isinstance(root, ConnectionError | TimeoutError)
    if folder.is_dir() or not network:
        return ModelNotFoundError(f"{place} could not be loaded: {text}") if isinstance(error, OSError) else None
    if isinstance(root, ValueError):
        return ModelNotFoundError(f"{place!r} is no repository id (owner/name): {_first_line(root)}.")
    start = f"An embedded model needs no network: {', '.join(embedded()) or 'none found'}."
    status = getattr(getattr(root, "response", None), "status_code", None)
    if status in (401, 403, 404):
        return ModelNotFoundError(
            f"{place!r} is not on the model hub, or not open to you. Check the name; for a repository with terms, accept them on "
            f"its page and log in with `hf auth login`. {start}"
        )
    advice = (
        advice
        or f"fetch it on another machine with `hf download {place} --local-dir FOLDER` and type lab.load('FOLDER')"
    )
    return ModelNotFoundError(
        f"{place!r} is not in the local cache, and the model hub could not be reached ({_first_line(root)}). Connect and try "
        f"again, or {advice}. {start}"
    )


def _root(error: BaseException) -> BaseException:
    """What an error goes back to."""
    while (below := error.__cause__ or error.__context__) is not None and getattr(error, "response", None) is None:
        error = below
    return error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _pickled(folder: Path) -> tuple[str, str] | None:
    """A component whose weights are pickled only, and the name of their file."""
    for config in sorted(folder.glob("*/config.json")):
        files = list(config.parent.iterdir())
        pickled = sorted(f.name for f in files if f.suffix in PICKLED)
        if pickled and not any(f.suffix == ".safetensors" for f in files):
            return config.parent.name, pickled[0]
    return None


@contextlib.contextmanager
def _quiet(*, bars: bool) -> Iterator[None]:
    """No note that the VAE is not Wan's own: it is meant so; nor that there is no network: an error will say it, or the cache
    has all that is needed; nor that pictures are resized without torchvision: they are, as well.

    Args:
        bars: whether to show progress bars; files that load in a blink need none.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    def drop(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(NEEDLESS)

    loggers = [
        logging.getLogger(name) for name in ("diffusers.pipelines.pipeline_utils", "transformers.utils.import_utils")
    ]
    shown = [m for m in (diffusers_logging, transformers_logging) if not bars and m.is_progress_bar_enabled()]
    for logger in loggers:
        logger.addFilter(drop)
    for module in shown:
        module.disable_progress_bar()
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(drop)
        for module in shown:
            module.enable_progress_bar()
