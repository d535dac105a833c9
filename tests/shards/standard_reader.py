"""A reader of caskit sets written from docs/format.md alone, with the standard library: no caskit, no Parquet.

It goes through the tars of a set of any kind, views and repacked sets too, computes the roots of replica.json and
refuses the set if one differs: content_root and packing_root always, for a view its parent's as well; rows_root where
rows hold nothing but what plan and tars say (no rejection, recorded codes or digests of pixels; no sample drawn twice).
`python standard_reader.py SET` prints the id and the roots. standard_index.py reads rows out of index.bin.
"""

import hashlib
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

RECORDS = {"synthetic": "plan", "real": "ingest", "imported": "import"}  # the others are named like their kind
SUFFIXES = {"png": ("png",), "jpeg": ("jpg",), "webp": ("webp",), "original": ("png", "jpg", "webp")}


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
    need(canonical(value) == data and value["format_version"] == 1, f"{name} is not canonical, or of another version")
    return value, sha(data).hex()


def proven(start: int, stop: int, chosen: list[tuple[int, bytes]], proof: Iterator[str]) -> bytes:
    """The root over leaves of which some hashes are known, by place, and a proof has the others (rule 6.4)."""
    if not chosen:
        return bytes.fromhex(next(proof, "")) if stop else sha(b"")
    if stop - start == 1:
        return chosen[0][1]
    middle = start + (1 << (stop - start - 1).bit_length() - 1)
    left = [leaf for leaf in chosen if leaf[0] < middle]
    return sha(b"\1" + proven(start, middle, left, proof) + proven(middle, stop, chosen[len(left) :], proof))


def root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1: every leaf is known."""
    return proven(0, len(leaves), [(place, sha(b"\0" + leaf)) for place, leaf in enumerate(leaves)], iter(()))


def header(name: bytes, size: int) -> bytes:
    """Rule 4: the one header that a member of this name and size has."""
    need(len(name) <= 100, "a name of more than 100 bytes")
    head = name.ljust(100, b"\0") + b"0000444\0" + 2 * b"0000000\0" + b"%011o\0" % size + b"00000000000\0"
    tail = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
    return head + b"%06o\0 " % (sum(head) + 8 * 32 + sum(tail)) + tail


def members(tar: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Name, offset and payload of every member of a tar."""
    at = 0
    while tar[at : at + 512] != bytes(512):
        name, digits, start = tar[at : at + 100].rstrip(b"\0"), tar[at + 124 : at + 135], at + 512
        need(len(tar) >= start and digits.isdigit() and not set(digits) & set(b"89"), "a tar that ends, or no size")
        size = int(digits, 8)
        need(tar[at:start] == header(name, size), f"the header of {name!r} is not the one it has to be")
        at = start + -(-size // 512) * 512
        need(len(tar) >= at and not any(tar[start + size : at]), f"{name!r} is cut or padded")
        yield name.decode("ascii"), start, tar[start : start + size]
    need(not any(tar[at:]) and len(tar) - at >= 1024 and len(tar) % 10240 == 0, "a tar with a wrong end")


def samples(tar: bytes, suffixes: tuple[str, ...]) -> Iterator[tuple[str, int, int, bytes]]:
    """Key, label, offset of the image and the image of every sample of a tar."""
    parts = members(tar)
    for name, _, label in parts:
        image_name, offset, image = next(parts, ("", 0, b""))
        key = name.removesuffix(".cls")
        named = f"{key}.cls" == name and image_name in [f"{key}.{suffix}" for suffix in suffixes]
        need(named and label.isdigit() and label == b"%d" % int(label), f"{name}, {image_name}: no sample, no label")
        yield key, int(label), offset, image


def read_set(folder: Path) -> tuple[str, list[str], list[tuple[str, int, bytes]]]:
    """Return replica_id, names of the computed roots, and (key, label, stored image) in order. Raises Refused."""
    replica, replica_id = record(folder, "replica.json")
    name = RECORDS.get(replica["kind"], replica["kind"]) + ".json"
    origin, origin_id = record(folder, name)
    need(replica["origin_sha256"] == origin_id, f"{name} is not the set's")
    view, whole, counts = name == "view.json", origin.get("origin", origin), origin["histogram"]
    classes, per_shard, suffixes = whole["classes"], whole["samples_per_shard"], SUFFIXES[whole["codec"]["name"]]
    stated = [replica[name] for name in ("class_list_sha256", "num_classes", "num_samples")]
    need(stated == [sha(canonical(classes)).hex(), len(classes), sum(counts)], "other classes or counts")
    if (folder / "packing.json").exists():
        per_shard = record(folder, "packing.json")[0]["samples_per_shard"]
    found, tars, rows, own = [], [], {}, [[] for _ in classes]
    for shard in range(replica["num_shards"]):
        name, start = f"shard-{shard:06d}.tar", len(found)
        tar = (folder / "shards" / name).read_bytes()
        tars.append(struct.pack(">H", len(name)) + name.encode() + struct.pack(">Q", len(tar)) + sha(tar))
        for index, (key, label, offset, image) in enumerate(samples(tar, suffixes)):
            number = key.rpartition("_")[2]
            need(label < len(classes) and number.isdigit(), f"{key} is of no class, or has no ordinal")
            need(key == f"{classes[label]['id']}_{int(number):06d}", f"{key} is not of class {label}")
            need((label, int(number)) not in rows, f"{key} is there twice")
            short = bytes([len(key)]) + key.encode()
            places = struct.pack(">7Q", len(found), label, int(number), shard, index, offset, len(image))
            rows[label, int(number)] = short + places, sha(image)
            own[label].append((int(number), sha(b"\0" + short + struct.pack(">Q", label) + sha(image))))
            found.append((key, label, image))
        need(len(found) == min(start + per_shard, sum(counts)), f"{name} has another number of samples")
    tops, parents, proof = [], [], iter(origin.get("proof", ()))
    for label, known in enumerate(own):
        known.sort()
        whole_class = not known or known[-1][0] < len(known)
        need(len(known) == counts[label] and (view or whole_class), f"class {label} has gaps")
        there = [(place, leaf) for place, (_, leaf) in enumerate(known)]
        tops.append(struct.pack(">2Q", label, len(there)) + proven(0, len(there), there, proof))
        if view and known:
            size = whole["histogram"][label]
            parents.append((label, sha(b"\0" + struct.pack(">2Q", label, size) + proven(0, size, known, proof))))
    roots = {"content_root": root(tops), "packing_root": root(tars)}
    if view:
        need(origin["parent"]["origin_sha256"] == sha(canonical(whole)).hex(), "origin is not the parent's")
        top = proven(0, len(classes), parents, proof).hex()
        need(top == origin["parent"]["content_root"] and not list(proof), "no part of the parent")
    if "seed" in whole and not any(whole[name] for name in ("rejection", "pixel_digests", "record_codes")[: 3 - view]):
        lines = []
        for (label, ordinal), (head, digest) in sorted(rows.items()):
            stream = sha(b"caskit/stream/1\0" + struct.pack(">4Q", whole["seed"], label, ordinal, 0))[:16]
            size = struct.pack(">2Q", whole["width"], whole["height"])
            lines.append(head + size + digest + b"\1" + stream + b"\1" + bytes(11))
        roots["rows_root"] = root(lines)
    for name, top in roots.items():
        need(top.hex() == replica[name], f"{name} is another one")
    return replica_id, sorted(roots), found


if __name__ == "__main__":
    print(*read_set(Path(sys.argv[1]))[:2])
