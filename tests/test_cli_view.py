"""`caskit view` from the command line: it serves until it is asked to stop, and draws a sample again."""

import base64
import http.client
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from caskit import cli

GOLDEN = Path(__file__).parent / "gen" / "golden"


def pixels(data: bytes) -> list[Any]:
    image = Image.open(io.BytesIO(data))
    return [image.size, image.tobytes()]


def test_a_sample_is_drawn_again_by_its_checkpoint(tmp_path: Path) -> None:
    fitted = ["--gen", "cvae", "--data", f"{tmp_path}/real/train", "--set", "num_steps=3", "--set", "mixture_steps=2"]
    sampled = ["--gen", "cvae", "--checkpoint", f"{tmp_path}/fit", "--num", "40", "--executor", "inline"]
    commands = [
        ["data", "digits", "--out", f"{tmp_path}/real"],
        ["fit", *fitted, "--out", f"{tmp_path}/fit"],
        ["sample", *sampled, "--out", f"{tmp_path}/replica"],
    ]
    for command in commands:
        assert cli.main(command) == 0
    view = [sys.executable, "-m", "caskit.cli", "view", f"{tmp_path}/replica", "--checkpoint", f"{tmp_path}/fit"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(view, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            match = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", process.stdout.readline().strip())
            assert match is not None
            connection = http.client.HTTPConnection("127.0.0.1", int(match[1]), timeout=200)
            connection.request("GET", "/class/0")
            key = re.findall(r"/image/([A-Za-z0-9_-]+)", connection.getresponse().read().decode())[1]
            connection.request("POST", f"/redraw/{key}", headers={"Cookie": f"caskit-view={match[2]}"})
            page = connection.getresponse().read().decode()
            connection.request("GET", f"/image/{key}")
            stored = connection.getresponse().read()
            connection.close()
            assert "The checkpoint draws it: equal bytes." in page and page.count("data:image/png;base64,") == 3
            for shown in re.findall("data:image/png;base64,([A-Za-z0-9+/=]+)", page)[:2]:  # stored, drawn again
                assert pixels(base64.b64decode(shown)) == pixels(stored), "another sample of its microbatch is shown"
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere"], "no caskit set is there"),
        ([str(GOLDEN), "--port", "99999"], "no port"),
        ([f"{GOLDEN}@sha256:00000000"], "the reference asks for sha256:00000000"),
    ],
)
def test_mistakes_are_one_line(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main(["view", *flags])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 2 and message in capsys.readouterr().err
