"""Bad shards of a replica are drawn again, and only if they are the very bytes they take their place."""

from pathlib import Path

import pytest
from coded_family import save_coded
from pebble_drive import plan_of

from caskit import cli
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.redrawing import RedrawConfig, Redrawing
from caskit.gen.sampling import SampleConfig, sample
from caskit.gen.worker import Worker
from caskit.manifests.errors import InputError, NonReproducible
from caskit.shards.codes import codes_path
from caskit.shards.dataset import open_set
from caskit.shards.repack import repack
from caskit.shards.repair import repair
from caskit.shards.store import LocalStore

INLINE = SampleConfig(executor="inline")


def files(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in LocalStore(root).names("")}


def made(checkpoint: Checkpoint, out: Path, **changes: object) -> Path:
    sample(plan_of(checkpoint.path, 103, **changes), out, checkpoint=checkpoint.path, config=INLINE)
    return out


def damage(root: Path) -> set[str]:
    """Harm one tar in each way; the last shard is a short one."""
    names = [f"shards/shard-{shard:06d}.tar" for shard in (1, 3, 5)]
    first, second, last = (root / name for name in names)
    data = first.read_bytes()
    first.write_bytes(data[:700] + bytes([data[700] ^ 1]) + data[701:])
    second.write_bytes(second.read_bytes()[:1000])
    last.unlink()
    return set(names)


def redrawing(checkpoint: Path | None) -> Redrawing:
    return Redrawing(RedrawConfig(checkpoint=checkpoint))


def test_bad_shards_are_drawn_again_and_no_others(pebble: Checkpoint, tmp_path: Path) -> None:
    root = made(pebble, tmp_path / "set")
    before, good = files(root), (root / "shards/shard-000000.tar").stat()
    bad = damage(root)
    drawn: list[int] = []

    class Counting(Redrawing):
        def tar(self, records, shard, folder):  # type: ignore[no-untyped-def]
            drawn.append(shard)
            return super().tar(records, shard, folder)

    found = repair(str(root), Counting(RedrawConfig(checkpoint=pebble.path)))
    assert set(found.reasons) == bad and drawn == [1, 3, 5]
    assert files(root) == before and (root / "shards/shard-000000.tar").stat() == good


def test_codes_are_drawn_again(coded: Checkpoint, tmp_path: Path) -> None:
    root = made(coded, tmp_path / "set", record_codes=True)
    before = files(root)
    (root / codes_path(2)).write_bytes(b"PAR1")
    (root / codes_path(4)).unlink()
    (root / "shards/shard-000004.tar").unlink()
    found = repair(str(root), redrawing(coded.path))
    assert sorted(found.reasons) == [
        codes_path(2),
        codes_path(4),
        "shards/shard-000004.tar",
    ]
    assert files(root) == before


def test_what_is_drawn_otherwise_is_not_taken(
    coded: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made(coded, tmp_path / "set")
    damage(root)
    before = files(root)
    with pytest.raises(InputError, match="checkpoint"):
        repair(str(root), redrawing(save_coded(tmp_path / "other", seed=1).path))
    real = Worker.load_generator

    def other(self):  # type: ignore[no-untyped-def]
        self.checkpoint = save_coded(tmp_path / "another", seed=2).path
        monkeypatch.setattr("caskit.gen.worker.open_planned", lambda plan, folder, allow_code: load(folder))
        return real(self)

    from caskit.gen.checkpoint import load_checkpoint as load

    monkeypatch.setattr(Worker, "load_generator", other)
    with pytest.raises(NonReproducible, match=r"shard-000001\.tar was drawn again with sha256 .* environment class"):
        repair(str(root), redrawing(coded.path))
    assert files(root) == before


def test_what_no_generator_gives(pebble: Checkpoint, tmp_path: Path) -> None:
    root = made(pebble, tmp_path / "set")
    repack(open_set(str(root)), str(tmp_path / "big"), samples_per_shard=40, created="2026-01-01T00:00:00Z")
    (tmp_path / "big/shards/shard-000000.tar").unlink()
    with pytest.raises(InputError, match="was repacked, and its plan draws other shards; use --from MIRROR"):
        repair(str(tmp_path / "big"), redrawing(pebble.path))
    (root / "plan.json").unlink()
    with pytest.raises(InputError, match=r"plan\.json is bad, and only tars and codes can be drawn again"):
        repair(str(root), redrawing(pebble.path))


def test_the_command(pebble: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made(pebble, tmp_path / "set")
    before, bad = files(root), damage(root)
    by = ["--checkpoint", str(pebble.path), "--device", "cpu"]
    assert cli.main(["repair", str(root), "--resample", *by, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert all(f"bad  {name}: " in shown for name in bad) and "3 bad" in shown
    assert cli.main(["repair", str(root), "--resample", *by]) == 0
    shown = capsys.readouterr().out
    assert "replaced  shards/shard-000005.tar: missing" in shown and "as before, verified in full" in shown
    assert files(root) == before
    (tmp_path / "copy").mkdir()
    for name, data in before.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(data)
    damage(root)
    assert cli.main(["repair", str(root), "--from", str(tmp_path / "copy")]) == 0
    assert files(root) == before
    assert cli.main(["repair", str(root), "--from", str(tmp_path / "copy"), *by]) == 2
    assert "--checkpoint goes with --resample" in capsys.readouterr().err
