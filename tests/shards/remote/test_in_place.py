"""A published set is checked where it lies: by the store's word where it gives it, else by reading; no fault passes."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caskit import cli
from caskit.manifests.errors import InputError, IntegrityError
from caskit.shards.codes import codes_path
from caskit.shards.fault import BrokenSet
from caskit.shards.remote.in_place import verify_in_place
from caskit.shards.remote.location import parse_location
from caskit.shards.remote.objects import checksum_options
from caskit.shards.remote.patience import Patience, Unreachable
from caskit.shards.remote.push import push
from caskit.shards.remote.stated import Statements, signed
from caskit.shards.store import open_store

TAR = "shards/shard-000001.tar"


@pytest.fixture
def url(tmp_path: Path, tiny: Any, bucket: str) -> str:
    """A set whose tars came with a checksum; moto keeps one only where the client names the algorithm, too."""
    tiny.frozen(tmp_path / "set", tiny.plan(num=20))
    push(str(tmp_path / "set"), f"{bucket}/one")
    store = open_store(f"{bucket}/one")
    for name in store.names("shards/"):
        state(f"{bucket}/one", name, store.read(name))
    return f"{bucket}/one"


def state(url: str, name: str, data: bytes) -> None:
    import boto3

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=data, ChecksumAlgorithm="SHA256")


def test_the_stores_word_moves_no_tar(url: str, through: Callable[..., Any]) -> None:
    proxy = through("500", share=0.0)
    report = verify_in_place(url)
    assert dict(report.checks) == {"rows": 20, "roots": 3, "tars by the store's word": 4, "tars read": 0}
    assert proxy.folders["GET shards"] == 0 < proxy.folders["HEAD shards"]
    report = verify_in_place(url, trust_store=False)
    assert dict(report.checks)["tars read"] == 4 and proxy.folders["GET shards"] == 4


def test_where_nothing_is_stated_tars_are_read(
    bucket: str, tmp_path: Path, tiny: Any, public: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.frozen(tmp_path / "set", tiny.plan(num=20, record_codes=True))
    push(str(tmp_path / "set"), f"{bucket}/plain")
    due = {"rows": 20, "roots": 3, "tars by the store's word": 0, "tars read": 4, "digests of codes": 20}
    assert dict(verify_in_place(f"{bucket}/plain").checks) == due
    assert dict(verify_in_place(public(f"{bucket}/plain")).checks) == due  # a web server lists and states nothing
    open_store(f"{bucket}/plain").delete(codes_path(2))
    with pytest.raises(BrokenSet, match=f"{codes_path(2)}: is missing"):
        verify_in_place(f"{bucket}/plain")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert Statements(parse_location(bucket), Patience()).sha256(TAR) is None


@pytest.mark.parametrize("stated", [True, False])
def test_what_is_wrong_is_found(url: str, stated: bool) -> None:
    store = open_store(url)
    data = store.read(TAR)
    for name, bad in ((TAR, data[:700] + b"?" + data[701:]), ("shards/shard-000003.tar", data[:512])):
        store.delete(name)
        if stated:
            state(url, name, bad)
        else:
            store.create(name, bad)
    store.delete("shards/shard-000002.tar")
    with pytest.raises(BrokenSet) as error:
        verify_in_place(url)
    found = {fault.file: fault.message for fault in error.value.faults}
    assert found["shards/shard-000002.tar"] == "is missing"
    assert found["shards/shard-000003.tar"].startswith("has 512 bytes")
    assert found[TAR].startswith("has sha256") and len(found) == 3
    store.delete("manifest.parquet")
    with pytest.raises(IntegrityError, match=r"manifest\.parquet: missing from a frozen set"):
        verify_in_place(url)


@pytest.mark.parametrize("fault", ["503", "reset", "wrong-bytes"])
def test_faults_on_the_way_pass(url: str, through: Callable[..., Any], fault: str) -> None:
    proxy = through(fault, share=0.4, most=12, seed=3)
    for attempt in range(20):
        try:
            assert verify_in_place(url, trust_store=attempt % 2 == 0).replica.num_samples == 20
            break
        except (IntegrityError, Unreachable):  # never accepted, and the same command again gets there
            continue
    else:
        pytest.fail("never got there")
    assert proxy.done[fault] > 0


def test_uploads_carry_their_checksum(
    bucket: str, through: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = through("500", share=0.0)
    open_store(bucket).create("plain", b"data")  # not to a server of others, which may refuse it
    assert checksum_options() == {} and "x-amz-checksum-sha256" not in proxy.headers["PUT"]
    with monkeypatch.context() as patch:
        patch.delenv("AWS_ENDPOINT_URL")
        assert checksum_options() == {"checksum_algorithm": "SHA256"}
    monkeypatch.setenv("AWS_CHECKSUM_ALGORITHM", "SHA256")
    open_store(bucket).create("a", b"data")
    assert proxy.headers["PUT"] >= {"x-amz-checksum-sha256", "if-none-match"}


def test_the_signature_is_that_of_the_published_example() -> None:
    """The first example of https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html."""
    headers = {"host": "examplebucket.s3.amazonaws.com", "range": "bytes=0-9"}
    keys = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    now = datetime.datetime(2013, 5, 24, tzinfo=datetime.UTC)
    made = signed("GET", "/test.txt", headers, keys=keys, region="us-east-1", now=now)["authorization"]
    assert made.endswith("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
    assert "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date," in made


def test_the_command(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", url, "--in-place"]) == 0
    assert "whole in place: 20 rows, 3 roots, 4 tars by the store's word, 0 tars read" in capsys.readouterr().out
    assert cli.main(["verify", url, "--in-place", "read"]) == 0
    assert "0 tars by the store's word, 4 tars read" in capsys.readouterr().out
    assert cli.main(["verify", url, "--in-place", "--level", "deep"]) == 2
    assert "--in-place is a level of its own" in capsys.readouterr().err
    with pytest.raises(InputError, match="is a folder; leave --in-place out"):
        verify_in_place(str(tmp_path / "set"))
