"""Loops that do something of their own: it is served rightly, or told before it is paid for."""

import functools
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXConditionPipeline, WanTransformer3DModel
from diffusers.hooks import (
    PyramidAttentionBroadcastConfig,
    apply_layerwise_casting,
    apply_pyramid_attention_broadcast,
)
from diffusers.modular_pipelines import QwenImageAutoBlocks
from kit.loops import loop, seeded
from kit.watch import left_behind, passes
from kit.zoo import ltx, member, picture
from torch import nn

import stg_lab as lab
from stg_lab.errors import UnsupportedPipelineError

STG = lab.STG(1.0, lab.skip([1]))

pytestmark = pytest.mark.filterwarnings("ignore:.*is of no family that the lab knows")


# ---- who steps ----


@pytest.mark.parametrize("elsewhere", ["copies", "own"])
@pytest.mark.parametrize("asked", [{"guidance": STG}, {"record": True}], ids=["guided", "recorded"])
def test_steps_that_are_taken_elsewhere_are_told_at_the_next_denoiser_call(elsewhere, asked):
    pipe, call = loop(elsewhere=elsewhere)
    with (
        passes(pipe) as made,
        pytest.raises(UnsupportedPipelineError, match=r"Loop called its denoiser for step 0.*without pipe.scheduler"),
        lab.attach(pipe, **asked),
    ):
        pipe(**call, generator=seeded())
    # The first step's: cond and uncond, and what shows once that a weak pass may begin late, and that weak pass.
    assert len(made) == (5 if "guidance" in asked else 2)
    assert left_behind(pipe) == []


def test_a_step_that_is_taken_elsewhere_is_told_at_the_end_where_nothing_follows():
    pipe, call = loop(elsewhere="own")
    with pytest.raises(UnsupportedPipelineError, match="step 0"), lab.attach(pipe, guidance=STG):
        pipe(**call, num_inference_steps=1, generator=seeded())


def test_where_nothing_was_asked_steps_may_be_taken_elsewhere():
    pipe, call = loop(elsewhere="own")
    stock = pipe(**call, generator=seeded()).frames
    with lab.attach(pipe):
        assert torch.equal(pipe(**call, generator=seeded()).frames, stock)


def test_a_call_that_was_broken_off_is_not_taken_for_a_step_elsewhere():
    pipe, call = loop()

    def broken(*_):
        raise ZeroDivisionError

    handle = pipe.transformer.blocks[1].register_forward_pre_hook(broken)
    with lab.attach(pipe, guidance=STG):
        with pytest.raises(ZeroDivisionError):
            pipe(**call, generator=seeded())
        handle.remove()
    with lab.attach(pipe, guidance=STG):
        pipe(**call, generator=seeded())


# ---- what remembers ----


def broadcast(pipe):
    """A step cache put on by the other door."""
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 1001),
        current_timestep_callback=lambda: 500,
    )
    apply_pyramid_attention_broadcast(pipe.transformer, config)


def test_a_step_cache_is_refused_by_whatever_door_it_came(tiny):
    rig = tiny.copy()
    broadcast(rig.pipe)
    stock = rig.stock(guidance_scale=4.0)
    assert torch.equal(rig.sample(lab.CFG(4)).output.frames, stock)
    with (
        passes(rig.pipe) as made,
        pytest.raises(
            lab.GuidanceError, match=r"a step cache is active on transformer \(PyramidAttention\w+ at"
        ) as told,
    ):
        rig.sample(lab.CFG(4) + lab.Probe(lab.skip([1])))
    assert made == []
    advice = str(told.value).rpartition("Turn it off first: ")[2].removesuffix(".")
    exec(advice, {"diffusers": diffusers, "pipe": rig.pipe})  # what the message says to type
    fresh = tiny.sample(lab.CFG(4) + STG, record=False).output.frames
    assert torch.equal(rig.sample(lab.CFG(4) + STG, record=False).output.frames, fresh)


def test_hooks_without_a_memory_go_on_working(tiny):
    rig = tiny.copy()
    apply_layerwise_casting(rig.pipe.transformer, torch.float32, torch.float32)
    plain = tiny.sample(lab.CFG(4) + STG, record=False).output.frames
    assert torch.equal(rig.sample(lab.CFG(4) + STG, record=False).output.frames, plain)


