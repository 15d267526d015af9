"""Small recordings made by hand, without a model and without torch."""

import warnings

import numpy as np

import stg_lab as lab
from stg_lab.preview import Preview
from stg_lab.recording.writer import Recorder

SHAPE = (2, 3, 2, 4, 4)
BRANCHES = ("cond", "skip", "guided")


def preview(seed=0):
    rng = np.random.default_rng(seed)
    first, rest = rng.standard_normal((12, 3)), rng.standard_normal((24, 3))
    return Preview(first, rng.standard_normal(12), rest, rng.standard_normal(24), 2, 2, False)


def small(path, *, steps=3, seed=0, wholes=None, **options):
    """Write a recording; `wholes` steps of it, where not all. Everything in it follows from the seed."""
    rng = np.random.default_rng(seed)
    recorder = Recorder(path, **options)
    samples = {"caption": ["a red seven", "ü"], "seed": [seed + 5, seed + 6]}
    settings = {"number": 4.5, "guidance_scale": 4.0, "seed": seed}
    recorder.start(
        steps=steps, branches=BRANCHES, shape=SHAPE, settings=settings, samples=samples, preview=preview(seed)
    )
    for k in range(steps if wholes is None else wholes):
        level = {"timestep": 900.0 - k, "sigma": 0.9 - 0.1 * k, "x0_sample": 1.0, "x0_prediction": 0.1 * k - 0.9}
        recorder.write(level, *arrays(rng))
    if wholes is None:
        recorder.finish(arrays(rng)[0])
    recorder.give_up()
    return path


def arrays(rng):
    """x_t and predictions of a step."""
    drawn = rng.standard_normal((1 + len(BRANCHES), *SHAPE)).astype(np.float32)
    return drawn[0], dict(zip(BRANCHES, drawn[1:], strict=True))


def everything(path):
    """All values that a recording gives, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lab.IncompleteRecordingWarning)
        rec = lab.open(path)
    found = {str(name): array.values for name, array in rec.ds.variables.items()}
    found |= {"settings": repr(rec.settings), "complete": rec.complete, "planned": rec.planned}
    return found | {"preview": rec.preview(rec.ds.final.values) if rec.has_preview else "none"}


def same(one, other):
    """Whether two results of `everything` are equal, bit for bit."""
    return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)


def _equal(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
