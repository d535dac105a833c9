import dataclasses
import json
from typing import Any

import pytest

from caskit.manifests.errors import InputError
from caskit.train.recipes import RECIPES, Recipe, get_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_presets(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.name == name
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    docstring = RECIPES[name].__doc__ or ""
    for part in ("Command:", "Hardware and time:", "Expected score:"):
        assert part in docstring


def test_every_field_is_part_of_the_id() -> None:
    recipe = get_recipe("digits")
    other: dict[str, Any] = {
        "name": "mine",
        "model": "timm:resnet18",
        "widths": (8, 8),
        "activation": "gelu",
        "optimizer": "adamw",
        "decay": "cosine",
        "flip": "random",
        "precision": "bfloat16",
        "bn_batch": recipe.batch_size // 2,
        "num_poolings": 1,
    }
    ids = {recipe.recipe_id}
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        changed = other.get(field.name)
        if changed is None:
            changed = value * 2 if isinstance(value, int) else value + 0.0625
        ids.add(dataclasses.replace(recipe, **{field.name: changed}).recipe_id)
    assert len(ids) == len(dataclasses.fields(recipe)) + 1


def test_unknown_name() -> None:
    with pytest.raises(InputError, match="recipe 'imagenet' is not known, use one of fashion-mnist, digits"):
        get_recipe("imagenet")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_steps", 0, "num_steps is 0, allowed: 1.."),
        ("num_steps", 1.5, "num_steps is 1.5"),
        ("learning_rate", float("nan"), "learning_rate is nan"),
        ("decay", "step", "decay is 'step', allowed: cosine, linear"),
        ("optimizer", "lion", "optimizer is 'lion'"),
        ("precision", "float16", "precision is 'float16'"),
        ("model", "resnet18", "model is 'resnet18', allowed: convnet, timm:NAME"),
        ("widths", (), r"widths is \(\)"),
        ("num_poolings", 9, "num_poolings is 9"),
        ("resolution", 2, "poolings leave nothing of 2 pixels"),
        ("bn_batch", 100, "bn_batch is 100, must divide batch_size"),
        ("momentum", 0.0, "momentum is 0, optimizer nesterov needs more"),
        ("flip", "up", "flip is 'up'"),
    ],
)
def test_bad_values_die_early(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(get_recipe("digits"), **{field: value})


def test_a_record_of_other_fields() -> None:
    record = get_recipe("digits").to_json()
    with pytest.raises(InputError, match="fields differ from this caskit's: momentum, nesterov"):
        Recipe.from_json({**{k: v for k, v in record.items() if k != "momentum"}, "nesterov": True})
