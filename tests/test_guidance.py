"""Guidance as a sum: identities that hold for any predictions, and the sum as a value."""

import json

import numpy as np
import pytest
import torch

import stg_lab as lab
from stg_lab.guidance import Guidance, Moment, as_guidance, combine
from stg_lab.weak import parse

A, B = lab.skip([1]), lab.skip([2, 3], part="attention")
SEEDS = range(12)


def predictions(seed, *, dtype=np.float64):
    rng = np.random.default_rng(seed)
    names = ("cond", "uncond", "skip", "skip:block:1", "skip:attention:2,3")
    return {name: rng.standard_normal((2, 3, 4)).astype(dtype) * rng.uniform(0.1, 3) for name in names}


def scales(seed):
    return np.random.default_rng(1000 + seed).uniform(1, 8, 3).tolist()


def one(guidance, arrays, **rest):
    scale = rest.pop("cfg_scale", None)
    return combine(as_guidance(guidance), arrays, Moment(**{"step": 0, "steps": 1, **rest}), cfg_scale=scale)


@pytest.mark.parametrize("seed", SEEDS)
def test_cfg_is_diffusers_formula(seed):
    b, (g, _, _) = predictions(seed, dtype=np.float32), scales(seed)
    assert np.array_equal(one(lab.CFG(g), b), b["uncond"] + g * (b["cond"] - b["uncond"]))


