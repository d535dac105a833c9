"""`caskit data` with hostile or mistaken input: one line that says what and where, and exit code 2."""

import gzip
import io
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from caskit.cli import main

TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
WNID = "n01440764"


def tar(entries: list[tuple[str, bytes]], **header: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in header.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return buffer.getvalue()


def image(kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 6), (10, 200, 30)).save(buffer, kind)
    return buffer.getvalue()


def huge_png(side: int) -> bytes:
    """Return a PNG of few bytes whose header says it is side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def train(folder: Path, images: list[tuple[str, bytes]], **header: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRAIN).write_bytes(tar([(f"{WNID}.tar", tar(images, **header))]))
    return folder


def one_line(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["data", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("caskit: error: ") and error.count("\n") == 1, error
    return error


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_a_bomb_is_named_and_never_decoded(side: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train(tmp_path / "in", [(f"{WNID}_1.JPEG", huge_png(side))])
    for size in ([], ["--resolution", "8"]):
        out = tmp_path / f"out{len(size)}"
        said = one_line(capsys, "imagenet", "--from", folder, "--partial", *size, "--out", out)
        assert f"unreadable image {TRAIN}#{WNID}_1.JPEG: " in said and "67108864" in said


def test_a_bomb_warns_of_nothing_else(tmp_path: Path) -> None:
    """In a process of its own, where warnings are printed and not raised."""
    folder = train(tmp_path / "in", [(f"{WNID}_1.JPEG", huge_png(12_000))])
    command = [sys.executable, "-m", "caskit", "data", "imagenet", "--from", str(folder), "--partial"]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (image()[:-200], "runcated"),
        (image()[:-20], "runcated"),
        (b"", "no image"),
        (b"\x80\x04\x95cos\nsystem\n", "no image"),
    ],
)
def test_images_that_are_none(data: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train(tmp_path / "in", [(f"{WNID}_1.JPEG", data), (f"{WNID}_2.JPEG", image())])
    words = ["imagenet", "--from", folder, "--partial", "--resolution", "4", "--out"]
    said = one_line(capsys, *words, tmp_path / "out")
    assert f"{TRAIN}#{WNID}_1.JPEG: " in said and message in said and "--skip-bad" in said
    assert main(["data", *map(str, words), str(tmp_path / "skipped"), "--skip-bad"]) == 0
    assert "  1 images" in capsys.readouterr().out


def test_tars_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(folder: Path) -> str:
        return one_line(capsys, "imagenet", "--from", folder, "--partial", "--out", tmp_path / "out")

    cut = train(tmp_path / "cut", [(f"{WNID}_1.JPEG", image())])
    (cut / TRAIN).write_bytes((cut / TRAIN).read_bytes()[:1800])
    assert f"{TRAIN}: cut inside the member after" in said(cut)
    leading = train(tmp_path / "leading", [(f"../../{WNID}_1.JPEG", image())])
    assert "leads out of the folder" in said(leading)
    link = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
    assert "is a symbolic link, which is not followed" in said(
        train(tmp_path / "link", [(f"{WNID}_1.JPEG", b"")], **link)
    )
    hard = {"type": tarfile.LNKTYPE, "linkname": f"{WNID}_2.JPEG"}
    assert "is a hard link, which is not followed" in said(train(tmp_path / "hard", [(f"{WNID}_1.JPEG", b"")], **hard))
    (tmp_path / "gz").mkdir()
    (tmp_path / "gz" / TRAIN).write_bytes(gzip.compress(tar([])))
    assert "compressed, unpack it first" in said(tmp_path / "gz")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / VALIDATION).write_bytes(tar([("ILSVRC2012_val_00000001.JPEG", image())]))
    assert "the validation images have no labels: put " in said(tmp_path / "none")
    assert not (tmp_path / "out").exists(), "nothing was written before the input was known to be whole"


def test_flags_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", tmp_path / "out")
    assert "--filter is for images that are resized" in one_line(capsys, "imagenet", "--filter", "box", *out)
    assert "codec 'gif' is not known" in one_line(capsys, "imagenet", "--resolution", 8, "--codec", "gif", *out)
    assert "filter is 'nearest', allowed" in one_line(
        capsys, "imagenet", "--resolution", 8, "--filter", "nearest", *out
    )
    assert "digits is stored as it is" in one_line(capsys, "digits", "--resolution", 8, *out)
    assert "--partial is for imagenet" in one_line(capsys, "cifar10", "--partial", *out)
    assert "--from FILE names cifar-10-binary.tar.gz" in one_line(capsys, "cifar10", *out)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(
        gzip.compress(tar([("cifar-10-batches-py/data_batch_1", b"\x80\x02")]))
    )
    said = one_line(capsys, "cifar10", "--from", tmp_path / "cifar-10-python.tar.gz", *out)
    assert "holds data_batch_1, a pickle" in said


def test_a_folder_at_a_resolution(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "1.gif").write_bytes(image("GIF"))
    words = [
        "data",
        f"imagefolder:{tmp_path}/in",
        "--resolution",
        "4",
        "--codec",
        "webp",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == main(words) == 0
    first, again = capsys.readouterr().out.splitlines()[-2:]
    assert first == again and "  2 images" in first
