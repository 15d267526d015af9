"""Equations 20 and 21: a scale for space and one for time, and vectors made orthogonal to each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from kit.watch import branch

import stg_lab as lab
from stg_lab.guidance import Moment, as_guidance, combine
from stg_lab.x0 import one_step

SPACE, TIME = (lab.skip([1], part="attention", axis=axis) for axis in ("spatial", "temporal"))
NAMES = [str(SPACE), str(TIME)]
SHAPE = (2, 3, 4, 2, 2)
PAIR = lab.STG(1.5, SPACE) + lab.STG(-0.5, TIME)


def predictions(seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(SHAPE) for name in ("cond", "uncond", *NAMES)}


def across(vector, other, per="sample", frame=1):
    """A sample's vector without its part along another, by definition; `frame` counts from the sample's own dimensions."""
    if per == "frame":
        pairs = zip(np.moveaxis(vector, frame, 0), np.moveaxis(other, frame, 0), strict=True)
        return np.moveaxis(np.stack([across(v, o) for v, o in pairs]), 0, frame)
    v, o = vector.ravel(), other.ravel()
    return (v - (v @ o) / (o @ o) * o if o.any() else v).reshape(vector.shape)


def guided(guidance, b, **at):
    return combine(as_guidance(guidance), b, Moment(**{"step": 0, "steps": 4, **at}))


def test_space_and_time_have_scales_of_their_own():
    b = predictions()
    c, u, p, q = (b[name] for name in ("cond", "uncond", *NAMES))
    assert np.allclose(guided(lab.CFG(4) + PAIR, b), u + 4 * (c - u) + 1.5 * (c - p) - 0.5 * (c - q))
    assert lab.CFG(4) + PAIR != lab.CFG(4) + lab.STG(1.5, TIME) + lab.STG(-0.5, SPACE)


@pytest.mark.parametrize("per", ["sample", "frame"])
@pytest.mark.parametrize("loses", ["temporal", "spatial"])
def test_one_vector_loses_its_part_along_the_other(loses, per):
    b = predictions()
    c, u = b["cond"], b["uncond"]
    ours = guided((lab.CFG(4) + PAIR).orthogonalize(loses=loses, per=per), b)
    for i in range(2):
        space, time = c[i] - b[NAMES[0]][i], c[i] - b[NAMES[1]][i]
        if loses == "temporal":
            time = across(time, space, per)
        else:
            space = across(space, time, per)
        assert np.allclose(ours[i], u[i] + 4 * (c[i] - u[i]) + 1.5 * space - 0.5 * time)


def test_the_temporal_vector_loses_by_default_as_in_the_paper():
    b = predictions()
    default = guided(PAIR.orthogonalize(), b)
    assert np.array_equal(default, guided(PAIR.orthogonalize(loses="temporal", per="sample"), b))
    only_time = guided(lab.STG(1, TIME) + (lab.STG(1, SPACE, stop=0.5) + lab.STG(0, TIME)).orthogonalize(), b)
    taken_away = only_time - b["cond"] - (b["cond"] - b[NAMES[0]])
    for i in range(2):
        assert abs(taken_away[i].ravel() @ (b["cond"][i] - b[NAMES[0]][i]).ravel()) < 1e-9


@pytest.mark.parametrize("frame", [1, 2])
def test_frames_are_counted_along_the_dimension_that_the_moment_names(frame):
    """Some pipelines have the frames before the channels."""
    b, guidance = predictions(), PAIR.orthogonalize(per="frame")
    swapped = {name: x.swapaxes(2, frame) for name, x in b.items()}
    ours = guided(guidance, swapped, frame=frame).swapaxes(2, frame)
    assert np.allclose(ours, guided(guidance, b))
    assert np.allclose(guided(guidance, swapped).swapaxes(2, frame), ours) == (frame == 2)


@pytest.mark.parametrize("space", ["native", "x0"])
@pytest.mark.parametrize("frame", [1, 2])
@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy])
def test_given_frames_are_left_out_of_everything(frame, wrap, space):
    """And keep the prediction that they had: the pipeline's own, where it is told, else that of cond."""
    b = {name: x.swapaxes(2, frame) for name, x in predictions().items()}
    rest = (slice(None),) * frame + (slice(1, None),)
    given = (slice(None),) * frame + (slice(0, 1),)
    guidance = replace(
        (lab.STG(1, SPACE).apg(0, norm=1.0) + lab.STG(1, TIME)).orthogonalize().rescale(0.7), space=space
    )
    x_t = np.random.default_rng(2).standard_normal(b["cond"].shape)
    at = {"frame": frame, "one_step": one_step("flow", sigma=0.7)}
    expected = guided(guidance, {name: x[rest] for name, x in b.items()}, x_t=x_t[rest], **at)
    ours = combine(
        guidance,
        {n: wrap(x.copy()) for n, x in b.items()},
        Moment(0, 4, given=1, x_t=wrap(x_t), **at),
        own=wrap(9 * x_t),
    )
    assert np.allclose(ours[rest], expected)
    assert np.array_equal(ours[given], 9 * x_t[given])
    alone = guided(guidance, b, given=1, x_t=x_t, **at)
    assert np.allclose(alone[rest], expected)
    assert np.array_equal(alone[given], b["cond"][given])
    assert not np.allclose(guided(guidance, b, x_t=x_t, **at)[rest], expected)


