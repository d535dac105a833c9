import pytest
import torch

from caskit.gen.biggan_deep.config import NetworkConfig, Settings
from caskit.gen.biggan_deep.network import Generator
from caskit.manifests.errors import InputError

SMALL = NetworkConfig(width=8, multipliers=(4, 4, 2), start_size=7, attention_after=1, latent_size=6, embedding_size=5)


@pytest.mark.parametrize(
    ("size", "multipliers", "millions"),
    [
        (128, (16, 16, 8, 4, 2, 1), 50.244),
        (256, (16, 16, 8, 8, 4, 2, 1), 55.737),
        (512, (16, 16, 8, 8, 4, 2, 1, 1), 56.020),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(size, multipliers, millions):
    """50.4, 55.9 and 56.2 million there, where the last convolution has 125 outputs more, which are never used."""
    config = NetworkConfig(multipliers=multipliers)
    with torch.device("meta"):
        generator = Generator(config, num_classes=1000, channels=3)
    assert config.image_size == size
    assert sum(p.numel() for p in generator.parameters()) / 1e6 == pytest.approx(millions, abs=1e-3)


def test_attention_stands_between_the_stages_it_says():
    generator = Generator(SMALL, num_classes=3, channels=1).eval()
    latents, labels = torch.randn(2, 6), torch.tensor([0, 2])
    seen = []
    for number, block in enumerate(generator.blocks):
        block.register_forward_hook(lambda *_, number=number: seen.append(number))
    assert generator.attention is not None
    generator.attention.register_forward_hook(lambda *_: seen.append("attention"))
    with torch.no_grad():
        images = generator(latents, labels)
        assert images.shape == (2, 1, 28, 28)
        assert images.abs().max() < 1
        generator.attention.gamma.fill_(1.0)
        assert not torch.equal(generator(latents, labels), images)
    assert seen[:5] == [0, 1, "attention", 2, 3]


def test_norms_use_the_batch_while_training_and_their_tables_after_it():
    torch.manual_seed(0)
    generator = Generator(SMALL, num_classes=3, channels=1, num_statistics=2)
    norm = generator.norm
    maps = torch.randn(4, 16, 5, 5) * 3 + 2
    observed = []
    norm.observe = lambda mean, variance: observed.append((mean, variance))
    out = norm(maps, torch.ones(16), torch.zeros(16))
    assert out.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert torch.allclose(out.var(dim=(0, 2, 3), correction=0), torch.ones(16), atol=1e-3)
    (moments,) = observed
    assert torch.allclose(moments[0], maps.mean(dim=(0, 2, 3)))
    norm.eval()
    norm.means[1], norm.variances[1] = moments
    assert torch.allclose(norm(maps, torch.ones(16), torch.zeros(16)), maps / (1 + 1e-4) ** 0.5, atol=1e-5)
    norm.row = 1
    assert torch.allclose(norm(maps, torch.ones(16), torch.zeros(16)), out, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"multipliers": (2, 4)}, r"multipliers grow from 2 to 4"),
        ({"multipliers": (4,)}, r"multipliers are 1, allowed: 2\.\.12"),
        ({"width": 0}, r"width is 0"),
        ({"multipliers": (1, 1), "width": 2}, r"a block needs 4 channels"),
        ({"attention_after": 2}, r"attention_after is 2, allowed: whole numbers 0\.\.1"),
        ({"start_size": 7, "width": 1, "multipliers": (4, 4, 4)}, r"attention needs 8 channels and even sides"),
    ],
)
def test_layers_that_cannot_be_are_refused(change, message):
    fields = {"width": 8, "multipliers": (4, 4, 2), "attention_after": 1, **change}
    with pytest.raises(InputError, match=message):
        NetworkConfig(**fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z_scale": 0.0}, r"z_scale is 0\.0"),
        ({"z_mode": "clip"}, r"z_mode is 'clip', allowed: scale, resample"),
        ({"bn_truncation": 1.5}, r"bn_truncation is 1\.5, allowed: numbers 0\.0\.\.1\.0"),
        ({"bn_interpolation": "swapped"}, r"allowed: corrected, as-published"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        Settings(**change)
