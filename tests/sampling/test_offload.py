"""Offloading replaces `forward` on whole models and renews that after every call; the seams neither lose nor break it.

Accelerate's own hooks stand for `enable_model_cpu_offload`, which needs an accelerator (see gpu/).
"""

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module

import stg_lab as lab

GUIDANCE = lab.CFG(4) + lab.STG(1, lab.skip([1]))


class Counting(ModelHook):
    """Notes each pass that it brings its model onto the device for."""

    def __init__(self, passes):
        self.passes = passes

    def pre_forward(self, module, *args, **kwargs):
        self.passes.append(module)
        return args, kwargs


def offload(pipe):
    """What `enable_model_cpu_offload` does; returns the passes seen, a list that grows."""
    passes = []

    def renew():
        remove_hook_from_module(pipe.transformer, recurse=True)
        add_hook_to_module(pipe.transformer, Counting(passes))

    pipe.maybe_free_model_hooks = renew  # called by the pipeline at the end of every call
    renew()
    return passes


@pytest.mark.parametrize("first", ["offload", "attach"])
def test_guidance_survives_offloading_and_offloading_survives_guidance(tiny, first):
    plain = tiny.sample(GUIDANCE, record=False).output.frames
    stock = tiny.stock(guidance_scale=4.0)
    rig = tiny.copy()
    passes = offload(rig.pipe) if first == "offload" else []
    with lab.attach(rig.pipe, guidance=GUIDANCE):
        if first == "attach":
            passes = offload(rig.pipe)
        for _ in range(2):
            passes.clear()
            assert torch.equal(rig.stock(guidance_scale=4.0), plain)
            assert len(passes) == 3 * rig.steps  # weak passes find the model onloaded too
    passes.clear()
    assert torch.equal(rig.stock(guidance_scale=4.0), stock)
    assert len(passes) == 2 * rig.steps
