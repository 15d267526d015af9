"""Recorders killed for good at a chosen file operation. `python -m kit.kills 1000 [seed]`."""

import collections
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np

import stg_lab as lab
from kit.stores import everything, preview, same, small
from stg_lab.errors import LabError
from stg_lab.recording import successor
from stg_lab.recording.layout import FORMAT, MARK
from stg_lab.recording.previews import add_preview

OPERATIONS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")


def in_child(work, kill_at=None):
    """Do something in a forked child, and kill it before its file operation of this number; how many it made, if it was not."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        code, count = 1, [0]

        def hook(event, args):
            if event in OPERATIONS:
                count[0] += 1
                if count[0] == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            work()
            os.write(tell, str(count[0]).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(tell)
    with os.fdopen(told) as ended:
        said = ended.read()
    _, status = os.waitpid(child, 0)
    assert said or os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "the work failed by itself"
    return int(said) if said else None


def without_exchange():
    successor.exchange = lambda *folders: False  # as on systems that have none: two renames
    return True


WORK = {
    "fresh": lambda place: small(place),
    "overwrite": lambda place: small(place, seed=1, overwrite=True),
    "overwrite by two renames": lambda place: without_exchange() and small(place, seed=1, overwrite=True),
    "preview": lambda place: add_preview(place, preview(3), MARK, FORMAT),
    "pack": lambda place: lab.pack(place, place.with_name("packed.zarr.zip"), overwrite=True),
}


def judged(kind, place, known):
    """What is there after the kill; a text that begins with "WRONG" where it must not be."""
    try:
        found = everything(place)
    except LabError:
        outcome = "nothing yet" if kind == "fresh" else "WRONG: the earlier recording is gone"
    else:
        outcome = next((what for what, values in known.items() if same(found, values)), "WRONG: other numbers")
    if kind == "pack" and not same(everything(place.with_name("packed.zarr.zip")), known["the earlier one"]):
        outcome = "WRONG: the packed file"
    small(place, seed=1, overwrite=True)
    left = [name for name in os.listdir(place.parent) if name.startswith(".")]
    if left or not same(everything(place), known["the later one"]):
        outcome = f"WRONG: after the next run {left}"
    return outcome


def allowed(folder):
    """All that a kill may leave, by what it is: each of the two runs whole, cut off, and with another preview or none."""
    known = {}
    for seed, name in enumerate(("the earlier one", "the later one")):
        store = small(folder / f"{seed}.zarr", seed=seed)
        known[name] = everything(store)
        for wholes in (1, 2, 3):
            cut = everything(small(folder / f"{seed}-{wholes}.zarr", seed=seed, wholes=wholes))
            known[f"{wholes} steps of {name}"] = cut
    store = folder / "0.zarr"
    known["no preview"] = {**known["the earlier one"], "preview": "none"}
    known["the new preview"] = {
        **known["the earlier one"],
        "preview": preview(3).decode(lab.open(store).ds.final.values),
    }
    return known


def campaign(count, seed=0):
    """How often each outcome came in `count` kills."""
    rng, outcomes, operations = np.random.default_rng(seed), collections.Counter(), {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        known, place = allowed(folder), folder / "work" / "run.zarr"

        def prepare(kind):
            shutil.rmtree(place.parent, ignore_errors=True)
            place.parent.mkdir()
            if kind != "fresh":
                shutil.copytree(folder / "0.zarr", place)
            if kind == "pack":
                WORK["pack"](place)

        for kind, work in WORK.items():
            prepare(kind)
            operations[kind] = in_child(lambda work=work: work(place))
        for trial in range(count):
            kind = [*WORK][trial % len(WORK)]
            prepare(kind)
            in_child(lambda kind=kind: WORK[kind](place), int(rng.integers(1, operations[kind] + 1)))
            outcomes[f"{kind}: {judged(kind, place, known)}"] += 1
    return outcomes


def main():
    outcomes = campaign(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    for name, number in sorted(outcomes.items()):
        print(f"{number:6} {name}")
    sys.exit(any("WRONG" in name for name in outcomes))


if __name__ == "__main__":
    main()
