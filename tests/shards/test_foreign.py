"""Hugging Face Parquet and foreign WebDataset tars: what they hold is kept, what they lack is said on one line."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.shards.dataset import open_set
from caskit.shards.imports import import_source, source_sha256
from caskit.shards.sources import parquet
from caskit.shards.sources.foreign_tar import list_members
from caskit.shards.sources.huggingface import folder_names
from caskit.shards.sources.labels import read_prompts
from caskit.shards.sources.parts import split_of
from caskit.shards.sources.recognise import Options, form_of, recognise
from caskit.shards.sources.source import Source, UnreadableImage
from caskit.shards.verify import verify

NAMES = ("cat", "hot dog", "emu")
NUM = 10
PIXELS = np.random.default_rng(0).integers(0, 256, (NUM, 4, 5, 3), dtype=np.uint8)
LABELS = (np.arange(NUM) * 7 % 3).tolist()


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


PNGS = [png(image) for image in PIXELS]
JOINT = {(NAMES[label], data) for label, data in zip(LABELS, PNGS, strict=True)}


def check(source: Source, out: Path, expected: set[tuple[str, bytes]] = JOINT) -> None:
    """Import and compare class, stored bytes and pixels of every sample."""
    replica = import_source(source, out, samples_per_shard=4)
    assert (replica.kind, replica.num_samples) == ("imported", len(expected))
    verify(str(out), "deep")
    data = open_set(str(out))
    names = data.classes.names
    assert {(names[label], data.read(n)) for n, label in enumerate(data.labels)} == expected
    images, _ = data.arrays()
    stored = {data.read(n): images[n].tobytes() for n in range(len(data))}
    assert all(stored[made] == image.tobytes() for made, image in zip(PNGS, PIXELS, strict=True) if made in stored)


def features(names: Iterable[str] = NAMES, column: str = "label") -> dict[bytes, bytes]:
    label = {"names": list(names), "_type": "ClassLabel"}
    value = {"info": {"features": {"image": {"_type": "Image"}, column: label}}}
    return {b"huggingface": json.dumps(value).encode()}


def table(labels: Any = None, *, metadata: dict[bytes, bytes] | None = None, images: Any = None) -> pa.Table:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": data, "path": f"{n}.png"} for n, data in enumerate(PNGS)] if images is None else images
    made = pa.table({"image": pa.array(rows, type=struct), "label": pa.array(LABELS if labels is None else labels)})
    return made.replace_schema_metadata(metadata)


def write(path: Path, made: pa.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, path, row_group_size=3, **options)
    return path


class TestParquet:
    def test_a_pushed_dataset(self, tmp_path: Path) -> None:
        root, made = tmp_path / "in", table(metadata=features())
        write(root / "data" / "train-00000-of-00002.parquet", made.slice(0, 6))
        write(root / "data" / "train-00001-of-00002.parquet", made.slice(6))
        write(root / "data" / "test-00000-of-00001.parquet", made.slice(0, 2))
        (root / "README.md").write_text("---\nlicense: mit\n---\n")
        assert form_of(root) == "parquet"
        with pytest.raises(InputError, match="holds files of test, train: which split is meant, choose one"):
            recognise(root)
        source = recognise(root, Options(split="train"))
        assert (source.split, source.licence, source.classes.names) == ("train", "mit", NAMES)
        assert sorted(source.files) == [f"data/train-0000{n}-of-00002.parquet" for n in range(2)]
        places = {source.path(n) for n in range(NUM)}
        assert "data/train-00001-of-00002.parquet#3" in places and len(places) == NUM
        check(source, tmp_path / "set")
        with pytest.raises(InputError, match="it has no split validation"):
            recognise(root, Options(split="validation"))

    def test_what_datasets_writes(self, tmp_path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        columns = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))})
        rows = {"img": [{"bytes": data, "path": None} for data in PNGS], "label": LABELS}
        datasets.Dataset.from_dict(rows, features=columns).to_parquet(str(tmp_path / "all.parquet"))
        source = recognise(tmp_path / "all.parquet")
        assert source.classes.names == NAMES
        check(source, tmp_path / "set")

    def test_names_beside_the_data(self, tmp_path: Path) -> None:
        path = write(tmp_path / "all.parquet", table())
        assert recognise(path).classes.names == ("0", "1", "2")
        (tmp_path / "README.md").write_text(
            "---\ndataset_info:\n- config_name: a\n  features:\n  - name: image\n    dtype: image\n  - name: label\n"
            "    dtype:\n      class_label:\n        names:\n          '0': cat\n          '1': \"hot dog\"\n"
            "          '2': 'emu'\n  splits:\n  - name: train\n---\n'3': no\n"
        )
        check(recognise(path), tmp_path / "set")
        other = {"default": {"features": {"label": {"names": ["x", "y", "z"], "_type": "ClassLabel"}}}}
        (tmp_path / "dataset_infos.json").write_text(json.dumps(other))
        with pytest.raises(InputError, match="different class names for label; give the class list"):
            recognise(path)
        assert folder_names(tmp_path, "none") is None

    @pytest.mark.parametrize("values", [[NAMES[label] for label in LABELS], [f" {NAMES[label]}" for label in LABELS]])
    def test_labels_that_are_names(self, tmp_path: Path, values: list[str]) -> None:
        source = recognise(write(tmp_path / "all.parquet", table(values)))
        assert source.classes.names == tuple(sorted(NAMES))
        check(source, tmp_path / "set")

    def test_a_class_list_from_elsewhere(self, tmp_path: Path) -> None:
        path = write(tmp_path / "all.parquet", table(metadata=features()))
        check(recognise(path, Options(classes=ClassList.from_names(["none", *reversed(NAMES)]))), tmp_path / "set")
        with pytest.raises(InputError, match="class 'hot dog' is not in the class list"):
            recognise(path, Options(classes=ClassList.of_names(["cat", "emu"])))

    def test_columns_that_are_named(self, tmp_path: Path) -> None:
        made = table().rename_columns(["photo", "kind"])
        made = made.append_column("mask", made["photo"])
        path = write(tmp_path / "all.parquet", made)
        with pytest.raises(InputError, match=r"columns photo, mask; which holds the images"):
            recognise(path)
        with pytest.raises(InputError, match="labels are required: which of photo, kind, mask holds them"):
            recognise(path, Options(image_field="photo"))
        with pytest.raises(InputError, match="no column class; labels are required"):
            recognise(path, Options(image_field="photo", label_field="class"))
        with pytest.raises(InputError, match="column kind holds no images"):
            recognise(path, Options(image_field="kind", label_field="kind"))
        names = ClassList.from_names(NAMES)
        check(recognise(path, Options(image_field="photo", label_field="kind", classes=names)), tmp_path / "set")

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([None, *LABELS[1:]], "all.parquet#0: label is missing; labels are required"),
            ([-1, *LABELS[1:]], "all.parquet#0: label is -1, allowed: 0..2"),
            ([*LABELS[:-1], 3], "all.parquet#9: label is 3, allowed: 0..2"),
            ([0.5] * NUM, "column label is double, labels are integers or texts"),
            ([[1]] * NUM, "column label is list"),
        ],
    )
    def test_labels_that_are_none(self, tmp_path: Path, labels: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            recognise(write(tmp_path / "all.parquet", table(labels, metadata=features())))

    def test_images_that_are_none(self, tmp_path: Path) -> None:
        rows = [{"bytes": data, "path": None} for data in PNGS]
        rows[4] = {"bytes": None, "path": "/etc/passwd"}
        source = recognise(write(tmp_path / "all.parquet", table(images=rows)))
        place = next(n for n in range(NUM) if source.path(n) == "all.parquet#4")
        with pytest.raises(UnreadableImage, match="has no bytes, and a path alone is not followed"):
            source.read(place)
        rows[4] = {"bytes": png(np.zeros((9, 9, 3), np.uint8)), "path": None}
        with pytest.raises(InputError, match=r"image is 9x9, all.parquet#\d is 5x4; a set holds images of one size"):
            import_source(recognise(write(tmp_path / "all.parquet", table(images=rows))), tmp_path / "set")

    def test_damage_and_bombs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path / "all.parquet", table())
        data = path.read_bytes()
        path.write_bytes(data[:-40])
        with pytest.raises(InputError, match="not recognised|not a whole Parquet file"):
            recognise(path)
        path.write_bytes(b"PAR1" + data[4:-300] + bytes(292) + data[-8:])
        with pytest.raises(InputError, match="not a whole Parquet file"):
            recognise(path)
        many = write(tmp_path / "many.parquet", pa.concat_tables([table()] * 40).combine_chunks())
        monkeypatch.setattr(parquet, "MAX_EXPANSION", 0)
        monkeypatch.setattr(parquet, "_SLACK_BYTES", 1000)
        with pytest.raises(InputError, match="images of more than 1000 bytes in all"):
            recognise(many).read(0)

    def test_a_saved_dataset_says_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        (tmp_path / "train" / "data-00000-of-00001.arrow").write_bytes(b"")
        with pytest.raises(InputError, match="Dataset.to_parquet.FILE. writes one"):
            form_of(tmp_path)

    @pytest.mark.parametrize(
        ("name", "split"),
        [
            ("data/train-00000-of-00001.parquet", "train"),
            ("validation/0000.parquet", "validation"),
            ("plain_text/test/0000.parquet", "test"),
            ("imagenet-val-000123.tar", "validation"),
            ("training_set/contest.parquet", "train"),
            ("0000.parquet", None),
        ],
    )
    def test_splits_by_name(self, name: str, split: str | None) -> None:
        assert split_of(name) == split


def tar(path: Path, members: Iterable[tuple[str, bytes]], **header: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=header.pop("format", tarfile.PAX_FORMAT)) as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5  # a fraction makes a PAX header, as webdataset's writer does
            for field, value in header.items():
                setattr(info, field, value)
            file.addfile(info, io.BytesIO(data))
    return path


def samples(*beside: tuple[str, list[Any]], image: str = "png") -> list[tuple[str, bytes]]:
    found = []
    for n, data in enumerate(PNGS):
        found.append((f"{n:05d}.{image}", data))
        found += [(f"{n:05d}.{ending}", values[n]) for ending, values in beside]
    return found


NUMBERS = [str(label).encode() for label in LABELS]
WORDS = [NAMES[label].encode() for label in LABELS]
PROMPTS = [f"a photo of a {NAMES[label]}, high quality\n".encode() for label in LABELS]
FIELDS = [json.dumps({"url": "http://x", "class": int(label), "caption": "y"}).encode() for label in LABELS]
BY_NUMBER = Options(classes=ClassList.from_names(NAMES))


class TestWebDataset:
    @pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    @pytest.mark.parametrize("prefix", ["", "./a/", "b" * 120 + "/"])
    def test_cls(self, tmp_path: Path, kind: int, prefix: str) -> None:
        members = [(prefix + name, data) for name, data in samples(("cls", NUMBERS), ("txt", PROMPTS))]
        source = recognise(tar(tmp_path / "a.tar", members, format=kind), BY_NUMBER)
        assert {source.path(n) for n in range(NUM)} == {f"a.tar#{prefix}{n:05d}" for n in range(NUM)}
        check(source, tmp_path / "set")

    def test_what_webdataset_writes(self, tmp_path: Path) -> None:
        import webdataset

        for part in range(2):
            with webdataset.TarWriter(str(tmp_path / f"part-{part}.tar")) as writer:
                for n in range(part, NUM, 2):
                    writer.write({"__key__": f"{n:04d}", "png": PIXELS[n], "cls": LABELS[n]})
        source = recognise(tmp_path, BY_NUMBER)
        assert list(source.files) == ["part-0.tar", "part-1.tar"]
        replica = import_source(source, tmp_path / "set")
        data = open_set(str(tmp_path / "set"))
        images, labels = data.arrays()
        expected = {(label, image.tobytes()) for label, image in zip(LABELS, PIXELS, strict=True)}
        assert {(int(label), image.tobytes()) for label, image in zip(labels, images, strict=True)} == expected
        assert replica.num_samples == NUM

    def test_names_in_cls(self, tmp_path: Path) -> None:
        source = recognise(tar(tmp_path / "a.tar", samples(("cls", WORDS), image="JPEG")))
        assert source.classes.names == tuple(sorted(NAMES))
        check(source, tmp_path / "set")

    def test_img2dataset(self, tmp_path: Path) -> None:
        tar(tmp_path / "00000.tar", samples(("txt", PROMPTS), ("json", FIELDS)))
        (tmp_path / "00000.parquet").write_bytes(b"PAR1")
        (tmp_path / "00000_stats.json").write_text("{}")
        assert form_of(tmp_path) == "webdataset"
        with pytest.raises(
            InputError, match=r"key '00000' has no .cls, beside the image is .txt, .json; labels are req"
        ):
            recognise(tmp_path)
        with pytest.raises(
            InputError, match=r"00000.tar#00000: .json has no field label, fields are url, class, caption"
        ):
            recognise(tmp_path, Options(label_field="label"))
        source = recognise(tmp_path, Options(label_field="class", classes=BY_NUMBER.classes))
        assert source.settings == {"label": "json:class"}
        check(source, tmp_path / "set")

    @pytest.mark.parametrize("name", ["prompts.csv", "prompts.json"])
    def test_prompts(self, tmp_path: Path, name: str) -> None:
        pairs = [(f"a photo of a {word}, high quality", word) for word in NAMES]
        text = json.dumps(dict(pairs)) if name.endswith("json") else "prompt,class\n"
        if name.endswith("csv"):
            text += "".join(f'"{prompt}",{word}\n' for prompt, word in pairs)
        (tmp_path / name).write_text(text)
        prompts = read_prompts(tmp_path / name)
        path = tar(tmp_path / "a.tar", samples(("txt", PROMPTS)))
        source = recognise(path, Options(prompts=prompts))
        assert source.classes.names == NAMES, "in the order of the table"
        check(source, tmp_path / "set")
        swapped = dict(zip(prompts, reversed(prompts.values()), strict=True))
        other = recognise(path, Options(prompts=swapped, classes=source.classes))
        assert source_sha256(other) != source_sha256(source), "the table decides the labels"
        del prompts["a photo of a emu, high quality"]
        with pytest.raises(
            InputError, match="a.tar#0000.: prompt 'a photo of a emu, high quality' is not in the table"
        ):
            recognise(path, Options(prompts=prompts))
        fields = [json.dumps({"caption": prompt.decode()}).encode() for prompt in PROMPTS]
        path = tar(tmp_path / "b.tar", samples(("json", fields)))
        check(recognise(path, Options(prompts=read_prompts(tmp_path / name), label_field="caption")), tmp_path / "more")

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("p.csv", "prompt,label\na,b\n", "has columns prompt, label, needs prompt and class"),
            ("p.csv", "prompt,class\na,b\na ,c\n", "prompt 'a' stands for 'b' and for 'c'"),
            ("p.json", '{"a": 1}', "must be an object from prompt to class name"),
            ("p.json", "[]", "must be an object from prompt to class name"),
        ],
    )
    def test_tables_that_are_none(self, tmp_path: Path, name: str, text: str, message: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message):
            read_prompts(tmp_path / name)

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ([("0.cls", b"1")], "key '0' has no image"),
            ([("0.png", PNGS[0])], "key '0' has no .cls, beside the image is nothing; labels are required"),
            ([("0.png", PNGS[0]), ("0.jpg", PNGS[0]), ("0.cls", b"0")], "key '0' has two members .jpg or two images"),
            ([("0.png", PNGS[0]), ("0.cls", b"0"), ("0.cls", b"1")], "key '0' has two members .cls"),
            ([("0.png", PNGS[0]), ("0.cls", b"3")], r"a.tar#0: label is 3, allowed: 0..2"),
            ([("0.png", PNGS[0]), ("0.cls", b"-1")], "label is -1, allowed: 0..2"),
            ([("0.png", PNGS[0]), ("0.cls", b"9" * 18)], "label is 999999999999999999, allowed"),
            ([("0.png", PNGS[0]), ("0.cls", b"cow")], "class 'cow' is not in the class list"),
            ([("0.png", PNGS[0]), ("0.cls", b"\xff")], "a.tar#0: .cls is not UTF-8 text"),
            ([("0.png", PNGS[0]), ("0.cls", b"x" * 20000)], "a.tar#0: .cls has 20000 bytes, at most 16384"),
            ([("../0.png", PNGS[0]), ("../0.cls", b"0")], r"the name '../0.png' leads out of the folder"),
            ([("/etc/0.png", PNGS[0])], "the name '/etc/0.png' leads out"),
            ([("README", b"")], "member 'README' is not named KEY.EXTENSION"),
            ([], "holds no samples"),
        ],
    )
    def test_samples_that_are_none(self, tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            recognise(tar(tmp_path / "a.tar", members), BY_NUMBER)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (b"{", "a.tar#0: not valid JSON"),
            (b"[" * 5000, "not valid JSON"),
            (b"[]", "has no field class, fields are none"),
            (b'{"class": 1.5}', "field class is '1.5', a label is a whole number or a text"),
            (b'{"class": true}', "field class is 'True'"),
        ],
    )
    def test_fields_that_are_none(self, tmp_path: Path, fields: bytes, message: str) -> None:
        with pytest.raises(InputError, match=message):
            recognise(tar(tmp_path / "a.tar", [("0.png", PNGS[0]), ("0.json", fields)]), Options(label_field="class"))

    @pytest.mark.parametrize(
        ("kind", "message"),
        [(tarfile.SYMTYPE, "a symbolic link"), (tarfile.LNKTYPE, "a hard link"), (b"3", "a device")],
    )
    def test_links_are_not_followed(self, tmp_path: Path, kind: bytes, message: str) -> None:
        path = tar(tmp_path / "a.tar", [("0.png", b"")], type=kind, linkname="/etc/passwd")
        with pytest.raises(InputError, match=f"'0.png' is {message}, which is not followed"):
            recognise(path)

    def test_every_cut_and_every_damaged_header_is_noticed(self, tmp_path: Path) -> None:
        """`tarfile` reads a damaged tar to its damage and calls that the end."""
        path = tar(tmp_path / "a.tar", samples(("cls", NUMBERS)), format=tarfile.USTAR_FORMAT)
        whole = path.read_bytes()
        members = list(list_members(path))
        assert len(members) == 2 * NUM
        end = members[-1].offset + 512
        for size in range(0, end + 1024, 512):
            path.write_bytes(whole[:size])
            if size > end:
                assert len(list(list_members(path))) == 2 * NUM
                continue
            with pytest.raises(InputError, match="cut "):
                list(list_members(path))
        for member in members:
            at = member.offset - 512
            flipped = whole[: at + 130] + bytes([whole[at + 130] ^ 1]) + whole[at + 131 :]
            path.write_bytes(flipped)
            with pytest.raises(InputError, match=f"the header at byte {at}, after .* is damaged"):
                list(list_members(path))
            path.write_bytes(whole[:at] + bytes(512) + whole[at + 512 :])
            with pytest.raises(InputError, match="bytes behind its end, after"):
                list(list_members(path))

    def test_packed_tars_say_so(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "a.tar", "w:gz") as file:
            file.addfile(tarfile.TarInfo("0.png"))
        with pytest.raises(InputError, match="a.tar: compressed, unpack it first"):
            recognise(tmp_path / "a.tar")

    def test_huge_headers_are_not_believed(self, tmp_path: Path) -> None:
        path = tar(tmp_path / "a.tar", [("0.png", b"x")], pax_headers={"size": str(10**17)})
        with pytest.raises(InputError, match="cut inside the member after no member"):
            list(list_members(path))
        path = tar(tmp_path / "b.tar", [("0.png", b"x")], pax_headers={"comment": "x" * 2**21})
        with pytest.raises(InputError, match=r"an extended header of \d+ bytes, after no member"):
            list(list_members(path))


def test_options_belong_to_forms(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", PIXELS, LABELS)
    with pytest.raises(InputError, match="is npz, only parquet has an image field"):
        recognise(tmp_path / "a.npz", Options(image_field="x"))
    with pytest.raises(InputError, match="is npz, only parquet and webdataset have a label field or prompts"):
        recognise(tmp_path / "a.npz", Options(label_field="x"))
