"""Weak models as values and as text."""

import numpy as np
import pytest

import stg_lab as lab
from stg_lab.weak import PARTS, parse
from stg_lab.weak.base import AXES
from stg_lab.weak.layers import format_layers, parse_layers

RNG = np.random.default_rng(0)
LAYERS = [[0], [5], [0, 1], [3, 4, 5, 8], [0, 2, 4], list(range(48))] + [
    sorted(RNG.choice(48, size=n, replace=False).tolist()) for n in (1, 3, 10, 20, 30)
]


@pytest.mark.parametrize("layers", LAYERS, ids=str)
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("axis", AXES)
def test_a_weak_model_is_read_back_from_its_text(layers, part, axis):
    weak = lab.skip(layers, part=part, axis=axis)
    assert parse(str(weak)) == weak


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_layers_are_read_back_from_their_text(layers):
    assert parse_layers(format_layers(layers)) == tuple(layers)


def test_layers_may_come_in_any_order_and_twice():
    assert lab.skip([3, 1, 3]) == lab.skip((1, 3)) == lab.skip({3, 1})
    assert lab.skip(5) == lab.skip([5])
    assert lab.skip(range(2, 4)).layers == (2, 3)


@pytest.mark.parametrize("layers", [np.int64(5), [np.int64(5)], np.array([5])], ids=repr)
def test_whole_numbers_of_numpy_are_layers_too(layers):
    assert lab.skip(layers) == lab.skip([5])
    assert str(lab.skip(layers)) == "skip:block:5"


@pytest.mark.parametrize("layers", [[-1], [1.5], [True], ["5"], "5", 5.0, None, [None]], ids=repr)
def test_what_is_no_layer_is_refused(layers):
    with pytest.raises(lab.GuidanceError, match=r"Type for example lab.skip\(\[5\]\)"):
        lab.skip(layers)


def test_no_layers_are_refused():
    with pytest.raises(lab.GuidanceError, match=r"layers is an empty list; give at least one"):
        lab.skip([])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: lab.skip([5], part="atention"), r"part 'atention' is unknown. Did you mean 'attention'\?"),
        (lambda: lab.skip([5], axis="temporl"), r"axis 'temporl' is unknown. Did you mean 'temporal'\?"),
    ],
)
def test_an_unknown_part_or_axis_is_named_with_a_hint(make, says):
    with pytest.raises(lab.GuidanceError, match=says):
        make()


@pytest.mark.parametrize(
    "text", ["", "skip", "skip:block", "skip:block:", "skip:block:5-", "skip:block:a", "skip:blok:5", "skp:block:5",
             "skip:block:5@nowhere", "skip:block:5:6", "skip:block:-5", "skip:block:7-5"]
)  # fmt: skip
def test_text_that_is_no_weak_model_is_refused(text):
    with pytest.raises(lab.GuidanceError):
        parse(text)


def test_a_misspelt_kind_gets_a_hint():
    with pytest.raises(lab.GuidanceError, match=r"Did you mean 'skip'\? Kinds: blur, .*Type for example skip:block:5"):
        parse("skp:block:5")


def test_names_of_branches_are_short_where_they_can_be():
    one, two = lab.skip([1]), lab.skip([2])
    assert list((lab.CFG(2) + lab.STG(1, one)).weak) == ["skip"]
    assert list((lab.STG(1, one) + lab.STG(1, two) + lab.STG(2, one)).weak) == ["skip:block:1", "skip:block:2"]
