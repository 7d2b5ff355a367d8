"""Starts app.py as a user does."""

import contextlib
import socket
import subprocess
from pathlib import Path

import pytest
from conftest import command_of


def started_page(stack: contextlib.ExitStack, temporary: Path, *options: object) -> tuple[subprocess.Popen, str]:
    """A page that runs until ``stack`` is closed, and its address; with no options it offers the tasks."""
    pytest.importorskip("gradio", reason="pip install -r requirements-extra.txt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = command_of("app.py", "--port", port, *options)
    command["env"] |= {"TMPDIR": str(temporary)}
    process = subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    stack.enter_context(process)
    stack.callback(process.kill)
    for line in process.stdout:
        if "Running on local URL" in line:
            return process, f"http://127.0.0.1:{port}"
    pytest.fail("the page did not start")
