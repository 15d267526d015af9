"""Guidance as a sum: identities that hold for any predictions, and the sum as a value."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import stg_lab as lab
from stg_lab.guidance import Guidance, Moment, as_guidance, combine
from stg_lab.weak import parse
from stg_lab.x0 import one_step

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


HALF = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
def test_a_weighted_sum_keeps_the_dtype_and_its_bits(dtype):
    """In half precision too it is the very sum that diffusers would write."""
    b = {name: torch.from_numpy(x).to(dtype) for name, x in predictions(0).items()}
    c, u, p = b["cond"], b["uncond"], b["skip"]
    for guidance in (
        lab.CFG(4) + lab.STG(1.3, A),
        (lab.CFG(4) + lab.STG(1.3, A)).in_x0(),
        lab.CFG(4) + lab.STG([1.3], A),
    ):
        guided = one(guidance, b)
        assert guided.dtype == dtype
        assert torch.equal(guided, u + 4 * (c - u) + 1.3 * (c - p))


NOT_LINEAR = [
    lab.CFG(4).apg(0.3, norm=2.0),
    lab.CFG(4).zero_star(0),
    lab.CFG(4).tangential(),
    lab.CFG(4).magnitude(0.5),
    (lab.CFG(4) + lab.STG(1, A)).rescale(0.7),
    (lab.CFG(4) + lab.STG(1, A)).rescale(0.7, per="batch"),
    (
        lab.STG(1, lab.skip([1], part="attention", axis="spatial"))
        + lab.STG(2, lab.skip([1], part="attention", axis="temporal"))
    ).orthogonalize(),
]


def all_branches(guidance, seed=0, *, shape=(2, 3, 4)):
    """Predictions for whatever branches a guidance has, in float64."""
    rng = np.random.default_rng(seed)
    names = ["cond", "uncond", *as_guidance(guidance).weak]
    return {name: rng.standard_normal(shape) * rng.uniform(0.5, 2) for name in names}


@pytest.mark.parametrize("space", ["native", "x0"])
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("guidance", NOT_LINEAR, ids=str)
def test_what_is_not_a_weighted_sum_is_computed_in_float32(guidance, dtype, space):
    guidance = replace(as_guidance(guidance), space=space)
    b = {name: torch.from_numpy(x).to(dtype) for name, x in all_branches(guidance).items()}
    x_t = torch.from_numpy(np.random.default_rng(5).standard_normal((2, 3, 4))).to(dtype)
    step = one_step("v_prediction", alpha=0.3)
    guided = one(guidance, b, one_step=step, x_t=x_t)
    assert guided.dtype == torch.float32
    wide = one(guidance, {name: x.double() for name, x in b.items()}, one_step=step, x_t=x_t.double())
    assert wide.dtype == torch.float64
    assert torch.allclose(guided.double(), wide, rtol=1e-5, atol=1e-5)


def test_half_precision_numpy_is_widened_too():
    b = {name: x.astype(np.float16) for name, x in predictions(0).items()}
    assert one(lab.CFG(4).rescale(0.7), b).dtype == np.float32


@pytest.mark.parametrize("shape", [(1, 6), (2, 3, 4), (3, 2, 3, 2, 2), (3,)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("guidance", [lab.CFG(3.7) + lab.STG(1.3, A), *NOT_LINEAR], ids=str)
def test_numpy_and_torch_give_the_same(guidance, dtype, shape):
    b = {name: x.astype(dtype) for name, x in all_branches(guidance, 3, shape=shape).items()}
    for space in ("native", "x0"):
        summed = replace(as_guidance(guidance), space=space)
        at = {"one_step": one_step("flow", sigma=0.6)}
        ours = one(summed, b, x_t=b["cond"], **at)
        theirs = one(summed, {k: torch.from_numpy(x) for k, x in b.items()}, x_t=torch.from_numpy(b["cond"]), **at)
        assert ours.dtype == dtype
        assert theirs.numpy().dtype == dtype
        assert np.allclose(ours, theirs.numpy(), rtol=1e-10 if dtype == np.float64 else 2e-5, atol=1e-5)


@pytest.mark.parametrize("guidance", [g for g in NOT_LINEAR if "batch" not in str(g)], ids=str)
def test_no_sample_depends_on_the_others_of_its_batch(guidance):
    b = all_branches(guidance, 1, shape=(3, 2, 5))
    for space in ("native", "x0"):
        summed = replace(as_guidance(guidance), space=space)
        at = {"one_step": one_step("flow", sigma=0.6), "x_t": b["cond"] + 1}
        whole = one(summed, b, **at)
        for i in range(3):
            alone = one(summed, {k: x[i : i + 1] for k, x in b.items()}, **{**at, "x_t": at["x_t"][i : i + 1]})
            assert np.allclose(whole[i], alone[0], rtol=1e-12)


def test_rescaling_per_batch_is_one_factor_for_all_samples():
    """As in the STGuidance repository: a loud sample changes what the others are multiplied with."""
    b = all_branches(lab.CFG(4), 1, shape=(3, 2, 5))
    plain, guided = one(lab.CFG(4), b), one(lab.CFG(4).rescale(0.7, per="batch"), b)
    assert np.allclose(guided, plain * (0.7 * b["cond"].std() / plain.std() + 0.3))
    assert not np.allclose(guided, one(lab.CFG(4).rescale(0.7), b))


@pytest.mark.parametrize(("guidance", "lacking"), [(lab.CFG(2), "uncond"), (lab.STG(1, A), "skip")], ids=str)
def test_a_missing_branch_is_named(guidance, lacking):
    with pytest.raises(lab.GuidanceError, match=f"needs the branch '{lacking}', but only cond are there"):
        one(guidance, {"cond": np.zeros((1, 2))})


SPACE, TIME = (lab.skip([1], part="attention", axis=axis) for axis in ("spatial", "temporal"))
SUMS = [
    lab.CFG(4),
    lab.STG(0.1 + 0.2, B),
    lab.CFG(7.5, stop=0.8) + lab.STG(1, A, start=1 / 3) + lab.STG(-2, B),
    (lab.CFG(3) + lab.STG(1, A)).rescale(0.7),
    (lab.CFG(3) + lab.STG(1, A)).rescale(1 / 3, per="batch"),
    lab.CFG([4, 3.5, 1]) + lab.STG((0.5, 0, -1), A, sigma=(0.1, 0.9)),
    lab.CFG(4, sigma=(0.25, math.inf)),
    lab.CFGpp(0.6) + lab.Probe(A, stop=0.5, sigma=(0, 0.5)),
    lab.CFGpp([0.1, 0.2, 1], start=0.5),
    lab.STG(1, A, reference="uncond") + lab.STG(2, B, reference="cfg", start=0.5),
    lab.CFG(4).apg(),
    lab.CFG(4).apg(0.25, norm=2.5, momentum=-0.5).in_x0(),
    lab.CFG(4).zero_star() + lab.STG(1, A).zero_star(3).tangential().magnitude(),
    lab.CFG(4).magnitude(0.1),
    (lab.STG(1, SPACE) + lab.STG(2, TIME)).orthogonalize(),
    (lab.CFG(4) + lab.STG(1, SPACE) + lab.STG(2, TIME))
    .orthogonalize(loses="spatial", per="frame")
    .in_x0()
    .rescale(0.5),
    lab.CFG(4).restart(0.123456789, 0.6, 3, seed=7),
    Guidance(),
    Guidance().rescale(0.5),
]


@pytest.mark.parametrize("guidance", SUMS, ids=str)
def test_a_sum_survives_a_file(guidance):
    """Strict JSON, which knows no infinity: other programs read recordings too."""
    guidance = as_guidance(guidance)
    assert Guidance.from_dict(json.loads(json.dumps(guidance.to_dict(), allow_nan=False)), parse) == guidance


def as_python(text):
    """The text of a sum with the specifications of its weak models, which `parse` reads, in its place."""
    for weak in (A, B, SPACE, TIME):
        text = text.replace(f"{weak}", f"parse({str(weak)!r})")
    return text


@pytest.mark.parametrize("guidance", [s for s in SUMS if s not in (Guidance(), Guidance().rescale(0.5))], ids=str)
def test_a_sum_as_text_is_what_one_types(guidance):
    """`str` is Python but for the weak models, whose text `parse` reads."""
    names = {name: getattr(lab, name) for name in ("CFG", "CFGpp", "STG", "Probe")}
    assert eval(as_python(str(guidance)), {**names, "parse": parse, "inf": math.inf}) == guidance


def test_a_sum_of_nothing_is_cond():
    assert [str(g) for g in (Guidance(), Guidance().rescale(0.5))] == ["cond", "(cond).rescale(0.5)"]


def test_a_callable_goes_into_no_file_before_it_is_numbers():
    guidance = lab.CFG(4) + lab.STG(lambda share: 2 - share, A)
    with pytest.raises(lab.GuidanceError, match=r"a function as its scale; .resolved\(steps\)"):
        guidance.to_dict()
    numbers = guidance.resolved(4)
    assert numbers == lab.CFG(4) + lab.STG([2, 1.75, 1.5, 1.25], A)
    assert Guidance.from_dict(json.loads(json.dumps(numbers.to_dict())), parse) == numbers


def test_sums_are_values():
    assert lab.CFG(4) + lab.STG(1, A) == lab.CFG(4.0) + lab.STG(1.0, lab.skip([1]))
    assert lab.CFG(4) + lab.STG(1, A) != lab.CFG(4) + lab.STG(1, B)
    assert len({lab.CFG(4) + lab.STG(1, A), lab.CFG(4) + lab.STG(1, A)}) == 1
    assert (lab.CFG(4) + (lab.STG(1, A) + lab.STG(2, B))).terms == (lab.CFG(4), lab.STG(1, A), lab.STG(2, B))
    assert (lab.CFG(4).rescale(0.5) + lab.STG(1, A)).phi == 0.5
    assert (lab.CFG(4) + lab.STG(1, A).rescale(0.5)).phi == 0.5


def test_sum_adds_terms_up():
    assert sum([lab.CFG(4), lab.STG(1, A)]) == lab.CFG(4) + lab.STG(1, A)
    assert sum([lab.CFG(4) + lab.STG(1, A)]) == lab.CFG(4) + lab.STG(1, A)


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
        (lambda: lab.CFG(2).rescale(0.5) + lab.CFG(2).rescale(0.5, per="batch"), "sample and batch"),
        (lambda: lab.CFG(2).restart(0.1, 0.2) + lab.CFG(2).restart(0.1, 0.3), "differ in Restart"),
        (lambda: 2 * lab.STG(1, A), r"cannot be multiplied.*Type for example lab.STG\(2, weak\)"),
        (lambda: np.float64(2) * lab.STG(1, A), "cannot be multiplied"),
        (lambda: (lab.CFG(4) + lab.STG(1, A)) / 2, "multiplied or divided"),
        (lambda: lab.CFG(4) - lab.STG(1, A), r"never subtracted.*lab.STG\(-1, weak\)"),
        (lambda: -lab.STG(1, A), "never subtracted"),
        (lambda: lab.CFG(4) + A, r"is a weak model.*Type lab.STG\(1, lab.skip"),
        (lambda: A + lab.CFG(4), "is a weak model"),
        (lambda: sum([lab.CFG(4), A]), "is a weak model"),
        (lambda: lab.CFG(4).orthogonalize(), "needs one spatial and one temporal weak model"),
        (lambda: lab.CFG(lambda done: "x").scale_at(0, 4), "gave 'x' at step 0 of 4.*for example lambda done"),
        (lambda: lab.CFG(lambda done: None).scale_at(0, 4), "gave None at step 0"),
        (lambda: lab.CFG(2).rescale(0.5, per="frame"), "'sample' or 'batch', got 'frame'"),
        (lambda: lab.CFG("4"), "a number, a list with one for each step, or a function.*got '4'"),
        (lambda: lab.CFG(None), "got None"),
        (lambda: lab.STG([[1, 2], [3, 4]], A), "a scale is a number"),
        (lambda: lab.STG([], A), "list of scales is empty"),
        (lambda: lab.CFG([4, 0.5]), r"CFG\(0.5\) is below 1"),
        (lambda: lab.CFG([4, float("nan")]), "finite"),
        (lambda: lab.CFG(2, sigma=(0.5, 0.5)), "0 <= low < high"),
        (lambda: lab.CFG(2, sigma=(-0.1, 0.5)), "0 <= low < high"),
        (lambda: lab.CFG(2, sigma=(0.1, float("nan"))), "0 <= low < high"),
        (lambda: lab.CFGpp(1.5), r"CFGpp\(strength\) takes 0 to 1, got 1.5"),
        (lambda: lab.STG(1, A, reference="ucond"), "'ucond' is unknown. Did you mean 'uncond'"),
        (lambda: lab.Probe(5), r"Probe\(weak\) needs a weak model"),
        (lambda: lab.Probe(A).apg(), "a Probe only records, so .apg"),
        (lambda: lab.CFG(2).apg(norm=0), "norm > 0"),
        (lambda: lab.CFG(2).apg(momentum=1), "-1 < momentum < 1"),
        (lambda: lab.CFG(2).apg(math.inf), "finite eta"),
        (lambda: lab.CFG(2).zero_star(-1), "takes 0, 1, 2, ..., got -1"),
        (lambda: lab.CFG(2).zero_star(math.inf), "got inf"),
        (lambda: lab.CFG(2).magnitude(-1), "finite number from 0, got -1"),
        (lambda: lab.CFG(2).restart(0.5, 0.5), "0 < t_min < t_max <= 1"),
        (lambda: lab.CFG(2).restart(0.1, 0.5, 0), "takes 1, 2, 3, ..., got 0"),
        (lambda: lab.CFG(2).restart(0.1, 0.5, 1.5), "got 1.5"),
        (lambda: as_guidance("CFG(4)"), "must be a sum such as"),
    ],
)
def test_a_term_that_cannot_be_is_refused_with_what_is_allowed(make, says):
    with pytest.raises(lab.GuidanceError, match=says):
        make()
