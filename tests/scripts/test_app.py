"""The page as a server: who is answered, what is left on disk, and which weights are offered."""

import contextlib
import json
import math
import re
import signal
import stat
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from album import PHOTO
from conftest import assert_refused, run_script
from page_server import started_page
from PIL import Image

from app import find_weights
from utils.errors import InputError


@pytest.fixture
def pages(tmp_path):
    """Starts pages with a common folder for temporary files; returns the process and the address of each."""
    (tmp_path / "temporary").mkdir()
    with contextlib.ExitStack() as stack:
        yield lambda *options: started_page(stack, tmp_path / "temporary", *options)


def status_of(url: str, data: bytes | None = None, **headers: str) -> int:
    """The status of the answer to a request."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code if error.headers["Access-Control-Allow-Origin"] is None else 0


def upload(address: str) -> None:
    """Upload a file, as the page does."""
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nprivate\r\n--x--\r\n'
    assert status_of(f"{address}/gradio_api/upload", body, Content_Type="multipart/form-data; boundary=x") == 200


WRONG_CALLS = [
    b'{"data": []}',
    b'{"data": [1, 2, 3]}',
    b'{"data": [null, "no such weights", false]}',
    b'{"data": [[], "no such weights", false]}',
    b'{"data": [[{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}], "best.pt", false]}',
    b'{"data": [[{"path": "/etc/passwd.png", "meta": {"_type": "gradio.FileData"}}], "best.pt", false]}',
    b'{"data": [{"path": "/etc/passwd.png", "meta": {"_type": "gradio.FileData"}}, "best.pt", false]}',
]


@pytest.mark.extra
def test_other_names_and_origins_are_refused_and_wrong_calls_take_one_line_each(pages, small_weights, tmp_path):
    process, address = pages("--weights", small_weights)
    port = address.split(":")[-1]
    for path in ("", "/config", "/gradio_api/info", "/gradio_api/upload", "/gradio_api/file=/etc/passwd", "/theme.css"):
        for headers in ({"Host": f"evil.com:{port}"}, {"Origin": "http://evil.com"}, {"Sec_Fetch_Site": "cross-site"}):
            assert status_of(address + path, **headers) == 403, (path, headers)
    assert status_of(f"http://localhost:{port}/config", Origin=f"http://localhost:{port}") == 200
    assert status_of(f"{address}/gradio_api/file=/etc/passwd") == 403
    Image.fromarray(PHOTO).save(tmp_path / "private.png")
    private = {"path": str(tmp_path / "private.png"), "meta": {"_type": "gradio.FileData"}}
    calls = [*WRONG_CALLS, json.dumps({"data": [[private], str(small_weights), False]}).encode()]
    for call in calls:
        url = f"{address}/gradio_api/run/restore_upload"
        assert status_of(url, call, Content_Type="application/json") == 500
    assert status_of(f"{address}/gradio_api/custom_component/%1b[31m/client/a/b") == 400
    process.terminate()
    lines = process.stdout.read().splitlines()
    assert len(lines) == len(calls), lines
    assert all(line.startswith("error: ") for line in lines)


@pytest.mark.extra
def test_uploads_are_private_and_removed_at_the_end_or_at_the_next_start(pages, small_weights, tmp_path):
    temporary = tmp_path / "temporary"
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        process, address = pages("--weights", small_weights)
        upload(address)
        (folder,) = temporary.iterdir()  # that of a killed page before it is gone
        files = list(folder.rglob("*"))
        assert [path.read_text() for path in files if path.name == "a.png"] == ["private"]
        assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, *files)} == {0o700, 0o600}
        process.send_signal(number)
        assert process.wait(30) in (-signal.SIGKILL, 75, 130)
        assert folder.exists() == (number == signal.SIGKILL)
    assert list(temporary.iterdir()) == []


def test_only_weights_that_load_are_offered(small_weights, tmp_path, capsys):
    content = small_weights.read_bytes()
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("last.pt", "best.pt", "last.previous.pt"):
        (folder / name).write_bytes(content)
    checkpoint = torch.load(small_weights, weights_only=True)
    torch.save({"optimizer": torch.zeros(3)}, folder / "optimizer.pt")
    torch.save(checkpoint | {"model": checkpoint["model"] | {"more": torch.zeros(1)}}, folder / "another.pth")
    checkpoint["model"]["heads.2.bias"] += math.nan
    torch.save(checkpoint, folder / "diverged.pt")
    (folder / "last.damaged.pt").write_bytes(content[: len(content) // 2])
    (folder / "text.pkl").write_text("text")
    (folder / "empty.safetensors").touch()
    (folder / "notes.txt").write_text("text")
    assert [Path(name).name for name in find_weights([tmp_path])] == ["best.pt", "last.previous.pt", "last.pt"]
    notes = capsys.readouterr().err.splitlines()
    unusable = ("another.pth", "diverged.pt", "empty.safetensors", "last.damaged.pt", "optimizer.pt", "text.pkl")
    assert len(notes) == len(unusable)
    for note, name in zip(notes, unusable, strict=True):
        assert note.startswith(f"note: left out: {folder / name}: ")
    with pytest.raises(InputError, match=re.escape("last.damaged.pt")):
        find_weights([folder / "best.pt", folder / "last.damaged.pt"])


def test_a_page_without_weights_says_so(tmp_path):
    assert_refused(run_script("app.py", "--weights", tmp_path), "no weights", tmp_path)
