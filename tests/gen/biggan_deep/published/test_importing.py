"""Imported weights draw the images of pytorch-pretrained-biggan; what does not fit is told in one message."""

import contextlib
import dataclasses
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from caskit.gen.biggan_deep.config import NetworkConfig, Settings
from caskit.gen.biggan_deep.importing import PUBLISHED, check_fits, import_generator, published_network
from caskit.gen.biggan_deep.inference import FoldedGenerator
from caskit.gen.biggan_deep.network import Generator
from caskit.gen.biggan_deep.statistics import choose_statistics
from caskit.gen.foreign import read_state_dict
from caskit.manifests.errors import InputError

WIDTH, NUM_CLASSES = 8, 6
TRUNCATIONS = (0.02, 0.4, 0.5, 0.58, 0.94, 1.0)
TABLE = {"kind": "table", "num": 51}
CPU = torch.device("cpu")


def network_of(preset: str) -> NetworkConfig:
    return dataclasses.replace(published_network(preset), width=WIDTH)


def generator_at(state: dict[str, Tensor], preset: str, settings: Settings) -> Generator:
    generator = Generator(network_of(preset), num_classes=NUM_CLASSES, channels=3, num_statistics=51)
    generator.load_state_dict(state)
    choose_statistics(generator, TABLE, settings)
    return generator.eval()


def conditions(num: int = 2) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(num, 128).clamp(-2, 2), torch.arange(num) % NUM_CLASSES


@pytest.mark.parametrize("preset", PUBLISHED)
def test_images_are_those_of_the_reference(preset: str, published: Any) -> None:
    model, path = published(preset)
    state = import_generator(read_state_dict(path), network_of(preset), num_classes=NUM_CLASSES)
    largest = preset == "imagenet-512"  # a few seconds less
    latents, labels = conditions(1 if largest else 2)
    one_hot = torch.nn.functional.one_hot(labels, NUM_CLASSES).float()
    for truncation in TRUNCATIONS[::2] if largest else TRUNCATIONS:
        settings = Settings(z_scale=truncation, bn_interpolation="as-published")
        generator = generator_at(state, preset, settings)
        with torch.inference_mode():
            expected = model(latents * truncation, one_hot, truncation)
            images = generator(latents * truncation, labels)
            folded = FoldedGenerator(generator, CPU)(latents * truncation, labels)
        assert expected.shape[1:] == (3, network_of(preset).image_size, network_of(preset).image_size)
        assert expected.std() > 0.1 and expected.abs().mean() < 0.9, "images are constant or saturated"
        assert (images - expected).abs().max() < 1e-4
        assert (folded - expected).abs().max() < 1e-4


def test_corrected_statistics_differ_where_the_published_interpolation_is_off(published: Any) -> None:
    _, path = published("imagenet-128")
    state = import_generator(read_state_dict(path), network_of("imagenet-128"), num_classes=NUM_CLASSES)
    latents, labels = conditions()

    def draw(truncation: float, interpolation: str) -> Tensor:
        settings = Settings(bn_truncation=truncation, bn_interpolation=interpolation)
        with torch.inference_mode():
            images: Tensor = generator_at(state, "imagenet-128", settings)(latents, labels)
        return images

    for truncation, neighbour in ((0.58, 0.56), (0.94, 0.92)):
        corrected, as_published = draw(truncation, "corrected"), draw(truncation, "as-published")
        assert (corrected - as_published).abs().max() > 0.01
        assert (as_published - draw(neighbour, "corrected")).abs().max() < 1e-5
    for truncation in (0.4, 0.5, 1.0, 0.41):  # entries that the division hits, and the middle between two
        assert (draw(truncation, "corrected") - draw(truncation, "as-published")).abs().max() < 1e-4
    assert (draw(0.405, "corrected") - draw(0.405, "as-published")).abs().max() > 0.01