def every_other(forward):
    """Computes at every other call."""
    kept = []

    def remember(*args, **kwargs):
        kept[:] = [] if kept else [forward(*args, **kwargs)]
        return kept[0] if kept else forward(*args, **kwargs) * 0.9

    return remember


def late(forward):
    """Computes for a while, and then answers with what it has: no repeated call of the first step tells."""
    state = SimpleNamespace(calls=0, residual=None)

    def remember(hidden_states, *args, **kwargs):
        state.calls += 1
        if state.calls > 4 and state.calls % 2:
            return hidden_states + state.residual
        output = forward(hidden_states, *args, **kwargs)
        state.residual = output - hidden_states
        return output

    return remember


def fading(forward):
    """Keeps no more than a number."""
    calls = 0

    def remember(*args, **kwargs):
        nonlocal calls
        calls += 1
        return forward(*args, **kwargs) * 0.99**calls

    return remember


@pytest.mark.parametrize("patch", [every_other, late, fading], ids=lambda patch: patch.__name__)
@pytest.mark.parametrize("term", [STG, lab.Probe(lab.skip([2]))], ids=["guided", "watched"])
def test_a_forward_that_remembers_is_refused(patch, term):
    pipe, call = loop()
    block = pipe.transformer.blocks[1]
    block.forward = patch(block.forward)
    stock = pipe(**call, generator=seeded()).frames
    block.forward = patch(type(block).forward.__get__(block))
    with lab.attach(pipe, record=True):
        assert torch.equal(pipe(**call, generator=seeded()).frames, stock)
    block.forward = patch(type(block).forward.__get__(block))
    with (
        pytest.raises(lab.GuidanceError, match=r"transformer is not a function.*blocks.1.forward.*Take it off"),
        lab.attach(pipe, guidance=term),
    ):
        pipe(**call, generator=seeded())


def test_a_forward_of_a_class_that_remembers_is_refused(monkeypatch):
    pipe, call = loop()
    kind, plain = type(pipe.transformer), type(pipe.transformer).forward

    @functools.wraps(plain)
    def remember(self, *args, **kwargs):
        self.count = getattr(self, "count", 0) + 1
        if self.count > 2 and self.count % 2:
            return self.kept
        self.kept = plain(self, *args, **kwargs)
        return self.kept

    monkeypatch.setattr(kind, "forward", remember)
    with pytest.raises(lab.GuidanceError, match="keeps tensors"), lab.attach(pipe, guidance=STG):
        pipe(**call, generator=seeded())


def test_a_forward_that_only_counts_is_let_in_and_its_count_is_of_real_passes():
    pipe, call = loop()
    plain, counted = pipe.transformer.forward, []
    with lab.attach(pipe, guidance=STG):
        guided = pipe(**call, generator=seeded()).frames

    def count(*args, **kwargs):
        counted.append(len(counted))
        return plain(*args, **kwargs)

    pipe.transformer.forward = count
    with lab.attach(pipe, guidance=STG):
        assert torch.equal(pipe(**call, generator=seeded()).frames, guided)
    assert len(counted) == 3 * 3 + 2  # cond, uncond and a weak pass a step, and what shows that reuse is exact


# ---- what is stepped with ----


def negated(cond, uncond, scale, x_t, sigma):
    return -(uncond + scale * (cond - uncond))


def as_x0_and_back(cond, uncond, scale, x_t, sigma):
    """As Cosmos 2 has it: predictions preconditioned to x0, CFG there, and a velocity made of it."""
    at = sigma / (sigma + 1)
    c, u = ((1 - at) * x_t - at * p for p in (cond, uncond))
    return (x_t - (u + scale * (c - u))) / sigma


def squashed(cond, uncond, scale, x_t, sigma):
    return torch.tanh(uncond + scale * (cond - uncond))


def recorded(pipe, call, **attach):
    with lab.attach(pipe, record=True, **attach) as trace:
        frames = pipe(**call, generator=seeded()).frames
    return frames, trace


