"""Statistics computed again: they are those of the law that was asked for, and the same from every process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit import cli
from caskit.gen.adversarial.norm import Norm
from caskit.gen.biggan_deep.config import NetworkConfig, Settings
from caskit.gen.biggan_deep.deriving import DeriveConfig, derive
from caskit.gen.biggan_deep.network import Generator
from caskit.gen.biggan_deep.sampler import describe, load
from caskit.gen.biggan_deep.weights import load_network
from caskit.gen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from caskit.gen.streams import Streams
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.manifests.seeds import stream_key

CPU = torch.device("cpu")
CONFIG = NetworkConfig(width=8, multipliers=(4, 2), attention_after=0, latent_size=6, embedding_size=5)
DERIVE = DeriveConfig(z_scale=1.5, num_batches=6, batch_size=16, seed=3)
DERIVE_AGAIN = """
import sys, torch
from pathlib import Path
from caskit.gen.biggan_deep.deriving import DeriveConfig, derive
from caskit.gen.checkpoint import load_checkpoint
config = DeriveConfig(z_scale=1.5, num_batches=6, batch_size=16, seed=3)
print(derive(load_checkpoint(Path(sys.argv[1])), config, Path(sys.argv[2]), device=torch.device("cpu")).checkpoint_id)
"""


def save(folder: Path, num_statistics: int = 51, scale: float = 0.05) -> Checkpoint:
    torch.manual_seed(0)
    generator = Generator(CONFIG, num_classes=3, channels=1, num_statistics=num_statistics)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=scale)
    law = {"kind": "standing", "z_law": "normal"}
    return save_checkpoint(
        folder,
        family="biggan_deep",
        preset="tiny",
        config={
            "network": CONFIG.to_json(),
            "statistics": law if num_statistics == 1 else {"kind": "table", "num": num_statistics},
            "kept": "as it was",
        },
        classes=ClassList.from_names(["a", "b", "c"]),
        height=8,
        width=8,
        channels=1,
        tensors=generator.state_dict(),
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return save(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def derived(source: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return derive(source, DERIVE, tmp_path_factory.mktemp("derived"), device=CPU)


def test_the_record_says_all_that_was_done(source: Checkpoint, derived: Checkpoint) -> None:
    record = load_checkpoint(derived.path, derived.checkpoint_id).record
    assert record["derived_from"] == source.checkpoint_id != derived.checkpoint_id
    law = {"z_scale": 1.5, "z_mode": "scale", "num_batches": 6, "batch_size": 16, "seed": 3}
    assert record["config"]["statistics"] == {"kind": "standing", **law}
    assert json.loads(record["transform"]) == {"name": "standing-statistics", **law, "threads": 1, "device": "cpu"}
    assert record["config"]["kept"] == "as it was" and record["classes"] == source.record["classes"]


def test_the_weights_are_those_it_came_from(source: Checkpoint, derived: Checkpoint) -> None:
    before, after = source.tensors(), derived.tensors()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if name.endswith(("means", "variances")):
            assert tensor.shape[0] == 51 and after[name].shape == (1, *tensor.shape[1:])
            assert after[name].dtype == torch.float32 and after[name].std() > 0
        else:
            assert torch.equal(tensor, after[name])


def test_the_first_norm_has_the_moments_of_what_it_sees(source: Checkpoint, derived: Checkpoint) -> None:
    """Nothing is normalised before it, so they can be computed from any sample of the law."""
    generator, _ = load_network(source)
    norm = generator.blocks[0].norms[0].norm  # type: ignore[index, union-attr]
    assert isinstance(norm, Norm)
    streams = Streams([stream_key(9, 0, i, 0) for i in range(4000)])
    latents = torch.from_numpy((1.5 * streams.truncated_normal("z", (6,), 2.0)).astype(np.float32))
    with torch.no_grad():
        condition = torch.cat((latents, generator.embedding(torch.arange(4000) % 3)), dim=1)
        maps = generator.first(condition).reshape(-1, 32)
    after = derived.tensors()
    mean, variance = after["blocks.0.norms.0.norm.means"][0], after["blocks.0.norms.0.norm.variances"][0]
    assert (mean - maps.mean(dim=0)).abs().max() < 0.25 * maps.std()
    assert torch.allclose(variance, maps.var(dim=0), rtol=0.35)


def test_three_processes_give_one_id(source: Checkpoint, derived: Checkpoint, tmp_path: Path) -> None:
    ids = {derived.checkpoint_id}
    for process in range(2):
        environment = {**os.environ, "PYTHONHASHSEED": str(process)}
        command = [sys.executable, "-c", DERIVE_AGAIN, str(source.path), str(tmp_path / str(process))]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        ids.add(done.stdout.strip())
    assert len(ids) == 1


def test_what_decides_the_statistics_decides_the_id(source: Checkpoint, derived: Checkpoint, tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{"z_scale": 1.0}, {"z_mode": "resample"}, {"seed": 4}, {"num_batches": 5}]
    ids = {derived.checkpoint_id}
    for place, change in enumerate(changes):
        config = DeriveConfig(**{"z_scale": 1.5, "num_batches": 6, "batch_size": 16, "seed": 3, **change})
        ids.add(derive(source, config, tmp_path / str(place), device=CPU).checkpoint_id)
    assert len(ids) == 1 + len(changes)


def test_a_derived_checkpoint_is_sampled_and_derived_again(derived: Checkpoint, tmp_path: Path) -> None:
    sentence = describe(derived.record, Settings(z_scale=1.5))
    assert sentence == "batch-norm statistics: one set (standing), for z_scale 1.5 (scale)"
    images, finite = load(derived, Settings(z_scale=1.5), CPU).sample(
        np.array([0, 1]), Streams([stream_key(0, 0, 0, 0), stream_key(0, 1, 0, 0)])
    )
    assert images.shape == (2, 8, 8, 1) and finite.all()
    with pytest.raises(InputError, match="has no table"):
        load(derived, Settings(z_scale=1.5, bn_truncation=1.0), CPU)
    again = derive(derived, DERIVE, tmp_path, device=CPU)
    assert again.record["derived_from"] == derived.checkpoint_id
    tensors = derived.tensors()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in again.tensors().items())


def test_what_is_there_is_not_computed_again(source: Checkpoint, derived: Checkpoint) -> None:
    def stop() -> bool:
        raise AssertionError("it computed")

    assert derive(source, DERIVE, derived.path, device=CPU, stop=stop).checkpoint_id == derived.checkpoint_id
    with pytest.raises(InputError, match="holds another checkpoint"):
        derive(source, DeriveConfig(z_scale=1.5), derived.path, device=CPU)


def test_the_command_derives_with_flags_for_the_law(
    source: Checkpoint, derived: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [word for text in ("num_batches=6", "batch_size=16", "seed=3") for word in ("--set", text)]
    command = ["derive", "--gen", "biggan_deep", "--checkpoint", str(source.path), "--z-scale", "1.5", *settings]
    assert cli.main([*command, "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert f"derived from {source.checkpoint_id}" in out and f"checkpoint   {derived.checkpoint_id}" in out
    assert cli.main([*command, "--set", "z_mode=resample", "--out", str(tmp_path / "out")]) == 2
    assert "no such field, allowed: num_batches, batch_size, seed, threads" in capsys.readouterr().err


def test_a_stop_leaves_nothing(source: Checkpoint, tmp_path: Path) -> None:
    done: list[int] = []
    with pytest.raises(NotFinished, match="after 2 of 6 batches, nothing was written"):
        derive(
            source,
            DERIVE,
            tmp_path / "out",
            device=CPU,
            progress=lambda batch, _: done.append(batch),
            stop=lambda: len(done) == 2,
        )
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_derived_is_refused(source: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is the folder of the checkpoint to derive from"):
        derive(source, DERIVE, source.path, device=CPU)
    with pytest.raises(InputError, match="batch_size is 1, allowed"):
        DeriveConfig(batch_size=1)
    with pytest.raises(InputError, match="z_mode is 'clip'"):
        DeriveConfig(z_mode="clip")
    broken = save(tmp_path / "broken", 1, scale=1e30)
    with pytest.raises(RunFailed, match="statistics of .* at z_scale 1.5 are not finite"):
        derive(broken, DERIVE, tmp_path / "out", device=CPU)
