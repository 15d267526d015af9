"""Weak models as values and as text."""

import contextlib
import dataclasses
import math
import pickle
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.watch import branch, captured

import stg_lab as lab
from stg_lab.guidance import Guidance
from stg_lab.weak import KINDS, PARTS, PROMPTS, parse
from stg_lab.weak.base import AXES, Layered, replaced_forward
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


BAD = {
    "": "names no weak model.*Kinds: blur, checkpoint, drop.*skip:block:5",
    "skip": "the part and layers must be there.*skip:block:5",
    "skip:block": "the part and layers must be there.*skip:block:5",
    "skip:block:": "nothing may be empty.*skip:block:5",
    "skip:block:5:": "nothing may be empty.*skip:block:5",
    "skip:block:5-": "'5-' is not a list of layers.*skip:block:5",
    "skip:block:a": "'a' is not a list of layers.*skip:block:5",
    "skip:block:-5": "'-5' is not a list of layers.*skip:block:5",
    "skip:block:7-5": "'7-5' is not a list of layers.*skip:block:5",
    "skip:block:@temporal": "'' is not a list of layers.*skip:block:5",
    "skip:blok:5": r"part 'blok' is unknown. Did you mean 'block'\?.*skip:block:5",
    "skp:block:5": r"names no weak model. Did you mean 'skip'\?.*skip:block:5",
    "skip:block:5@nowhere": "axis 'nowhere' is unknown. Known: joint, spatial, temporal.*skip:block:5",
    "skip:block:5:6": "'6' is no option. Options: axis, prompt, heads, strength.*skip:block:5",
    "skip:block:5:strenth=0.5": r"'strenth=0.5' is no option. Did you mean 'strength'\?.*skip:block:5",
    "skip:block:5:layers=3": "'layers=3' is said twice.*skip:block:5",
    "skip:attention:5@temporal:axis=spatial": "'axis=spatial' is said twice.*skip:block:5",
    "skip:attention:5:prompt=none:prompt=caption": "'prompt=caption' is said twice.*skip:block:5",
    "skip:block:5:strength=much": "strength=much cannot be read as float.*skip:block:5",
    "skip:block:5:strength=2": "strength must lie above 0 and at most at 1.*skip:block:5",
    "skip:block:5:heads=1": "heads are for the attention parts.*skip:block:5",
    "skip:attention:5:heads=x": "'x' is not a list of layers.*skip:block:5",
    "skip:block:5:prompt=nobody": "prompt 'nobody' is unknown. Known: caption, negative, none.*skip:block:5",
    "blur": "the layers must be there.*blur:5",
    "blur:5:sigma=nan": "sigma must lie above 0.*blur:5",
    "blur:5:frames=1": "'frames=1' is no option.*blur:5",
    "window:5@depth": "axis 'depth' is unknown. Known: joint, spatial, temporal.*window:5",
    "window:5:frames=-1": "frames is a whole number from 0.*window:5",
    "window:5:frames=1.5": "frames=1.5 cannot be read as int.*window:5",
    "shuffle:5:restore=maybe": "restore=maybe cannot be read as bool.*shuffle:5",
    "shuffle:5:seed=-1": "seed is a whole number from 0.*shuffle:5",
    "drop": "the count must be there.*drop:1",
    "drop:0": "count is a whole number from 1.*drop:1",
    "drop:two": "count=two cannot be read as int.*drop:1",
    "drop:1@temporal": "count=1@temporal cannot be read as int.*drop:1",
    "drop:1:among=": "is not a list of layers.*drop:1",
    "checkpoint": "the source must be there.*checkpoint:path/to/earlier",
    "checkpoint:a:pipe=b": "'pipe=b' is no option. Options: prompt.*checkpoint:path/to/earlier",
    "per_step": "is no number of steps and a weak model.*per_step:12",
    "per_step:skip:block:5": "is no number of steps and a weak model.*per_step:12",
    "per_step:x*skip:block:5": "is no number of steps and a weak model.*per_step:12",
    "per_step:0*skip:block:5": "the number of steps is a whole number from 1.*per_step:12",
    "per_step:2*-": "per_step needs weak models.*per_step:12",
    "per_step:2*skp:block:5": "'skp:block:5' names no weak model.*per_step:12",
    "per_step:2*per_step:1*skip:block:5": "not another per_step.*per_step:12",
}


@pytest.mark.parametrize("text", BAD)
def test_text_that_is_no_weak_model_is_refused_with_what_to_type(text):
    with pytest.raises(lab.GuidanceError, match=f"(?s){BAD[text]}") as caught:
        parse(text)
    assert repr(text) in str(caught.value)


