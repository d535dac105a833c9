"""A prior learns a pattern, and a fit that was stopped goes on to the same weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from caskit.gen.autoregressive.fitting import PriorTask
from caskit.gen.autoregressive.pixelsnail import PixelSnail
from caskit.manifests.errors import NotFinished
from caskit.train.distributed import World
from caskit.train.engine import EngineConfig, run

NUM, STEPS = 24, 60
PEAK = {"adam": 1e-2, "muon": 3e-2}  # of the learning rate


@pytest.fixture
def make_task(make_prior: Callable[..., PixelSnail]) -> Callable[..., PriorTask]:
    """A prior on maps that their label and the map above decide."""

    def make(
        *,
        num_steps: int = STEPS,
        ema_decay: float = 0.9,
        variant: str = "condition",
        optimizer: str = "adam",
        num_variants: int = 1,
    ) -> PriorTask:
        model = make_prior(variant, dropout=0.1, num_variants=num_variants)
        labels = np.arange(NUM) % 3
        above = np.random.default_rng(0).integers(0, 9, size=(NUM, 2, 3)).astype(np.uint16)
        codes = (above.repeat(2, axis=1).repeat(2, axis=2) + labels[:, None, None]) % 9
        return PriorTask(
            model,
            np.concatenate([(codes + variant) % 9 for variant in range(num_variants)]).astype(np.uint16),
            labels,
            np.tile(above, (num_variants, 1, 1)) if model.condition is not None else None,
            num_steps=num_steps,
            batch_size=16,
            optimizer=optimizer,
            learning_rate=lambda step: PEAK[optimizer] * (1 - step / num_steps),
            ema_decay=ema_decay,
            seed=3,
            precision="float32",
            world=World(),
            num_variants=num_variants,
        )

    return make


def drive(task: PriorTask, out: Path, stop: Callable[[], bool] = lambda: False) -> None:
    run(task, out=out, identity={}, config=EngineConfig(seed=3, save_every=7), batch_size=16, stop=stop)  # type: ignore[arg-type]


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_prior_learns_a_pattern(make_task: Callable[..., PriorTask], optimizer: str) -> None:
    task = make_task(optimizer=optimizer)
    logged = [{name: float(value) for name, value in task.step(step).items()} for step in range(STEPS)]
    assert logged[0]["loss"] > 1.5
    assert logged[-1]["loss"] < 0.4 * logged[0]["loss"]
    assert logged[-1]["accuracy"] > 0.7 > logged[0]["accuracy"]
    peak = PEAK[optimizer]
    assert [entry["lr"] for entry in logged[:2]] == [peak, pytest.approx(peak * 59 / 60)]


def test_variants_are_learnt_apart_and_the_first_one_is_kept(make_task: Callable[..., PriorTask]) -> None:
    """Variant v adds v to all codes, so a prior that mixed them up could not know the first code of a map."""
    task = make_task(num_steps=150, num_variants=3)
    losses = [float(task.step(step)["loss"]) for step in range(150)]
    assert losses[-1] < 0.4 * losses[0]
    fitted, average = task.fitted, task._ema.model  # type: ignore[union-attr]
    assert fitted.variant_positions is None and average.variant_positions is not None
    codes, labels, above = (
        torch.from_numpy(values.astype(np.int64)) for values in (task._codes, task._labels, task._above)
    )  # type: ignore[arg-type]
    first, variants = slice(0, NUM), torch.zeros(NUM, dtype=torch.int64)
    with torch.no_grad():
        kept = fitted.eval()(codes[first], labels, above[first])
        torch.testing.assert_close(kept, average(codes[first], labels, above[first], variants), rtol=1e-4, atol=1e-4)
        by_variant = [float(cross_entropy(kept, codes[v * NUM : (v + 1) * NUM])) for v in range(3)]
    assert by_variant[0] < 0.5 * min(by_variant[1:])


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_fit_stopped_again_and_again_ends_with_equal_weights(
    make_task: Callable[..., PriorTask], tmp_path: Path, optimizer: str
) -> None:
    whole = make_task(num_steps=20, optimizer=optimizer)
    drive(whole, tmp_path / "whole")
    stops = 0
    while True:
        task, asked = make_task(num_steps=20, optimizer=optimizer), iter([False] * 3 + [True])
        try:
            drive(task, tmp_path / "parts", stop=lambda: next(asked))  # noqa: B023
            break
        except NotFinished:
            stops += 1
    assert stops == 4
    for one, other in ((whole.model, task.model), (whole.fitted, task.fitted)):
        for name, tensor in one.state_dict().items():
            assert torch.equal(other.state_dict()[name], tensor), name


def test_the_average_of_the_weights_is_kept_where_there_is_one(make_task: Callable[..., PriorTask]) -> None:
    task = make_task(num_steps=3)
    expected = {name: value.clone() for name, value in task.model.named_parameters()}
    for step in range(3):
        task.step(step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in task.model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach()
    assert task.fitted is not task.model
    for name, value in task.fitted.named_parameters():
        torch.testing.assert_close(value, expected[name].detach())

    without = make_task(num_steps=3, ema_decay=0.0)
    without.step(0)
    assert without.fitted is without.model


def test_a_state_of_one_task_is_that_of_another(make_task: Callable[..., PriorTask]) -> None:
    one, other = make_task(num_steps=4, variant="attention"), make_task(num_steps=4, variant="attention")
    one.step(0)
    other.load_state_dict(one.state_dict())
    torch.manual_seed(1)
    expected = one.step(1)
    torch.manual_seed(1)
    assert other.step(1)["loss"] == expected["loss"]
