import hashlib
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from caskit.manifests.classes import ClassList, sample_key, sample_keys
from caskit.manifests.errors import IntegrityError
from caskit.manifests.rows import (
    ROW_SCHEMA,
    _are_good,
    canonical_row,
    canonical_rows,
    check_rows,
    check_schema,
    sort_rows,
)

CLASSES = ClassList.from_names(["cat", "dog", "emu"])


def make_row(label: int, ordinal: int, sample_id: int, **changes: Any) -> dict[str, Any]:
    row = {
        "key": f"c{label:02d}_{ordinal:06d}",
        "sample_id": sample_id,
        "label": label,
        "ordinal": ordinal,
        "shard": 0,
        "index_in_shard": sample_id,
        "tar_offset": 512,
        "nbytes": 100,
        "width": 4,
        "height": 4,
        "image_sha256": hashlib.sha256(bytes([label, ordinal])).digest(),
        "stream_key": bytes(16),
        "attempt": 0,
        "source": None,
        "filter_score": None,
        "pixel_sha256": None,
        "codes_sha256": None,
    }
    return {**row, **changes}


def make_table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=ROW_SCHEMA)


GOOD = [make_row(0, 0, 2), make_row(0, 1, 0), make_row(2, 0, 1)]


def test_good_rows_pass_and_may_leave_a_class_empty() -> None:
    check_rows(make_table(GOOD), CLASSES, name="m")


def test_many_rows_are_checked_by_column() -> None:
    rows = [make_row(label, ordinal, 0) for label in range(3) for ordinal in range(7 * label + 1)]
    table = make_table([dict(row, sample_id=place) for place, row in enumerate(reversed(rows))])
    for size in (1, 5, 1000):
        assert _are_good(sort_rows(table), CLASSES, batch_size=size)
    assert not _are_good(table, CLASSES)
    assert _are_good(table.slice(0, 0), CLASSES)


def test_rows_sort_into_manifest_order() -> None:
    assert sort_rows(make_table(list(reversed(GOOD)))).to_pylist() == GOOD


@pytest.mark.parametrize(
    ("index", "changes", "message"),
    [
        (1, {"label": 3}, "label 3 is not in the class list"),
        (1, {"label": -1}, "label -1 is not in the class list"),
        (2, {"ordinal": 1}, "ordinal 1 of class 2 where 0 is due"),
        (0, {"key": "c00_000007"}, "does not spell class 0, ordinal 0"),
        (2, {"sample_id": 0}, "sample_id 0 is out of range or taken"),
        (2, {"sample_id": 3}, "sample_id 3 is out of range or taken"),
        (2, {"tar_offset": -512}, "negative"),
    ],
)
def test_bad_rows_are_named_by_key(index: int, changes: dict[str, Any], message: str) -> None:
    rows = [dict(row) for row in GOOD]
    rows[index].update(changes)
    assert not _are_good(make_table(rows), CLASSES)
    with pytest.raises(IntegrityError, match=f"key {rows[index]['key']}.*{message}"):
        check_rows(make_table(rows), CLASSES, name="manifest.parquet")


def test_unsorted_rows_are_refused() -> None:
    with pytest.raises(IntegrityError, match="not in the order"):
        check_rows(make_table([GOOD[2], GOOD[0], GOOD[1]]), CLASSES, name="m")


def test_another_schema_is_refused() -> None:
    table = make_table(GOOD)
    with pytest.raises(IntegrityError, match="clock"):
        check_schema(table.append_column("clock", pa.array([1, 2, 3])), name="m")
    with pytest.raises(IntegrityError, match="label"):
        check_schema(table.set_column(2, "label", pa.array(["0", "0", "2"])), name="m")
    with pytest.raises(IntegrityError, match="order"):
        check_schema(table.select(list(reversed(table.column_names))), name="m")


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "c00_000001"},
        {"sample_id": 9},
        {"label": 1},
        {"ordinal": 5},
        {"shard": 1},
        {"index_in_shard": 8},
        {"tar_offset": 1024},
        {"nbytes": 101},
        {"width": 5},
        {"height": 5},
        {"image_sha256": bytes(32)},
        {"stream_key": None},
        {"stream_key": bytes(15) + b"\x01"},
        {"attempt": None},
        {"attempt": 1},
        {"source": ""},
        {"source": "a/b.png"},
        {"filter_score": 0.0},
        {"pixel_sha256": bytes(32)},
        {"codes_sha256": bytes(32)},
    ],
)
def test_every_field_is_in_the_canonical_row(changes: dict[str, Any]) -> None:
    assert canonical_row({**GOOD[0], **changes}) != canonical_row(GOOD[0])


