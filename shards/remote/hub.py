"""One dataset repository on the Hugging Face Hub, by huggingface_hub: what is there at a commit, and new commits.

The endpoint is HF_ENDPOINT's or the Hub's own; the token is huggingface_hub's to find (HF_TOKEN, or the file that `hf
auth login` writes). No message holds what the Hub answered, and no log line the query of an address: addresses of
uploads are signed. Files go by the Hub's LFS protocol, plain requests, and not by Xet: that is what is tested.
"""

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from caskit.manifests.errors import InputError, IntegrityError
from caskit.shards.remote.attempts import ATTEMPTS
from caskit.shards.remote.location import HubPlace
from caskit.shards.remote.patience import TRANSIENT_STATUS, Patience, Transient

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

DEFAULT_ENDPOINT = "https://huggingface.co"
MAX_FILES = 2_000_000  # of one folder; a list that never ends would fill the memory
_KIND = "dataset"
_STALL_S = 300.0  # huggingface_hub itself would wait for an answer for ever
_DAMAGED_STATUS = (400, 422)  # what a store says of an upload that has other bytes than its address is signed for
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9\[][^\s@?#]*")
_NOISE = "binary IO buffer is not supported by Xet"  # a warning for each file, about what is wanted
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Refused(InputError):
    """The Hub answered with a status that stays; `status` says which."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NoRepository(InputError):
    """There is no such repository, or not for whoever asks: the Hub does not say which."""


class Moved(Exception):
    """Another commit came between."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A file at a commit.

    Attributes:
        size_bytes: of the file.
        sha256: its digest (hex), by which large files are kept outside of git; None of a file in git.
        blob_id: git's id of it, or of what stands for it in git.
    """

    size_bytes: int
    sha256: str | None
    blob_id: str


class Hub:
    """A dataset repository.

    Args:
        repository: ORG/NAME.
        patience: how long is waited and how often is tried.

    Raises:
        InputError: HF_ENDPOINT is no URL.
        ModuleNotFoundError: huggingface_hub is not installed.
    """

    def __init__(self, repository: str, patience: Patience) -> None:
        self.endpoint = endpoint()
        self._repository, self._patience, self._api = repository, patience, _api(self.endpoint)

    def headers(self) -> Mapping[str, str]:
        """Return what a request to the endpoint, and to nobody else, carries for access."""
        from huggingface_hub import constants, get_token

        token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
        return {} if token is None else {"authorization": f"Bearer {token}"}

    def commit_of(self, revision: str | None) -> str:
        """Return the commit that a branch or a tag is at now, 40 hex digits."""

        def ask(api: "HfApi") -> object:
            return api.dataset_info(self._repository, revision=revision, expand=["sha"]).sha

        commit = self._call("ask for the commit", ask)
        if not isinstance(commit, str) or re.fullmatch("[0-9a-f]{40}", commit) is None:
            raise InputError(f"{self._name(revision)}: the Hub names no commit")
        return commit

    def entries(self, commit: str, folder: str) -> dict[str, Entry]:
        """Return the files below a folder at a commit, by name; none if there is no such folder."""

        def ask(api: "HfApi") -> dict[str, Entry]:
            found = api.list_repo_tree(
                self._repository, folder or None, recursive=True, revision=commit, repo_type=_KIND
            )
            return _entries(itertools.islice(found, MAX_FILES + 1), folder)

        try:
            entries = self._call("list", ask)
        except FileNotFoundError:
            return {}
        if len(entries) > MAX_FILES:
            raise InputError(f"{self._name(commit)}: more than {MAX_FILES} files in one folder")
        return entries

    def entries_of(self, commit: str, folder: str, names: Iterable[str]) -> dict[str, Entry]:
        """Return some files below a folder at a commit, by name; those that are not there are left out."""
        paths = [f"{folder}/{name}".lstrip("/") for name in names]
        return self._call(
            "look up",
            lambda api: _entries(api.get_paths_info(self._repository, paths, revision=commit, repo_type=_KIND), folder),
        )

    def make(self) -> None:
        """Make the repository, private; one that is there stays as it is."""
        self._call(
            "make the repository",
            lambda api: api.create_repo(self._repository, repo_type=_KIND, private=True, exist_ok=True),
        )

    def upload(self, path: str, data: BinaryIO, sha256: str, branch: str | None) -> "CommitOperationAdd":
        """Send a file, to be seen once it is committed; what the Hub has already, and what goes into git, stays here.

        Args:
            path: in the repository.
            data: the file, open until the commit is done. It is read for its digest first.
            sha256: what that has to be, hex.
            branch: that it is to be committed to.

        Raises:
            IntegrityError: it is another one.
            Refused: the Hub does not take it, however often it was sent.
        """
        from huggingface_hub import CommitOperationAdd
        from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars

        if not are_progress_bars_disabled():  # one for each file, even where nothing is left to send
            disable_progress_bars()
        for attempt in range(ATTEMPTS):
            data.seek(0)
            added = CommitOperationAdd(path_in_repo=path, path_or_fileobj=data)
            if added.upload_info.sha256.hex() != sha256:
                raise IntegrityError(f"{path}: has changed since the set was checked")
            try:
                self._call(
                    f"send {path}",
                    lambda api, added=added: api.preupload_lfs_files(  # type: ignore[misc]
                        self._repository, [added], repo_type=_KIND, revision=branch, num_threads=1, free_memory=False
                    ),
                )
                return added
            except Refused as error:
                if error.status not in _DAMAGED_STATUS or attempt + 1 == ATTEMPTS:
                    raise
                _log.warning("%s: arrived with other bytes (status %d); sent again", path, error.status)
        raise AssertionError("the last attempt returns or raises")

    def commit(self, added: list["CommitOperationAdd"], parent: str, branch: str | None, message: str) -> str:
        """Make a commit on a branch, if that is still at `parent`; returns the new commit. It is asked for once.

        Raises:
            Moved: the branch is elsewhere.
            Transient: no answer; whether there is a commit is not known.
        """
        api = self._api
        with _translated(self._name(branch)):
            _end_stalls()
            done = api.create_commit(
                self._repository, added, commit_message=message, repo_type=_KIND, revision=branch, parent_commit=parent
            )
            return str(done.oid)

    def _call(self, what: str, work: "Callable[[HfApi], T]") -> T:
        """Ask the Hub, again while it fails in passing, and turn what huggingface_hub raises into caskit's errors."""

        def attempt() -> T:
            with _translated(self._name(None)):
                _end_stalls()
                return work(self._api)

        return self._patience.call(f"{self._name(None)}: cannot {what}", attempt)

    def _name(self, revision: str | None) -> str:
        return str(HubPlace(repository=self._repository, revision=revision))


def endpoint() -> str:
    """Return the Hub's address. Raises InputError if HF_ENDPOINT is none."""
    text = os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    if _ENDPOINT.fullmatch(text) is None:
        raise InputError("HF_ENDPOINT in the environment is no URL of the form http(s)://HOST that can be used")
    return text.rstrip("/")


def _api(address: str) -> "HfApi":
    from huggingface_hub import HfApi

    for name in ("huggingface_hub.utils._http", "huggingface_hub._commit_api", "httpx2", "httpx"):
        logging.getLogger(name).addFilter(_cut)  # one that is there is not added again
    return HfApi(endpoint=address, library_name="caskit")


def _cut(record: logging.LogRecord) -> bool:
    """Leave the queries of addresses out of a log line."""
    record.msg, record.args = re.sub(r"\?[^\s'\"]+", "?...", record.getMessage()), ()
    return _NOISE not in record.msg


def _end_stalls() -> None:
    """Let requests of huggingface_hub fail once nothing moves; a limit that somebody set stays."""
    from huggingface_hub import get_session

    client = get_session()
    if client.timeout.read is None:
        client.timeout = _STALL_S


def _entries(found: Iterable[Any], folder: str) -> dict[str, Entry]:
    start, entries = f"{folder}/" if folder else "", {}
    for file in found:
        if hasattr(file, "blob_id") and isinstance(file.size, int):  # else a folder
            sha256 = None if file.lfs is None else str(file.lfs.sha256)
            entry = Entry(size_bytes=file.size, sha256=sha256, blob_id=str(file.blob_id))
            entries[str(file.path).removeprefix(start)] = entry
    return entries


@contextlib.contextmanager
def _translated(where: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into caskit's errors, of which none repeats an address or an answer."""
    try:
        yield
    except (InputError, Transient):
        raise
    except Exception as error:
        cause = error.__cause__ if type(error) is RuntimeError and isinstance(error.__cause__, Exception) else error
        raise _ours(cause, where) from None


def _ours(error: Exception, where: str) -> Exception:
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return InputError(f"{where}: HF_HUB_OFFLINE is set, so the Hub is not asked")
    if isinstance(error, errors.HfHubHTTPError):
        return _of_status(error, where)
    if type(error).__module__.partition(".")[0] in ("httpx", "httpx2"):
        return Transient("timed out" if "Timeout" in type(error).__name__ else "the connection failed")
    if isinstance(error, json.JSONDecodeError) or (isinstance(error, RuntimeError) and "closed" in str(error)):
        return Transient("the answer broke off")  # another thread may have closed the connections after an error of its
    if isinstance(error, ValueError | TypeError | KeyError | AttributeError | AssertionError):
        return InputError(f"{where}: the Hub's answer is none that can be used ({type(error).__name__})")
    return error


def _of_status(error: Any, where: str) -> Exception:
    from huggingface_hub import errors

    status = int(error.response.status_code)
    if status in TRANSIENT_STATUS:
        return Transient(f"the Hub answered {status}")
    if isinstance(error, errors.RevisionNotFoundError):
        return Refused(f"{where}: the Hub knows no such revision of it", status)
    if isinstance(error, errors.EntryNotFoundError):
        return FileNotFoundError(2, "No such file or directory", where)
    if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        return NoRepository(
            f"{where}: the Hub answered {status}: no such dataset, or no access to it; a token comes from HF_TOKEN or "
            "`hf auth login`"
        )
    if status == 403:
        denied = "access denied; credentials come from docs/storage.md"
        return Refused(f"{where}: the Hub answered {status}: {denied}", status)
    if status in (409, 412):
        return Moved()
    return Refused(f"{where}: the Hub answered {status}", status)
