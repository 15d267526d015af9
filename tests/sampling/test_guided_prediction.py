"""What a run steps with is the sum it was asked for, rebuilt here from the recorded branches."""

import numpy as np
import pytest
import torch
from kit.watch import branch

import stg_lab as lab


def branches(recording, step):
    return {name: branch(recording, name, step) for name in recording.branches}


@pytest.mark.parametrize("scale", [2.5, 4.0])
def test_cfg_rebuilt_from_the_record_is_the_pipelines_own_prediction(small_and_trained, scale):
    recording = small_and_trained.sample(guidance_scale=scale).recording
    assert recording.settings["cfg_rebuilt_exactly"] is True
    for step in range(recording.steps):
        b = branches(recording, step)
        assert torch.equal(b["guided"], b["uncond"] + scale * (b["cond"] - b["uncond"]))


def test_cfg_with_stg_is_the_formula(each):
    g, s, dtype = 4.0, 0.7, each.pipe.transformer.dtype
    recording = each.sample(lab.CFG(g) + lab.STG(s, lab.skip([1]))).recording
    for step in range(recording.steps):
        c, u, p, guided = (branch(recording, name, step).to(dtype) for name in ("cond", "uncond", "skip", "guided"))
        assert torch.equal(guided, u + g * (c - u) + s * (c - p))


def test_without_cfg_stg_alone_is_the_formula(tiny):
    recording = tiny.sample(lab.STG(1.5, lab.skip([1], part="attention"))).recording
    assert recording.branches == ["cond", "skip", "guided"]
    for step in range(recording.steps):
        b = branches(recording, step)
        assert torch.equal(b["guided"], b["cond"] + 1.5 * (b["cond"] - b["skip"]))


def test_without_a_cfg_term_the_scale_of_the_call_stays_in_force(tiny):
    recording = tiny.sample(lab.STG(1.5, lab.skip([1])), guidance_scale=3.0).recording
    for step in range(recording.steps):
        b = branches(recording, step)
        expected = b["uncond"] + 3.0 * (b["cond"] - b["uncond"]) + 1.5 * (b["cond"] - b["skip"])
        assert torch.equal(b["guided"], expected)


def test_the_sampler_steps_with_the_guided_prediction(tiny):
    """Euler's own formula takes each recorded state to the next one with the recorded `guided`, and no other branch."""
    run = tiny.sample(lab.CFG(4) + lab.STG(1, lab.skip([1])))
    ds = run.recording.ds
    sigmas = np.append(ds.sigma.values, 0.0)
    states = np.concatenate([ds.x_t.values, ds.final.values[None]])
    for name in ("guided", "cond"):
        v = run.recording.prediction(name).values
        ahead = states[:-1] + np.diff(sigmas)[:, None, None, None, None, None] * v
        assert np.allclose(ahead, states[1:], atol=1e-5) == (name == "guided")


def test_two_weak_models_in_one_run_each_with_its_vector(tiny):
    near, far = lab.skip([1]), lab.skip([2], part="attention")
    recording = tiny.sample(lab.CFG(4) + lab.STG(1, near) + lab.STG(-0.5, far)).recording
    assert recording.branches == ["cond", "uncond", "skip:block:1", "skip:attention:2", "guided"]
    alone = tiny.sample(lab.CFG(4) + lab.Probe(far)).recording  # the same first state
    assert torch.equal(branch(recording, "skip:attention:2", 0), branch(alone, "skip", 0))
    for step in range(recording.steps):
        b = branches(recording, step)
        c, u = b["cond"], b["uncond"]
        expected = u + 4.0 * (c - u) + 1.0 * (c - b["skip:block:1"]) + -0.5 * (c - b["skip:attention:2"])
        assert torch.equal(b["guided"], expected)


def test_rescaling_in_a_run_is_the_closed_form_of_each_sample(tiny):
    phi, prompts = 0.7, ["a red seven moving left", "a blue two growing"]
    recording = tiny.sample((lab.CFG(4) + lab.STG(1, lab.skip([1]))).rescale(phi), prompt=prompts).recording
    for step in range(recording.steps):
        b = branches(recording, step)
        for i in range(2):
            c, u, p = (b[name][i].double() for name in ("cond", "uncond", "skip"))
            plain = u + 4.0 * (c - u) + (c - p)
            expected = phi * plain * (c.std(correction=0) / plain.std(correction=0)) + (1 - phi) * plain
            assert torch.allclose(b["guided"][i].double(), expected, atol=1e-5)


def test_the_record_holds_the_states_that_the_denoiser_saw(tiny):
    from kit.watch import captured

    with captured(tiny.pipe) as calls:
        recording = tiny.sample(lab.CFG(4) + lab.STG(1, lab.skip([1]))).recording
    assert len(calls) == 2 * recording.steps  # cond and uncond; weak passes are not the pipeline's own calls
    for step in range(recording.steps):
        _, _, given = calls.made[2 * step]
        assert torch.equal(torch.from_numpy(recording.ds.x_t.values[step]), given["hidden_states"])
        assert recording.ds.timestep.values[step] == given["timestep"][0].item()


def test_attach_says_whether_cfg_could_be_rebuilt(tiny):
    with lab.attach(tiny.pipe) as trace:
        assert trace.rebuilt is None
        tiny.stock(guidance_scale=4.0)
    assert trace.rebuilt is True


def test_a_foreign_guidance_inside_the_call_is_noticed(tiny):
    """Rescaling inside the pipeline, for example: what it steps with is not the CFG of what its denoiser predicted."""
    rig = tiny.copy()
    with lab.attach(rig.pipe, guidance=lab.STG(1, lab.skip([1]))):
        rig.pipe.transformer.register_forward_hook(lambda module, args, output: (output[0] * 2,))  # after the lab's
        with pytest.raises(lab.GuidanceError, match=r"does not step with u \+ scale \(c - u\).*guidance=None"):
            rig.stock(guidance_scale=4.0)
    with lab.attach(rig.pipe, record=True) as trace:
        rig.pipe.transformer.register_forward_hook(lambda module, args, output: (output[0] * 2,))
        with pytest.warns(UserWarning, match="recording only"):
            rig.stock(guidance_scale=4.0)
    assert trace.rebuilt is False
    assert trace.recording.settings["cfg_rebuilt_exactly"] is False
