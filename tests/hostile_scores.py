"""Score and classifier folders that somebody made to harm whoever reads them; `hostile_tools` has the tools."""

import hashlib
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hostile_tools import DEEP, TERABYTE, Attack, Payload, device, grow, link, pipe, put, rewrite  # type: ignore

from caskit.evaluate.predict import PREDICTION_SCHEMA
from caskit.evaluate.score import score_id
from caskit.manifests.canonical import canonical_json, sha256_hex

SCORES = ("check", "compare", "report", "baseline")
ROWS = ("check", "compare", "baseline")  # commands that read predictions.parquet
CLASSIFIER = ("score",)


def resealed(folder: Path) -> None:
    """Give a score the digest and the id that its files have now."""
    record = json.loads((folder / "score.json").read_bytes())
    record["predictions_sha256"] = hashlib.sha256((folder / "predictions.parquet").read_bytes()).hexdigest()
    record["score_id"] = score_id(record)
    rewrite(folder / "score.json", json.dumps(record).encode())


def predictions(change: Callable[[Path], None]) -> Callable[[Path, Path], None]:
    """Return what changes predictions.parquet and seals the score."""

    def damage(folder: Path, outside: Path) -> None:
        change(folder / "predictions.parquet")
        resealed(folder)

    return damage


def rows_for_nothing(path: Path) -> None:
    """Write two million equal rows."""
    table = pq.read_table(path).slice(0, 1)
    large = pa.concat_tables([table] * 2**17).combine_chunks()
    with pq.ParquetWriter(path, PREDICTION_SCHEMA, compression="zstd") as writer:
        for _ in range(16):
            writer.write_table(large)


def lists_for_nothing(path: Path) -> None:
    """Write lists of a million equal numbers."""
    table = pq.read_table(path)
    column, zeros = PREDICTION_SCHEMA.get_field_index("top5_ids"), np.zeros(10**6)
    long = pa.array([zeros], PREDICTION_SCHEMA.field(column).type)
    with pq.ParquetWriter(path, PREDICTION_SCHEMA) as writer:
        for number in range(len(table)):  # one at a time, within the bound on memory that readers have here
            writer.write_table(table.slice(number, 1).set_column(column, PREDICTION_SCHEMA.field(column), long))


def key_of(text: str) -> Callable[[Path], None]:
    """Return what gives all rows one key."""

    def change(path: Path) -> None:
        rows = [{**row, "key": text} for row in pq.read_table(path).to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, schema=PREDICTION_SCHEMA), path)

    return change


def run_json(**changes: Any) -> Callable[[Path, Path], None]:
    """Return what changes fields of a classifier's record, nested ones as objects, and its id with them."""

    def damage(folder: Path, outside: Path) -> None:
        record = json.loads((folder / "run.json").read_bytes())
        for name, value in changes.items():
            record[name] = {**record[name], **value} if isinstance(value, dict) else value
        fields = ("recipe", "seed", "data", "classes", "channels", "model_sha256")
        record["classifier_id"] = sha256_hex(canonical_json({name: record[name] for name in fields}))
        rewrite(folder / "run.json", json.dumps(record).encode())

    return damage


def weights(make: Callable[[Path], bytes]) -> Callable[[Path, Path], None]:
    """Return what stores other bytes as weights, with their digest."""

    def damage(folder: Path, outside: Path) -> None:
        data = make(outside)
        rewrite(folder / "model.safetensors", data)
        run_json(model_sha256=sha256_hex(data))(folder, outside)

    return damage


SCORE_ATTACKS = (
    Attack(name="score.json is a link", damage=link("score.json"), refused_by=SCORES, message="no plain file"),
    Attack(name="score.json is a pipe", damage=pipe("score.json"), refused_by=SCORES, message="no plain file"),
    Attack(name="score.json is a device", damage=device("score.json"), refused_by=SCORES, message="no plain file"),
    Attack(name="score.json nested 200,000 deep", damage=put("score.json", DEEP), refused_by=SCORES, message="score"),
    Attack(name="score.json of a terabyte", damage=grow("score.json", TERABYTE), refused_by=SCORES, message="at most"),
    Attack(
        name="a name twice in score.json",
        damage=lambda folder, outside: put(
            "score.json", (folder / "score.json").read_bytes().replace(b"{", b'{"metric": "CAS",', 1)
        )(folder, outside),
        refused_by=SCORES,
        message="twice",
    ),
    Attack(
        name="predictions are a link", damage=link("predictions.parquet"), refused_by=SCORES, message="no plain file"
    ),
    Attack(
        name="predictions are a pipe", damage=pipe("predictions.parquet"), refused_by=SCORES, message="no plain file"
    ),
    Attack(
        name="predictions of noise",
        damage=predictions(lambda path: rewrite(path, b"PAR1" * 99)),
        refused_by=ROWS,
        message="not readable",
    ),
    Attack(name="two million equal predictions", damage=predictions(rows_for_nothing), refused_by=ROWS, message="rows"),
    Attack(
        name="a million answers to one image",
        damage=predictions(lists_for_nothing),
        refused_by=ROWS,
        message="values in one column",
    ),
    Attack(name="a key of 100 kB", damage=predictions(key_of("x" * 100_000)), refused_by=ROWS, message="key"),
    Attack(
        name="a key that clears the screen", damage=predictions(key_of("\x1b[2J")), refused_by=("check",), message="key"
    ),
    Attack(name="run.json is a pipe", damage=pipe("run.json"), refused_by=CLASSIFIER, message="no plain file"),
    Attack(name="run.json nested 200,000 deep", damage=put("run.json", DEEP), refused_by=CLASSIFIER, message="record"),
    Attack(name="weights are a link", damage=link("model.safetensors"), refused_by=CLASSIFIER, message="no plain file"),
    Attack(
        name="weights of a terabyte",
        damage=grow("model.safetensors", TERABYTE),
        refused_by=CLASSIFIER,
        message="at most",
    ),
    Attack(
        name="a pickle for weights",
        damage=weights(lambda outside: pickle.dumps(Payload(outside / "ran"))),
        refused_by=CLASSIFIER,
        message="weights do not fit",
    ),
    Attack(
        name="weights with a header of 2^60 bytes",
        damage=weights(lambda outside: struct.pack("<Q", 2**60) + b"{}"),
        refused_by=CLASSIFIER,
        message="weights do not fit",
    ),
    Attack(
        name="a network of a terabyte",
        damage=run_json(recipe={"widths": [2**20, 2**20]}),
        refused_by=CLASSIFIER,
        message="widths|memory|at most",
    ),
    Attack(
        name="a network that is code",
        damage=run_json(recipe={"model": "os.system"}),
        refused_by=CLASSIFIER,
        message="model",
    ),
    Attack(
        name="weights from the Hub",
        damage=run_json(recipe={"model": "hf-hub:someone/model"}),
        refused_by=CLASSIFIER,
        message="model",
    ),
)
