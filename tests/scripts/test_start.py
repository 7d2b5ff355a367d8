"""The first seconds: a script without arguments, --help, and what is imported before the first batch."""

import re
import shlex
import subprocess

import pytest
from conftest import ROOT, command_of, run_process, tiny_arguments
from test_docs import is_key, options_of, script_of

MAIN = ["train.py", "test.py", "restore.py"]
SCRIPTS = [
    *MAIN,
    "-m data.check",
    "-m data.preview",
    "-m evaluation.compare",
    "-m evaluation.verify",
    "-m inference.export",
    "-m models.convert",
]
UNUSED = {"torchvision", "scipy", "matplotlib", "pandas", "skimage", "tensorflow", "sklearn", "torchmetrics", "gradio"}
WITHOUT_ARGUMENTS = ["-m data.synthetic.demo", "-m data.synthetic.benchmark"]  # which would start to work


def imported(command: dict) -> tuple[set[str], subprocess.CompletedProcess]:
    """Run a script as -X importtime does; returns the modules that it imported, and its result."""
    command["args"].insert(1, "-Ximporttime")
    result = run_process(command)
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}, result


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_without_arguments_shows_the_commands_that_people_need(script):
    modules, result = imported(command_of(script))
    text = "\n".join(line for line in result.stderr.splitlines() if not line.startswith("import time:"))
    first, *commands, help = [line for line in text.splitlines() if line]
    assert result.returncode == 2
    assert result.stdout == ""
    assert first == f"python {script} needs arguments, for example:"
    assert help == f"All options: python {script} --help"
    assert len(commands) >= (3 if script in MAIN else 1)
    for line in commands:
        path, arguments = script_of(shlex.split(line))
        options = [word[2:] for word in arguments if word.startswith("--") and word != "--"]
        assert all(is_key(name) or f"--{name}" in options_of(path) | options_of(ROOT / "test.py") for name in options)
        assert all((ROOT / word).exists() for word in arguments if word.startswith("configs/")), line
    assert "torch" not in modules


@pytest.mark.parametrize("script", [*SCRIPTS, *WITHOUT_ARGUMENTS])
def test_help_does_not_wait_for_torch(script):
    modules, result = imported(command_of(script, "--help"))
    assert result.returncode == 0
    assert f"usage: python {script}" in " ".join(result.stdout.split())
    assert {"torch", "torchvision", "scipy", "matplotlib", "pandas", "tensorboard"} & modules == set()
    assert "jsonargparse" in modules


@pytest.mark.parametrize("script", MAIN)
def test_a_mistake_does_not_wait_for_torch(script):
    modules, result = imported(command_of(script, "--outptu=x"))
    assert result.returncode == 2
    assert re.search(r"^error: .*--outptu", result.stderr, re.M)
    assert "torch" not in modules


@pytest.mark.parametrize("script", MAIN)
def test_a_script_starts_without_what_it_may_not_need(script):
    start = f"import runpy, sys; sys.path.insert(0, ''); runpy.run_path({script!r}); print(*sys.modules)"
    result = run_process(command_of("-c", start))
    assert result.returncode == 0, result.stderr
    modules = {name.split(".")[0] for name in result.stdout.split()}
    assert {"torch", "cv2"} <= modules
    assert UNUSED & modules == set()


# In place of its first step, train.py prints what it has imported, and ends.
FIRST_BATCH = """
import runpy, sys
from training.step import TrainingStep
def first(*_):
    print(*sys.modules)
    sys.exit()
TrainingStep.__call__ = first
sys.path.insert(0, "")
sys.argv = sys.argv[1:]
runpy.run_path("train.py", run_name="__main__")
"""


def test_before_its_first_batch_training_imports_only_what_it_uses(reside):
    arguments = tiny_arguments(reside, reside / "run")
    result = run_process(command_of("-c", FIRST_BATCH, "train.py", *arguments))
    assert result.returncode == 0, result.stderr
    modules = {name.split(".")[0] for name in result.stdout.splitlines()[-1].split()}
    assert {"torch", "cv2", "tensorboard"} <= modules
    assert (UNUSED | {"av"}) & modules == set()
