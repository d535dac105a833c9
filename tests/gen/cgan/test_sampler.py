"""An image depends on its stream and its label, to the last bit in whatever microbatch."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from caskit.gen.cgan import CganGenerator, Settings, load
from caskit.gen.cgan.sampler import PART_SIZE, quantise
from caskit.gen.checkpoint import RECORD_NAME, Checkpoint, load_checkpoint, save_checkpoint
from caskit.gen.contract import CHECK_NUM, check_generator
from caskit.gen.planning import make_plan
from caskit.gen.streams import Streams
from caskit.manifests.errors import InputError
from caskit.manifests.seeds import stream_key

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def generator(fitted: Path) -> CganGenerator:
    return load(load_checkpoint(fitted), Settings(), CPU)


def streams_of(labels: np.ndarray, places: np.ndarray) -> Streams:
    return Streams([stream_key(0, int(label), int(place), 0) for label, place in zip(labels, places, strict=True)])


def test_bits_depend_on_neither_the_size_of_a_microbatch_nor_the_place_in_it(generator: CganGenerator) -> None:
    num = 2 * PART_SIZE + 7
    labels, places = np.arange(num) % 3, np.arange(num)
    images, finite = generator.sample(labels, streams_of(labels, places))
    assert images.shape == (num, 8, 8, 1) and images.dtype == np.uint8 and finite.all()
    assert len({image.tobytes() for image in images}) == num
    for size in (1, 13, PART_SIZE):
        parts = [ids for ids in np.array_split(places, range(size, num, size)) if len(ids)]
        drawn = np.concatenate([generator.sample(labels[ids], streams_of(labels[ids], ids))[0] for ids in parts])
        assert np.array_equal(drawn, images), size
    turned = np.random.default_rng(0).permutation(num)
    drawn, _ = generator.sample(labels[turned], streams_of(labels[turned], turned))
    assert np.array_equal(drawn, images[turned])


def test_the_contract_is_kept(fitted: Path) -> None:
    plan = make_plan(load_checkpoint(fitted), num=CHECK_NUM * 20, microbatch_size=20)
    contract = check_generator(plan, checkpoint=fitted, elsewhere=False)
    assert contract.problems == []


def test_latents_are_scaled_normals(fitted: Path, generator: CganGenerator) -> None:
    labels = np.zeros(4, dtype=np.int64)
    streams = streams_of(labels, np.arange(4))
    latents = torch.from_numpy(streams.normal("cgan/latent", (6,)).astype(np.float32))
    for scale in (1.0, 0.5):
        scaled = load(load_checkpoint(fitted), Settings(z_scale=scale), CPU)
        with torch.inference_mode():
            expected, _ = quantise(scaled._network(scale * latents, torch.zeros(4, dtype=torch.long)))
        found, _ = scaled.sample(labels, streams_of(labels, np.arange(4)))
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_pixels_are_rounded_as_they_were_read_and_what_is_no_number_is_told() -> None:
    values = torch.arange(256, dtype=torch.float32)
    images = (values / 127.5 - 1).reshape(1, 1, 16, 16).repeat(2, 1, 1, 1)
    images[1, 0, 3, 4] = float("nan")
    pixels, finite = quantise(images)
    assert np.array_equal(pixels[0].ravel(), np.arange(256)) and finite.tolist() == [True, False]
    assert pixels[1, 3, 4, 0] == 0


def changed(fitted: Path, folder: Path, **changes: object) -> Checkpoint:
    """The fitted tensors under another record."""
    checkpoint = load_checkpoint(fitted)
    record = checkpoint.record
    fields = {name: record[name] for name in ("family", "preset", "config", "height", "width", "channels")}
    shutil.copytree(fitted, folder, ignore=shutil.ignore_patterns("_work", RECORD_NAME))
    fields |= changes
    return save_checkpoint(folder, classes=checkpoint.classes, tensors=checkpoint.tensors(), **fields)  # type: ignore[arg-type]


def test_checkpoints_that_do_not_hold_what_they_say_are_refused(fitted: Path, tmp_path: Path) -> None:
    config = load_checkpoint(fitted).record["config"]
    wider = {**config, "network": {**config["network"], "latent_size": 7}}
    with pytest.raises(InputError, match="tensors do not go with the config, first first.weight"):
        load(changed(fitted, tmp_path / "wider", config=wider), Settings(), CPU)
    other = {**config, "network": {"width": 3}}
    with pytest.raises(InputError, match="other: config: network is not that of this family"):
        load(changed(fitted, tmp_path / "other", config=other), Settings(), CPU)
    with pytest.raises(InputError, match="says images of 16x8, its layers give 8"):
        load(changed(fitted, tmp_path / "tall", height=16), Settings(), CPU)
