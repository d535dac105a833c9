"""The command that made a result, as a result file shows it: with DIR where a path of this machine stood."""

import sys
from pathlib import Path


def this_command() -> str:
    """Return this process's command line."""
    words = ("DIR" if Path(word).is_absolute() else word for word in sys.argv[1:])
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])
