"""Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 grey 28x28 images of clothes.

Its four IDX files are looked for in a folder, in Debian's package dataset-fashion-mnist (installed, or fetched and
unpacked without root), and at their canonical address. Wherever they come from, their SHA-256 is pinned here. The pin
is that of the unpacked bytes, because Debian compressed them anew.
"""

import gzip
import os
import subprocess
import tempfile
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from caskit.manifests.canonical import sha256_hex
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.shards.sources.source import ArraySource

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# name of the unpacked file: (bytes, SHA-256)
FILES = {
    "train-images-idx3-ubyte": (47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": (60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": (7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": (10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}
SPLITS = {"train": "train", "test": "t10k"}
PACKAGE = "dataset-fashion-mnist"
PACKAGE_FOLDER = "usr/share/datasets/fashion-mnist"
ADDRESS = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
_FETCH_TIMEOUT_S = 300
_CONNECT_TIMEOUT_S = 20
_PACKING_BYTES = 4096  # more than gzip can add to a file


def load(from_path: Path | None, cache_dir: Path) -> dict[str, ArraySource]:
    """Return the train and test split. Raises InputError naming the ways to get the files when none works."""
    files = read_files(from_path) if from_path is not None else find_files(cache_dir)
    sources = {}
    for split, prefix in SPLITS.items():
        images, labels = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
        # IDX: magic number, one 32-bit size per axis, then bytes; the pinned digest has settled what they hold.
        pixels = np.frombuffer(files[images], dtype=np.uint8, offset=16).reshape(-1, 28, 28, 1)
        sources[split] = ArraySource(
            dataset="fashion-mnist",
            split=split,
            classes=ClassList.from_names(CLASS_NAMES),
            files={name: FILES[name][1] for name in (images, labels)},
            labels=np.frombuffer(files[labels], dtype=np.uint8, offset=8).astype(np.int64),
            pixels=pixels,
            numbers=np.arange(len(pixels)),
            file=images,
            licence="mit",
        )
    return sources


def find_files(cache_dir: Path) -> dict[str, bytes]:
    """Return the four files' unpacked bytes from wherever they can be had, keeping what was fetched in `cache_dir`."""
    folder = cache_dir / "fashion-mnist"
    ways: list[tuple[str, Callable[[], Path]]] = [
        ("earlier download", lambda: folder),
        ("installed package", lambda: Path("/", PACKAGE_FOLDER)),
        ("apt-get download", lambda: fetch_package(folder)),
        (ADDRESS, lambda: fetch_address(folder)),
    ]
    reasons = []
    for name, way in ways:
        try:
            return read_files(way())
        except (InputError, OSError, subprocess.SubprocessError) as error:
            reasons.append(f"{name}: {error}")
    raise InputError(
        "fashion-mnist: no input files. Three ways to get them: --from DIR with the four files "
        f"{', '.join(FILES)} (plain or .gz); Debian's package {PACKAGE} (apt-get install {PACKAGE}); "
        f"a network that reaches {ADDRESS}. Tried: {'; '.join(reasons)}"
    )


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the four files' unpacked bytes from a folder. Raises InputError for a file that is missing or another."""
    return {name: read_file(folder, name) for name in FILES}


def read_file(folder: Path, name: str) -> bytes:
    """Return one file's unpacked bytes, from `name` or `name.gz`, checked against the pin."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return unpack(path, name)
    raise InputError(f"{folder}: holds neither {name} nor {name}.gz")


def unpack(path: Path, name: str) -> bytes:
    """Read a plain or gzipped file, never more bytes than the pinned file has, and check its SHA-256."""
    num_bytes, digest = FILES[name]
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            data = file.read(num_bytes + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: not a whole gzip file ({error})") from error
    if len(data) != num_bytes or sha256_hex(data) != digest:
        raise InputError(f"{path}: is not Fashion-MNIST's {name}: SHA-256 of the unpacked bytes must be {digest}")
    return data


def fetch_package(folder: Path) -> Path:
    """Download Debian's package and unpack it below `folder`; needs no root and installs nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="apt-") as scratch:
        try:
            _run("apt-get", "download", PACKAGE, cwd=scratch)
        except subprocess.CalledProcessError:  # no package lists, as in a fresh container: fetch them for us alone
            lists = Path(scratch, "lists")
            (lists / "partial").mkdir(parents=True)
            private = ("-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={scratch}/cache")
            _run("apt-get", *private, "update", cwd=scratch)
            _run("apt-get", *private, "download", PACKAGE, cwd=scratch)
        packages = sorted(Path(scratch).glob(f"{PACKAGE}_*.deb"))
        if not packages:
            raise InputError(f"apt-get download left no {PACKAGE} package")
        _run("dpkg-deb", "-x", str(packages[0]), f"{scratch}/unpacked", cwd=scratch)
        unpacked = Path(scratch, "unpacked", PACKAGE_FOLDER)
        read_files(unpacked)
        for name in FILES:
            os.replace(unpacked / f"{name}.gz", folder / f"{name}.gz")
    return folder


def fetch_address(folder: Path) -> Path:
    """Download the four files from their canonical address into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="https-") as scratch:
        for name, (num_bytes, _) in FILES.items():
            path = Path(scratch, f"{name}.gz")
            with urllib.request.urlopen(f"{ADDRESS}/{name}.gz", timeout=_CONNECT_TIMEOUT_S) as answer:
                path.write_bytes(answer.read(num_bytes + _PACKING_BYTES))
            unpack(path, name)
            os.replace(path, folder / path.name)
    return folder


def _run(*command: str, cwd: str) -> None:
    result = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, errors="replace", timeout=_FETCH_TIMEOUT_S, check=False
    )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise _Failed(result.returncode, f"{command[0]} {last}")


class _Failed(subprocess.CalledProcessError):
    def __str__(self) -> str:
        return f"{self.cmd} (exit {self.returncode})"
