"""Which algorithms torch and cuDNN are asked for, in training and in validation."""

import json
import os
import subprocess

import pytest
from conftest import tiny_training

# Runs train.py and writes, for each forward pass, its mode and what torch is asked for.
WATCHED = """
import json, os, runpy, sys
sys.path.insert(0, os.getcwd())
import torch
from models import IRNeXt

def note(module, inputs):
    if isinstance(module, IRNeXt):
        asked = [torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()]
        seen.append(["training" if module.training else "validation", *asked, os.getenv("CUBLAS_WORKSPACE_CONFIG")])

seen = []
torch.nn.modules.module.register_module_forward_pre_hook(note)
try:
    runpy.run_path("train.py", run_name="__main__")
finally:
    json.dump(seen, sys.stderr)
"""


@pytest.mark.parametrize("deterministic", [True, False])
def test_fast_convolutions_are_searched_for_crops_only_and_never_when_deterministic(deterministic, reside, tmp_path):
    (tmp_path / "watched.py").write_text(WATCHED)
    options = ["--train.epochs=2", f"--train.deterministic={str(deterministic).lower()}"]
    command = tiny_training(reside, tmp_path / "run", *options)
    command["args"][1] = str(tmp_path / "watched.py")
    result = subprocess.run(**command, capture_output=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    seen = {tuple(entry) for entry in json.loads(result.stderr.splitlines()[-1])}
    workspace = ":4096:8" if deterministic else os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    training, validation = ("training", not deterministic), ("validation", False)
    assert seen == {(*training, deterministic, workspace), (*validation, deterministic, workspace)}
