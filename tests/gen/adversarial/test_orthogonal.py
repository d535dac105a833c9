import torch
from torch import nn

from caskit.gen.adversarial.orthogonal import add_gradients, draw_weights, penalty, penalty_gradient, regularised
from caskit.gen.adversarial.spectral import normalise
from caskit.gen.biggan_deep.config import NetworkConfig
from caskit.gen.biggan_deep.network import Generator

TINY = NetworkConfig(width=4, multipliers=(2, 1), attention_after=0, latent_size=3, embedding_size=2)


def test_the_gradient_is_that_of_the_penalty() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    penalty(weight).backward()
    assert weight.grad is not None
    torch.testing.assert_close(penalty_gradient(weight.detach()), weight.grad)


def test_the_penalty_is_zero_for_unlike_filters_of_any_norm_and_counts_pairs_twice() -> None:
    assert float(penalty(torch.diag(torch.tensor([1.0, 5.0, 0.1])))) == 0
    assert float(penalty(torch.tensor([[1.0, 2.0], [3.0, 1.0]]))) == 2 * 5.0**2


def test_weights_are_drawn_orthogonal_and_biases_are_zero() -> None:
    torch.manual_seed(0)
    generator = Generator(TINY, num_classes=2, channels=1)
    draw_weights(generator)
    rows = generator.first.weight  # [128, 5]
    torch.testing.assert_close(rows.T @ rows, torch.eye(5))
    kernel = generator.blocks[0].convolutions[1].weight.flatten(1)  # type: ignore[union-attr,index,operator]
    torch.testing.assert_close(kernel @ kernel.T, torch.eye(len(kernel)))
    assert not generator.image.bias.any()  # type: ignore[union-attr]


def test_embeddings_and_vectors_are_not_regularised_but_normalised_weights_are() -> None:
    torch.manual_seed(0)
    generator = Generator(TINY, num_classes=2, channels=1)
    draw_weights(generator)
    normalise(generator, 1e-4, keep=generator.embedding)
    matrices = [m for m in generator.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(list(regularised(generator))) == len(matrices)
    assert id(generator.embedding.weight) not in {id(p) for p in regularised(generator)}
    for parameter in generator.parameters():
        parameter.grad = torch.zeros_like(parameter)
    add_gradients(generator, 0.5)
    raw = generator.first.parametrizations["weight"].original  # type: ignore[index]
    torch.testing.assert_close(raw.grad, 0.5 * penalty_gradient(raw.detach()))
    assert raw.grad.abs().max() > 0
    assert generator.embedding.weight.grad is not None and not generator.embedding.weight.grad.any()
