"""Sets on the Hugging Face Hub, by a fake one: read at one commit, pushed in commits, never a part for the whole."""

import json
import logging
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from caskit import cli
from caskit.manifests.errors import InputError, IntegrityError, NotFinished, RunFailed
from caskit.shards.dataset import open_set
from caskit.shards.fault import BrokenSet
from caskit.shards.records import read_replica
from caskit.shards.remote import hub_push
from caskit.shards.remote import push as push_module
from caskit.shards.remote.hub_store import HubStore
from caskit.shards.remote.in_place import verify_in_place
from caskit.shards.remote.location import HubPlace, parse_location
from caskit.shards.remote.patience import Patience, Unreachable
from caskit.shards.remote.progress import TransferConfig
from caskit.shards.remote.pull import pull
from caskit.shards.remote.push import push
from caskit.shards.remote.subset import Part, pull_part
from caskit.shards.store import LocalStore, open_store, open_target, probe_create_only
from caskit.shards.verify import verify

# huggingface_hub 2.4 sends files the way httpx has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
URL = "hf://datasets/lab/digits/sets/one"
TAR = "sets/one/shards/shard-000001.tar"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits of three files."""
    monkeypatch.setattr(hub_push, "COMMIT_FILES", 3)


def published(root: Path) -> dict[str, bytes]:
    left_out = ("notes.txt", "index.bin")
    names = [n for n in LocalStore(root).names("") if not n.startswith("_work/") and n not in left_out]
    return {name: (root / name).read_bytes() for name in names}


def there(hub: Any, commit: str | None = None) -> dict[str, bytes]:
    """The files of the set in a commit, but for index.bin, which push makes."""
    files = hub.files("lab/digits", commit)
    start = "sets/one/"
    return {path.removeprefix(start): files[path] for path in files if path.startswith(start) and "index" not in path}


def test_a_set_goes_and_comes_back(root: Path, hub: Any, fake_hub: Any, tmp_path: Path, few: None) -> None:
    hub.make("lab/digits")
    sent = push(str(root), URL)
    commits = hub.repositories["lab/digits"]["main"]
    assert there(hub) == published(root) and len(commits) > 4
    assert [("sets/one/replica.json" in hub.trees[commit]) for commit in commits] == [False] * (len(commits) - 1) + [
        True
    ]
    assert sent.location == f"hf://datasets/lab/digits@{commits[-1]}/sets/one"
    assert sent.files_moved == sent.num_files == len(published(root)) + 1
    assert push(str(root), URL).files_moved == 0 and hub.head("lab/digits") == commits[-1]
    for url in (URL, f"{sent.location}@sha256:{sent.replica_id[:12]}", URL.replace("digits/", "digits@main/")):
        got = pull(url, tmp_path / "back")
        assert got.replica_id == sent.replica_id and got.source == sent.location
    assert published(tmp_path / "back") == published(root)
    for server, _, path, token in hub.seen:  # the token goes to the Hub and nowhere else
        assert token == ("" if server == "cdn" else f"Bearer {fake_hub.TOKEN}"), path
    uploads = [path for server, method, path, _ in hub.seen if server == "cdn" and method == "PUT"]
    assert len(uploads) == len({path.partition("?")[0] for path in uploads}) > 4


def test_what_reads_a_set_reads_it_there(root: Path, hub: Any, tmp_path: Path) -> None:
    hub.make("lab/digits", private=True)
    sent = push(str(root), URL)
    due = dict(verify_in_place(URL).checks)
    assert due == {"rows": 20, "roots": 3, "tars by the store's word": 4, "tars read": 0}
    assert dict(verify_in_place(URL, trust_store=False).checks)["tars read"] == 4
    assert verify(URL, "quick").replica.replica_id == sent.replica_id
    assert (open_set(URL).labels == open_set(str(root)).labels).all()
    pull_part(URL, tmp_path / "part", Part(select="first-shards:2"))
    assert verify(str(tmp_path / "part"), "full").replica.kind == "view"
    moved = [path for server, _, path, _ in hub.seen if server == "hub" and "resolve" in path]
    assert all(re.search("/resolve/[0-9a-f]{40}/", path) for path in moved)


def test_a_branch_that_moves_on_is_read_where_it_was(root: Path, hub: Any, tmp_path: Path, tiny: Any) -> None:
    hub.make("lab/digits")
    first = push(str(root), URL)
    store = open_store(URL)
    assert store.location == URL and read_replica(store).replica_id == first.replica_id
    tiny.frozen(tmp_path / "other", tiny.plan(num=20, seed=8))
    for path, data in published(tmp_path / "other").items():
        hub.add("lab/digits", {f"sets/one/{path}": data})
    assert read_replica(store).replica_id == first.replica_id and store.location == first.location
    assert read_replica(pickle.loads(pickle.dumps(store))).replica_id == first.replica_id
    assert read_replica(open_store(URL)).replica_id != first.replica_id
    with pytest.raises(InputError, match=r"@[0-9a-f]{40}/sets/one: holds the set [0-9a-f]{64}, not [0-9a-f]{64}"):
        push(str(root), URL)


def test_a_repository_is_made_private(root: Path, hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = push(str(root), "hf://datasets/lab/new", TransferConfig(dry_run=True))
    assert hub.repositories == {} and said.location == "hf://datasets/lab/new"
    sent = push(str(root), "hf://datasets/lab/new")
    assert (sent.files_moved, sent.bytes_moved) == (said.files_moved, said.bytes_moved)
    assert hub.private == {"lab/new"} and "replica.json" in hub.files("lab/new")
    assert not any(path.startswith("_work") or path == "notes.txt" for path in hub.files("lab/new"))
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match=r"lab/new: the Hub answered 401: no such dataset, or no access to it"):
        pull("hf://datasets/lab/new", tmp_path / "back")
    (tmp_path / "no-token").write_text(hub.seen[0][3].removeprefix("Bearer "))  # where `hf auth login` writes it
    assert pull("hf://datasets/lab/new", tmp_path / "back").replica_id == sent.replica_id


def test_signatures_made_later_follow(root: Path, hub: Any, tmp_path: Path) -> None:
    hub.make("lab/digits")
    push(str(root), URL)
    name, commits = f"signatures/{'ab' * 32}.json", hub.repositories["lab/digits"]["main"]
    before = len(commits)
    LocalStore(root).create(name, b"{}")
    assert push(str(root), URL).files_moved == 1 and len(commits) == before + 1
    pull(URL, tmp_path / "back")
    assert LocalStore(tmp_path / "back").names("signatures/") == [name]


def test_what_cannot_be_is_refused(
    root: Path, hub: Any, tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.make("lab/digits")
    for url, message in (
        (f"hf://datasets/lab/digits@{'0' * 40}/x", "a commit never changes; name a branch"),
        ("hf://datasets/lab/digits@next/x", "digits: the Hub knows no such revision of it"),
    ):
        with pytest.raises(InputError, match=message):
            push(str(root), url)
    with pytest.raises(InputError, match=r"replica\.json: no such file; no caskit set is there"):
        pull(URL, tmp_path / "back")
    with pytest.raises(InputError, match="no such revision"):
        pull(URL.replace("digits/", f"digits@{'0' * 40}/"), tmp_path / "back")
    hub.add("lab/digits", {TAR: b"something"})
    with pytest.raises(InputError, match=r"shard-000001\.tar: is there with other bytes than the set has; delete it"):
        push(str(root), URL)
    hub.ignored.add("other/manifest.parquet")
    with pytest.raises(InputError, match=r"manifest\.parquet: the Hub left it out of the commit; does a \.gitignore"):
        push(str(root), "hf://datasets/lab/digits/other")
    assert not any(path.endswith("replica.json") for path in hub.files("lab/digits"))
    monkeypatch.setenv("HF_TOKEN", "hf_AnotherSecret")
    with pytest.raises(InputError, match="the Hub answered 401") as error:
        push(str(root), "hf://datasets/lab/digits/third")
    assert "Secret" not in str(error.value)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match="to push needs a token, from HF_TOKEN or `hf auth login`"):
        push(str(root), URL)
    monkeypatch.setenv("HF_ENDPOINT", "hub.example")
    with pytest.raises(InputError, match="HF_ENDPOINT in the environment is no URL"):
        pull(URL, tmp_path / "back")


def test_nothing_is_sampled_to_it(hub: Any, root: Path) -> None:
    hub.make("lab/digits")
    message = "the Hub takes commits and cannot create a file only where none is"
    with pytest.raises(InputError, match=message):
        open_target(URL)
    assert hub.seen == []
    store = open_store(URL)
    for work in (probe_create_only, lambda store: store.replace("README.md", b""), lambda store: store.delete("a")):
        with pytest.raises(InputError, match=message):
            work(store)


@pytest.mark.parametrize("fault", ["503", "429", "reset", "html", "lost-answer"])
def test_faults_in_a_push_pass(root: Path, hub: Any, few: None, fault: str) -> None:
    hub.make("lab/digits")
    for method, part in (
        ("GET", "?expand="), ("GET", "/tree/"), ("POST", "/preupload/"), ("POST", "/batch"), ("PUT", "/upload/"),
        ("POST", "/commit/"), ("POST", "/paths-info/"), ("GET", "/resolve/"), ("GET", "/blob/"),
    ):  # fmt: skip
        if fault != "html" or part not in ("/upload/", "/resolve/", "/blob/"):  # these would be wrong bytes
            hub.break_next(fault, method, part)
    sent = push(str(root), URL)
    assert hub.done[fault] == len(hub.rules) > 5
    assert there(hub) == published(root)
    assert dict(verify_in_place(sent.location, trust_store=False).checks)["tars read"] == 4


@pytest.mark.parametrize("fault", ["wrong-bytes", "short"])
def test_wrong_bytes_are_never_taken(root: Path, hub: Any, tmp_path: Path, fault: str) -> None:
    hub.make("lab/digits")
    hub.break_next(fault, "PUT", "/upload/")  # refused by the store, sent again
    hub.break_next(fault, "GET", "/blob/")
    hub.break_next(fault, "GET", "/resolve/")
    sent = push(str(root), URL)
    for part in ("/blob/", "replica.json", "plan.json"):
        hub.break_next(fault, "GET", part)
    assert pull(URL, tmp_path / "back").replica_id == sent.replica_id
    assert published(tmp_path / "back") == published(root) and hub.done[fault] == len(hub.rules)
    hub.break_next(fault, "GET", "/blob/", left=10**9)
    with pytest.raises((RunFailed, IntegrityError)):
        pull(URL, tmp_path / "again")
    assert not (tmp_path / "again/replica.json").exists()


def test_a_hub_that_keeps_other_bytes_gets_no_set(root: Path, hub: Any, tmp_path: Path) -> None:
    """It states the digest that it was told, which is why files are read back."""
    hub.make("lab/digits")
    hub.checks_uploads = False
    hub.break_next("wrong-bytes", "PUT", "/upload/")
    for _ in range(2):
        with pytest.raises(RunFailed, match=r"(tar|parquet|bin): the Hub has other bytes than were sent, read 3 times"):
            push(str(root), URL, TransferConfig(workers=1))
    assert "replica.json" not in there(hub)


def test_a_lie_in_the_list_is_found_by_reading(root: Path, hub: Any) -> None:
    hub.make("lab/digits")
    push(str(root), URL)
    (_, oid) = hub.trees[hub.head("lab/digits")][TAR]
    hub.objects[oid] = hub.objects[oid][:-1] + b"?"
    verify_in_place(URL)  # the store's word
    with pytest.raises(BrokenSet, match=r"shard-000001\.tar: has sha256"):
        verify_in_place(URL, trust_store=False)
    hub.add("lab/digits", {TAR: b"0" * 20480})
    with pytest.raises(BrokenSet, match=r"shard-000001\.tar: has"):
        verify_in_place(URL)


def test_another_commit_in_between(root: Path, hub: Any, few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.make("lab/digits")
    calls, commit = [], hub_push.Hub.commit

    def crowded(self: Any, *arguments: Any) -> str:
        calls.append(arguments)
        if len(calls) in (1, 3):
            hub.add("lab/digits", {"README.md": b"of others %d" % len(calls)})
        return commit(self, *arguments)

    monkeypatch.setattr(hub_push.Hub, "commit", crowded)
    push(str(root), URL)
    assert there(hub) == published(root) and hub.files("lab/digits")["README.md"] == b"of others 3"


def test_a_push_that_breaks_anywhere_goes_on(
    root: Path, hub: Any, few: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """However many requests are answered before the Hub goes away, no commit shows a part as a set."""
    monkeypatch.setattr(push_module, "Patience", lambda: Patience(attempts=1, connect_s=60.0))
    pushes = 0
    for after in range(0, 200, 7):
        rule = hub.break_next("400", "", "/", left=0)
        for rule.method in ("POST", "GET", "PUT"):
            rule.after, rule.left = after, 10**9
            pushes += 1
            try:
                push(str(root), URL)
            except (InputError, Unreachable):
                for commit in hub.repositories.get("lab/digits", {}).get("main", []):
                    files = there(hub, commit)
                    assert "replica.json" not in files or files == published(root)
            rule.left = 0
        if "lab/digits" in hub.repositories and "replica.json" in there(hub):
            break
    assert push(str(root), URL).replica_id == open_set(str(root)).replica.replica_id and pushes > 3
    assert there(hub) == published(root)


def test_a_push_that_was_killed_goes_on(root: Path, hub: Any) -> None:
    hub.make("lab/digits")
    environment = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
    rule = hub.break_next("kill", "PUT", "/upload/", after=2, left=0)
    command = [sys.executable, "-m", "caskit", "push", str(root), URL]
    with hub.lock:
        running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        rule.pid, rule.left = running.pid, 1
    output, _ = running.communicate(timeout=250)
    assert running.returncode == -9, output.decode()
    assert "replica.json" not in there(hub)
    kept = {oid for oid in hub.objects if len(oid) == 64}
    push(str(root), URL)
    assert there(hub) == published(root) and len(kept) >= 2
    again = [path for server, method, path, _ in hub.seen if method == "PUT" and any(oid in path for oid in kept)]
    assert len(again) == len(kept)  # what had been sent before the kill was found by its digest


def test_stopped_between_commits(root: Path, hub: Any, few: None) -> None:
    hub.make("lab/digits")
    commits = hub.repositories["lab/digits"]["main"]
    with pytest.raises(NotFinished, match="stopped"):
        push(str(root), URL, TransferConfig(stop=lambda: len(commits) > 2))
    assert 2 < len(commits) < 5 and "replica.json" not in there(hub)
    told = []
    push(str(root), URL, TransferConfig(progress=told.append))
    assert told[-1].files_done == told[-1].num_files and told[-1].bytes_done == told[-1].num_bytes


def test_no_secret_in_any_message_or_log(
    root: Path,
    hub: Any,
    fake_hub: Any,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.make("lab/digits")
    monkeypatch.setattr(push_module, "Patience", lambda: Patience(attempts=1, connect_s=60.0))
    caplog.set_level(logging.DEBUG)
    for name in ("huggingface_hub", "huggingface_hub.utils._http", "httpx2"):
        caplog.set_level(logging.DEBUG, logger=name)
    messages = []
    for part in ("/upload/", "/commit/", "/preupload/"):
        for fault in ("503", "400"):
            rule = hub.break_next(fault, "PUT" if part == "/upload/" else "POST", part, left=10**9)
            try:
                push(str(root), URL, TransferConfig(workers=1))
            except (InputError, Unreachable) as error:
                messages.append(str(error))
            rule.left = 0
    push(str(root), URL)
    store = open_store(URL)
    messages += [repr(store), str(pickle.dumps(store)), caplog.text, *capfd.readouterr()]
    store.size("replica.json")
    messages += [repr(store), str(pickle.dumps(store)), str(vars(store))]
    assert sum("the Hub answered" in message for message in messages) >= 6
    for message in messages:
        assert fake_hub.TOKEN not in message and fake_hub.SIGNATURE not in message


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        ("?expand=", b"[]"),
        ("?expand=", b"7"),
        ("?expand=", b'{"id": 1, "sha": "../../x"}'),
        ("?expand=", b'{"sha": "' + b"0" * 40 + b'"}'),
        ("/tree/", b'{"type": "file"}'),
        ("/tree/", b'[{"type": "file", "path": "sets/one/replica.json"}]'),
        ("/tree/", b'[{"type": "file", "path": "x", "size": 1, "oid": "0", "lfs": 3}]'),
    ],
)
def test_answers_of_another_form_are_refused_in_one_line(hub: Any, part: str, answer: bytes) -> None:
    hub.make("lab/digits")
    hub.odd[part] = answer
    with pytest.raises(InputError, match=r"answer is none that can be used|names no commit") as error:
        open_store(URL).names("")
    assert "\n" not in str(error.value)


def test_names_that_lead_elsewhere_lead_nowhere(hub: Any, tmp_path: Path) -> None:
    hub.make("lab/digits")
    file = {"type": "file", "path": "sets/one/signatures/../../../x", "size": 1, "oid": "0" * 40, "lfs": None}
    hub.odd["/tree/"] = json.dumps([file]).encode()
    store = open_store(URL)
    for name in store.names(""):
        with pytest.raises(InputError, match="is no name inside a set"):
            store.read(name)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("hf://datasets/lab/set", HubPlace(repository="lab/set")),
        ("hf://datasets/lab/set@v1.0/a/b/", HubPlace(repository="lab/set", revision="v1.0", path="a/b")),
        ("hf://datasets/lab/set@refs/pr/3/a", HubPlace(repository="lab/set", revision="refs/pr/3", path="a")),
        (f"hf://datasets/lab/set@{'ab' * 20}", HubPlace(repository="lab/set", revision="ab" * 20)),
    ],
)
def test_urls(url: str, place: HubPlace) -> None:
    assert HubPlace.of(parse_location(url)) == place and place.is_pinned == ("abab" in url)
    assert HubPlace.of(parse_location(str(place))) == place


def test_the_commands(root: Path, hub: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["push", str(root), URL]) == 0
    commit = hub.head("lab/digits")
    assert f"hf://datasets/lab/digits@{commit}/sets/one@sha256:" in capsys.readouterr().out
    assert cli.main(["pull", URL, str(tmp_path / "back")]) == 0
    assert f"from hf://datasets/lab/digits@{commit}/sets/one\n" in capsys.readouterr().out
    assert cli.main(["verify", URL, "--in-place"]) == 0
    assert "4 tars by the store's word" in capsys.readouterr().out
    assert cli.main(["info", URL]) == 0
    assert cli.main(["push", str(root), "hf://datasets/lab/digits@nowhere/x"]) == 2
    assert capsys.readouterr().err.count("\n") <= 3
    assert isinstance(open_store(URL), HubStore)
