"""An errand: a short piece of work that needs torch, in a process of its own, so that the caller never holds torch.

The driver of a run on Ray lives for hours and hands out numbers; torch alone would be most of its memory. What it has
to know from torch (the plan, the environment class, the GPUs there are) it has asked once, by an errand.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from caskit.manifests.errors import InputError, NotFinished, RunFailed

P = ParamSpec("P")
T = TypeVar("T")
# The process sees the caller's modules, in the caller's order, before it imports anything but pickle.
_START = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from caskit.gen.errand import answer; answer()"
)
# The caller decides what a request to stop means: the process would else die of a terminal's interrupt by itself.
_HELD = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}


def run_errand(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function and return what it returns, in a process of its own unless this one holds torch already.

    Args:
        function: importable by its name, as for pickle; what goes in and comes back is pickled, too.
        args: its arguments.
        kwargs: see args.

    Raises:
        RunFailed: the process ended without an answer.
        Exception: what the function raises.
    """
    if "torch" in sys.modules:
        return function(*args, **kwargs)
    return send(function, *args, **kwargs)


def send(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a process of its own, see run_errand. Its stderr is this process's."""
    asked = pickle.dumps(sys.path) + pickle.dumps((function, args, kwargs))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)  # the process inherits it
    try:
        process = subprocess.Popen([sys.executable, "-P", "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with process:
        try:
            answered, _ = process.communicate(asked)
        except BaseException:
            process.kill()
            raise
    if not answered:
        name = getattr(function, "__name__", str(function))
        raise RunFailed(f"a process was started for {name} and ended without an answer, exit code {process.returncode}")
    result, error = pickle.loads(answered)
    if error is not None:
        raise error
    return cast(T, result)


def answer() -> None:
    """Be the process: read the errand from stdin, write what came of it to stdout, end."""
    with contextlib.suppress(BrokenPipeError), os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what imported code prints is no answer
        function, args, kwargs = pickle.load(sys.stdin.buffer)
        result, error = None, None
        try:
            result = function(*args, **kwargs)
        except Exception as raised:  # raised again by the caller
            error = _portable(raised)
        out.write(pickle.dumps((result, error)))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # see cli.run_process


def _portable(error: Exception) -> Exception:
    """Return an error that the caller can unpickle without importing anybody's code."""
    if type(error).__module__.partition(".")[0] not in ("builtins", "caskit"):
        error = RunFailed(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__)
    if not isinstance(error, (InputError, RunFailed, NotFinished)):
        error.add_note("".join(traceback.format_exception(error)))  # a traceback itself does not travel
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # made of more than its message
        known = (kind for kind in type(error).__mro__ if kind.__module__ == InputError.__module__)
        return cast(Exception, next(known, RunFailed)(str(error)))
    return error
