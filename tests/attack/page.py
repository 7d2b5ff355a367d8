"""The page attacked by other sites, wrong calls and hostile uploads: it serves its own user, and nothing is left."""

import contextlib
import http.client
import importlib.util
import io
import json
import signal
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
from album import PHOTO, SOUND, encoded, png_of
from PIL import Image

from attack.images import mutated
from attack.judge import Running, Trial, Victim, faults_of

API = "/gradio_api"
UPLOAD, CALL = f"{API}/upload", f"{API}/run/restore_upload"
JSON = (("Content-Type", "application/json"),)
MULTIPART = (("Content-Type", "multipart/form-data; boundary=xyz"),)
SECONDS = 60  # for an answer
MEGABYTES = 300  # largest upload

ROUTES = [
    *(("GET", path) for path in ("/", "/config", "/theme.css", f"{API}/info", f"{API}/openapi.json", f"{API}/token")),
    *(("GET", f"{API}/{path}") for path in ("file=/etc/passwd", "queue/status", "startup-events", "app_id")),
    *(("POST", path) for path in (UPLOAD, CALL, f"{API}/call/restore_upload", f"{API}/queue/join", "/login")),
    *(("OPTIONS", path) for path in ("/", UPLOAD, CALL)),
    ("HEAD", "/"),
    ("GET", "/no/such/path"),
]
HOSTS = [
    *("evil.com:PORT", "evil.com", "127.0.0.1.evil.com:PORT", "localhost.evil.com", "evil.com:80", "0.0.0.0:PORT"),
    *("[::1]:PORT", "127.1:PORT", "localhost.:PORT", "127.0.0.1:1", "localhost", "evil@127.0.0.1:PORT", "", "\xff"),
    *("127.0.0.1:PORT, evil.com", "127.0.0.1:PORT/evil.com", "evil.com/127.0.0.1:PORT", "x" * 5000),
]
ORIGINS = [
    *("http://evil.com", "http://evil.com:PORT", "null", "https://127.0.0.1:PORT", "http://127.0.0.1:1", "file://"),
    *("http://127.0.0.1:PORT.evil.com", "http://evil.com, http://127.0.0.1:PORT", "", "http://127.0.0.1:PORT/"),
]
SITES = ["cross-site", "same-site"]

# How a path outside of the folder may be disguised: FOLDER is the page's, SECRET the path without its first slash.
DISGUISES = [
    *("/SECRET", "//SECRET", "../../../../../../../SECRET", "FOLDER/../../../../../../SECRET", "%2FSECRET"),
    *("..%2f..%2f..%2f..%2f..%2f..%2fSECRET", "%252e%252e%252f%252e%252e%252fSECRET", "file:///SECRET"),
    *("/proc/self/root/SECRET", "FOLDER/.lock/../../SECRET", "/SECRET%00.png", "http://127.0.0.1:PORT/SECRET"),
    *("\\SECRET", "....//....//SECRET", "/SECRET?x", "/./SECRET"),
]
SERVED = [f"{API}/file=", f"{API}/file/", "/static/", "/assets/", "/svelte/", f"{API}/proxy=", f"{API}/stream/"]
SERVED += [f"{API}/custom_component/a/client/b/", "/file=", "/"]

VALUES = [
    *("null", "true", "-1", "0.5", "1e999", "NaN", '""', '"x"', "[]", "{}", '"\\ud800"', "[[[[]]]]", '{"path": 1}'),
    *(
        '{"path": "/etc/passwd"}',
        '{"path": "x", "url": "http://127.0.0.1:1", "meta": {"_type": "gradio.FileData"}}',
    ),
    *('{"path": "http://127.0.0.1:1/x.png", "meta": {"_type": "gradio.FileData"}}', '"' + "x" * 100_000 + '"'),
    *('{"path": "/dev/zero", "meta": {"_type": "gradio.FileData"}}', "9" * 5000, '{"__type__": "update"}'),
]
CALLS = ["run/restore_upload", "api/restore_upload", "run/none", "run/%00", "call/v2/none", "call/none", "queue/join"]
CALLS += ["component_server", "cancel", "reset", "stream/x", "vibe-edit", "vibe-code", "process_recording", "upload"]
BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"{" * 50_000,
    b'{"data":' + b"[" * 50_000,
    b"x=1&y=2",
    b'{"data": []}',
]

PATHS = [f"{API}/{path}" for path in ("custom_component/%1b[31m/client/b/c", "queue/data", "stream/a/b/1/c.ts")]
PATHS += ["/%0aerror: x", "/%00", "/%ff", "//evil.com/", "/pwa_icon/x", "/" + "x" * 9000]

