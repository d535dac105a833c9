"""Opening a set for training refuses every fault, and reading notices what changed afterwards."""

import pickle
import runpy
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError, IntegrityError
from caskit.shards import descriptors
from caskit.shards.codecs import encode
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.sources.source import StoredImage

FAULTS = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "faults.py"))["FAULTS"]
CASES = [(kind, fault) for fault in FAULTS for kind in fault.kinds]
IDS = [f"{kind}: {fault.name}" for kind, fault in CASES]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: tmp_path_factory.mktemp("pristine") / kind for kind in ("synthetic", "real", "coded")}


@pytest.fixture
def root(kind: str, pristine: dict[str, Path], tmp_path: Path, tiny: Any) -> Path:
    if not pristine[kind].exists():
        origin = tiny.ingest() if kind == "real" else tiny.plan(record_codes=kind == "coded")
        tiny.frozen(pristine[kind], origin)
    shutil.copytree(pristine[kind], tmp_path / "set")
    return tmp_path / "set"


@pytest.mark.parametrize(("kind", "fault"), CASES, ids=IDS)
def test_opening_refuses(root: Path, kind: str, fault: Any) -> None:
    open_set(str(root))  # leaves a receipt, which the fault must make void
    fault.damage(root)
    with pytest.raises(InputError):
        open_set(str(root))


@pytest.mark.parametrize("kind", ["synthetic", "real"])
def test_samples_are_in_the_order_of_the_plan(root: Path, kind: str, tiny: Any) -> None:
    data = open_set(str(root))
    origin = data.plan or data.ingest
    assert origin is not None
    assert (data.kind, len(data), data.split) == (kind, 20, "test" if kind == "real" else None)
    places = tiny.assign(origin)
    assert data.labels.tolist() == [label for label, _ in places] and data.labels.dtype == np.int64
    assert data.keys == [f"c0{label}_{ordinal:06d}" for label, ordinal in places]
    assert data.table.column("sample_id").to_pylist() == list(range(20))
    images, labels = data.arrays()
    assert (images.shape, images.dtype) == ((20, 4, 5, 1), np.uint8) and (labels == data.labels).all()
    for sample_id, key in enumerate(data.keys):
        expected = tiny.image(key)
        assert data.read(sample_id) == encode(expected, Codec.of("png"))
        assert (data.image(sample_id) == expected).all() and (images[sample_id] == expected).all()
    assert data.expression.to_json() == {
        "sources": [{"replica_id": data.replica.replica_id, "select": "all", "repeat": 1}]
    }


@pytest.mark.parametrize("kind", ["synthetic"])
def test_the_first_shards_are_a_set_of_their_own(root: Path, tiny: Any) -> None:
    data = open_set(str(root))
    assert len(data.keys) == 20
    part = data.first_shards(2)
    places = tiny.assign(data.plan)[: len(part)]
    assert 0 < len(part) < 20 and part.table.column("shard").to_numpy().max() == 1
    assert part.keys == [f"c0{label}_{ordinal:06d}" for label, ordinal in places] == data.keys[: len(part)]
    assert part.labels.tolist() == [label for label, _ in places]
    assert (part.arrays()[0] == data.arrays()[0][: len(part)]).all()
    assert part.expression.to_json()["sources"][0]["select"] == "first-shards:2"
    assert (
        part.expression.set_id
        != data.expression.set_id
        == data.first_shards(data.num_shards).first_shards(data.num_shards).expression.set_id
    )
    with pytest.raises(IndexError):
        part.image(len(part))
    for num in (0, -1, data.num_shards + 1):
        with pytest.raises(InputError, match=f"has {data.num_shards} shards, the first {num} were asked for"):
            data.first_shards(num)


@pytest.mark.parametrize("kind", ["synthetic"])
def test_a_share_is_the_first_samples(root: Path) -> None:
    data = open_set(str(root))
    part = data.share(0.35)
    assert part.keys == data.keys[:7] and len(part) == 7
    assert part.expression.to_json()["sources"][0]["select"] == "first:7"
    assert data.share(1.0) is data
    for same in (part, data.first_shards(2), data):
        select = same.expression.sources[0].select
        assert data.selected(select).expression == same.expression and data.selected(select).keys == same.keys
    for select, message in (("first:20", "has 20 samples, the first 20"), ("last:3", "select 'last:3'")):
        with pytest.raises(InputError, match=message):
            data.selected(select)
    for share in (0.0, 0.01, -0.5, 1.01):
        with pytest.raises(InputError, match=f"a share of {share:g} of 20 samples, allowed: up to 1"):
            data.share(share)


