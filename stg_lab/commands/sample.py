"""`stg-lab sample`: videos of captions and seeds under one guidance."""

from __future__ import annotations

import argparse
import re
from typing import Any

from stg_lab.commands.typed import add_call, add_workers, call_of, client_of, pipe_of, prompts_of, typed
from stg_lab.given import Number, Place


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "sample",
        help="videos of captions and seeds, with or without a weak model",
        description="Sample every caption with every seed, one mp4 each. What was stopped goes on when the same command is given "
        "again; another guidance into the same folder adds its videos.",
    )
    add_call(parser, seeds=1)
    parser.add_argument("--weak", metavar="SPEC", help="weak model, such as skip:block:4 (default: none)")
    parser.add_argument(
        "--scale", type=typed(Number(), float), default=1.0, help="of the weak model (default: %(default)s)"
    )
    parser.add_argument(
        "--fps", type=typed(Number(0, 1000, above=True), float), default=8, help="frames a second (default: 8)"
    )
    parser.add_argument("--out", type=typed(Place()), required=True, metavar="DIR", help="folder of the videos")
    add_workers(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from stg_lab.guidance import CFG, STG, Guidance
    from stg_lab.weak import parse

    guidance = Guidance() if options.cfg is None else Guidance((CFG(options.cfg),))
    guidance = guidance if options.weak is None else guidance + STG(options.scale, parse(options.weak))
    prompts = prompts_of(options)
    with client_of(options) as client:
        return _sample(options, prompts, guidance, client)


def _sample(options: argparse.Namespace, prompts: list[str], guidance: Any, client: Any) -> int:
    from tqdm.auto import tqdm

    from stg_lab.files import written
    from stg_lab.sampling import plan
    from stg_lab.search import tasks
    from stg_lab.search.states import State
    from stg_lab.sweeps import crew
    from stg_lab.videos import mp4

    pipe, call = pipe_of(options), call_of(options)
    for prompt in prompts:
        plan(pipe, guidance, record=False, prompt=prompt, **call)  # refuses what cannot be, before anything is made
    model = tasks.Model.of(pipe)
    seeds = range(options.seed, options.seed + options.seeds)
    wanted = [
        tasks.Task(str(options.out), model, guidance.to_dict(), call, State({"prompt": prompt}, seed), ())
        for seed in seeds
        for prompt in prompts
    ]
    workers = crew(client)
    with tasks.working(model, pipe, workers), tqdm(total=len(wanted), unit="video", desc="sample") as bar:
        for _ in workers.do(tasks.make, [(task,) for task in wanted]):
            bar.update()
    for task in wanted:
        words = re.sub(r"[^a-z0-9]+", "-", task.state.caption.lower()).strip("-")[:60]
        file = options.out / f"{words}-seed-{task.state.seed}-{task.id[:6]}.mp4"
        if not file.exists():
            with written(file) as partial:
                partial.write_bytes(mp4(tasks.video_of(task.place)[None], fps=options.fps))
        print(f"written: {file}")
    return 0
