import hashlib
from typing import Any

import pytest

from caskit.manifests.codes import CodeLevel, check_levels, codes_digest
from caskit.manifests.errors import InputError

TOP, BOTTOM = CodeLevel(name="top", height=1, width=2), CodeLevel(name="bottom", height=2, width=2)


def test_the_digest_is_over_names_shapes_and_codes() -> None:
    encoded = b"caskit/codes/1\0\x02" + b"\x03top" + b"\0\0\0\1\0\0\0\2" + b"abcd"
    encoded += b"\x06bottom" + b"\0\0\0\2\0\0\0\2" + b"efghijkl"
    assert codes_digest([TOP, BOTTOM], [b"abcd", b"efghijkl"]) == hashlib.sha256(encoded).digest()


@pytest.mark.parametrize(
    ("levels", "maps"),
    [
        ([TOP, BOTTOM], [b"abcx", b"efghijkl"]),
        ([BOTTOM, TOP], [b"efghijkl", b"abcd"]),
        ([TOP, CodeLevel(name="bottom", height=1, width=4)], [b"abcd", b"efghijkl"]),
        ([CodeLevel(name="tip", height=1, width=2), BOTTOM], [b"abcd", b"efghijkl"]),
        ([TOP], [b"abcd"]),
    ],
)
def test_anything_else_has_another_digest(levels: list[CodeLevel], maps: list[bytes]) -> None:
    assert codes_digest(levels, maps) != codes_digest([TOP, BOTTOM], [b"abcd", b"efghijkl"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "key"}, "level of codes is named 'key'"),
        ({"name": "Top"}, "level of codes is named 'Top', allowed:"),
        ({"name": 3}, "level of codes is named 3"),
        ({"height": 0}, "level top: height is 0, allowed: 1..4096"),
        ({"width": True}, "level top: width is True"),
    ],
)
def test_a_bad_level_dies_when_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CodeLevel(**{"name": "top", "height": 1, "width": 1, **changes})


def test_levels_are_few_named_apart_and_bounded() -> None:
    check_levels([TOP, BOTTOM])
    with pytest.raises(InputError, match="levels of codes are none"):
        check_levels([])
    with pytest.raises(InputError, match="levels of codes are top, top"):
        check_levels([TOP, TOP])
    with pytest.raises(InputError, match="take 33554432 bytes, allowed: 16777216"):
        check_levels([CodeLevel(name="wide", height=4096, width=4096)])
