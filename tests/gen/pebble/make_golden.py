"""Makes tests/gen/golden, tests/gen/golden_rows.txt and the checkpoint they are drawn from.

`python tests/gen/pebble/make_golden.py` from the repository's root. Only to be run when the format changes, which takes
a new format version; a golden replica that no longer comes out equal is a broken promise, not an old file.
"""

import shutil
import tempfile
from pathlib import Path

from pebble_drive import plan_of, save_pebble

from caskit.gen.family import FAMILIES
from caskit.gen.sampling import SampleConfig, sample
from caskit.manifests.codec import Codec
from caskit.manifests.plan import Plan
from caskit.manifests.rows import canonical_row, iterate_rows
from caskit.shards.records import read_manifest
from caskit.shards.store import open_store

FOLDER = Path(__file__).parent
GOLDEN, ROWS, CHECKPOINT = FOLDER.parent / "golden", FOLDER.parent / "golden_rows.txt", FOLDER / "checkpoint"


def golden_plan() -> Plan:
    """Return a plan with redrawn samples, pixel digests, a short shard, and PNGs that are stored, not deflated."""
    return plan_of(
        CHECKPOINT,
        48,
        codec=Codec.of("png", {"compress_level": 0, "strategy": "default"}),
        sampler={"not_finite_every": 6},
        pixel_digests=True,
    )


def make_golden(out: Path) -> None:
    """Sample the golden plan."""
    FAMILIES["pebble"] = "pebble_family"
    sample(golden_plan(), out, checkpoint=CHECKPOINT, config=SampleConfig(executor="inline", licence="cc0-1.0"))


def rows_text(out: Path) -> str:
    """Return the canonical rows of a replica in hex, a line each, in manifest order."""
    return "".join(canonical_row(row).hex() + "\n" for row in iterate_rows(read_manifest(open_store(str(out)))))


if __name__ == "__main__":
    save_pebble(CHECKPOINT)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "golden"
        make_golden(made)
        shutil.rmtree(made / "_work")
        shutil.rmtree(GOLDEN, ignore_errors=True)
        shutil.copytree(made, GOLDEN)
    ROWS.write_text(rows_text(GOLDEN))