@pytest.mark.parametrize("combine", [negated, as_x0_and_back], ids=lambda f: f.__name__)
def test_signs_and_conversions_are_recognised(combine):
    pipe, call = loop(combine=combine)
    stock = pipe(**call, generator=seeded()).frames
    frames, trace = recorded(pipe, call)
    assert torch.equal(frames, stock)
    ds, x0 = trace.recording.ds, trace.recording.x0("guided")
    assert np.allclose(x0.isel(step=-1), ds.final, atol=1e-5)  # where Euler's last step goes
    assert np.allclose(ds.guidance_scale, 4, atol=1e-4)
    c, u, g = (ds.prediction.sel(branch=b).values for b in ("cond", "uncond", "guided"))
    assert np.allclose(u + 4 * (c - u), g, atol=1e-3)  # the last step divides by a sigma of 0.009
    assert trace.rebuilt is (combine is negated)


@pytest.mark.parametrize("combine", [negated, as_x0_and_back], ids=lambda f: f.__name__)
def test_signs_and_conversions_are_guided_rightly(combine):
    """Against the same combination written by hand, with the weak pass of a stock pipeline that skips the block itself."""
    pipe, call = loop(combine=combine)
    with lab.attach(pipe, guidance=lab.STG(2.0, lab.skip([1]))):
        guided = pipe(**call, generator=seeded()).frames

    def by_hand(cond, uncond, scale, x_t, sigma):
        block = pipe.transformer.blocks[1]
        block.forward = lambda hidden_states, *_: hidden_states
        weak = pipe.transformer(x_t, sigma_to_t(pipe, sigma), call["prompt_embeds"], return_dict=False)[0]
        del block.forward
        # What is linear in the predictions takes any sum of them whose weights add up to one.
        stepped = [combine(p, p, 1.0, x_t, sigma) for p in (cond, uncond, weak)]
        c, u, w = stepped
        return u + scale * (c - u) + 2.0 * (c - w)

    pipe.bent.combine = by_hand
    assert torch.allclose(guided, pipe(**call, generator=seeded()).frames, atol=1e-4)


def sigma_to_t(pipe, sigma):
    index = (pipe.scheduler.sigmas - sigma).abs().argmin()
    return pipe.scheduler.timesteps[index].expand(1)


def test_what_has_no_known_form_has_no_x0():
    pipe, call = loop(combine=squashed)
    with pytest.warns(UserWarning, match=r"recording only, and x0 of what it steps with is not known") as told:
        _, trace = recorded(pipe, call)
    assert len([w for w in told if "recording only" in str(w.message)]) == 1
    assert np.isnan(trace.recording.x0("guided")).all()
    assert np.isfinite(trace.recording.x0("cond")).all()
    with pytest.raises(lab.GuidanceError, match="does not step with"), lab.attach(pipe, guidance=STG):
        pipe(**call, generator=seeded())


@pytest.mark.filterwarnings("ignore:the latents were changed")  # the pipeline adds noise to its picture
def test_ltx_condition_steps_against_what_it_is_handed():
    pipe, call = condition()
    stock = pipe(**call, generator=seeded()).frames
    frames, trace = recorded(pipe, call)
    assert torch.equal(frames, stock)
    ds = trace.recording.ds
    assert np.allclose(trace.recording.x0("guided").isel(step=-1), ds.final, atol=1e-6)
    plain, sum_ = (p.sel(branch=b).values.ravel() for p in [ds.prediction.isel(step=0)] for b in ("cond", "guided"))
    assert plain @ sum_ > 0
    guided, _ = recorded(pipe, call, guidance=STG)
    assert not torch.equal(guided, stock)
    with pytest.raises(lab.GuidanceError, match=r"noise level of its own. Leave .in_x0\(\) out"):
        recorded(pipe, call, guidance=(lab.CFG(3) + STG).in_x0())


def condition():
    made = ltx()
    pipe = LTXConditionPipeline(**{**made.pipe.components, "scheduler": FlowMatchEulerDiscreteScheduler()})
    pipe.set_progress_bar_config(disable=True)
    call = {**made.call, "image": picture(32, 64), "guidance_scale": 3.0}
    return pipe, {**call, "num_inference_steps": 3, "output_type": "latent"}


# ---- the scale that is used ----


