"""Model cards say what the model is: its class, an example that its pipeline accepts, and whether training was finished."""

import ast
import inspect

import pytest

from stg_lab.digits.card import _card
from stg_lab.digits.recipe import RECIPES
from stg_lab.digits.train import OBJECTIVES

NAMES = ["digits-joint", "digits-factorised", "digits-i2v"]


def facts(recipe, updates):
    return {
        "updates": updates, "of": recipe.updates, "hours": 1.5, "machine": "2 CPU threads", "held_out_loss": 0.1234,
        "judge": {"digit": {"right": 9, "of": 10, "judge_accuracy": 0.99}},
        "judged": {"samples": 10, "steps": 24, "guidance_scale": 4.0, "seeds": "0 to 9"}, "recipe": recipe.as_dict(),
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
    assert "stopped early, at update 7 of" in _card(name, pipeline.__name__, card, facts(recipe, 7))

    example = text.split("```python")[1].split("```")[0]
    [call] = [n for n in ast.walk(ast.parse(example)) if isinstance(n, ast.Call) and ast.unparse(n.func) == "pipe"]
    taken = inspect.signature(pipeline.__call__).parameters
    assert {keyword.arg for keyword in call.keywords} <= set(taken)
