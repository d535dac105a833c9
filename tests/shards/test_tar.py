import hashlib
import io
import os
import resource
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webdataset.tariterators import tar_file_iterator

from caskit.manifests.errors import InputError, IntegrityError
from caskit.shards.tar import (
    MAX_MEMBER_BYTES,
    Sample,
    canonical_header,
    layout,
    read_members,
    read_payloads,
    read_samples,
)
from caskit.shards.writing import ShardWriter

IMAGES = (b"first image", b"x" * 512, b"third" * 300)
KEYS = ("c00_000000", "n01440764_000017", "c01_000000")


@pytest.fixture
def tar(tmp_path: Path) -> bytes:
    with ShardWriter(tmp_path / "a.tar") as writer:
        for label, (key, image) in enumerate(zip(KEYS, IMAGES, strict=True)):
            writer.add(key, label * 7, image, "png")
    return (tmp_path / "a.tar").read_bytes()


def samples(data: bytes) -> list[Sample]:
    return list(read_samples(io.BytesIO(data), name="a.tar"))


def fault(data: bytes) -> str:
    try:
        samples(data)
    except IntegrityError as error:
        return str(error)
    return ""


def test_what_is_written_is_read(tar: bytes) -> None:
    digest = hashlib.sha256()
    read = list(read_samples(io.BytesIO(tar), name="a.tar", digest=digest))
    assert [(s.key, s.label, s.extension, s.image) for s in read] == [
        (key, label * 7, "png", image) for label, (key, image) in enumerate(zip(KEYS, IMAGES, strict=True))
    ]
    for sample in read:
        assert tar[sample.payload_offset : sample.payload_offset + len(sample.image)] == sample.image
    assert digest.hexdigest() == hashlib.sha256(tar).hexdigest()


