"""The trust tests: what tells whether a class of pipelines is served. Families and their siblings are put to the same."""

import contextlib
import copy
import inspect

import numpy as np
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from torch.overrides import TorchFunctionMode

import stg_lab as lab
from stg_lab.families import family_of

from .watch import branch, captured, denoisers, left_behind
from .zoo import STEPS

WEAK = lab.STG(1.0, lab.skip([1]))
#: Weak passes with the batch of the pipeline's own call, and so its bits; else they have only the rows they are about.
BATCH = lab.Passes(rows="batch")


def tensor(frames):
    return frames if isinstance(frames, torch.Tensor) else torch.as_tensor(np.asarray(frames))


def attached(one, guidance=None, *, passes=None, **call):
    """A call of the pipeline's own, recorded: what it returned, and the trace."""
    with lab.attach(one.pipe, guidance=guidance, record=True, passes=passes) as trace:
        frames = one.stock(**call)
    return tensor(frames), trace


# ---- tests, for files that have a fixture `one` ----


def test_recording_leaves_the_stock_bits(one):
    stock = tensor(one.stock())
    recorded, trace = attached(one)
    assert torch.equal(recorded, stock)
    assert trace.rebuilt is one.exactly
    assert trace.recording.steps == STEPS
    assert left_behind(one.pipe) == []
    assert torch.equal(tensor(one.stock()), stock)


def test_the_recorded_branches_give_the_prediction_that_was_stepped_with(one):
    _, trace = attached(one, lab.STG(1.5, lab.skip([1])))
    recording = trace.recording
    scale = one.scales()
    for step in range(STEPS):
        c, p, guided = (branch(recording, name, step) for name in ("cond", "skip", "guided"))
        cfg = c
        if "uncond" in recording.branches:
            u = branch(recording, "uncond", step)
            cfg = u + scale * (c - u)
        assert torch.equal(guided, cfg + 1.5 * (c - p))
        assert not torch.equal(c, p)


class ValuesOnly(TorchFunctionMode):
    """Attention whose map is the identity, by intercepting the kernel for everything inside."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            return kwargs["value"] if "value" in kwargs else args[2]
        return func(*args, **kwargs)


def inside(mode, forward):
    def wrapped(*args, **kwargs):
        with mode():
            return forward(*args, **kwargs)

    return wrapped


def test_skipping_attention_is_an_attention_whose_map_is_the_identity(one):
    family, layer = family_of(one.pipe), 0
    with captured(one.pipe) as calls:
        _, trace = attached(one, lab.Probe(lab.skip([layer], part="attention")), passes=BATCH)
    per_step = len(calls) // STEPS
    for step in range(STEPS):
        module, args, kwargs = calls.made[step * per_step]
        oracle = copy.deepcopy(module)
        for block in family.layers(oracle)[layer].values():
            for attention in family.sublayers(block, "attention"):
                attention.forward = one.identity(attention) or inside(ValuesOnly, attention.forward)
        with torch.no_grad():
            pieces = family.prediction(oracle(*args, **kwargs)).chunk(2 if family.batched else 1)
        assert torch.equal(branch(trace.recording, "skip", step), one.at_step(pieces[-1], trace.recording, step))


def test_the_last_latents_decode_to_the_pipelines_own_output(one):
    if one.decoded_apart:
        pytest.skip(one.decoded_apart)
    output = one.stock(output_type="np")
    _, trace = attached(one)
    decoded = lab.decode(one.pipe, one.decodable(torch.from_numpy(trace.recording.ds.final.values)))
    assert decoded.shape == np.asarray(output).shape
    assert np.allclose(decoded, np.asarray(output), atol=1e-5)
    assert lab.decode(one.pipe, trace.recording.x0("cond").isel(step=0)).shape == decoded.shape


def test_it_describes_itself(one):
    text, family = str(lab.describe(one.pipe)), family_of(one.pipe)
    assert family.name in text
    assert family.cfg_form in text
    assert family.layout in text
    assert "<table" in lab.describe(one.pipe)._repr_html_()


# ---- and what others ask for pipelines of their own ----


@contextlib.contextmanager
def reported(scheduler):
    """What a scheduler itself says x0 is, at each step where it says so."""
    kept, step = [], scheduler.step

    def keep(*args, **kwargs):
        given = inspect.signature(step).bind(*args, **kwargs).arguments
        result = step(**{**given, "return_dict": True})
        original = getattr(result, "pred_original_sample", None)
        kept.append(None if original is None else original.clone())
        asked = given.get("return_dict", True)
        return result if asked or isinstance(result, tuple) else result.to_tuple()

    keep.__signature__ = inspect.signature(step)
    scheduler.step = keep
    try:
        yield kept
    finally:
        del scheduler.step


def x0_is_the_schedulers_own(one):
    with reported(one.pipe.scheduler) as own:
        _, trace = attached(one)
    said = [(step, x0) for step, x0 in enumerate(own[one.scheduler_calls - 1 :: one.scheduler_calls]) if x0 is not None]
    if not said:
        pytest.skip(f"{type(one.pipe.scheduler).__name__} reports no x0")
    for step, x0 in said:
        ours = torch.from_numpy(trace.recording.x0("guided").isel(step=step).values)
        assert torch.allclose(ours, one.predicted(x0), atol=1e-4, rtol=1e-4)


class Counting(ModelHook):
    """Stands for the hook that brings a model onto the device: notes each pass."""

    def __init__(self, passes):
        self.passes = passes

    def pre_forward(self, module, *args, **kwargs):
        self.passes.append(module)
        return args, kwargs


def offload(pipe):
    """What `enable_model_cpu_offload` does to denoisers; returns the passes seen, a list that grows."""
    passes = []

    def renew():
        for module in denoisers(pipe):
            remove_hook_from_module(module, recurse=True)
            add_hook_to_module(module, Counting(passes))

    pipe.maybe_free_model_hooks = renew  # called by the pipeline at the end of every call
    renew()
    return passes


def guidance_survives_offloading(one, first):
    plain, _ = attached(one, WEAK)
    stock = tensor(one.stock())
    passes = offload(one.pipe) if first == "offload" else []
    with lab.attach(one.pipe, guidance=WEAK):
        if first == "attach":
            passes = offload(one.pipe)
        for _ in range(2):
            passes.clear()
            assert torch.equal(tensor(one.stock()), plain)
            guided = len(passes)
    passes.clear()
    assert torch.equal(tensor(one.stock()), stock)
    assert guided == len(passes) + STEPS  # one weak pass a step
