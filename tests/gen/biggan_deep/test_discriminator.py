"""The discriminator's shapes and the projection of the class."""

import pytest
import torch

from caskit.gen.adversarial.orthogonal import draw_weights
from caskit.gen.biggan_deep.config import NetworkConfig
from caskit.gen.biggan_deep.discriminator import Block, Discriminator

SMALL = NetworkConfig(width=8, multipliers=(4, 4, 2), start_size=7, attention_after=1, latent_size=6, embedding_size=5)


def test_the_class_changes_a_score_by_its_projection_alone() -> None:
    torch.manual_seed(0)
    model = Discriminator(SMALL, width=8, num_classes=3, channels=1)
    draw_weights(model)
    images = torch.rand(4, 1, 28, 28) * 2 - 1
    first, other = torch.zeros(4, dtype=torch.long), torch.full((4,), 2)
    features = model.features(images)
    difference = model.embedding.weight[2] - model.embedding.weight[0]
    torch.testing.assert_close(model(images, other) - model(images, first), features @ difference)
    assert (features >= 0).all() and features.std(dim=0).max() > 0
    with torch.no_grad():
        model.embedding.weight.zero_()
    torch.testing.assert_close(model(images, other), model.score(features)[:, 0])


def test_attention_reads_a_map_of_the_size_that_the_generators_reads() -> None:
    model = Discriminator(SMALL, width=8, num_classes=3, channels=1)
    seen: list[tuple[int, ...]] = []
    assert model.attention is not None
    model.attention.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape[1:])))
    model(torch.zeros(1, 1, 28, 28), torch.tensor([1]))
    assert seen == [(SMALL.attention_channels, SMALL.attention_size, SMALL.attention_size)]


@pytest.mark.parametrize(("multipliers", "after"), [((16, 16, 8, 4, 2, 1), 4), ((16, 16, 8, 8, 4, 2, 1, 1), 4)])
def test_attention_of_the_published_sizes_is_at_64(multipliers: tuple[int, ...], after: int) -> None:
    config = NetworkConfig(multipliers=multipliers, attention_after=after)
    with torch.device("meta"):
        model = Discriminator(config, width=128, num_classes=1000, channels=3)
    assert config.image_size >> (model.attention_after // 2) == 64
    assert model.score.in_features == 16 * 128


def test_a_block_keeps_its_input_beside_what_it_adds() -> None:
    torch.manual_seed(0)
    block = Block(8, 12, halves=True)
    with torch.no_grad():
        block.convolutions[3].weight.zero_()
        block.convolutions[3].bias.zero_()
    maps = torch.randn(2, 8, 4, 4)
    out = block(maps)
    pooled = maps.reshape(2, 8, 2, 2, 2, 2).mean(dim=(3, 5))
    assert out.shape == (2, 12, 2, 2)
    torch.testing.assert_close(out[:, :8], pooled)
    assert block.skip is not None
    torch.testing.assert_close(out[:, 8:], block.skip(pooled))
    assert Block(8, 8, halves=False).skip is None