def test_a_misspelt_kind_gets_a_hint():
    with pytest.raises(lab.GuidanceError, match=r"Did you mean 'skip'\? Kinds: blur, .*Type for example skip:block:5"):
        parse("skp:block:5")


def test_names_of_branches_are_short_where_they_can_be():
    one, two = lab.skip([1]), lab.skip([2])
    assert list((lab.CFG(2) + lab.STG(1, one)).weak) == ["skip"]
    assert list((lab.STG(1, one) + lab.STG(1, two) + lab.STG(2, one)).weak) == ["skip:block:1", "skip:block:2"]


# ---- every kind with every option ----

layers = st.lists(st.integers(0, 60), min_size=1, max_size=12)
heads = st.none() | st.lists(st.integers(0, 31), min_size=1, max_size=5)
strength = st.floats(0, 1, exclude_min=True)
seed = st.integers(0, 2**40)
prompt = st.sampled_from(sorted(PROMPTS))
axis = st.sampled_from(AXES)
edit = {"heads": heads, "strength": strength, "prompt": prompt}

SIMPLE = {
    "skip": st.one_of(
        st.builds(lab.skip, layers, part=st.sampled_from(PARTS), axis=axis, strength=strength, prompt=prompt),
        st.builds(lab.skip, layers, part=st.sampled_from(PARTS[1:4]), axis=axis, **edit),
    ),
    "blur": st.builds(lab.blur, layers, sigma=st.floats(0, exclude_min=True), axis=axis, **edit),
    "window": st.builds(lab.window, layers, frames=st.integers(0, 99), reach=st.integers(0, 99), axis=axis, **edit),
    "shuffle": st.builds(lab.shuffle, layers, axis=axis, seed=seed, restore=st.booleans(), prompt=prompt),
    "drop": st.builds(lab.drop, st.integers(1, 20), among=st.none() | layers, seed=seed, prompt=prompt),
    "early_exit": st.builds(lab.early_exit, st.integers(0, 60), prompt=prompt),
    "ema": st.builds(
        lab.ema, layers, decay=st.floats(0.01, 0.99), of=st.sampled_from(["output", "map"]), axis=axis, **edit
    ),
    "swap": st.builds(lab.swap, layers, share=st.floats(0.01, 0.5), prompt=prompt),
    "temper": st.builds(lab.temper, layers, temperature=st.floats(0.1, 9), axis=axis, **edit),
    "checkpoint": st.builds(lab.checkpoint, st.text(min_size=1) | st.just("a/b@c:d|e*f=g h "), prompt=prompt),
}


@st.composite
def schedules(draw):
    same = {"prompt": draw(prompt)}
    models = st.one_of(*SIMPLE.values()).map(lambda weak: dataclasses.replace(weak, **same))
    runs = draw(st.lists(st.tuples(st.integers(1, 30), st.none() | models), max_size=5))
    return lab.per_step(*runs, draw(models))


some = st.none() | layers
OTHERS = {
    "nag": st.builds(
        lab.nag, st.floats(1, 20), alpha=st.floats(0.01, 1), tau=st.floats(1, 9), negative=st.text(), layers=some
    ),
    "enhance": st.builds(lab.enhance, st.floats(0.1, 9), layers=some),
    "pladis": st.builds(lab.pladis, st.floats(0.1, 9), sparse=st.sampled_from(["entmax", "sparsemax"]), layers=some),
    "picture": st.builds(lab.picture, st.integers(1, 4), prompt=st.sampled_from(["caption", "negative"])),
    "plain": st.just(lab.plain()),
    "empty": st.just(lab.empty()),  # its prompt is what it is
    "history": st.builds(lab.history, st.floats(0.01, 1), keep=st.integers(0, 4)),
    "predictor": st.builds(lab.predictor, st.floats(0.01, 1), prompt=st.sampled_from(["caption", "negative", "none"])),
}
EVERY = {**SIMPLE, **OTHERS, "per_step": schedules()}


def test_every_kind_is_among_these():
    assert set(EVERY) | {"look"} == set(KINDS)  # lab.Watch makes the last, tests/analysis/test_watch.py


@pytest.mark.parametrize("kind", EVERY)
def test_any_weak_model_is_read_back_from_its_text_and_from_what_one_types(kind):
    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    @given(EVERY[kind])
    def check(weak):
        text = str(weak)
        assert parse(text) == weak
        assert str(parse(text)) == text
        assert eval(repr(weak), {"lab": lab}) == weak
        assert "\n" not in text
        assert hash(parse(text)) == hash(weak)
        assert pickle.loads(pickle.dumps(weak)) == weak

    check()


