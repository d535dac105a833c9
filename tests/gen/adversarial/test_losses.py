import pytest
import torch

from caskit.gen.adversarial.losses import discriminator_loss, generator_loss, saturation


def test_hinge_losses_are_those_computed_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0])
    # 1 - D(x): -1, 0.5, 2, so 0 + 0.5 + 2 over 3; 1 + D(G(z)): -2, 1, so 0 + 1 over 2.
    assert float(discriminator_loss(real, fake)) == pytest.approx(2.5 / 3 + 0.5)
    assert float(generator_loss(fake)) == 1.5
    assert float(saturation(real, fake)) == pytest.approx(2 / 5)


def test_beyond_the_hinge_there_is_no_gradient() -> None:
    real, fake = torch.tensor([2.0, 0.5], requires_grad=True), torch.tensor([-3.0, 0.0], requires_grad=True)
    discriminator_loss(real, fake).backward()
    assert real.grad is not None and real.grad.tolist() == [0.0, -0.5]
    assert fake.grad is not None and fake.grad.tolist() == [0.0, 0.5]
