"""Model cards say what the model is: its class, an example that its pipeline accepts, and whether training was finished."""

import ast
import dataclasses
import inspect

import pytest

from stg_lab.digits.card import _card, _loss_curve
from stg_lab.digits.recipe import RECIPES
from stg_lab.digits.train import OBJECTIVES

NAMES = ["digits-joint", "digits-joint-early", "digits-factorised", "digits-factorised-small", "digits-i2v"]


def facts(recipe, updates):
    return {
        "updates": updates, "of": recipe.updates, "hours": 1.5, "machine": "2 CPU threads", "held_out_loss": 0.1234,
        "judge": {"digit": {"right": 9, "of": 10, "judge_accuracy": 0.99}},
        "judged": {"samples": 10, "steps": 24, "guidance_scale": 4.0, "seeds": "0 to 9"}, "recipe": recipe.as_dict(),
        "begun_with": None,
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_card_tells_of_its_own_model(name):
    recipe = RECIPES[name]["cpu"]
    objective = OBJECTIVES[recipe.objective](recipe)
    pipeline, card = type(objective.pipe), objective.card()
    text = _card(name, pipeline.__name__, card, facts(recipe, recipe.updates))
    assert f"A stock `{pipeline.__name__}` that" in text
    assert f'lab.load("{name}")' in text
    for part in objective.parts(objective.pipe).values():
        assert f"`{type(part).__name__}`" in text
    assert f"`stg_lab.digits.codec.{type(objective.pipe.vae).__name__}`" in text
    assert "stopped early" not in text
    assert ("The model was taught by `digits-joint`" in text) == ("factorised" in name)
    stronger = name.removesuffix("-early").removesuffix("-small")
    assert (f"a weaker version of `{stronger}`" in text) == (name != stronger)
    assert "stopped early, at update 7 of" in _card(name, pipeline.__name__, card, facts(recipe, 7))

    example = text.split("```python")[1].split("```")[0]
    [call] = [n for n in ast.walk(ast.parse(example)) if isinstance(n, ast.Call) and ast.unparse(n.func) == "pipe"]
    taken = inspect.signature(pipeline.__call__).parameters
    assert {keyword.arg for keyword in call.keywords} <= set(taken)


def test_the_card_adds_up_both_rounds(tmp_path):
    first, second = RECIPES["digits-joint"]["cpu"], RECIPES["digits-joint"]["second"]
    objective = OBJECTIVES[second.objective](second)
    given = facts(second, second.updates) | {"begun_with": facts(first, first.updates)}
    text = _card("digits-joint", "WanPipeline", objective.card(), given)
    for stage in (*first.stages, *second.stages):
        assert f"{stage.updates:,} updates on {stage.batch} clips" in text
    assert "3 hours on" in text
    taught = given | {"recipe": dataclasses.replace(second, teacher="data/models/digits-joint").as_dict()}
    assert "The last round was taught by `digits-joint`" in _card(
        "digits-tiny", "LattePipeline", objective.card(), taught
    )
    for name, rows in (("before", ["20,1,0.5,10.0", "40,9,0.4,25.5"]), ("now", ["20,9,0.3,4.0"])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "loss.csv").write_text("\n".join(["update,frames,loss,seconds", *rows]) + "\n")
    joined = _loss_curve(tmp_path / "now" / "loss.csv", tmp_path / "before").splitlines()
    assert joined == ["update,frames,loss,seconds", "20,1,0.5,10.0", "40,9,0.4,25.5", "60,9,0.3,29.5"]
    assert _loss_curve(tmp_path / "now" / "loss.csv", None) == (tmp_path / "now" / "loss.csv").read_text()