@pytest.mark.parametrize("says", [1.5, 8.0])
def test_the_scale_that_is_used_wins_over_the_one_that_is_said(tiny, says):
    def change(pipe, step, timestep, given):
        pipe._guidance_scale = says  # of which Wan's running call takes no notice
        return {}

    rig = tiny.copy()
    frames = rig.stock(guidance_scale=4.0, callback_on_step_end=change)
    with lab.attach(rig.pipe, record=True) as trace:
        assert torch.equal(rig.stock(guidance_scale=4.0, callback_on_step_end=change), frames)
    assert trace.rebuilt
    assert (trace.recording.ds.guidance_scale == 4).all()
    with lab.attach(rig.pipe, guidance=STG):
        guided = rig.stock(guidance_scale=4.0, callback_on_step_end=change)
    assert torch.equal(guided, rig.sample(lab.CFG(4) + STG, record=False).output.frames)


def test_a_scale_that_nobody_says_is_measured():
    pipe, call = loop(combine=lambda c, u, scale, *_: u + 2.5 * (c - u))
    _, trace = recorded(pipe, call, guidance=STG)
    assert trace.rebuilt
    assert np.allclose(trace.recording.ds.guidance_scale, 2.5)
    assert trace.recording.settings["guidance_scale"] == 2.5


# ---- latents that change between steps ----


def faded(pipe, step, timestep, given):
    return {"latents": given["latents"] * 0.9}


def in_place(pipe, step, timestep, given):
    given["latents"].mul_(0.9)
    return {}


@pytest.mark.parametrize("callback", [faded, in_place], ids=lambda f: f.__name__)
@pytest.mark.parametrize("output_type", ["latent", "np"])
def test_latents_that_a_callback_changes_are_told_marked_and_returned(tiny, callback, output_type):
    stock = tiny.stock(guidance_scale=4.0, callback_on_step_end=callback)
    with pytest.warns(UserWarning, match="the latents were changed between steps 0 and 1") as told:
        run = tiny.sample(lab.CFG(4), callback_on_step_end=callback, output_type=output_type)
    assert len([w for w in told if "were changed" in str(w.message)]) == 1
    assert run.recording.ds.edited.values.tolist() == [0, 1, 1, 1]
    assert np.array_equal(run.recording.ds.final, stock)


@pytest.mark.filterwarnings("ignore:the latents were changed")
@pytest.mark.parametrize("step", [0, 2, 3])
def test_a_fork_takes_the_callback_along(tiny, step):
    run = tiny.sample(lab.CFG(4), callback_on_step_end=faded)
    again = {"pipe": tiny.pipe, "callback_on_step_end": faded}
    for source, more in ((run, {}), (run.recording, again)):
        fork = lab.fork(source, step=step, guidance=lab.CFG(4), **more)
        assert torch.equal(fork.output.frames, run.output.frames)
        assert fork.recording.ds.edited.values.tolist() == [0, 1, 1, 1]
    assert torch.equal(lab.rerun(run.recording, **again).output.frames, run.output.frames)
    for missing in (lambda: lab.fork(run.recording, step=step, pipe=tiny.pipe), lambda: lab.rerun(run.recording)):
        with pytest.raises(lab.CallError, match="callback_on_step_end could not be kept"):
            missing()


@pytest.mark.filterwarnings("ignore:the latents were changed")
def test_a_fork_with_another_callback_names_it(tiny):
    run = tiny.sample(lab.CFG(4), callback_on_step_end=faded)
    with pytest.raises(lab.RecordingError, match=r"were changed before this step.*callback_on_step_end=\.\.\."):
        lab.fork(run.recording, step=2, pipe=tiny.pipe, callback_on_step_end=lambda *_: {})


def test_stock_runs_are_not_marked(tiny):
    recording = tiny.sample(lab.CFG(4)).recording
    assert not recording.ds.edited.any()
    assert recording.ds.x0_guided.all()


# ---- several loops in a call ----


def test_loops_within_a_call_are_guided_and_recorded_each():
    pipe, call = loop(sections=3)
    generator = seeded()
    with lab.attach(pipe, guidance=STG):
        pipe.bent.sections = 1
        alone = [pipe(**call, generator=generator).frames for _ in range(3)]
    pipe.bent.sections = 3
    with pytest.warns(UserWarning, match=r"began a second loop.*run.zarr, run-2.zarr, ...; `.recordings`") as told:
        run = lab.sample(pipe, guidance=STG, seed=0, **call)
    assert len([w for w in told if "second loop" in str(w.message)]) == 1
    assert torch.equal(run.output.frames, torch.cat(alone, dim=2))
    assert [r.complete for r in run.recordings] == [True] * 3
    assert [r.settings.get("section", 0) for r in run.recordings] == [0, 1, 2]
    for recording, frames in zip(run.recordings, alone, strict=True):
        assert np.array_equal(recording.ds.final, frames)
    assert run.recording is run.recordings[0]
    with pytest.raises(lab.CallError, match="loop 1 of a call that samples in several"):
        lab.fork(run.recordings[1], step=1, pipe=pipe)


