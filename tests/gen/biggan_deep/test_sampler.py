from typing import Any

import numpy as np
import pytest
import torch

from caskit.gen.adversarial.norm import Norm
from caskit.gen.biggan_deep import inference
from caskit.gen.biggan_deep.config import NetworkConfig, Settings
from caskit.gen.biggan_deep.inference import FoldedGenerator, double_weights
from caskit.gen.biggan_deep.network import Generator, double
from caskit.gen.biggan_deep.sampler import describe, load, quantise
from caskit.gen.checkpoint import Checkpoint, save_checkpoint
from caskit.gen.numerics import numerics_applied
from caskit.gen.streams import Streams
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.manifests.plan import Numerics
from caskit.manifests.seeds import stream_key

CPU = torch.device("cpu")
CONFIGS = [
    NetworkConfig(width=8, multipliers=(4, 4, 2), start_size=7, attention_after=1, latent_size=6, embedding_size=5),
    NetworkConfig(width=8, multipliers=(6, 3, 1), start_size=4, attention_after=0, latent_size=6, embedding_size=5),
]
STANDING = {"kind": "standing", "z_scale": 1.0, "z_mode": "scale"}


@torch.no_grad()
def make_generator(config: NetworkConfig, channels: int = 1) -> Generator:
    """A generator with weights of the order that keeps its maps of the order of 1."""
    torch.manual_seed(0)
    generator = Generator(config, num_classes=3, channels=channels)
    for parameter in generator.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.03)
    for norm in generator.modules():
        if isinstance(norm, Norm):
            norm.means.normal_(std=0.2)
            norm.variances.uniform_(0.5, 1.5)
    return generator.eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    config = CONFIGS[0]
    return save_checkpoint(
        tmp_path_factory.mktemp("checkpoint"),
        family="biggan_deep",
        preset="tiny",
        config={"network": config.to_json(), "statistics": STANDING},
        classes=ClassList.from_names(["a", "b", "c"]),
        height=config.image_size,
        width=config.image_size,
        channels=1,
        tensors=make_generator(config).state_dict(),
    )


def draw_some(checkpoint: Checkpoint, num: int, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(num) % 3
    streams = Streams([stream_key(0, int(label), place, 0) for place, label in enumerate(labels)])
    return load(checkpoint, Settings(**settings), CPU).sample(labels, streams)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_folded_generator_draws_the_same_images(config: NetworkConfig) -> None:
    generator = make_generator(config, channels=3)
    latents, labels = torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])
    with torch.inference_mode():
        images = generator(latents, labels)
        folded = FoldedGenerator(generator, CPU)(latents, labels)
    assert images.std() > 0.05 and images.abs().max() < 0.99
    assert images.shape == folded.shape
    assert (images - folded).abs().max() < 1e-4


def test_a_doubled_convolution_on_the_small_map() -> None:
    torch.manual_seed(0)
    maps, weights = torch.randn(2, 3, 5, 4, dtype=torch.float64), torch.randn(6, 3, 3, 3, dtype=torch.float64)
    expected = torch.nn.functional.conv2d(double(maps), weights, padding=1)
    phases = torch.nn.functional.conv2d(maps, double_weights(weights), padding=1).unflatten(1, (2, 2, 6))
    for row in range(2):
        for column in range(2):
            part = phases[:, row, column, :, row : row + 5, column : column + 4]
            assert torch.allclose(part, expected[:, :, row::2, column::2])


def test_folding_changes_neither_the_generator_nor_a_second_draw() -> None:
    generator = make_generator(CONFIGS[0])
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    folded = FoldedGenerator(generator, CPU)
    latents, labels = torch.randn(3, 6), torch.tensor([2, 0, 1])
    with torch.inference_mode():
        first, again = folded(latents, labels), folded(latents, labels)
    assert torch.equal(first, again)
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())


