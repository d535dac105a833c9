"""`caskit view` opened in headless Chromium, on a folder and over http: pages, drawing again, and bytes that moved.

    benchmarks/view_browser.py REPLICA --checkpoint DIR --shots DIR

The replica is served once as a folder and once from a web server of this script, which answers byte ranges and counts
what it sends: the viewer must open it at the price of its records, and a class at that of its images. The list of
classes, a class, a sample and the sample drawn again are looked at in desktop and phone width: no message on the
console, no request to anybody else, no image that does not load, nothing wider than the window. Run by hand, like
report_browser.py, which has the browser; look at the screenshots. The last line printed is JSON; exit code 1 if there
is a fault.
"""

import argparse
import base64
import contextlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REPORT = runpy.run_path(str(Path(__file__).with_name("report_browser.py")))
SIZES = {"desktop": (1280, 900, 1.0), "phone": (390, 844, 2.0)}
CLASS = 3
MAX_SECONDS = 600  # for a page; drawing again takes a microbatch
LOADED = "Array.from(document.images).filter((i) => i.getBoundingClientRect().top < innerHeight)"
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class Files(BaseHTTPRequestHandler):
    """Gives the files of a folder, whole or by range, and counts."""

    protocol_version = "HTTP/1.1"
    root: Path
    sent: list[tuple[str, int]]

    def do_HEAD(self) -> None:
        """Say how long a file is."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Send a file, or a range of it."""
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, *, body: bool) -> None:
        path = (self.root / self.path.lstrip("/")).resolve()
        if self.root not in path.parents or not path.is_file():
            self._reply(404, b"", {}, body=body)
            return
        data, size = path.read_bytes(), path.stat().st_size
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        if match is None:
            self._reply(200, data, {"Accept-Ranges": "bytes"}, body=body)
            return
        start, stop = int(match[1]), min(int(match[2]) + 1, size)
        self._reply(206, data[start:stop], {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}, body=body)

    def _reply(self, status: int, data: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data)), "ETag": f'"{len(data)}"'}.items():
            self.send_header(name, value)
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if body:
            self.sent.append((self.path.lstrip("/"), len(data)))
            with contextlib.suppress(ConnectionError):
                self.wfile.write(data)


@contextlib.contextmanager
def web_server(root: Path) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """Serve a folder; gives its URL, and of every answer so far the file and the bytes."""
    sent: list[tuple[str, int]] = []
    handler = type("Served", (Files,), {"root": root.resolve(), "sent": sent})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def viewer(location: str, checkpoint: Path | None) -> Iterator[str]:
    """Run `caskit view`; gives the address that it prints."""
    command = [sys.executable, "-m", "caskit.cli", "view", location]
    command += [] if checkpoint is None else ["--checkpoint", str(checkpoint)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


class Visit:
    """A browser that goes from page to page of one viewer and notes what is wrong."""

    def __init__(self, browser: Any, address: str, shots: Path, name: str) -> None:
        self.browser, self.origin, self.shots, self.name = browser, address.partition("/?")[0], shots, name
        self.faults: list[str] = []

    def go(self, address: str) -> None:
        """Open an address, as a link would."""
        self._after(lambda: self.browser.call("Page.navigate", url=address))

    def click(self, selector: str) -> None:
        """Click what a selector finds, which leads to another page."""
        self._after(lambda: self.browser.evaluate(f"document.querySelector({json.dumps(selector)}).click()"))

    def _after(self, act: Any) -> None:
        self.browser.events.clear()
        act()
        self.browser.wait("Page.loadEventFired")
        for event in self.browser.events:
            # What report_browser.py tells of a page, requests to this server left out.
            told = REPORT["told"](event, self.origin)
            self.faults += [f"{self.name}: {one}" for one in told if not one.startswith(f"request: {self.origin}/")]

    def look(self, name: str) -> None:
        """Take screenshots of what is seen, in both widths."""
        for size, (width, height, scale) in SIZES.items():
            self.browser.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                mobile=size == "phone",
            )  # fmt: skip
            end = time.monotonic() + MAX_SECONDS
            while not self.browser.evaluate(f"{LOADED}.every((i) => i.complete)") and time.monotonic() < end:
                time.sleep(0.1)
            if not self.browser.evaluate(f"{LOADED}.every((i) => i.naturalWidth > 0)"):
                self.faults.append(f"{self.name}: {name} in {size} width: an image does not load")
            found = self.browser.evaluate(REPORT["WIDTHS"])
            if found["page"] > width:
                self.faults.append(f"{self.name}: {name}: the page is {found['page']} pixels wide, the window {width}")
            shot = self.browser.call("Page.captureScreenshot", format="png")
            (self.shots / f"{self.name}-{name}-{size}.png").write_bytes(base64.b64decode(shot["data"]))


def walk(visit: Visit, address: str, sent: list[tuple[str, int]], *, redraw: bool) -> dict[str, int]:
    """Go through the viewer; returns the bytes that the web server had sent after each page."""
    moved = {}
    visit.go(address)
    visit.look("classes")
    moved["open"] = sum(size for _, size in sent)
    visit.click(f"a[href='/class/{CLASS}']")
    visit.look("class")
    moved["class"] = sum(size for _, size in sent)
    visit.click(".grid a:nth-child(8)")
    visit.look("sample")
    moved["sample"] = sum(size for _, size in sent)
    if redraw:
        visit.click("button")
        visit.look("redrawn")
        verdict = visit.browser.evaluate("document.body.textContent")
        if "The checkpoint draws it" not in verdict:
            visit.faults.append(f"{visit.name}: {verdict[:200]}")
        moved["redrawn"] = sum(size for _, size in sent)
    return moved


def main() -> None:
    """Look at one replica, as a folder and over http."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("set", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="to draw a sample again")
    parser.add_argument("--shots", type=Path, required=True, help="folder for screenshots")
    parser.add_argument("--browser", help="the program (default: as report_browser.py finds it)")
    arguments = parser.parse_args()
    path = arguments.browser or next(filter(None, map(shutil.which, REPORT["BROWSERS"])), None)
    if path is None:
        sys.exit("no browser: name one with --browser")
    arguments.shots.mkdir(parents=True, exist_ok=True)
    faults, moved = [], {}
    with tempfile.TemporaryDirectory() as profile, web_server(arguments.set) as (url, sent):
        browser = REPORT["Browser"](path, Path(profile))
        try:
            for name, location in (("folder", str(arguments.set)), ("http", url)):
                with viewer(location, arguments.checkpoint) as address:
                    visit = Visit(browser, address, arguments.shots, name)
                    moved[name] = walk(visit, address, sent, redraw=arguments.checkpoint is not None)
                    faults += visit.faults
        finally:
            browser.close()
    whole = sum(file.stat().st_size for file in (arguments.set / "shards").iterdir())
    records = sum((arguments.set / file).stat().st_size for file in ("manifest.parquet", "shards.parquet"))
    for fault in faults:
        print(f"fault: {fault}")
    print(json.dumps({"faults": faults, "tars_bytes": whole, "tables_bytes": records, "moved_bytes": moved["http"]}))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
