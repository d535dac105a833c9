"""What another program made becomes an imported set: counts, labels and pixels of it, or one line that says why not."""

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError, NotFinished
from caskit.manifests.imported import NOT_AUDITABLE, Import
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.imports import bring_in, import_source, source_sha256
from caskit.shards.ingest import ingest
from caskit.shards.sources import npz
from caskit.shards.sources.classes import read_classes
from caskit.shards.sources.recognise import Options, form_of, recognise
from caskit.shards.verify import verify

NAMES = ("cat", "dog", "emu")
CLASSES = ClassList.of_names(NAMES)


def pixels(num: int = 11, channels: int = 3, seed: int = 0, size: tuple[int, int] = (4, 5)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, *size, channels), dtype=np.uint8)


def labels(num: int = 11) -> np.ndarray:
    return np.sort(np.arange(num, dtype=np.int64) * 7 % 3)  # sorted by class, as exports often are


def save_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(path)


def folder(root: Path, channels: int = 3) -> Path:
    for number, (image, label) in enumerate(zip(pixels(channels=channels), labels(), strict=True)):
        save_png(root / NAMES[label] / f"{number}.png", image)
    return root


def archive(path: Path, *arrays: Any, packed: bool = False) -> Path:
    (np.savez_compressed if packed else np.savez)(path, *arrays)
    return path


def contents(data: FrozenSet) -> set[tuple[str, bytes]]:
    """Return (class name, pixels) of every sample: what an import must keep."""
    images, found = data.arrays()
    return {(data.classes.names[label], image.tobytes()) for label, image in zip(found, images, strict=True)}


def given(channels: int = 3, names: tuple[str, ...] = NAMES) -> set[tuple[str, bytes]]:
    both = zip(labels(), pixels(channels=channels), strict=True)
    return {(names[label], image.tobytes()) for label, image in both}


def imported(source: Any, out: Path, **options: Any) -> FrozenSet:
    replica = import_source(source, out, samples_per_shard=4, **options)
    assert (replica.kind, replica.num_samples) == ("imported", 11)
    verify(str(out), "deep")
    return open_set(str(out))


