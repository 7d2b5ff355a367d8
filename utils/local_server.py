"""Serve a web application to the user of this machine, and to nobody else."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from utils.errors import InputError, printable
from utils.signals import INTERRUPTED, STOPPED, end_now

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

HOST = "127.0.0.1"
LOCK = ".lock"  # in each private folder, locked by the process that uses it
HALF_REMOVED = 60  # seconds after which a folder without a lock belongs to no process


class OnlyThisMachine:
    """An ASGI application that refuses, with status 403, what pages of other sites ask for; status 400 strange paths.

    A site may point its own name at 127.0.0.1 (DNS rebinding), which the Host header tells. Requests that its pages
    send to our address have its Origin, or say that they come from another site (Sec-Fetch-Site). Headers of proxies
    are dropped: there is none.
    """

    def __init__(self, app, port: int) -> None:
        self.app = app
        names = [f"{name}{suffix}" for name in (HOST, "localhost") for suffix in (f":{port}", *([""] * (port == 80)))]
        self.hosts = {name.encode() for name in names}
        self.origins = {f"http://{name}".encode() for name in names}

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif not scope["path"].isprintable():  # gradio prints parts of it
            await _refuse(scope, send, 400, b"The path contains control characters.\n")
        elif self._is_allowed(scope["headers"]):
            proxies = (b"x-forwarded", b"forwarded")
            headers = [item for item in scope["headers"] if not item[0].lower().startswith(proxies)]
            await self.app({**scope, "headers": headers}, receive, send)
        else:
            await _refuse(scope, send, 403, b"This page is served to this machine only.\n")

    def _is_allowed(self, headers: list[tuple[bytes, bytes]]) -> bool:
        def values(wanted: bytes) -> list[bytes]:
            return [value.strip().lower() for name, value in headers if name.lower() == wanted]

        hosts, origins = values(b"host"), values(b"origin")
        from_elsewhere = not {b"cross-site", b"same-site"}.isdisjoint(values(b"sec-fetch-site"))
        followed_a_link = values(b"sec-fetch-mode") == [b"navigate"] and not origins
        return (
            len(hosts) == 1
            and hosts[0] in self.hosts
            and self.origins.issuperset(origins)
            and (followed_a_link or not from_elsewhere)
        )


async def _refuse(scope, send, status: int, reason: bytes) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason})


def private_folder(name: str) -> Path:
    """Make a temporary folder that only this user can read, for this process; those of ended processes are removed.

    From now on, all files and folders that this process makes have the modes 0600 and 0700.
    """
    os.umask(0o077)
    prefix = f"{name}-{os.getuid() if hasattr(os, 'getuid') else 'user'}-"
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            if not folder.is_symlink() and (not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()):
                _remove_if_unused(folder)
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    if fcntl is not None:
        fcntl.flock(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)  # until the process ends
    return folder


def _remove_if_unused(folder: Path) -> None:
    if fcntl is None:
        return
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:  # half removed, or not locked yet
        if time.time() - folder.stat().st_mtime > HALF_REMOVED:
            shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises OSError while its process lives
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def listen(port: int) -> socket.socket:
    """Open a port of this machine for connections from this machine.

    Raises:
        InputError: the port is not free.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # from now on, connections wait until the server takes them
    except OSError as error:
        listener.close()
        raise InputError(f"--port {port}: {error.strerror}; choose another --port") from None
    return listener


def serve(app, listener: socket.socket, folder: Path) -> None:
    """Serve an ASGI application until SIGTERM or Ctrl-C, and remove ``folder`` then; errors take one line on stderr."""
    import uvicorn

    traceback.print_exc = _print_error  # how gradio reports what a call has raised
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)

    def end(number: int, frame) -> None:
        _remove_and_end(folder, INTERRUPTED if number == signal.SIGINT else STOPPED)

    port = listener.getsockname()[1]
    options = {"log_config": None, "access_log": False, "proxy_headers": False, "server_header": False}
    server = uvicorn.Server(uvicorn.Config(OnlyThisMachine(app, port), **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    thread.start()
    print(f"Running on local URL: http://{HOST}:{port}; Ctrl-C stops it and removes all uploads")
    try:
        while thread.is_alive():
            thread.join(1)  # handlers of signals run in between
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_and_end(folder: Path, status: int) -> None:
    """End the process after its threads, which could go on writing to the folder, have ended and it is removed.

    All threads end when the process executes another program.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # in the other program, too
    remove = "import shutil, sys; shutil.rmtree(sys.argv[1], True); sys.exit(int(sys.argv[2]))"
    with contextlib.suppress(OSError):
        os.execv(sys.executable, [sys.executable, "-IS", "-c", remove, str(folder), str(status)])
    shutil.rmtree(folder, ignore_errors=True)
    end_now(status)


class _OneLine(logging.Formatter):
    """A record and its exception in one line, without a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        reason = f"{type(error).__name__}: {error}" if error else ""
        return printable(f"{record.levelname.lower()}: {record.getMessage().splitlines()[0]} {reason}")


def _print_error(*_, **__) -> None:
    error = sys.exception()
    print(printable(f"error: {type(error).__name__}: {error}"), file=sys.stderr)
