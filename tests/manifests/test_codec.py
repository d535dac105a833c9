from typing import Any

import pytest

from caskit.manifests.codec import DEFAULTS, Codec
from caskit.manifests.errors import InputError


def test_defaults_are_spelled_out() -> None:
    for name, settings in DEFAULTS.items():
        assert Codec.of(name).to_json() == {"name": name, "settings": settings}
    assert Codec.of("jpeg", {"quality": 80}).settings["quality"] == 80


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gif", {}, "codec 'gif' is not known, use one of png, jpeg, webp"),
        ("jpeg", {"quality": 101}, r"quality is 101, allowed: 1\.\.100"),
        ("jpeg", {"quality": "95"}, "quality is '95'"),
        ("webp", {"lossless": 1}, "lossless is 1"),
        ("png", {"quality": 3}, "codec png has settings compress_level, strategy"),
        ("png", {"strategy": "best"}, "strategy is 'best', allowed: default, filtered"),
    ],
)
def test_bad_codecs_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Codec.of(name, settings)
