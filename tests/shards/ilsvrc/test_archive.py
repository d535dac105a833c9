"""What is no ImageNet is refused on one line; what is interrupted goes on to the same set."""

import io
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caskit.manifests.errors import InputError, NotFinished
from caskit.shards.ingest import ingest
from caskit.shards.sources import load
from caskit.shards.sources.ilsvrc import truth
from caskit.shards.sources.resizing import Resize

TRAIN, VALIDATION, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"


def repacked(tars: Path, folder: Path, name: str) -> Path:
    """Return a folder with one of the tars and, for the validation tar, the devkit, to be changed."""
    folder.mkdir(exist_ok=True)
    for file in (name, *((DEVKIT,) if name == VALIDATION else ())):
        shutil.copy(tars / file, folder / file)
    return folder


def refused(folder: Path, message: str, **options: Any) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load("imagenet", from_path=folder, **{"partial": True, **options})
    assert "\n" not in str(caught.value)


def small(folder: Path, tar: str, entries: list[tuple[str, bytes]], **header: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / tar, "w") as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            for field, value in header.items():
                setattr(info, field, value)
            info.size = 0 if "type" in header else len(data)
            archive.addfile(info, io.BytesIO(data))
    return folder


def class_tar(names: list[str], data: bytes = b"x", **header: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in header.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return buffer.getvalue()


def test_all_of_it_or_what_is_there_if_asked(tree: Any, tars: Path) -> None:
    due = f"holds {len(tree.train)} train images, ILSVRC 2012 has 1281167; --partial takes what is there"
    refused(tars, due, partial=False)
    with pytest.raises(InputError, match="--partial is for imagenet, not for digits"):
        load("digits", partial=True)
    with pytest.raises(InputError, match="a resolution is for imagenet and imagefolder"):
        load("digits", resize=Resize(side=8))


def test_where_it_comes_from(tmp_path: Path, tars: Path) -> None:
    with pytest.raises(InputError, match="imagenet cannot be fetched, its terms must be accepted first: --from DIR"):
        load("imagenet")
    refused(tmp_path / "nowhere", "no such folder")
    refused(tmp_path, "holds no ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar, train/ or val/, nor .parquet or .tar")
    folder = repacked(tars, tmp_path / "two", TRAIN)
    (folder / "train").mkdir()
    refused(folder, f"holds its train images as {TRAIN} and as train/, move one away")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("n01440764.tar", class_tar(["n01440764_1.JPEG"])), ("n99999999.tar", b"")], "which is not WNID.tar of one"),
        ([("n01440764_1.JPEG", b"")], "holds 'n01440764_1.JPEG', which is not WNID.tar of one of the 1000 classes"),
        ([("n01440764.tar", class_tar(["n01440764_1.JPEG"]))] * 2, "holds n01440764.tar twice"),
        ([("n01440764.tar", class_tar(["n01443537_1.JPEG"]))], "n01440764.tar: holds 'n01443537_1.JPEG', images are"),
        (
            [("n01440764.tar", class_tar(["../n01440764_1.JPEG"]))],
            "n01440764.tar: the name '../n01440764_1.JPEG' leads",
        ),
        ([("n01440764.tar", class_tar(["n01440764_1.JPEG"] * 2))], "n01440764.tar: holds n01440764_1.JPEG twice"),
        (
            [("n01440764.tar", class_tar(["a"], type=tarfile.SYMTYPE, linkname="/etc/passwd"))],
            "a symbolic link, which is",
        ),
        ([("n01440764.tar", class_tar([]))], "n01440764.tar: holds no images"),
        ([("n01440764.tar", class_tar(["n01440764_1.JPEG"])[:700])], "n01440764.tar: cut "),
        ([("n01440764.tar", b"\x1f\x8b" + bytes(600))], "n01440764.tar: compressed, unpack it first"),
        ([("/n01440764.tar", b"")], "the name '/n01440764.tar' leads out of the folder"),
    ],
)
def test_training_tars_that_are_none(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    refused(small(tmp_path / "in", TRAIN, members), message)


def test_a_tar_cut_anywhere_is_noticed(tree: Any, tmp_path: Path) -> None:
    """Also inside the last class, and where the outer tar ends early."""
    whole = class_tar(["n01440764_1.JPEG", "n01440764_2.JPEG"], b"y" * 700)
    folder = small(tmp_path / "in", TRAIN, [("n01440764.tar", whole)])
    data = (folder / TRAIN).read_bytes()
    assert len(load("imagenet", from_path=folder, partial=True)["train"].labels) == 2
    for cut in range(512, len(whole), 512):
        (folder / TRAIN).write_bytes(data[:cut])
        refused(folder, "cut |without an end")


def test_bytes_behind_a_class_tar_are_noticed(tmp_path: Path) -> None:
    joined = class_tar(["n01440764_1.JPEG"]) + class_tar(["n01440764_2.JPEG"])
    refused(small(tmp_path / "in", TRAIN, [("n01440764.tar", joined)]), "n01440764.tar: bytes behind its end")


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update({TRUTH: change(files[TRUTH])})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rewritten(lambda text: text[: text.rindex(b"\n", 0, -1) + 1]), "holds 150 images, .*has labels of 149"),
        (rewritten(lambda text: text + b"7\n"), "holds 150 images, .*has labels of 151"),
        (rewritten(lambda text: b"1001\n" + text), "line 1 is '1001', must be an ILSVRC id, 1..1000"),
        (rewritten(lambda text: b"0\n" + text), "line 1 is '0', must be an ILSVRC id"),
        (rewritten(lambda text: b"n01440764\n" + text), "line 1 is 'n01440764', must be an ILSVRC id"),
        (rewritten(lambda text: text + b"\xff"), "not ASCII text"),
        (
            lambda files: files.pop(TRUTH),
            "the validation images have no labels: put ILSVRC2012_devkit_t12.tar.gz beside",
        ),
        (lambda files: files.pop("meta.mat"), "holds ILSVRC ids, which are no labels; meta.mat or map_clsloc.txt must"),
        (lambda files: files.update({"meta.mat": b"PK"}), "meta.mat: not a MATLAB 5.0 file"),
        (lambda files: files.update({"meta.mat": files["meta.mat"][:400]}), "meta.mat: damaged|holds no structs"),
    ],
)
def test_truths_that_are_none(tree: Any, tars: Path, tmp_path: Path, change: Any, message: str) -> None:
    folder = repacked(tars, tmp_path / "in", VALIDATION)
    (folder / DEVKIT).unlink()
    files = tree.truth()
    change(files)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    refused(folder, message)


