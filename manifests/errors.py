"""The exceptions a caller of caskit may meet; the command line turns each into one line and an exit code."""


class InputError(ValueError):
    """The user's input is wrong; the message says what, where and what is allowed. Exit code 2."""


class IntegrityError(InputError):
    """Stored bytes do not agree with what was recorded about them; names the file and, if one is at fault, the key."""


class RunFailed(RuntimeError):
    """The work was understood and tried, and part of it failed; the message lists what. Exit code 1."""


class NonReproducible(RunFailed):
    """The same plan gave other bytes than those already committed; both are kept."""


class NotFinished(RuntimeError):
    """The run stopped on request before its end; the same command goes on from here. Exit code 75."""