class TestRoundTrip:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_folder_of_class_folders(self, tmp_path: Path, channels: int) -> None:
        data = imported(recognise(folder(tmp_path / "in", channels)), tmp_path / "set")
        assert contents(data) == given(channels)
        assert data.channels == channels
        record = data.imported
        assert record is not None and (record.form, record.codec, record.files) == (
            "imagefolder",
            {"name": "original"},
            {},
        )
        for sample_id, path in enumerate(data.table.column("source").to_pylist()):
            assert data.read(sample_id) == (tmp_path / "in" / path).read_bytes(), "the files' own bytes are stored"

    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_an_npz(self, tmp_path: Path, channels: int, packed: bool) -> None:
        path = archive(tmp_path / "samples.npz", pixels(channels=channels), labels(), packed=packed)
        data = imported(recognise(path, Options(classes=CLASSES)), tmp_path / "set")
        assert contents(data) == given(channels)
        record = data.imported
        assert record is not None and list(record.files) == ["samples.npz"] and record.codec["name"] == "png"
        images, found = data.arrays()
        places = [int(name.rpartition("#")[2]) for name in data.table.column("source").to_pylist()]
        assert (images == pixels(channels=channels)[places]).all() and (found == labels()[places]).all()

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("dtype", ["<i8", ">i4", "u1"])
    def test_an_npz_of_any_layout(self, tmp_path: Path, order: Any, dtype: str) -> None:
        grey = np.asarray(pixels(channels=1)[..., 0], order=order)  # [N, H, W] is grey
        path = archive(tmp_path / "samples.npz", grey, labels().astype(dtype))
        data = imported(recognise(path), tmp_path / "set")
        assert contents(data) == given(1, names=("0", "1", "2"))

    def test_the_first_shards_hold_all_classes(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "samples.npz", pixels(), labels())
        data = imported(recognise(path), tmp_path / "set")
        assert set(data.labels[:3].tolist()) == {0, 1, 2}, "though the file is sorted by class"
        assert len(data.first_shards(2)) == 8

    def test_nothing_is_invented(self, tmp_path: Path) -> None:
        data = imported(recognise(folder(tmp_path / "in")), tmp_path / "set", generator="somebody's GAN", licence="mit")
        row = data.table.slice(0, 1).to_pylist()[0]
        assert row["stream_key"] is None and row["attempt"] is None and row["source"].endswith(".png")
        said = json.loads((tmp_path / "set" / "provenance.json").read_bytes())
        assert said["not_auditable"] == list(NOT_AUDITABLE)
        assert (said["generator_as_stated"], said["licence"]) == ("somebody's GAN", "mit")
        card = (tmp_path / "set" / "README.md").read_text()
        assert "Imported images" in card and all(line in card for line in NOT_AUDITABLE)
        assert data.plan is None and data.split is None

    def test_a_record_survives_its_file(self, tmp_path: Path) -> None:
        import_source(recognise(folder(tmp_path / "in")), tmp_path / "set", name="a GAN's")
        value = json.loads((tmp_path / "set" / "import.json").read_bytes())
        assert Import.from_json(value).to_bytes() == (tmp_path / "set" / "import.json").read_bytes()
        for field, wrong, message in (
            ("form", "tape", "form is 'tape', allowed: imagefolder"),
            ("channels", 2, "channels is 2, allowed: 1, 3, 4"),
            ("height", 0, "height is 0"),
            ("source_sha256", "x", "source_sha256 is 'x'"),
            ("settings", {"a": 1}, "settings has the wrong type: .*, must be an object of fields, each text"),
            ("codec", {"name": "gif"}, "wrong type|codec 'gif'"),
            ("histogram", [0, 0, 0], "not all of them 0"),
            ("name", "", "name must be text"),
            ("extra", 1, r"unknown fields: \['extra'\]"),
        ):
            with pytest.raises(InputError, match=message):
                Import.from_json({**value, field: wrong})


class TestResume:
    def test_the_same_import_again_does_nothing(self, tmp_path: Path, tiny: Any) -> None:
        source = recognise(folder(tmp_path / "in"))
        first = import_source(source, tmp_path / "set", samples_per_shard=4)
        before = tiny.tree(tmp_path / "set")
        assert import_source(source, tmp_path / "set", samples_per_shard=4) == first
        assert tiny.tree(tmp_path / "set") == before

    def test_killed_anywhere_and_resumed_gives_the_same_set(
        self, tmp_path: Path, killer: Any, killed: type[BaseException]
    ) -> None:
        source = recognise(archive(tmp_path / "samples.npz", pixels(), labels()))
        with killer.armed(None) as calls:
            whole = import_source(source, tmp_path / "whole", samples_per_shard=6)
        for at in range(0, len(calls), 7):
            with killer.armed(at), pytest.raises(killed):
                import_source(source, tmp_path / f"set{at}", samples_per_shard=6)
            assert import_source(source, tmp_path / f"set{at}", samples_per_shard=6) == whole

    def test_a_changed_file_of_equal_size_is_another_source(self, tmp_path: Path) -> None:
        root = folder(tmp_path / "in")
        import_source(recognise(root), tmp_path / "set")
        path = root / "cat" / "0.png"
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
        with pytest.raises(InputError, match="holds a set from another source; differs in source_sha256"):
            import_source(recognise(root), tmp_path / "set")

    def test_kinds_do_not_mix(self, tmp_path: Path) -> None:
        source = recognise(folder(tmp_path / "in"))
        ingest(source, tmp_path / "real")
        with pytest.raises(InputError, match=r"holds a real set \(ingest.json\)"):
            import_source(source, tmp_path / "real")
        import_source(source, tmp_path / "set")
        with pytest.raises(InputError, match=r"holds a imported set \(import.json\)"):
            ingest(source, tmp_path / "set")

    def test_bad_images_are_left_out_when_asked(self, tmp_path: Path) -> None:
        root = folder(tmp_path / "in")
        (root / "dog" / "bad.png").write_bytes(b"no image")
        with pytest.raises(InputError, match="unreadable image .*bad.png: no image"):
            import_source(recognise(root), tmp_path / "a")
        replica = import_source(recognise(root), tmp_path / "b", skip_bad=True)
        assert replica.num_samples == 11


