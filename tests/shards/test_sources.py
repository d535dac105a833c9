"""Where real data comes from: pinned files, three ways to get them, folders of images."""

import gzip
import io
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from caskit.manifests.canonical import sha256_hex
from caskit.manifests.errors import InputError
from caskit.shards.codecs import decode
from caskit.shards.sources import digits, fashion_mnist, imagefolder, load
from caskit.shards.sources.source import UnreadableImage


def test_unknown_names_are_refused() -> None:
    with pytest.raises(
        InputError,
        match="'mnist' is not known, use one of fashion-mnist, digits, cifar10, cifar100, imagenet, imagefolder:PATH",
    ):
        load("mnist")
    with pytest.raises(InputError, match="no such folder"):
        load("imagefolder:/nowhere")
    with pytest.raises(InputError, match="--from is for other"):
        load("imagefolder:/nowhere", from_path=Path("/"))


class TestDigits:
    def test_values_and_split(self) -> None:
        sources = load("digits")
        train, test = sources["train"], sources["test"]
        assert (len(train.labels), len(test.labels)) == (1442, 355)
        assert np.bincount(test.labels).tolist() == [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]
        numbers = np.concatenate([train.numbers, test.numbers])
        assert sorted(numbers) == list(range(1797)), "each sample is in one split"
        for label in range(10):
            assert train.numbers[train.labels == label].max() < test.numbers[test.labels == label].min()
        assert (train.pixels.shape[1:], train.pixels.min(), train.pixels.max()) == ((8, 8, 1), 0, 255)
        stored = train.read(5)
        assert (decode(stored.data, extension=stored.extension) == train.pixels[5]).all()
        assert train.path(5) == "digits.csv#5" and train.classes.names[3] == "3"

    def test_scaling_rounds_to_nearest(self) -> None:
        values, _ = digits.read_values()
        pixels = digits.load(None, Path())["train"].pixels
        train = values[~digits.test_mask(digits.read_values()[1])].reshape(-1, 8, 8, 1)
        assert (np.abs(pixels - train * (255 / 16)) <= 0.5).all()

    def test_other_values_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(digits, "SHA256", "0" * 64)
        with pytest.raises(InputError, match="values have SHA-256 .*, expected 000"):
            load("digits")

    def test_no_input_folder(self) -> None:
        with pytest.raises(InputError, match="takes no input folder"):
            load("digits", from_path=Path("/tmp"))


def idx(array: np.ndarray) -> bytes:
    header = [0, 0, 8, array.ndim, *(byte for size in array.shape for byte in size.to_bytes(4, "big"))]
    return bytes(header) + array.tobytes()


