"""What produced a result: versions of Python and the libraries, the device, the commit."""

import contextlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

LIBRARIES = ("torch", "torchvision", "numpy", "opencv-python-headless", "pytorch-msssim", "warmup-scheduler")


def versions() -> dict[str, str]:
    """Versions of Python and the libraries, and the device; a library installed under another name is left out."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):  # opencv-python in place of the headless one, for example
            found[name] = version(name)
    return found | {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"}


def git_commit() -> str | None:
    """The checkout's commit, with ``-dirty`` if tracked files differ from it; None outside git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
