"""Decoders' own messages: libjpeg, libpng and libtiff print to stderr, where they name no file."""

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator

STDERR = 2
_lock = threading.RLock()  # the descriptor belongs to the whole process


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """Without warnings, such as Pillow's about damaged metadata; in one thread at a time, as they are global."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def captured_messages() -> Iterator[list[str]]:
    """What libraries print to stderr within the block, as a list of lines that is filled at its end."""
    lines: list[str] = []
    with _lock:
        try:
            kept = os.dup(STDERR)
        except OSError:  # the process has no stderr
            yield lines
            return
        reading, writing = os.pipe()
        for end in (reading, writing):  # what exceeds the pipe's capacity is lost; a child may keep the pipe open
            os.set_blocking(end, False)
        os.dup2(writing, STDERR)
        os.close(writing)
        try:
            yield lines
        finally:
            os.dup2(kept, STDERR)
            os.close(kept)
            with contextlib.suppress(BlockingIOError):
                lines += os.read(reading, 2**16).decode(errors="replace").splitlines()
            os.close(reading)


@contextlib.contextmanager
def own_stderr() -> Iterator[None]:
    """Within the block, what Python prints to stderr does not get lost among the messages captured in other threads."""
    stream = sys.stderr
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError):  # the process has no stderr, or prints it elsewhere
        descriptor = None
    if descriptor != STDERR:
        yield
        return
    with open(os.dup(STDERR), "w", buffering=1, encoding=stream.encoding, errors=stream.errors) as sys.stderr:
        try:
            yield
        finally:
            sys.stderr = stream
