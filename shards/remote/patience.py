"""What is tried again and for how long: errors of the way there, never answers that would be the same again."""

import dataclasses
import logging
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from caskit.manifests.errors import InputError

TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
# The kinds of object_store's HttpError; `Connect` also is what a name that does not resolve gives.
_TRANSIENT_KINDS = frozenset({"Connect", "Timeout", "Interrupted", "Request"})
# Codes of S3's that come as 400 and say that the request changed or stopped on its way.
_TRANSIENT_CODES = re.compile(
    "<Code>(BadDigest|IncompleteBody|RequestTimeout|XAmzContentChecksumMismatch|XAmzContentSHA256Mismatch)</Code>"
)
_STATUS = re.compile(r"status code: (\d{3})( [A-Za-z -]+)?")
_KIND = re.compile(r"HttpError \{\s*kind: ([A-Za-z]+)")
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Transient(Exception):
    """A call failed in a way that may not happen again; the message says how, without anything of the request."""


class Unreachable(ConnectionError):
    """A store failed as often as there is patience for: exit code 1, the same command goes on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a store is waited for.

    Attributes:
        attempts: of one call, at least 1.
        first_delay_s: before the second attempt; it doubles with each, and a random half of it is left out so that
            many workers do not come back together.
        longest_delay_s: at most.
        timeout_s: of one request with at most PIECE_BYTES.
        connect_s: of a connection.
    """

    attempts: int = 7
    first_delay_s: float = 0.2
    longest_delay_s: float = 10.0
    timeout_s: float = 60.0
    connect_s: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InputError(f"attempts is {self.attempts}, must be at least 1")
        for name in ("first_delay_s", "longest_delay_s", "timeout_s", "connect_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}, must be positive")

    def delay_s(self, attempt: int) -> float:
        """Return how long to wait after an attempt, counted from 0, that failed."""
        return min(self.longest_delay_s, self.first_delay_s * 2.0**attempt) * random.uniform(0.5, 1.0)

    def call(self, what: str, work: Callable[[], T]) -> T:
        """Return what `work` returns, called again while it raises Transient.

        Args:
            what: the call and its object, for messages; never with a secret in it.
            work: called up to `attempts` times.

        Raises:
            Unreachable: it failed each time.
        """
        for attempt in range(self.attempts):
            try:
                return work()
            except Transient as error:
                if attempt + 1 == self.attempts:
                    raise Unreachable(f"{what}: {error}, {self.attempts} times") from None
                delay = self.delay_s(attempt)
                _log.info("%s: %s; again in %.1f s", what, error, delay)
                time.sleep(delay)
        raise AssertionError("the last attempt returns or raises")


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status in an error of obstore's, if there is one."""
    match = _STATUS.search(str(error))
    return None if match is None else int(match[1])


def reason_of(error: BaseException) -> str:
    """Say in a few words what an error of obstore's is.

    Only the status or the kind is taken over: the text holds the server's answer, and some servers answer a request
    that was signed wrongly with the key's id and what was signed.
    """
    match = _STATUS.search(str(error))
    if match is not None:
        return f"the server answered {match[1]}{match[2] or ''}"
    kind = _KIND.search(str(error))
    known = {"Connect": "no connection", "Timeout": "timed out", "Interrupted": "the answer broke off"}
    if kind is not None:
        return known.get(kind[1], "the connection failed")
    return f"failed ({type(error).__name__})"


def is_transient(error: BaseException) -> bool:
    """Say whether a call that raised this is worth another try."""
    status = status_of(error)
    if status is not None:
        return status in TRANSIENT_STATUS or (status == 400 and _TRANSIENT_CODES.search(str(error)) is not None)
    kind = _KIND.search(str(error))
    return kind is not None and kind[1] in _TRANSIENT_KINDS
