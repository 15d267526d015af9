"""Settings for LTX-Video: its pipeline, written a second time, reads them and predicts what the lab does."""

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from kit.peers import ltx_prediction

import stg_lab as lab
from stg_lab.guidance import Moment, as_guidance, combine
from stg_lab.interop import settings
from stg_lab.interop.expressible import model_at

SIGMAS = [1.0, 0.97, 0.9, 0.74, 0.5, 0.21]
STEPS = len(SIGMAS)


def arrays(seed):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((1, 6, 4)) * scale for scale in (1.0, 1.3)]


def skipped(layers):
    """A weak prediction for each set of layers."""
    return np.random.default_rng([*layers, len(layers)]).standard_normal((1, 6, 4))


def compare(guidance, sigmas=SIGMAS):
    guidance = as_guidance(guidance)
    text = lab.export(guidance, "ltx", sigmas=sigmas)
    for step, sigma in enumerate(sigmas):
        c, u = arrays(step)
        at = Moment(step, len(sigmas), sigma)
        weak = {name: model_at(model, step) for name, model in guidance.needed(at).items()}
        ours = combine(guidance, {"cond": c, "uncond": u, **{n: skipped(m.layers) for n, m in weak.items()}}, at)
        # The scheduler may hold its noise levels in single precision.
        for held in (sigma, float(np.float32(sigma))):
            np.testing.assert_allclose(ltx_prediction(text, held, c, u, skipped), ours, rtol=1e-6, atol=1e-9)
    return yaml.safe_load(text)


A, B = lab.skip([19]), lab.skip([14, 19], part="attention")
SAID = {
    "nothing": lab.CFG(1),
    "cfg": lab.CFG(3),
    "the authors' settings": (lab.CFG(3) + lab.STG(1, lab.skip([19], part="attention"))).rescale(0.7),
    "blocks": (lab.CFG(3) + lab.STG(1, A)).rescale(0.2),
    "no cfg": lab.STG(1.5, B).rescale(0.5),
    "windows": lab.CFG(6, start=0.3, stop=0.9) + lab.STG(4, B, stop=0.5),
    "windows in sigma": lab.CFG(6, sigma=(0.3, 0.97)) + lab.STG(2, A, sigma=(0.5, 2)),
    "lists": lab.CFG([1, 1, 6, 8, 6, 1]) + lab.STG([0, 0, 4, 4, 4, 2], A),
    "functions": lab.CFG(lambda share: 5 - 3 * share) + lab.STG(lambda share: 1 + share, A),
    "layers that change": lab.CFG(3) + lab.STG(2, lab.per_step((2, lab.skip([11, 25])), (3, lab.skip([28])), None)),
    "weak models that take turns": lab.STG(2, A, stop=0.5) + lab.STG(1, lab.skip([28]), start=0.5),
    "one weak model in two terms": lab.STG(2, A, stop=0.5) + lab.STG(1, A, start=0.3),
    "two CFG": lab.CFG(3) + lab.CFG(2, start=0.5),
    "zero star": lab.CFG(3).zero_star(0) + lab.STG(1, A),
    "x0, where it is the same": (lab.CFG(3) + lab.STG(1, A)).in_x0(),
    "a small scale": lab.CFG(3) + lab.STG(1e-05, A),
}


@pytest.mark.parametrize("name", SAID)
def test_ltx_predicts_with_the_settings_what_the_lab_does(name):
    compare(SAID[name])


