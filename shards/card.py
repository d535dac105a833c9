"""Files for people and other tools beside a frozen set; made from its records, so they can be made again any time.

README.md      dataset card with the YAML that Hugging Face reads
_info.json     splits as timm's `wds/` reader wants them
croissant.json MLCommons Croissant 1.1, see croissant.py
SHA256SUMS     for `sha256sum -c SHA256SUMS`
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from caskit.manifests.codec import EXTENSIONS
from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.imported import NOT_AUDITABLE, Import
from caskit.manifests.ingest import Ingest
from caskit.manifests.origin import ORIGIN_FILES
from caskit.manifests.packing import Packing
from caskit.manifests.plan import Plan
from caskit.manifests.reconstruction import Reconstruction
from caskit.manifests.replica import Replica
from caskit.manifests.view import View
from caskit.manifests.view import Whole as Origin
from caskit.shards.code_checks import due_sidecars
from caskit.shards.commit import shard_path
from caskit.shards.croissant import IMAGE_TYPES, TITLES, describe_set
from caskit.shards.digest import sha256_stored
from caskit.shards.records import read_origin, read_provenance, read_replica, read_shard_table
from caskit.shards.store import Store

RECORD_FILES = (
    *ORIGIN_FILES.values(),
    Packing.FILE,
    "environment.json",
    "manifest.parquet",
    "shards.parquet",
    "skipped.parquet",
    "provenance.json",
    "replica.json",
)
MAX_SHOWN_CLASSES = 100
_LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.-]*")


def write_card(store: Store) -> None:
    """Write the card of a frozen set, whether there was one or not.

    Raises:
        InputError: the set is not frozen, or it is a view, which has no card.
        IntegrityError: its records are damaged.
    """
    replica = read_replica(store)
    origin = read_origin(store, replica)
    if isinstance(origin, View):
        raise InputError(f"{store.location}: is a view, which has no card")
    shards = read_shard_table(store)
    provenance = read_provenance(store)
    digests = {name: sha256_stored(store, name) for name in RECORD_FILES if store.exists(name)}
    sizes = {name: store.size(name) for name in digests}
    digests |= {shard_path(shard.shard): shard.sha256 for shard in shards}
    sizes |= {shard_path(shard.shard): shard.size_bytes for shard in shards}
    for sidecar in due_sidecars(origin, len(shards)):
        if not store.exists(sidecar):
            raise IntegrityError(f"{store.location}/{sidecar}: is missing, {origin.FILE} says that codes are recorded")
        digests[sidecar], sizes[sidecar] = sha256_stored(store, sidecar), store.size(sidecar)
    name, split = set_name(origin), split_of(origin)
    info = {
        "name": name,
        "splits": {
            split: {
                "name": split,
                "num_samples": replica.num_samples,
                "filenames": [shard_path(shard.shard) for shard in shards],
                "shard_lengths": [shard.num_samples for shard in shards],
            }
        },
    }
    croissant = describe_set(replica, origin, provenance, name=name, digests=digests, sizes=sizes)
    store.replace("_info.json", _json_file(info))
    store.replace("croissant.json", _json_file(croissant))
    store.replace("README.md", readme(replica, origin, provenance).encode())
    digests |= {file: sha256_stored(store, file) for file in ("README.md", "_info.json", "croissant.json")}
    store.replace("SHA256SUMS", "".join(f"{digests[file]}  {file}\n" for file in sorted(digests)).encode())


def set_name(origin: Origin) -> str:
    """Return a set's short name: family and preset of the generator, or the data set and split."""
    if isinstance(origin, Plan):
        return f"{origin.family}-{origin.preset}-replica"
    if isinstance(origin, Reconstruction):
        return f"{origin.family}-{origin.preset}-reconstructions"
    return f"{origin.dataset}-{origin.split}" if isinstance(origin, Ingest) else origin.title


def split_of(origin: Origin) -> str:
    """Return what other tools call the split; a replica replaces training images."""
    if isinstance(origin, Reconstruction):
        return origin.parent.split
    return origin.split if isinstance(origin, Ingest) else "train"


def image_extension(origin: Origin) -> str | None:
    """Return the extension of every image, None where the inputs' own bytes, of any format, are stored."""
    name = str(origin.codec.get("name")) if isinstance(origin, Ingest | Import) else origin.codec.name
    return EXTENSIONS.get(name)


def readme(replica: Replica, origin: Origin, provenance: Mapping[str, Any]) -> str:
    """Return the dataset card."""
    front = "\n".join([*_front_matter(replica, origin, provenance), *_features(origin)])
    facts = "\n".join(f"| {name} | {value} |" for name, value in _facts(replica, origin))
    image = image_extension(origin) or f"{', '.join(IMAGE_TYPES)}: one of them, the others are null"
    return f"""---
{front}
---

# {set_name(origin)}

{TITLES[replica.kind]} in shards with a manifest, made with caskit.

| | |
|---|---|
{facts}

`caskit verify DIR@sha256:{replica.replica_id[:16]} --level full` checks every byte against this identity.
`sha256sum -c SHA256SUMS` checks the files alone.
{_not_auditable(origin)}
## Reading it

```python
import datasets
samples = datasets.load_dataset("DIR", split="{split_of(origin)}")  # columns: cls, {image}

import webdataset
samples = webdataset.WebDataset("DIR/shards/shard-{{000000..{replica.num_shards - 1:06d}}}.tar", shardshuffle=False)
```

timm reads it as `--dataset wds/ --data-dir DIR --train-split {split_of(origin)}`. Each sample is `<key>.cls` (the label
in decimal digits) followed by its image; `manifest.parquet` has a row for each.{_codes_text(origin)}

## Classes

{_class_table(origin)}
"""


