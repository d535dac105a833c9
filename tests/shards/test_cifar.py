"""CIFAR-10 and CIFAR-100 from their binary archives: every pixel and label, and nothing that is not theirs."""

import dataclasses
import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caskit.manifests.errors import InputError
from caskit.shards.codecs import decode
from caskit.shards.dataset import open_set
from caskit.shards.ingest import ingest
from caskit.shards.sources import cifar10, cifar100, load
from caskit.shards.sources.cifar import Archive

MODULES: dict[str, Any] = {"cifar10": cifar10, "cifar100": cifar100}


@pytest.fixture(params=["cifar10", "cifar100"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """The archive's form with twenty or two hundred images a file: the real ones are too large for a test."""
    module = MODULES[request.param]
    few = dict.fromkeys(module.FORM.images_per_file, 2 * module.FORM.num_classes)
    small: Archive = dataclasses.replace(module.FORM, images_per_file=few)
    monkeypatch.setattr(module, "FORM", small)
    return small


def contents(form: Archive) -> dict[str, bytes]:
    """Return the archive's files: random pixels, every class twice a file."""
    noise = np.random.default_rng(form.num_classes)
    names = "\n".join(f"class {label}" for label in range(form.num_classes)) + "\n\n"
    files = {form.names: names.encode()}
    for name, num in form.images_per_file.items():
        fine = noise.permutation(np.arange(num, dtype=np.uint8) % form.num_classes)[:, None]
        coarse = [fine // 5] if form.coarse else []
        pixels = noise.integers(0, 256, (num, 3 * 32 * 32), dtype=np.uint8)
        files[name] = np.concatenate([*coarse, fine, pixels], axis=1).tobytes()
    return files


def packed(form: Archive, files: dict[str, bytes], path: Path, *, folder: str | None = None) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in {"readme.html": b"hello", **files}.items():
            info = tarfile.TarInfo(f"{form.folder if folder is None else folder}/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    path.write_bytes(gzip.compress(buffer.getvalue(), 1, mtime=0) if path.suffix == ".gz" else buffer.getvalue())
    return path


def test_every_image_and_label(form: Archive, tmp_path: Path) -> None:
    files = contents(form)
    archive = packed(form, files, tmp_path / form.file)
    sources = load(form.dataset, from_path=archive)
    assert list(sources) == ["train", "test"]
    width = form.label_bytes + 3072
    for split, names in (("train", form.train), ("test", form.test)):
        records = np.frombuffer(b"".join(files[name] for name in names), dtype=np.uint8).reshape(-1, width)
        source = sources[split]
        assert source.labels.tolist() == records[:, form.label_bytes - 1].tolist(), "the fine label of two"
        assert source.classes.names[3] == "class 3" and source.split == split
        last = len(records) - 1
        pixels = decode(source.read(last).data, extension="png")
        assert (pixels.transpose(2, 0, 1).reshape(-1) == records[last, form.label_bytes :]).all(), "red, green, blue"
        assert source.path(last) == f"{names[-1]}#{form.images_per_file[names[-1]] - 1}"
    replica = ingest(sources["test"], tmp_path / "set")
    assert open_set(str(tmp_path / "set")).arrays()[0].shape == (2 * form.num_classes, 32, 32, 3)
    unpacked = tmp_path / form.folder
    unpacked.mkdir()
    for name, data in files.items():
        (unpacked / name).write_bytes(data)
    for place in (unpacked, tmp_path, packed(form, files, tmp_path / "plain.tar")):
        assert ingest(load(form.dataset, from_path=place)["test"], tmp_path / "set") == replica


def test_what_is_no_archive(form: Archive, tmp_path: Path) -> None:
    def refused(files: dict[str, bytes], message: str, **options: Any) -> None:
        with pytest.raises(InputError, match=message):
            load(form.dataset, from_path=packed(form, files, tmp_path / form.file, **options))

    whole = contents(form)
    name = form.test[0]
    size = len(whole[name])
    refused({**whole, name: whole[name][:-1]}, f"{name} has {size - 1} bytes, must have {size}")
    refused({**whole, name: whole[name] + b"x"}, f"{name} has {size + 1} bytes, must have {size}")
    refused({n: data for n, data in whole.items() if n != name}, f"holds no {form.folder}/{name}; is this {form.file}")
    refused(whole, f"holds no {form.folder}/.*; is this", folder="other")
    refused({**whole, "test_batch": b"x"}, "holds test_batch, a pickle; .* is read from the binary version")
    refused({**whole, form.names: b"one\ntwo"}, f"2 names, {form.dataset} has {form.num_classes} classes")
    refused({**whole, form.names: whole[form.names].replace(b"class 1\n", b"class 0\n")}, "are both called 'class 0'")
    wrong = bytearray(whole[name])
    wrong[form.label_bytes - 1] = 200
    refused({**whole, name: bytes(wrong)}, f"{name}: image 0: label is 200, allowed: 0..{form.num_classes - 1}")
    wrong[form.label_bytes - 1] = (whole[name][form.label_bytes - 1] + 1) % form.num_classes
    refused({**whole, name: bytes(wrong)}, f"has [13] test images, {form.dataset} has 2")
    refused({**whole, "big": bytes(2**21)}, "bytes unpacked, .* has fewer")
    path = packed(form, whole, tmp_path / form.file)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="not a whole gzip file"):
        load(form.dataset, from_path=path)
    with pytest.raises(InputError, match=f"--from FILE names {form.file} .the binary version"):
        load(form.dataset)
    with pytest.raises(InputError, match="no such file or folder"):
        load(form.dataset, from_path=tmp_path / "nowhere")


@pytest.mark.parametrize(("module", "nbytes"), [(cifar10, 30_730_000), (cifar100, 30_740_000)])
def test_the_real_sizes(module: Any, nbytes: int) -> None:
    """As the data sets' page gives them: 10,000 images a batch of CIFAR-10, 50,000 and 10,000 of CIFAR-100."""
    sizes = module.FORM.sizes
    assert {sizes[name] for name in module.FORM.test} == {nbytes}
    assert sum(sizes[name] for name in module.FORM.train) == 5 * nbytes