@pytest.mark.parametrize("kind", EVERY)
def test_any_weak_model_comes_back_with_a_guidance_from_a_file(kind):
    @settings(max_examples=30, deadline=None, database=None, derandomize=True)
    @given(EVERY[kind])
    def check(weak):
        guidance = lab.CFG(4) + lab.STG(0.7, weak)
        assert Guidance.from_dict(guidance.to_dict(), parse) == guidance

    check()


WRITTEN = {
    "skip:block:5": lab.skip([5]),
    "skip:attention:3-5@temporal": lab.skip([3, 4, 5], part="attention", axis="temporal"),
    "skip:attention:3:heads=0,2:strength=0.3": lab.skip(3, part="attention", heads=[2, 0], strength=0.3),
    "skip:block:1:prompt=negative": lab.skip([1], prompt="negative"),
    "blur:5": lab.blur([5]),
    "blur:5@joint:sigma=2": lab.blur([5], sigma=2, axis="joint"),
    "window:5:frames=2": lab.window([5], frames=2),
    "shuffle:5@spatial:seed=3:restore=False": lab.shuffle([5], axis="spatial", seed=3, restore=False),
    "drop:2:among=3-6": lab.drop(2, among=range(3, 7)),
    "checkpoint:path/to/earlier": lab.checkpoint("path/to/earlier"),
    "checkpoint:my%20models/a%3Ab": lab.checkpoint(Path("my models/a:b")),
    "per_step:3*skip:block:2|9*blur:5:sigma=2|1*-": lab.per_step((3, lab.skip([2])), (9, lab.blur([5], sigma=2)), None),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_texts_are_short_and_read_well(text):
    """Recordings keep these texts, so they must stay readable for ever."""
    assert str(WRITTEN[text]) == text
    assert parse(text) == WRITTEN[text]


def test_what_is_shown_can_be_typed():
    assert repr(lab.skip([5])) == "lab.skip([5])"
    assert repr(lab.blur([1], axis="joint", sigma=2)) == "lab.blur([1], axis='joint', sigma=2.0)"
    assert repr(lab.drop(2, among=[1, 3])) == "lab.drop(2, among=[1, 3])"
    assert (
        repr(lab.per_step((3, lab.skip([2])), None, lab.skip([2])))
        == "lab.per_step((3, lab.skip([2])), None, lab.skip([2]))"
    )


def test_numbers_of_numpy_are_as_good_as_pythons():
    weak = [
        (lab.blur([5], sigma=np.float32(2), strength=np.float64(0.5)), lab.blur([5], sigma=2.0, strength=0.5)),
        (lab.window(np.arange(2), frames=np.int64(2), heads=np.int64(1)), lab.window([0, 1], frames=2, heads=[1])),
        (lab.drop(np.int64(2), seed=np.int64(3), among=np.arange(4)), lab.drop(2, seed=3, among=[0, 1, 2, 3])),
        (lab.shuffle([1], seed=np.int64(3), restore=np.False_), lab.shuffle([1], seed=3, restore=False)),
        (lab.per_step((np.int64(2), lab.skip([1]))), lab.per_step(lab.skip([1]), lab.skip([1]))),
    ]
    for given_, meant in weak:
        assert given_ == meant
        assert (str(given_), repr(given_)) == (str(meant), repr(meant))


REFUSED = {
    "part of a block": lambda: lab.window([5], frames=0.5),
    "true is no number": lambda: lab.window([5], frames=True),
    "no reach at all": lambda: lab.window([5], frames=None),
    "half a block": lambda: lab.drop(1.5),
    "no block": lambda: lab.drop(0),
    "true block": lambda: lab.drop(True),
    "a word": lambda: lab.drop("one"),
    "nothing to draw from": lambda: lab.drop(1, among=[]),
    "a seed in between": lambda: lab.drop(1, seed=0.5),
    "a negative seed": lambda: lab.shuffle([1], seed=-1),
    "no strength": lambda: lab.blur([1], strength=0),
    "too strong": lambda: lab.blur([1], strength=1.1),
    "strength in words": lambda: lab.blur([1], strength="half"),
    "not a number": lambda: lab.skip([1], strength=math.nan),
    "no heads": lambda: lab.blur([1], heads=[]),
    "negative heads": lambda: lab.blur([1], heads=[-1]),
    "heads of a block": lambda: lab.skip([1], heads=[0]),
    "restored in part": lambda: lab.shuffle([1], restore="yes"),
    "an axis a window has not": lambda: lab.window([1], axis="depth"),
    "an unknown prompt": lambda: lab.drop(1, prompt="empty"),
    "no steps": lambda: lab.per_step(),
    "no model": lambda: lab.per_step(None, None),
    "not a model": lambda: lab.per_step("skip:block:5"),
    "a list": lambda: lab.per_step([lab.skip([1]), lab.skip([2])]),
    "no steps of it": lambda: lab.per_step((0, lab.skip([1]))),
    "half a step": lambda: lab.per_step((0.5, lab.skip([1]))),
    "a triple": lambda: lab.per_step((1, lab.skip([1]), lab.skip([2]))),
    "a schedule in a schedule": lambda: lab.per_step(lab.per_step(lab.skip([1]))),
    "prompts that differ": lambda: lab.per_step(lab.skip([1]), lab.skip([2], prompt="negative")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_options_that_make_no_sense_are_refused_with_what_is_allowed(case):
    says = r"Type |Known: |at most at|for the attention parts|Put them into two terms"
    with pytest.raises(lab.GuidanceError, match=says):
        REFUSED[case]()


def test_a_schedule_has_the_name_and_axis_of_its_models_where_they_agree():
    space, time = (lab.skip([1], part="attention", axis=axis) for axis in ("spatial", "temporal"))
    assert (lab.per_step(space, space).name, lab.per_step(space, None).axis) == ("skip", "spatial")
    assert lab.per_step(space, time).axis == "joint"
    assert lab.per_step(space, lab.blur([1])).name == "per_step"
    assert lab.per_step(space, lab.blur([1])).axis == "spatial"


# ---- one file, one weak model ----


@pytest.fixture
def weak_of_my_own():
    """A weak model defined as a user would, in a cell or a file of their own."""

    @dataclasses.dataclass(frozen=True, repr=False)
    class Louder(Layered):
        """Blocks whose output is multiplied."""

        kind: ClassVar[str] = "test_only"
        example: ClassVar[str] = "lab.test_only([5])"

        factor: float = dataclasses.field(default=2.0, kw_only=True)

        @contextlib.contextmanager
        def perturb(self, at):
            hits = {}
            with contextlib.ExitStack() as stack:
                for layer, _, block in self.blocks(at.family, at.denoiser):
                    stack.enter_context(replaced_forward(block, self.louder, hits, f"block {layer}"))
                yield hits

        def louder(self, forward):
            return lambda *args, **kwargs: self.factor * forward(*args, **kwargs)

    yield Louder
    KINDS.pop("test_only", None)
    vars(lab).pop("test_only", None)


def test_a_new_weak_model_is_one_class(tiny, weak_of_my_own):
    weak = lab.test_only([1], factor=1.5)
    assert type(weak) is weak_of_my_own
    assert weak == parse("test_only:1:factor=1.5") == parse(str(weak)) == eval(repr(weak), {"lab": lab})
    assert "test_only" in dir(lab)
    assert lab.weak.test_only is weak_of_my_own
    with captured(tiny.pipe) as calls:
        recording = tiny.sample(lab.CFG(4) + lab.STG(0.5, weak), num_inference_steps=2).recording
    assert recording.weak == {"test_only": "test_only:1:factor=1.5"}
    module, args, kwargs = calls.made[0]
    handle = module.blocks[1].register_forward_hook(lambda block, given, output: 1.5 * output)
    with torch.no_grad():
        oracle = module(*args, **kwargs)[0]
    handle.remove()
    assert torch.equal(branch(recording, "test_only", 0), oracle)
    with pytest.raises(lab.GuidanceError, match=r"layer 7 is out of range.*Type for example lab.test_only\(\[1\]\)"):
        tiny.sample(lab.STG(1, lab.test_only([7])))
    with pytest.raises(lab.GuidanceError, match=r"changed nothing"):
        tiny.sample(lab.STG(1, lab.test_only([1], factor=1.0)))
    with pytest.raises(lab.GuidanceError, match=r"'factr=2' is no option. Did you mean 'factor'\?.*test_only:5"):
        parse("test_only:1:factr=2")


def test_what_was_not_defined_is_not_there():
    assert "test_only" not in KINDS
    for place in (lab, lab.weak):
        with pytest.raises(AttributeError, match="test_only"):
            _ = place.test_only
