"""URLs of sets: which are allowed, and what must not stand in one."""

import dataclasses
import re
from urllib.parse import urlsplit

from caskit.manifests.errors import InputError

OBJECT_SCHEMES = ("s3", "gs", "az")
WEB_SCHEMES = ("http", "https")
ALLOWED = (
    "a folder's path, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, or to read http(s)://HOST/PATH"
)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?")
_PART = re.compile(r"[A-Za-z0-9_.=+-]{1,255}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Location:
    """A URL in parts: in an object store the host is a bucket or a container; the path has no slash at its ends."""

    scheme: str
    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/{self.path}".rstrip("/")

    @property
    def writable(self) -> bool:
        """Whether objects can be created there."""
        return self.scheme in OBJECT_SCHEMES


def is_url(text: str) -> bool:
    """Say whether a location is a URL of any scheme, and not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def parse_location(text: str) -> Location:
    """Split a URL.

    Raises:
        InputError: another scheme, a user name or a query in it (both carry secrets, so the message does not repeat
            them), or a path that leads elsewhere.
    """
    try:
        split = urlsplit(text)
    except ValueError as error:
        raise InputError(f"a location is no URL that can be read ({error}); allowed: {ALLOWED}") from None
    scheme = split.scheme.lower()
    if "@" in split.netloc or split.query or split.fragment:
        shown = f"{scheme}://{split.netloc.rpartition('@')[2]}{split.path}"
        raise InputError(
            f"{shown}: a URL with a user name, a password, a query or a fragment is not used, they may be secrets and "
            "would be logged; credentials come from the environment (docs/storage.md)"
        )
    if scheme == "hf":
        raise InputError(
            f"{text}: hf:// is not read or written by caskit itself; move the folder with the Hub's own client, or "
            f"read it over https; allowed: {ALLOWED}"
        )
    if scheme not in (*OBJECT_SCHEMES, *WEB_SCHEMES):
        raise InputError(f"{text}: scheme is {scheme!r}, allowed: {ALLOWED}")
    path = split.path.strip("/")
    parts = path.split("/") if path else []
    if _HOST.fullmatch(split.netloc) is None or not all(_PART.fullmatch(p) and p not in (".", "..") for p in parts):
        raise InputError(f"{text}: not of the form {scheme}://NAME/PATH with plain letters; allowed: {ALLOWED}")
    return Location(scheme=scheme, host=split.netloc, path=path)