@pytest.mark.parametrize("kind", ["real"])
def test_the_first_shards_of_a_real_set_are_refused(root: Path) -> None:
    for part in (lambda data: data.first_shards(1), lambda data: data.share(0.5)):
        with pytest.raises(InputError, match="a real set is used whole"):
            part(open_set(str(root)))


@pytest.mark.parametrize("kind", ["synthetic"])
def test_an_image_that_changed_after_opening_is_noticed_when_read(root: Path, kind: str) -> None:
    data = open_set(str(root))
    data.read(7)
    row = data.table.slice(7, 1).to_pylist()[0]
    tar = root / "shards" / "shard-000001.tar"
    content = bytearray(tar.read_bytes())
    content[row["tar_offset"] + 20] ^= 1
    tar.write_bytes(content)
    for read in (lambda: data.read(7), lambda: data.image(7), data.arrays):
        with pytest.raises(IntegrityError, match=f"shard-000001.tar: key {row['key']}: the image's bytes are not"):
            read()
    data.read(6)
    tar.write_bytes(bytes(content[:2048]))
    with pytest.raises(IntegrityError, match="shard-000001.tar: key"):
        data.read(11)
    (root / "shards" / "shard-000002.tar").unlink()
    with pytest.raises(IntegrityError, match="shard-000002.tar: is gone, holds key"):
        data.read(12)


@pytest.mark.parametrize("kind", ["synthetic"])
def test_pickle_threads_and_few_descriptors(root: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "MAX_OPEN_FILES", 1)
    data = open_set(str(root))
    copy: FrozenSet = pickle.loads(pickle.dumps(data))
    order = list(range(20)) * 20
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(copy.read, order))
    assert read == [data.read(sample_id) for sample_id in order]


@pytest.mark.parametrize("kind", ["synthetic"])
def test_arrays_that_do_not_fit(root: Path, kind: str) -> None:
    with pytest.raises(InputError, match="the decoded set takes 400 bytes, 399 are allowed"):
        open_set(str(root)).arrays(max_bytes=399)


@pytest.mark.parametrize("kind", ["synthetic"])
def test_unverified(root: Path, kind: str) -> None:
    """`verify=False` shows a set that would be refused; each image that is read is checked all the same."""
    (root / "shards" / "shard-000003.tar").unlink()
    with pytest.raises(IntegrityError, match="shard-000003.tar: key .* is missing"):
        open_set(str(root))
    assert open_set(str(root), verify=False).image(0).shape == (4, 5, 1)


@pytest.mark.parametrize("kind", ["synthetic"])
def test_reference(root: Path, kind: str) -> None:
    replica_id = open_set(str(root)).replica.replica_id
    assert open_set(f"{root}@sha256:{replica_id}").replica.replica_id == replica_id
    with pytest.raises(InputError, match="the reference asks for"):
        open_set(f"{root}@sha256:{replica_id[1:]}0")
    with pytest.raises(InputError, match="not of the form hf://datasets/ORG/NAME"):
        open_set("hf://somewhere/set")


def test_webp_gives_back_the_channels_of_the_plan(tmp_path: Path, tiny: Any) -> None:
    tiny.frozen(tmp_path / "set", tiny.plan(codec=Codec.of("webp")))
    data = open_set(str(tmp_path / "set"))
    assert (data.image(0) == tiny.image(data.keys[0])).all() and data.arrays()[0].shape == (20, 4, 5, 1)


def test_a_set_of_original_files_is_read_as_rgb(tmp_path: Path, tiny: Any) -> None:
    """Grey, colour and transparent files of several sizes, as image folders hold them."""
    from caskit.manifests.classes import ClassList
    from caskit.shards.ingest import ingest

    class Mixed:
        dataset, split, codec, licence = "mixed", "train", {"name": "original"}, None
        files: Mapping[str, str] = {}
        classes = ClassList.from_names(["only"])
        labels = np.zeros(3, dtype=np.int64)

        def size_bytes(self, sample_id: int) -> int | None:
            return None

        def path(self, sample_id: int) -> str:
            return f"{sample_id}.png"

        def read(self, sample_id: int) -> StoredImage:
            pixels = np.full((4, 5 + sample_id, (1, 3, 4)[sample_id]), 9, dtype=np.uint8)
            return StoredImage(data=encode(pixels, Codec.of("png")), extension="png", width=5 + sample_id, height=4)

        def without(self, sample_ids: Any) -> Any:
            raise AssertionError

    ingest(Mixed(), tmp_path / "set")
    data = open_set(str(tmp_path / "set"))
    assert [data.image(n).shape for n in range(3)] == [(4, 5, 3), (4, 6, 3), (4, 7, 3)]
    with pytest.raises(InputError, match=r"images are of several sizes \(width 5 to 7\)"):
        data.arrays()
