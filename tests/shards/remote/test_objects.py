"""A store in a bucket does what a folder does; its errors are one line, and none holds a secret."""

import hashlib
import logging
import pickle
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caskit.manifests.errors import InputError, RunFailed
from caskit.shards.remote import objects
from caskit.shards.remote.objects import ObjectStore
from caskit.shards.remote.patience import Patience, Unreachable, is_transient, reason_of
from caskit.shards.remote.reader import PIECE_BYTES
from caskit.shards.store import AlreadyExists, open_store, probe_create_only


def test_what_is_created_can_be_read(bucket: str, tmp_path: Path) -> None:
    store = open_store(f"{bucket}/sets/a")
    store.create("shards/a.tar", b"0123456789")
    (tmp_path / "b").write_bytes(b"other")
    store.create_from("shards/b.tar", tmp_path / "b")
    store.create("empty", b"")
    assert store.read("shards/a.tar") == b"0123456789"
    assert store.read("shards/a.tar", 3, 4) == b"3456"
    assert store.read("shards/a.tar", 8, 40) == b"89"
    assert store.read("shards/a.tar", 10, 4) == b"" == store.read("empty")
    assert store.size("shards/a.tar") == 10 and store.size("empty") == 0
    assert store.exists("shards/b.tar") and not store.exists("shards/c.tar")
    assert store.names("shards/") == ["shards/a.tar", "shards/b.tar"] == store.names("shards/")
    assert store.names("") == ["empty", "shards/a.tar", "shards/b.tar"]
    assert store.names("shards/a") == ["shards/a.tar"] and store.names("nowhere/") == []
    assert store.local_path("shards/a.tar") is None
    with store.open("shards/a.tar") as file:
        assert file.read(2) == b"01" and file.seek(-3, 2) == 7 and file.read() == b"789"
    store.replace("README.md", b"one")
    store.replace("README.md", b"two")
    assert store.read("README.md") == b"two"
    store.delete("shards/b.tar")
    for call in (store.read, store.size, store.open, store.delete):
        with pytest.raises(FileNotFoundError):
            call("shards/b.tar")
    again = pickle.loads(pickle.dumps(store))
    assert again.location == store.location and again.read("README.md") == b"two"


