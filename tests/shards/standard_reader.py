"""A reader of caskit sets written from docs/format.md alone, with the standard library: no caskit, no Parquet.

It goes through the tars of a synthetic set, computes the roots of replica.json and refuses the set if one differs:
content_root and packing_root always, rows_root where rows hold nothing but what plan and tars say (no rejection,
recorded codes or digests of pixels; no sample drawn twice). `python standard_reader.py SET` prints the id and roots.
"""

import hashlib
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path


class Refused(Exception):
    """The folder is not the set that its replica.json says."""


def need(condition: object, message: str) -> None:
    if not condition:
        raise Refused(message)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def record(folder: Path, name: str) -> tuple[dict, str]:
    """A record and its digest; its stored form has to be the canonical one."""
    data = (folder / name).read_bytes()
    value = json.loads(data)
    need(canonical(value) == data, f"{name} is not canonical")
    need(value["format_version"] == 1, f"{name} is of another version")
    return value, hashlib.sha256(data).hexdigest()


def tree(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, by merging equal heights from the left."""
    stack: list[tuple[int, bytes]] = []
    for leaf in leaves:
        stack.append((0, sha(b"\0" + leaf)))
        while len(stack) > 1 and stack[-1][0] == stack[-2][0]:
            (height, right), (_, left) = stack.pop(), stack.pop()
            stack.append((height + 1, sha(b"\1" + left + right)))
    if not stack:
        return sha(b"")
    root = stack.pop()[1]
    while stack:
        root = sha(b"\1" + stack.pop()[1] + root)
    return root


def header(name: bytes, size: int) -> bytes:
    """Rule 4: the one header that a member of this name and size has."""
    need(len(name) <= 100, "a name of more than 100 bytes")
    head = name.ljust(100, b"\0") + b"0000444\0" + 2 * b"0000000\0" + b"%011o\0" % size + b"00000000000\0"
    tail = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
    checksum = sum(head) + 8 * 32 + sum(tail)
    return head + b"%06o\0 " % checksum + tail


def members(tar: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Name, offset and payload of every member of a tar."""
    at = 0
    while tar[at : at + 512] != bytes(512):
        need(len(tar) >= at + 512, "a tar without an end")
        name = tar[at : at + 100].rstrip(b"\0")
        digits = tar[at + 124 : at + 135]
        need(digits.isdigit() and not set(digits) & set(b"89"), "a size that is no octal number")
        size = int(digits, 8)
        need(tar[at : at + 512] == header(name, size), f"the header of {name!r} is not the one it has to be")
        start = at + 512
        padded = -(-size // 512) * 512
        need(len(tar) >= start + padded and not any(tar[start + size : start + padded]), f"{name!r} is cut or padded")
        yield name.decode("ascii"), start, tar[start : start + size]
        at = start + padded
    need(not any(tar[at:]) and len(tar) - at >= 1024 and len(tar) % 10240 == 0, "a tar with a wrong end")


def samples(tar: bytes, suffix: str) -> Iterator[tuple[str, int, int, bytes]]:
    """Key, label, offset of the image and the image of every sample of a tar."""
    parts = members(tar)
    for name, _, label in parts:
        image_name, offset, image = next(parts, ("", 0, b""))
        key = name.removesuffix(".cls")
        need(name == f"{key}.cls" and image_name == f"{key}.{suffix}", f"{name} and {image_name} are no sample")
        need(label.isdigit() and label == b"%d" % int(label), f"{name} holds no label")
        yield key, int(label), offset, image


def read_set(folder: Path) -> tuple[str, list[str], list[tuple[str, int, bytes]]]:
    """Return replica_id, names of the computed roots, and (key, label, stored image) in order. Raises Refused."""
    replica, replica_id = record(folder, "replica.json")
    plan, plan_id = record(folder, "plan.json")
    need((replica["kind"], replica["origin_sha256"]) == ("synthetic", plan_id), "plan.json is not the set's")
    plain = not plan["rejection"] and not plan["pixel_digests"] and not plan["record_codes"]
    classes, per_shard = plan["classes"], plan["samples_per_shard"]
    need(sha(canonical(classes)).hex() == replica["class_list_sha256"], "another class list")
    need((len(classes), sum(plan["histogram"])) == (replica["num_classes"], replica["num_samples"]), "other counts")
    if (folder / "packing.json").exists():
        per_shard = record(folder, "packing.json")[0]["samples_per_shard"]
    suffix = {"png": "png", "jpeg": "jpg", "webp": "webp"}[plan["codec"]["name"]]
    found, tars, rows = [], [], {}
    for shard in range(replica["num_shards"]):
        name = f"shard-{shard:06d}.tar"
        tar = (folder / "shards" / name).read_bytes()
        tars.append(struct.pack(">H", len(name)) + name.encode() + struct.pack(">Q", len(tar)) + sha(tar))
        start = len(found)
        for index, (key, label, offset, image) in enumerate(samples(tar, suffix)):
            cls, _, number = key.rpartition("_")
            need(label < len(classes) and number.isdigit(), f"{key} is of no class, or has no ordinal")
            need(cls == classes[label]["id"] and number == f"{int(number):06d}", f"{key} is not of class {label}")
            ordinal = int(number)
            need((label, ordinal) not in rows, f"{key} is there twice")
            stream = sha(b"caskit/stream/1\0" + struct.pack(">4Q", plan["seed"], label, ordinal, 0))[:16]
            short = bytes([len(key)]) + key.encode()
            places = (len(found), label, ordinal, shard, index, offset, len(image), plan["width"], plan["height"])
            row = short + struct.pack(">9Q", *places) + sha(image) + b"\1" + stream + b"\1" + bytes(8) + bytes(3)
            rows[label, ordinal] = short + struct.pack(">Q", label) + sha(image), row
            found.append((key, label, image))
        need(
            len(found) - start == min(per_shard, replica["num_samples"] - start),
            f"{name} has another number of samples",
        )
    subtrees = []
    for label, count in enumerate(plan["histogram"]):
        due = [(label, ordinal) for ordinal in range(count)]
        need(all(place in rows for place in due), f"samples of class {label} are missing")
        subtrees.append(struct.pack(">2Q", label, count) + tree([rows[place][0] for place in due]))
    need(len(rows) == replica["num_samples"], "samples that no class has")
    roots = {"content_root": tree(subtrees), "packing_root": tree(tars)}
    if plain:
        roots["rows_root"] = tree([rows[place][1] for place in sorted(rows)])
    for name, root in roots.items():
        need(root.hex() == replica[name], f"{name} is another one")
    return replica_id, sorted(roots), found


if __name__ == "__main__":
    print(*read_set(Path(sys.argv[1]))[:2])
