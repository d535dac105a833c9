"""What one update computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from caskit.gen.adversarial.gan_task import GanTask
from caskit.gen.adversarial.standing import norms
from caskit.manifests.errors import InputError
from caskit.train.distributed import World
from caskit.train.images import Images


def make_task(tiny: Any, folder: Path, **changes: Any) -> GanTask:
    data = tiny.TinySet()
    return GanTask(Images(data), data.labels, 3, tiny.tiny_config(**changes), folder=folder, world=World())


def discriminator_gradients(tiny: Any, folder: Path, accumulation: int) -> dict[str, Tensor]:
    """One update whose noise does not depend on how the batch is divided, nor samples on those beside them."""
    task = make_task(tiny, folder, accumulation=accumulation)
    for norm in norms(task.generator).values():
        norm.eval()
    torch.manual_seed(9)
    latents, labels = torch.randn(16, 6), torch.randint(3, (16,))
    parts = iter(zip(latents.split(16 // accumulation), labels.split(16 // accumulation), strict=True))
    task._noise = lambda num: next(parts)  # type: ignore[method-assign]
    task._update_discriminator(0)
    return {name: p.grad for name, p in task.discriminator.named_parameters() if p.grad is not None}


def test_accumulated_gradients_of_the_discriminator_are_those_of_the_whole_batch(tiny: Any, tmp_path: Path) -> None:
    whole, parts = (discriminator_gradients(tiny, tmp_path, number) for number in (1, 4))
    assert whole.keys() == parts.keys() and len(whole) > 20
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text)
    assert max(float(gradient.abs().max()) for gradient in whole.values()) > 1e-3


def test_an_update_moves_its_own_network_alone_and_a_step_depends_on_the_seed(tiny: Any, tmp_path: Path) -> None:
    task = make_task(tiny, tmp_path)
    before = {name: tensor.clone() for name, tensor in task.generator.state_dict().items()}
    torch.manual_seed(1)
    task._update_discriminator(0)
    assert all(torch.equal(before[name], tensor) for name, tensor in task.generator.state_dict().items())
    kept = {name: tensor.clone() for name, tensor in task.discriminator.state_dict().items()}
    task._update_generator()
    assert all(torch.equal(kept[name], tensor) for name, tensor in task.discriminator.state_dict().items())
    moved = [name for name, tensor in task.generator.state_dict().items() if not torch.equal(before[name], tensor)]
    assert any(name.endswith("original") for name in moved) and "embedding.weight" in moved


def test_parts_that_do_not_divide_a_share_are_refused(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="accumulation is 3, must divide batch_size, 16"):
        make_task(tiny, tmp_path, accumulation=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"discriminator_rate": 0.0}, r"discriminator_rate is 0\.0"),
        ({"discriminator_width": 2}, r"discriminator_width is 2"),
        ({"mirrored": 1}, r"mirrored is 1, allowed: true, false"),
        ({"storage": "int8"}, r"storage is 'int8', allowed: float32, float16"),
        ({"ema_decay": float("nan")}, r"ema_decay is nan"),
        ({"precision": "float16"}, r"precision is 'float16'"),
    ],
)
def test_configs_that_cannot_be_are_refused(tiny: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny.tiny_config(**change)


def test_rates_fall_linearly_after_the_share_that_keeps_them(tiny: Any) -> None:
    config = tiny.tiny_config(num_steps=100, decay_after=0.6)
    assert [config.rate_factor(step) for step in (0, 59, 60, 80, 99)] == [1.0, 1.0, 1.0, 0.5, 0.025]
    assert tiny.tiny_config(num_steps=10, decay_after=1.0).rate_factor(9) == 1.0
