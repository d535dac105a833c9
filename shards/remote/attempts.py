"""Reading again what arrived with other bytes than it should have: bits change on the way, damage stays."""

import logging
from collections.abc import Callable
from typing import TypeVar

from caskit.manifests.errors import IntegrityError

ATTEMPTS = 3  # to have one thing arrive whole
_log = logging.getLogger(__name__)
T = TypeVar("T")


def again(read: Callable[[], T], where: str) -> T:
    """Return what `read` returns, called again while it raises IntegrityError, ATTEMPTS times in all."""
    for attempt in range(ATTEMPTS):
        try:
            return read()
        except IntegrityError as error:
            if attempt + 1 == ATTEMPTS:
                raise
            _log.warning("%s: %s; read again", where, error)
    raise AssertionError("the last attempt returns or raises")
