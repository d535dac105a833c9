import torch

from caskit.gen.adversarial.standing import norms, standing_moments, write_moments
from caskit.gen.biggan_deep.config import NetworkConfig
from caskit.gen.biggan_deep.network import Generator

TINY = NetworkConfig(width=8, multipliers=(2, 1), attention_after=0, latent_size=3, embedding_size=2)


def test_statistics_of_one_batch_are_its_moments_and_leave_the_generator_as_it_was() -> None:
    torch.manual_seed(0)
    generator = Generator(TINY, num_classes=2, channels=1, num_statistics=2).eval()
    batch = (torch.randn(16, 3), torch.arange(16) % 2)
    state = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    moments = standing_moments(generator, [batch])
    assert all(torch.equal(state[name], tensor) for name, tensor in generator.state_dict().items())
    assert not generator.training and all(not n.training and n.observe is None for n in norms(generator).values())
    assert moments.keys() == norms(generator).keys()
    write_moments(generator, moments, row=1)
    for norm in norms(generator).values():
        norm.row = 1
    evaluated = generator(*batch)
    generator.train()
    torch.testing.assert_close(generator(*batch), evaluated, rtol=1e-4, atol=1e-5)


def test_batches_count_by_their_size() -> None:
    """The first norm sees maps that do not depend on other samples: its statistics are those of all of them."""
    torch.manual_seed(0)
    generator = Generator(TINY, num_classes=2, channels=1).eval()
    latents, labels = torch.randn(24, 3), torch.arange(24) % 2
    parts = [(latents[:4], labels[:4]), (latents[4:], labels[4:])]
    name = "blocks.0.norms.0.norm"
    mean, variance = standing_moments(generator, parts)[name]
    whole_mean, whole_variance = standing_moments(generator, [(latents, labels)])[name]
    torch.testing.assert_close(mean, whole_mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(variance, whole_variance, rtol=1e-5, atol=1e-6)
