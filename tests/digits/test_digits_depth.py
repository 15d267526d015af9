"""Stochastic depth in training: what is left out is what skips leave out, and nothing of it stays in the saved pipeline."""

import dataclasses

import pytest
import torch
from kit.pipelines import TINY, randomise

import stg_lab as lab
from stg_lab.digits.recipe import RECIPES, Recipe, Stage
from stg_lab.digits.train import OBJECTIVES, Trainer
from stg_lab.families import family_of

KINDS = ["joint", "factorised", "i2v"]
ARCHITECTURES = {
    "joint": dataclasses.replace(TINY, blocks=2),
    "factorised": dataclasses.replace(TINY, blocks=2),
    "i2v": RECIPES["digits-i2v"]["cpu"].architecture,
}


def recipe(kind, probability=0.0):
    return Recipe(
        stages=(Stage(9, 3, 4),),
        objective=kind,
        architecture=ARCHITECTURES[kind],
        warmup=1,
        stochastic_depth=probability,
    )


@pytest.fixture(params=KINDS)
def trainer(request, tmp_path):
    made = Trainer(recipe(request.param), tmp_path, "cpu", compile=False)
    randomise(made.model)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_out_is_what_skips_leave_out(kind):
    objective = OBJECTIVES[kind](recipe(kind))
    family = family_of(objective.pipe)
    (denoiser,) = family.denoisers(objective.pipe).values()
    ours, theirs = objective.blocks(denoiser), family.blocks(denoiser)
    assert len(ours) == len(theirs)
    assert all(one is two for one, two in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("part", ["spatial", "temporal", "all"])
def test_a_block_left_out_for_one_sample_is_skipped_for_that_sample_alone(trainer, monkeypatch, part):
    """Sample by sample, the loss is that of the same pass with the family's own skip, or of the whole pass."""
    family = family_of(trainer.pipe)
    (_denoiser,) = family.denoisers(trainer.pipe).values()
    batch, count = trainer.data(0), len(trainer.depth.blocks)
    chosen = [k for k in range(count) if part == "all" or len(family.axes) == 1 or k % 2 == (part == "temporal")]
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: __import__("contextlib").nullcontext())
    with torch.no_grad():
        whole = trainer.loss(batch)
        trainer.depth._set(torch.tensor([[1.0, 0.0 if k in chosen else 1.0, 1.0] for k in range(count)]))
        mixed = trainer.loss(batch)
        trainer.depth.whole()
        stock = {}
        for k in chosen:
            block = trainer.depth.blocks[k]
            stock[block] = block.forward
            block.forward = lambda *args, **kwargs: args[0] if args else kwargs["hidden_states"]
        skipped = trainer.loss(batch)
        for block, forward in stock.items():
            block.forward = forward
    expected = torch.stack([whole[0], skipped[1], whole[2]])
    assert torch.allclose(mixed, expected, rtol=1e-4)
    assert abs(skipped[1] - whole[1]) > 1e-4 * abs(whole[1])  # it matters


def test_at_probability_zero_no_bit_is_touched(tmp_path):
    losses = []
    for probability in (0.0, None):
        torch.manual_seed(0)
        made = Trainer(recipe("joint", probability or 0.0), tmp_path, "cpu", compile=False)
        if probability is None:  # as if there were no stochastic depth
            for block in made.depth.blocks:
                block._forward_hooks.clear()
        losses.append([made.step() for _ in range(3)])
    assert losses[0] == losses[1]


def test_draws_are_nested_and_as_likely_as_said(trainer):
    """What is left out at a probability is left out at every larger one; data are the same at all of them."""

    def kept(probability, update):
        trainer.depth.draw(probability, 64, trainer.objective.depth_generator(update), torch.device("cpu"))
        return torch.stack([block.keep for block in trainer.depth.blocks])

    for update in range(3):
        few, many = kept(0.1, update), kept(0.3, update)
        assert (many <= few).all()
    rate = 1 - torch.stack([kept(0.1, update) for update in range(200)]).mean()
    assert rate == pytest.approx(0.1, abs=0.01)
    assert not torch.equal(kept(0.1, 0), kept(0.1, 1))


def test_nothing_of_it_is_in_the_saved_pipeline(tmp_path):
    made = Trainer(recipe("joint", 0.5), tmp_path, "cpu", compile=False)
    made.step()
    pipe = made.averaged_pipeline()
    pipe.save_pretrained(tmp_path / "saved")
    stock = lab.load(tmp_path / "saved")
    assert stock.transformer.state_dict().keys() == pipe.transformer.state_dict().keys()
    assert not any("keep" in name for name in made.model.state_dict())
    assert not any(module._forward_hooks for module in stock.transformer.modules())


def test_validation_leaves_nothing_out(tmp_path):
    made = Trainer(recipe("joint", 0.9), tmp_path, "cpu", compile=False)
    randomise(made.model)
    made.average = {k: v.clone() for k, v in made.model.state_dict().items()}
    made.depth.draw(0.9, 3, torch.Generator().manual_seed(0), torch.device("cpu"))
    first = made.validate(batches=1)
    assert first == made.validate(batches=1)
    assert all(block.keep is None for block in made.depth.blocks)
