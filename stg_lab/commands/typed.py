"""Options that several commands have, and how they are read."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stg_lab.errors import CallError
from stg_lab.given import Kind, Number, Refused, Whole
from stg_lab.suites import FILES, is_suite, prompts

DTYPES = ("float32", "bfloat16", "float16")


def typed(kind: Kind, convert: Callable[[str], Any] = str) -> Callable[[str], Any]:
    """What argparse reads an option with."""

    def value(text: str) -> Any:
        try:
            given = convert(text)
        except ValueError:
            given = text
        try:
            return kind.read(given)
        except Refused as error:
            said = f"{text!r} is not {error.args[0]}.{''.join(error.args[1:])}"
            raise argparse.ArgumentTypeError(said.removesuffix(".")) from None

    return value


def add_call(parser: argparse.ArgumentParser, seeds: int) -> None:
    """The model, and what it is to show."""
    parser.add_argument("model", metavar="MODEL", help="embedded name, folder or repository id")
    parser.add_argument(
        "--prompts", nargs="+", required=True, metavar="PROMPT",
        help="captions; or one file with them (.txt, a line a caption, .json or .csv); or `vbench`, or `vbench:DIMENSION`",
    )  # fmt: skip
    parser.add_argument(
        "--seeds",
        type=typed(Whole(1), int),
        default=seeds,
        metavar="N",
        help="how many, from --seed (default: %(default)s)",
    )
    parser.add_argument("--seed", type=typed(Whole(), int), default=0, help="the first one (default: %(default)s)")
    parser.add_argument("--steps", type=typed(Whole(1), int), help="sampling steps (default: the pipeline's own)")
    parser.add_argument("--cfg", type=typed(Number(1), float), help="scale of classifier-free guidance (default: none)")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights (default: as lab.load has them)")


def pipe_of(options: argparse.Namespace) -> Any:
    """The pipeline, on a GPU where there is one and this process works itself."""
    import torch

    from stg_lab.loading import load

    pipe = load(options.model, **({} if options.dtype is None else {"dtype": getattr(torch, options.dtype)}))
    elsewhere = getattr(options, "workers", None) or getattr(options, "scheduler", None)
    return pipe.to("cuda") if torch.cuda.is_available() and not elsewhere else pipe


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Who works."""
    who = parser.add_mutually_exclusive_group()
    who.add_argument(
        "--workers", type=typed(Whole(1), int), metavar="N", help="processes of this machine (default: this one)"
    )
    who.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a dask cluster, such as tcp://10.0.0.1:8786 (docs/cluster.md)"
    )


def call_of(options: argparse.Namespace) -> dict[str, Any]:
    """What goes to the pipeline unchanged."""
    return {} if options.steps is None else {"num_inference_steps": options.steps}


def prompts_of(options: argparse.Namespace) -> list[str]:
    """Captions as they were typed, or those of a file or suite.

    Raises:
        CallError: there are none in it.
    """
    given = options.prompts
    return prompts(given[0]) if len(given) == 1 and (given[0].endswith(FILES) or is_suite(given[0])) else given


@contextlib.contextmanager
def client_of(options: argparse.Namespace) -> Iterator[Any]:
    """What `client=` takes.

    Raises:
        CallError: dask is not there, or the scheduler does not answer.
    """
    if options.scheduler is None:
        yield options.workers
        return
    try:
        from distributed import Client
    except ImportError:
        raise CallError("--scheduler needs dask.distributed. Type: pip install 'stg-lab[cluster]'.") from None
    try:
        client = Client(options.scheduler, timeout=20)
    except (OSError, ValueError, TimeoutError) as error:
        raise CallError(f"no scheduler answers at {options.scheduler} ({error}). See docs/cluster.md.") from None
    with client:
        yield client


def written(path: Path, what: str) -> None:
    """Say what was written."""
    print(f"written: {path}  {what}")
