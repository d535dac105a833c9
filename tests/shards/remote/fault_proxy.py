"""A proxy between caskit and an HTTP server that breaks requests and answers the way networks and servers do.

Each request draws one fault, or none, from a seeded generator; after `most` faults it lets everything pass, so that
whoever is patient gets there. What was done is counted.
"""

import collections
import http.client
import random
import socket
import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

# Before the server saw the request, or after it did it: then only the answer is lost.
FAULTS = (
    "500", "503", "429", "reset", "lost-answer", "timeout", "slow", "wrong-bytes", "truncated", "short", "wrong-upload"
)  # fmt: skip
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length", "server", "date"}


class FaultProxy:
    """Answers at `url` with what the server at `target` says, but for faults.

    Args:
        target: URL of the server.
        faults: names of FAULTS to choose from.
        share: of requests that are broken.
        most: faults after which there are no more.
        seed: of the choice.
        hang_s: how long a `timeout` holds the connection, longer than the client waits.
        only: break only requests whose path holds this text.
        forget: headers (lower case) that never reach the server; without `if-none-match` it overwrites what is there.
    """

    def __init__(
        self,
        target: str,
        faults: Iterable[str] = FAULTS,
        *,
        share: float = 0.5,
        most: int = 10**9,
        seed: int = 0,
        hang_s: float = 3.0,
        only: str = "",
        forget: Iterable[str] = (),
    ) -> None:
        self.faults, self.share, self.most, self.hang_s, self.only = tuple(faults), share, most, hang_s, only
        self._dropped = HOP_BY_HOP | set(forget)
        assert set(self.faults) <= set(FAULTS), f"faults are {FAULTS}"
        self.done: collections.Counter[str] = collections.Counter()
        self.requests: collections.Counter[str] = collections.Counter()  # by method
        self.folders: collections.Counter[str] = collections.Counter()  # by method and last folder
        self.headers: dict[str, set[str]] = collections.defaultdict(set)  # that came with each method, lower case
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._target = urlsplit(target)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

            def serve(self) -> None:
                proxy.serve(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that gave up on us

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FaultProxy":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _choose(self, method: str, path: str) -> str:
        with self._lock:
            self.requests[method] += 1
            if self.only not in path or sum(self.done.values()) >= self.most or self._random.random() >= self.share:
                return ""
            possible = [fault for fault in self.faults if (fault != "wrong-upload") or method == "PUT"]
            if method != "GET":
                possible = [fault for fault in possible if fault not in ("wrong-bytes", "truncated", "short")]
            if not possible:
                return ""
            fault = self._random.choice(possible)
            self.done[fault] += 1
            return fault

    def serve(self, client: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = client.rfile.read(int(client.headers.get("Content-Length") or 0))
        fault = self._choose(client.command, client.path)
        with self._lock:
            self.headers[client.command] |= {name.lower() for name in client.headers}
            self.folders[f"{client.command} {client.path.rpartition('/')[0].rpartition('/')[2]}"] += 1
        if fault == "reset":
            return self._drop(client)
        if fault == "timeout":
            time.sleep(self.hang_s)
            return self._drop(client)
        if fault in ("500", "503", "429"):
            text = b"<Error><Message>AWSAccessKeyId and what was signed</Message></Error>"
            return self._answer(client, int(fault), {}, b"" if client.command == "HEAD" else text)
        if fault == "wrong-upload" and body:
            body = _changed(body)
        status, headers, answer = self._forward(client, body)
        if fault == "lost-answer":
            return self._drop(client)
        if fault == "wrong-bytes" and answer and status in (200, 206):
            answer = _changed(answer)
        if fault == "short" and len(answer) > 1 and status in (200, 206):  # and says so in its length
            answer = answer[: len(answer) // 2]
        cut = len(answer) // 2 if fault == "truncated" and answer else None
        return self._answer(client, status, headers, answer, cut=cut, slow=fault == "slow")

    def _forward(self, client: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        assert self._target.hostname is not None
        connection = http.client.HTTPConnection(self._target.hostname, self._target.port, timeout=30)
        try:
            headers = {name: value for name, value in client.headers.items() if name.lower() not in self._dropped}
            connection.request(client.command, client.path, body=body, headers=headers)
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP}
            if client.command == "HEAD" and answer.getheader("Content-Length") is not None:
                kept["Content-Length"] = str(answer.getheader("Content-Length"))
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def _answer(
        self,
        client: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, str],
        body: bytes,
        *,
        cut: int | None = None,
        slow: bool = False,
    ) -> None:
        client.send_response_only(status)
        for name, value in headers.items():
            client.send_header(name, value)
        if "Content-Length" not in headers:
            client.send_header("Content-Length", str(len(body)))
        client.end_headers()
        if cut is not None:
            client.wfile.write(body[:cut])
            return self._drop(client)
        step = max(1, len(body) // 4) if slow else max(1, len(body))
        for start in range(0, len(body), step):
            client.wfile.write(body[start : start + step])
            if slow:
                client.wfile.flush()
                time.sleep(0.05)
        return None

    def _drop(self, client: BaseHTTPRequestHandler) -> None:
        """Close with a reset, as a machine does that went away."""
        client.close_connection = True
        client.wfile.flush()
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.connection.close()


def _changed(body: bytes) -> bytes:
    """Return the bytes with one bit of the middle one flipped."""
    at = len(body) // 2
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
