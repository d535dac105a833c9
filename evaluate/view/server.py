"""The pages over HTTP, for a browser on the same machine.

The server listens on the loopback interface alone. A page of another site can still make the browser ask it, under a
name of its own that leads here: so a request is answered only if its Host is ours. Nothing is computed but for a
request that has the token, which stands in the address that the command prints and then in a cookie.
"""

import contextlib
import dataclasses
import hmac
import importlib.resources
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from caskit.evaluate.view import pages
from caskit.evaluate.view.browser import Browser
from caskit.manifests.errors import InputError, IntegrityError, RunFailed

HOST = "127.0.0.1"
COOKIE = "caskit-view"
TIMEOUT_S = 20  # of one connection that says nothing
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with none at all a browser says that a form of ours has no origin
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_KEY = re.compile(r"/(sample|image|redraw)/([A-Za-z0-9][A-Za-z0-9_-]{0,98})")
_CLASS = re.compile(r"/class/(0|[1-9][0-9]{0,9})")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Redrawn:
    """What came of drawing a sample again.

    Attributes:
        images: PNG files by what they show.
        verdict: in a few words.
        faults: what was found wrong, none if it is the sample.
    """

    images: dict[str, bytes]
    verdict: str
    faults: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Service:
    """What the requests are answered from.

    Attributes:
        browser: the set.
        redraw: draws the sample of a key again; None where nothing can.
        redraws: what drawing again is, or why there is none, for people.
        port: that it listens at.
        token: of who may have something computed.
        busy: held while something is computed, one at a time.
    """

    browser: Browser
    redraw: Callable[[str], Redrawn] | None
    redraws: str
    port: int
    token: str = dataclasses.field(default_factory=lambda: secrets.token_urlsafe(32))
    busy: threading.Lock = dataclasses.field(default_factory=threading.Lock)


class Refusal(Exception):
    """A request that is not answered with what it asks for."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "caskit", ""
    timeout = TIMEOUT_S
    service: ClassVar[Service]

    def do_GET(self) -> None:
        """Answer with a page, an image or the style."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Draw a sample again."""
        self.close_connection = True  # a body, if there is one, is not read
        self._answer(self._post)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what is asked for is the user's own."""

    def _answer(self, make: Callable[[], tuple[bytes, str]]) -> None:
        try:
            self._check_host()
            body, kind = make()
            status = HTTPStatus.OK
        except _AlreadyAnswered:
            return
        except Refusal as refusal:
            status, kind = refusal.status, "text/html; charset=utf-8"
            body = pages.problem(f"{status.value} {status.phrase}", str(refusal))
        except (InputError, RunFailed, OSError) as error:
            status, kind = HTTPStatus.INTERNAL_SERVER_ERROR, "text/html; charset=utf-8"
            body = pages.problem("fault" if isinstance(error, IntegrityError) else "not possible", str(error))
        with contextlib.suppress(ConnectionError, TimeoutError):
            self._send(status, body, kind)

    def _send(self, status: HTTPStatus, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _check_host(self) -> None:
        """Refuse a name that somebody else made lead here."""
        allowed = {f"{name}:{self.service.port}" for name in (HOST, "localhost")}
        if self.headers.get_all("Host", []) not in [[name] for name in allowed]:
            raise Refusal(HTTPStatus.MISDIRECTED_REQUEST, "this server answers to its own address alone")

    def _has_token(self) -> bool:
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.service.token.encode())

    def _get(self) -> tuple[bytes, str]:
        service, url = self.service, urlsplit(self.path)
        query = parse_qs(url.query, max_num_fields=8)
        if url.path == pages.STYLE_PATH:
            style = importlib.resources.files("caskit.evaluate.view").joinpath("style.css").read_bytes()
            return style, "text/css; charset=utf-8"
        if url.path == "/" and "token" in query:
            return self._enter(query["token"][0])
        if url.path == "/":
            return pages.index(service.browser, self._redraws()), "text/html; charset=utf-8"
        if match := _CLASS.fullmatch(url.path):
            return self._class(int(match[1]), query.get("page", ["0"])[0]), "text/html; charset=utf-8"
        match = _KEY.fullmatch(url.path)
        row = None if match is None else service.browser.row(match[2])
        if match is None or row is None or match[1] == "redraw":
            raise Refusal(HTTPStatus.NOT_FOUND, "there is no such page")
        if match[1] == "image":
            return service.browser.image(row)
        may = service.redraw is not None and self._has_token()
        return pages.sample_page(service.browser, row, self._redraws(), may_redraw=may), "text/html; charset=utf-8"

    def _redraws(self) -> str:
        if self.service.redraw is None or self._has_token():
            return self.service.redraws
        return "only for who came by the address that `caskit view` printed"

    def _class(self, label: int, number: str) -> bytes:
        browser = self.service.browser
        if label >= len(browser.classes) or _NUMBER.fullmatch(number) is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"classes are 0 to {len(browser.classes) - 1}, pages are numbers")
        if int(number) * pages.PER_PAGE >= max(1, browser.count(label)):
            raise Refusal(HTTPStatus.NOT_FOUND, f"class {label} has {browser.count(label)} samples, no page {number}")
        return pages.class_page(browser, label, int(number))

    def _enter(self, token: str) -> tuple[bytes, str]:
        """Take the token out of the address, where it would stay in the history, into a cookie."""
        if not hmac.compare_digest(token.encode(), self.service.token.encode()):
            raise Refusal(HTTPStatus.FORBIDDEN, "this is not the token that `caskit view` printed")
        cookie = f"{COOKIE}={self.service.token}; HttpOnly; SameSite=Strict; Path=/"
        body = pages.page("caskit", None)
        kind = "text/html; charset=utf-8"
        self._send(HTTPStatus.SEE_OTHER, body, kind, {"Set-Cookie": cookie, "Location": "/"})
        raise _AlreadyAnswered

    def _post(self) -> tuple[bytes, str]:
        service, match = self.service, _KEY.fullmatch(urlsplit(self.path).path)
        if match is None or match[1] != "redraw" or service.redraw is None or service.browser.row(match[2]) is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "there is nothing to be drawn again")
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site")
        ours = {f"http://{name}:{self.service.port}" for name in (HOST, "localhost")}
        if not self._has_token() or (origin is not None and origin not in ours) or site not in (None, "same-origin"):
            raise Refusal(HTTPStatus.FORBIDDEN, "only a page of this server, opened with its token, may ask for that")
        if not service.busy.acquire(blocking=False):
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "another sample is being drawn; try again when it is done")
        try:
            made = service.redraw(match[2])
        finally:
            service.busy.release()
        page = pages.redrawn_page(match[2], made.images, made.verdict, made.faults)
        return page, "text/html; charset=utf-8"


class _AlreadyAnswered(Exception):
    """The response is out: nothing more is to be sent."""


@contextlib.contextmanager
def serve(
    browser: Browser, *, redraw: Callable[[str], Redrawn] | None = None, redraws: str, port: int = 0
) -> Iterator[str]:
    """Answer requests in threads of their own while the context lasts; gives the address with its token.

    Args:
        browser: the set.
        redraw: see Service.
        redraws: see Service.
        port: to listen at; 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    server = ThreadingHTTPServer((HOST, port), Handler)
    server.daemon_threads = True
    bound = server.socket.getsockname()[1]
    service = Service(browser=browser, redraw=redraw, redraws=redraws, port=bound)
    server.RequestHandlerClass = type("SetHandler", (Handler,), {"service": service})
    thread = threading.Thread(target=server.serve_forever, name="caskit-view", daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{bound}/?token={service.token}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
