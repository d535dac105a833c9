import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from caskit.gen.adversarial.orthogonal import draw_weights
from caskit.gen.adversarial.spectral import LAYERS, folded, iterate, normalise
from caskit.gen.biggan_deep.config import NetworkConfig
from caskit.gen.biggan_deep.network import Generator

TINY = NetworkConfig(width=8, multipliers=(2, 1), attention_after=0, latent_size=3, embedding_size=2)


def made(scale: float = 3.0) -> Generator:
    torch.manual_seed(0)
    generator = Generator(TINY, num_classes=2, channels=1)
    draw_weights(generator)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=scale)
    normalise(generator, TINY.norm_epsilon, keep=generator.embedding)
    return generator


def largest(weight: Tensor) -> float:
    return float(torch.linalg.svdvals(weight.detach().flatten(1).double())[0])


def test_folded_weights_have_norm_one_and_draw_what_the_normalised_ones_do() -> None:
    generator = made()
    iterate(generator, 300)
    plain = folded(generator)
    assert isinstance(plain, Generator)
    assert not any(parametrize.is_parametrized(part) for part in plain.modules())
    assert parametrize.is_parametrized(generator.first, "weight")
    assert plain.state_dict().keys() == Generator(TINY, num_classes=2, channels=1).state_dict().keys()
    for part in plain.modules():
        if isinstance(part, LAYERS) and part is not plain.embedding:
            assert abs(largest(part.weight) - 1) < 1e-4
    assert largest(plain.embedding.weight) > 1.5  # not normalised
    latents, labels = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
    torch.testing.assert_close(plain(latents, labels), generator(latents, labels), rtol=1e-3, atol=1e-4)


def test_only_iterate_moves_the_vectors_and_it_converges() -> None:
    layer = nn.Linear(12, 9, bias=False)
    normalise(layer, 1e-4)
    held = layer.parametrizations["weight"]  # type: ignore[index]
    with torch.no_grad():
        held.original.copy_(torch.randn(9, 12))
    before = held[0].u.clone()
    layer(torch.randn(3, 12)).sum().backward()
    assert torch.equal(before, held[0].u)
    iterate(layer, 500)
    assert not torch.equal(before, held[0].u)
    assert abs(largest(layer.weight) - 1) < 1e-4
    # W / sigma(W) does not change with the size of W, so its gradient is orthogonal to W.
    layer.zero_grad()
    layer(torch.randn(3, 12)).square().sum().backward()
    assert abs(float((held.original.grad * held.original.detach()).sum())) < 1e-3


def test_the_norm_is_computed_in_full_precision_under_autocast() -> None:
    layer = nn.Linear(40, 30, bias=False)
    normalise(layer, 1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        inside = layer.weight
    assert inside.dtype == torch.float32
    assert torch.equal(inside, layer.weight)
