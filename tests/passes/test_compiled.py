"""What torch.compile has compiled: guided, with its blocks still compiled where nothing is changed, and left as it was."""

import shutil
import warnings

import pytest
import torch
from kit.passes import ATTENTION_1, BATCH, SKIP_2, WHOLE_BATCH, blocks, close, equal, predicted, probes
from kit.watch import denoisers
from kit.zoo import member
from torch import nn

import stg_lab as lab
from stg_lab.families import family_of

MODELS = (SKIP_2, ATTENTION_1, lab.skip([1], strength=0.5), lab.skip([1], part="feedforward"))
WHOLE = ("whole model", "whole model in place")
HOWS = (*WHOLE, "repeated blocks", "blocks in place", "blocks wrapped")


@pytest.fixture(autouse=True)
def _fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(one, how, **options):
    """The member with its denoiser compiled in one of the ways that people do it."""
    module = denoisers(one.pipe)[0]
    if how == "whole model":
        one.pipe.transformer = torch.compile(module, **options)
    elif how == "whole model in place":
        module.compile(**options)
    elif how == "repeated blocks":
        module.compile_repeated_blocks(**options)
    elif how == "blocks in place":
        for block in family_of(one.pipe).blocks(module):
            block.compile(**options)
    else:
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and name.endswith("blocks"):
                setattr(module, name, nn.ModuleList([torch.compile(block, **options) for block in child]))
    return one


class Graphs:
    """A backend that runs a graph as it is: counts those that are made and the times that they run."""

    def __init__(self):
        self.made = self.runs = 0

    def __call__(self, graph, inputs):
        self.made += 1

        def run(*args):
            self.runs += 1
            return graph.forward(*args)

        return run


@pytest.mark.parametrize(
    ("name", "how"),
    [("wan", how) for how in HOWS] + [("mochi", "blocks wrapped"), ("latte", "blocks in place")],
)
def test_a_compiled_denoiser_gives_the_same_bits(name, how):
    models = MODELS if name != "latte" else (lab.skip([1]), lab.skip([1], part="attention"))
    guidance = lab.STG(1.0, models[0]) + probes(*models[1:])
    plain = predicted(member(name), guidance, BATCH)
    one = compiled(member(name), how, backend="eager")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert equal(predicted(one, guidance, BATCH), plain)
    said = [str(w.message) for w in told if "is compiled as a whole" in str(w.message)]
    assert len(said) == (how in WHOLE)
    assert all("Transformer3DModel is" in text and "compile_repeated_blocks()" in text for text in said)


@pytest.mark.parametrize("how", HOWS[2:])
def test_blocks_that_are_not_changed_stay_compiled_and_those_before_do_not_run(how):
    graphs = Graphs()
    one = compiled(member("wan"), how, backend=graphs)
    for passes, weak in ((BATCH, 1), (WHOLE_BATCH, 2)):  # of the pass with the second of three blocks changed
        graphs.runs = 0
        predicted(one, probes(ATTENTION_1), passes, num_inference_steps=1)
        assert graphs.runs == 3 + weak + 3
    assert graphs.made == 1  # all blocks are alike


@pytest.mark.parametrize("how", HOWS[1:])
@pytest.mark.filterwarnings("ignore:.*is compiled as a whole")
def test_nothing_is_compiled_anew_from_step_to_step(how):
    one = compiled(member("wan"), how, backend="eager")
    guidance = lab.STG(1.0, SKIP_2) + probes(ATTENTION_1, lab.skip([0], part="feedforward"))
    predicted(one, guidance, num_inference_steps=1)
    with torch.compiler.set_stance("fail_on_recompile"):
        predicted(one, guidance, num_inference_steps=3)


@pytest.mark.filterwarnings("ignore:.*is compiled as a whole")
def test_the_lab_itself_is_not_compiled():
    """A denoiser that is compiled in place takes its hooks in, and would the weak passes inside them."""
    graphs = Graphs()
    one = compiled(member("wan"), "whole model in place", backend=graphs)
    one.stock(num_inference_steps=1)
    made = graphs.made
    predicted(one, probes(*MODELS))
    assert graphs.made == made == 1


@pytest.mark.parametrize("how", HOWS[2:])
def test_a_run_that_breaks_off_leaves_the_blocks_compiled(how):
    graphs = Graphs()
    one = compiled(member("wan"), how, backend=graphs)
    before, calls = left(one), []

    def interrupt(*_):
        calls.append(1)
        if len(calls) == 2:  # in the weak pass
            raise KeyboardInterrupt

    handle = one.pipe.transformer.blocks[2].ffn.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt), torch.compiler.set_stance("force_eager"):
        predicted(one, lab.STG(1.0, lab.skip([2], part="attention")))
    handle.remove()
    assert left(one) == before
    one.stock(num_inference_steps=1)
    assert graphs.runs == 6


def left(one):
    """All that the lab may put in a module's place, by identity."""
    return {
        path: (vars(module).get("_compiled_call_impl"), vars(module).get("forward"), len(module._forward_hooks))
        for path, module in one.pipe.transformer.named_modules()
    }


def test_hooks_of_a_wrapped_block_and_of_its_wrapper_are_heeded_in_the_weak_pass_too():
    def louder(block, args, output):
        return 1.1 * output

    def brighter(block, args, output):
        return 0.2 + output

    one, plain = member("wan"), member("wan")
    for given in (one, plain):
        blocks(given.pipe.transformer, "wan")[1].register_forward_hook(louder)
    compiled(one, "blocks wrapped", backend="eager")
    for given in (one, plain):
        blocks(given.pipe.transformer, "wan")[1].register_forward_hook(brighter)
    assert equal(predicted(one, probes(ATTENTION_1)), predicted(plain, probes(ATTENTION_1)))


@pytest.mark.parametrize("how", HOWS)
def test_what_compiled_blocks_save_is_planned_and_a_whole_that_is_compiled_saves_nothing(how):
    guidance, plain = probes(SKIP_2, ATTENTION_1), member("wan")
    one = compiled(member("wan"), how, backend="eager")
    costs = [lab.plan(plain.pipe, guidance, passes=p, **plain.arguments({})).cost for p in (BATCH, WHOLE_BATCH)]
    assert costs[0] < costs[1]
    assert lab.plan(one.pipe, guidance, **one.arguments({})).cost == costs[how in WHOLE]


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="needs a C++ compiler, for inductor")
def test_inductors_kernels_are_left_alone_and_guided():
    one = compiled(member("wan"), "repeated blocks")
    stock = one.stock(num_inference_steps=2)
    with lab.attach(one.pipe, record=True):
        assert torch.equal(one.stock(num_inference_steps=2), stock)
    guided = predicted(one, probes(*MODELS))
    assert close(guided, predicted(member("wan"), probes(*MODELS)), 1e-4)
    assert torch.equal(one.stock(num_inference_steps=2), stock)
