import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from caskit.shards.scratch import scratch_folder, sweep

HOLD = """
import sys, time
from pathlib import Path
from caskit.shards.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), "caskit-") as folder:
    (folder / "file").write_text("x")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_folder_goes_away_even_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch_folder(tmp_path / "new", "caskit-") as folder:
            (folder / "file").write_text("x")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list((tmp_path / "new").iterdir())


def test_the_living_keep_theirs_and_the_killed_do_not(tmp_path: Path) -> None:
    (tmp_path / "caskit-results").mkdir()
    (tmp_path / "caskit-results" / "lock").write_text("a file of the user's")
    (tmp_path / "else").mkdir()
    process = subprocess.Popen([sys.executable, "-c", HOLD, os.fspath(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        with scratch_folder(tmp_path, "caskit-"):
            assert len(list(tmp_path.glob("caskit-*/file"))) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        with scratch_folder(tmp_path, "caskit-"):
            assert not list(tmp_path.glob("caskit-*/file"))
    finally:
        process.kill()
        process.communicate()
    os.utime(tmp_path / "caskit-results", (0, 0))
    sweep(tmp_path, "caskit-")  # a folder of the user's own is not ours to remove, however old it is
    assert sorted(path.name for path in tmp_path.iterdir()) == ["caskit-results", "else"]
    assert (tmp_path / "caskit-results" / "lock").exists()
