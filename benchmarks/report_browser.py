"""A report opened in headless Chromium: no error, no request, tables sort and search, nothing wider than the page.

    benchmarks/report_browser.py report.html --shots DIR

Run by hand, for no browser comes with the test dependencies: any Chromium or Chrome will do (Debian's `chromium`, or
`--browser PATH`). It is driven through --remote-debugging-pipe, so nothing else is needed. Screenshots are made at
desktop and phone width, on paper, in the dark and without colour: look at them. The last line printed is JSON; exit
code 1 if there is a fault.
"""

import argparse
import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")
MAX_BYTES = 10_000_000
MAX_HEIGHT = 8000  # of a screenshot, pixels
DESKTOP, PHONE, PAPER = (1280, 900, 1.0), (390, 844, 2.0), (794, 1123, 1.0)  # width, height, pixels per pixel

# What a reader does, and what they would see: every heading of every sortable table twice, then a search.
USE_TABLES = """
(() => {
  const faults = [];
  let tables = 0, sorted = 0;
  for (const table of document.querySelectorAll("table.sortable")) {
    tables += 1;
    const headings = Array.from(table.tHead.rows[0].cells);
    const number = (text) => Number.parseFloat(text.replace("\\u2212", "-").replaceAll(",", ""));
    headings.forEach((heading, column) => {
      for (const falling of [false, true]) {
        heading.querySelector("button").click();
        const texts = Array.from(table.tBodies[0].rows, (row) => row.cells[column].textContent.trim());
        const values = heading.className === "number"
          ? texts.map(number).map((v) => Number.isNaN(v) ? -Infinity : v) : texts.map((t) => t.toLowerCase());
        for (let i = 1; i < values.length; i += 1) {
          const [a, b] = falling ? [values[i], values[i - 1]] : [values[i - 1], values[i]];
          if (a > b) { faults.push(`${heading.textContent}: ${values[i - 1]} before ${values[i]}`); break; }
        }
        if (heading.getAttribute("aria-sort") !== (falling ? "descending" : "ascending")) {
          faults.push(`${heading.textContent}: aria-sort is ${heading.getAttribute("aria-sort")}`);
        }
        sorted += 1;
      }
    });
    const rows = Array.from(table.tBodies[0].rows);
    const wanted = rows[rows.length >> 1].cells[2].textContent.trim();
    const input = table.closest("details").querySelector("input[type=search]");
    input.value = wanted;
    input.dispatchEvent(new Event("input"));
    for (const row of rows) {
      const due = row.textContent.toLowerCase().includes(wanted.toLowerCase());
      if (row.hidden === due) { faults.push(`search for ${wanted}: ${row.cells[2].textContent}`); break; }
    }
    input.value = "no class is called this";
    input.dispatchEvent(new Event("input"));
    if (rows.some((row) => !row.hidden)) { faults.push("search for nothing finds something"); }
    input.value = "";
    input.dispatchEvent(new Event("input"));
    if (rows.some((row) => row.hidden)) { faults.push("an empty search hides rows"); }
  }
  return {faults, tables, sorted};
})()
"""
WIDTHS = "({page: document.documentElement.scrollWidth, window: window.innerWidth, height: document.body.scrollHeight})"
OPEN_ALL = "for (const one of document.querySelectorAll('details')) { one.open = true; }"


