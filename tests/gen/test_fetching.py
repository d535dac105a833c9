import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from caskit.gen.fetching import local_file, shown_address
from caskit.manifests.errors import InputError, IntegrityError, RunFailed

DATA = bytes(range(256)) * 40
DIGEST = hashlib.sha256(DATA).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves DATA, a redirect to it, one that leaves the web, a file that ends early, and one without a length."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in ("/file", "/cut", "/endless"):
            self.send_response(200)
            if path != "/endless":
                self.send_header("Content-Length", str(len(DATA) * (2 if path == "/cut" else 1)))
            self.end_headers()
            self.wfile.write(DATA)
        elif path in ("/moved", "/away"):
            self.send_response(302)
            self.send_header("Location", "/file" if path == "/moved" else "file:///etc/passwd")
            self.end_headers()
        else:
            self.send_error(404, "Not Found")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize("path", ["/file", "/moved", "/file?token=secret", f"/file#sha256={DIGEST}", "/endless"])
def test_a_file_comes_with_its_digest_and_is_gone_afterwards(path: str, address: str) -> None:
    told: list[tuple[int, int | None]] = []
    with local_file(address + path, report=lambda done, total: told.append((done, total))) as (file, digest):
        assert file.read_bytes() == DATA and digest == DIGEST
    assert not file.exists()
    assert told[-1] == (len(DATA), None if path == "/endless" else len(DATA))


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("/none?token=secret", InputError, "/none: the server answers 404 Not Found"),
        (f"/file?token=secret#sha256={'0' * 64}", IntegrityError, f"/file: sha256 is {DIGEST}, expected 000"),
        ("/file#md5=0", InputError, "not followed by sha256=HEX"),
        ("/file#sha256=12", InputError, "must be 64 hex digits"),
        ("/cut", RunFailed, "the connection ended after 10,240 of 20,480 bytes"),
        ("/away", RunFailed, "/away: "),
    ],
)
def test_what_cannot_be_fetched_is_told_without_secrets(
    path: str, error: type[Exception], message: str, address: str
) -> None:
    with pytest.raises(error, match=message) as raised, local_file(address + path):
        pass
    assert "secret" not in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("path", ["/file", "/endless"])
def test_downloads_have_a_limit(path: str, address: str) -> None:
    with pytest.raises(RunFailed, match="10,239"), local_file(address + path, max_bytes=len(DATA) - 1):
        pass


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("ftp://host/file", "ftp://host/file: only files and http.s. addresses"),
        ("file:///etc/passwd", "only files and http.s. addresses"),
        ("http://me:secret@host/file", "http://host/file: the address holds a user or password"),
        ("http://host/fi le", "must be percent-encoded"),
        ("http://host:port/file", "its host or port is not of the right form"),
        ("no/such/file", "no/such/file: no such file"),
    ],
)
def test_other_sources_are_refused(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised, local_file(source):
        pass
    assert "secret" not in str(raised.value)


def test_files_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "a#b"
    path.write_bytes(DATA)
    with local_file(str(path), sha256=DIGEST.upper()) as (file, digest):
        assert file == path and digest == DIGEST
    assert path.exists()
    with pytest.raises(IntegrityError, match="expected ffff"), local_file(str(path), sha256="f" * 64):
        pass


def test_addresses_are_shown_without_what_could_be_secret() -> None:
    assert shown_address("https://u:p@host:8080/a/b?key=1#x") == "https://host:8080/a/b"