@pytest.mark.parametrize("seed", SEEDS)
def test_cfg_and_stg_is_the_papers_sum(seed):
    """Equation 13 written by hand, and equation 20 with two weak models."""
    b, (g, s, r) = predictions(seed), scales(seed)
    c, u = b["cond"], b["uncond"]
    assert np.allclose(one(lab.CFG(g) + lab.STG(s, A), b), u + g * (c - u) + s * (c - b["skip"]))
    both = one(lab.CFG(g) + lab.STG(s, A) + lab.STG(r, B), b)
    expected = c + (g - 1) * (c - u) + s * (c - b["skip:block:1"]) + r * (c - b["skip:attention:2,3"])
    assert np.allclose(both, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_stg_of_zero_is_exactly_cfg(seed):
    b, (g, _, _) = predictions(seed), scales(seed)
    assert np.array_equal(one(lab.CFG(g) + lab.STG(0, A), b), one(lab.CFG(g), b))
    assert one(lab.CFG(1) + lab.STG(0, A), b) is b["cond"]
    assert one(Guidance(), b) is b["cond"]


@pytest.mark.parametrize("seed", SEEDS)
def test_stg_is_extrapolation_from_the_weak_model(seed):
    """c + s (c - p) is autoguidance p + (s + 1)(c - p)."""
    b, (s, _, _) = predictions(seed), scales(seed)
    c, p = b["cond"], b["skip"]
    assert np.allclose(one(lab.STG(s, A), b), p + (s + 1) * (c - p))


@pytest.mark.parametrize("seed", SEEDS)
def test_cfg_is_stg_with_the_unconditional_prediction_as_weak_model(seed):
    b, (g, _, _) = predictions(seed), scales(seed)
    assert np.allclose(one(lab.CFG(g), b), one(lab.STG(g - 1, A), {**b, "skip": b["uncond"]}))


@pytest.mark.parametrize("seed", SEEDS)
def test_terms_add_up_and_commute(seed):
    b, (g, s, r) = predictions(seed), scales(seed)
    assert np.allclose(one(lab.STG(s, A) + lab.STG(r, A), b), one(lab.STG(s + r, A), b))
    assert np.allclose(one(lab.STG(s, A) + lab.CFG(g), b), one(lab.CFG(g) + lab.STG(s, A), b))
    assert np.allclose(one(lab.STG(s, A) + lab.STG(-s, A), b), b["cond"])
    assert np.allclose(one(lab.CFG(g) + lab.CFG(r), b), one(lab.CFG(g + r - 1), b))


@pytest.mark.parametrize("seed", SEEDS)
def test_guidance_is_linear_in_its_scales(seed):
    b, (g, s, r) = predictions(seed), scales(seed)
    middle = one(lab.CFG((g + r) / 2) + lab.STG((s - 1) / 2, A), b)
    assert np.allclose(middle, (one(lab.CFG(g) + lab.STG(s, A), b) + one(lab.CFG(r) + lab.STG(-1, A), b)) / 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_scale_in_force_at_a_step_stands_in_for_the_sums_own(seed):
    """The pipeline's own CFG without a term of ours, or the second scale of Wan 2.2."""
    b, (g, s, _) = predictions(seed), scales(seed)
    assert np.array_equal(one(lab.STG(s, A), b, cfg_scale=g), one(lab.CFG(g) + lab.STG(s, A), b))
    assert np.array_equal(one(lab.CFG(g), b, cfg_scale=g + 1), one(lab.CFG(g + 1), b))


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_branches_leave_the_conditional_prediction(seed):
    b, (g, s, _) = predictions(seed), scales(seed)
    assert np.allclose(one(lab.CFG(g) + lab.STG(s, A), dict.fromkeys(b, b["cond"])), b["cond"])


@pytest.mark.parametrize("phi", [0.3, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_rescaling_is_the_closed_form_of_each_sample(seed, phi):
    b, (g, s, _) = predictions(seed), scales(seed)
    plain, guided = one(lab.CFG(g) + lab.STG(s, A), b), one((lab.CFG(g) + lab.STG(s, A)).rescale(phi), b)
    for i in range(2):
        factor = b["cond"][i].std() / plain[i].std()
        assert np.allclose(guided[i], phi * factor * plain[i] + (1 - phi) * plain[i])
        assert phi < 1 or np.isclose(guided[i].std(), b["cond"][i].std())


def test_rescaling_keeps_samples_of_a_batch_apart():
    b = {name: torch.from_numpy(x) for name, x in predictions(0).items()}
    guidance = (lab.CFG(4) + lab.STG(1, A)).rescale(0.7)
    other = {name: x.clone() for name, x in b.items()}
    for x in other.values():
        x[1] *= 100
    assert torch.equal(one(guidance, b)[0], one(guidance, other)[0])


def test_numpy_and_torch_give_the_same_bits():
    b = predictions(3, dtype=np.float32)
    guidance = lab.CFG(3.7) + lab.STG(1.3, A)
    assert np.array_equal(one(guidance, b), one(guidance, {k: torch.from_numpy(x) for k, x in b.items()}).numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_sum_keeps_the_dtype(dtype):
    b = {name: torch.from_numpy(x).to(dtype) for name, x in predictions(0).items()}
    assert one((lab.CFG(4) + lab.STG(1, A)).rescale(0.7), b).dtype == dtype


@pytest.mark.parametrize(("guidance", "lacking"), [(lab.CFG(2), "uncond"), (lab.STG(1, A), "skip")], ids=str)
def test_a_missing_branch_is_named(guidance, lacking):
    with pytest.raises(lab.GuidanceError, match=f"needs the branch '{lacking}', but only cond are there"):
        one(guidance, {"cond": np.zeros((1, 2))})


SUMS = [
    lab.CFG(4),
    lab.STG(0.1 + 0.2, B),
    lab.CFG(7.5, stop=0.8) + lab.STG(1, A, start=1 / 3) + lab.STG(-2, B),
    (lab.CFG(3) + lab.STG(1, A)).rescale(0.7),
    Guidance(),
    Guidance().rescale(0.5),
]


@pytest.mark.parametrize("guidance", SUMS, ids=str)
def test_a_sum_survives_a_file(guidance):
    guidance = as_guidance(guidance)
    assert Guidance.from_dict(json.loads(json.dumps(guidance.to_dict())), parse) == guidance


@pytest.mark.parametrize("guidance", [s for s in SUMS if s != Guidance().rescale(0.5)][:4], ids=str)
def test_a_sum_as_text_is_what_one_types(guidance):
    """`str` is Python but for the weak models, whose text `parse` reads."""
    text = str(guidance)
    for weak in (A, B):
        text = text.replace(str(weak), f"parse({str(weak)!r})")
    assert eval(text, {"CFG": lab.CFG, "STG": lab.STG, "parse": parse}) == guidance


def test_sums_are_values():
    assert lab.CFG(4) + lab.STG(1, A) == lab.CFG(4.0) + lab.STG(1.0, lab.skip([1]))
    assert lab.CFG(4) + lab.STG(1, A) != lab.CFG(4) + lab.STG(1, B)
    assert len({lab.CFG(4) + lab.STG(1, A), lab.CFG(4) + lab.STG(1, A)}) == 1
    assert (lab.CFG(4) + (lab.STG(1, A) + lab.STG(2, B))).terms == (lab.CFG(4), lab.STG(1, A), lab.STG(2, B))
    assert (lab.CFG(4).rescale(0.5) + lab.STG(1, A)).phi == 0.5
    assert (lab.CFG(4) + lab.STG(1, A).rescale(0.5)).phi == 0.5


def test_adding_what_is_no_term_is_a_type_error():
    for other in (1.0, A, None, "CFG(4)"):
        with pytest.raises(TypeError):
            lab.CFG(4) + other


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: lab.CFG(0.5), r"CFG\(0.5\) is below 1.*CFG\(1.0\)"),
        (lambda: lab.CFG(float("nan")), "finite"),
        (lambda: lab.STG(float("inf"), A), "finite"),
        (lambda: lab.STG(1, 5), r"needs a weak model such as lab.skip\(\[5\]\), got 5"),
        (lambda: lab.CFG(2, start=0.5, stop=0.5), "0 <= start < stop <= 1, got start=0.5, stop=0.5"),
        (lambda: lab.STG(1, A, stop=1.5), "stop=1.5"),
        (lambda: lab.STG(1, A, start=-0.1), "start=-0.1"),
        (lambda: lab.CFG(2).rescale(1.5), r"0 \(off\) to 1 \(full\), got 1.5"),
        (lambda: lab.CFG(2).rescale(0.5) + lab.CFG(2).rescale(0.7), "0.5 and 0.7"),
    ],
)
def test_a_term_that_cannot_be_is_refused_with_what_is_allowed(make, says):
    with pytest.raises(lab.GuidanceError, match=says):
        make()
