"""`lab.search`: which guidance is best, answered by sampling."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stg_lab.errors import CallError, GuidanceError, RecordingError
from stg_lab.given import Number, Several, read, takes
from stg_lab.guidance import Guidance, Term
from stg_lab.interop import as_guidance
from stg_lab.loading import load
from stg_lab.sampling.provenance import fingerprint, model_name
from stg_lab.sampling.temporary import TemporaryFolder
from stg_lab.sampling.values import check_names
from stg_lab.search import candidates as kinds
from stg_lab.search import tasks
from stg_lab.search.ask import Asked, Unanswered
from stg_lab.search.bench import Bench
from stg_lab.search.budget import Budget
from stg_lab.search.budget import budget as as_budget
from stg_lab.search.candidates import Candidate
from stg_lab.search.course import Course, Result
from stg_lab.search.folder import Folder, Missing
from stg_lab.search.found import Found
from stg_lab.search.progress import Progress
from stg_lab.search.scores import ASK, Score, scores
from stg_lab.search.states import States, states
from stg_lab.shipped import data_folder
from stg_lab.sweeps import ALONE, Workers, crew
from stg_lab.weak import Weak, parse


@takes(cfg=Number(1, above=True))
def search(
    pipe: Any,
    candidates: Sequence[Any] | None = None,
    *,
    prompts: Sequence[Any],
    seeds: Sequence[int] = range(32),
    guidance: Guidance | Term | Any | None = None,
    scale: float | Sequence[float] = 1.0,
    score: Any = "right",
    budget: str | float | None = None,
    record: bool | str | Path = True,
    client: Any = None,
    fresh: Sequence[int] | None = None,
    cfg: float | None = None,
    error: float = 0.05,
    overwrite: bool = False,
    progress: bool = True,
    **call: Any,
) -> Found:
    """Which layers to skip, or which guidance to take, answered by sampling: a race of candidates on the same captions and seeds,
    and a test of the winner on fresh ones. How it decides, and how sure that is: `stg_lab.search.race`.

    Everything that is made lies in a folder, file by file. A search that was stopped or killed goes on when the same call is made
    again; `lab.open_search(folder)` reads it at any time.

    Args:
        pipe: a pipeline, or what `lab.load` takes. Other processes load it by its name, in its dtype, each onto its own GPU where it
            has one; here it stays where it is.
        candidates: weak models such as `lab.skip([5])` or their specifications, each tried at every scale; terms and sums, taken as
            they are. None for every layer x part x axis that the model has; then the best one together with each other layer; then
            head by head within it (greedily, as HeadHunter does: Ahn et al. 2025), each step a race around the best so far.
        prompts: captions, or a `Path` of a file of them, which `lab.prompts` reads; for pipelines that start from a picture, dicts with
            the arguments of their call. Intervals are over seeds for these prompts.
        seeds: seeds to choose by. `lab.sample(pipe, prompt=..., seed=..., guidance=...)` makes any of the videos again.
        guidance: what candidates are added to; None for no guidance at all.
        scale: of candidates that are weak models; several are several candidates.
        score: what is better. "right" or "probability" (the judge of the digits world), a metric of `lab.metrics` that needs no
            reference, such as "niqe" (extra `metrics`), a function from a video `(1, frame, height, width, 3)` in [0, 1] to a number, or a list
            of these: the first decides, a candidate is dropped where another one is better in all, and `found.front` has those that
            none beats. "ask": people say which video is better, in blind pairs with the guidance alone.
        budget: "20 min" of time, "400 videos" or 400, "6000 passes" through the network. None for all states.
        record: the folder; True for a temporary one, which goes with what is returned.
        client: who works: None for this process, a number of processes of this machine, or a `dask.distributed.Client` (extra
            `cluster`, docs/cluster.md).
        fresh: seeds to tell by; None for as many after those to choose by.
        cfg: scale of the baseline "CFG at equal cost" where `guidance` has no CFG; None for the pipeline's own.
        error: chance that the interval misses the truth, and that a race drops its best candidate as worse.
        overwrite: delete another search at `record`.
        progress: whether to show a bar with what is left.
        **call: everything else goes to `pipe(...)` unchanged.

    Returns:
        Found: `.verdict`, `.table`, `.best`, `.front`, `.grid()`.

    Raises:
        CallError, GuidanceError, MetricError, RecordingError, UnsupportedPipelineError: nearly all before any compute is spent;
            each message says what to type instead.
    """
    lot = states(prompts, seeds, fresh)
    measured = scores(score, [one.get("prompt", "") for one in lot.prompts])
    asked_budget, scales = as_budget(budget), _scales(scale)
    place, keep = _place(record)
    if isinstance(pipe, str | os.PathLike):
        pipe = load(pipe).to("cpu" if client is not None else tasks.device())
    check_names(pipe, call, search)
    if both := set(call) & set(lot.prompts[0]):
        raise CallError(f"prompts= says what to show, and {sorted(both)[0]}= is said once more. Leave it out.")
    base = _base(guidance, pipe, call)
    example = {**call, **lot.prompts[0]}
    source = _source(pipe, candidates, base, scales, example)
    first = source(0, None)  # refuses what cannot be, before a folder is made
    reference = kinds.reference(base).planned(pipe, example)
    kinds.baselines(pipe, base, first[0], cfg, example)
    model = tasks.Model.of(pipe)
    workers = _crew(client, model)
    asked = _asked(model, pipe, lot, measured, base, reference, candidates, first, cfg, error, call)
    folder = Folder.begin(place, asked, overwrite=overwrite)
    with tasks.working(model, pipe, workers), Progress(shown=progress) as bar:
        bench = Bench(folder, model, lot, call, measured, workers, bar.made)
        bench.candidates[reference.name] = reference
        course = Course(
            reference,
            _kept_steps(folder, bench, source),
            Asked(bench, reference.name).measure if score == ASK else bench.measure,
            _kept_baselines(folder, bench, lambda winner: kinds.baselines(pipe, base, winner, cfg, example)),
            lot.count,
            by_videos=asked_budget.unit == "videos",
            error=error,
            growing=candidates is None,
            told=bar.say,
        )
        question = None
        try:
            course.budget = bar.total = _amount(asked_budget, folder, course, bench, workers, bar.say)
            result = course.run()
        except Unanswered as waiting:
            question, result = waiting.rating, _so_far(folder)
        except BaseException as stopped:
            _tell_how_to_go_on(folder, keep, stopped)
            raise
    return Found(folder, result, keep=keep, question=question)


def open_search(path: str | Path) -> Found:
    """A search from its folder, finished or as far as it went; needs no model and no GPU.

    Args:
        path: the folder, or the name of a search that ships, such as "layers".

    Raises:
        RecordingError: there is none, or it cannot be read.
    """
    place = Path(path)
    shipped = data_folder("searches") / place
    folder = Folder.open(shipped if not place.exists() and len(place.parts) == 1 and shipped.exists() else place)
    return Found(folder, _so_far(folder))


def _so_far(folder: Folder) -> Result:
    """The race over again, on what is there."""
    asked, kept = folder.told["asked"], folder.steps()

    def propose(step: int, best: Candidate | None) -> list[Candidate]:
        if step >= len(kept) and not folder.told.get("steps_done"):
            raise Missing("a further step")
        return kept[step] if step < len(kept) else []

    def told_with(winner: Candidate) -> list[Candidate]:
        if not (found := folder.baselines()):
            raise Missing("baselines")
        return found

    spent = folder.told["budget"] or {}
    course = Course(
        Candidate.from_dict(asked["reference"]), propose, folder.read, told_with, tuple(asked["states"]),
        float(spent.get("amount") or "inf"), spent.get("unit") == "videos", asked["error"], asked["growing"],
    )  # fmt: skip
    return course.run()


def _tell_how_to_go_on(folder: Folder, keep: TemporaryFolder | None, stopped: BaseException) -> None:
    if not any((folder.path / tasks.CELLS).glob("*.json")):
        return
    if keep is not None:
        keep.keep()
    stopped.add_note(
        f"What was made is kept. To go on, make the same call with record={str(folder.path)!r}; "
        f"lab.open_search({str(folder.path)!r}) reads what is there."
    )


# ---- what was given ----


def _base(guidance: Any, pipe: Any, call: Mapping[str, Any]) -> Guidance:
    return Guidance() if guidance is None else as_guidance(guidance, pipe, call)


def _scales(scale: Any) -> tuple[float, ...]:
    found = read("scale", scale, Several(Number()), GuidanceError, "scale=[0.5, 1, 2]")
    return tuple(found) if isinstance(found, list) else (found,)


def _place(record: Any) -> tuple[Path, TemporaryFolder | None]:
    if record is True:
        keep = TemporaryFolder()
        return Path(keep.path) / "search", keep
    if record is False:
        raise RecordingError("a search lies in a folder: record='out/search', or record=True for a temporary one.")
    return record, None


def _crew(client: Any, model: tasks.Model) -> Workers:
    workers = crew(client)
    if workers is ALONE or model.name:
        return workers
    raise CallError(
        "other processes load the model by its name, and this pipeline has none. Save it, pipe.save_pretrained('FOLDER'), and give "
        "the folder; or leave client= out."
    )


def _source(
    pipe: Any, given: Any, base: Guidance, scales: Sequence[float], call: Mapping[str, Any]
) -> Callable[[int, Candidate | None], list[Candidate]]:
    """What proposes the candidates of each step, with their costs."""

    def planned(found: Sequence[Candidate]) -> list[Candidate]:
        return [one.planned(pipe, call) for one in found]

    def propose(step: int, best: Candidate | None) -> list[Candidate]:
        if given is not None or best is None:
            weak = kinds.every_layer(pipe) if given is None else given
            return planned(kinds.given(weak, base, scales)) if not step else []
        model = parse(best.weak)
        more: list[Weak] = kinds.pairs_with(model, pipe) if step == 1 else kinds.heads_within(model, pipe)
        return planned([kinds.of_weak(one, best.scale, base) for one in more])

    return propose


def _asked(
    model: tasks.Model, pipe: Any, lot: States, measured: Sequence[Score], base: Guidance, reference: Candidate, given: Any,
    first: Sequence[Candidate], cfg: float | None, error: float, call: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """All that decides what a search finds, but for its budget: a folder holds one such search."""
    if not 0 < error < 1:
        raise CallError(f"error= is a chance between 0 and 1, such as 0.05, got {error}.")
    return {
        "model": model_name(pipe), "fingerprint": model.fingerprint, "dtype": model.dtype,
        "versions": tasks.deciding_versions(), "prompts": [{k: fingerprint(v) for k, v in p.items()} for p in lot.prompts],
        "seeds": list(lot.seeds), "fresh": list(lot.fresh_seeds), "states": list(lot.count),
        "scores": [s.name for s in measured], "signs": [s.sign for s in measured], "score_code": [s.source for s in measured],
        "guidance": str(base), "reference": reference.to_dict(), "candidates": [one.to_dict() for one in first],
        "growing": given is None, "cfg": cfg, "error": error, "call": {k: fingerprint(v) for k, v in call.items()},
    }  # fmt: skip


# ---- what is decided on the way, and kept ----


def _kept_steps(folder: Folder, bench: Bench, source: Callable) -> Callable[[int, Candidate | None], list[Candidate]]:
    """The candidates of each step: as kept, or new ones, which are kept."""

    def propose(step: int, best: Candidate | None) -> list[Candidate]:
        kept = folder.steps()
        if step >= len(kept):
            found = source(step, best)
            if found:
                folder.told["steps"].append({"candidates": [one.to_dict() for one in found]})
            folder.told["steps_done"] = not found
            folder.save()
        found = kept[step] if step < len(kept) else found
        bench.candidates |= {one.name: one for one in found}
        return found

    return propose


def _kept_baselines(folder: Folder, bench: Bench, source: Callable) -> Callable[[Candidate], list[Candidate]]:
    def baselines(winner: Candidate) -> list[Candidate]:
        found = source(winner)
        folder.told["baselines"] = [one.to_dict() for one in found]
        folder.save()
        bench.candidates |= {one.name: one for one in found}
        return found

    return baselines


def _amount(
    asked: Budget, folder: Folder, course: Course, bench: Bench, workers: Workers, say: Callable[[str], None]
) -> float:
    """The budget in the unit of costs. Of a time, what it was taken for first, so that a search that goes on decides the same."""
    kept = folder.told["budget"]
    if kept and kept["asked"] == str(asked) and kept["workers"] == workers.count:
        return float(kept["amount"] or "inf")
    rate = 1.0
    if asked.unit == "seconds":
        names = [course.reference.name, *(one.name for one in course.propose(0, None))]
        course.measure(names, 0, 1, False)  # every one makes this state in any case
        rate = bench.seconds_a_unit(names)
        say(
            f"a pass takes {rate:.2g} s; {asked} with {workers.count} at work are {asked.passes(workers.count, rate):.0f} passes"
        )
    amount = asked.passes(workers.count, rate)
    unit = "videos" if asked.unit == "videos" else "passes"
    folder.told["budget"] = {
        "asked": str(asked), "workers": workers.count, "amount": None if amount == float("inf") else amount, "unit": unit,
    }  # fmt: skip
    folder.save()
    return amount


__all__ = ["open_search", "search"]