def test_scales_by_frame_are_those_of_the_frames_that_are_stepped():
    b = {**predictions(), "uncond": np.zeros(SHAPE)}
    scales = np.array([5.0, 2.0, 2.0, 2.0]).reshape(1, 1, 4, 1, 1)
    ours = combine(as_guidance(lab.CFG(2)), b, Moment(0, 4, given=1), cfg_scale=scales)
    assert np.array_equal(ours[:, :, 1:], 2 * b["cond"][:, :, 1:])
    assert np.array_equal(ours[:, :, 0], b["cond"][:, :, 0])


def test_frames_of_something_that_is_no_video_are_refused():
    tokens = {name: x.reshape(2, 6, 8) for name, x in predictions().items()}
    with pytest.raises(lab.GuidanceError, match="video of five dimensions"):
        guided(PAIR.orthogonalize(per="frame"), tokens)
    guided(PAIR.orthogonalize(), tokens)


@pytest.mark.parametrize("per", ["sample", "frame"])
def test_a_vector_of_nothing_takes_nothing_away(per):
    b = predictions()
    b[NAMES[0]] = b["cond"].copy()
    b[NAMES[0]][1] *= 2  # the second sample has one
    with np.errstate(all="raise"):
        ours = guided(PAIR.orthogonalize(per=per), b)
    plain = guided(PAIR, b)
    assert np.allclose(ours[0], plain[0])
    assert not np.allclose(ours[1], plain[1])


def test_where_one_of_the_two_does_not_act_the_other_is_whole():
    b = predictions()
    late = (lab.STG(1.5, SPACE, start=0.5) + lab.STG(-0.5, TIME)).orthogonalize()
    assert np.allclose(guided(late, b), guided(lab.STG(-0.5, TIME), {**b, "skip": b[NAMES[1]]}))
    assert np.allclose(guided(late, b, step=2), guided(PAIR.orthogonalize(), b))
    off = (lab.STG(0, SPACE) + lab.STG(-0.5, TIME)).orthogonalize()  # a sweep over a scale may begin with 0
    assert np.allclose(guided(off, {**b, "skip": b[NAMES[1]]}), guided(lab.STG(-0.5, TIME), {**b, "skip": b[NAMES[1]]}))


def test_it_does_not_matter_in_what_order_the_sum_is_built():
    b = predictions()
    first = guided((lab.CFG(4) + PAIR).orthogonalize().rescale(0.5), b)
    for other in (
        PAIR.orthogonalize().rescale(0.5) + lab.CFG(4),
        lab.CFG(4).rescale(0.5) + PAIR.orthogonalize(),
        (lab.STG(-0.5, TIME) + lab.STG(1.5, SPACE) + lab.CFG(4)).rescale(0.5).orthogonalize(),
    ):
        assert np.allclose(guided(other, b), first)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: (lab.CFG(4) + lab.STG(1, SPACE)).orthogonalize(),
            r"one spatial and one temporal.*This sum has: CFG\(4\) \+ STG",
        ),
        (
            lambda: (lab.STG(1, lab.skip([1])) + lab.STG(1, lab.skip([2]))).orthogonalize(),
            "one spatial and one temporal",
        ),
        (lambda: (lab.STG(1, TIME) + lab.Probe(SPACE)).orthogonalize(), "one spatial and one temporal"),
        (
            lambda: PAIR.orthogonalize() + lab.STG(1, lab.skip([2], part="attention", axis="spatial")),
            "one spatial and one",
        ),
        (lambda: PAIR.orthogonalize() + PAIR.orthogonalize(loses="spatial"), "differ in orthogonalization"),
        (lambda: PAIR.orthogonalize(loses="joint"), "loses='temporal' or 'spatial'.*got loses='joint'"),
        (lambda: PAIR.orthogonalize(per="batch"), "per='sample' or 'frame', got .*per='batch'"),
    ],
)
def test_what_cannot_be_orthogonal_is_refused(make, says):
    with pytest.raises(lab.GuidanceError, match=says):
        make()


# ---- in a run ----


@pytest.mark.parametrize("how", [None, {}, {"loses": "spatial"}, {"per": "frame"}], ids=str)
def test_a_run_steps_with_the_closed_form_of_its_recorded_branches(tiny, how):
    guidance = lab.CFG(4) + PAIR
    guidance = guidance if how is None else guidance.orthogonalize(**how)
    recording = tiny.sample(guidance, prompt=["a red seven moving left", "a blue two growing"]).recording
    assert recording.branches == ["cond", "uncond", *NAMES, "guided"]
    for step in range(recording.steps):
        c, u, p, q, ours = (
            branch(recording, name, step).double().numpy() for name in ("cond", "uncond", *NAMES, "guided")
        )
        for i in range(2):
            space, time = c[i] - p[i], c[i] - q[i]
            if how is not None and how.get("loses") == "spatial":
                space = across(space, time)
            elif how is not None:
                time = across(time, space, how.get("per", "sample"))
            assert np.allclose(ours[i], u[i] + 4 * (c[i] - u[i]) + 1.5 * space - 0.5 * time, atol=2e-5)


def test_the_two_axes_are_two_weak_models(tiny):
    recording = tiny.sample(PAIR).recording
    p, q = (branch(recording, name, 0) for name in NAMES)
    assert not torch.allclose(p, q, atol=1e-3)
