"""Calls that cannot work are refused with what to type instead, before any compute is spent."""

import contextlib
import copy
import warnings

import pytest
import torch
from diffusers import DDIMScheduler, FirstBlockCacheConfig, FlowMatchEulerDiscreteScheduler
from kit.watch import denoisers, left_behind
from kit.zoo import member
from PIL import Image

import stg_lab as lab
from stg_lab.digits.i2v_pipeline import ImageArchitecture, build_i2v
from stg_lab.errors import ModelNotFoundError, UnsupportedPipelineError


@contextlib.contextmanager
def no_compute(pipe):
    """Any forward pass of any model fails the test."""

    def fail(module, args):
        pytest.fail(f"{type(module).__name__} was run before the error")

    handles = [m.register_forward_pre_hook(fail) for m in (*denoisers(pipe), pipe.text_encoder)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


OK = {"guidance": lab.CFG(4)}
ERRORS = {
    "layer out of range": (
        {"guidance": lab.STG(1, lab.skip([1, 3, 7]))},
        r"layer 3, 7 is out of range.*has 3 blocks, 0 to 2.*Type for example lab.skip\(\[1\]\)",
    ),
    "layer out of range, with options": (
        {"guidance": lab.STG(1, lab.blur([9], sigma=2, axis="joint"))},
        r"layer 9 is out of range.*Type for example lab.blur\(\[1\], axis='joint', sigma=2.0\)",
    ),
    "layers to draw from out of range": (
        {"guidance": lab.STG(1, lab.drop(2, among=[1, 2, 7], seed=3))},
        r"layer 7 is out of range.*0 to 2.*Type for example lab.drop\(1, among=\[1\], seed=3\)",
    ),
    "more blocks to drop than there are": (
        {"guidance": lab.STG(1, lab.drop(3))},
        r"drop\(3\) draws more blocks than the 2 there are to draw from: 1,2 of 0 to 2. Type lab.drop\(2\) or less",
    ),
    "a layer of one step out of range": (
        {"guidance": lab.STG(1, lab.per_step((3, lab.skip([1])), lab.skip([4])))},
        r"layer 4 is out of range.*has 3 blocks, 0 to 2.*Type for example lab.skip\(\[1\]\)",
    ),
    "head out of range": (
        {"guidance": lab.STG(1, lab.skip([1], part="attention", heads=[0, 2, 5]))},
        r"head 2, 5 is out of range.*2 heads, 0 to 1.*Type for example lab.skip\(\[1\], heads=\[1\], part='attention'\)",
    ),
    "axis that the model lacks": (
        {"guidance": lab.CFG(4) + lab.STG(1, lab.skip([1], part="feedforward", axis="temporal"))},
        r"axis 'temporal' is not there for part 'feedforward' in Wan models.*joint.*"
        r"Type lab.skip\(\[1\], axis='temporal', part='attention'\)",
    ),
    "part for models with text in their attention": (
        {"guidance": lab.STG(1, lab.skip([1], part="attention_video"))},
        r"part 'attention_video' is for models that keep text.*which Wan models do not.*lab.skip\(\[1\], part='attention'\)",
    ),
    "unknown argument": ({**OK, "num_infrence_steps": 3}, "Did you mean 'num_inference_steps'.*It takes: prompt"),
    "argument of another pipeline": ({**OK, "stg_scale": 1}, "WanPipeline takes no argument 'stg_scale'"),
    "two scales": ({**OK, "guidance_scale": 5.0}, r"guidance_scale=5 and CFG\(4\) disagree; say it once"),
    "seed and generator": (
        {**OK, "seed": 1, "generator": torch.Generator()},
        "both seed= and generator= were given; choose one",
    ),
    "too few generators": ({**OK, "generator": [torch.Generator()] * 3}, "3 generators for 1 samples"),
    "no prompt": ({**OK, "prompt": None}, "no prompt was given"),
    "empty list of prompts": ({**OK, "prompt": []}, "prompt is an empty list"),
    "negative prompts do not match": (
        {**OK, "prompt": ["a red one growing"] * 3, "negative_prompt": ["", ""]},
        "2 negative prompts for 3 prompts",
    ),
    "negative list for one prompt": ({**OK, "negative_prompt": ["a", "b"]}, "2 negative prompts for 1 prompts"),
    "one negative in a list": ({**OK, "negative_prompt": ["a"]}, "is a list but prompt is a string"),
    "caption outside the grammar": (
        {**OK, "prompt": "a purple seven moving left"},
        "'purple' is not a colour.*Allowed there: red, green, blue, yellow, white",
    ),
    "one caption of several": (
        {**OK, "prompt": ["a red seven moving left", "a red seven flying"]},
        "'flying' is not a motion",
    ),
    "misspelt argument of the lab": (
        {**OK, "guidnace": lab.CFG(4)},
        r"Did you mean 'guidance'\?.*lab.sample itself takes: guidance, seed",
    ),
    "misspelt record": ({**OK, "recrod": True}, r"Did you mean 'record'\?"),
    "misspelt seed": ({**OK, "sed": 1}, r"Did you mean 'seed'\?"),
    "frames by another pipeline's name": ({**OK, "video_length": 9}, r"Did you mean 'num_frames'\?"),
    "seed as text": ({**OK, "seed": "a"}, r"seed is one whole number from 0, got 'a'. Type for example seed=0"),
    "seed as a list": ({**OK, "seed": [1, 2]}, r"seed is one whole number from 0, got \[1, 2\]"),
    "seed as a fraction": ({**OK, "seed": 1.5}, "seed is one whole number from 0, got 1.5"),
    "no steps": ({**OK, "num_inference_steps": 0}, "num_inference_steps is a whole number from 1, got 0"),
    "steps as text": ({**OK, "num_inference_steps": "24"}, "a whole number from 1, got '24'"),
    "half a step": ({**OK, "num_inference_steps": 4.5}, "a whole number from 1, got 4.5"),
    "prompt that is a number": ({**OK, "prompt": 7}, "prompt is text, or a list of texts for a batch, got 7"),
    "prompts that are numbers": ({**OK, "prompt": ["a red one growing", 7]}, "prompt is text, or a list of texts"),
    "negative prompt that is a number": ({**OK, "negative_prompt": 7}, "negative_prompt is text"),
    "negative prompt outside the grammar": (
        {**OK, "negative_prompt": "blurry, low quality"},
        "negative_prompt: caption 'blurry, low quality'.*Or leave negative_prompt out",
    ),
    "callback that is none": ({**OK, "callback_on_step_end": 5}, "callback_on_step_end is a function.*got 5"),
    "schedule of no numbers": (
        {"guidance": lab.CFG(lambda done: "x")},
        "gave 'x' at step 0 of 4.*gives a number, for example lambda done",
    ),
    "unknown dtype": (
        {**OK, "record_dtype": "int8"},
        "record_dtype 'int8' is unknown; choose one of: float32, float16",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_call_that_cannot_work_is_refused_before_any_compute(tiny, case):
    call, says = ERRORS[case]
    with no_compute(tiny.pipe), pytest.raises(lab.LabError, match=f"(?s){says}"):
        tiny.sample(**call)
    assert left_behind(tiny.pipe) == []


@pytest.mark.parametrize("case", ["layer out of range", "axis that the model lacks"])
def test_attach_refuses_the_same_weak_models_at_once(tiny, case):
    call, says = ERRORS[case]
    with pytest.raises(lab.GuidanceError, match=says), lab.attach(tiny.pipe, **call):
        pytest.fail("attach let it in")


def test_a_scheduler_of_another_kind_is_refused_before_any_compute(tiny):
    rig = tiny.copy()
    rig.pipe.scheduler = DDIMScheduler()
    with no_compute(rig.pipe), pytest.raises(lab.CallError, match=r"does not work with DDIMScheduler.*FlowMatchEuler"):
        rig.sample(lab.CFG(4))


def test_noise_that_no_seed_decides_is_told_once(tiny):
    rig = tiny.copy()
    rig.pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=True)
    with pytest.warns(UserWarning, match=r"torch's global generator.*torch.manual_seed") as told:
        rig.sample(lab.CFG(4), record=False)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny.sample(lab.CFG(4), record=False)


def test_plan_and_ablate_suggest_their_own_arguments(tiny):
    call = {"prompt": "a red seven moving left", **tiny.call}
    with no_compute(tiny.pipe):
        with pytest.raises(lab.CallError, match=r"Did you mean 'guidance'.*lab.plan itself takes"):
            lab.plan(tiny.pipe, guidnace=lab.CFG(4), **call)
        with pytest.raises(lab.CallError, match=r"Did you mean 'seed'"):
            lab.plan(tiny.pipe, sed=1, **call)
        with pytest.raises(lab.CallError, match=r"Did you mean 'layers'.*lab.ablate itself takes"):
            lab.ablate(tiny.pipe, layrs=[1], **call)


def test_a_picture_that_does_not_fit_is_refused_with_what_to_type():
    pipe = build_i2v(ImageArchitecture((32, 32), (1, 1), 16, 32, 1))
    for call, says in (
        ({}, r"starts from a picture, and no image=.*32 x 32 pixels.*world.render"),
        ({"image": [Image.new("L", (32, 32))]}, r"mode 'L'.*Type image=image.convert\('RGB'\)"),
        ({"image": Image.new("RGBA", (32, 32))}, "mode 'RGBA'"),
        ({"image": "a.png"}, r"got the text 'a.png'.*PIL.Image.open\('a.png'\)"),
        ({"image": Image.new("RGB", (32, 32)), "guidance_scale": 3}, "Did you mean 'max_guidance_scale'"),
    ):
        with pytest.raises(lab.CallError, match=f"(?s){says}"):
            lab.sample(pipe, guidance=lab.CFG(2), num_inference_steps=2, **call)


def test_latte_has_places_for_one_length(monkeypatch):
    one = member("latte")
    length = one.pipe.transformer.config.video_length
    with pytest.raises(lab.CallError, match=rf"places for videos of {length} frames.*Type video_length={length}"):
        one.sample(None, video_length=length + 1)
    with pytest.raises(lab.CallError, match=r"no argument 'num_frames'. Did you mean 'video_length'\?"):
        one.sample(None, num_frames=length)


@pytest.mark.parametrize("name", [None, 5, ["digits-joint"]])
def test_a_model_is_named_by_text(name):
    with pytest.raises(ModelNotFoundError, match=r"named by text.*Type for example lab.load\('digits-joint'\)"):
        lab.load(name)


def test_the_empty_caption_is_allowed(tiny):
    tiny.sample(lab.CFG(4), negative_prompt="", record=False, num_inference_steps=1)
    assert tiny.sample(lab.CFG(4), prompt="", record=False, num_inference_steps=1).captions == [""]


def test_a_step_cache_is_refused_for_guidance_and_allowed_for_recording(tiny):
    rig = tiny.copy()
    rig.pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.0))
    with (
        no_compute(rig.pipe),
        pytest.raises(lab.GuidanceError, match=r"a step cache is active.*pipe.transformer.disable_cache\(\)"),
    ):
        rig.sample(lab.CFG(4) + lab.STG(1, lab.skip([1])))
    stock = rig.stock(guidance_scale=4.0)
    assert torch.equal(rig.sample(lab.CFG(4)).output.frames, stock)
    rig.pipe.transformer.disable_cache()
    rig.sample(lab.CFG(4) + lab.STG(1, lab.skip([1])), record=False)


