"""Provenance of a result: the command, its date, the commit, versions of Python and the libraries, the device."""

import contextlib
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

LIBRARIES = ("torch", "torchvision", "numpy", "opencv-python-headless", "pytorch-msssim", "warmup-scheduler")


def versions() -> dict[str, str]:
    """Versions of Python and the libraries, and the device; a library not installed under its name here is omitted."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):  # for example, opencv-python instead of the headless package
            found[name] = version(name)
    return found | {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"}


def this_run(script: str) -> dict[str, str | None]:
    """How to run ``script`` again as it was started: command, working folder, date and commit."""
    return {
        "command": shlex.join([script, *sys.argv[1:]]),
        "folder": os.getcwd(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
    }


def git_commit() -> str | None:
    """The commit of the checkout, with ``-dirty`` if tracked files differ from it; None outside a git repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
