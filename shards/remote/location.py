"""URLs of sets: which are allowed, and what must not stand in one."""

import dataclasses
import re
from urllib.parse import urlsplit

from caskit.manifests.errors import InputError

OBJECT_SCHEMES = ("s3", "gs", "az")
WEB_SCHEMES = ("http", "https")
HUB_SCHEME = "hf"
ALLOWED = (
    "a folder's path, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, to read http(s)://HOST/PATH, or "
    "to read and push hf://datasets/ORG/NAME[@REVISION]/PATH"
)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?")
_PART = re.compile(r"[A-Za-z0-9_.=+-]{1,255}")
_HUB_PATH = re.compile(
    r"(?P<repository>[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95})"
    r"(@(?P<revision>refs/pr/[0-9]{1,9}|[A-Za-z0-9][A-Za-z0-9._-]{0,99}))?"
    r"(/(?P<path>.+))?"
)
_COMMIT = re.compile("[0-9a-f]{40}")


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubPlace:
    """A folder of a dataset on the Hugging Face Hub: `hf://datasets/ORG/NAME[@REVISION]/PATH` in parts.

    Attributes:
        repository: ORG/NAME.
        revision: a branch, a tag, `refs/pr/N` or a commit; None for the main branch.
        path: of the folder, without a slash at its ends; empty for all of the repository.
    """

    repository: str
    revision: str | None = None
    path: str = ""

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"{HUB_SCHEME}://datasets/{self.repository}{revision}/{self.path}".rstrip("/")

    @classmethod
    def of(cls, where: Location) -> "HubPlace":
        """Read a location of scheme hf. Raises InputError unless it names a dataset's folder by plain letters."""
        match = _HUB_PATH.fullmatch(where.path)
        parts = (match["path"] or "").split("/") if match is not None else []
        if where.host != "datasets" or match is None or not (parts == [""] or _are_plain(parts)):
            raise InputError(f"{where}: not of the form hf://datasets/ORG/NAME[@REVISION]/PATH with plain letters")
        return cls(repository=match["repository"], revision=match["revision"], path="/".join(parts))

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    def at(self, commit: str) -> "HubPlace":
        """Return the same folder at a commit."""
        return dataclasses.replace(self, revision=commit)


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
    if scheme not in (*OBJECT_SCHEMES, *WEB_SCHEMES, HUB_SCHEME):
        raise InputError(f"{text}: scheme is {scheme!r}, allowed: {ALLOWED}")
    path = split.path.strip("/")
    where = Location(scheme=scheme, host=split.netloc, path=path)
    if scheme == HUB_SCHEME:
        HubPlace.of(where)
    elif _HOST.fullmatch(split.netloc) is None or not _are_plain(path.split("/") if path else []):
        raise InputError(f"{text}: not of the form {scheme}://NAME/PATH with plain letters; allowed: {ALLOWED}")
    return where


def _are_plain(parts: list[str]) -> bool:
    return all(_PART.fullmatch(part) and part not in (".", "..") for part in parts)