def test_a_pipeline_of_no_known_family_is_refused():
    class StrangerPipeline:
        pass

    for use in (lab.describe, lambda pipe: lab.sample(pipe, prompt="a red seven moving left"), _enter):
        with pytest.raises(UnsupportedPipelineError, match=r"StrangerPipeline is of no family.*lab.families.*lab.load"):
            use(StrangerPipeline())


def _enter(pipe):
    with lab.attach(pipe):
        pass


def test_a_subclass_of_a_known_pipeline_is_known(tiny):
    kind = type(tiny.pipe)
    child = type("MyWanPipeline", (kind,), {})
    pipe = copy.copy(tiny.pipe)
    pipe.__class__ = child
    assert lab.describe(pipe).layers == {"transformer": 3}


def test_an_unknown_model_gets_a_hint(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("STG_LAB_MODELS", str(tmp_path))
    tiny.pipe.save_pretrained(tmp_path / "digits-joint")
    with pytest.raises(ModelNotFoundError, match=r"'digits-jont' is no embedded model.*Did you mean 'digits-joint'\?"):
        lab.load("digits-jont")
    assert lab.embedded() == ["digits-joint"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"without a model_index.json"):
        lab.load(tmp_path / "empty")


@pytest.mark.parametrize("name", ["", ".", "./nowhere", "/nowhere/at/all", "a/b/c"])
def test_what_is_no_model_name_is_refused_without_asking_the_network(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError):
        lab.load(name)


def test_describe_says_what_can_be_skipped(tiny):
    description = lab.describe(tiny.pipe)
    text = str(description)
    for fact in (
        "WanPipeline",
        "3 blocks (0 to 2)",
        "attention_zero",
        "cross_attention_zero",
        "joint",
        "FlowMatchEuler",
        "max_sequence_length=8",
    ):
        assert fact in text
        assert fact in description._repr_html_()
    assert (description.parts, description.axes) == (
        ("block", "attention", "attention_zero", "cross_attention_zero", "feedforward"),
        ("joint",),
    )