class TestBringIn:
    def test_content_decides_the_folder(self, tmp_path: Path) -> None:
        root = folder(tmp_path / "in")
        first = bring_in(str(root), cache_dir=tmp_path / "cache")
        assert (first.form, first.cached, first.replica.kind) == ("imagefolder", False, "imported")
        folder(tmp_path / "copy")
        again = bring_in(str(tmp_path / "copy"), cache_dir=tmp_path / "cache")
        assert (again.cached, again.location, again.replica) == (True, first.location, first.replica)
        assert open_set(again.reference).replica == first.replica
        save_png(root / "cat" / "more.png", pixels(1)[0])
        more = bring_in(str(root), cache_dir=tmp_path / "cache")
        assert not more.cached and more.location != first.location and more.replica.num_samples == 12

    def test_real_ones_are_real(self, tmp_path: Path) -> None:
        root = folder(tmp_path / "in", channels=1)
        brought = bring_in(str(root), kind="real", options=Options(split="test"), cache_dir=tmp_path / "cache")
        data = open_set(brought.reference)
        assert (data.kind, data.split, data.channels, contents(data)) == ("real", "test", 1, given(1))
        assert bring_in(str(root), cache_dir=tmp_path / "cache").location != brought.location

    def test_a_caskit_set_is_used_as_it_is(self, tmp_path: Path, tiny: Any) -> None:
        _, replica = tiny.frozen(tmp_path / "set", tiny.plan())
        for reference in (f"{tmp_path}/set", f"{tmp_path}/set@sha256:{replica.replica_id[:16]}"):
            brought = bring_in(reference, cache_dir=tmp_path / "cache")
            assert (brought.form, brought.replica, str(brought.location)) == ("caskit", replica, f"{tmp_path}/set")
        assert not (tmp_path / "cache").exists()
        with pytest.raises(InputError, match="the reference asks for sha256:00000000"):
            bring_in(f"{tmp_path}/set@sha256:00000000")
        with pytest.raises(InputError, match="a caskit set already"):
            recognise(tmp_path / "set")

    def test_the_digest_can_be_stopped(self, tmp_path: Path) -> None:
        with pytest.raises(NotFinished, match="stopped while taking its digest"):
            bring_in(str(folder(tmp_path / "in")), cache_dir=tmp_path / "cache", stop=lambda: True)

    def test_the_digest_follows_from_names_and_bytes(self, tmp_path: Path) -> None:
        """Docs/format.md, 7.9, spelled out."""
        root = folder(tmp_path / "in")
        text = b'{"form":"imagefolder","settings":{}}'
        expected = hashlib.sha256(b"caskit/source/1\0" + struct.pack(">I", len(text)) + text)
        listed = CLASSES.to_bytes()
        expected.update(struct.pack(">I", len(listed)) + listed)
        for path in sorted(str(path.relative_to(root)) for path in root.rglob("*.png")):
            name = path.encode()
            digest = hashlib.sha256((root / path).read_bytes()).digest()
            expected.update(struct.pack(">I", len(name)) + name + digest)
        assert source_sha256(recognise(root)) == expected.hexdigest()