def test_loops_lie_beside_the_place_that_was_named(tmp_path):
    pipe, call = loop(sections=2)
    for _ in range(2):
        with pytest.warns(UserWarning, match="run.zarr, run-2.zarr"):
            run = lab.sample(pipe, record=tmp_path / "run.zarr", overwrite=True, **call)
        assert [r.path.name for r in run.recordings] == ["run.zarr", "run-2.zarr"]
    assert {p.name for p in tmp_path.iterdir()} == {"run.zarr", "run-2.zarr"}


def test_a_pipeline_that_calls_itself_again_is_recorded_each(tiny):
    class Twice(type(tiny.pipe)):
        def __call__(self, **call):
            first = super().__call__(**call)
            return super().__call__(**{**call, "latents": first.frames.float()})

    twice = Twice(**tiny.pipe.components)
    twice.set_progress_bar_config(disable=True)
    with pytest.warns(UserWarning, match="second loop"), lab.attach(twice, record=True, guidance=STG) as trace:
        twice(**tiny.arguments({"guidance_scale": 4.0, "generator": seeded()}))
    assert [r.complete for r in trace.recordings] == [True, True]
    first, second = trace.recordings
    assert np.array_equal(first.ds.final, second.ds.x_t.isel(step=0))


# ---- arguments of ours, and advice ----


def test_one_generator_is_no_list(tiny):
    pipe, call = loop()  # which takes no list
    assert torch.equal(
        lab.sample(pipe, seed=3, record=False, **call).output.frames, pipe(**call, generator=seeded(3)).frames
    )
    assert torch.equal(
        tiny.sample(lab.CFG(4), seed=3, record=False).output.frames, tiny.stock(seed=3, guidance_scale=4.0)
    )


def test_what_a_pipeline_does_not_take_is_left_out_or_told(tiny):
    class Bare(type(tiny.pipe)):
        def __call__(self, prompt, num_inference_steps=2, latents=None, output_type="latent"):
            call = {"height": 16, "width": 16, "num_frames": 5, "max_sequence_length": 8, "guidance_scale": 4.0}
            return super().__call__(
                prompt=prompt, num_inference_steps=num_inference_steps, output_type=output_type, latents=latents, **call
            )

    bare = Bare(**tiny.pipe.components)
    bare.set_progress_bar_config(disable=True)
    call = {"prompt": "a red seven moving left", "latents": torch.randn(1, 24, 3, 4, 4, generator=seeded())}
    stock = tiny.stock(guidance_scale=4.0, num_inference_steps=2, latents=call["latents"].clone())
    run = lab.sample(bare, guidance=None, **call)
    assert torch.equal(run.output.frames, stock)
    assert run.recording.settings["seed"] is None
    with pytest.raises(
        lab.GuidanceError, match=r"Bare takes no guidance_scale, by which the lab would tell it CFG\(4\)"
    ):
        lab.sample(bare, guidance=lab.CFG(4), **call)
    with pytest.raises(lab.CallError, match=r"Bare takes no generator, so seed=3 would decide nothing"):
        lab.sample(bare, seed=3, **call)


@pytest.mark.parametrize("name", ["flux", "hunyuan"])
def test_advice_says_only_what_was_not_typed(name):
    one = member(name)
    call = {k: v for k, v in one.arguments({}).items() if not k.startswith("negative") and k != "true_cfg_scale"}
    cfg = lab.CFG(2.5)
    with (
        pytest.raises(lab.GuidanceError, match=r"Call it with true_cfg_scale=2\.5 and a negative_prompt"),
        lab.attach(one.pipe, guidance=cfg),
    ):
        one.pipe(**call)
    for guidance in (cfg, cfg.apg(0.5)):
        with pytest.raises(lab.GuidanceError, match="needs a negative prompt beside it") as told:
            lab.sample(one.pipe, guidance=guidance, record=False, **call)
        assert "Call it with" not in str(told.value)
        assert "Add lab.CFG" not in str(told.value)


