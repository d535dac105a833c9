import dataclasses
import json
from typing import Any

import pytest

from caskit.manifests.errors import InputError
from caskit.train.presets import RECIPES, get_recipe
from caskit.train.recipes import ADDED_LATER, Recipe


@pytest.mark.parametrize("name", RECIPES)
def test_presets(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.name == name
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    docstring = RECIPES[name].__doc__ or ""
    for part in ("Command:", "Hardware and time:", "Expected score:"):
        assert part in docstring


def test_what_came_later_leaves_the_ids_of_recipes_without_it() -> None:
    assert get_recipe("digits").recipe_id.startswith("501c9825a8d9aa63")
    assert get_recipe("fashion-mnist").recipe_id.startswith("acb9ca8f0be091c6")
    assert not ADDED_LATER & set(get_recipe("digits").to_json())


def test_every_field_is_part_of_the_id() -> None:
    changes: dict[str, Any] = {"model": "convnet", "crop": "inception", "shuffle_block": 8, "shuffle_window": 4}
    recipe = dataclasses.replace(get_recipe("cifar-resnet56"), **changes)
    other: dict[str, Any] = {
        "name": "mine",
        "model": "timm:resnet18",
        "widths": (8, 8, 8, 8, 8),
        "activation": "gelu",
        "optimizer": "adamw",
        "decay": "steps",
        "flip": "alternate",
        "precision": "bfloat16",
        "bn_batch": recipe.batch_size // 2,
        "num_poolings": 1,
        "drops": (7, 9),
        "channel_mean": (0.5, 0.5, 0.5),
        "channel_std": (0.5, 0.5, 0.5),
        "crop": "uniform-area",
        "decode": "reduced",
        "crop_area": (0.5, 1.0),
        "interpolation": "bilinear",
        "eval_crop": 0.5,
        "eval_resolution": 64,
        "randaugment": "rand-m6",
        "loss": "binary",
        "decayed": "weights",
        "initial": "tf-resnet",
        "compile": True,
        "ema_decay": 0.5,
    }
    ids = {recipe.recipe_id}
    assert ADDED_LATER < {field.name for field in dataclasses.fields(recipe)}
    for field in dataclasses.fields(recipe):
        if field.name == "decay":
            straight = dataclasses.replace(recipe, drops=(), decay="linear")
            ids.add(straight.recipe_id)
            assert dataclasses.replace(straight, decay="cosine").recipe_id != straight.recipe_id
            continue
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
        ("decay", "step", "decay is 'step', allowed: cosine, linear, steps, quadratic"),
        ("decay", "steps", r"drops is \(\), decay steps needs some"),
        ("drops", (5, 9), "decay steps needs some and linear takes none"),
        ("drops", (9, 5), "must be rising numbers of steps"),
        ("channel_mean", (0.5,), "must be as many numbers in each"),
        ("crop", "random", "crop is 'random', allowed: none, inception, uniform-area"),
        ("crop_area", (1.0, 0.1), "must be two rising shares"),
        ("interpolation", "lanczos", "allowed: bicubic, bilinear, bicubic-tf1"),
        ("eval_crop", 1.5, "eval_crop is 1.5"),
        ("randaugment", "rand-x9", "randaugment is 'rand-x9', must be empty or timm's"),
        ("mixup", 2.0, "mixup is 2.0, allowed: 0.0..1.0"),
        ("loss", "hinge", "allowed: cross-entropy, binary"),
        ("decayed", "none", "allowed: weights, all-but-norms, all"),
        ("decode", "half", "allowed: full, reduced"),
        ("decode", "reduced", "decode reduced is for crops, crop is none"),
        ("shuffle_block", 64, "shuffle_block is 64 and shuffle_window 0, both are 0"),
        ("shuffle_window", -1, "shuffle_window is -1, allowed: 0.."),
        ("initial", "zero", "allowed: model, tf-resnet"),
        ("optimizer", "lion", "optimizer is 'lion'"),
        ("precision", "float16", "precision is 'float16'"),
        ("model", "resnet18", "model is 'resnet18', allowed: convnet, cifar-resnetN with N = 8"),
        ("model", "cifar-resnet57", "allowed: convnet, cifar-resnetN with N = 8, 14, 20"),
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


def test_parts_that_do_not_fit_together() -> None:
    with pytest.raises(InputError, match="label_smoothing is of the cross entropy, loss binary takes 0"):
        dataclasses.replace(get_recipe("rsb-a3"), label_smoothing=0.1)
    with pytest.raises(InputError, match="randaugment works on 8-bit images"):
        dataclasses.replace(get_recipe("cas-resnet50"), randaugment="rand-m6")


def test_a_record_of_another_type() -> None:
    for field, value in (
        ("widths", 5),
        ("widths", [True]),
        ("channel_mean", "abc"),
        ("model", 7),
        ("crop_area", [0.1]),
    ):
        with pytest.raises(InputError, match=f"recipe: {field} is"):
            Recipe.from_json({**get_recipe("digits").to_json(), field: value})


def test_a_record_of_other_fields() -> None:
    record = get_recipe("digits").to_json()
    with pytest.raises(InputError, match="fields differ from this caskit's: momentum, nesterov"):
        Recipe.from_json({**{k: v for k, v in record.items() if k != "momentum"}, "nesterov": True})
