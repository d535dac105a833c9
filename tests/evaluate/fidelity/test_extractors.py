"""Extractors read weights from files without running their code, and say which weights and which resize they are of."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from caskit.evaluate.fidelity import open_extractor
from caskit.evaluate.fidelity.extractor import Identity, as_rgb, resized_rgb
from caskit.manifests.errors import InputError, IntegrityError, RunFailed
from caskit.train.images import Images
from caskit.train.recipes import Recipe
from caskit.train.training import train

CPU = torch.device("cpu")
RECIPE = Recipe(
    name="tiny", widths=(8, 6), num_poolings=2, resolution=8, num_steps=2, batch_size=16, learning_rate=0.2, threads=1,
    bn_batch=16,
)  # fmt: skip


def save_timm(path: Path, model: str, **options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    network: torch.nn.Module = timm.create_model(model, pretrained=False, **options).eval()
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    return network


def test_a_model_of_timm_gives_what_its_head_reads(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    network = save_timm(path, "test_resnet", num_classes=7)
    extractor = open_extractor("timm:test_resnet", weights=path, device=CPU)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert extractor.identity.title == f"timm:test_resnet@{digest[:8]}" and extractor.identity.digest == digest
    images = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3)).astype(np.uint8)
    outputs = extractor(list(images))
    with torch.no_grad():
        pixels = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
        maps = network.forward_features(pixels)  # type: ignore[operator]
        due = network.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        logits = network(pixels)
    np.testing.assert_allclose(outputs.features, due.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(outputs.logits, logits.numpy(), rtol=1e-4, atol=1e-6)
    assert outputs.features.dtype == np.float32 and outputs.features.std() > 0
    small = extractor([np.zeros((32, 24, 1), dtype=np.uint8)])  # any size, grey
    assert small.features.shape == due[:1].shape
    other = open_extractor("timm:test_resnet", weights=path, resize="bilinear", device=CPU)
    assert other.identity.title == f"timm:test_resnet@{digest[:8]},bilinear"


def test_dinov2_reads_224_pixels_with_weights_for_518(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_timm(path, "vit_small_patch14_dinov2")
    extractor = open_extractor("dinov2-vits14", weights=path, device=CPU)
    outputs = extractor(list(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)))
    assert outputs.features.shape == (2, 384) and outputs.logits is None
    assert extractor.identity.preprocessing["side"] == 224
    assert extractor.identity.title.startswith("dinov2-vits14@")


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["inception-2015", "timm:test_resnet"])
def test_weights_of_another_network_or_with_code_are_refused(tmp_path: Path, name: str) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="not the weights of"):
        open_extractor(name, weights=tmp_path / "other.pth", device=CPU)
    torch.save({"weight": Evil(tmp_path / "made")}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="not a file of tensors that can be read without running its code"):
        open_extractor(name, weights=tmp_path / "evil.pth", device=CPU)
    assert not (tmp_path / "made").exists()
    (tmp_path / "cut.safetensors").write_bytes(b"\x09\0\0\0\0\0\0\0{}")
    with pytest.raises(InputError, match=r"cut.safetensors: not a readable safetensors file"):
        open_extractor(name, weights=tmp_path / "cut.safetensors", device=CPU)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg", {}, "extractor 'vgg' is not known, allowed: inception-2015, classifier, timm:NAME, dinov2-vits14"),
        ("dinov2-huge", {"weights": Path("x")}, "extractor 'dinov2-huge' is not known"),
        ("timm:resnet50", {}, "extractor timm:resnet50: needs --weights, a local .safetensors file"),
        ("classifier", {}, "extractor classifier: needs --weights, the folder of a trained classifier"),
        ("timm:no_such_net", {"weights": Path("x")}, "has no model 'no_such_net'"),
        ("timm:test_resnet", {"weights": Path("nowhere.safetensors")}, "nowhere.safetensors: no such file"),
        ("inception-2015", {"fetch": False}, "the published weights are not there; name a file with --weights"),
    ],
)
def test_a_mistaken_extractor_is_refused(
    name: str, options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError) as raised:
        open_extractor(name, **{"weights": None, **options}, device=CPU)
    assert message in str(raised.value)


def test_the_published_weights_are_fetched_and_nothing_else_passes_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    asked: list[str] = []

    def offline(url: str, path: str, *, hash_prefix: str, progress: bool) -> None:
        asked.extend((url, hash_prefix[:8]))
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(RunFailed, match="cannot be fetched .no route to host.; fetch it elsewhere"):
        open_extractor("inception-2015", weights=None, device=CPU)
    assert asked[0].endswith("weights-inception-2015-12-05-6726825d.pth") and asked[1] == "6726825d"
    there = tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    torch.save({"weight": torch.zeros(3)}, there)
    with pytest.raises(InputError, match="that of the published weights is 6726825d0af5"):
        open_extractor("inception-2015", weights=None, device=CPU)


def test_a_classifier_gives_what_its_last_layer_reads(make_sets: Any, tmp_path: Path) -> None:
    replica, real = make_sets(30, 48, size=8, channels=1)
    train(real, RECIPE, seed=0, out=tmp_path / "classifier", device=CPU)
    extractor: Any = open_extractor("classifier", weights=tmp_path / "classifier", device=CPU)
    images = Images(replica)
    extractor.check(images, "here")
    outputs = extractor(images.each(np.arange(5)))
    layer = extractor._classifier.model[-1]
    due = outputs.features @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    assert outputs.features.shape == (5, 6)
    np.testing.assert_allclose(outputs.logits, due, rtol=1e-4, atol=1e-5)
    assert extractor.identity.digest == extractor._classifier.classifier_id
    coloured, _ = make_sets(30, 48, size=8, channels=3)
    with pytest.raises(InputError, match="images have 3 channels, the classifier was trained on 1"):
        extractor.check(Images(coloured), "there")
    with pytest.raises(InputError, match="resize 'bicubic' is not known, allowed: recipe"):
        open_extractor("classifier", weights=tmp_path / "classifier", resize="bicubic", device=CPU)
    (tmp_path / "classifier/model.safetensors").write_bytes(b"")
    with pytest.raises(IntegrityError, match="sha256 differs"):
        open_extractor("classifier", weights=tmp_path / "classifier", device=CPU)


def test_images_become_rgb_as_pillow_makes_them() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4)).astype(np.uint8)
    for image, mode in ((pixels[:, :, :1], "L"), (pixels[:, :, :3], "RGB"), (pixels, "RGBA")):
        picture = Image.fromarray(image[:, :, 0] if mode == "L" else np.ascontiguousarray(image))
        assert picture.mode == mode
        np.testing.assert_array_equal(as_rgb(image), np.asarray(picture.convert("RGB")))
    assert resized_rgb([pixels, pixels[:5]], 8, "bicubic").shape == (2, 8, 8, 3)


@pytest.mark.parametrize(("change", "message"), [({"digest": "ab"}, "64 hex digits"), ({"name": "a b"}, "a name has")])
def test_an_identity_is_checked(change: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Identity(**{"name": "x", "digest": "ab" * 32, "resize": "r", "usual_resize": "r", **change})  # type: ignore[arg-type]