# ---- rows ----


class ByFrame(WanTransformer3DModel):
    """Takes something for every frame of every sample."""

    def forward(self, hidden_states, timestep, encoder_hidden_states, frames, return_dict=True):
        moved = frames.unflatten(0, (len(hidden_states), -1)).mean(1, keepdim=True)
        return super().forward(hidden_states, timestep, encoder_hidden_states + moved, return_dict=return_dict)


def test_arguments_with_rows_for_frames_are_not_cut_wrongly():
    pipe, call = loop(frames=torch.randn(2 * 3, 16, generator=seeded(5)))
    pipe.transformer.__class__ = ByFrame
    guided = [recorded(pipe, call, guidance=STG, passes=p)[0] for p in (None, lab.Passes(rows="batch"))]
    assert torch.equal(*guided)
    assert not torch.equal(guided[0], pipe(**call, generator=seeded()).frames)


def test_only_parts_that_layers_have_are_listed():
    pipe, _ = loop()
    for block in pipe.transformer.blocks:
        block.add_module("mixer", block._modules.pop("ffn"))  # a name that tells nothing
    text = str(lab.describe(pipe))
    assert "cross_attention_zero" in text
    assert "feedforward" not in text
    other = nn.ModuleList([pipe.transformer.blocks[0]])
    pipe.transformer.add_module("refiner", other)
    assert "transformer.refiner: layers are those of one list" in str(lab.describe(pipe))


# ---- what is not served, and what else makes a run ----


def test_what_is_no_stock_pipeline_is_told_what_it_is(tiny):
    modular = QwenImageAutoBlocks().init_pipeline()
    told = {
        r"QwenImageModularPipeline is a modular pipeline of diffusers.*guider=lab.guider\(guidance\).*diffusers.QwenImagePipeline": modular,
        r"'digits-joint' is a name.*pipe = lab.load\('digits-joint'\)": "digits-joint",
        r"WanPipeline is a class. Give a pipeline object": type(tiny.pipe),
        r"WanTransformer3DModel is a model. The lab needs the pipeline": tiny.pipe.transformer,
        r"NoneType is of no family": None,
    }
    for says, given in told.items():
        with pytest.raises(UnsupportedPipelineError, match=says), lab.attach(given, guidance=STG):
            pytest.fail("it was let in")


class Lora(nn.Linear):
    """What peft puts in the place of a layer, as far as the lab looks at it."""

    def __init__(self, scale):
        super().__init__(2, 2)
        self.scaling, self.active_adapters, self.disable_adapters = {"style": scale, "off": 1.0}, ["style"], False


@pytest.fixture
def adapted(tiny):
    rig = tiny.copy()
    for name in ("one", "two"):
        rig.pipe.transformer.add_module(name, Lora(0.8))
    return rig


def test_adapters_stand_in_the_recording_and_are_compared(adapted, tiny):
    run = adapted.sample(lab.CFG(4))
    assert run.recording.settings["adapters"] == {"transformer": {"style": 0.8, "off": 0.0}}
    lab.fork(run.recording, step=2, pipe=adapted.pipe)
    adapted.pipe.transformer.one.scaling["style"] = 0.5
    with pytest.raises(lab.RecordingError, match=r"recorded with adapters .*0\.8.*has .*\[0\.5, 0\.8\].*set_adapters"):
        lab.fork(run.recording, step=2, pipe=adapted.pipe)
    with pytest.warns(UserWarning, match=r"not the recorded run again.*and the pipeline has none now"):
        lab.rerun(run.recording, tiny.pipe, record=False)


def test_quantisation_stands_in_the_recording(tiny):
    rig = tiny.copy()
    assert "quantization" not in rig.sample(lab.CFG(4)).recording.settings
    rig.pipe.transformer.add_module("small", nn.Module())
    rig.pipe.transformer.small.weight = nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False)
    run = rig.sample(lab.CFG(4))
    assert run.recording.settings["quantization"] == {"transformer": "uint8"}
    with pytest.raises(lab.RecordingError, match=r"quantisation .*uint8.*has none now"):
        lab.fork(run.recording, step=2, pipe=tiny.pipe)
