"""What make setup installs, with an interpreter in place of the environment's that only notes its arguments."""

import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

PINS = re.findall(r"^torch(?:vision)?==[\d.]+$", (ROOT / "requirements.txt").read_text(), re.M)
INDEX = "https://download.pytorch.org/whl/cpu"
INSTALL = "-m pip install --quiet --disable-pip-version-check"
# Fails where pip would if it cannot reach the index of CPU wheels
NOTE = '#!/bin/sh\necho "$@" >> {log}\ncase "$*" in *--index-url*) exit {status};; esac\n'


def setup(folder: Path, *arguments: str, status: int = 0) -> tuple[list[str], subprocess.CompletedProcess]:
    """The commands that make setup gives to the interpreter, the first of which ends with ``status``; its result."""
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(NOTE.format(log=folder / "log", status=status))
    python.chmod(0o755)
    command = ["make", "setup", f"VENV={folder}", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    log = folder / "log"
    return log.read_text().splitlines() if log.exists() else [], result


def test_setup_installs_the_published_builds(tmp_path):
    commands, result = setup(tmp_path)
    assert result.returncode == 0
    assert commands == [f"{INSTALL} -r requirements.txt"]


@pytest.mark.parametrize("status", [0, 1])
def test_for_the_cpu_setup_takes_the_wheels_without_cuda_if_there_are_any(tmp_path, status):
    commands, result = setup(tmp_path, "TORCH=cpu", status=status)
    assert result.returncode == 0
    assert len(PINS) == 2
    assert commands == [f"{INSTALL} --index-url {INDEX} {' '.join(PINS)}", f"{INSTALL} -r requirements.txt"]
    assert (f"Nothing from {INDEX}" in result.stdout) == bool(status)


def test_another_torch_is_refused(tmp_path):
    commands, result = setup(tmp_path, "TORCH=rocm")
    assert result.returncode == 2
    assert "TORCH=rocm: expected TORCH=cpu, or nothing" in result.stderr
    assert commands == []


def test_the_dockerfile_copies_what_exists_in_ten_lines():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert len(lines) == 10
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert all((ROOT / path).exists() for path in copied)
    assert any("make setup TORCH=$TORCH" in line for line in lines)


def test_the_pins_of_the_documentation_are_those_that_are_installed():
    assert " ".join(PINS) in (ROOT / "docs" / "install.md").read_text()