class TestFashionMnist:
    """The real files are too large for a test; the pins are swapped for those of small ones."""

    @pytest.fixture
    def files(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
        rng = np.random.default_rng(0)
        made = {}
        for prefix, num in (("train", 12), ("t10k", 5)):
            made[f"{prefix}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (num, 28, 28), dtype=np.uint8))
            made[f"{prefix}-labels-idx1-ubyte"] = idx(np.arange(num, dtype=np.uint8) % 10)
        pins = {name: (len(data), sha256_hex(data)) for name, data in made.items()}
        monkeypatch.setattr(fashion_mnist, "FILES", pins)
        return made

    @pytest.fixture(autouse=True)
    def _offline(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def no_network(*arguments: Any, **options: Any) -> Any:
            raise urllib.error.URLError("no route to host")

        def no_command(*arguments: Any, **options: Any) -> Any:
            raise FileNotFoundError(2, "No such file or directory", arguments[0][0])

        monkeypatch.setattr(fashion_mnist, "PACKAGE_FOLDER", str(tmp_path / "installed").lstrip("/"))
        monkeypatch.setattr(urllib.request, "urlopen", no_network)
        monkeypatch.setattr(subprocess, "run", no_command)

    def write(self, folder: Path, files: dict[str, bytes], *, packed: bool) -> Path:
        folder.mkdir(parents=True)
        for name, data in files.items():
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (folder / name).write_bytes(data)
        return folder

    @pytest.mark.parametrize("packed", [True, False])
    def test_from_a_folder(self, tmp_path: Path, files: dict[str, bytes], packed: bool) -> None:
        sources = load("fashion-mnist", from_path=self.write(tmp_path / "in", files, packed=packed))
        train = sources["train"]
        assert train.pixels.shape == (12, 28, 28, 1) and train.labels.tolist() == [*range(10), 0, 1]
        assert train.pixels.tobytes() == files["train-images-idx3-ubyte"][16:]
        assert set(train.files) == {"train-images-idx3-ubyte", "train-labels-idx1-ubyte"}
        assert (sources["test"].split, len(sources["test"].labels)) == ("test", 5)
        assert train.classes.names[0] == "T-shirt/top" and train.path(3) == "train-images-idx3-ubyte#3"

    def test_wrong_files_are_refused_by_name(self, tmp_path: Path, files: dict[str, bytes]) -> None:
        folder = self.write(tmp_path / "in", files, packed=True)
        path = folder / "t10k-labels-idx1-ubyte.gz"
        path.write_bytes(gzip.compress(files["t10k-labels-idx1-ubyte"][:-1] + b"\x09"))
        with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte.gz: is not Fashion-MNIST's .* SHA-256"):
            load("fashion-mnist", from_path=folder)
        path.write_bytes(gzip.compress(files["t10k-labels-idx1-ubyte"])[:-9])
        with pytest.raises(InputError, match="not a whole gzip file"):
            load("fashion-mnist", from_path=folder)
        path.write_bytes(gzip.compress(bytes(10_000_000)))  # unpacked no further than the pinned size
        with pytest.raises(InputError, match="is not Fashion-MNIST's"):
            load("fashion-mnist", from_path=folder)
        path.unlink()
        with pytest.raises(InputError, match="holds neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz"):
            load("fashion-mnist", from_path=folder)

    def test_one_error_names_the_ways(self, tmp_path: Path, files: dict[str, bytes]) -> None:
        with pytest.raises(InputError) as caught:
            load("fashion-mnist", cache_dir=tmp_path)
        text = str(caught.value)
        for way in ("--from DIR", "apt-get install dataset-fashion-mnist", "https://", "no route to host", "apt-get"):
            assert way in text
        assert "\n" not in text

    def test_installed_package(self, tmp_path: Path, files: dict[str, bytes]) -> None:
        self.write(tmp_path / "installed", files, packed=True)
        assert len(load("fashion-mnist", cache_dir=tmp_path / "cache")["train"].labels) == 12

    def test_package_is_fetched_once_and_unpacked_without_root(
        self, tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commands = []

        def run(command: tuple[str, ...], *, cwd: str, **options: Any) -> subprocess.CompletedProcess[str]:
            commands.append(" ".join(word for word in command if "/" not in word and word != "-o"))
            if "download" in command and len(commands) == 1:
                return subprocess.CompletedProcess(command, 100, "", "E: Unable to locate package")
            if "download" in command:
                Path(cwd, "dataset-fashion-mnist_0.0_all.deb").write_bytes(b"")
            if command[0] == "dpkg-deb":
                self.write(Path(command[3], fashion_mnist.PACKAGE_FOLDER), files, packed=True)
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(subprocess, "run", run)
        for _ in range(2):
            assert len(load("fashion-mnist", cache_dir=tmp_path / "cache")["train"].labels) == 12
        package = "apt-get download dataset-fashion-mnist"
        assert commands == [package, "apt-get update", package, "dpkg-deb -x"]
        assert sorted(path.name for path in (tmp_path / "cache" / "fashion-mnist").iterdir()) == sorted(
            f"{name}.gz" for name in files
        )

    def test_https(self, tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        def answer(address: str, timeout: float) -> io.BytesIO:
            return io.BytesIO(gzip.compress(files[address.rpartition("/")[2].removesuffix(".gz")]))

        monkeypatch.setattr(urllib.request, "urlopen", answer)
        assert len(load("fashion-mnist", cache_dir=tmp_path)["test"].labels) == 5
        monkeypatch.setattr(urllib.request, "urlopen", None)
        assert len(load("fashion-mnist", cache_dir=tmp_path)["test"].labels) == 5, "kept in the cache"

    def test_the_pins_are_those_of_the_real_files(self) -> None:
        sizes = {name: num_bytes for name, (num_bytes, _) in fashion_mnist.FILES.items()}
        assert sizes["train-images-idx3-ubyte"] == 16 + 60000 * 784 and sizes["t10k-labels-idx1-ubyte"] == 8 + 10000


def picture(form: str, mode: str = "RGB", size: tuple[int, int] = (6, 4), **options: Any) -> bytes:
    buffer = io.BytesIO()
    noise = Image.effect_noise(size, 80)
    (noise if mode == "L" else noise.convert(mode)).save(buffer, form, **options)
    return buffer.getvalue()


def fill(root: Path, *names: str, content: bytes | None = None) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture("PNG") if content is None else content)


class TestImageFolder:
    def test_splits_share_the_class_list_of_train(self, tmp_path: Path) -> None:
        fill(tmp_path, "train/dog/b.png", "train/cat/a.png", "train/emu/c.png", "train/cat/more/z.png")
        fill(tmp_path, "test/dog/x.png", "test/cat/y.png")
        sources = load(f"imagefolder:{tmp_path}")
        assert set(sources) == {"train", "test"}
        train, test = sources["train"], sources["test"]
        assert train.classes.ids == test.classes.ids == ("cat", "dog", "emu")
        assert (train.split, test.split, test.labels.tolist().count(2)) == ("train", "test", 0)
        assert sorted(train.path(n) for n in range(4)) == ["cat/a.png", "cat/more/z.png", "dog/b.png", "emu/c.png"]

    def test_validation_stands_for_test(self, tmp_path: Path) -> None:
        fill(tmp_path, "train/a/1.png", "val/a/2.png")
        sources = load(f"imagefolder:{tmp_path}")
        assert {folder: source.split for folder, source in sources.items()} == {"train": "train", "test": "validation"}
        fill(tmp_path, "test/a/3.png")
        sources = load(f"imagefolder:{tmp_path}")
        assert {folder: source.split for folder, source in sources.items()} == {
            "train": "train",
            "test": "test",
            "validation": "validation",
        }
        fill(tmp_path, "validation/a/3.png")
        with pytest.raises(InputError, match="both val and validation"):
            load(f"imagefolder:{tmp_path}")

    def test_a_plain_folder_is_what_one_says(self, tmp_path: Path) -> None:
        fill(tmp_path, "a/1.png", "b/2.png", "train/3.png")  # a class may be called train
        assert load(f"imagefolder:{tmp_path}")["train"].classes.ids == ("a", "b", "train")
        assert load(f"imagefolder:{tmp_path}", split="test")["test"].split == "test"

    def test_ambiguous_and_empty_folders(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="holds no class folders"):
            load(f"imagefolder:{tmp_path}")
        fill(tmp_path, "train/a/1.png", "bus/2.png")
        with pytest.raises(InputError, match=r"split folders \(train\) and others \(bus\)"):
            load(f"imagefolder:{tmp_path}")
        (tmp_path / "bus/2.png").rename(tmp_path / "train/1.PNG")
        (tmp_path / "bus").rmdir()
        with pytest.raises(InputError, match="train/1.PNG: an image outside a class folder"):
            load(f"imagefolder:{tmp_path}")
        (tmp_path / "train/1.PNG").unlink()
        (tmp_path / "train/b").mkdir()
        with pytest.raises(InputError, match="train/b: this class folder holds no file"):
            load(f"imagefolder:{tmp_path}")
        (tmp_path / "train/b").rmdir()
        fill(tmp_path, "test/z/1.png")
        with pytest.raises(InputError, match="test: class folder z is not in"):
            load(f"imagefolder:{tmp_path}")

    def test_names_that_fit_no_key_are_numbered(self, tmp_path: Path) -> None:
        fill(tmp_path, "hot dog/1.png", "Ärger/1.png", "cat/1.png")
        classes = load(f"imagefolder:{tmp_path}")["train"].classes
        assert (classes.ids, classes.names) == (("c00", "c01", "c02"), ("cat", "hot dog", "Ärger"))

    def test_hidden_files_and_links(self, tmp_path: Path) -> None:
        fill(
            tmp_path,
            "in/a/1.png",
            "in/a/.2.png",
            "in/.git/3.png",
            "in/a/.hidden/4.png",
            "out/b/5.png",
            "out/b/deep/6.png",
        )
        (tmp_path / "in/a/7.png").symlink_to(tmp_path / "out/b/5.png")
        (tmp_path / "in/b").symlink_to(tmp_path / "out/b")
        source = load(f"imagefolder:{tmp_path / 'in'}")["train"]
        assert sorted(map(source.path, range(4))) == ["a/1.png", "a/7.png", "b/5.png", "b/deep/6.png"]
        (tmp_path / "in/a/loop").symlink_to(tmp_path / "in")
        with pytest.raises(InputError, match="a/loop: a link to a folder inside a class folder is not followed"):
            load(f"imagefolder:{tmp_path / 'in'}")

    def test_every_stretch_of_samples_holds_all_classes(self, tmp_path: Path) -> None:
        fill(tmp_path, *(f"{name}/{n}.png" for name in "abc" for n in range(8)))
        labels = load(f"imagefolder:{tmp_path}")["train"].labels
        assert all(sorted(labels[start : start + 3]) == [0, 1, 2] for start in range(0, 24, 3))

    @pytest.mark.parametrize(
        ("form", "mode", "extension"),
        [
            ("PNG", "RGB", "png"),
            ("PNG", "P", "png"),
            ("JPEG", "L", "jpg"),
            ("JPEG", "CMYK", "jpg"),
            ("WEBP", "RGBA", "webp"),
        ],
    )
    def test_bytes_are_kept_whatever_the_file_is_called(self, form: str, mode: str, extension: str) -> None:
        data = picture(form, mode)
        stored = imagefolder.read_image(data)
        assert (stored.data, stored.extension, stored.width, stored.height) == (data, extension, 6, 4)

    def test_orientation_is_left_alone(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        data = picture("JPEG", exif=exif)
        stored = imagefolder.read_image(data)
        assert (stored.data, stored.width, stored.height) == (data, 6, 4)

    @pytest.mark.parametrize(
        ("form", "mode", "channels"),
        [
            ("BMP", "RGB", 3),
            ("GIF", "P", 3),
            ("PPM", "L", 1),
            ("TIFF", "RGBA", 4),
            ("TIFF", "CMYK", 3),
            ("TIFF", "1", 1),
        ],
    )
    def test_other_formats_become_png(self, form: str, mode: str, channels: int) -> None:
        data = picture(form, mode)
        stored = imagefolder.read_image(data)
        pixels = decode(stored.data, extension="png")
        assert stored.extension == "png" and pixels.shape == (4, 6, channels)
        with Image.open(io.BytesIO(data)) as image:
            target = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
            assert (pixels.squeeze() == np.asarray(image.convert(target))).all()

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "no image"),
            (b"text", "no image"),
            (picture("PNG")[:60], "no readable png"),
            (picture("JPEG", size=(64, 64))[:-200], "no readable jpg"),
            (picture("BMP")[:60], "truncated"),
            (picture("TIFF", "I;16"), "not 8 bits"),
            (picture("PNG", "I;16"), "pixel mode I;16"),
            (picture("GIF", save_all=True, append_images=[Image.new("RGB", (6, 4))]), "more than one picture"),
            (picture("PNG", save_all=True, append_images=[Image.new("RGB", (6, 4))]), "more than one picture"),
            (picture("EPS"), "no image"),
        ],
        ids=[
            "empty",
            "text",
            "cut png",
            "cut jpeg",
            "cut bmp",
            "16-bit tiff",
            "16-bit png",
            "moving gif",
            "apng",
            "eps",
        ],
    )
    def test_unreadable_images_are_named(self, tmp_path: Path, content: bytes, reason: str) -> None:
        fill(tmp_path, "a/1.png", content=content)
        with pytest.raises(UnreadableImage, match=reason) as caught:
            load(f"imagefolder:{tmp_path}")["train"].read(0)
        assert caught.value.path == str(tmp_path / "a/1.png") and "0x" not in caught.value.reason

    def test_images_too_large_are_not_decoded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imagefolder, "MAX_PIXELS", 23)
        fill(tmp_path, "a/1.bmp", content=picture("BMP"))
        with pytest.raises(UnreadableImage, match="6x4 pixels, at most 23 are decoded"):
            load(f"imagefolder:{tmp_path}")["train"].read(0)
        monkeypatch.setattr(imagefolder, "MAX_FILE_BYTES", 10)
        with pytest.raises(UnreadableImage, match="bytes, at most 10 are read"):
            load(f"imagefolder:{tmp_path}")["train"].read(0)
