"""Provenance of a result: versions of Python and the libraries, the device, the commit."""

import contextlib
import platform
import subprocess
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


def git_commit() -> str | None:
    """The commit of the checkout, with ``-dirty`` if tracked files differ from it; None outside a git repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