class TestChannels:
    def test_one_size(self, tmp_path: Path) -> None:
        root = folder(tmp_path / "in")
        save_png(root / "cat" / "2.png", pixels(1, size=(5, 5))[0])
        with pytest.raises(InputError, match=r"cat/2.png: image is 5x5, \w+/\d+.png is 5x4; .*resize them first"):
            import_source(recognise(root), tmp_path / "set")

    def test_grey_among_colour(self, tmp_path: Path) -> None:
        root = folder(tmp_path / "in")
        save_png(root / "dog" / "grey.png", pixels(1, channels=1)[0])
        with pytest.raises(
            InputError, match="dog/grey.png: image has 1 channels, .* has 3; grey images can be read as"
        ):
            import_source(recognise(root), tmp_path / "a")
        import_source(recognise(root), tmp_path / "b", channels=3)
        verify(str(tmp_path / "b"), "deep")
        assert open_set(str(tmp_path / "b")).arrays()[0].shape == (12, 4, 5, 3)

    def test_colour_that_is_grey(self, tmp_path: Path) -> None:
        grey = np.repeat(pixels(channels=1), 3, axis=3)
        path = archive(tmp_path / "samples.npz", grey, labels())
        data = imported(recognise(path, Options(classes=CLASSES)), tmp_path / "set", channels=1)
        assert contents(data) == given(1)
        grey[7, 2, 1, 0] ^= 1
        path = archive(tmp_path / "samples.npz", grey, labels())
        with pytest.raises(InputError, match="samples.npz#7: image has 3 channels, 1 are asked for"):
            import_source(recognise(path), tmp_path / "other", channels=1)
        with pytest.raises(InputError, match="channels is 2, allowed: 1, 3, 4"):
            import_source(recognise(path), tmp_path / "other", channels=2)


class TestClasses:
    def test_names_are_looked_up(self, tmp_path: Path) -> None:
        classes = ClassList(ids=("x", "c", "e", "d"), names=("none", "cat", "emu", "dog"))
        data = imported(recognise(folder(tmp_path / "in"), Options(classes=classes)), tmp_path / "set")
        assert contents(data) == given()
        assert data.imported is not None and data.imported.histogram[0] == 0

    @pytest.mark.parametrize(
        ("classes", "message"),
        [
            (ClassList.of_names(["cat", "dog"]), "class 'emu' is not in the class list"),
            (ClassList.from_names(["cat", "dog", "emu", "cat"]), "'cat' is the name of several classes of the list"),
            (ClassList(ids=("dog", "b", "cat"), names=("cat", "emu", "x")), None),
            (ClassList(ids=("cat", "dog", "c"), names=("emu", "y", "x")), "'cat' and 'emu' are the same class"),
        ],
    )
    def test_names_that_are_none(self, tmp_path: Path, classes: ClassList, message: str | None) -> None:
        root = folder(tmp_path / "in")
        if message is None:
            found = recognise(root, Options(classes=classes))
            assert found.path(int(np.flatnonzero(found.labels == 2)[0])).startswith("cat/"), "ids go before names"
            return
        with pytest.raises(InputError, match=message):
            recognise(root, Options(classes=classes))

    def test_splits(self, tmp_path: Path) -> None:
        folder(tmp_path / "in" / "train")
        folder(tmp_path / "in" / "test")
        with pytest.raises(InputError, match=r"split folders \(test, train\): which split is meant, choose one"):
            recognise(tmp_path / "in")
        with pytest.raises(InputError, match="it has no split validation"):
            recognise(tmp_path / "in", Options(split="validation"))
        with pytest.raises(InputError, match="split is 'dev', allowed"):
            Options(split="dev")
        assert recognise(tmp_path / "in", Options(split="test")).split == "test"

    @pytest.mark.parametrize(
        ("name", "text", "ids"),
        [
            ("names.txt", "cat\nhot dog\n\n", ("c00", "c01")),
            ("names.json", '["cat", "dog"]', ("cat", "dog")),
            ("names.json", '[{"id": "n01", "name": "cat"}, {"id": "n02", "name": "cat"}]', ("n01", "n02")),
            ("names.csv", 'name\ncat\n"a, b"\n', ("c00", "c01")),
            ("names.csv", "id,name\nn01,cat\nn02,dog\n", ("n01", "n02")),
        ],
    )
    def test_class_files(self, tmp_path: Path, name: str, text: str, ids: tuple[str, ...]) -> None:
        (tmp_path / name).write_text(text)
        assert read_classes(tmp_path / name).ids == ids

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("names.txt", b"cat\n\ndog", "class 1 has no name"),
            ("names.txt", b"cat\ncat", "classes 0 and 1 are both called 'cat'"),
            ("names.txt", b"", "0 classes, allowed"),
            ("names.txt", b"\xff\xfe", "not UTF-8 text"),
            ("names.json", b"[1, 2]", "must be a list of names"),
            ("names.json", b"[" * 5000, "not valid JSON"),
            ("names.csv", b"label\n1\n", "needs name and perhaps id"),
            ("names.csv", b"id,name\n1\n", "row 2 has 1 values for 2 columns"),
            ("names.csv", b"name\n", "and lines below it"),
        ],
    )
    def test_class_files_that_are_none(self, tmp_path: Path, name: str, text: bytes, message: str) -> None:
        (tmp_path / name).write_bytes(text)
        with pytest.raises(InputError, match=message):
            read_classes(tmp_path / name)

    def test_the_classes_of_a_set(self, tmp_path: Path, tiny: Any) -> None:
        tiny.frozen(tmp_path / "set", tiny.plan())
        assert read_classes(tmp_path / "set") == tiny.plan().classes
        with pytest.raises(InputError, match="no caskit set, whose class list"):
            read_classes(tmp_path)
        with pytest.raises(InputError, match="no such file"):
            read_classes(tmp_path / "none")