class Browser:
    """Chromium behind a pair of pipes, with one page."""

    def __init__(self, path: str, profile: Path) -> None:
        """Start it."""
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        words = [
            path, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--hide-scrollbars", f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        command = f"exec {shlex.join(words)} 3<&{to_read} 4>&{to_write}"
        self._process = subprocess.Popen(
            ["bash", "-c", command], pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events on the way are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            found = self._read()
            if found.get("id") != self._number:
                self.events.append(found)
            elif "error" in found:
                raise RuntimeError(f"{method}: {found['error']}")
            else:
                return dict(found["result"])

    def wait(self, method: str) -> None:
        """Read until an event of that name came."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._read())

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._from, 2**20)
            if not data:
                raise RuntimeError("the browser has ended")
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(message))

    def evaluate(self, expression: str) -> Any:
        """Run an expression in the page; the page's own policy does not hold for it."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


def look(browser: Browser, page: Path, shots: Path | None) -> dict[str, Any]:
    """Open the page, use it, and return what was found; `faults` is empty if all is well."""
    address, faults = page.resolve().as_uri(), []
    browser.call("Page.navigate", url=address)
    browser.wait("Page.loadEventFired")
    used = browser.evaluate(USE_TABLES)
    faults += used["faults"]
    heights = {}
    for name, (width, height, scale), features in (
        ("desktop", DESKTOP, {}),
        ("phone", PHONE, {}),
        ("dark", DESKTOP, {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}),
        ("paper", PAPER, {"media": "print"}),
        ("grey", DESKTOP, {}),
    ):
        browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
            mobile=name == "phone",
        )  # fmt: skip
        browser.call("Emulation.setEmulatedMedia", **({"media": "", "features": []} | features))
        vision = "achromatopsia" if name == "grey" else "none"
        browser.call("Emulation.setEmulatedVisionDeficiency", type=vision)
        found = browser.evaluate(WIDTHS)
        heights[name] = found["height"]
        if found["page"] > width:
            faults.append(f"{name}: the page is {found['page']} pixels wide, the window {width}")
        if shots is not None:
            shoot(browser, shots, name, width, found["height"])
    browser.evaluate(OPEN_ALL)
    opened = browser.evaluate(WIDTHS)
    if opened["page"] > DESKTOP[0]:
        faults.append(f"with all tables open the page is {opened['page']} pixels wide")
    for event in browser.events:
        faults += told(event, address)
    size = page.stat().st_size
    if size >= MAX_BYTES:
        faults.append(f"the file has {size:,} bytes, {MAX_BYTES:,} are allowed")
    return {"faults": faults, "tables": used["tables"], "sorted": used["sorted"], "bytes": size, "heights": heights}


def told(event: dict[str, Any], address: str) -> list[str]:
    """Return what an event says against the page: errors and warnings, and any request but for the page itself."""
    method, found = event.get("method"), event.get("params", {})
    if method == "Network.requestWillBeSent":
        url = found["request"]["url"]
        return [] if url == address or url.startswith(("data:", "about:")) else [f"request: {url}"]
    if method == "Log.entryAdded" and found["entry"]["level"] in ("error", "warning"):
        return [f"console: {found['entry']['text']}"]
    if method == "Runtime.exceptionThrown":
        return [f"exception: {found['exceptionDetails']['text']}"]
    if method == "Runtime.consoleAPICalled" and found["type"] in ("error", "warning", "assert"):
        return [f"console: {found['args']}"]
    return []


def shoot(browser: Browser, shots: Path, name: str, width: int, height: int) -> None:
    """Save the page in pieces of MAX_HEIGHT."""
    shots.mkdir(parents=True, exist_ok=True)
    for piece, top in enumerate(range(0, height, MAX_HEIGHT)):
        clip = {"x": 0, "y": top, "width": width, "height": min(MAX_HEIGHT, height - top), "scale": 1}
        found = browser.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        (shots / f"{name}-{piece}.png").write_bytes(base64.b64decode(found["data"]))


def main() -> None:
    """Check one page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--shots", type=Path, help="folder for screenshots")
    parser.add_argument("--browser", help=f"the program (default: the first there is of {', '.join(BROWSERS)})")
    arguments = parser.parse_args()
    path = arguments.browser or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        sys.exit(f"no browser: name one with --browser, or install one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(path, Path(profile))
        try:
            found = look(browser, arguments.page, arguments.shots)
        finally:
            browser.close()
    for fault in found["faults"]:
        print(f"fault: {fault}")
    print(json.dumps(found))
    sys.exit(1 if found["faults"] else 0)


if __name__ == "__main__":
    main()