def test_offsets_and_layout_agree(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([1, 511, 512, 513, *rng.integers(1, 5000, 30)])
    with ShardWriter(tmp_path / "a.tar") as writer:
        added = [writer.add(f"k_{i}", i, bytes(n), "webp") for i, n in enumerate(sizes)]
    offsets, size = layout(sizes)
    assert added == list(zip(offsets.tolist(), sizes.tolist(), strict=True))
    assert size == (tmp_path / "a.tar").stat().st_size
    with (tmp_path / "a.tar").open("rb") as file:
        members = list(read_members(file, name="a.tar"))
    assert [m.payload_offset for m in members if m.extension == "webp"] == offsets.tolist()
    assert [m.header_offset + 512 for m in members] == [m.payload_offset for m in members]
    assert layout(np.zeros(0, dtype=np.int64))[1] == 10240


def test_other_programs_read_it_and_see_nothing_of_the_host(tar: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(tar)) as other:
        infos = other.getmembers()
        assert [info.name for info in infos] == [f"{key}.{ext}" for key in KEYS for ext in ("cls", "png")]
        assert other.extractfile(infos[4]).read() == b"14"  # type: ignore[union-attr]
        for info in infos:
            assert (info.mode, info.uid, info.gid, info.mtime, info.uname, info.gname) == (0o444, 0, 0, 0, "", "")
            assert info.isreg() and not info.pax_headers


@settings(max_examples=50)
@given(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,94}\.(cls|png|jpg)", fullmatch=True), st.integers(0, MAX_MEMBER_BYTES)
)
def test_the_header_is_what_tarfile_writes(name: str, nbytes: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = nbytes, 0o444, 0
    assert canonical_header(name.encode(), nbytes) == info.tobuf(tarfile.USTAR_FORMAT)


def test_every_flipped_bit_outside_an_image_is_refused(tar: bytes) -> None:
    inside = np.zeros(len(tar), dtype=bool)
    for sample in samples(tar):
        inside[sample.payload_offset : sample.payload_offset + len(sample.image)] = True
    labels = [sample.label for sample in samples(tar)]
    flipped = bytearray(tar)
    for place in np.flatnonzero(~inside).tolist():
        for bit in range(8) if place < 2048 else (place % 8,):  # all bits of the first sample, one of each later byte
            flipped[place] ^= 1 << bit
            assert fault(bytes(flipped)).startswith("a.tar: ") or [s.label for s in samples(bytes(flipped))] != labels
            flipped[place] ^= 1 << bit


def test_a_damaged_header_is_named_by_key_and_place(tar: bytes) -> None:
    second = samples(tar)[0].payload_offset + 512
    flipped = bytearray(tar)
    flipped[second + 105] ^= 1
    with pytest.raises(
        IntegrityError, match=f"a.tar: key {KEYS[1]}: header of .cls at byte {second}, after key {KEYS[0]}"
    ):
        samples(bytes(flipped))
    flipped[second] = 0
    with pytest.raises(IntegrityError, match=f"header at byte {second}, after key {KEYS[0]}, is damaged"):
        samples(bytes(flipped))


def test_a_zeroed_header_is_no_end(tar: bytes) -> None:
    second = samples(tar)[0].payload_offset + 512
    with pytest.raises(IntegrityError, match="bytes at its end"):
        samples(tar[:second] + bytes(512) + tar[second + 512 :])


def test_every_truncation_is_refused(tar: bytes) -> None:
    for size in range(len(tar)):
        if size % 512 and size > 3000:
            continue
        with pytest.raises(IntegrityError, match="a.tar: cut at byte|bytes at its end"):
            samples(tar[:size])


def test_truncation_names_the_last_key(tar: bytes) -> None:
    image = samples(tar)[1].payload_offset
    with pytest.raises(IntegrityError, match=f"cut at byte {image + 100}, inside key {KEYS[1]}"):
        samples(tar[: image + 100])
    with pytest.raises(IntegrityError, match=f"cut at byte {image + 512}, after key {KEYS[1]}"):
        samples(tar[: image + 512])
    with pytest.raises(IntegrityError, match="cut at byte 0, after no key"):
        samples(b"")


@pytest.mark.parametrize("extra", [b"\0", bytes(512), bytes(10240), b"x", b"x" * 10240])
def test_extra_bytes_are_refused(tar: bytes, extra: bytes) -> None:
    with pytest.raises(IntegrityError, match=f"bytes at its end, after key {KEYS[2]}, that are no part of the tar"):
        samples(tar + extra)
    with pytest.raises(IntegrityError, match="bytes at its end"):
        samples(tar + tar)


def foreign(*members: tuple[str, bytes], **header: Any) -> bytes:
    """Write a tar as another program may."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=header.pop("format", tarfile.USTAR_FORMAT)) as other:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o444
            for field, value in header.items():
                setattr(info, field, value)
            other.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


GOOD = (("a_0.cls", b"3"), ("a_0.png", b"image"))


def test_a_foreign_tar_of_the_same_form_is_read() -> None:
    assert [(s.key, s.label) for s in samples(foreign(*GOOD))] == [("a_0", 3)]


@pytest.mark.parametrize(
    "header",
    [
        {"mtime": 1},
        {"uid": 1000},
        {"gid": 5},
        {"mode": 0o644},
        {"uname": "root"},
        {"gname": "wheel"},
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "a_0.cls"},
        {"type": tarfile.DIRTYPE},
        {"type": tarfile.CHRTYPE},
        {"type": tarfile.AREGTYPE},
        {"format": tarfile.GNU_FORMAT},
        {"format": tarfile.PAX_FORMAT, "pax_headers": {"comment": "x"}},
    ],
)
def test_other_headers_are_refused(header: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="is damaged or not ours"):
        samples(foreign(*GOOD, **header))


@pytest.mark.parametrize(
    "name", ["../a.cls", "/a.cls", "d/a.cls", "a.b.cls", ".cls", "a", "a.json", "a.CLS", "a.cls ", "ä.cls", "-a.cls"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(IntegrityError, match="is damaged or not ours"):
        samples(foreign((name, b"3")))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((GOOD[1], GOOD[0]), "key a_0: label due, found .png"),
        ((GOOD[0],), "key a_0: its image was due, found the end"),
        ((GOOD[0], GOOD[0], GOOD[1]), "its image was due, found a_0.cls"),
        ((GOOD[0], ("a_1.png", b"x")), "its image was due, found a_1.png"),
        ((*GOOD, ("a_0.jpg", b"x")), "label due, found .jpg"),
        ((("a_0.cls", b"03"), GOOD[1]), "label due, found .cls b'03'"),
        ((("a_0.cls", b"3\n"), GOOD[1]), "label due"),
        ((("a_0.cls", b"-3"), GOOD[1]), "label due"),
        ((("a_0.cls", b""), GOOD[1]), "label due"),
        ((("a_0.cls", b"9" * 17), GOOD[1]), "label due"),
    ],
)
def test_other_orders_and_labels_are_refused(members: tuple[tuple[str, bytes], ...], message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        samples(foreign(*members))


def test_a_member_that_claims_to_be_huge_is_refused_before_it_is_read() -> None:
    header = canonical_header(b"a_0.cls", MAX_MEMBER_BYTES + 1)
    with pytest.raises(IntegrityError, match=f"{MAX_MEMBER_BYTES + 1} bytes, at most {MAX_MEMBER_BYTES} are read"):
        samples(header)


def test_padding_must_be_zero(tar: bytes) -> None:
    dirty = bytearray(tar)
    dirty[samples(tar)[0].payload_offset + len(IMAGES[0])] = 1
    with pytest.raises(IntegrityError, match=f"key {KEYS[0]}: bytes behind its .png are not zero"):
        list(read_payloads(io.BytesIO(bytes(dirty)), name="a.tar"))


def test_the_writer_never_writes_through_a_name_that_is_taken(tmp_path: Path) -> None:
    path, kept = tmp_path / "a.tar", tmp_path / "kept.tar"
    path.write_bytes(b"committed bytes")
    os.link(path, kept)
    with ShardWriter(path) as writer:
        writer.add("a_0", 0, b"x", "png")
    assert kept.read_bytes() == b"committed bytes"
    assert len(path.read_bytes()) == 10240


def test_a_writer_that_fails_leaves_no_whole_tar(tmp_path: Path) -> None:
    def fail() -> None:
        with ShardWriter(tmp_path / "a.tar") as writer:
            writer.add("a_0", 0, b"x", "png")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(IntegrityError, match="cut at byte"):
        samples((tmp_path / "a.tar").read_bytes())


@pytest.mark.parametrize(
    ("key", "label", "image", "extension", "message"),
    [
        ("a.b", 0, b"x", "png", "key 'a.b' cannot be stored"),
        ("a/b", 0, b"x", "png", "cannot be stored"),
        ("a" * 97, 0, b"x", "png", "cannot be stored"),
        ("", 0, b"x", "png", "cannot be stored"),
        ("a", -1, b"x", "png", "label -1"),
        ("a", 0, b"", "png", "image of 0 bytes"),
        ("a", 0, b"x", "gif", "extension is 'gif', allowed: png, jpg, webp"),
    ],
)
def test_samples_that_cannot_be_stored(
    tmp_path: Path, key: str, label: int, image: bytes, extension: str, message: str
) -> None:
    writer = ShardWriter(tmp_path / "a.tar")
    with pytest.raises(InputError, match=message):
        writer.add(key, label, image, extension)
    writer.close()


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    def fill() -> None:
        with ShardWriter(tmp_path / "a.tar") as writer:
            for number in range(100):
                writer.add(f"a_{number}", 0, bytes(10000), "png")

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            fill()
        assert error.value.filename == str(tmp_path / "a.tar")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_webdataset_reads_less_of_a_damaged_tar_without_a_word(tar: bytes) -> None:
    """Why the reader here is strict: this is what plain webdataset makes of one flipped bit."""
    flipped = bytearray(tar)
    flipped[samples(tar)[0].payload_offset + 512 + 105] ^= 1
    assert len(list(tar_file_iterator(io.BytesIO(tar)))) == 6
    assert len(list(tar_file_iterator(io.BytesIO(bytes(flipped))))) == 2
