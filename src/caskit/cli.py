"""The command line: `caskit COMMAND ...`. Exit codes: 0 done, 1 failed, 2 bad input, 75 not finished."""

import argparse
import atexit
import contextlib
import errno
import importlib
import keyword
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

import caskit
from caskit.commands.options import Context, parse_stage
from caskit.console import plain_text, print_stage, program
from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.signals import StopRequest
from caskit.train.launch import read_launch

COMMANDS = {
    "data": "fetch a real dataset and write it as frozen sets, OUT/train and OUT/test",
    "import": "write labelled images of another program as a frozen set",
    "fit": "fit a generator to a set",
    "convert": "make a checkpoint from a file of published weights",
    "refine": "teach a fitted generator by its own samples, labelled by a classifier",
    "derive": "make a checkpoint from another one, with statistics computed again",
    "check-generator": "check that a generator keeps the promises that replicas stand on",
    "sample": "sample a synthetic replica, shard by shard",
    "telemetry": "say how the sampling of a replica went",
    "reconstruct": "pass a real set through a generator's autoencoder",
    "freeze": "close a replica whose shards were sampled with --no-freeze or --part",
    "repack": "write a set's samples into shards of another size",
    "sign": "sign a set with a key",
    "push": "publish a set in an object store",
    "pull": "fetch a published set",
    "repair": "replace what is bad of a set in a folder, from a mirror or drawn again",
    "verify": "check a set against its ids; every fault is named",
    "audit": "check a replica against the generator that its plan names",
    "duplicates": "look for copies in a set: of its own images, of training images, of test images",
    "info": "say what a set is",
    "view": "show a set in a browser on this machine",
    "train": "train a classifier on a set",
    "score": "test a classifier on a real set",
    "metrics": "measure a set beside real images: IS, FID, KID, precision, recall, density, coverage",
    "check": "make a score's numbers again and look up every id that it names",
    "compare": "compare generators: a table, how metrics go with CAS, and pairs on the same test images",
    "report": "make one HTML page from scores",
    "sweep": "sample and score a generator at several values of one setting",
    "nas": "score real images with synthetic ones beside them, over shares and training seeds",
    "cas": "score a synthetic set over several training seeds, beside Real, with its report",
}
TOGETHER = ("fit", "train")  # the commands that torchrun may start several processes of
EXIT_CODES = "exit codes: 0 done, 1 failed, 2 bad input, 75 not finished (the same command again goes on)"
DONE, FAILED, BAD_INPUT, UNFINISHED = 0, 1, 2, 75
EXTRA_OF = {
    "torch": "gen",
    "ray": "gen",
    "timm": "train",
    "torchvision": "train",
    "securesystemslib": "sign",
    "cryptography": "sign",
    "sklearn": "digits",
    "tensorboard": "tensorboard",
    "obstore": "storage",
    "huggingface_hub": "hub",
    "torch_fidelity": "metrics",
}
# Before torch brings OpenMP in: threads that spin while they wait starve each other on a machine that others use (six
# times slower here, docs/LOG.md), and those that sleep at once wake too late for the next small operation (1.5 times
# slower). So they spin for microseconds. No bit depends on it.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"}
INPUT_ERRNOS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake on one line."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake and where help is, and exit 2."""
        self.exit(BAD_INPUT, f"caskit: error: {_one_line(message)} (see {self.prog} --help)\n")


def _one_line(text: object) -> str:
    return plain_text(" ".join(str(text).split()))


def module_name(command: str) -> str:
    """Return the name of a command's module in `caskit.commands`."""
    name = command.replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of every command; no stage is imported for it."""
    parser = Parser(
        prog="caskit",
        description=caskit.__doc__,
        epilog=f"example: caskit sample --gen cvae:digits --num 100 --seed 0 --out runs/first\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"caskit {caskit.__version__}")
    parser.add_argument(
        "--stage",
        type=parse_stage,
        metavar="I/N[:SECONDS]",
        help="say `stage I of N` first, for runs of several commands",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"caskit.commands.{module_name(name)}")
        command = commands.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            epilog=f"example:\n  {module.EXAMPLE}\n\n{EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _rank() -> int:
    """Return which process of a torchrun this is; 0 where its environment is broken, which is reported elsewhere."""
    with contextlib.suppress(InputError):
        return read_launch().rank
    return 0


def _fail(message: object, code: int) -> int:
    who = f"rank {_rank()}: " if _rank() else ""
    _say(f"caskit: error: {who}{_one_line(message)}")
    return code


def _say(line: str) -> None:
    """Write a last line to stderr. Where that is a file on a full disk, the exit code alone tells what happened."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _unfinished(message: str) -> int:
    if _rank():
        return UNFINISHED  # all stop together, and the first one says so
    hint = "" if "same command" in message else "; the same command goes on from here"
    _say(f"caskit: not finished: {_one_line(message)}{hint}")
    return UNFINISHED


def _os_error(error: OSError) -> int:
    where = f"{error.filename}: " if error.filename else ""
    return _fail(f"{where}{error.strerror or error}", BAD_INPUT if error.errno in INPUT_ERRNOS else FAILED)


def run(arguments: argparse.Namespace) -> int:
    """Run one parsed command and turn what it raises into a line and an exit code."""
    try:
        size = read_launch().size
        if size > 1 and arguments.command not in TOGETHER:
            raise InputError(
                f"caskit {arguments.command} works in one process, torchrun started {size}; "
                f"it is for caskit {', '.join(TOGETHER)}"
            )
        with StopRequest(quiet=_rank() > 0).installed() as stop:
            code: int = arguments.run(arguments, Context(stop=stop, stage=arguments.stage))
        return code
    except NotFinished as error:
        return _unfinished(str(error))
    except KeyboardInterrupt:
        return _unfinished("interrupted")
    except InputError as error:
        return _fail(error, BAD_INPUT)
    except RunFailed as error:
        return _fail(error, FAILED)
    except BrokenPipeError:  # `caskit info SET | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ModuleNotFoundError as error:
        extra = EXTRA_OF.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        return _fail(f"this needs the package {error.name}: pip install 'caskit[{extra}]'", BAD_INPUT)
    except OSError as error:
        return _os_error(error)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run the command and return its exit code."""
    if not WAITING.keys() & os.environ.keys():  # a user who has chosen one has chosen both
        os.environ.update(WAITING)
    # Pillow's warning of large images: caskit refuses them by a bound of its own, on one line.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = build_parser().parse_args(words)
    if arguments.stage is not None and _rank() == 0:
        print_stage(arguments.stage, shlex.join((program(), *words[words.index(arguments.command) :])))
    return run(arguments)


def run_process() -> NoReturn:
    """Be the process: run the command line, then end without the destructors of C++ libraries.

    Arrow's thread pools abort some processes at their very end ("terminate called without an active exception"; 3 in 70
    runs of `caskit info` on a busy machine, docs/LOG.md), which would make a failure of work that is done.
    """
    code = main()
    atexit._run_exitfuncs()  # Ray, temporary folders, logging
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        pass
    except OSError as error:  # what was asked for did not arrive
        code = code or _os_error(error)
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run_process()