def test_every_tensor_matters(published: Any) -> None:
    """A tensor that changes no image would hide a wrong key: none of theirs does, but outputs that are cut off."""
    _, path = published("imagenet-128")
    config = network_of("imagenet-128")
    state = import_generator(read_state_dict(path), config, num_classes=NUM_CLASSES)
    num_theirs = len([key for key in read_state_dict(path) if not key.endswith(("weight_u", "weight_v"))])
    assert len(state) == num_theirs
    assert state["image.weight"].shape == (3, WIDTH, 3, 3)
    assert all(tensor.isfinite().all() and tensor.std() > 0 for key, tensor in state.items() if tensor.dim())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("generator.layers.3.bn_2.running_vars"), "1 missing .generator.layers.3.bn_2.running_vars"),
        (lambda s: s.pop("generator.gen_z.weight_u"), "1 missing .generator.gen_z.weight_u"),
        (lambda s: s.update(surprise=torch.zeros(2)), "1 unknown .surprise"),
        (lambda s: s.update({"generator.bn.bias": torch.zeros(9)}), "generator.bn.bias 9 instead of 8"),
        (lambda s: s["generator.gen_z.weight_v"].zero_(), "generator.gen_z.weight over its spectral norm of 0"),
        (lambda s: s["generator.bn.running_vars"].neg_(), "generator.bn.running_vars negative"),
        (lambda s: s["generator.gen_z.bias"].fill_(torch.inf), "generator.gen_z.bias not finite"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused(change: Any, message: str, published: Any) -> None:
    _, path = published("imagenet-128")
    state = read_state_dict(path)
    change(state)
    with pytest.raises(InputError, match=f"weights: nothing was loaded.*{message}"):
        import_generator(state, network_of("imagenet-128"), num_classes=NUM_CLASSES, name="weights")


def test_another_size_is_named(published: Any) -> None:
    _, path = published("imagenet-128")
    state = read_state_dict(path)
    with pytest.raises(InputError, match="must be 16 16 8 8 4 2 1, the file's is 16 16 8 4 2 1; its layers"):
        check_fits(state, network_of("imagenet-256"), num_classes=NUM_CLASSES, name="weights")
    with pytest.raises(InputError, match="width must be 128, the file's is 8; num_classes must be 1000"):
        import_generator(state, published_network("imagenet-128"))
    assert state, "what was refused is left as it was"
    with pytest.raises(InputError, match="not for 'imagenet-64'"):
        published_network("imagenet-64")


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(legacy: bool, tmp_path: Path) -> None:
    touched, file = tmp_path / "touched", tmp_path / "bomb.bin"
    torch.save({"weight": torch.zeros(2), "bomb": _Touch(touched)}, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match="cannot|can be read without running its code") as error:
        read_state_dict(file)
    assert "\n" not in str(error.value) and not touched.exists()
    file.write_bytes(pickle.dumps(_Touch(touched)))
    with pytest.raises(InputError, match="not a file of tensors"):
        read_state_dict(file)
    assert not touched.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_files_that_were_cut_or_damaged_give_one_line(legacy: bool, tmp_path: Path) -> None:
    whole, file = tmp_path / "whole.bin", tmp_path / "damaged.bin"
    tensors = {f"layer.{number}.weight": torch.randn(3, 5) for number in range(3)}
    torch.save(tensors, whole, _use_new_zipfile_serialization=not legacy)
    data = whole.read_bytes()
    assert read_state_dict(whole).keys() == tensors.keys()
    for end in range(0, len(data), len(data) // 40):
        file.write_bytes(data[:end])
        with pytest.raises(InputError) as error:
            read_state_dict(file)
        assert "\n" not in str(error.value)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        damaged = bytearray(data)
        place = int(torch.randint(len(data), (), generator=generator))
        damaged[place] ^= 1 << int(torch.randint(8, (), generator=generator))
        file.write_bytes(damaged)
        with contextlib.suppress(InputError):  # anything else fails the test; a flipped bit of a weight is read
            read_state_dict(file)


def test_members_that_unpack_to_more_than_the_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "zip.bin"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 50_000_000)
        archive.writestr("archive/version", "3\n")
    with pytest.raises(InputError, match="zip.bin: has compressed members, torch writes none"):
        read_state_dict(file)


def test_tensors_of_other_kinds_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "kinds.bin"
    for tensor in (torch.zeros(2, 2).to_sparse(), torch.zeros(2, dtype=torch.complex64)):
        torch.save({"weight": tensor}, file)
        with pytest.raises(InputError, match="weight.*is not a plain tensor of real numbers"):
            read_state_dict(file)