NAMES = [
    *(
        "../../evil.png",
        "/tmp/evil.png",
        "..\\..\\evil.png",
        "a/b.png",
        ".lock",
        "..",
        ".",
        "",
        " ",
        "x" * 300 + ".png",
    ),
    *("a\x1b[31m.png", "a\nb.png", "a\0b.png", "\u202egnp.exe", "ä雾.png", "%2e%2e%2fevil.png", '"; rm -rf x; ".png'),
    *("CON.png", "a.png/", "-rf", "a.html", "a.svg", "~root.png", "$HOME.png"),
]
LOOP = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\nshowpage\n"
PROGRAMS = {
    "PostScript": LOOP,
    "PostScript with a preview": struct.pack("<7IH", 0xC6D3D0C5, 30, len(LOOP), 0, 0, 0, 0, 0xFFFF) + LOOP,
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
    "HTML": b"<script>alert(1)</script>",
    "a playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    "MVG": b"push graphic-context\nimage over 0,0 0,0 'https://evil.com/x'\npop graphic-context\n",
    "a bomb": png_of(60_000, 60_000),
    "nothing": b"",
}


@dataclass
class Answer:
    """An answer to a request; the status is None if the connection was closed without one."""

    status: int | None
    headers: Mapping[str, str]
    body: bytes