def test_objects_of_several_pieces(bucket: str, tmp_path: Path) -> None:
    store, data = open_store(bucket), bytes(range(256)) * (PIECE_BYTES // 256) + b"the end"
    (tmp_path / "large").write_bytes(data)
    store.create_from("large", tmp_path / "large")
    assert store.read("large") == data and store.read("large", PIECE_BYTES - 1) == b"\xffthe end"
    with store.open("large") as file:
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(data).digest()  # type: ignore[arg-type]


def test_create_never_touches_what_is_there(bucket: str) -> None:
    store = open_store(bucket)
    store.create("a", b"first")
    for data in (b"second", b"first"):
        with pytest.raises(AlreadyExists) as error:
            store.create("a", data)
        assert error.value.name == "a"
    assert store.read("a") == b"first"
    probe_create_only(store)
    assert store.names("") == ["a"]


def test_of_two_racing_creates_one_wins(bucket: str) -> None:
    outcomes, start = [], threading.Barrier(4)

    def race(number: int) -> None:
        store = open_store(bucket)
        start.wait()
        try:
            store.create("a", b"%d" % number)
            outcomes.append(number)
        except AlreadyExists:
            pass

    threads = [threading.Thread(target=race, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1 and open_store(bucket).read("a") == b"%d" % outcomes[0]


def test_the_probe_refuses_a_store_that_overwrites(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore

    real = obstore.put

    def overwriting(client: Any, name: str, data: Any, *, mode: str = "overwrite", **options: Any) -> Any:
        return real(client, name, data, **options)

    monkeypatch.setattr(obstore, "put", overwriting)
    with pytest.raises(InputError, match=f"{bucket}: a second create overwrites the first there, use another store"):
        probe_create_only(open_store(bucket))


@pytest.mark.parametrize(("fault", "share"), [("wrong-bytes", 0.5), ("wrong-upload", 0.5), ("lost-answer", 0.5)])
def test_the_probe_does_not_take_a_fault_for_an_overwrite(
    bucket: str, through: Callable[..., Any], fault: str, share: float
) -> None:
    for seed in range(12):
        through(fault, share=share, seed=seed)
        probe_create_only(open_store(bucket))
    assert open_store(bucket).names("") == []


def test_the_probe_gives_up_where_bytes_always_change(bucket: str, through: Callable[..., Any]) -> None:
    through("wrong-bytes", share=1.0)
    with pytest.raises(RunFailed, match="3 small objects were written there and read back with other bytes"):
        probe_create_only(open_store(bucket))
    through("wrong-upload", share=1.0)
    with pytest.raises(Unreachable, match="cannot create: it arrived with other bytes, 8 times"):
        probe_create_only(open_store(bucket))


def test_an_upload_that_changed_is_taken_back(bucket: str, through: Callable[..., Any]) -> None:
    proxy = through("wrong-upload", share=1.0, most=3)
    store = open_store(bucket)
    store.create("a", b"ours" * 100)
    assert proxy.done["wrong-upload"] == 3 and store.read("a") == b"ours" * 100


def test_only_our_own_upload_is_taken_back(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectStore(bucket, patience=Patience(attempts=3, first_delay_s=0.01))
    there, real = open_store(bucket), ObjectStore._take_back

    def late(self: ObjectStore, name: str, tag: str) -> None:
        self.delete(name)
        there.create(name, b"of somebody else")
        real(self, name, tag)

    monkeypatch.setattr(ObjectStore, "_take_back", late)
    monkeypatch.setattr(store, "_holds", lambda name, data: False)
    monkeypatch.setattr(objects, "_md5_of", lambda tag: "0" * 32)
    with pytest.raises(AlreadyExists):
        store.create("a", b"ours")
    assert there.read("a") == b"of somebody else"


@pytest.mark.parametrize("fault", ["500", "503", "429", "reset", "timeout", "slow", "truncated"])
def test_errors_on_the_way_are_tried_again(bucket: str, through: Callable[..., Any], fault: str) -> None:
    proxy = through(fault, share=1.0, most=3)
    store = open_store(bucket)
    store.create("a", b"data" * 100)
    proxy.most = 6
    assert store.read("a") == b"data" * 100
    assert proxy.done[fault] == (3 if fault == "slow" else 6)  # slow is no error: each request meets it once


@pytest.mark.parametrize("fault", ["500", "truncated", "reset"])
def test_a_server_without_byte_ranges_is_read(
    bucket: str, through: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    data = bytes(range(256)) * (PIECE_BYTES // 256) + b"the end" * 100_000
    (tmp_path / "large").write_bytes(data)
    open_store(bucket).create_from("large", tmp_path / "large")
    through(fault, share=0.3, most=4, seed=1, forget=["range"], only="large")
    store = open_store(bucket)
    with store.open("large") as file:
        assert file.read(4) == data[:4]
        assert file.read() == data[4:]
        assert file.seek(-7, 2) and file.read() == b"the end"
    assert store.read("large", 100, 3) == data[100:103] and store.read("large", len(data), 3) == b""
    assert caplog.text.count("does not answer byte ranges, so whole objects are read") == 1


def test_a_lost_answer_to_a_create_is_success(bucket: str, through: Callable[..., Any]) -> None:
    proxy = through("lost-answer", share=1.0, most=2)
    store = open_store(bucket)
    store.create("a", b"ours")
    assert proxy.done["lost-answer"] == 2 and store.read("a") == b"ours"
    proxy.most = 4
    with pytest.raises(AlreadyExists):  # the answer is lost, and what is there is not ours
        store.create("a", b"theirs")


def test_patience_ends(bucket: str, through: Callable[..., Any]) -> None:
    through("503", share=1.0)
    with pytest.raises(Unreachable, match=r"a: cannot look up: the server answered 503 Service Unavailable, 8 times"):
        open_store(bucket).size("a")


def test_answers_that_stay_are_not_tried_again(bucket: str, through: Callable[..., Any]) -> None:
    proxy = through("reset", share=0.0)
    with pytest.raises(InputError, match="no bucket or container of that name is there"):
        ObjectStore(f"{bucket}-nowhere").create("a", b"")
    with pytest.raises(FileNotFoundError):
        open_store(bucket).read("a")
    assert sum(proxy.requests.values()) == 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/set", "scheme is 'ftp', allowed: a folder's path, s3://"),
        ("file:///sets/x", "scheme is 'file', allowed"),
        ("hf://models/lab/set", "not of the form hf://datasets/ORG/NAME"),
        ("hf://datasets/set", "not of the form hf://datasets/ORG/NAME"),
        ("hf://datasets/lab/set@/x", "not of the form hf://datasets/ORG/NAME"),
        ("hf://datasets/lab/set@main/../x", "not of the form hf://datasets/ORG/NAME"),
        ("s3://", "not of the form s3://NAME/PATH"),
        ("s3://bucket/../other", "not of the form"),
        ("s3://bucket/a b", "not of the form"),
        ("https://[::1/x", "is no URL that can be read"),
    ],
)
def test_urls_that_are_not_allowed(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_store(url)


@pytest.mark.parametrize("url", ["s3://KEY:SECRET@bucket/x", "https://host/x?token=SECRET", "https://u@host/x#SECRET"])
def test_a_url_with_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InputError, match="a user name, a password, a query or a fragment is not used") as error:
        open_store(url)
    assert "SECRET" not in str(error.value)


def test_no_secret_in_any_message_or_log(
    bucket: str, through: Callable[..., Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ["wJalrXUtnFEMI", "AKIDTHISISAKEYID", "session-token-secret", "AWSAccessKeyId"]
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-token-secret")
    caplog.set_level(logging.DEBUG)
    messages = [repr(open_store(bucket)), str(pickle.dumps(open_store(bucket)))]
    for fault in ("500", "reset", "timeout"):
        through(fault, share=1.0)
        store = ObjectStore(bucket, patience=Patience(attempts=2, first_delay_s=0.01, timeout_s=0.5))
        for work, arguments in ((store.create, ("a", b"x")), (store.read, ("a",)), (store.names, ("",))):
            with pytest.raises(Unreachable) as error:
                work(*arguments)
            messages += [str(error.value), repr(error.value)]
            assert error.value.__cause__ is None and error.value.__suppress_context__
    logged = [record.getMessage() for record in caplog.records]
    assert any("again in" in line for line in logged)
    for text in (*messages, *logged):
        assert not [secret for secret in secrets if secret in text], text
        assert "\n" not in text.strip() or "again" not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_ENDPOINT_URL", "no url"), ("AWS_REGION", "no such\nregion"), ("AWS_SECRET_ACCESS_KEY", "a\nb")],
)
def test_settings_that_make_no_request(bucket: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"{name} in the environment is no .*that can be used") as error:
        open_store(bucket)
    assert value not in str(error.value)


def test_what_a_server_answers_is_not_repeated() -> None:
    text = "Server returned non-2xx status code: 403 Forbidden: <AWSAccessKeyId>AKID</AWSAccessKeyId>"
    assert reason_of(RuntimeError(text)) == "the server answered 403 Forbidden"
    assert re.fullmatch(r"failed \(RuntimeError\)", reason_of(RuntimeError("AKID")))


@pytest.mark.parametrize(
    ("status", "code", "due"), [(400, "BadDigest", True), (400, "InvalidArgument", False), (503, "SlowDown", True)]
)
def test_a_request_that_changed_on_its_way_is_sent_again(status: int, code: str, due: bool) -> None:
    text = f"Server returned non-2xx status code: {status} Such: <Error><Code>{code}</Code></Error>"
    assert is_transient(RuntimeError(text)) is due


def test_a_web_server_can_be_read(bucket: str, public: Callable[[str], str]) -> None:
    store = open_store(bucket)
    store.create("a/b", b"data")
    web = open_store(public(bucket))
    assert web.read("a/b", 1, 2) == b"at" and web.exists("a/b") and not web.exists("a/c")
    for work, arguments in ((web.create, ("c", b"")), (web.delete, ("a/b",)), (web.replace, ("README.md", b""))):
        with pytest.raises(InputError, match="can only be read; to write, use s3://"):
            work(*arguments)
    with pytest.raises(InputError, match="a web server does not list what it holds"):
        web.names("a/")
