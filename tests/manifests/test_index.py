"""The index gives back the rows that went in, proves them, and reads nothing else."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caskit.manifests.errors import IntegrityError
from caskit.manifests.index import BLOCK_ROWS, block_root, decode_block, encode_block, make_index, parse_row
from caskit.manifests.rows import canonical_row

MAX = 2**63 - 1


def row(label: int, ordinal: int, **changes: object) -> dict[str, object]:
    numbers = ("sample_id", "label", "ordinal", "shard", "index_in_shard", "tar_offset", "nbytes", "width", "height")
    fields: dict[str, object] = dict.fromkeys(numbers, 7)
    fields |= {"key": f"c{label}_{ordinal:06d}", "label": label, "ordinal": ordinal, "image_sha256": bytes(32)}
    for name in ("stream_key", "attempt", "source", "filter_score", "pixel_sha256", "codes_sha256"):
        fields[name] = None
    return fields | changes


optional = {
    "stream_key": st.none() | st.binary(min_size=16, max_size=16),
    "attempt": st.none() | st.integers(0, MAX),
    "source": st.none() | st.text(max_size=40),
    "filter_score": st.none() | st.floats(allow_nan=False),
    "pixel_sha256": st.none() | st.binary(min_size=32, max_size=32),
    "codes_sha256": st.none() | st.binary(min_size=32, max_size=32),
}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.fixed_dictionaries({**optional, "nbytes": st.integers(0, MAX)}), min_size=1, max_size=5))
def test_rows_come_back(changes: list[dict[str, object]]) -> None:
    rows = [row(1, number, **change) for number, change in enumerate(changes)]
    assert [parse_row(canonical_row(one)) for one in rows] == rows
    assert decode_block(encode_block(rows), name="x") == rows


def test_what_is_no_block_is_refused() -> None:
    good = encode_block([row(0, 0), row(0, 1)])
    plain = zlib.decompress(good)
    bombs = [
        b"",
        b"no zlib",
        good[:-4],
        good + b"more",
        zlib.compress(b""),
        zlib.compress(b"\0\0\0\0"),
        zlib.compress(bytes(10**8)),
        zlib.compress((10**6).to_bytes(4, "big") + bytes(10)),
        zlib.compress(plain[:-1]),
        zlib.compress(plain + b"\0"),
        zlib.compress(plain[:12] + b"\xff" + plain[13:]),
    ]
    for data in bombs:
        with pytest.raises(IntegrityError, match="x: a block of rows cannot be read"):
            decode_block(data, name="x")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_block_is_refused_or_has_another_root(at: int, change: int) -> None:
    rows = [row(0, number, stream_key=bytes([number] * 16)) for number in range(5)]
    data = bytearray(encode_block(rows))
    data[at % len(data)] ^= change
    try:
        found = decode_block(bytes(data), name="x")
    except IntegrityError:
        return
    assert found == rows or block_root(found) != block_root(rows)


def test_the_parts_stand_where_the_histogram_says() -> None:
    histogram = (BLOCK_ROWS + 1, 0, 3)
    rows = [row(label, ordinal) for label, count in enumerate(histogram) for ordinal in range(count)]
    data = make_index(rows, histogram)
    start = 16 + 3 * 32 + 3 * 44
    first = int.from_bytes(data[16 + 96 : 16 + 96 + 8], "big")
    assert first == start and zlib.decompressobj().decompress(data[start:])[:4] == BLOCK_ROWS.to_bytes(4, "big")
    assert data[:16] == b"caskit-index/1\n\n"