def test_devkits_that_are_none(tree: Any, tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repacked(tars, tmp_path / "in", VALIDATION)
    packed = (folder / DEVKIT).read_bytes()
    (folder / DEVKIT).write_bytes(packed[:-20])
    refused(folder, "not a whole gzip file")
    tree.write_devkit(folder, leave_out=500)
    refused(folder, "meta.mat: lists 50. of the 1000 classes|meta.mat: class .*lists")
    (folder / DEVKIT).write_bytes(packed)
    monkeypatch.setattr(truth, "_MAX_DEVKIT_BYTES", 1000)
    refused(folder, "unpacks to more than 1000 bytes")


def test_the_truth_in_other_forms(tree: Any, tars: Path, tmp_path: Path) -> None:
    """Unpacked, with the mapping as text, or Kaggle's list beside images in one folder: always the same labels."""
    due = load("imagenet", from_path=tars, partial=True)["test"].labels.tolist()
    folder = repacked(tars, tmp_path / "text", VALIDATION)
    (folder / DEVKIT).unlink()
    inside = folder / "ILSVRC2012_devkit_t12" / "data"
    inside.mkdir(parents=True)
    (inside / TRUTH).write_bytes(tree.truth()[TRUTH].replace(b"\n", b"\r\n"))
    lines = [f"{tree.classes.ids[label]} {number} some_name" for label, number in enumerate(tree.ilsvrc_ids)]
    (inside / "map_clsloc.txt").write_text("\n".join(lines))
    assert load("imagenet", from_path=folder, partial=True)["test"].labels.tolist() == due

    kaggle = tmp_path / "kaggle"
    (kaggle / "val").mkdir(parents=True)
    rows = ["ImageId,PredictionString"]
    for name, (label, data) in tree.validation.items():
        (kaggle / "val" / name).write_bytes(data)
        rows.append(f"{name.removesuffix('.JPEG')},{tree.classes.ids[label]} 1 2 3 4 ")
    refused(kaggle, "the validation images have no labels")
    (kaggle / "LOC_val_solution.csv").write_text("\n".join(rows))
    source = load("imagenet", from_path=kaggle, partial=True)["test"]
    assert source.labels.tolist() == due and source.split == "validation"
    first = source.path(0)
    assert source.labels[0] == tree.validation[first][0] and source.read(0).data == tree.validation[first][1]
    (kaggle / "val" / "other.JPEG").write_bytes(b"")
    refused(kaggle, "other.JPEG: images are named ILSVRC2012_val_00000001.JPEG")


def test_an_image_in_the_folder_of_another_class(tree: Any, tmp_path: Path) -> None:
    place = tmp_path / "train" / "n01440764"
    place.mkdir(parents=True)
    (place / "n01443537_10.JPEG").write_bytes(b"")
    refused(tmp_path, "an image of n01443537 in the folder of n01440764")
    (tmp_path / "train" / "dogs").mkdir()
    (tmp_path / "train" / "dogs" / "1.JPEG").write_bytes(b"")
    refused(tmp_path, "class 'dogs' is not in the class list")


def test_labels_in_another_order(tree: Any, tmp_path: Path) -> None:
    swapped = {name: 999 - label for name, label in tree.labels.items()}
    refused(tree.write_webdataset(tmp_path / "wds", labels=swapped), "these labels are not in the order of the wnids")
    names = sorted(tree.classes.names)
    folder = tree.write_parquet(tmp_path / "parquet", names=names)
    refused(folder, "label has its names in another order than by wnid: label 0 is ")
    refused(tree.write_parquet(tmp_path / "few", names=names[:10]), "has 10 names, ImageNet has 1000 classes")


def test_killed_and_resumed_is_the_same_set(tree: Any, tars: Path, tmp_path: Path) -> None:
    """A real kill -9 in the middle, from the command line; then the same command once more."""
    folder = repacked(tars, tmp_path / "in", TRAIN)
    resize = Resize(side=5)
    whole = ingest(load("imagenet", from_path=folder, partial=True, resize=resize)["train"], tmp_path / "whole")
    command = [sys.executable, "-m", "caskit", "data", "imagenet", "--from", str(folder), "--resolution", "5"]
    command += ["--partial", "--samples-per-shard", "1000", "--out", str(tmp_path / "set")]
    first = tmp_path / "set" / "train" / "_work" / "commits" / "000000.parquet"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not first.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"@sha256:{whole.replica_id[:16]}" in done.stdout


def test_stopped_while_a_tar_is_listed(tars: Path, tmp_path: Path) -> None:
    folder = repacked(tars, tmp_path / "in", TRAIN)
    told: list[tuple[str, int, int]] = []
    with pytest.raises(NotFinished, match="stopped while it was read, the same command starts that again"):
        load("imagenet", from_path=folder, partial=True, stop=lambda: True)
    load("imagenet", from_path=folder, partial=True, told=lambda *at: told.append(at))
    size = (folder / TRAIN).stat().st_size
    assert told and {(name, total) for name, _, total in told} == {(TRAIN, size)}
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    told.clear()
    again = load("imagenet", from_path=folder, partial=True, told=lambda *at: told.append(at))["train"]
    assert not told, "what was listed once is kept"
    data = bytearray((folder / TRAIN).read_bytes())
    data[512 + 512] ^= 1  # an image's first byte
    (folder / TRAIN).write_bytes(data)
    other = load("imagenet", from_path=folder, partial=True)["train"]
    assert other.files != again.files, "until the file is touched"
    assert np.array_equal(other.labels, again.labels)
