"""Pipelines of no known family: every tiny pipeline, with the families forgotten, against what its family says."""

import warnings

import pytest
import torch
from kit.trust import BATCH, attached, tensor
from kit.watch import branch, left_behind
from kit.zoo import STEPS, ZOO, member

import stg_lab as lab
from stg_lab import families
from stg_lab.errors import UnsupportedPipelineError
from stg_lab.families import family_of
from stg_lab.families.generic import Generic, passed_on, trunk

#: Where CFG is not u + scale (c - u): a scale for every frame.
RECORDED_ONLY = ("svd",)
#: Where it is, but the pipeline does not say with which scale (a guider does), or comes to it by way of x0.
MEASURED = ("ltx2", "hunyuan15")
#: Where x0 does not follow from the scheduler alone.
UNSEEN = ("cosmos",)
#: Where attention is not torch's kernel, so that its map is out of reach.
LINEAR = ("sana", "sana-learned")
#: Where predictions do not have the shape of what is stepped: the picture's frame is dropped in between.
REFUSED = ("ltx-image",)
#: Where all that matters here is as in another of the list.
ALIKE = ("cogvideox-dpm", "wan-5b", "kandinsky-picture")
GUIDED = sorted(set(ZOO) - {*RECORDED_ONLY, *MEASURED, *REFUSED, *UNSEEN, *ALIKE})


@pytest.fixture
def strangers(monkeypatch):
    """The lab without its families."""
    monkeypatch.setattr(families, "FAMILIES", ())


