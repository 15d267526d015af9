"""Recordings and packed recordings with random damage: read right, or refused in one line. `python -m kit.fuzz 5000 [seed]`."""

import collections
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import stg_lab as lab
from kit.older import as_older
from kit.stores import everything, same, small
from stg_lab.errors import LabError

MOST_SECONDS, MOST_BYTES = 20, 2**30


def flip(rng, data):
    at = rng.integers(len(data))
    return data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]


def noise(rng, data):
    at, length = rng.integers(len(data)), int(rng.integers(1, 40))
    return data[:at] + rng.bytes(length) + data[at + length :]


def digit(rng, data):
    """Another digit in place of one: other sizes, types and values in documents."""
    places = [i for i, byte in enumerate(data) if 48 <= byte < 58]
    if not places:
        return flip(rng, data)
    at = places[int(rng.integers(len(places)))]
    return data[:at] + str(int(rng.integers(10))).encode() * int(rng.integers(1, 8)) + data[at + 1 :]


BYTES = {
    "flip": flip,
    "noise": noise,
    "digit": digit,
    "cut": lambda rng, data: data[: int(rng.integers(len(data)))],
    "longer": lambda rng, data: data + rng.bytes(int(rng.integers(1, 2000))),
    "empty": lambda rng, data: b"",
    "nested": lambda rng, data: b"[" * 200_000,
}


def damage(rng, store, other):
    """Damage one thing in a folder; says what."""
    files = sorted(f for f in store.rglob("*") if f.is_file())
    file = files[int(rng.integers(len(files)))]
    kind = [*BYTES, "gone", "swap", "foreign", "folder gone", "folder", "stray"][int(rng.integers(len(BYTES) + 6))]
    if kind in BYTES:
        file.write_bytes(BYTES[kind](rng, file.read_bytes()))
    elif kind == "gone":
        file.unlink()
    elif kind == "swap":
        twin = files[int(rng.integers(len(files)))]
        first, second = file.read_bytes(), twin.read_bytes()
        file.write_bytes(second), twin.write_bytes(first)
    elif kind == "foreign":
        file.write_bytes((other / file.relative_to(store)).read_bytes())
    elif kind == "folder gone":
        shutil.rmtree(file.parent)
    elif kind == "folder":
        file.unlink()
        file.mkdir()
    else:
        (store / f"stray-{rng.integers(9)}").write_bytes(rng.bytes(10))
    return f"{kind} {file.relative_to(store)}"


def fuzz(count, seed=0):
    """What became of `count` damaged recordings: how many of each outcome, and what went wrong.

    A third is packed, and damaged in the zip. Packed ones and folders of older versions may read wrong numbers where no checksum
    is: of those only errors, time and memory are judged.
    """
    rng, outcomes, wrong = np.random.default_rng(seed), collections.Counter(), []
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        good, other = small(place / "good.zarr"), small(place / "other.zarr", seed=1)
        older, older_other = (
            as_older(shutil.copytree(store, place / f"older-{store.name}")) for store in (good, other)
        )
        packed = lab.pack(good, place / "good.zarr.zip").read_bytes()
        expected = everything(good)
        for trial in range(count):
            kind = ("folder", "zip", "folder", "older")[trial % 4]
            if kind == "zip":
                path, how = place / "bad.zarr.zip", [*BYTES][int(rng.integers(5))]
                path.write_bytes(BYTES[how](rng, packed))
            else:
                path = shutil.copytree(older if kind == "older" else good, place / "bad.zarr")
                how = damage(rng, path, older_other if kind == "older" else other)
            began = time.monotonic()
            try:
                outcome = "right" if same(everything(path), expected) else "wrong"
            except LabError:
                outcome = "refused"
            except Exception as error:
                outcome = f"traceback {type(error).__name__}"
            if time.monotonic() - began > MOST_SECONDS:
                outcome = "hang"
            outcomes[f"{kind}: {outcome}"] += 1
            if outcome not in ("right", "refused") and not (kind == "older" and outcome == "wrong"):
                wrong.append(f"{trial}: {kind}, {how}: {outcome}")
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return outcomes, wrong


def main():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    outcomes, wrong = fuzz(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    grew = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    for name, number in sorted(outcomes.items()):
        print(f"{number:6} {name}")
    print(*wrong, f"memory grew by {grew / 1e6:.0f} MB", sep="\n")
    sys.exit(bool(wrong) or grew > MOST_BYTES)


if __name__ == "__main__":
    main()
