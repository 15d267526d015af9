"""Training the embedded models: data, padding, learning rate, and going on after a kill."""

import contextlib
import csv
import dataclasses

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from kit.pipelines import TINY, randomise

from stg_lab.digits import train as training
from stg_lab.digits.pipeline import MAX_TOKENS, build_joint
from stg_lab.digits.recipe import RECIPES, Recipe, Stage
from stg_lab.digits.train import Trainer, train

RECIPE = Recipe(stages=(Stage(1, 4, 30), Stage(9, 2, 10)), architecture=dataclasses.replace(TINY, blocks=1), warmup=5)


@pytest.fixture(autouse=True)
def _settings_of_torch():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def trainer(tmp_path):
    return Trainer(RECIPE, tmp_path / "run", "cpu", compile=False)


# ---- padding ----


@pytest.mark.parametrize("padding", [0, 1, 37, 504])
def test_the_bias_on_one_pad_token_is_so_many_pad_tokens_more(trainer, monkeypatch, padding):
    """The stock transformer with that many more zero tokens predicts the same."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())  # float32 all through
    randomise(trainer.model)
    seen = {}

    def watched(**given):
        seen.update(given, output=trainer.pipe.transformer(**given))
        return seen["output"]

    trainer.forward = watched
    batch = dataclasses.replace(trainer.data(30), padding=padding)
    with torch.no_grad():
        loss = trainer.loss(batch)
        stock = build_joint(RECIPE.architecture).transformer
        stock.load_state_dict(trainer.pipe.transformer.state_dict())
        text = seen["encoder_hidden_states"]
        longer = torch.cat([text, torch.zeros(text.shape[0], padding, text.shape[2])], dim=1)
        state = {k: seen[k] for k in ("hidden_states", "timestep")}
        expected = stock(**state, encoder_hidden_states=longer).sample
        unpadded = stock(**state, encoder_hidden_states=text).sample
    assert torch.allclose(seen["output"][0], expected, atol=1e-4)
    assert padding < 30 or (unpadded - expected).abs().max() > 1e-2  # it matters
    assert torch.allclose(loss, ((expected - (batch.noise - batch.x0)) ** 2).mean((1, 2, 3, 4)), rtol=1e-4)


def test_text_in_training_is_text_in_the_pipeline(trainer):
    batch = trainer.data(0)
    with torch.no_grad():
        text = trainer.pipe.text_encoder(batch.tokens, batch.mask).last_hidden_state * batch.mask[..., None]
        captions = trainer.pipe.tokenizer.batch_decode(batch.tokens, skip_special_tokens=True)
        stock, _ = trainer.pipe.encode_prompt(
            captions, do_classifier_free_guidance=False, max_sequence_length=MAX_TOKENS
        )
    assert torch.allclose(text, stock, atol=1e-6)


def test_every_caption_leaves_a_pad_token_to_put_the_bias_on(trainer):
    assert all((trainer.data(update).mask[:, -1] == 0).all() for update in range(20))


def test_the_noisy_input_and_its_target_are_flow_matching(trainer):
    """x_s = (1 - s) x0 + s eps, v = eps - x0, time = 1000 s."""
    batch, seen = trainer.data(30), {}

    def perfect(**given):
        seen.update(given)
        return (batch.noise - batch.x0,)

    trainer.forward = perfect
    assert torch.equal(trainer.loss(batch), torch.zeros(2))
    s = batch.sigma[:, None, None, None, None]
    assert torch.equal(seen["hidden_states"], (1 - s) * batch.x0 + s * batch.noise)
    assert torch.equal(seen["timestep"], batch.sigma * 1000)


# ---- data ----


def test_data_is_a_function_of_the_update_alone(trainer, tmp_path):
    other = Trainer(RECIPE, tmp_path / "other", "cpu", compile=False)
    other.data(3), other.data(8)
    one, two = trainer.data(7), other.data(7)
    for name in ("x0", "noise", "sigma", "tokens", "mask"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert one.padding == two.padding
    assert not torch.equal(one.noise, trainer.data(8).noise)


def test_data_has_the_shapes_of_its_stage(trainer):
    assert trainer.data(29).x0.shape == (4, 24, 1, 16, 16)
    assert trainer.data(30).x0.shape == (2, 24, 5, 16, 16)


def test_data_is_normalised_and_its_noise_levels_are_levels(trainer):
    batches = [trainer.data(update) for update in range(60)]
    x0 = torch.cat([b.x0 for b in batches[30:]])
    assert abs(x0.mean()) < 0.15
    assert abs(x0.std() - 1) < 0.15
    sigma = torch.cat([b.sigma for b in batches])
    assert sigma.min() >= 1e-3
    assert sigma.max() <= 1
    assert 0.5 < sigma.mean() < 0.8  # shifted towards noise
    assert {b.padding for b in batches} > {0}
    assert max(b.padding for b in batches) <= 512 - MAX_TOKENS


def test_captions_are_dropped_as_often_as_the_recipe_says(tmp_path):
    recipe = dataclasses.replace(RECIPE, stages=(Stage(1, 500, 10),), caption_dropout=0.1)
    mask = Trainer(recipe, tmp_path, "cpu", compile=False).data(0).mask
    assert 0.06 < (mask.sum(1) == 1).float().mean() < 0.14  # the end mark alone


def test_validation_sees_no_scan_of_training(trainer, monkeypatch):
    from stg_lab.digits import world

    splits, stock = [], world.draw
    monkeypatch.setattr(world, "draw", lambda *args, **kwargs: splits.append(kwargs["split"]) or stock(*args, **kwargs))
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    assert trainer.validate(batches=2) > 0
    assert splits == ["test", "test"]
    assert all(torch.equal(v, before[k]) for k, v in trainer.model.state_dict().items())


# ---- going on ----


def weights(trainer):
    return {**trainer.model.state_dict(), **{f"average.{k}": v for k, v in trainer.average.items()}}


def rows(folder):
    with (folder / "loss.csv").open() as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return train(RECIPE, folder, compile=False), folder


def test_a_run_that_was_killed_goes_on_to_the_same_weights(uninterrupted, tmp_path, monkeypatch):
    """Killed at update 25, its last state is of update 15, and the loss curve already has a row of update 20."""
    step, save = Trainer.step, Trainer.save

    def killed(self):
        if self.update == 25:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)  # after every update
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", killed)
        patch.setattr(Trainer, "save", lambda self: save(self) if self.update <= 15 else None)
        with pytest.raises(KeyboardInterrupt):
            train(RECIPE, tmp_path, compile=False)
    assert [row[0] for row in rows(tmp_path)] == ["update", "20"]
    resumed = train(RECIPE, tmp_path, compile=False)
    whole, folder = uninterrupted
    assert resumed.update == whole.update == 40
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed).items())
    assert [row[0] for row in rows(tmp_path)] == [row[0] for row in rows(folder)] == ["update", "20", "40"]
    assert rows(tmp_path)[2][:3] == rows(folder)[2][:3]


def test_a_finished_run_does_nothing_more(uninterrupted):
    whole, folder = uninterrupted
    again = train(RECIPE, folder, compile=False)
    assert again.update == 40
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(again).items())
    assert [row[0] for row in rows(folder)] == ["update", "20", "40"]


def test_training_learns_and_the_average_follows(uninterrupted):
    whole, _ = uninterrupted
    start = build_joint(RECIPE.architecture, seed=RECIPE.seed)
    moved = whole.pipe.transformer.patch_embedding.weight - start.transformer.patch_embedding.weight
    averaged = whole.averaged_pipeline().transformer.patch_embedding.weight - start.transformer.patch_embedding.weight
    assert moved.norm() > averaged.norm() > 0.1 * moved.norm()


def test_the_averaged_pipeline_is_stock(uninterrupted):
    pipe = uninterrupted[0].averaged_pipeline()
    assert type(pipe).__name__ == "WanPipeline"
    assert {type(p) for p in pipe.transformer.attn_processors.values()} == {WanAttnProcessor}
    assert not pipe.transformer.training
    assert not [name for name, _ in pipe.transformer.named_buffers() if "text_bias" in name]


def test_a_state_of_another_architecture_is_refused(trainer, tmp_path):
    trainer.save()
    other = dataclasses.replace(RECIPE, architecture=dataclasses.replace(RECIPE.architecture, heads=1))
    with pytest.raises(ValueError, match=r"architecture = .*Choose another folder with --out, or delete"):
        Trainer(other, trainer.out, "cpu", compile=False).restore()
    with pytest.raises(ValueError, match="seed = 0, this recipe has 1"):
        Trainer(dataclasses.replace(RECIPE, seed=1), trainer.out, "cpu", compile=False).restore()


def test_a_kill_while_saving_leaves_the_state_before(trainer, monkeypatch):
    trainer.save()
    trainer.step()
    monkeypatch.setattr(training.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        trainer.save()
    assert Trainer(RECIPE, trainer.out, "cpu", compile=False).restore()


# ---- recipe ----


@pytest.mark.parametrize("recipe", [r for by_kind in RECIPES.values() for r in by_kind.values()] + [RECIPE])
def test_the_learning_rate_warms_up_holds_and_falls_to_zero_unless_the_run_is_stopped_early(recipe):
    n = recipe.updates
    start = round((1 - recipe.decay) * n)
    looked_at = sorted(
        {*range(0, n, 1 + n // 500), recipe.warmup - 1, recipe.warmup, start - 1, start, n - 1} - {-1, n}
    )
    at, rates = torch.tensor(looked_at), torch.tensor([recipe.learning_rate(k) for k in looked_at])
    assert rates.min() > 0
    warming = at < recipe.warmup
    assert torch.allclose(rates[warming], (at[warming] + 1) / recipe.warmup)
    assert (rates[~warming & (at < start)] == 1).all()
    assert (rates[at >= start].diff() < 0).all()
    assert rates[-1] < 2 / (recipe.decay * n) if recipe.decay else rates[-1] == 1
    assert recipe.learning_rate(n) == 0


def test_stages_follow_each_other():
    assert [RECIPE.stage_at(k).frames for k in (0, 29, 30, 39, 40, 10**6)] == [1, 1, 9, 9, 9, 9]
    assert RECIPE.updates == 40
    assert [s.updates for s in RECIPE.scaled(0.1).stages] == [3, 1]
    assert [s.updates for s in RECIPE.scaled(1e-9).stages] == [1, 1]