def forgotten(monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", ())


def unknown(name, one=None):
    one = one or member(name)
    with pytest.warns(UserWarning, match=r"is of no family that the lab knows\..*docs/adding_a_family.md"):
        assert isinstance(family_of(one.pipe), Generic)
    return one


@pytest.mark.parametrize("name", GUIDED)
def test_what_is_found_out_is_what_the_family_says(name, monkeypatch):
    guidance = lab.STG(1.0, lab.skip([1])) + lab.Probe(
        lab.skip([0], part="attention_zero" if name in LINEAR else "attention")
    )
    one = member(name)
    if name.startswith("cogvideox"):
        one.call["num_frames"] = 5  # else it has as many words as video tokens: see the next test
    stock = tensor(one.stock())
    own = family_of(one.pipe)
    guided, trace = attached(one, guidance, passes=BATCH)
    forgotten(monkeypatch)
    unknown(name, one)
    recorded, plain = attached(one)
    assert torch.equal(recorded, stock)
    assert plain.rebuilt
    found, other = attached(one, guidance, passes=BATCH)
    assert left_behind(one.pipe) == []
    assert list(other.recording.branches) == list(trace.recording.branches)
    if own.axes == ("joint",):  # else one layer is two blocks
        assert torch.equal(found, guided)
        a, b = (t.recording.ds.prediction.values.ravel() for t in (trace, other))
        if name != "wan-5b-image":  # whose family leaves the picture's frame out
            assert sorted(a) == sorted(b)  # in whatever layout


def test_streams_that_look_alike_are_not_told_apart(strangers):
    one = unknown("cogvideox")
    _, trace = attached(one)
    assert trace.rebuilt
    with pytest.raises(
        lab.GuidanceError, match=r"given \(1, 6, 16\), \(1, 6, 16\).*cannot tell what leaving it out is"
    ):
        attached(one, lab.STG(1.0, lab.skip([1])))
    attached(one, lab.STG(1.0, lab.skip([1], part="attention")))
    assert left_behind(one.pipe) == []


@pytest.mark.parametrize("name", RECORDED_ONLY)
def test_another_form_of_cfg_is_recorded_only(name, strangers):
    one = unknown(name)
    stock = tensor(one.stock())
    with pytest.warns(UserWarning, match="recording only"):
        recorded, trace = attached(one)
    assert torch.equal(recorded, stock)
    assert trace.rebuilt is False
    assert trace.recording.steps == STEPS
    assert trace.recording.settings["cfg_rebuilt_exactly"] is False
    with pytest.raises(lab.GuidanceError, match=r"no other guidance can be put in its place. Record only"):
        attached(one, lab.STG(1.0, lab.skip([0])))


@pytest.mark.parametrize("name", MEASURED)
def test_a_scale_that_is_not_said_is_measured(name, monkeypatch):
    one, weak = member(name), lab.STG(1.0, lab.skip([1]))
    stock = tensor(one.stock())
    guided, _ = attached(one, weak, passes=BATCH)
    _, said = attached(one)
    forgotten(monkeypatch)
    unknown(name, one)
    recorded, trace = attached(one)
    assert torch.equal(recorded, stock)
    scales = [t.recording.ds.guidance_scale.values for t in (said, trace)]
    assert abs(scales[0] - scales[1]).max() < 1e-3
    found, _ = attached(one, weak, passes=BATCH)
    assert torch.allclose(found, guided, atol=1e-3)
    assert not torch.allclose(found, stock, atol=1e-2)


@pytest.mark.parametrize("name", UNSEEN)
def test_a_pipeline_with_a_scheduler_of_its_own_is_of_no_family(name, strangers):
    with pytest.raises(UnsupportedPipelineError, match=r"is of no family that the lab knows.*docs/adding_a_family.md"):
        attached(member(name))


@pytest.mark.parametrize("name", LINEAR)
def test_attention_that_is_not_reached_is_told(name, strangers):
    one = unknown(name)
    with pytest.raises(lab.GuidanceError, match="attention 0 was never reached"):
        attached(one, lab.STG(1.0, lab.skip([0], part="attention")))
    assert left_behind(one.pipe) == []


@pytest.mark.parametrize("name", REFUSED)
def test_predictions_of_another_shape_than_the_latents_are_refused(name, strangers):
    with pytest.raises(UnsupportedPipelineError, match=r"predicts \(.*for latents \(.*docs/adding_a_family.md"):
        attached(unknown(name))


@pytest.mark.parametrize("name", ["mochi", "wan", "sd3"])
def test_predictions_are_taken_in_the_precision_that_the_pipeline_combines_them_in(name, strangers):
    one = unknown(name)
    one.pipe.to(torch.bfloat16)
    one.call = {
        k: v.to(torch.bfloat16) if torch.is_tensor(v) and v.is_floating_point() else v for k, v in one.call.items()
    }
    stock = tensor(one.stock())
    recorded, trace = attached(one)
    assert trace.rebuilt
    assert torch.equal(recorded, stock)


@pytest.mark.parametrize("part", ["attention_zero", "cross_attention_zero", "feedforward"])
def test_parts_are_found_by_their_names(part, monkeypatch):
    one = member("wan")
    _, trace = attached(one, lab.Probe(lab.skip([1], part=part)))
    forgotten(monkeypatch)
    _, other = attached(unknown("wan", one), lab.Probe(lab.skip([1], part=part)))
    for step in range(STEPS):
        assert torch.equal(branch(other.recording, "skip", step), branch(trace.recording, "skip", step))


def test_sampling_takes_the_calls_own_names(strangers):
    one = unknown("flux")
    call = {**one.call, "num_inference_steps": 2, "output_type": "np"}
    del call["true_cfg_scale"]
    run = lab.sample(one.pipe, guidance=lab.CFG(2.5) + lab.STG(1.0, lab.skip([1])), **call)
    assert run.call["true_cfg_scale"] == 2.5
    assert run.video.shape == (1, 1, 16, 24, 3)  # by the pipeline itself
    assert run.recording.settings["family"] == "Generic"


def test_a_distilled_scale_is_no_cfg(strangers):
    """Flux without a negative prompt: its scale is above 1 and nothing unconditional is computed."""
    one = unknown("flux")
    for name in [name for name in one.call if name.startswith("negative")]:
        del one.call[name]
    _, trace = attached(one, lab.STG(1.0, lab.skip([1])))
    assert list(trace.recording.branches) == ["cond", "skip", "guided"]
    assert trace.recording.settings["guidance_scale"] == 1


def test_edits_by_place_and_decoding_are_refused(strangers):
    one = unknown("wan")
    with pytest.raises(
        lab.GuidanceError, match=r"does not know how the video tokens.*Identity attention needs no place"
    ):
        attached(one, lab.STG(1.0, lab.skip([1], part="attention", axis="temporal")))
    with pytest.raises(lab.GuidanceError, match="nothing can be done by place"):
        attached(one, lab.STG(1.0, lab.shuffle([1])))
    with pytest.raises(lab.GuidanceError, match=r"attention_video.*not there in Generic models"):
        attached(one, lab.STG(1.0, lab.skip([1], part="attention_video")))
    with pytest.raises(UnsupportedPipelineError, match=r"does not know how Generic pipelines decode.*output_type='np'"):
        lab.decode(one.pipe, one.stock())


def test_it_is_told_once_and_described(strangers):
    one = unknown("wan")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = str(lab.describe(one.pipe))
    assert "transformer.blocks, found by looking" in text
    assert "3 blocks (0 to 2)" in text
    assert "docs/adding_a_family.md" in text


def test_pipelines_that_cannot_be_found_out_are_refused_as_before(strangers):
    from diffusers import HeunDiscreteScheduler

    one = member("sd3")
    one.pipe.scheduler = HeunDiscreteScheduler()
    with pytest.raises(UnsupportedPipelineError, match="is of no family that the lab knows"):
        family_of(one.pipe)
    del one.pipe.transformer
    with pytest.raises(UnsupportedPipelineError, match="is of no family that the lab knows"):
        family_of(one.pipe)


# ---- by itself ----


class Calling:
    """A pipeline call that is running, as far as the family asks about it."""

    def __call__(self, ask, guidance_scale=3.0):
        latents = torch.zeros(2, 4, 1, 2, 2)
        return ask(latents)


@pytest.mark.parametrize(
    ("number", "batch", "branches"),
    [(0, 4, ("uncond", "cond")), (0, 2, ("cond",)), (1, 2, ("uncond",)), (2, 2, ("call_2",))],
)
def test_branches_are_told_apart_by_batch_and_order(number, batch, branches):
    pipe = Calling()
    family = Generic(pipe)
    prediction = torch.zeros(batch, 4, 1, 2, 2)
    assert pipe(lambda _: family.computed(pipe, number, {}, prediction, True)) == branches


@pytest.mark.parametrize(("number", "batch"), [(0, 6), (0, 1), (1, 4)])
def test_other_batches_are_refused(number, batch):
    pipe = Calling()
    family = Generic(pipe)
    with pytest.raises(UnsupportedPipelineError, match=f"call {number} .*a batch of {batch} for 2 samples"):
        pipe(lambda _: family.computed(pipe, number, {}, torch.zeros(batch, 4, 1, 2, 2), True))


def test_latents_under_another_name_are_refused():
    pipe = Calling()
    with pytest.raises(UnsupportedPipelineError, match="Calling keeps no latents under that name"):
        Generic(pipe).at_step(torch.zeros(2, 4, 1, 2, 2), pipe, {})


def test_the_scale_is_a_variable_of_the_call():
    pipe = Calling()
    family = Generic(pipe)
    assert pipe(lambda _: (family.has_uncond(pipe), family.scale(pipe, "transformer"))) == (True, 3.0)
    assert not family.has_uncond(pipe)  # outside a call


VIDEO, TEXT, TEMB = torch.zeros(1, 8, 4), torch.zeros(1, 3, 4), torch.zeros(1, 4)


def block(hidden_states, encoder_hidden_states=None, temb=None, **kwargs):
    return hidden_states


@pytest.mark.parametrize(
    ("given", "output", "passed"),
    [
        ((VIDEO,), VIDEO + 1, VIDEO),
        ((VIDEO, TEXT, TEMB), VIDEO + 1, VIDEO),
        ((VIDEO, TEXT, TEMB), (VIDEO + 1, TEXT + 1), (VIDEO, TEXT)),
        ((VIDEO, TEXT, TEMB), (TEXT + 1, VIDEO + 1), (TEXT, VIDEO)),
        ((VIDEO, VIDEO + 2), VIDEO + 1, VIDEO),
    ],
)
def test_a_block_passes_on_what_it_returns_the_like_of(given, output, passed):
    found = passed_on(block, given, {}, output)
    assert isinstance(found, tuple) == isinstance(output, tuple)
    for one, other in zip(found, passed, strict=True) if isinstance(found, tuple) else [(found, passed)]:
        assert one.shape == other.shape
        assert any(one is x for x in given)


@pytest.mark.parametrize(
    ("given", "output"),
    [
        ((VIDEO, VIDEO + 2), (VIDEO + 1, VIDEO + 3)),  # which is which
        ((VIDEO,), VIDEO[:, :4]),
        ((VIDEO,), VIDEO.double()),
        ((VIDEO,), {"sample": VIDEO}),
        ((), VIDEO),
    ],
)
def test_a_block_that_returns_something_else_cannot_be_left_out(given, output):
    with pytest.raises(lab.GuidanceError, match=r"so the lab cannot tell what leaving it out is.*part='attention'"):
        passed_on(lambda *args, **kwargs: None, given, {}, output)


def test_streams_are_found_among_keyword_arguments_too():
    assert passed_on(block, (), {"hidden_states": VIDEO, "extra": TEXT}, (TEXT, VIDEO))[0] is TEXT


def test_a_model_without_blocks_has_nothing_to_skip(strangers):
    one = unknown("wan")
    one.pipe.transformer.blocks = torch.nn.ModuleList()
    assert trunk(one.pipe.transformer) == ("", [])
    with pytest.raises(lab.GuidanceError, match="knows of no blocks in WanTransformer3DModel"):
        attached(one, lab.STG(1.0, lab.skip([0])))
    assert "0 blocks, " in str(lab.describe(one.pipe))
