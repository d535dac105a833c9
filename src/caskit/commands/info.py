"""Say what a set is: kind, counts, classes, where it came from, ids. Nothing is verified; `caskit verify` does that.

--trust says instead what whoever was handed the set can know about it: what is proven, what is not checked yet and by
which command it can be, what its maker claims, and what nobody can show.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from caskit.commands.options import Context
from caskit.console import bytes_text, print_line
from caskit.manifests.errors import InputError

EXAMPLE = "caskit info runs/digits/first --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("set", metavar="SET", help="PATH_OR_URL[@sha256:prefix]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--trust", action="store_true", help="what is proven, claimed, and cannot be shown")
    parser.add_argument("--trusted-keys", metavar="FILE", help="with --trust: public keys (PEM) whose signatures count")


def describe(reference: str) -> dict[str, Any]:
    """Return what is known about a set as JSON values; an unfrozen one has its plan and the count of its commits."""
    from caskit.manifests.origin import ORIGIN_FILES
    from caskit.manifests.sets import SetReference
    from caskit.shards.records import read_origin, read_packing, read_replica, read_shard_table
    from caskit.shards.store import open_store

    parsed = SetReference.parse(reference)
    store = open_store(parsed.location)
    if not store.exists("replica.json") and any(store.exists(name) for name in ORIGIN_FILES.values()):
        return _describe_open(store)
    replica = read_replica(store)
    parsed.check(replica.replica_id)
    origin = read_origin(store, replica)
    shards, packing = read_shard_table(store), read_packing(store, origin)
    return {
        "location": store.location,
        "frozen": True,
        "replica_id": replica.replica_id,
        "kind": replica.kind,
        "num_samples": replica.num_samples,
        "num_classes": replica.num_classes,
        "num_shards": replica.num_shards,
        "size_bytes": sum(shard.size_bytes for shard in shards),
        "content_root": replica.content_root,
        "rows_root": replica.rows_root,
        "packing_root": replica.packing_root,
        **_describe_origin(origin),
        **({} if packing is None else {"repacked": dataclasses.asdict(packing)}),
    }


def _describe_open(store: Any) -> dict[str, Any]:
    from caskit.shards.commit import committed_shards
    from caskit.shards.freeze import read_unfrozen_origin

    origin = read_unfrozen_origin(store)
    return {
        "location": store.location,
        "frozen": False,
        "kind": origin.KIND,
        "num_samples": origin.num,
        "num_classes": len(origin.classes),
        "num_shards": origin.num_shards,
        "num_committed": len(committed_shards(store)),
        **_describe_origin(origin),
    }


def _describe_origin(origin: Any) -> dict[str, Any]:
    from caskit.manifests.imported import Import
    from caskit.manifests.ingest import Ingest
    from caskit.manifests.reconstruction import Reconstruction
    from caskit.manifests.view import View

    if isinstance(origin, View):
        parent = {"replica_id": origin.parent.replica_id, **_describe_origin(origin.origin)}
        parent.pop("histogram")
        return {"view_of": parent, "select": origin.select, "histogram": list(origin.histogram)}
    shared = {"histogram": list(origin.histogram), "samples_per_shard": origin.samples_per_shard}
    if isinstance(origin, Ingest):
        return {"dataset": origin.dataset, "split": origin.split, "ingest_id": origin.ingest_id, **shared}
    if isinstance(origin, Import):
        fields = ("form", "name", "source_sha256", "settings", "height", "width", "channels")
        return {
            **{name: getattr(origin, name) for name in fields},
            "settings": dict(origin.settings),
            "codec": dict(origin.codec),
            "import_id": origin.origin_id,
            **shared,
        }
    if isinstance(origin, Reconstruction):
        return {
            "family": origin.family,
            "preset": origin.preset,
            "checkpoint_id": origin.checkpoint_id,
            "parent": dataclasses.asdict(origin.parent),
            "height": origin.height,
            "width": origin.width,
            "channels": origin.channels,
            "codec": origin.codec.to_json(),
            "reconstruction_id": origin.origin_id,
            **shared,
        }
    return {
        "family": origin.family,
        "preset": origin.preset,
        "sampler": dict(origin.sampler),
        "rejection": None if origin.rejection is None else origin.rejection.to_json(),
        "checkpoint_id": origin.checkpoint_id,
        "quota": origin.quota,
        "seed": origin.seed,
        "height": origin.height,
        "width": origin.width,
        "channels": origin.channels,
        "codec": origin.codec.to_json(),
        "record_codes": origin.record_codes,
        "plan_id": origin.plan_id,
        **shared,
    }


def _text(name: str, value: Any) -> str:
    if name == "histogram":
        low, high = min(value), max(value)
        return f"{low:,} of every class" if low == high else f"{low:,} to {high:,} of a class"
    if name == "size_bytes":
        return f"{bytes_text(value)} ({value:,} bytes)"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(key, inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, int) and name != "seed":
        return f"{value:,}"
    return str(value)


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Print the description."""
    if arguments.trusted_keys is not None and not arguments.trust:
        raise InputError("--trusted-keys goes with --trust")
    if arguments.trust:
        return _run_trust(arguments)
    described = describe(arguments.set)
    if arguments.json:
        print(json.dumps(described, indent=2))
        return 0
    width = max(map(len, described))
    for name, value in described.items():
        print_line(f"{name:<{width}}  {_text(name, value)}")
    return 0


def _run_trust(arguments: argparse.Namespace) -> int:
    from caskit.shards.keys import read_trusted
    from caskit.shards.records import read_records
    from caskit.shards.trust import STATES, findings

    trusted = None if arguments.trusted_keys is None else read_trusted(Path(arguments.trusted_keys))
    records = read_records(arguments.set)
    found = findings(records, trusted)
    if arguments.json:
        shown = {"replica_id": records.replica.replica_id, "findings": [dataclasses.asdict(one) for one in found]}
        print(json.dumps(shown, indent=2))
        return 0
    width = max(len(one.question) for one in found)
    for state in STATES:
        for one in found:
            if one.state == state:
                print_line(f"{state:<{max(map(len, STATES))}}  {one.question:<{width}}  {one.evidence}")
    return 0
