"""Run a script in a forked process with limits, and judge how it ended."""

import os
import re
import resource
import runpy
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 3 * 2**30  # bytes that a script may allocate beyond those of the attacking process
LONGEST_LINE = 1500
REPORTS = ("error: ", "warning: ", "note: ", "stopped")


@dataclass(frozen=True)
class Outcome:
    """How a script ended.

    Attributes:
        status: exit status; negative if a signal ended it; None if it was killed because its time was over.
        stdout, stderr: what it printed.
        seconds: how long it ran.
    """

    status: int | None
    stdout: str
    stderr: str
    seconds: float

    @property
    def errors(self) -> list[str]:
        """The lines that report an error."""
        return [line for line in self.stderr.splitlines() if line.startswith("error: ")]


@dataclass(frozen=True)
class Victim:
    """What the scripts under attack work on.

    Attributes:
        weights: checkpoint of a small network.
        root: data set of small photographs, in the layout of RESIDE.
        image: photograph as PNG.
    """

    weights: Path
    root: Path
    image: Path


@dataclass
class Trial:
    """One attack: what was tried, how to repeat it, and what was wrong with the reaction."""

    name: str
    faults: list[str] = field(default_factory=list)


def run_script(
    script: str,
    *arguments: object,
    seconds: float = 60,
    kill_after: float | None = None,
    file_bytes: int | None = None,
) -> Outcome:
    """Run a script to its end.

    Args:
        script, arguments, file_bytes: as of ``Running``.
        seconds: it is killed after this time, with the status None.
        kill_after: send SIGKILL after this time.
    """
    return Running(script, *arguments, file_bytes=file_bytes).ended(seconds, kill_after)


class Running:
    """A script in a fork of this process, which saves the seconds that its imports take.

    Args:
        script: such as ``train.py`` or ``data/check.py``.
        arguments: its command line.
        file_bytes: limit on the size of each file that it writes, as on a full disk.
        temporary: its folder for temporary files, instead of the system's.
    """

    def __init__(
        self, script: str, *arguments: object, file_bytes: int | None = None, temporary: Path | None = None
    ) -> None:
        self.start = time.monotonic()
        pipes = os.pipe(), os.pipe()
        self.process = os.fork()
        if self.process == 0:
            if temporary is not None:
                tempfile.tempdir = str(temporary)
            _become(script, arguments, pipes[0][1], pipes[1][1], file_bytes)
        for _, other in pipes:
            os.close(other)
        self.stdout, self.stderr = (_Reader(end) for end, _ in pipes)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the script, not to its children."""
        os.kill(self.process, number)

    def ended(self, seconds: float, kill_after: float | None = None) -> Outcome:
        """How it ends; see ``run_script``. Times count from now."""
        now, status, given_up = time.monotonic(), None, False
        while status is None:
            done, code = os.waitpid(self.process, os.WNOHANG)
            spent = time.monotonic() - now
            if done:
                status = os.waitstatus_to_exitcode(code)
            elif spent > (seconds if kill_after is None else min(seconds, kill_after)):
                given_up = kill_after is None or seconds < kill_after
                os.killpg(self.process, signal.SIGKILL)
                status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
            else:
                time.sleep(0.005)
        texts = [reader.whole() for reader in (self.stdout, self.stderr)]
        return Outcome(None if given_up else status, *texts, time.monotonic() - self.start)


class _Reader(threading.Thread):
    """Reads a pipe to its end: the limit on the size of files would cut what a script prints to a file."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(daemon=True)
        self.descriptor, self.content = descriptor, b""
        self.start()

    def run(self) -> None:
        with open(self.descriptor, "rb", buffering=0) as file:
            while part := file.read(2**16):
                self.content += part

    def text(self) -> str:
        """What has come so far."""
        return self.content.decode(errors="backslashreplace")

    def whole(self) -> str:
        """All that came, when the pipe is closed."""
        self.join()
        return self.text()


def _become(script: str, arguments: Sequence[object], stdout: int, stderr: int, file_bytes: int | None) -> None:
    """Run the script in this process, then end it."""
    status = 1
    try:
        os.setpgid(0, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        options = {"buffering": 1, "encoding": "utf-8", "errors": "backslashreplace", "closefd": False}
        sys.stdout, sys.stderr = open(1, "w", **options), open(2, "w", **options)  # noqa: SIM115
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        os.chdir(ROOT)
        sys.argv = [script, *map(str, arguments)]
        runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def faults_of(outcome: Outcome, allowed: Collection[int] = (0, 2), one_error: bool = True) -> list[str]:
    """What any script promises: no hang, no crash, no traceback, a known status, readable messages.

    ``one_error``: with status 2, exactly one line reports an error.
    """
    if outcome.status is None:
        return [f"still running after {outcome.seconds:.0f} s"]
    faults = []
    if outcome.status < 0:
        faults.append(f"ended by {signal.Signals(-outcome.status).name}")
    elif outcome.status not in allowed:
        faults.append(f"status {outcome.status}")
    if "Traceback" in outcome.stderr:
        faults.append(f"traceback: {outcome.stderr.strip().splitlines()[-1][:200]}")
        return faults
    if outcome.status == 2 and one_error and len(outcome.errors) != 1:
        faults.append(f"{len(outcome.errors)} error lines")
    for line in outcome.stderr.splitlines():
        if line.strip() and not line.startswith(REPORTS):
            faults.append(f"stray line on stderr: {line[:120]!r}")
        if len(line) > LONGEST_LINE:
            faults.append(f"a line of {len(line)} characters")
    if re.search(r"[\x00-\x08\x0b\x0e-\x1f\x7f]", outcome.stdout + outcome.stderr):
        faults.append("control characters in the output")
    return faults
