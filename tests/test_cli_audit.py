"""`caskit sample --record-codes` and `caskit audit`: what they print, write and exit with."""

import base64
import dataclasses
import hashlib
import io
import json
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from caskit import cli
from caskit.gen import family as family_table

PEBBLE = os.fspath(Path(__file__).parent / "gen" / "pebble")
WEB_SERVER = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "view_browser.py"))["web_server"]
KEY = "c02_000003"
SAMPLE = ["--executor", "inline", "--samples-per-shard", "20", "--set", "microbatch_size=8", "--seed", "3"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest replica with codes, one without, and a forged one in which two images are exchanged."""
    folder = tmp_path_factory.mktemp("audited")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PEBBLE)
        patch.setitem(family_table.FAMILIES, "coded", "coded_family")
        patch.chdir(folder)
        import coded_family
        import forged_sets

        from caskit.gen.planning import read_plan
        from caskit.shards.store import LocalStore

        coded_family.save_coded(folder / "checkpoint")
        coded_family.save_coded(folder / "other", seed=1)
        for name, flags in (("coded", ["--record-codes"]), ("plain", [])):
            command = ["sample", "--gen", "coded", "--checkpoint", "checkpoint", "--num", "53", *SAMPLE, *flags]
            assert cli.main([*command, "--out", name]) == 0

        def swap(samples, generator) -> None:
            one, two = samples[KEY], samples["c04_000001"]
            samples[KEY] = dataclasses.replace(one, images=two.images)
            samples["c04_000001"] = dataclasses.replace(two, images=one.images)

        plan = read_plan(LocalStore(folder / "coded"))
        forged_sets.forge(folder / "forged", plan, folder / "checkpoint", change=swap)
    return folder


@pytest.fixture(autouse=True)
def _inside(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sets)
    monkeypatch.syspath_prepend(PEBBLE)
    monkeypatch.setitem(family_table.FAMILIES, "coded", "coded_family")
    assert PEBBLE in sys.path


def audit(*arguments: str) -> int:
    return cli.main(["audit", *arguments, "--checkpoint", "checkpoint"])


def test_an_honest_replica_passes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    replica_id = hashlib.sha256(Path("coded/replica.json").read_bytes()).hexdigest()
    assert audit(f"coded@sha256:{replica_id[:12]}", "--out", str(tmp_path / "out")) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == f"coded@sha256:{replica_id[:16]}  teacher-forced"
    assert out.splitlines()[-1] == "PASS: what was checked is what the plan and the checkpoint give"
    assert "53 of 53 checked (all of them)" in out and "954 codes, largest distance outside an interval" in out
    assert "53 of 53 images have equal pixels, largest difference 0, allowed 0" in out
    record = json.loads((tmp_path / "out/audit.json").read_bytes())
    assert (record["replica_id"], record["passed"], record["mode"]) == (replica_id, True, "teacher-forced")
    assert record["failures"] == [] and record["epsilon"] == 1e-4 and record["counts"]["codes"] == 954
    assert len(max(out.splitlines(), key=len)) <= 120


def test_a_forged_one_fails_with_keys_and_positions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert audit("forged", "--out", str(tmp_path)) == 1
    out, err = capsys.readouterr()
    faults = [line for line in err.splitlines() if line.startswith("caskit: fault: ")]
    assert len(faults) == 2 and f"key {KEY}: its codes decode to another image than is stored" in "".join(faults)
    assert "pixels differ, first row 0, column 0" in faults[0]
    assert out.splitlines()[-1] == "FAIL: 2 faults"
    record = json.loads((tmp_path / "audit.json").read_bytes())
    assert not record["passed"] and [failure["key"] for failure in record["failures"]].count(KEY) == 1
    sheet = np.array(Image.open(io.BytesIO((tmp_path / "audit.png").read_bytes())).convert("RGB"))
    assert (sheet == (200, 0, 0)).all(axis=2).sum() > 500, "faults are framed in red"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--keys", f"{KEY},c04_000001"], "2 of 53 checked (2 named)"),
        (["--random", "7", "--audit-seed", "1"], "7 of 53 checked (7 drawn by audit seed 1)"),
        (["--batch-size", "5", "--threads", "2"], "largest difference 0, allowed 1"),
        (["--epsilon", "0.5", "--pixel-tolerance", "3"], "allowed 0.5"),
        (["--redraw"], "8 microbatches, 53 draws"),
    ],
)
def test_flags(flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit("coded", *flags) == 0
    assert told in capsys.readouterr().out


def test_without_codes_it_redraws(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit("plain") == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("  redraw")


def test_another_checkpoint_is_bad_input_and_may_be_forced(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", "coded", "--checkpoint", "other"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "other: checkpoint_id is" in line and "the replica's plan names" in line
    assert cli.main(["audit", "coded", "--checkpoint", "other", "--allow-checkpoint"]) == 1
    out, err = capsys.readouterr()
    assert "NOT the plan's" in out and "outside the interval of code" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["coded", "--keys", "c09_000000"], "key 'c09_000000' is not in the replica"),
        (["coded", "--random", "3"], "a random draw needs both"),
        (["nowhere"], "no caskit set is there"),
        (["coded", "--redraw", "--threads", "2"], "a redraw takes batch size and threads from the plan"),
        (["coded", "--classifier", "x"], "a classifier judges candidates"),
    ],
)
def test_bad_input(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(*flags) == 2
    assert message in capsys.readouterr().err


def test_a_damaged_set_fails(sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    root = shutil.copytree(sets / "coded", tmp_path / "set")
    (root / "codes/shard-000001.parquet").unlink()
    assert audit(str(root)) == 1
    assert "codes/shard-000001.parquet: is missing" in capsys.readouterr().err
    (root / "manifest.parquet").write_bytes(b"PAR1")
    assert audit(str(root)) == 1
    assert "manifest.parquet: not a whole Parquet file" in capsys.readouterr().err


def test_signed_records_of_an_honest_a_forged_and_a_foreign_audit(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What passes, a forged sample, and another checkpoint: each leaves a record that names what was found."""
    key = str(tmp_path / "lab.pem")
    assert cli.main(["sign", "--new-key", key]) == 0
    records = {name: str(tmp_path / f"{name}.json") for name in ("honest", "forged", "foreign")}
    named = ["--keys", f"{KEY},c01_000000", "--redraw", "--sign", key, "--record"]
    assert audit("coded", *named, records["honest"]) == 0
    assert audit("forged", *named, records["forged"]) == 1
    foreign = ["audit", "coded", *named, records["foreign"], "--checkpoint", "other", "--allow-checkpoint"]
    assert cli.main(foreign) == 1
    assert "signed by key" in capsys.readouterr().out
    check = ["--trusted-keys", f"{key}.pub", "--audit-record"]
    assert cli.main(["verify", "coded", *check, records["honest"]]) == 0
    assert "12 samples, redraw, nothing was found" in capsys.readouterr().out
    assert cli.main(["verify", "forged", *check, records["forged"]]) == 1
    assert "found 1 faults in an audit of 12 samples" in capsys.readouterr().err
    assert cli.main(["verify", "forged", *check, records["honest"]]) == 1
    assert "is of replica" in capsys.readouterr().err
    for name, keys in (("honest", set()), ("forged", {KEY}), ("foreign", {KEY, "c01_000000"})):
        payload = base64.b64decode(json.loads(Path(records[name]).read_bytes())["payload"])
        predicate = json.loads(payload)["predicate"]
        found = {failure["key"] for failure in predicate["failures"]}
        assert keys <= found and (name == "foreign" or found == keys)  # whole microbatches are drawn again
        assert (predicate["checkpoint_id"] == predicate["planned_checkpoint_id"]) == (name != "foreign")


@pytest.mark.parametrize("name", ["coded", "plain", "forged", "foreign"])
def test_over_http_an_audit_fetches_the_images_it_needs(
    name: str, sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two keys are of two microbatches; of the tars move the images of these, and nothing else."""
    root = sets / ("coded" if name == "foreign" else name)
    checkpoint = ["other", "--allow-checkpoint"] if name == "foreign" else ["checkpoint"]
    with WEB_SERVER(root) as (url, sent):
        command = ["audit", url, "--keys", f"{KEY},c01_000000", "--redraw", "--checkpoint", *checkpoint]
        assert cli.main(command) == (0 if name in ("coded", "plain") else 1)
    told = capsys.readouterr()
    if name in ("forged", "foreign"):
        assert f"fault: key {KEY if name == 'forged' else 'c0'}" in told.err
    moved = sorted(size for file, size in sent if file.startswith("shards/") and file.endswith(".tar"))
    rows = pq.read_table(root / "manifest.parquet").to_pylist()
    wanted = [row for row in rows if row["key"] in (KEY, "c01_000000")]
    batches = {(row["shard"], row["index_in_shard"] // 8) for row in wanted}
    due = sorted(row["nbytes"] for row in rows if (row["shard"], row["index_in_shard"] // 8) in batches)
    assert moved == due and len(due) in (12, 16)


def test_a_record_is_never_overwritten_and_a_key_needs_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "record.json"
    assert audit("coded", "--keys", KEY, "--record", str(record)) == 0
    assert json.loads(record.read_bytes())["passed"] and "not signed" in capsys.readouterr().out
    assert audit("coded", "--keys", KEY, "--record", str(record)) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert audit("coded", "--sign", str(tmp_path / "key")) == 2
    assert "--sign signs the file of --record" in capsys.readouterr().err
    assert cli.main(["verify", "coded", "--audit-record", str(record)]) == 2
    assert "--audit-record needs --trusted-keys" in capsys.readouterr().err


def test_a_repacked_replica_is_audited_as_the_plan_drew_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = str(tmp_path / "other")
    assert cli.main(["repack", "coded", "--samples-per-shard", "7", "--out", other]) == 0
    for flags in ([], ["--redraw"]):
        assert audit(other, *flags) == 0
        assert "53 of 53 images have equal pixels, largest difference 0" in capsys.readouterr().out
    tar = tmp_path / "other/shards/shard-000003.tar"
    data = bytearray(tar.read_bytes())
    data[1600] ^= 1
    tar.unlink()
    tar.write_bytes(data)
    assert audit(other, "--redraw") == 1
    assert "shards/shard-000003.tar: the image's bytes are not those" in capsys.readouterr().err