def _front_matter(replica: Replica, origin: Origin, provenance: Mapping[str, Any]) -> list[str]:
    sizes = ((1000, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
    size = next((label for bound, label in sizes if replica.num_samples < bound), "10M<n<100M")
    licence = str(provenance.get("licence") or "unknown")
    known = _LICENCE_ID.fullmatch(licence) is not None
    return [
        f"pretty_name: {json.dumps(set_name(origin))}",
        *([f"license: {licence}"] if known else ["license: other", f"license_name: {json.dumps(licence)}"]),
        "task_categories:",
        "- image-classification",
        "size_categories:",
        f"- {size}",
        "tags:",
        "- webdataset",
        "- caskit",
        f"- {replica.kind}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        f"  - split: {split_of(origin)}",
        "    path: shards/*.tar",
    ]


def _features(origin: Origin) -> list[str]:
    extension = image_extension(origin)
    # Of stored originals a sample has one of the columns; unless all are named, a set of two formats cannot be loaded.
    columns = [extension] if extension is not None else list(IMAGE_TYPES)
    names = (f"          '{label}': {json.dumps(name)}" for label, name in enumerate(origin.classes.names))
    return [
        "dataset_info:",
        "- config_name: default",
        "  features:",
        "  - name: cls",
        "    dtype:",
        "      class_label:",
        "        names:",
        *names,
        *(line for column in columns for line in (f"  - name: {column}", "    dtype: image")),
        "  - name: __key__",
        "    dtype: string",
        "  - name: __url__",
        "    dtype: string",
    ]


def _resized(origin: Ingest) -> list[tuple[str, Any]]:
    """Say how images came to one size, where ingest brought them there."""
    made = origin.codec.get("resize")
    if not isinstance(made, Mapping):
        return []
    side = made.get("side")
    how = f"{made.get('crop')} square, {made.get('filter')}"
    return [("images", f"{side}x{side}, {origin.codec.get('channels')} channels, {origin.codec.get('name')}; {how}")]


def _facts(replica: Replica, origin: Origin) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [
        ("replica_id", f"`{replica.replica_id}`"),
        ("kind", replica.kind),
        ("samples, classes, shards", f"{replica.num_samples}, {replica.num_classes}, {replica.num_shards}"),
        ("content_root", f"`{replica.content_root}`"),
    ]
    if isinstance(origin, Ingest):
        return [
            *facts,
            ("data set, split", f"{origin.dataset}, {origin.split}"),
            ("ingest_id", f"`{origin.ingest_id}`"),
            *_resized(origin),
        ]
    if isinstance(origin, Import):
        return [
            *facts,
            ("imported from", f"{origin.form}, source_sha256 `{origin.source_sha256}`"),
            ("record", f"`{origin.origin_id}` ({origin.FILE})"),
            ("images", f"{origin.height}x{origin.width}, {origin.channels} channels, {origin.codec['name']}"),
        ]
    facts += [
        ("generator", f"{origin.family}, preset {origin.preset}"),
        ("checkpoint_id", f"`{origin.checkpoint_id}`"),
    ]
    images = ("images", f"{origin.height}x{origin.width}, {origin.channels} channels, {origin.codec.name}")
    if isinstance(origin, Reconstruction):
        parent = origin.parent
        return [
            *facts,
            ("of data set, split", f"{parent.dataset}, {parent.split}"),
            ("of replica_id", f"`{parent.replica_id}`; each image has the key of the real one it was made from"),
            ("record", f"`{origin.origin_id}` ({origin.FILE})"),
            images,
        ]
    return [
        *facts,
        ("plan_id", f"`{origin.plan_id}`"),
        ("seed, quota", f"{origin.seed}, {origin.quota}"),
        *_rejection(origin),
        images,
    ]


def _rejection(origin: Plan) -> list[tuple[str, str]]:
    rejection = origin.rejection
    if rejection is None:
        return []
    return [
        (
            "rejection",
            f"each image is the {rejection.words} by classifier `{rejection.classifier_id}`: "
            "quality for diversity, and a score of this set also depends on that classifier",
        )
    ]


def _not_auditable(origin: Origin) -> str:
    """Say of an imported set what its digests do not prove."""
    if not isinstance(origin, Import):
        return ""
    return "\n## What cannot be audited\n\n" + "".join(f"- {line}\n" for line in NOT_AUDITABLE)


def _codes_text(origin: Origin) -> str:
    if not due_sidecars(origin, 1):
        return ""
    return """

`codes/` holds the codes that each image was decoded from, one Parquet file per shard, a row per sample: `key`, and per
level the map as little-endian uint16. `caskit audit DIR --checkpoint CHECKPOINT` checks them and the images against the
generator, in one pass that is far cheaper than drawing again."""


def _class_table(origin: Origin) -> str:
    rows = [
        f"| {label} | {class_id} | {_cell(name)} | {count} |"
        for label, (class_id, name, count) in enumerate(
            zip(origin.classes.ids, origin.classes.names, origin.histogram, strict=True)
        )
    ]
    left_out = len(rows) - MAX_SHOWN_CLASSES
    more = [f"\n{left_out} more stand in {origin.FILE}."] if left_out > 0 else []
    return "\n".join(["| label | id | name | samples |", "|---|---|---|---|", *rows[:MAX_SHOWN_CLASSES], *more])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _json_file(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n").encode()
