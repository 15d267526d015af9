# fmt: off
"""Bad values by the kind of argument, and every public function with a call of it that is good.

The table of `test_bad_input.py`: each argument of each public name, with what somebody may type there by mistake.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import stg_lab as lab
from stg_lab import analysis, figures, gaussians, interop, metrics, plots, report, widgets
from stg_lab.given import shown as said
from stg_lab.weak import parse

NAN, INF = math.nan, math.inf
HUGE = 10**30  # more than a machine counts in
DEEP: Any = []
for _ in range(2000):
    DEEP = [DEEP]
STRANGE = [object(), {}, b"4", 1j, DEEP]
WORDS = ["", "nope", "\0"]

WHOLE = [*STRANGE, "a", "4", 1.5, NAN, INF, -INF, -1, True, [], [1.5], HUGE, -HUGE, np.float64(2.5), np.zeros(2)]
SIZE = [*WHOLE, 0]  # a count of something that must be there
NUMBER = [*STRANGE, "a", "0.2", NAN, INF, -INF, True, [], np.zeros(2), np.complex64(1), HUGE**30]
ABOVE = [*NUMBER, 0, -1]  # above zero
SHARE = [*NUMBER, -0.1, 1.1]
SCALE = [*STRANGE, "a", "4", NAN, INF, None, [], [NAN], [1, "a"], ["1"], np.zeros((2, 2)), np.complex64(1), [True]]
BANDS = [*STRANGE, "a", NAN, INF, True, [], [NAN], [1, "a"], ["1"], np.zeros((2, 2)), np.complex64(1), [True]]
FLAG = [*STRANGE, *WORDS, "False", 2, NAN, []]
CHOICE = [*STRANGE, *WORDS, 5, NAN, []]
CHOICES = [*STRANGE, *WORDS, 5, NAN, [], [5], ["nope"]]
PLACE = [*STRANGE, "", "\0", 5, NAN, True, [], "s3://bucket/x", "https://example.org/x.zarr", Path("s3://bucket/x")]
RECORD = [*STRANGE, "", "\0", 5, NAN, [], "s3://bucket/x.zarr", "file:///tmp/x.zarr"]
SOURCE = [*STRANGE, *WORDS, 5, NAN, None, True, [], "s3://bucket/x.zarr", "nowhere.zarr"]
BASELINE = [*STRANGE, *WORDS, 5, NAN, [], "nowhere.zarr"]
SWEEP = SOURCE
GUIDANCE = [*STRANGE, "CFG(4)", "", 5, NAN, [], [lab.CFG(4)], True]
WEAK = [*STRANGE, *WORDS, 5, NAN, None, [], "skip:block:5"]
LAYERS = [*STRANGE, "", "nope", 1.5, NAN, -1, True, [], [1.5], [-1], [True], ["1"], [HUGE], np.zeros((2, 2))]
PIPE = [*STRANGE, "digits-joint", 5, None, []]
FUNCTION = [*STRANGE, "print", 5, []]
TEXT = [*STRANGE, 5, NAN, [], [5]]
TEXTS = [*STRANGE, 5, NAN, [5], [None]]
VIDEO = [
    *STRANGE, "nope", None, 5, [], [[1, 2], [3]], np.zeros(3), np.zeros((0, 9, 32, 32, 3)), np.zeros((1, 9, 32, 32, 4)),
    np.zeros((1, 9, 32, 32, 3), complex), np.zeros((1, 9, 32, 32, 3), bool), np.full((1, 9, 32, 32, 3), NAN),
    np.full((1, 9, 32, 32, 3), INF), np.full((1, 9, 32, 32, 3), 2.0), np.full((1, 9, 32, 32, 3), "a"),
    np.full((1, 9, 32, 32, 3), None),
]  # fmt: skip
FEATURES = [*STRANGE, "nope", None, 5, [], np.zeros((0, 3)), np.zeros(3), np.full((8, 3), NAN), np.ones((8, 3), complex), np.full((8, 3), "a")]
VALUES = [*STRANGE, "nope", None, 5, [], np.array([]), np.zeros((2, 2)), np.array([NAN, 1]), np.array([1j, 2]), np.array(["a"])]
TENSOR = [*STRANGE, "nope", None, 5, [], torch.zeros(3), torch.full((4, 2), NAN), torch.zeros((4, 2), dtype=torch.complex64)]
GRID = {
    "source": [*STRANGE, "nope", 5, None, [], {"a": 5, "b": 5}, {5: "repair", "b": "repair"}],
    "baselines": [*STRANGE, 5, ["nope"], [5]],
    "title": TEXT,
}
MIXTURE = [*STRANGE, "nope", None, 5, []]

BOTH = lab.STG(1, lab.skip([1], part="attention", axis="spatial")) + lab.STG(1, lab.skip([1], part="attention", axis="temporal"))
G = lab.CFG(4) + lab.STG(1, lab.skip([1]))
PLOT = {"height": [v for v in SIZE if not (isinstance(v, int) and v == 0)]}
SHOWN = {"source": SOURCE, "step": WHOLE, "sample": WHOLE}
PRINT = {**SHOWN, "frames": SIZE, "width": [*STRANGE, *WORDS, NAN, INF, -1, 0, True, []]}


def styled(**look: Any) -> None:
    """A look that nothing is drawn in."""
    with figures.styled(**look):
        pass


class Good:
    """What good calls are made of: a pipeline, a run of it, a sweep, and what figures show."""

    def __init__(self, rig: Any, path: Path, folder: Path) -> None:
        self.rig, self.pipe, self.path, self.folder = rig, rig.pipe, str(path), folder
        self.call = rig.arguments({"num_inference_steps": 2})
        self.rec = lab.open(path)
        self.both = "space_time" if "space_time" in lab.recordings() else lab.recordings()[0]
        self.video = np.random.default_rng(0).random((2, 9, 32, 32, 3), np.float32)
        self.features = np.random.default_rng(0).normal(size=(8, 3))
        self.truth = gaussians.two_arms(3)
        self.swept = gaussians.sweep(self.truth, {"wide": self.truth}, self.truth, scales=(0, 1), count=4, steps=3)
        self.points = gaussians.noise(4)
        self.figure = figures.weak_model(self.rec)


def table(have: Good) -> dict[str, tuple[Any, dict[str, Any], dict[str, list[Any]]]]:
    """Name -> (function, good keyword arguments, bad values by argument)."""
    pipe, rec, call, out = have.pipe, have.rec, have.call, have.folder
    window = {"start": [*SHARE, 1.0], "stop": [*SHARE, 0.0], "sigma": [*STRANGE, "ab", 0.2, NAN, [], (1,), (1, 2, 3), (2, 1), (NAN, 1), ("a", "b"), (-1, 1)]}
    layered = {"layers": LAYERS, "prompt": CHOICE, "heads": LAYERS, "axis": CHOICE}
    sampled = {
        "pipe": PIPE, "guidance": GUIDANCE, "seed": [*WHOLE, 2**64], "record": RECORD, "record_dtype": CHOICE, "overwrite": FLAG,
        "passes": [*STRANGE, "auto", 5, []],
        "num_inference_steps": [*SIZE, None, 10**9], "height": [*SIZE, 10**9, 9], "width": [*SIZE, 10**9], "num_frames": [*SIZE, 10**9],
        "guidance_scale": NUMBER, "prompt": TEXT, "negative_prompt": TEXT, "num_videos_per_prompt": [*SIZE, 10**9],
        "latents": [*STRANGE, "nope", 5, [], torch.full((1, 16, 2, 2, 2), NAN), torch.zeros((1, 16), dtype=torch.complex64)],
        "output_type": CHOICE, "max_sequence_length": [*SIZE, 10**9], "generator": [*STRANGE, 5, "cpu", []],
        "callback_on_step_end": FUNCTION,
    }  # fmt: skip
    swept = {
        "pipe": PIPE, "step": WHOLE, "layers": LAYERS, "parts": CHOICES, "seed": [*WHOLE, 2**64], "state": [*STRANGE, *WORDS, 5, []],
        "guidance": GUIDANCE, "progress": FLAG, "prompt": TEXT,
        "num_inference_steps": [*SIZE, 10**9], "guidance_scale": NUMBER, "num_frames": [*SIZE, 10**9],
    }  # fmt: skip
    guided = {"guidance": [*GUIDANCE, None], "to": CHOICE, "steps": SIZE, "sigmas": [*STRANGE, *WORDS, 0.2, NAN, [], [NAN], ["a"], [-1.0]], "shift": ABOVE}
    rows: dict[str, tuple[Any, dict[str, Any], dict[str, list[Any]]]] = {
        # guidance and weak models
        "CFG": (lab.CFG, {"scale": 4}, {"scale": [*SCALE, 0, -1], **window, "rules": [*STRANGE, "apg", 5, [5]]}),
        "CFGpp": (lab.CFGpp, {"scale": 0.5}, {"scale": SCALE, **window}),
        "STG": (lab.STG, {"scale": 1, "weak": lab.skip([1])}, {"scale": SCALE, "weak": WEAK, **window, "reference": CHOICE}),
        "Probe": (lab.Probe, {"weak": lab.skip([1])}, {"weak": WEAK, **window}),
        "Edit": (lab.Edit, {"weak": lab.skip([1])}, {"weak": WEAK, **window}),
        "Watch": (lab.Watch, {"layers": [1]}, {"layers": LAYERS, "what": CHOICE, "words": SIZE, "every": SIZE}),
        "Guidance.rescale": (G.rescale, {"phi": 0.5}, {"phi": SHARE, "per": CHOICE}),
        "Guidance.orthogonalize": (BOTH.orthogonalize, {}, {"loses": CHOICE, "per": CHOICE}),
        "Guidance.restart": (G.restart, {"t_min": 0.2, "t_max": 0.5}, {"t_min": [*SHARE, 0, 0.9], "t_max": [*SHARE, 0], "times": SIZE, "seed": WHOLE}),
        "Term.apg": (lab.CFG(4).apg, {}, {"eta": NUMBER, "norm": [v for v in ABOVE if not (isinstance(v, int | float) and v > 2)], "momentum": [*NUMBER, 1, -1], "after": WHOLE}),
        "Term.bands": (lab.CFG(4).bands, {"space": [2, 1]}, {"space": BANDS, "time": BANDS, "cutoff": SIZE}),
        "Term.zero_star": (lab.CFG(4).zero_star, {}, {"zero_steps": WHOLE}),
        "Term.magnitude": (lab.CFG(4).magnitude, {}, {"alpha": [*NUMBER, -1]}),
        "Term.part": (lab.CFG(4).part, {"which": "along_cfg"}, {"which": CHOICE}),
        "Term.by_signal": (lab.CFG(4).by_signal, {}, {"power": [*NUMBER, -1]}),
        "rectified_cfg": (lab.rectified_cfg, {"scale": 2}, {"scale": NUMBER, "power": [*NUMBER, -1], "prompt": [*CHOICE, "caption"], "share": [*NUMBER, 0, 1.1], **window}),
        "predictor": (lab.predictor, {}, {"share": [*NUMBER, 0, 1.1], "prompt": CHOICE}),
        "history": (lab.history, {}, {"noise": [*NUMBER, 0, 1.1], "keep": WHOLE, "prompt": CHOICE}),
        "Term.until": (lab.CFG(4).until, {}, {"cosine": [*NUMBER, 1.1, -1.1]}),
        "Term.cap": (lab.CFG(4).cap, {}, {"ratio": [v for v in NUMBER if v is not INF] + [-1]}),
        "Term.feedback": (lab.CFG(2).feedback, {}, {"temperature": [v for v in NUMBER if v is not INF] + [-1], "pi": [*NUMBER, 1, -0.1], "most": [*NUMBER, 1]}),
        "Term.seeing": (lab.CFG(4).seeing, {"factor": lambda view: 1}, {"factor": FUNCTION}),
        "Term.sliding": (lab.CFG(4).sliding, {}, {"rate": [*NUMBER, -1], "strength": [*NUMBER, -1]}),
        "Term.momentum": (lab.CFG(4).momentum, {}, {"weight": [*NUMBER, -1], "decay": [*NUMBER, 1, -0.1]}),
        "Term.perp_neg": (lab.STG(3, lab.empty()).perp_neg, {}, {"strength": NUMBER}),
        "Term.ramp": (lab.CFG(4).ramp, {}, {"first": NUMBER, "shape": CHOICE}),
        "convention": (lab.convention, {"name": "A", "weak": lab.skip([1]), "cfg": 4, "scale": 1}, {"name": CHOICE, "weak": WEAK, "cfg": NUMBER, "scale": NUMBER, **window}),
        "skip": (lab.skip, {"layers": [1], "part": "attention"}, {**layered, "part": CHOICE, "strength": NUMBER}),
        "blur": (lab.blur, {"layers": [1]}, {**layered, "strength": NUMBER, "sigma": [*STRANGE, "a", NAN, 0, -1, True, []]}),
        "shuffle": (lab.shuffle, {"layers": [1]}, {k: v for k, v in layered.items() if k != "heads"} | {"seed": WHOLE, "restore": FLAG}),
        "window": (lab.window, {"layers": [1]}, {**layered, "frames": [*STRANGE, "a", 1.5, NAN, INF, -1, True, []], "reach": [*STRANGE, "a", 1.5, NAN, INF, -1, True, []]}),
        "temper": (lab.temper, {"layers": [1]}, {**layered, "strength": NUMBER, "temperature": [*STRANGE, "a", NAN, 0, -1, True, []]}),
        "ema": (lab.ema, {"layers": [1]}, {**layered, "strength": NUMBER, "decay": [*STRANGE, "a", NAN, INF, 0, 1, True, []], "of": CHOICE}),
        "swap": (lab.swap, {"layers": [1]}, {"layers": LAYERS, "prompt": CHOICE, "share": [*NUMBER, 0, 1.1], "what": CHOICE}),
        "nag": (lab.nag, {}, {"scale": NUMBER, "alpha": [*NUMBER, 0, 1.1], "tau": [*STRANGE, "a", NAN, 0, -1, True, []], "negative": TEXT, "layers": LAYERS, "prompt": CHOICE}),
        "enhance": (lab.enhance, {}, {"weight": NUMBER, "layers": LAYERS, "prompt": CHOICE}),
        "pladis": (lab.pladis, {}, {"scale": NUMBER, "sparse": CHOICE, "layers": LAYERS, "prompt": CHOICE}),
        "plain": (lab.plain, {}, {"prompt": [*CHOICE, "none"]}),
        "look": (lab.weak.look, {"layers": [1]}, {"layers": LAYERS, "what": CHOICE, "words_kept": SIZE, "every": SIZE, "prompt": CHOICE}),
        "picture": (lab.picture, {}, {"level": [*WHOLE, 0], "how": CHOICE, "prompt": CHOICE}),
        "empty": (lab.empty, {}, {"prompt": [*CHOICE, "caption"]}),
        "early_exit": (lab.early_exit, {"first": 1}, {"first": WHOLE, "prompt": CHOICE}),
        "drop": (lab.drop, {"count": 1}, {"count": SIZE, "prompt": CHOICE, "among": LAYERS, "seed": WHOLE}),
        "checkpoint": (lab.checkpoint, {"source": "digits-early"}, {"source": [*STRANGE, "", 5, None, []], "prompt": CHOICE}),
        "per_step": (lambda model: lab.per_step(lab.skip([1]), model), {"model": lab.skip([2])}, {"model": [*STRANGE, *WORDS, 5, [], (0, lab.skip([1])), ("a", lab.skip([1])), (1,)]}),
        "Passes": (lab.Passes, {}, {"reuse": FLAG, "rows": CHOICE}),
        "weak.parse": (parse, {"text": "skip:block:5"}, {"text": [*STRANGE, *WORDS, 5, None, "skip:block:9-1", "skip:block:1-99999999999", "skip:" + "9" * 5000]}),
        "export": (interop.export, {"guidance": lab.CFG(4) + lab.STG(1, lab.skip([1])), "to": "json"}, {k: guided[k] for k in ("guidance", "to")}),
        "export to ltx": (interop.export, {"guidance": G, "to": "ltx", "sigmas": [1.0, 0.5, 0.1]}, {"sigmas": guided["sigmas"]}),
        "export to diffusers": (interop.export, {"guidance": lab.CFG(4) + lab.STG(1, lab.skip([1]), start=0.25), "to": "diffusers", "steps": 4, "pipe": pipe}, {"steps": guided["steps"], "pipe": [v for v in PIPE if v is not None]}),
        "export to comfyui": (interop.export, {"guidance": lab.CFG(4) + lab.STG(1, lab.skip([1]), start=0.2), "to": "comfyui", "shift": 3.0, "sigmas": [1.0, 0.5, 0.1]}, {"shift": guided["shift"]}),
        "from_guider": (interop.from_guider, {}, {"guider": [*STRANGE, "nope", 5, None, []]}),
        "from_json": (interop.from_json, {"source": interop.export(G, "json")}, {"source": [*STRANGE, "", "\0", 5, None, [], "{}", "[" * 5000, "nowhere.json", "s3://x/y.json", "1e999", '{"terms": 5}']}),
        "compare": (lab.compare, {"a": rec, "b": rec}, {"a": SOURCE, "b": SOURCE, "tolerance": [*NUMBER, -1, 2]}),
        "from_json of words": (interop.from_json, {"source": "blocks 1 start 0.1 end 0.9", "cfg": 4}, {"cfg": NUMBER, "steps": SIZE, "shift": ABOVE}),
        "guider": (lab.guider, {"guidance": G}, {"guidance": GUIDANCE, "passes": [*STRANGE, "a", 5, []]}),
        # models
        "load": (lab.load, {"name": "digits-joint"}, {"name": [*STRANGE, "", "nope", "\0", 5, None, [], "s3://bucket/model", "https://example.org/model"]}),
        "describe": (lab.describe, {"pipe": pipe}, {"pipe": PIPE}),
        "register_family": (lab.register_family, {}, {"family": [*STRANGE, "wan", 5, None, []]}),
        # sampling
        "sample": (lab.sample, {"pipe": pipe, "guidance": G, "record": False, **call}, {**sampled, "on_step": FUNCTION}),
        "plan": (lab.plan, {"pipe": pipe, "guidance": G, **call}, sampled),
        "attach": (entered, {"pipe": pipe}, {k: sampled[k] for k in ("pipe", "guidance", "record", "record_dtype", "overwrite", "passes")} | {"settings": [5, "a", b"4", object(), []]}),
        "ablate": (lab.ablate, {"pipe": pipe, "progress": False, **call}, {**swept, "axes": CHOICES, "record": RECORD, "record_dtype": CHOICE, "overwrite": FLAG, "keep_x0": FLAG}),
        "attribute": (lab.attribute, {"pipe": pipe, "progress": False, **call}, {**swept, "along": CHOICE, "probes": WHOLE}),
        "decode": (lab.decode, {"pipe": pipe, "latents": rec.ds.final.values}, {"pipe": PIPE, "latents": [*STRANGE, "nope", None, 5, [], np.zeros(3), np.full((1, 16, 2, 2, 2), NAN), np.ones((1, 16, 2, 2, 2), complex), np.full((1, 16, 2, 2, 2), "a")]}),
        "fork": (lab.fork, {"source": rec, "step": 1, "pipe": pipe}, {"source": SOURCE, "step": [*WHOLE, None], "guidance": GUIDANCE, "record": RECORD, "record_dtype": CHOICE, "overwrite": FLAG, "on_step": FUNCTION}),
        "rerun": (lab.rerun, {"recording": rec, "pipe": pipe}, {"seed": [*WHOLE, 2**64], "record": RECORD, "num_inference_steps": SIZE}),
        "Run.save": (Saved(have).save, {"path": str(out / "a.gif")}, {"path": [*PLACE, "a.txt", "a"], "fps": ABOVE}),
        # recordings
        "open": (lab.open, {"path": have.path}, {"path": SOURCE}),
        "open_ablation": (lab.open_ablation, {"path": "layers"}, {"path": SOURCE}),
        "pack": (lab.pack, {"folder": have.path, "file": str(out / "a.zarr.zip")}, {"folder": SOURCE, "file": [*PLACE, "a.txt"], "overwrite": FLAG}),
        "Recording.x0": (rec.x0, {}, {"branch": [*STRANGE, *WORDS, 5, NAN, []]}),
        "Recording.delta": (rec.delta, {}, {"weak": CHOICE}),
        "Recording.prediction": (rec.prediction, {"branch": "cond"}, {"branch": CHOICE}),
        "Recording.reweight": (rec.reweight, {"guidance": G}, {"guidance": [*GUIDANCE]}),
        "Recording.video": (rec.video, {}, {"branch": CHOICE, "step": WHOLE}),
        "report": (report, {"recordings": rec, "out": str(out / "a.html")}, {"recordings": SOURCE, "out": [*PLACE, out], "baseline": BASELINE, "figure_png": [*STRANGE, 5, "a"], "title": TEXT}),
        "rate": (lambda source, **more: lab.rate(source, "first_light", **more), {"source": "first_light_cfg", "out": str(out / "r.jsonl")}, {"source": SOURCE, "out": [*PLACE, out], "aspects": CHOICES, "captions": [*STRANGE, "a", 5, [5]], "rater": [*STRANGE, NAN, 1.5, [], "", True], "seed": WHOLE, "fps": ABOVE}),
        "ratings": (lab.ratings, {"files": "nowhere.jsonl"}, {"files": [*STRANGE, "", "nowhere.jsonl", 5, None, [], "s3://x/y.jsonl"], "by": CHOICE}),
    }  # fmt: skip
    return rows | shown(have) | measured(have)


def entered(**options: Any) -> None:
    with lab.attach(**options):
        pass


class Saved(lab.Run):
    """A run with a video, without a pipeline."""

    def __init__(self, have: Good) -> None:
        super().__init__(None, None, None, {}, None, [""], lambda: self)
        self.__dict__["video"] = have.video


def shown(have: Good) -> dict[str, tuple[Any, dict[str, Any], dict[str, list[Any]]]]:
    """Analyses, plots, figures and widgets."""
    rec, both, out = have.rec, have.both, have.folder
    one = {"recording": rec}
    two = {"recording": both}
    names = {"spatial": CHOICE, "temporal": CHOICE}
    found: dict[str, tuple[Any, dict[str, Any], dict[str, list[Any]]]] = {}
    for name, given, bad in (
        ("angles", two, {}),
        ("components", two, {"sample": WHOLE, "count": SIZE, "unit": FLAG}),
        ("gram", one, {}),
        ("kept", one, {"cut": ABOVE}),
        ("mixing_pictures", one, {"samples": SIZE, "shrink": SIZE}),
        ("agreement", one, {"threshold": [*NUMBER, 1.1], "branch": CHOICE}),
        ("norms", one, {}),
        ("recorded_scales", one, {}),
        ("removed", two, {**names, "loses": CHOICE, "per": CHOICE}),
        ("shifted_cosine", two, {}),
        ("space_and_time", two, {}),
        ("vector_lengths", one, {}),
        ("vector_map", one, {"pixels": FLAG}),
        ("vector_names", one, {}),
        ("vector_parts", one, {}),
        ("vector_spectra", one, {}),
    ):
        found[f"analysis.{name}"] = (getattr(analysis, name), given, {"recording": SOURCE, **bad})
    watched = lab.sample(have.pipe, guidance=lab.Watch([1]), **have.call)
    found["analysis.watched"] = (analysis.watched, {"recording": watched}, {"recording": SOURCE})
    found["analysis.compare"] = (analysis.compare, {"a": rec, "b": rec}, {"a": SOURCE, "b": SOURCE})
    found["widgets.watch_explorer"] = (widgets.watch_explorer, {"source": watched}, {"source": SOURCE, "sample": WHOLE})
    found["plots.comparison"] = (plots.comparison, {"a": rec, "b": rec}, {"a": SOURCE, "b": SOURCE, **PLOT})
    found["analysis.random_cosine"] = (analysis.random_cosine, {"dimensions": 9}, {"dimensions": SIZE})
    found["analysis.angles of names"] = (lambda name: analysis.angles(both, name), {}, {"name": CHOICE})
    array = lab.open_ablation("layers").cosine_cfg
    found["analysis.rank_correlation"] = (analysis.rank_correlation, {"exact": array, "estimated": array, "over": ("layer", "part")}, {"exact": [*STRANGE, "nope", 5, None, []], "estimated": [*STRANGE, 5], "over": [*STRANGE, "nope", 5, ("nope",)], "sample": CHOICE, "seed": WHOLE})
    found["advise"] = (lab.advise, {"sweep": "layers"}, {"sweep": SWEEP, **dict.fromkeys(("aligned", "acts", "worse", "own"), NUMBER), "agree": SHARE})
    for name, given, bad in (
        ("aligned_and_worse", {"sweep": "layers"}, {"sweep": SWEEP}),
        ("layer_scores", {"sweep": "layers"}, {"sweep": SWEEP, "score": CHOICE, "step": WHOLE}),
        ("angle_map", two, {"recording": SOURCE, "one": CHOICE, "other": CHOICE, "sample": WHOLE}),
        ("angles", two, {"recording": SOURCE, "to": CHOICE, "cosine": FLAG}),
        ("components", two, {"recording": SOURCE, "sample": WHOLE, "unit": FLAG}),
        ("gaussian_scores", {"swept": have.swept}, {"swept": [*STRANGE, "nope", 5, None, []]}),
        ("kept", one, {"recording": SOURCE, "cut": ABOVE}),
        ("norm_map", one, {"recording": SOURCE, "sample": WHOLE}),
        ("norms", one, {"recording": SOURCE, "relative": FLAG}),
        ("removed", two, {"recording": SOURCE, **names}),
        ("strengths", {"result": SimpleNamespace(strengths=[], aspects=())}, {"result": [*STRANGE, "nope", 5, None, []]}),
        ("vector_lengths", one, {"recording": SOURCE, "over": CHOICE, "sample": WHOLE}),
        ("vector_map", {**one, "step": 1}, {"recording": SOURCE, "step": [*WHOLE, None], "sample": WHOLE, "frames": SIZE}),
        ("vector_parts", one, {"recording": SOURCE, "onto": CHOICE}),
        ("vector_spectra", {**one, "step": 1}, {"recording": SOURCE, "step": [*WHOLE, None], "sample": WHOLE}),
    ):
        found[f"plots.{name}"] = (getattr(plots, name), given, {**bad, **PLOT})
    tensor = {"truth": MIXTURE, "other": [v for v in MIXTURE if v is not None]}
    for name, given, bad in (
        ("animate", {"source": have.figure, "path": str(out / "b.gif")}, {"source": SOURCE, "path": PLACE, "fps": ABOVE, "hold": [*NUMBER, -1], "loops": SIZE, "columns": SIZE}),
        ("gaussian_samples", {"truth": have.truth, "panels": {"a": have.points}}, {**tensor, "panels": [*STRANGE, "nope", 5, None, [], {"a": 5}, {"a": torch.zeros(3)}]}),
        ("gaussian_vectors", {"truth": have.truth, "pairs": {"a": (have.truth, have.truth)}}, {"truth": MIXTURE, "pairs": [*STRANGE, "nope", 5, None, [], {"a": 5}, {"a": (5, 5)}], "sigma": ABOVE}),
        ("compare_layers", {"pipe": have.pipe, **have.call}, {"pipe": [v for v in PIPE if v != "digits-joint"], "seed": WHOLE, "scale": NUMBER, "cfg": [v for v in NUMBER if v is not None], "layers": [v for v in LAYERS if v is not None], "part": CHOICE, "frames": SIZE, "width": PRINT["width"]}),
        ("grid", {"source": {"a": rec, "b": rec}}, {**GRID, "by": CHOICE, "state": WHOLE, "group": CHOICE, "sort": CHOICE, "frames": SIZE, "width": PRINT["width"]}),
        ("video_grid", {"source": {"a": rec, "b": rec}}, GRID),
        ("layer_ablation", {"sweep": "layers"}, {"sweep": SWEEP, "score": CHOICE, "step": WHOLE, "sample": WHOLE, "frame": WHOLE, "layers": LAYERS, "width": PRINT["width"]}),
        ("quality_diversity", {"points": [("CFG", 1.0, 0.5, 0.5)]}, {"points": [*STRANGE, "nope", 5, None, [], {"a": 5}, {"a": (NAN, 1)}, [("CFG", "x", 0.5, 0.5)], [("CFG", 1.0, "a", 0.5)]], "width": PRINT["width"], "real": [5, "ab", (NAN, 1), (1,)]}),
        ("save", {"figure": have.figure, "stem": str(out / "c"), "formats": ("png",), "dpi": 20}, {"figure": [*STRANGE, "nope", 5, None, []], "stem": PLACE, "formats": CHOICES, "dpi": ABOVE}),
        ("scale_sweep", {"runs": [rec, rec], "scales": [1, 2]}, {"runs": [*STRANGE, "nope", 5, None, [], [5]], "scales": [*STRANGE, "nope", 5, [], [NAN, 1], ["a", "b"]], "step": WHOLE, "sample": WHOLE, "frames": SIZE, "width": PRINT["width"]}),
        ("spatial_temporal", {"source": both}, {**PRINT, **names, "baseline": BASELINE}),
        ("weak_model", {"source": rec}, {**PRINT, "baseline": BASELINE}),
        ("weak_models", {"source": rec}, PRINT),
    ):
        found[f"figures.{name}"] = (getattr(figures, name), given, bad)
    found["figures.styled"] = (styled, {}, {"font": CHOICE, "size": [*ABOVE, 40], "labels": [*STRANGE[:1], *STRANGE[2:], "ab", 5, [], {"a": 5}, {5: "a"}, {"no such words": "a"}]})
    for name, given, bad in (
        ("ablation_explorer", {"sweep": "layers"}, {"sweep": SWEEP, "score": CHOICE, "cell": CHOICE, "pinned": [*STRANGE, "nope", 5]}),
        ("fork_explorer", {"source": rec, "pipe": have.pipe}, {"source": SOURCE, "pipe": [v for v in PIPE if v is not None], "sample": WHOLE, "fps": ABOVE}),
        ("gaussian_explorer", {"swept": have.swept, "truth": have.truth}, {"swept": [*STRANGE, "nope", 5, None], **tensor, "weak": CHOICE, "scale": NUMBER}),
        ("grid_explorer", {"source": {"a": rec, "b": rec}}, {**GRID, "fps": ABOVE}),
        ("guidance_explorer", {"source": rec}, {**SHOWN, "budget": ABOVE, "fps": ABOVE, "hint": FLAG}),
        ("live_run", {"pipe": have.pipe, **have.call}, {"pipe": PIPE, "guidance": GUIDANCE, "seed": [*WHOLE, 2**64], "record": RECORD, "num_inference_steps": [*SIZE, 10**9], "num_frames": SIZE}),
        ("orthogonality_explorer", {"source": both}, {"source": SOURCE, **names, "sample": WHOLE}),
        ("comparison_explorer", {"a": rec, "b": rec}, {"a": SOURCE, "b": SOURCE, "sample": WHOLE, "fps": ABOVE}),
        ("x0_explorer", {"source": rec}, {"source": SOURCE, "sample": WHOLE, "branches": CHOICES, "cfg": FLAG, "baseline": BASELINE, "size": SIZE, "fps": ABOVE, "pipe": [v for v in PIPE if v is not None]}),
    ):
        found[f"widgets.{name}"] = (getattr(widgets, name), given, bad)
    return found


def measured(have: Good) -> dict[str, tuple[Any, dict[str, Any], dict[str, list[Any]]]]:
    """Metrics, and guidance in the plane."""
    found: dict[str, tuple[Any, dict[str, Any], dict[str, list[Any]]]] = {}
    clip = {"video": have.video}
    for name in (
        "flow_motion", "ink_motion", "smoothness", "clipped", "contrast", "flicker", "laplacian_variance", "saturation",
        "spectral_slope", "judge_features", "texture_features",
    ):  # fmt: skip
        found[f"metrics.{name}"] = (getattr(metrics, name), clip, {"video": VIDEO})
    told = {**clip, "captions": ["a red seven moving left"] * 2}
    captions = [*STRANGE, "nope", 5, None, [], ["a"], [5, 5], ["nope", "nope"]]
    for name in ("caption_accuracy", "caption_probability"):
        found[f"metrics.{name}"] = (getattr(metrics, name), told, {"video": VIDEO, "captions": captions})
    found["metrics.pixel_diversity"] = (metrics.pixel_diversity, told, {"video": VIDEO, "captions": captions[:-1]})
    x, y = have.features, have.features + 1
    found["metrics.feature_diversity"] = (metrics.feature_diversity, {"features": x, "captions": ["a", "b"] * 4}, {"features": FEATURES, "captions": captions[:-1]})
    found["metrics.nearest_scan"] = (metrics.nearest_scan, clip, {"video": VIDEO, "split": CHOICE})
    found["metrics.latent_variance"] = (metrics.latent_variance, {"latents": np.ones((1, 2, 2, 2, 2))}, {"latents": [*STRANGE, "nope", None, 5, [], np.zeros(3), np.full((1, 2, 2, 2, 2), NAN), np.ones((1, 2, 2, 2, 2), complex)]})
    small = {"video": have.video[:1, :2]}
    found["metrics.niqe"] = (metrics.niqe, {"video": np.random.default_rng(0).random((1, 1, 128, 128, 3), np.float32)}, {"video": VIDEO, "parameters": [*PLACE, "nowhere.mat"]})
    found["metrics.perceptual_change"] = (metrics.perceptual_change, small, {"video": VIDEO})
    found["metrics.perceptual_distance"] = (metrics.perceptual_distance, {**small, "reference": small["video"]}, {"video": VIDEO, "reference": VIDEO})
    found["metrics.real_clips"] = (metrics.real_clips, {}, {})
    found["prompts"] = (lab.prompts, {}, {"source": [*PLACE, "nowhere.txt", have.folder]})
    found["metrics.read_video"] = (metrics.read_video, {}, {"path": [*PLACE, "nowhere.mp4", have.folder]})
    for name in ("coverage", "density", "precision", "recall"):
        found[f"metrics.{name}"] = (getattr(metrics, name), {"features": x, "reference": y}, {"features": FEATURES, "reference": FEATURES, "k": SIZE})
    for name in ("frechet_distance", "nearest"):
        found[f"metrics.{name}"] = (getattr(metrics, name), {"features": x, "reference": y}, {"features": FEATURES, "reference": FEATURES})
    found["metrics.vendi_score"] = (metrics.vendi_score, {"features": x}, {"features": FEATURES})
    drawn = {"resamples": SIZE, "seed": WHOLE}
    found["metrics.bootstrap"] = (metrics.bootstrap, {"of": np.arange(4.0), "resamples": 9}, {"of": VALUES, "count": SIZE, **drawn, "centred": FLAG, "group": SIZE, "within": [5, "ab", (1,), (NAN, NAN)]})
    found["metrics.difference"] = (metrics.difference, {"a": np.arange(4.0), "b": np.arange(3.0), "resamples": 9}, {"a": VALUES, "b": VALUES, **drawn})
    found["metrics.paired_difference"] = (metrics.paired_difference, {"a": np.arange(4.0), "b": np.arange(4.0), "resamples": 9}, {"a": VALUES, "b": VALUES, **drawn})
    found["metrics.share"] = (metrics.share, {"right": np.array([True, False])}, {"right": VALUES})
    found["metrics.evaluate"] = (metrics.evaluate, {"videos": [have.path], "resamples": 9}, {"videos": [*STRANGE, "", 5, None, [], [5], ["nowhere.mp4"], ["s3://x/y.mp4"]], "against": [*STRANGE, 5, [5], ["nowhere.mp4"]], "captions": [*STRANGE, 5, "nowhere.txt", ""], "judge": FLAG, "paired": FLAG, "videomae": [*STRANGE, 5], "also": [*CHOICES], **drawn})
    found["metrics.vbench_scores"] = (metrics.vbench_scores, {}, {"folder": [*PLACE, "nowhere"]})
    found["gaussians.two_arms"] = (gaussians.two_arms, {}, {"beads": SIZE, "turns": ABOVE, "length": ABOVE, "thickness": ABOVE})
    found["gaussians.noise_levels"] = (gaussians.noise_levels, {}, {"steps": SIZE, "high": ABOVE, "low": ABOVE})
    found["gaussians.noise"] = (gaussians.noise, {"count": 3}, {"count": SIZE, "seed": WHOLE})
    found["gaussians.guided"] = (gaussians.guided, {"model": have.truth, "weak": have.truth, "scale": 1.0}, {"model": MIXTURE, "weak": MIXTURE, "scale": NUMBER})
    found["gaussians.trajectory"] = (gaussians.trajectory, {"denoise": have.truth.denoise, "start": have.points, "levels": [2.0, 1.0]}, {"denoise": [*STRANGE, 5, None], "start": TENSOR, "levels": [*STRANGE, "ab", 5, None, [], [NAN, 1], [1, 2], ["a", "b"]]})
    found["gaussians.strays"] = (gaussians.strays, {"points": have.points, "truth": have.truth}, {"points": TENSOR, "truth": MIXTURE})
    found["gaussians.measure"] = (gaussians.measure, {"points": have.points, "truth": have.truth}, {"points": TENSOR, "truth": MIXTURE})
    found["gaussians.sweep"] = (gaussians.sweep, {"model": have.truth, "weak": {"a": have.truth}, "truth": have.truth, "scales": (0, 1), "count": 4, "steps": 3}, {"model": MIXTURE, "weak": [*STRANGE, 5, None, [], {"a": 5}], "truth": MIXTURE, "scales": [*STRANGE, "ab", 5, [], [NAN], ["a"]], "count": SIZE, "steps": SIZE, "seed": WHOLE})
    return found


#: Public names without bad input of their own, or that need what is not here: none, weights of another model, a browser.
NOT_HERE = {
    "search", "open_search",  # of test_search.py: a whole race has to be made for each
    "__version__", "embedded", "recordings", "families", "report", "analysis", "digits", "figures", "gaussians", "metrics",
    "plots", "widgets", "weak", "widgets.rate", "metrics.load_videomae", "metrics.videomae_distance",
    "metrics.videomae_features", "metrics.pose_motion", "analysis.scores",
}  # fmt: skip


class _Ran(BaseException):
    """A denoiser was called."""


def refusal(good: Good, function: Any, arguments: dict[str, Any], argument: str, value: Any) -> str:
    """What is wrong with how a bad value is refused; "" where nothing is."""

    def ran(module: Any, args: Any) -> None:
        raise _Ran

    hook, typed = good.pipe.transformer.register_forward_pre_hook(ran), said(value)
    try:
        function(**{**arguments, argument: value})
    except lab.LabError as error:
        told = str(error)
        return "" if "\n" not in told and told else f"{typed} was told in several lines: {told}"
    except _Ran:
        return f"{typed} was told after the model had begun"
    except Exception as error:
        return f"{typed} ended in a raw {type(error).__name__}: {error}"
    finally:
        hook.remove()
    return f"{typed} was accepted"
