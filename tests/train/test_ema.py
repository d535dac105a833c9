import torch
from torch import nn

from caskit.train.ema import Ema


def test_equals_the_recursion_and_copies_buffers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ema = Ema(model, 0.5)
    expected = model[0].weight.detach().clone()
    for update in range(8):
        with torch.no_grad():
            model[0].weight.add_(torch.randn(4, 3))
        model(torch.randn(5, 3))
        ema.update(model)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * model[0].weight.detach()
    torch.testing.assert_close(ema.model[0].weight, expected)
    assert torch.equal(ema.model[1].running_var, model[1].running_var)
    assert not ema.model.training
    assert not any(p.requires_grad for p in ema.model.parameters())


def test_resumes() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    ema, other = Ema(model, 0.9), Ema(nn.Linear(3, 4), 0.9)
    ema.update(model)
    other.load_state_dict(ema.state_dict())
    with torch.no_grad():
        model.weight.add_(1.0)
    ema.update(model)
    other.update(model)
    assert torch.equal(ema.model.weight, other.model.weight)
