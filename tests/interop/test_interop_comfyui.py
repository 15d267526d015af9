"""Nodes for ComfyUI: what they compute, written a second time, is the x0 of the lab's prediction."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from kit.comfyui import SAID, SHAPE, SIGMAS, A, B, in_x0, weak_prediction
from kit.peers import comfyui_denoised, percent_to_sigma

import stg_lab as lab
from stg_lab.guidance import Moment, as_guidance, combine
from stg_lab.interop import settings
from stg_lab.interop.expressible import model_at
from stg_lab.x0 import OneStep

STEPS = len(SIGMAS)


def skipped_at(x_t, sigma):
    """x0 of the weak prediction for some layers."""
    return lambda layers: x_t - sigma * weak_prediction(layers)


def compare(guidance, sigmas=SIGMAS, shift=3.0):
    """The model predicts velocity v with x0 = x_t - sigma v; ComfyUI combines x0, the lab what the sum says."""
    guidance = as_guidance(guidance)
    nodes = json.loads(lab.export(guidance, "comfyui", sigmas=sigmas, shift=shift))
    for step, sigma in enumerate(sigmas):
        rng = np.random.default_rng(step)
        c, u, x_t = (rng.standard_normal(SHAPE) * scale for scale in (1.0, 1.3, 1.1))
        at = Moment(step, len(sigmas), sigma, one_step=OneStep(1.0, -sigma), x_t=x_t)
        weak = {name: model_at(model, step) for name, model in guidance.needed(at).items()}
        ours = combine(
            guidance, {"cond": c, "uncond": u, **{n: weak_prediction(m.layers) for n, m in weak.items()}}, at
        )
        for held in (sigma, float(np.float32(sigma))):
            theirs = comfyui_denoised(nodes, held, shift, x_t - sigma * c, x_t - sigma * u, skipped_at(x_t, sigma))
            np.testing.assert_allclose(theirs, x_t - sigma * ours, rtol=1e-6, atol=1e-9)
    return nodes


@pytest.mark.parametrize("name", SAID)
def test_the_nodes_compute_what_the_lab_does(name):
    compare(SAID[name])


@pytest.mark.parametrize("shift", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("first", range(STEPS))
def test_every_window_has_percents(first, shift):
    for last in range(first + 1, STEPS + 1):
        nodes = compare(lab.STG(1, A, start=first / STEPS, stop=last / STEPS), shift=shift)
        inputs = nodes["1"]["inputs"]
        assert (inputs["start_percent"] == 0) == (first == 0)
        assert (inputs["end_percent"] == 1) == (last == STEPS)
        assert percent_to_sigma(inputs["end_percent"], shift) < percent_to_sigma(inputs["start_percent"], shift)


@hypothesis(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(1, 10), min_size=STEPS, max_size=STEPS),
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 3.25]), min_size=STEPS, max_size=STEPS).filter(lambda s: set(s) > {0.0}),
    st.lists(st.integers(1, 1000), min_size=STEPS, max_size=STEPS, unique=True),
)
def test_any_schedule_with_attention_is_said(cfg, stg, levels):
    compare(lab.CFG(cfg) + lab.STG(stg, B), [level / 1000 for level in sorted(levels, reverse=True)])


def test_what_the_nodes_are():
    assert settings(lab.CFG(3) + lab.STG(2.8, A), "comfyui") == {
        "1": {
            "class_type": "SkipLayerGuidanceDiT",
            "inputs": {
                "double_layers": "7, 8, 9", "single_layers": "", "scale": 2.8, "start_percent": 0.0, "end_percent": 1.0,
                "rescaling_scale": 0.0,
            },
        },
        "2": {"class_type": "CFGGuider", "inputs": {"model": ["1", 0], "cfg": 3}},
    }  # fmt: skip
    assert settings(SAID["attention"], "comfyui") == {
        "1": {"class_type": "LTXVApplySTG", "inputs": {"block_indices": "14, 19"}},
        "2": {"class_type": "STGGuider", "inputs": {"model": ["1", 0], "cfg": 3, "stg": 1.5, "rescale": 0.0}},
    }
    advanced = settings(SAID["attention, lists"], "comfyui", sigmas=SIGMAS)["1"]
    assert advanced["class_type"] == "STGGuiderAdvanced"
    assert advanced["inputs"]["stg_layers_indices"] == "[14, 19], [14, 19], [14, 19], [14, 19], [14, 19], []"
    assert advanced["inputs"]["cfg_values"] == "8, 6, 6, 4, 3, 1"


REFUSED = {
    "rescaling the velocity": ((lab.CFG(3) + lab.STG(1, A)).rescale(0.7), r"Type .in_x0\(\).rescale\(0.7, per='batch'\)"),
    "rescaling by sample": ((lab.CFG(3) + lab.STG(1, B)).rescale(0.7).in_x0(), "one deviation of the whole batch"),
    "rescaling CFG alone": (in_x0(lab.CFG(3) + lab.STG(0, A), 0.7), "rescales where it skips"),
    "rescaling beside a window": (in_x0(lab.CFG(3) + lab.STG(1, A, stop=0.5), 0.7), "rescales where it skips"),
    "rescaling two skips": (in_x0(lab.STG(1, A) + lab.STG(1, lab.skip([3])), 0.7), "Keep one skip"),
    "CFG that changes": (lab.CFG(3, stop=0.5) + lab.STG(1, A), "one scale for all steps"),
    "a scale that changes": (lab.STG([1, 2, 1, 1, 1, 1], A), "one scale and one stretch of steps"),
    "two stretches": (lab.STG([1, 0, 1, 1, 1, 1], A), "one scale and one stretch of steps"),
    "layers that change": (lab.STG(1, lab.per_step((3, A), (3, lab.skip([3])))), "the same layers at all steps"),
    "no step": (lab.STG(1, A, sigma=(0.6, 0.7)), "acts at no step of these sigmas"),
    "beyond the field": (lab.STG(12, A), "scale=12: the node's field goes from 0 to 10"),
    "a negative scale": (lab.STG(-1, A), "scale=-1: the node's field"),
    "a negative scale of STGGuider": (lab.STG(-1, B), "stg=-1: the node's field"),
    "blocks and attention": (lab.STG(1, A) + lab.STG(1, B), "both blocks and attention"),
    "two weak models of attention": (lab.STG(1, B) + lab.STG(1, lab.skip([3], part="attention")), "one weak pass in a step"),
    "a rule": (lab.CFG(3).zero_star(0), "it has no .zero_star"),
    "convention C": (lab.convention("C", A, cfg=3, scale=1), "not to 'cfg'"),
    "an axis": (lab.STG(1, lab.skip([3], part="attention", axis="temporal")), r"is lab.skip\(\[3\], part='attention'\)"),
    "Restart": (lab.CFG(3).restart(0.2, 0.5), "no Restart"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_node_does_is_refused(name):
    guidance, says = REFUSED[name]
    with pytest.raises(lab.GuidanceError, match=says):
        lab.export(guidance, "comfyui", sigmas=SIGMAS, shift=3.0)


def test_a_window_needs_noise_levels_and_the_shift():
    guidance = lab.CFG(3) + lab.STG(1, A, stop=0.5)
    with pytest.raises(lab.GuidanceError, match=r"lab.export\(..., sigmas="):
        lab.export(guidance, "comfyui")
    with pytest.raises(lab.GuidanceError, match=r"lab.export\(..., shift=3.0\)"):
        lab.export(guidance, "comfyui", sigmas=SIGMAS)
    with pytest.raises(lab.GuidanceError, match="shift is a number above 0, got 0"):
        lab.export(guidance, "comfyui", sigmas=SIGMAS, shift=0)
    with pytest.raises(lab.GuidanceError, match="flow models"):
        lab.export(guidance, "comfyui", sigmas=[14.6, 7.0, 3.0, 1.0], shift=3)
