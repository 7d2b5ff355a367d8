"""Who is answered by a page of this machine, and what it leaves on disk."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile

import pytest
from conftest import ROOT

from utils.errors import InputError
from utils.local_server import OnlyThisMachine, listen, private_folder

OURS = ("127.0.0.1:7860", "localhost:7860", "LOCALHOST:7860")
FOREIGN = ("evil.com", "evil.com:7860", "127.0.0.1", "127.0.0.1:80", "localhost.evil.com:7860", "0.0.0.0:7860", "")


def status_of(*headers: tuple[str, str], kind: str = "http", path: str = "/") -> tuple[int | str, list]:
    """The status of the answer to a request, and the headers that the application saw."""
    sent, seen = [], []

    async def app(scope, receive, send) -> None:
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": kind, "path": path, "headers": [(name.encode(), value.encode()) for name, value in headers]}
    asyncio.run(OnlyThisMachine(app, 7860)(scope, None, send))
    return sent[0].get("status", sent[0]["type"]), seen


@pytest.mark.parametrize("host", OURS)
def test_our_own_page_is_answered(host):
    assert status_of(("host", host))[0] == 200
    assert status_of(("host", host), ("origin", f"http://{host}"), ("sec-fetch-site", "same-origin"))[0] == 200
    assert status_of(("host", host), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"))[0] == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_for_this_machine_are_refused(host):
    assert status_of(("host", host)) == (403, [])
    assert status_of(("host", host), ("origin", f"http://{host}")) == (403, [])
    assert status_of(("host", OURS[0]), ("host", host)) == (403, [])
    assert status_of(("host", host), kind="websocket") == ("websocket.close", [])


@pytest.mark.parametrize(
    "origin", [*(f"http://{host}" for host in FOREIGN), "null", "https://localhost:7860", "file://"]
)
def test_pages_of_other_sites_are_refused(origin):
    assert status_of(("host", OURS[0]), ("origin", origin)) == (403, [])
    assert status_of(("host", OURS[0]), ("origin", f"http://{OURS[0]}"), ("origin", origin)) == (403, [])


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_images_and_forms_on_pages_of_other_sites_are_refused(site):
    for mode in ("no-cors", "cors", "websocket"):
        assert status_of(("host", OURS[0]), ("sec-fetch-site", site), ("sec-fetch-mode", mode)) == (403, [])
    form = (("sec-fetch-site", site), ("sec-fetch-mode", "navigate"), ("origin", f"http://{OURS[0]}"))
    assert status_of(("host", OURS[0]), *form) == (403, [])


def test_a_request_without_a_name_is_refused_and_headers_of_proxies_are_dropped():
    assert status_of() == (403, [])
    answer = status_of(("host", OURS[0]), ("X-Forwarded-Host", "evil.com"), ("forwarded", "host=evil.com"))
    assert answer == (200, [(b"host", OURS[0].encode())])


def test_a_path_with_control_characters_is_refused():
    assert status_of(("host", OURS[0]), path="/file=restored_Grüße 雾.png")[0] == 200
    assert status_of(("host", OURS[0]), path="/\x1b[31m") == (400, [])


def test_a_port_in_use_is_refused():
    with listen(0) as first, pytest.raises(InputError, match=r"--port \d+: Address already in use"):
        listen(first.getsockname()[1])


ENDING = """
import os, sys, threading
from pathlib import Path
from utils.local_server import listen, private_folder, serve
folder = private_folder("page")
def write():
    while True:
        (folder / os.urandom(3).hex()).mkdir(parents=True, exist_ok=True)
for _ in range(4):
    threading.Thread(target=write, daemon=True).start()
print(folder, flush=True)
serve(None, listen(0), folder)
"""


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_nothing_is_left_though_threads_still_write(tmp_path, number, status):
    pytest.importorskip("uvicorn", reason="pip install -r requirements-extra.txt")
    command = {"cwd": ROOT, "env": os.environ | {"TMPDIR": str(tmp_path)}, "text": True}
    with subprocess.Popen([sys.executable, "-c", ENDING], **command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert process.stdout.readline().startswith("Running on local URL")
        process.send_signal(number)
        assert process.wait(60) == status
    assert list(tmp_path.iterdir()) == []


CODE = "from utils.local_server import private_folder; f = private_folder('page'); (f / 'a.png').touch(); print(f)"


def test_folders_are_private_and_those_of_ended_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    command = {"cwd": ROOT, "env": os.environ | {"TMPDIR": str(tmp_path)}, "text": True}
    ended = subprocess.run([sys.executable, "-c", CODE], **command, capture_output=True, check=True).stdout.strip()
    assert set(os.listdir(ended)) == {".lock", "a.png"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".lock").touch()
    os.symlink(tmp_path / "mine", tmp_path / f"page-{os.getuid()}-link")
    half_removed, starting = (tmp_path / f"page-{os.getuid()}-{name}" for name in ("half", "new"))
    for folder in (half_removed, starting):
        folder.mkdir()
    os.utime(half_removed, (0, 0))
    before = os.umask(0o022)
    try:
        first = private_folder("page")
        assert (os.path.exists(ended), half_removed.exists(), starting.exists()) == (False, False, True)
        second = private_folder("page")
        (second / "b.png").touch()
    finally:
        os.umask(before)
    assert {path.name for path in tmp_path.iterdir()} >= {first.name, second.name, "mine"}  # all in use, or not ours
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (first, second, second / "b.png", second / ".lock")]
    assert modes == [0o700, 0o700, 0o600, 0o600]
