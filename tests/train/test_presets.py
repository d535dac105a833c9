"""The recipes against what was published, number by number; learning rates and decay are in their own files."""

import re

import pytest

from caskit.manifests.errors import InputError
from caskit.train.presets import (
    RECIPES,
    cas_resnet50,
    cas_resnet50_tpu128,
    cifar_resnet56,
    get_recipe,
    imagenet_hour,
    rsb_a3,
)


@pytest.mark.parametrize("name", RECIPES)
def test_a_docstring_names_its_command(name: str) -> None:
    docstring = " ".join((RECIPES[name].__doc__ or "").split())
    command = re.search(r"Command: (.*?) Hardware and time:", docstring)
    assert command is not None and "caskit train --data" in command[1] and f"--recipe {name} " in command[1]
    assert "top-1" in docstring or "score: not published" in docstring


def test_the_papers_classifier() -> None:
    """Ravuri & Vinyals 2019 and tensorflow/tpu, models/official/resnet: what is in neither is a default of the code."""
    recipe = cas_resnet50()
    assert recipe.model == "timm:resnet50"
    assert (recipe.batch_size, recipe.bn_batch) == (1024, 1024 // 8), "8 cores, batch norms of each alone"
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay) == ("nesterov", 0.9, 1e-4)
    assert (recipe.label_smoothing, recipe.dropout, recipe.mixup, recipe.cutmix, recipe.ema_decay) == (0, 0, 0, 0, 0)
    assert (recipe.resolution, recipe.test_resolution, recipe.eval_crop) == (224, 224, 224 / (224 + 32))
    assert (recipe.crop, recipe.crop_area, recipe.interpolation) == ("inception", (0.08, 1.0), "bicubic-tf1")
    assert (recipe.flip, recipe.shift, recipe.randaugment) == ("random", 0, ""), "flips and no colours"
    assert recipe.channel_mean == (0.485, 0.456, 0.406)
    assert recipe.channel_std == (0.229, 0.224, 0.225)
    assert recipe.precision == "bfloat16"


def test_the_128_cores_differ_in_what_the_configuration_says() -> None:
    ours, theirs = cas_resnet50_tpu128().to_json(), cas_resnet50().to_json()
    differing = {name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)}
    schedule = {"num_steps", "learning_rate", "warmup", "decay", "drops", "final_rate"}
    assert differing == {"name", "batch_size", "optimizer", "decayed", "label_smoothing"} | schedule
    assert cas_resnet50_tpu128().num_parts == 128


def test_he_et_al() -> None:
    """Section 4.2: batch 128, momentum 0.9, decay 1e-4, 4 pixels of padding, flips, 64k steps."""
    recipe = cifar_resnet56()
    assert (recipe.batch_size, recipe.num_steps, recipe.drops) == (128, 64_000, (32_000, 48_000))
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay, recipe.decayed) == ("momentum", 0.9, 1e-4, "all")
    assert (recipe.shift, recipe.flip, recipe.crop, recipe.warmup) == (4, "random", "none", 0)


def test_procedure_a3() -> None:
    """Wightman et al. 2021, table 2, column A3."""
    recipe = rsb_a3()
    assert (recipe.resolution, recipe.test_resolution, recipe.eval_crop) == (160, 224, 0.95)
    assert recipe.num_steps * recipe.batch_size / 1_281_167 == pytest.approx(100, abs=0.01)
    assert (recipe.batch_size, recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == (
        2048,
        "lamb",
        8e-3,
        0.02,
    )
    assert (recipe.decay, recipe.warmup) == ("cosine", 5 / 100)
    assert (recipe.mixup, recipe.cutmix, recipe.randaugment) == (0.1, 1.0, "rand-m6-mstd0.5-inc1")
    assert (recipe.loss, recipe.label_smoothing, recipe.dropout, recipe.ema_decay) == ("binary", 0, 0, 0)


def test_an_hour_of_a_gpu_is_an_hour_and_says_that_it_is_not_the_papers() -> None:
    recipe = imagenet_hour()
    num_images = recipe.num_steps * recipe.batch_size
    assert num_images / 1_281_167 == pytest.approx(18, abs=0.01)
    images_per_s = 2_500 * (224 / recipe.resolution) ** 2  # the rate that cas-resnet50 is told for, by pixels
    assert 45 * 60 < num_images / images_per_s < 3600
    assert "not the paper's" in (imagenet_hour.__doc__ or "")
    papers = cas_resnet50()
    assert (recipe.model, recipe.batch_size) == (papers.model, papers.batch_size)
    assert recipe.recipe_id != papers.recipe_id and recipe.num_steps * 4 < papers.num_steps


def test_unknown_name_lists_all() -> None:
    with pytest.raises(
        InputError, match="use one of fashion-mnist, digits, cifar-resnet56, cas-resnet50, cas-resnet50-tpu128"
    ):
        get_recipe("resnet")
