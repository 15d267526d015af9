"""`scheduler.step` inside a run: it looks like the method it stands for, and only the pipeline's own scheduler is observed."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from kit.pipelines import SCHEDULERS

import stg_lab as lab
from stg_lab.families import family_of
from stg_lab.seams import tapped


class Listener:
    """Writes down every step, and steps with the prediction plus one."""

    def __init__(self, add=0.0):
        self.add, self.steps, self.after = add, [], []

    def on_call(self, call):
        pass

    def on_step(self, step):
        self.steps.append((step.model_output, step.timestep, step.sample))
        return step.model_output + self.add

    def before_step(self, step, prediction):
        pass

    def after_step(self, step, sample):
        self.after.append(sample)
        return sample


@pytest.fixture
def seam(tiny):
    """Opens the seams of a pipeline whose scheduler stands at the first of three steps."""
    rig = tiny.copy()
    rig.pipe.scheduler.set_timesteps(3)
    listener = Listener(add=1.0)
    with tapped(rig.pipe, family_of(rig.pipe), listener):
        yield rig.pipe.scheduler, listener


V, X = torch.full((1, 2), 3.0), torch.zeros(1, 2)


def test_step_keeps_its_signature(tiny):
    before = inspect.signature(tiny.pipe.scheduler.step)
    with lab.attach(tiny.pipe, record=True):
        step = tiny.pipe.scheduler.step
        assert inspect.signature(step) == before
        assert (step.__name__, step.__doc__) == ("step", FlowMatchEulerDiscreteScheduler.step.__doc__)


@pytest.mark.parametrize(
    "call",
    [
        lambda step, t: step(V, t, X, return_dict=False)[0],
        lambda step, t: step(V, t, X).prev_sample,
        lambda step, t: step(model_output=V, timestep=t, sample=X).prev_sample,
        lambda step, t: step(V, sample=X, timestep=t, return_dict=False)[0],
    ],
    ids=["positional", "as-object", "by-name", "mixed"],
)
def test_step_may_be_called_in_any_way(seam, call):
    scheduler, listener = seam
    t, (now, ahead) = scheduler.timesteps[0], scheduler.sigmas[:2]
    stepped = call(scheduler.step, t)
    assert torch.allclose(stepped, (ahead - now) * (V + 1))
    assert torch.equal(listener.after[0], stepped)
    assert [torch.equal(a, b) for a, b in zip(listener.steps[0], (V, t, X), strict=True)] == [True] * 3


def test_a_step_with_arguments_in_another_order_is_bound_by_name(tiny):
    class Backwards(FlowMatchEulerDiscreteScheduler):
        def step(self, sample, timestep_back, timestep, model_output, return_dict=True):
            return super().step(model_output, timestep, sample, return_dict=return_dict)

    rig, listener = tiny.copy(), Listener()
    rig.pipe.scheduler = Backwards()
    rig.pipe.scheduler.set_timesteps(3)
    with tapped(rig.pipe, family_of(rig.pipe), listener):
        rig.pipe.scheduler.step(X, None, rig.pipe.scheduler.timesteps[0], V)
    model_output, timestep, sample = listener.steps[0]
    assert torch.equal(model_output, V)
    assert torch.equal(sample, X)
    assert timestep == rig.pipe.scheduler.timesteps[0]


def test_inner_and_outer_listeners_both_hear_each_step(tiny):
    rig, outer, inner = tiny.copy(), Listener(), Listener()
    rig.pipe.scheduler.set_timesteps(3)
    family = family_of(rig.pipe)
    with tapped(rig.pipe, family, outer), tapped(rig.pipe, family, inner):
        rig.pipe.scheduler.step(V, rig.pipe.scheduler.timesteps[0], X)
    assert (len(outer.steps), len(inner.steps)) == (1, 1)


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_a_copy_of_the_scheduler_made_inside_a_run_steps_as_stock_and_is_not_observed(tiny, scheduler):
    rig = tiny.copy()
    rig.pipe.scheduler = SCHEDULERS[scheduler]()
    plain: list[torch.Tensor] = []
    copies: list[torch.Tensor] = []

    def step_a_copy(into):
        def callback(pipe, step, timestep, given):
            if step < 2:
                index = pipe.scheduler.step_index
                twin = copy.deepcopy(pipe.scheduler)
                latents = given["latents"]
                into.append(
                    twin.step(torch.ones_like(latents), pipe.scheduler.timesteps[step + 1], latents).prev_sample
                )
                again = copy.deepcopy(twin)
                assert twin.step_index == again.step_index == index + 1
                assert pipe.scheduler.step_index == index
            return {}

        return callback

    stock = rig.stock(guidance_scale=4.0, callback_on_step_end=step_a_copy(plain))
    run = rig.sample(lab.CFG(4), callback_on_step_end=step_a_copy(copies))
    assert torch.equal(run.output.frames, stock)
    assert run.recording.steps == rig.steps
    assert len(copies) == 2
    assert all(torch.equal(a, b) for a, b in zip(plain, copies, strict=True))


@pytest.mark.parametrize("scheduler", ["unipc", "dpm"])
def test_x0_in_the_record_is_x0_inside_the_scheduler(tiny, monkeypatch, scheduler):
    rig = tiny.copy()
    rig.pipe.scheduler = SCHEDULERS[scheduler]()
    own, kind = [], type(rig.pipe.scheduler)
    stock = kind.convert_model_output

    def watching(self, *args, **kwargs):
        own.append(stock(self, *args, **kwargs))
        return own[-1]

    monkeypatch.setattr(kind, "convert_model_output", watching)
    recording = rig.sample(lab.CFG(4) + lab.STG(1, lab.skip([1]))).recording
    assert len(own) == rig.steps
    assert np.array_equal(recording.x0("guided").values, torch.stack(own).numpy())


def test_a_scheduler_whose_x0_is_unknown_is_told_before_any_step(tiny):
    from diffusers import UniPCMultistepScheduler

    rig, steps = tiny.copy(), []
    rig.pipe.scheduler = UniPCMultistepScheduler(prediction_type="epsilon")
    callback = {"callback_on_step_end": lambda pipe, step, timestep, given: steps.append(step) or {}}
    with pytest.raises(lab.LabError, match=r"UniPCMultistepScheduler.*epsilon.*Known: FlowMatchEuler"):
        rig.sample(lab.CFG(4), **callback)
    assert steps == []


def test_a_scheduler_can_be_pickled_after_a_run(tiny):
    rig = tiny.copy()
    rig.sample(lab.CFG(4), num_inference_steps=1, record=False)
    assert pickle.loads(pickle.dumps(rig.pipe.scheduler)).config == rig.pipe.scheduler.config
