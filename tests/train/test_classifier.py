import dataclasses
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from caskit.manifests.errors import InputError
from caskit.train.classifier import build_model, normalise, prepare
from caskit.train.presets import cas_resnet50
from caskit.train.recipes import Recipe

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)


def tiny(**changes: Any) -> Recipe:
    base = Recipe(
        name="tiny",
        widths=(4, 6),
        num_poolings=1,
        resolution=8,
        num_steps=10,
        batch_size=8,
        bn_batch=8,
        learning_rate=0.1,
        optimizer="momentum",
        momentum=0.0,
        weight_decay=0.0,
    )
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize("channels", [1, 3])
def test_networks_map_images_to_logits(channels: int) -> None:
    for recipe in (
        tiny(),
        tiny(model="cifar-resnet8"),
        tiny(model="timm:test_resnet", resolution=64),
        tiny(model="timm:test_vit", resolution=64),
    ):
        model = build_model(recipe, 5, channels).eval()
        images = np.zeros((2, recipe.resolution, recipe.resolution, channels), dtype=np.uint8)
        assert model(normalise(images, recipe, CPU)).shape == (2, 5)


def test_unknown_parts() -> None:
    with pytest.raises(InputError, match="has no 'resnet1e9'"):
        build_model(tiny(model="timm:resnet1e9"), 3, 1)
    with pytest.raises(InputError, match="activation is 'step'"):
        build_model(tiny(activation="step"), 3, 1)


def test_normalise() -> None:
    tensor = normalise(IMAGES, tiny(mean=0.25, std=0.5), CPU)
    expected = (IMAGES.astype(np.float64) / 255 - 0.25) / 0.5
    np.testing.assert_allclose(tensor.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)
    assert normalise(np.repeat(IMAGES, 3, axis=3), tiny(), CPU).is_contiguous(memory_format=torch.channels_last)


def test_a_model_that_timm_cannot_make_for_these_images(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, **options: Any) -> nn.Module:
        raise TypeError(f"{name} takes no {max(options)}")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(
        InputError, match=r"timm's model 'test_vit' cannot be made with num_classes=3, .*img_size=64: test"
    ):
        build_model(tiny(model="timm:test_vit", resolution=64), 3, 1)


def test_channels_have_means_of_their_own_and_pixels_stay() -> None:
    images = np.random.default_rng(1).uniform(-20, 280, (2, 4, 4, 3)).astype(np.float32)
    before = images.copy()
    recipe = tiny(channel_mean=(0.1, 0.2, 0.3), channel_std=(0.5, 0.4, 0.3))
    expected = (images.astype(np.float64) / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.4, 0.3]
    np.testing.assert_allclose(normalise(images, recipe, CPU).permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)
    assert np.array_equal(images, before)


def test_the_residual_network_for_cifar_is_the_one_of_the_paper() -> None:
    """He et al. 2015, table 6: 20 layers have 0.27 M parameters, 56 have 0.85 M."""
    for depth, millions in ((20, 0.27), (56, 0.85)):
        model = build_model(tiny(model=f"cifar-resnet{depth}", resolution=32), 10, 3)
        layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert len(layers) == depth
        assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions
    shapes = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, i, o, name=name: shapes.update({name: tuple(o.shape[1:])}))
    model.eval()(torch.zeros(1, 3, 32, 32))
    stages = [shapes["blocks.8"], shapes["blocks.17"], shapes["blocks.26"]]
    assert stages == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_a_shortcut_takes_every_second_pixel_and_fills_up_with_zeros() -> None:
    model = build_model(tiny(model="cifar-resnet8", resolution=32), 3, 1).eval()
    block = model.blocks[1]
    nn.init.zeros_(block.norm2.weight)
    maps = torch.rand(1, 16, 32, 32)
    expected = torch.cat([maps[:, :, ::2, ::2], torch.zeros(1, 16, 16, 16)], dim=1)
    assert torch.equal(block(maps), expected)


def test_first_weights_of_the_papers_classifier() -> None:
    """tensorflow/tpu, resnet_model.py: variance_scaling for convolutions, 0.01 for the last layer, 0 ends a block."""
    torch.manual_seed(0)
    model = build_model(dataclasses.replace(cas_resnet50(), resolution=64), 1000, 3)
    assert sum(parameter.numel() for parameter in model.parameters()) == 25_557_032
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 1e5:
            fan_in = module.weight[0].numel()
            assert module.weight.std().item() * fan_in**0.5 == pytest.approx(1, rel=0.02), name
            assert module.weight.abs().max().item() * fan_in**0.5 <= 2 / 0.8796, name
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not model.fc.bias.any()
    assert all(not block.bn3.weight.any() for layer in (model.layer1, model.layer4) for block in layer)
    assert model.layer2[0].conv2.stride == (2, 2), "the 3x3 convolution is the one with the stride"
    assert (model.bn1.eps, model.bn1.momentum) == (1e-5, 0.1)


def test_tests_see_the_centre_at_their_own_resolution() -> None:
    recipe = tiny(crop="uniform-area", eval_crop=0.5, eval_resolution=6, mean=0.0, std=1.0)
    image = np.zeros((16, 20, 1), dtype=np.uint8)
    image[4:12, 6:14] = 255
    seen = prepare([image, image[:12]], recipe, CPU)
    assert seen.shape == (2, 1, 6, 6)
    assert bool((seen[0] == 1).all())
    assert not bool((seen[1] == 1).all())
    assert torch.equal(prepare(IMAGES, tiny(), CPU), normalise(IMAGES, tiny(), CPU))
