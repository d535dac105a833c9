"""The pages of `caskit view` over HTTP: what they show, to whom they answer, and that names stay text."""

import hashlib
import http.client
import importlib.resources
import io
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from caskit.evaluate.view import Browser, Redrawn, serve
from caskit.evaluate.view.pages import PER_PAGE
from caskit.manifests.errors import InputError, IntegrityError, RunFailed
from caskit.shards.dataset import FrozenSet

EVIL = '<script>alert(1)</script>"\u202e'
Asked = tuple[http.client.HTTPResponse, bytes]


class Site:
    """A served set and a client of it."""

    def __init__(self, address: str) -> None:
        match = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=(.+)", address)
        assert match is not None
        self.port, self.token = int(match[1]), match[2]

    def ask(self, path: str, *, method: str = "GET", entered: bool = False, **headers: str) -> Asked:
        """Return the answer and its body; header names have _ for -."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if entered:
            sent["Cookie"] = f"other=1; caskit-view={self.token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers=sent)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()


@pytest.fixture
def data(make_real: Callable[..., FrozenSet]) -> FrozenSet:
    return make_real("test", num=3 * (PER_PAGE + 5), names=("a", EVIL, "b"), samples_per_shard=100)


@pytest.fixture
def drawn() -> list[str]:
    return []


@pytest.fixture
def site(data: FrozenSet, drawn: list[str]) -> Iterator[Site]:
    def redraw(key: str) -> Redrawn:
        if key.endswith("_000001"):
            raise RunFailed(f"{EVIL} broke")
        drawn.append(key)
        image = io.BytesIO()
        Image.fromarray(np.zeros((2, 2), dtype=np.uint8)).save(image, format="PNG")
        return Redrawn(images={EVIL: image.getvalue()}, verdict="as the plan says", faults=(EVIL,))

    with serve(Browser(data.store.location), redraw=redraw, redraws="draws it") as address:
        yield Site(address)


def test_classes_images_and_rows(site: Site, data: FrozenSet) -> None:
    response, body = site.ask("/")
    assert response.status == 200 and data.replica.replica_id in body.decode()
    assert re.findall(r'href="(/class/\d+)"', body.decode()) == ["/class/0", "/class/1", "/class/2"]
    for path, num in (("/class/1", PER_PAGE), ("/class/1?page=1", 5)):
        page = site.ask(path)[1].decode()
        assert len(re.findall(r'<img src="/image/[^"]+"', page)) == num
    for place in (0, 1, 299):
        row = data.table.slice(place, 1).to_pylist()[0]
        response, image = site.ask(f"/image/{row['key']}")
        assert response.getheader("Content-Type") == "image/png" and image == data.read(place)
        page = site.ask(f"/sample/{row['key']}")[1].decode()
        assert hashlib.sha256(image).hexdigest() in page and str(row["tar_offset"]) in page


def test_every_answer_forbids_what_a_page_does_not_need(site: Site) -> None:
    for path in ("/", "/class/0", "/sample/c00_000000", "/image/c00_000000", "/style.css", "/nowhere"):
        response, body = site.ask(path)
        policy = response.getheader("Content-Security-Policy") or ""
        assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'")
        assert "script" not in policy and "frame-ancestors 'none'" in policy
        assert response.getheader("X-Content-Type-Options") == "nosniff"
        assert response.getheader("Cache-Control") == "no-store"
        assert response.getheader("Referrer-Policy") == "same-origin"
        assert b"<script" not in body and "\u202e".encode() not in body


def test_names_are_text(site: Site) -> None:
    for path in ("/", "/class/1", "/sample/c01_000000"):
        page = site.ask(path)[1].decode()
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "<script" not in page
    page = site.ask("/redraw/c00_000000", method="POST", entered=True)[1].decode()
    assert page.count("&lt;script&gt;") == 3 and "<script" not in page  # fault, alt and caption


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "", "[::1]"])
def test_another_host_is_refused(site: Site, host: str) -> None:
    response, body = site.ask("/", Host=host)
    assert response.status == 421 and b"its own address" in body
    assert site.ask("/", Host=f"localhost:{site.port}")[0].status == 200
    assert site.ask("/redraw/c00_000000", method="POST", entered=True, Host=host)[0].status == 421


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/class/3", 404),
        ("/class/01", 404),
        ("/class/-1", 404),
        ("/class/0?page=9", 404),
        ("/class/0?page=-1", 404),
        ("/class/0?page=9999999999999999999999", 404),
        ("/sample/c09_000000", 404),
        ("/sample/../../etc/passwd", 404),
        ("/image/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/image/replica.json", 404),
        ("/redraw/c00_000000", 404),
        ("//evil.example/", 404),
        ("/?token=wrong", 403),
        ("/?token=%C3%A4", 403),
        ("/" + "a" * 60_000, 404),
    ],
)
def test_what_is_not_there(site: Site, path: str, status: int) -> None:
    assert site.ask(path)[0].status == status


def test_only_who_has_the_token_may_have_something_computed(site: Site, drawn: list[str]) -> None:
    path = "/redraw/c00_000000"
    response, _ = site.ask(f"/?token={site.token}")
    cookie = response.getheader("Set-Cookie") or ""
    assert response.status == 303 and response.getheader("Location") == "/"
    assert cookie == f"caskit-view={site.token}; HttpOnly; SameSite=Strict; Path=/"
    assert b"<form" not in site.ask("/sample/c00_000000")[1]
    assert b'<form method="post" action="/redraw/c00_000000">' in site.ask("/sample/c00_000000", entered=True)[1]
    origin = f"http://127.0.0.1:{site.port}"
    for refused in (
        site.ask(path, method="POST"),
        site.ask(path, method="POST", Cookie="caskit-view=wrong"),
        site.ask(path, method="POST", entered=True, Origin="http://evil.example"),
        site.ask(path, method="POST", entered=True, Origin="null"),
        site.ask(path, method="POST", entered=True, Sec_Fetch_Site="cross-site"),
    ):
        assert refused[0].status == 403
    assert not drawn
    assert site.ask("/redraw/c09_000000", method="POST", entered=True)[0].status == 404
    response, body = site.ask(path, method="POST", entered=True, Origin=origin, Sec_Fetch_Site="same-origin")
    assert response.status == 200 and b"as the plan says" in body and drawn == ["c00_000000"]
    response, body = site.ask("/redraw/c00_000001", method="POST", entered=True)
    assert response.status == 500 and b"&lt;script&gt;" in body and b"Traceback" not in body


def test_one_sample_is_drawn_at_a_time(data: FrozenSet) -> None:
    began, go_on = threading.Event(), threading.Event()

    def redraw(key: str) -> Redrawn:
        began.set()
        assert go_on.wait(60)
        return Redrawn(images={}, verdict=key)

    with serve(Browser(data.store.location), redraw=redraw, redraws="") as address:
        site, found = Site(address), list[Asked]()
        first = threading.Thread(
            target=lambda: found.append(site.ask("/redraw/c00_000000", method="POST", entered=True))
        )
        first.start()
        assert began.wait(60)
        assert site.ask("/redraw/c00_000001", method="POST", entered=True)[0].status == 503
        assert site.ask("/class/0")[0].status == 200
        go_on.set()
        first.join()
    assert found[0][0].status == 200


def test_an_image_that_is_not_its_rows_is_not_shown(site: Site, data: FrozenSet) -> None:
    row = data.table.slice(7, 1).to_pylist()[0]
    tar = Path(data.store.location) / f"shards/shard-{row['shard']:06d}.tar"
    changed = bytearray(tar.read_bytes())
    changed[row["tar_offset"] + 20] ^= 1
    tar.unlink()
    tar.write_bytes(changed)
    response, body = site.ask(f"/image/{row['key']}")
    assert response.status == 500 and response.getheader("Content-Type") == "text/html; charset=utf-8"
    assert b"not those whose SHA-256 its row holds" in body
    tar.unlink()
    assert b"the tar is missing" in site.ask(f"/image/{row['key']}")[1]
    assert site.ask("/")[0].status == 200


def test_a_set_whose_rows_are_not_its_own_is_not_opened(data: FrozenSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no caskit set is there"):
        Browser(str(tmp_path / "nowhere"))
    record = Path(data.store.location) / "replica.json"
    changed = record.read_bytes().replace(data.replica.rows_root.encode(), b"ab" * 32)
    record.unlink()
    record.write_bytes(changed)
    with pytest.raises(IntegrityError, match="rows_root"):
        Browser(data.store.location)


def test_nothing_is_read_of_the_tars_but_the_images_shown(data: FrozenSet, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(data.store.location)
    read: list[tuple[Any, ...]] = []
    real = browser.records.store.read
    monkeypatch.setattr(browser.records.store, "read", lambda *asked: read.append(asked) or real(*asked))
    with serve(browser, redraws="") as address:
        site = Site(address)
        for path in ("/", "/class/0", "/sample/c00_000003"):
            site.ask(path)
        assert not read
        site.ask("/image/c00_000003")
    row = browser.row("c00_000003")
    assert row is not None
    assert read == [(f"shards/shard-{row['shard']:06d}.tar", row["tar_offset"], row["nbytes"])]


def test_the_style_is_packaged() -> None:
    assert "grid" in importlib.resources.files("caskit.evaluate.view").joinpath("style.css").read_text()