def test_what_the_lines_are():
    """As in the configurations of LTX-Video."""
    said = compare(SAID["the authors' settings"])
    assert said == {
        "guidance_scale": 3, "stg_scale": 1, "rescaling_scale": 0.7, "skip_block_list": [19],
        "cfg_star_rescale": False, "stg_mode": "attention_values",
    }  # fmt: skip
    assert said == settings(SAID["the authors' settings"], "ltx")
    assert compare(SAID["blocks"])["stg_mode"] == "transformer_block"
    assert compare(SAID["cfg"])["rescaling_scale"] == 1.0  # off
    lists = compare(SAID["lists"])
    assert lists["guidance_scale"] == [1, 6, 8, 6, 1]  # steps on end with the same settings share an entry
    assert (
        lists["guidance_timesteps"]
        == [0.94, 0.82, 0.62, 0.35, 0.0]
        == sorted(lists["guidance_timesteps"], reverse=True)
    )
    assert lab.export(lab.CFG(3), "ltx").startswith("# CFG(3)\n")


scales = st.floats(1, 10)


@hypothesis(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(1, 10), min_size=STEPS, max_size=STEPS),
    st.lists(st.sampled_from([0.0, 0.5, 3.25]), min_size=STEPS, max_size=STEPS),
    st.lists(st.integers(1, 1000), min_size=STEPS, max_size=STEPS, unique=True),
)
def test_any_schedule_is_said(cfg, stg, levels):
    compare(lab.CFG(cfg) + lab.STG(stg, B), [level / 1000 for level in sorted(levels, reverse=True)])


REFUSED = {
    "full rescaling": ((lab.CFG(3) + lab.STG(1, A)).rescale(1), "1.0 means off"),
    "rescaling by batch": ((lab.CFG(3) + lab.STG(1, A)).rescale(0.7, per="batch"), r"Type .rescale\(phi\)"),
    "rescaling x0": ((lab.CFG(3) + lab.STG(1, A)).rescale(0.7).in_x0(), r"Leave in_x0\(\) out"),
    "rescaling CFG alone": (lab.CFG(3).rescale(0.7), "only the steps at which STG acts"),
    "rescaling where STG is over": ((lab.CFG(3) + lab.STG(1, A, stop=0.5)).rescale(0.7), "only the steps at which STG acts"),
    "a negative scale": (lab.CFG(3) + lab.STG(-1, A), "below 0 for off"),
    "two modes": (lab.STG(1, A, stop=0.5) + lab.STG(1, B, start=0.5), "one for the whole run"),
    "two weak models at once": (lab.STG(1, A) + lab.STG(1, lab.skip([3])), "one weak pass in a step"),
    "first steps at zero": (lab.CFG(3).zero_star(1), "it has no .zero_star"),
    "projection": (lab.CFG(3).apg(), r"it has no .apg\(\)"),
    "convention B": (lab.convention("B", A, cfg=3), "to the conditional prediction, not to 'uncond'"),
    "another weak model": (lab.STG(1, lab.shuffle([3])), "whole blocks"),
    "a part of a skip": (lab.STG(1, lab.per_step((5, A), lab.skip([3], strength=0.5))), r"can say is lab.skip\(\[3\]\)"),
    "Restart": (lab.CFG(3).restart(0.2, 0.5), "no Restart"),
    "CFG++": (lab.CFGpp(0.5), r"Type lab.CFG\(scale\) instead"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_ltx_has_no_setting_for_is_refused(name):
    guidance, says = REFUSED[name]
    with pytest.raises(lab.GuidanceError, match=says):
        lab.export(guidance, "ltx", sigmas=SIGMAS)


@pytest.mark.parametrize(
    ("sigmas", "says"),
    [
        (None, r"must be known for CFG\(3, stop=0.5\): lab.export\(..., sigmas="),
        ([], "falling and above 0"),
        ([1.0, 0.5, 0.0], "Leave out the last one if it is 0"),
        ([0.5, 0.9], "falling"),
        ([14.6, 7.0, 1.0], "its timesteps go from 1 to 0, got sigmas from 14.6"),
        ([float("inf"), 1.0], "falling"),
    ],
)
def test_noise_levels_are_checked(sigmas, says):
    with pytest.raises(lab.GuidanceError, match=says):
        lab.export(lab.CFG(3, stop=0.5), "ltx", sigmas=sigmas)