class Page:
    """A running page.

    Attributes:
        folder: where it keeps uploads and results.
        refused: the requests that did not succeed: each may be reported in a line.
        known: files with wrong modes, reported already.
    """

    def __init__(self, victim: Victim, temporary: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.temporary, self.choice = temporary, str(victim.weights)
        self.refused: list[str] = []
        self.known: set[Path] = set()
        before = set(temporary.iterdir())
        arguments = ["--weights", victim.weights, "--port", self.port]
        self.script = Running("app.py", *arguments, temporary=temporary)
        end = time.monotonic() + 2 * SECONDS
        while "Running on local URL" not in self.script.stdout.text() and time.monotonic() < end:
            time.sleep(0.02)
        (self.folder,) = set(temporary.iterdir()) - before

    def ask(self, method: str, path: str, body: bytes = b"", headers: tuple = (), host: str | None = None) -> Answer:
        """Send a request with any headers, and read at most a megabyte of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        answer = Answer(None, {}, b"")
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("Host", self.named("127.0.0.1:PORT" if host is None else host))
            for name, value in headers:
                connection.putheader(name, self.named(value))
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            with contextlib.suppress(OSError):  # refused before it is read
                connection.send(body)
            response = connection.getresponse()
            answer = Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, b"")
            answer.body = response.read(2**20)
        if answer.status != 200:
            self.refused.append(path)
        return answer

    def named(self, text: str) -> str:
        """A text with this page's port and folder."""
        return text.replace("PORT", str(self.port)).replace("FOLDER", str(self.folder))

    def upload(self, name: str, content: bytes) -> Answer:
        """Upload a file as the page's own script does."""
        disposition = f'Content-Disposition: form-data; name="files"; filename="{name}"'.encode(errors="replace")
        body = b"--xyz\r\n%s\r\nContent-Type: image/png\r\n\r\n%s\r\n--xyz--\r\n" % (disposition, content)
        return self.ask("POST", UPLOAD, body, MULTIPART)

    def restore(self, path: str) -> Answer:
        """Ask for a file, which should have been uploaded, to be restored."""
        data = [[{"path": path, "meta": {"_type": "gradio.FileData"}}], self.choice, False]
        return self.ask("POST", CALL, json.dumps({"data": data}).encode(), JSON)

    def restored(self, name: str, content: bytes) -> Answer:
        """Upload a file and ask for it to be restored; the answer to what fails."""
        stored = self.upload(name, content)
        return self.restore(json.loads(stored.body)[0]) if stored.status == 200 else stored

    def exposed(self) -> list[str]:
        """Files that others could read, or that lie outside of the page's folder."""
        faults = [f"{path} lies beside the folder" for path in self.temporary.iterdir() if path != self.folder]
        for path in (self.folder, *self.folder.rglob("*")):
            with contextlib.suppress(FileNotFoundError):
                mode = stat.S_IMODE(path.lstat().st_mode)
                if mode != (0o700 if path.is_dir() else 0o600) and path not in self.known:
                    self.known.add(path)
                    faults.append(f"{path.name} has the mode {mode:o}")
        return faults[:3]

    def ended(self, number: signal.Signals) -> list[str]:
        """End it by a signal; returns what is wrong with that, and with all that it has printed."""
        self.script.send(number)
        outcome = self.script.ended(SECONDS)
        wanted = {signal.SIGTERM: 75, signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[number]
        faults = [] if outcome.status == wanted else [f"status {outcome.status} after {number.name}"]
        faults += faults_of(replace(outcome, status=0))
        lines = outcome.stderr.splitlines()
        if len(lines) > len(self.refused):
            faults.append(f"{len(lines)} lines for {len(self.refused)} refused requests, the last: {lines[-1][:200]}")
        if self.folder.exists() != (number == signal.SIGKILL):
            faults.append("uploads are left" if self.folder.exists() else "uploads are gone")
        return faults


def attack(folder: Path, victim: Victim, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """Attack the page ``count`` times; it is started anew after each round of attacks."""
    if importlib.util.find_spec("gradio") is None:
        print("page: skipped, since gradio is not installed (pip install -r requirements-extra.txt)")
        return
    (folder / "temporary").mkdir()
    page = Page(victim, folder / "temporary")
    for index in range(count):
        name, faults = ATTACKS[index % len(ATTACKS)](page, victim, rng)
        yield Trial(name, [*faults, *page.exposed()])
        if index % ROUND == ROUND - 1:
            number = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT)[index // ROUND % 3]
            yield Trial(f"{number.name} in the middle of work", ended_at_work(page, victim, number, rng))
            page = Page(victim, folder / "temporary")
    yield Trial("the end", page.ended(signal.SIGTERM))


def ended_at_work(page: Page, victim: Victim, number: signal.Signals, rng: np.random.Generator) -> list[str]:
    """End the page while it receives and restores images."""
    content = victim.image.read_bytes()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(12):
            pool.submit(page.restored, "a.png", content)
        time.sleep(rng.uniform(0, 0.5))
        return page.ended(number)


def from_elsewhere(page: Page, victim: Victim, rng: np.random.Generator) -> tuple[str, list[str]]:
    """What a page of another site could send."""
    method, path = ROUTES[rng.integers(len(ROUTES))]
    kind = rng.integers(3)
    host, headers = None, JSON if method == "POST" else ()
    if kind == 0:
        host = HOSTS[rng.integers(len(HOSTS))]
        headers += (("Origin", f"http://{host[:99]}"),) if rng.random() < 0.5 else ()
    elif kind == 1:
        headers += (("Origin", ORIGINS[rng.integers(len(ORIGINS))]),)
    else:
        headers += (("Sec-Fetch-Site", SITES[rng.integers(len(SITES))]),)
    if rng.random() < 0.3:
        headers += (("X-Forwarded-Host", "127.0.0.1:PORT"), ("X-Forwarded-Proto", "http"))
    answer = page.ask(method, path, b'{"data": []}' if method == "POST" else b"", headers, host)
    faults = [] if answer.status in (400, 403) else [f"answered with status {answer.status}"]
    faults += [f"{name} sent" for name in answer.headers if name.startswith("access-control-allow")]
    return f"{method} {path} from elsewhere: Host {host!r:.60}, {headers!r:.200}", faults


def outside(page: Page, victim: Victim, rng: np.random.Generator) -> tuple[str, list[str]]:
    """A path that leads out of the page's folder, asked for or given to be restored."""
    secret = [victim.image, Path("/etc/passwd"), victim.weights][rng.integers(3)]
    disguise = DISGUISES[rng.integers(len(DISGUISES))]
    path = page.named(disguise.replace("SECRET", str(secret)[1:]))
    if rng.random() < 0.4:
        answer = page.restore(path)
        return f"restoring {disguise}", [] if answer.status != 200 else ["restored, though it was never uploaded"]
    served = SERVED[rng.integers(len(SERVED))]
    answer = page.ask("GET", served + quote(path, safe="/%?:\\"))
    content = secret.read_bytes()
    known = answer.body and answer.body[:200] in content
    return f"reading {served}{disguise} for {secret.name}", ["the file is served"] if known else []


def wrong_call(page: Page, victim: Victim, rng: np.random.Generator) -> tuple[str, list[str]]:
    """A call with any body, or of any path."""
    if rng.random() < 0.2:
        path = PATHS[rng.integers(len(PATHS))]
        answer = page.ask("GET", path)
        return path, [] if answer.status in (400, 403, 404, 422, None) else [f"answered with status {answer.status}"]
    route = f"{API}/{CALLS[rng.integers(len(CALLS))]}"
    values = [VALUES[index] for index in rng.integers(len(VALUES), size=rng.integers(5))]
    body = b'{"data": [%s], "fn_index": %d, "session_hash": "x", "event_id": %s}' % (
        ", ".join(values).encode(),
        rng.integers(-2, 3),
        VALUES[rng.integers(len(VALUES))].encode(),
    )
    if rng.random() < 0.3:
        body = BODIES[rng.integers(len(BODIES))]
    answer = page.ask("POST", route, body, JSON if rng.random() < 0.8 else MULTIPART)
    wrong = answer.status is None or (answer.status == 200 and "restore_upload" in route)
    return f"{route} with {body[:200]!r}", [f"answered with status {answer.status}"] if wrong else []


def strange_upload(page: Page, victim: Victim, rng: np.random.Generator) -> tuple[str, list[str]]:
    """An upload with a strange name, or too large, or of a client that never ends its request."""
    kind = rng.integers(5)
    if kind == 0:
        before = sizes(page.folder)
        answer = page.upload("a.png", bytes((MEGABYTES + 1) * 2**20))
        faults = [] if answer.status in (413, None) else [f"answered with status {answer.status}"]
        return "an upload that is too large", faults + (["the upload is kept"] if sizes(page.folder) - before else [])
    if kind == 1:
        sockets = [socket.create_connection(("127.0.0.1", page.port), SECONDS) for _ in range(60)]
        for number, client in enumerate(sockets):
            head = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % (UPLOAD.encode(), page.port)
            rest = b"Content-Type: multipart/form-data; boundary=xyz\r\nContent-Length: 99999\r\n\r\n--xyz\r\n"
            client.sendall((head + rest)[: 20 + 2 * number])
        answer = page.ask("GET", "/config")
        for client in sockets:
            client.close()
        page.refused += [UPLOAD] * len(sockets)
        return "60 requests without an end", [] if answer.status == 200 else [f"status {answer.status} for others"]
    name = NAMES[rng.integers(len(NAMES))]
    answer = page.upload(name, victim.image.read_bytes())
    faults = [] if answer.status in (200, 400, 500) else [f"answered with status {answer.status}"]
    if answer.status == 200:
        stored = [Path(path) for path in json.loads(answer.body)]
        faults += [f"stored as {path}" for path in stored if page.folder not in path.resolve().parents]
    return f"an upload called {name!r:.60}", faults


def sizes(folder: Path) -> set[tuple[str, int]]:
    """The files below a folder that are not empty."""
    return {(str(path), path.stat().st_size) for path in folder.rglob("*") if path.is_file() and path.stat().st_size}


def hostile_image(page: Page, victim: Victim, rng: np.random.Generator) -> tuple[str, list[str]]:
    """A file that is no image, or a mutated one, restored: a result, or an error."""
    if rng.random() < 0.4:
        kind = list(PROGRAMS)[rng.integers(len(PROGRAMS))]
        name, content = "a" + [".png", ".jpg", ".tif", ".webp", ".mp4", ".mkv"][rng.integers(6)], PROGRAMS[kind]
    else:
        name = list(SOUND)[rng.integers(len(SOUND))]
        kind, content = mutated(SOUND[name], rng)
    answer = page.restored(name, content)
    if answer.status == 200 and kind not in PROGRAMS:
        return f"{kind} as {name}", unsound(page, answer)
    return f"{kind} as {name}", [] if answer.status == 500 else [f"answered with status {answer.status}"]


def unsound(page: Page, answer: Answer, size: tuple[int, int] | None = None) -> list[str]:
    """What is wrong with a result; its width and height are ``size``."""
    path = json.loads(answer.body)["data"][1]["value"][0]["path"]
    result = page.ask("GET", f"{API}/file={quote(path)}")
    try:
        with Image.open(io.BytesIO(result.body)) as image:
            image.load()
            return [] if size in (None, image.size) else [f"the result has {image.size} pixels, not {size}"]
    except Exception as error:
        return [f"the result cannot be read: {error}"]


def crowd(page: Page, victim: Victim, rng: np.random.Generator) -> tuple[str, list[str]]:
    """Eight users at once: each gets the result of its own image."""

    def user(width: int) -> list[str]:
        size = (width, 40)
        answer = page.restored("a.png", encoded(Image.fromarray(PHOTO).resize(size), "PNG"))
        return unsound(page, answer, size) if answer.status == 200 else [f"answered with status {answer.status}"]

    with ThreadPoolExecutor(8) as pool:
        return "eight users at once", [fault for faults in pool.map(user, range(40, 80, 5)) for fault in faults]


Attack = Callable[[Page, Victim, np.random.Generator], tuple[str, list[str]]]
ATTACKS: list[Attack] = [from_elsewhere, outside, wrong_call, strange_upload, from_elsewhere, hostile_image]
ATTACKS += [outside, wrong_call, hostile_image, crowd]
ROUND = 3 * len(ATTACKS)
