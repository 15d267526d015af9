"""Another checkpoint as the weak model (Autoguidance)."""

import gc
import importlib
import shutil
from pathlib import Path

import pytest
import torch
from kit.pipelines import SMALL, Rig, randomise, tiny_wan
from kit.watch import branch, captured, denoisers, left_behind, passes

import stg_lab as lab
from stg_lab.weak import parse

checkpoint = importlib.import_module("stg_lab.weak.checkpoint")  # as a name it is the weak model itself

STEPS = 2


@pytest.fixture(scope="module")
def other():
    """The same architecture with other weights."""
    pipe = tiny_wan()
    randomise(pipe.transformer, seed=7)
    return pipe


@pytest.fixture(scope="module")
def folder(other, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "an earlier: step|10"  # a name that has to be written with care
    other.save_pretrained(path)
    return path


def recorded(rig, weak, **changes):
    with captured(rig.pipe) as calls:
        recording = rig.sample(lab.CFG(4) + lab.STG(0.5, weak), num_inference_steps=STEPS, **changes).recording
    return recording, calls.made


def predict(module, args, kwargs):
    with torch.no_grad():
        return module(*args, **kwargs)[0].float()


@pytest.mark.parametrize("given", ["pipeline", "folder", "path", "text"])
def test_the_branch_is_the_other_model_at_the_very_same_arguments(tiny, other, folder, given):
    source = {"pipeline": other, "folder": str(folder), "path": Path(folder)}
    weak = parse(str(lab.checkpoint(folder))) if given == "text" else lab.checkpoint(source[given])
    recording, calls = recorded(tiny, weak)
    for step, (_, args, kwargs) in enumerate(calls[::2]):
        assert torch.equal(branch(recording, "checkpoint", step), predict(other.transformer, args, kwargs))
        assert not torch.equal(branch(recording, "checkpoint", step), branch(recording, "cond", step))
    assert left_behind(tiny.pipe) == left_behind(other) == []


def test_it_is_guided_away_from_the_other_model(tiny, other):
    recording, _ = recorded(tiny, lab.checkpoint(other))
    c, u, weak, guided = (branch(recording, name, 0) for name in ("cond", "uncond", "checkpoint", "guided"))
    assert torch.allclose(guided, u + 4 * (c - u) + 0.5 * (c - weak), atol=1e-5)


@pytest.mark.parametrize("prompt", ["negative", "none"])
def test_the_other_model_can_carry_another_caption(tiny, other, prompt):
    with captured(tiny.pipe) as empty:
        tiny.stock(prompt="", num_inference_steps=1, guidance_scale=1.0)
    recording, calls = recorded(tiny, lab.checkpoint(other, prompt=prompt), negative_prompt="a blue two growing")
    for step in range(STEPS):
        _, args, kwargs = calls[2 * step + (prompt == "negative")]
        if prompt == "none":
            kwargs = {**kwargs, "encoder_hidden_states": empty.made[0][2]["encoder_hidden_states"]}
        assert torch.equal(branch(recording, "checkpoint", step), predict(other.transformer, args, kwargs))


def test_a_saved_model_is_loaded_in_the_main_models_dtype_with_what_its_class_keeps_in_float32(tiny, folder, tmp_path):
    """As `from_pretrained` does it; the first parameter of a Wan transformer is float32 there."""
    tiny.pipe.save_pretrained(tmp_path / "main")
    main = Rig(lab.load(tmp_path / "main", dtype=torch.bfloat16), SMALL)
    main.pipe.set_progress_bar_config(disable=True)
    dtypes = {p.dtype for p in main.pipe.transformer.parameters()}
    assert dtypes == {torch.bfloat16, torch.float32}
    oracle = lab.load(folder, dtype=torch.bfloat16).transformer
    recording, calls = recorded(main, lab.checkpoint(folder))
    for step, (_, args, kwargs) in enumerate(calls[::2]):
        assert torch.equal(branch(recording, "checkpoint", step), predict(oracle, args, kwargs))


@pytest.fixture
def loads(monkeypatch):
    """What checkpoints have loaded, in order."""
    made = []

    def load(source, **kwargs):
        made.append(source)
        return lab.load(source, **kwargs)

    monkeypatch.setattr(checkpoint, "load", load)
    return made


def test_a_folder_that_was_trained_on_is_loaded_anew_and_one_that_was_not_is_not(tiny, loads, tmp_path):
    place = tmp_path / "early"
    model = tiny_wan()
    weak = lab.checkpoint(place)
    for seed in (11, 12):
        randomise(model.transformer, seed=seed)
        model.save_pretrained(place)
        for _ in range(2):
            recording, calls = recorded(tiny, weak)
            _, args, kwargs = calls[0]
            assert torch.equal(branch(recording, "checkpoint", 0), predict(model.transformer, args, kwargs))
    assert loads == [str(place)] * 2


def test_a_run_keeps_the_weights_that_it_began_with(tiny, tmp_path):
    place = tmp_path / "early"
    model = tiny_wan()
    randomise(model.transformer, seed=11)
    model.save_pretrained(place)
    expected, _ = recorded(tiny, lab.checkpoint(place))

    def save_another(seen):
        if not seen.step:
            randomise(model.transformer, seed=12)
            model.save_pretrained(place)

    recording, _ = recorded(tiny, lab.checkpoint(place), on_step=save_another)
    for step in range(STEPS):
        assert torch.equal(branch(recording, "checkpoint", step), branch(expected, "checkpoint", step))
    assert not torch.equal(
        branch(recorded(tiny, lab.checkpoint(place))[0], "checkpoint", 0), branch(expected, "checkpoint", 0)
    )


def test_few_denoisers_stay_loaded(tiny, loads, folder, tmp_path):
    places = [shutil.copytree(folder, tmp_path / str(n)) for n in range(checkpoint.KEPT + 1)]
    for place in (*places, places[0], places[0], places[-1]):
        tiny.sample(lab.Probe(lab.checkpoint(place)), num_inference_steps=1)
    assert loads == [str(place) for place in (*places, places[0])]


def test_both_transformers_of_wan_2_2_have_their_own_weak_model(wan22, tmp_path):
    early = wan22.copy().pipe
    for seed, module in enumerate(denoisers(early)):
        randomise(module, seed=10 + seed)
    early.save_pretrained(tmp_path / "early")
    for source in (early, tmp_path / "early"):
        recording, calls = recorded(wan22, lab.checkpoint(source))
        used = [next(n for n in ("transformer", "transformer_2") if getattr(wan22.pipe, n) is m) for m, *_ in calls]
        assert set(used) == {"transformer", "transformer_2"}
        for step in range(STEPS):
            _, args, kwargs = calls[2 * step]
            expected = predict(getattr(early, used[2 * step]), args, kwargs)
            assert torch.equal(branch(recording, "checkpoint", step), expected)


def test_two_pipelines_in_memory_are_two_weak_models(tiny, other):
    third = tiny_wan()
    randomise(third.transformer, seed=8)
    a, b = lab.checkpoint(other), lab.checkpoint(third)
    assert a == lab.checkpoint(other)
    assert a != b
    recording = tiny.sample(lab.Probe(a) + lab.Probe(b), num_inference_steps=1).recording
    names = list((lab.Probe(a) + lab.Probe(b)).weak)
    assert not torch.equal(*(branch(recording, name, 0) for name in names))


def test_pipelines_in_memory_are_not_kept_alive_and_their_names_not_used_again():
    class Stranger:
        components, config = (), {}

    first, second = Stranger(), Stranger()
    names = [str(lab.checkpoint(pipe)) for pipe in (first, second)]
    del first
    gc.collect()
    third = Stranger()
    assert str(lab.checkpoint(third)) not in names
    assert str(lab.checkpoint(second)) == names[1]


@pytest.fixture(scope="module")
def changed(folder):
    """Two pipelines of one folder; the second was changed after it was loaded."""
    as_saved, other = lab.load(folder), lab.load(folder)
    randomise(other.transformer, seed=9)
    return as_saved, other


def test_two_pipelines_of_one_folder_are_two_weak_models_since_one_may_have_been_changed(tiny, changed):
    a, b = (lab.checkpoint(pipe) for pipe in changed)
    assert a != b
    assert a == lab.checkpoint(changed[0])
    assert hash(a) == hash(lab.checkpoint(changed[0]))
    guidance = lab.STG(0.5, a) + lab.STG(0.25, b) + lab.STG(0.25, lab.checkpoint(changed[0]))
    assert list(guidance.weak) == [str(a), str(b)]
    with captured(tiny.pipe) as calls:
        recording = tiny.sample(lab.CFG(4) + guidance, num_inference_steps=1).recording
    _, args, kwargs = calls.made[0]
    for weak, pipe in zip((a, b), changed, strict=True):
        assert torch.equal(branch(recording, str(weak), 0), predict(pipe.transformer, args, kwargs))
    c, u, p, q, guided = (branch(recording, name, 0) for name in ("cond", "uncond", str(a), str(b), "guided"))
    assert torch.allclose(guided, u + 4 * (c - u) + 0.75 * (c - p) + 0.25 * (c - q), atol=1e-5)


def test_a_recording_of_a_pipeline_in_memory_says_where_it_came_from_and_is_not_made_again_from_there(
    tiny, changed, folder
):
    weak = lab.checkpoint(changed[1])
    recording, _ = recorded(tiny, weak)
    assert recording.weak == {"checkpoint": str(weak)}
    assert parse(str(weak)) == weak
    assert weak.loaded_from == str(folder)
    assert str(folder) in weak.words
    same = recording.reweight(lab.CFG(4) + lab.STG(0.5, lab.checkpoint(changed[1])))
    assert abs(same - recording.prediction("guided")).max() < 1e-5
    with pytest.raises(lab.GuidanceError, match="was not recorded in this run"):
        recording.reweight(lab.STG(0.5, lab.checkpoint(folder)))
    with passes(tiny.pipe) as count, pytest.raises(lab.GuidanceError) as caught:
        lab.rerun(recording, tiny.pipe)
    assert len(count) == 0
    assert "no file can bring back" in str(caught.value)
    assert f"If it was as loaded from {folder}: lab.checkpoint({str(folder)!r})" in str(caught.value)
    again = lab.rerun(recording, tiny.pipe, guidance=lab.CFG(4) + lab.STG(0.5, weak))
    assert torch.equal(branch(again.recording, "checkpoint", 1), branch(recording, "checkpoint", 1))


REFUSED = {
    "the main model itself": (lambda tiny, other: tiny.pipe, "is the main model itself.*Give another pipeline"),
    "a model of another kind": (
        lambda tiny, other: _with(other, torch.nn.Linear(1, 1)),
        "has a Linear there, but the main model's transformer is a WanTransformer3DModel.*two models of one kind",
    ),
    "no such component": (lambda tiny, other: _with(other, None), "has no transformer, but the main model's"),
    "other latents": (
        lambda tiny, other: _changed(other, in_channels=16),
        "has in_channels=16 and the main model 24: it cannot take the same arguments",
    ),
    "other text embeddings": (
        lambda tiny, other: _changed(other, text_dim=32),
        "has text_dim=32 and the main model 16",
    ),
    "a pipeline that is gone": (
        lambda tiny, other: str(lab.checkpoint(other).source),
        r"checkpoint:memory-\d+ was a pipeline in memory, which no file can bring back.*lab.checkpoint\(pipe\)",
    ),
    "no such folder": (lambda tiny, other: "/nowhere/at/all", "'/nowhere/at/all' is no embedded model, no folder"),
}


class Fake:
    components, config = (), {}

    def __init__(self, transformer):
        self.transformer = transformer


def _with(other, transformer):
    return Fake(transformer)


def _changed(other, **settings):
    return Fake(type(other.transformer).from_config({**other.transformer.config, **settings}))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_weak_model_of_this_one_is_refused_before_any_compute(tiny, other, case):
    make, says = REFUSED[case]
    with passes(tiny.pipe) as count, pytest.raises(lab.LabError, match=f"(?s){says}"):
        tiny.sample(lab.STG(1, lab.checkpoint(make(tiny, other))), num_inference_steps=1)
    assert len(count) == 0
    assert left_behind(tiny.pipe) == []


@pytest.mark.parametrize("source", [5, None, [], "", b"bytes"], ids=repr)
def test_what_is_no_source_is_refused(source):
    with pytest.raises(
        lab.GuidanceError, match=r"checkpoint needs a name, a folder or a pipeline.*Type lab.checkpoint"
    ):
        lab.checkpoint(source)


def test_a_copy_with_the_same_weights_changes_nothing_and_says_so(tiny):
    with pytest.raises(lab.GuidanceError, match=r"weak model checkpoint:memory-.* changed nothing"):
        tiny.sample(lab.STG(1, lab.checkpoint(tiny.copy().pipe)), num_inference_steps=1)


def test_a_recording_names_the_saved_model_and_can_be_weighed_anew(tiny, folder):
    weak = lab.checkpoint(folder)
    recording, _ = recorded(tiny, weak)
    assert recording.weak == {"checkpoint": str(weak)}
    guided = recording.reweight(lab.CFG(4) + lab.STG(2.0, parse(str(weak))))
    c, u, p = (recording.prediction(name) for name in ("cond", "uncond", "checkpoint"))
    assert abs(guided - (u + 4 * (c - u) + 2 * (c - p))).max() < 1e-4
