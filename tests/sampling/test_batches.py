"""A sample never depends on the batch that it is in."""

import numpy as np
import pytest
import torch

import stg_lab as lab

GUIDANCE = (lab.CFG(4) + lab.STG(1, lab.skip([1]))).rescale(0.5)
PROMPTS = [
    f"a {colour} {digit} growing"
    for colour, digit in zip(["red", "blue"] * 4, ["two", "six", "one", "nine"] * 2, strict=True)
]


@pytest.mark.parametrize("guidance", [lab.CFG(4), GUIDANCE], ids=str)
def test_sample_three_of_eight_is_sample_three_alone(tiny, guidance):
    together = tiny.sample(guidance, prompt=PROMPTS, seed=10).output.frames
    alone = tiny.sample(guidance, prompt=PROMPTS[3], seed=13).output.frames
    assert together.shape[0] == 8
    assert torch.allclose(together[3:4], alone, atol=1e-5)
    assert not torch.allclose(together[2:3], alone, atol=1e-1)


def test_recorded_branches_of_a_batch_are_those_of_its_samples(tiny):
    together = tiny.sample(GUIDANCE, prompt=PROMPTS[:3], seed=4).recording
    alone = tiny.sample(GUIDANCE, prompt=PROMPTS[2], seed=6).recording
    for name in together.branches:
        assert np.allclose(together.prediction(name).values[:, 2:], alone.prediction(name).values, atol=1e-4)
    assert together.captions == PROMPTS[:3]
    assert together.ds.seed.values.tolist() == [4, 5, 6]
    assert together.settings["seed"] == 4


def test_several_videos_of_one_prompt_are_seeded_one_by_one(tiny):
    run = tiny.sample(GUIDANCE, num_videos_per_prompt=2, seed=3)
    for i in range(2):
        alone = tiny.sample(GUIDANCE, seed=3 + i, record=False).output.frames
        assert torch.allclose(run.output.frames[i : i + 1], alone, atol=1e-5)
    assert run.recording.captions == ["a red seven moving left"] * 2
    assert run.recording.ds.seed.values.tolist() == [3, 4]


def test_several_videos_of_several_prompts_keep_diffusers_order(tiny):
    run = tiny.sample(GUIDANCE, prompt=PROMPTS[:2], num_videos_per_prompt=2)
    assert run.recording.captions == [PROMPTS[0], PROMPTS[0], PROMPTS[1], PROMPTS[1]]
    stock = tiny.sample(GUIDANCE, prompt=PROMPTS[1], seed=2, record=False).output.frames
    assert torch.allclose(run.output.frames[2:3], stock, atol=1e-5)


def test_without_a_seed_the_seed_is_zero(tiny):
    assert torch.equal(tiny.sample(lab.CFG(4), seed=0).output.frames, tiny.sample(lab.CFG(4)).output.frames)


def test_another_seed_is_another_sample(tiny):
    assert not torch.allclose(tiny.sample(lab.CFG(4), seed=1).output.frames, tiny.sample(lab.CFG(4)).output.frames)


def test_ones_own_generator_is_used_as_diffusers_uses_it(tiny):
    stock = tiny.stock(generator=torch.Generator().manual_seed(42), guidance_scale=4.0, prompt=PROMPTS[:2])
    run = tiny.sample(lab.CFG(4), generator=torch.Generator().manual_seed(42), prompt=PROMPTS[:2])
    assert torch.equal(run.output.frames, stock)
    assert run.recording.settings["seed"] is None
    assert "seed" not in run.recording.ds.coords