def test_the_canonical_row_covers_the_whole_schema() -> None:
    covered = set(make_row(0, 0, 0))
    assert covered == set(ROW_SCHEMA.names)


def test_rows_of_a_table_have_the_canonical_form_of_each() -> None:
    optional = {
        "stream_key": bytes(range(16)),
        "attempt": 3,
        "source": "käse/1.png",
        "filter_score": -0.25,
        "pixel_sha256": bytes(32),
        "codes_sha256": bytes(range(32)),
    }
    rows = [dict(make_row(0, number, number), **dict.fromkeys(optional)) for number in range(64)]
    for number, made in enumerate(rows):  # every set of optional fields that are there
        made.update({name: value for bit, (name, value) in enumerate(optional.items()) if number >> bit & 1})
    table = pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
    assert list(canonical_rows(table, batch_size=5)) == [canonical_row(made) for made in rows]
    assert list(canonical_rows(table)) == [canonical_row(made) for made in rows]
    plain = pa.Table.from_pylist([make_row(0, 0, 0), make_row(0, 1, 1)], schema=ROW_SCHEMA)
    assert list(canonical_rows(plain)) == [canonical_row(made) for made in plain.to_pylist()]


@pytest.mark.parametrize(
    "changes", [{"sample_id": -1}, {"nbytes": -5}, {"key": "ä"}, {"key": "a" * 256}, {"attempt": -1}]
)
def test_rows_without_a_canonical_form_are_refused(changes: dict[str, Any]) -> None:
    table = pa.Table.from_pylist([dict(make_row(0, 0, 0), **changes)], schema=ROW_SCHEMA)
    for encode in (lambda: list(canonical_rows(table)), lambda: canonical_row(table.to_pylist()[0])):
        with pytest.raises((ValueError, OverflowError, struct.error)):
            encode()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stream_key": None, "attempt": None, "source": "a/b.png"},
        {"stream_key": None, "attempt": None},
        {"attempt": 2**62, "filter_score": -0.25, "pixel_sha256": b"p" * 32},
        {"codes_sha256": b"c" * 32, "pixel_sha256": b"p" * 32},
    ],
)
@pytest.mark.parametrize("offset", [0, 3])
def test_equally_long_rows_have_the_canonical_form_of_each(changes: dict[str, Any], offset: int) -> None:
    rows = [make_row(0, ordinal, ordinal, **changes) for ordinal in range(11)]
    table = make_table(rows).slice(offset)
    assert list(canonical_rows(table, batch_size=4)) == [canonical_row(row) for row in rows[offset:]]


@pytest.mark.parametrize("column", ["stream_key", "attempt", "filter_score", "pixel_sha256", "codes_sha256"])
def test_a_value_that_only_some_rows_have_is_encoded(column: str) -> None:
    rows = [make_row(0, 0, 0), make_row(0, 1, 1), make_row(0, 2, 2)]
    value = {"attempt": 3, "filter_score": -1.5, "stream_key": b"s" * 16}.get(column, b"d" * 32)
    rows[1][column] = None if column in ("stream_key", "attempt") else value
    assert list(canonical_rows(make_table(rows))) == [canonical_row(row) for row in rows]


def test_keys_of_several_lengths_are_encoded() -> None:
    rows = [make_row(0, ordinal, 0, key=f"c00_{ordinal:0{6 + ordinal}d}") for ordinal in range(5)]
    assert list(canonical_rows(make_table(rows))) == [canonical_row(row) for row in rows]


def test_a_key_that_is_not_ascii_has_no_canonical_form() -> None:
    with pytest.raises(UnicodeEncodeError):
        list(canonical_rows(make_table([make_row(0, 0, 0, key="k\N{LATIN SMALL LETTER E WITH ACUTE}y")])))


def test_keys_of_many_are_those_of_each() -> None:
    classes = ClassList(ids=("n01", "c", "x-y_z"), names=("a", "b", "c"))
    labels, ordinals = np.array([0, 2, 1, 1]), np.array([0, 999_999, 1_000_000, 12_345_678])
    keys = sample_keys(classes, labels, ordinals)
    assert keys == [sample_key(classes.ids[label], ordinal) for label, ordinal in zip(labels, ordinals, strict=True)]
    assert keys[2] == "c_1000000"
