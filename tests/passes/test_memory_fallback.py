"""Out of memory in a weak pass with the whole batch [uncond, cond]: the run goes on with the rows that are needed."""

import contextlib
import functools
import warnings

import pytest
import torch
from kit.watch import branch, denoisers, left_behind
from kit.zoo import STEPS, ZOO, member

import stg_lab as lab
from stg_lab.families import family_of

GUIDANCE = lab.STG(1.0, lab.skip([1])) + lab.Probe(lab.skip([0], part="attention"))
BATCHED = sorted(name for name in ZOO if family_of(member(name).pipe).batched)
BATCH = lab.Passes(rows="batch")  # in float32 passes have only their own rows from the start
HELP = "out of memory in the weak pass of skip:block:1, which has the batch of the pipeline's own call"


@pytest.fixture(params=BATCHED)
def one(request):
    return member(request.param)


@contextlib.contextmanager
def short_of_memory(pipe, fails):
    """Weak passes for whose number (of all passes, from 1) and rows `fails` holds run out of memory in the middle.

    Yields the rows of all passes.
    """
    [module] = denoisers(pipe)
    forward, rows, called = module.forward, [], []
    block = next(iter(family_of(pipe).layers(module)[-1].values()))  # which runs, whatever is reused

    @functools.wraps(forward)
    def count(*args, **kwargs):
        rows.append(len(args[0] if args else kwargs["hidden_states"]))
        return forward(*args, **kwargs)

    def fail(*_):
        weak = len(rows) not in called  # weak passes call `forward` itself, which hooks do not see
        if weak and fails(len(rows), rows[-1]):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    module.forward = count
    handles = [
        module.register_forward_pre_hook(lambda *_: called.append(len(rows) + 1)),
        block.register_forward_pre_hook(fail),
    ]
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()
        del module.forward


def with_cfg(one):
    name = family_of(one.pipe).scale_argument
    return {**({name: 3.0} if name else {}), **one.arguments({})}


def test_the_run_goes_on_with_the_rows_that_are_needed(one):
    whole = lab.sample(one.pipe, guidance=GUIDANCE, passes=BATCH, **with_cfg(one)).recording
    with (
        short_of_memory(one.pipe, lambda number, rows: rows > 1) as rows,
        pytest.warns(UserWarning, match=HELP) as told,
    ):
        run = lab.sample(one.pipe, guidance=GUIDANCE, passes=BATCH, **with_cfg(one))
    assert len([w for w in told if "out of memory" in str(w.message)]) == 1
    assert rows == [2, 2, 1, 1] + [2, 1, 1] * (STEPS - 1)
    assert run.recording.complete
    for name in whole.branches:
        for step in range(STEPS):
            expected, given = branch(whole, name, step), branch(run.recording, name, step)
            assert torch.allclose(given, expected, atol=1e-4, rtol=1e-4), (name, step)
    assert torch.equal(branch(run.recording, "cond", 0), branch(whole, "cond", 0))
    assert left_behind(one.pipe) == []


@pytest.mark.parametrize("name", ["mochi", "svd", "cogvideox"])
def test_such_a_weak_pass_is_the_models_own_with_those_rows_alone(name):
    one = member(name)
    family = family_of(one.pipe)
    [module] = denoisers(one.pipe)
    calls = []
    handle = module.register_forward_pre_hook(
        lambda m, args, kwargs: calls.append((args, dict(kwargs))), with_kwargs=True
    )
    with short_of_memory(one.pipe, lambda number, rows: rows > 1), pytest.warns(UserWarning, match=HELP):
        recording = lab.sample(one.pipe, guidance=GUIDANCE, passes=BATCH, **with_cfg(one)).recording
    handle.remove()

    def cond(value):
        return value[1:] if isinstance(value, torch.Tensor) and value.ndim and len(value) == 2 else value

    for step, (args, kwargs) in enumerate(calls):
        given = [cond(a) for a in args], {k: cond(v) for k, v in kwargs.items()}
        with torch.no_grad(), one_block_skipped(family, module):
            expected = family.prediction(module(*given[0], **given[1]))
        assert torch.allclose(branch(recording, "skip:block:1", step), one.predicted(expected), atol=1e-5, rtol=1e-5)


@contextlib.contextmanager
def one_block_skipped(family, module):
    blocks = list(family.layers(module)[1].values())
    for block in blocks:
        block.forward = functools.partial(family.without, "block")
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def test_a_batch_of_two_samples_keeps_both(one):
    call = {**with_cfg(one), **one.two()}
    call["passes"] = BATCH
    whole = lab.sample(one.pipe, guidance=lab.STG(1, lab.skip([1])), **call).recording
    [module] = denoisers(one.pipe)
    with out_of_memory_once(module), pytest.warns(UserWarning, match=HELP):
        run = lab.sample(one.pipe, guidance=lab.STG(1, lab.skip([1])), **call)
    assert torch.allclose(branch(run.recording, "skip", 0), branch(whole, "skip", 0), atol=1e-4, rtol=1e-4)


@contextlib.contextmanager
def out_of_memory_once(module):
    with out_of_memory_at(module, 2) as calls:
        yield
    assert calls[2] == calls[0] // 2


def test_the_next_run_starts_with_whole_batches_again():
    one = member("mochi")
    with (
        short_of_memory(one.pipe, lambda number, rows: number == 2) as rows,
        lab.attach(one.pipe, guidance=GUIDANCE, passes=BATCH),
    ):
        with pytest.warns(UserWarning, match=HELP):
            one.stock()
        one.stock()
    assert rows == [2, 2, 1, 1] + [2, 1, 1] * (STEPS - 1) + [2, 2, 2] * STEPS


def test_a_second_failure_is_raised_with_what_is_kept():
    one = member("mochi")
    with (
        short_of_memory(one.pipe, lambda number, rows: rows > 1 or number > 6),
        pytest.warns(UserWarning, match=HELP),
        pytest.raises(torch.OutOfMemoryError) as caught,
    ):
        lab.sample(one.pipe, guidance=GUIDANCE, passes=BATCH, **with_cfg(one))
    notes = "\n".join(caught.value.__notes__)
    assert "has no more than the rows that it is about, and does not fit" in notes
    assert "enable_model_cpu_offload" in notes
    assert "whole steps recorded before this are kept: lab.open(" in notes
    assert left_behind(one.pipe) == []


@pytest.mark.parametrize("passes", [BATCH, lab.Passes(rows="own")], ids=["batch", "own"])
@pytest.mark.parametrize("name", ["wan", "mochi"])
def test_where_nothing_can_be_left_out_the_error_is_the_first_one(name, passes):
    """Separate calls, or no CFG: a weak pass has only its own rows anyway."""
    one = member(name)
    call = {**one.arguments({}), "guidance_scale": 1.0}
    with (
        warnings.catch_warnings(record=True) as told,
        out_of_memory_at(denoisers(one.pipe)[0], 2),
        pytest.raises(torch.OutOfMemoryError) as caught,
    ):
        lab.sample(one.pipe, guidance=GUIDANCE, record=False, passes=passes, **call)
    assert not [w for w in told if "out of memory" in str(w.message)]
    [note] = caught.value.__notes__
    assert "has no more than the rows that it is about, and does not fit" in note


@contextlib.contextmanager
def out_of_memory_at(module, number):
    """The call of this number runs out of memory; gives how many rows each call had."""
    forward, calls = module.forward, []

    @functools.wraps(forward)
    def fail(*args, **kwargs):
        calls.append(len(args[0] if args else kwargs["hidden_states"]))
        if len(calls) == number:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    module.forward = fail
    try:
        yield calls
    finally:
        del module.forward
