"""docs/format-vectors.json against the code. Vectors are never made again: other values are another format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caskit.gen.streams import normal_from_words, truncated_normal_from_words, uniform_from_words
from caskit.manifests.classes import ClassList
from caskit.manifests.codes import CodeLevel, codes_digest
from caskit.manifests.quota import Quota, balanced, like
from caskit.manifests.roots import ShardRecord, content_root, packing_root
from caskit.manifests.rows import canonical_row
from caskit.manifests.seeds import audited_samples, philox_words, stream_key
from caskit.manifests.sets import SetExpression, Source

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "docs" / "format-vectors.json").read_text()
)
_ROW_BYTES = ("image_sha256", "stream_key", "pixel_sha256", "codes_sha256")


def from_hex(row: dict[str, Any]) -> dict[str, Any]:
    return {k: bytes.fromhex(v) if k in _ROW_BYTES and v is not None else v for k, v in row.items()}


def class_list_digest(given: dict[str, Any]) -> Any:
    return ClassList.from_json(given["classes"]).digest


def draw_order(given: dict[str, Any]) -> list[list[int]]:
    quota = Quota(histogram=tuple(given["histogram"]), seed=given["seed"])
    labels, ordinals = quota.assign(0, quota.num)
    return [labels.tolist(), ordinals.tolist()]


def balanced_histogram(given: dict[str, Any]) -> list[int]:
    return list(balanced(given["num"], given["num_classes"], given["seed"]).histogram)


def like_histogram(given: dict[str, Any]) -> list[int]:
    return list(like(given["histogram"], 0, num=given["num"]).histogram)


def key_of_stream(given: dict[str, Any]) -> Any:
    return stream_key(given["seed"], given["label"], given["ordinal"], given["attempt"]).hex()


def words(given: dict[str, Any]) -> list[str]:
    key = bytes.fromhex(given["key"])
    return [f"{word:016x}" for word in philox_words(key, given["draw"], given["start"], given["count"]).tolist()]


def word_array(given: dict[str, Any]) -> np.ndarray:
    return np.array([int(word, 16) for word in given["words"]], dtype=np.uint64)


def uniforms(given: dict[str, Any]) -> list[str]:
    return [float(value).hex() for value in uniform_from_words(word_array(given))]


def normals(given: dict[str, Any]) -> list[str]:
    return [float(value).hex() for value in normal_from_words(word_array(given))]


def truncated_normals(given: dict[str, Any]) -> list[str]:
    return [float(value).hex() for value in truncated_normal_from_words(word_array(given), given["bound"])]


def row_bytes(given: dict[str, Any]) -> Any:
    return canonical_row({"codes_sha256": None, **from_hex(given["row"])}).hex()


def digest_of_codes(given: dict[str, Any]) -> str:
    levels = [CodeLevel(name=level["name"], height=level["height"], width=level["width"]) for level in given["levels"]]
    return codes_digest(levels, [np.array(level["codes"], "<u2").tobytes() for level in given["levels"]]).hex()


def root_of_content(given: dict[str, Any]) -> str:
    samples = [(s["key"], s["label"], bytes.fromhex(s["image_sha256"])) for s in given["samples"]]
    return content_root(samples, given["num_classes"])


def root_of_packing(given: dict[str, Any]) -> Any:
    return packing_root(ShardRecord(num_samples=1, shard=i, **shard) for i, shard in enumerate(given["shards"]))


def draw_of_audit(given: dict[str, Any]) -> Any:
    return audited_samples(given["seed"], given["replica_id"], given["num_samples"], given["count"]).tolist()


def set_id(given: dict[str, Any]) -> Any:
    return SetExpression(sources=tuple(Source(**source) for source in given["sources"])).set_id


RULES = {
    "2 class list digest": class_list_digest,
    "2.1 draw order": draw_order,
    "2.2 balanced quota": balanced_histogram,
    "2.3 like quota": like_histogram,
    "3.1 stream key": key_of_stream,
    "3.2 words": words,
    "3.3 uniform": uniforms,
    "3.4 normal": normals,
    "3.5 truncated normal": truncated_normals,
    "5.1 canonical row": row_bytes,
    "5.2 digest of codes": digest_of_codes,
    "6.1 content_root": root_of_content,
    "6.3 packing_root": root_of_packing,
    "7.5 set_id": set_id,
    "8.1 draw of an audit": draw_of_audit,
}


@pytest.mark.parametrize("rule", RULES)
def test_the_vectors_of_the_format_document_hold(rule: str) -> None:
    assert VECTORS[rule], f"no vectors for {rule}"
    for vector in VECTORS[rule]:
        assert RULES[rule](vector["given"]) == vector["expected"]