def header(dtype: str, shape: tuple[int, ...], order: str = "False") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": order == "True", "shape": shape})
    return buffer.getvalue()


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


class Evil:
    """Unpickling it would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


class TestHostileNpz:
    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ((pixels(),), r"holds images \(arr_0\) without labels \(arr_1\); labels are required"),
            ((pixels(), labels(10)), r"arr_1 is \[10\] for 11 images, must be one label each, \[11\]"),
            ((pixels(10), labels()), r"arr_1 is \[11\] for 10 images"),
            ((pixels().astype(np.float32), labels()), r"arr_0 is float32 \[11, 4, 5, 3\], must be uint8"),
            ((pixels().astype(np.int64), labels()), "arr_0 is int64"),
            ((pixels().transpose(0, 3, 1, 2), labels()), r"arr_0 is \[11, 3, 4, 5\], .* C one of 1, 3, 4"),
            ((pixels(), labels().astype(np.float64)), r"arr_1 is float64 \[11\], must be integer labels"),
            ((pixels(), np.eye(11, dtype=np.int64)), r"arr_1 is \[11, 11\] for 11 images"),
            ((pixels(), labels() - 1), "arr_1: sample 0: label is -1, allowed: 0..2"),
            ((pixels(), labels() + 1), "sample 8: label is 3, allowed: 0..2"),
            ((pixels(), labels().astype(object)), "arr_1.npy: holds Python objects .a pickle., which are never loaded"),
            ((pixels()[:0], labels()[:0]), r"arr_0 is \[0, 4, 5, 3\], must be \[N, H, W, C\] with N of 1 or more"),
            ((labels(), pixels()), "arr_0 is int64"),
        ],
    )
    def test_arrays_that_are_no_samples(self, tmp_path: Path, arrays: tuple[Any, ...], message: str) -> None:
        path = archive(tmp_path / "samples.npz", *arrays)
        with pytest.raises(InputError, match=message) as caught:
            recognise(path, Options(classes=CLASSES))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    def test_a_number_beyond_all_classes(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "samples.npz", pixels(), np.where(np.arange(11) == 4, 2**40, 0))
        with pytest.raises(InputError, match=r"sample 4: label is 1099511627776, allowed: 0..99999"):
            recognise(path)

    def test_a_pickle_is_never_run(self, tmp_path: Path) -> None:
        evil = header("|O", ()) + pickle.dumps(Evil(tmp_path / "mark"))
        for members in ({"arr_0.npy": evil, "arr_1.npy": evil}, {"arr_0.npy": pickle.dumps(Evil(tmp_path / "mark"))}):
            with pytest.raises(InputError, match=r"never loaded|not a whole|without labels"):
                recognise(zipped(tmp_path / "samples.npz", members))
        assert not (tmp_path / "mark").exists()

    def test_sizes_are_compared_before_they_are_believed(self, tmp_path: Path) -> None:
        good = header("<i8", (11,)) + labels().tobytes()
        huge = header("|u1", (10**12, 4, 5, 3))
        short = header("|u1", (11, 4, 5, 3)) + bytes(100)
        for images, message in (
            (huge, r"arr_0.npy: 0 bytes for uint8 \[1000000000000, 4, 5, 3\], which takes 60000000000000"),
            (short, "arr_0.npy: 100 bytes for uint8"),
            (header("|u1", (11, 4, 5, -3)), "is none|not a whole"),
        ):
            with pytest.raises(InputError, match=message):
                recognise(zipped(tmp_path / "samples.npz", {"arr_0.npy": images, "arr_1.npy": good}))

    def test_a_bomb_is_not_unpacked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = archive(tmp_path / "samples.npz", np.zeros((100, 64, 64, 3), np.uint8), np.zeros(100, int), packed=True)
        assert path.stat().st_size < 10_000
        monkeypatch.setattr(npz, "MAX_UNPACKED_BYTES", 100_000)
        with pytest.raises(InputError, match="unpacks to 1228800 bytes, 100000 are allowed in"):
            recognise(path)

    def test_damage_is_noticed(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "samples.npz", pixels(), labels())
        whole = path.read_bytes()
        at = whole.index(pixels().tobytes()[:32])
        for broken in (whole[:-300], whole[:300], whole[: at + 5] + b"\x00\x01\x02" + whole[at + 8 :]):
            path.write_bytes(broken)
            with pytest.raises(InputError, match="not a whole .npz file"):
                recognise(path)

    def test_a_directory_that_points_outside(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "samples.npz", pixels(), labels())
        data = path.read_bytes()
        start = struct.unpack("<I", data[-6:-2])[0]
        path.write_bytes(data[:-6] + struct.pack("<I", start + 1000) + data[-2:])
        with pytest.raises(InputError, match="not a whole .npz file .its directory points outside"):
            recognise(path)

    def test_other_members(self, tmp_path: Path) -> None:
        path = zipped(tmp_path / "samples.npz", {"../../evil.npy": b"x", "images.npy": b""})
        with pytest.raises(InputError, match=r"holds \.\./\.\./evil.npy, images.npy; needs arr_0"):
            recognise(path)
        path = zipped(tmp_path / "many.npz", {f"arr_{n}.npy": b"" for n in range(100)})
        with pytest.raises(InputError, match="holds 100 members"):
            recognise(path)


class TestRecognise:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("none", None, "no such file or folder"),
            ("samples.npz", b"no zip", "samples.npz: not recognised; what is read: a folder of class folders"),
            ("samples.npy", b"", "np.savez.FILE, images, labels. writes an .npz with both"),
            ("samples.pt", b"PK\x03\x04", "pickles are never read"),
            ("images.zip", b"PK\x03\x04", "unpack it first"),
            ("image.png", b"\x89PNG", "not recognised; what is read"),
        ],
    )
    def test_what_is_not_known(self, tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message) as caught:
            form_of(tmp_path / name)
        assert "\n" not in str(caught.value)

    def test_folders_that_are_not_known(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="not recognised, holds nothing"):
            form_of(tmp_path)
        (tmp_path / "a.txt").write_text("")
        with pytest.raises(InputError, match="not recognised, holds a.txt; what is read"):
            form_of(tmp_path)
        (tmp_path / "a.npz").write_text("")
        with pytest.raises(InputError, match=r"name one of them: .*a.npz"):
            form_of(tmp_path)

    def test_devices_are_not_read(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "samples.npz")
        with pytest.raises(InputError, match="neither a file nor a folder"):
            form_of(tmp_path / "samples.npz")

    def test_an_unfinished_set_is_one(self, tmp_path: Path, tiny: Any) -> None:
        tiny.start(tmp_path / "set", tiny.plan())
        assert form_of(tmp_path / "set") == "caskit"
        with pytest.raises(InputError, match="not frozen yet"):
            bring_in(str(tmp_path / "set"))