def test_large_batches_are_drawn_in_parts_whose_size_the_network_fixes(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make_generator(CONFIGS[0])
    latents, labels = torch.randn(7, 6), torch.arange(7) % 3
    with torch.inference_mode():
        whole = FoldedGenerator(generator, CPU)(latents, labels)
        monkeypatch.setitem(inference.PIXELS_AT_ONCE, "cpu", 3 * 28 * 28)
        parted = FoldedGenerator(generator, CPU)
        assert parted.limit == 3
        images = parted(latents, labels)
        assert (images - whole).abs().max() < 1e-5
        assert torch.equal(parted(latents.flip(0), labels.flip(0)).flip(0), images), "the place decides no bits"


def test_samples_are_images_of_their_streams(checkpoint: Checkpoint) -> None:
    images, finite = draw_some(checkpoint, 6)
    assert images.shape == (6, 28, 28, 1) and images.dtype == np.uint8 and finite.all()
    assert len({image.tobytes() for image in images}) == 6
    again, _ = draw_some(checkpoint, 6)
    assert np.array_equal(images, again)


def test_a_microbatch_of_one_and_of_sixteen_differ_by_a_level_at_most(checkpoint: Checkpoint) -> None:
    labels = np.arange(16) % 3
    keys = [stream_key(0, int(label), place, 0) for place, label in enumerate(labels)]
    generator = load(checkpoint, Settings(), CPU)
    together, _ = generator.sample(labels, Streams(keys))
    single = [generator.sample(labels[i : i + 1], Streams([keys[i]]))[0][0] for i in range(16)]
    assert np.abs(together.astype(int) - np.stack(single)).max() <= 1


def test_truncation_makes_images_alike(checkpoint: Checkpoint) -> None:
    spread = []
    for z_scale in (0.02, 0.5, 1.5):
        images, _ = draw_some(checkpoint, 30, z_scale=z_scale)
        spread.append(images[::3].astype(float).std(axis=0).mean())
    assert spread[0] < spread[1] < spread[2]


def test_sampling_under_the_numerics_of_a_plan(checkpoint: Checkpoint) -> None:
    labels, streams = np.zeros(2, dtype=np.int64), Streams([stream_key(0, 0, place, 0) for place in range(2)])
    drawn = []
    for precision in ("float32", "bfloat16"):
        with numerics_applied(Numerics(precision=precision)):
            drawn.append(load(checkpoint, Settings(), CPU).sample(labels, streams)[0].astype(int))
    assert 0 < np.abs(drawn[0] - drawn[1]).max() < 40, "bfloat16 is rougher, but the same image"


def test_pixels_are_cut_as_published() -> None:
    values = torch.tensor([-1.0, -0.9922, 0.0, 0.0039, 0.9999, 1.0]).reshape(1, 1, 1, 6)
    pixels, finite = quantise(values)
    reference = np.uint8(np.clip(((values.numpy() + 1) / 2.0) * 256, 0, 255))
    assert pixels[0, 0, :, 0].tolist() == reference[0, 0, 0].tolist() == [0, 0, 128, 128, 255, 255]
    assert finite.tolist() == [True]
    broken = torch.zeros(3, 1, 2, 2)
    broken[1, 0, 0, 0], broken[2, 0, 1, 1] = torch.nan, torch.inf
    assert quantise(broken)[1].tolist() == [True, False, False]


def test_what_is_said_about_a_checkpoint(checkpoint: Checkpoint) -> None:
    assert describe(checkpoint.record, Settings()) == "batch-norm statistics: one set (standing), for z_scale 1"
    with pytest.raises(InputError, match="has no table"):
        load(checkpoint, Settings(bn_truncation=0.5), CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"statistics": STANDING}}, "network is not that of this family"),
        ({"config": {"network": {"multipliers": [2, 1]}}}, "statistics are None"),
        ({"config": {"network": {"multipliers": [2, 1], "x": 1}, "statistics": STANDING}}, "network is not that"),
        ({"height": 14}, "says images of 14x28, its layers give 28"),
        ({"channels": 3}, "tensors do not go with the config, first image.bias"),
        ({"tensors": {"first.weight": torch.zeros(2)}}, "tensors do not go with the config, first attention.gamma"),
    ],
)
def test_checkpoints_of_another_form_are_refused(
    change: dict[str, Any], message: str, checkpoint: Checkpoint, tmp_path: Any
) -> None:
    record = {name: value for name, value in checkpoint.record.items() if name in ("family", "preset", "config")}
    sizes = {name: checkpoint.record[name] for name in ("height", "width", "channels")}
    fields = {**record, **sizes, "classes": checkpoint.classes, "tensors": checkpoint.tensors(), **change}
    with pytest.raises(InputError, match=message):
        load(save_checkpoint(tmp_path, **fields), Settings(), CPU)
