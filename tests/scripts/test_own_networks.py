"""A network of the user's own goes through all scripts as IRNeXt does (docs/networks.md)."""

import inspect
import json
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from conftest import (
    ROOT,
    assert_refused,
    assert_same_run,
    command_of,
    kill_when,
    run_process,
    run_script,
    tiny_arguments,
    train_tiny,
    weights_of,
    write_reside,
)
from own_networks import BAD, GOOD, Single
from skimage.data import chelsea

from models.build import MODELS

ROOMS = ("models", "losses", "data", "inference", "evaluation", "training", "utils", "configs")


@pytest.fixture
def project(tmp_path):
    """A copy of the project with one file and one line more."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / "project" / room, ignore=shutil.ignore_patterns("__pycache__"))
    for script in ROOT.glob("*.py"):
        shutil.copy(script, tmp_path / "project")
    header = "import torch\nfrom torch import Tensor, nn\n\n\n"
    (tmp_path / "project" / "models" / "single.py").write_text(header + inspect.getsource(Single))
    build = tmp_path / "project" / "models" / "build.py"
    source = build.read_text().replace('    "irnext": IRNeXt,\n', '    "irnext": IRNeXt,\n    "single": Single,\n')
    assert '"single": Single' in source
    build.write_text(source.replace("from models.irnext", "from models.single import Single\nfrom models.irnext"))
    return tmp_path / "project"


# Runs scripts one after the other in one process of the copy: each takes seconds to import.
DRIVER = """
import json, runpy, sys
for path, *arguments in json.loads(sys.stdin.read()):
    sys.argv = [path, *arguments]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as exit:
        print("status", exit.code, path)
"""


def test_a_network_added_as_the_docs_say_goes_through_all_scripts(project, tmp_path):
    root, run, out = write_reside(tmp_path / "reside"), tmp_path / "run", tmp_path / "out"
    train = ["train.py", *tiny_arguments(root, run, "--model.name=single", "--model.options.kernel_size=5")]
    weights, hazy, target = run / "checkpoints" / "best.pt", root / "test" / "hazy", root / "test" / "gt"
    restore = ["restore.py", "--weights", weights, "--input", hazy, "--output"]
    commands = [
        [*train, "--train.epochs=2"],
        [*train, "--resume=auto"],
        ["test.py", "--weights", weights, "--input", hazy, "--target", target, "--output", out / "scores"],
        [*restore, out / "whole"],
        [*restore, out / "tiles", "--tile=32"],
        ["inference/export.py", "--weights", weights, "--format=exported-program", "--output", out / "single.pt2"],
    ]
    text = json.dumps([list(map(str, command)) for command in commands])
    process = command_of("-c", DRIVER) | {"cwd": project, "input": text}
    process["env"] = process["env"] | {"PYTHONPATH": str(project)}
    result = run_process(process)
    statuses = re.findall(r"^status (.*) ", result.stdout, re.M)
    assert statuses == ["0", "0", "0", "0", "0", "0"], result.stdout + result.stderr
    assert "resuming" in result.stdout
    assert "epoch 3/3" in result.stdout
    assert "228 parameters" in result.stdout
    assert "matches the network" in result.stdout
    notes = [line for line in result.stderr.splitlines() if line.startswith(("note", "error", "warning"))]
    assert notes == [
        "note: Single is restored in overlapping tiles, which are blended: unlike IRNeXt's, they may differ from the "
        "whole image"
    ]
    assert weights_of(run, "best.pt")["model_config"] == {"name": "single", "kernel_size": 5}
    # This process does not have the network.
    assert_refused(run_script("-m models.convert", weights, out / "w.safetensors"), weights, "'single'", "irnext")


@pytest.mark.slow
def test_a_killed_run_of_such_a_network_resumes_exactly(project, tmp_path):
    root = write_reside(tmp_path / "reside")

    def train(output, *arguments):
        options = ("--model.name=single", "--train.ema_decay=0.9", *arguments)
        return command_of("train.py", *tiny_arguments(root, output, *options)) | {"cwd": project}

    assert run_process(train(tmp_path / "whole")).returncode == 0
    kill_when(train(tmp_path / "killed"), "epoch 1/3")
    resumed = run_process(train(tmp_path / "killed", "--resume=auto"))
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(weights_of(tmp_path / "killed"), weights_of(tmp_path / "whole"))


@pytest.fixture(params=GOOD, ids=lambda network: network.__name__)
def network(request, monkeypatch):
    monkeypatch.setitem(MODELS, "mine", request.param)
    return request.param


def test_every_kind_of_network_trains_resumes_and_restores(network, reside, tmp_path):
    run = tmp_path / "run"
    mine = ("--model.name=mine", "--train.precision=bf16" if network is Single else "--train.precision=float32")
    started = train_tiny(reside, run, *mine, "--train.epochs=2")
    assert started.returncode == 0, started.stderr
    unused = (
        "note: 2 parameters of the network without an effect on its outputs, not trained: forgotten.weight, forgotten"
    )
    assert started.stderr.startswith(unused) if network.__name__ == "Unused" else "note" not in started.stderr
    resumed = train_tiny(reside, run, *mine, "--train.epochs=3", "--resume=auto")
    assert (resumed.returncode, "epoch 3/3" in resumed.stdout) == (0, True), resumed.stderr

    weights, photo = run / "checkpoints" / "best.pt", tmp_path / "photo.png"
    cv2.imwrite(str(photo), chelsea()[:150, :203, ::-1])
    arguments = ("restore.py", "--weights", weights, "--input", photo)
    whole = run_script(*arguments, "--output", tmp_path / "whole", "--self-ensemble")
    assert (whole.returncode, whole.stderr) == (0, "")
    tiled = run_script(*arguments, "--output", tmp_path / "tiled", "--tile=64", "--self-ensemble")
    assert tiled.returncode == 0
    a, b = (cv2.imread(str(tmp_path / folder / "photo.png")).astype(int) for folder in ("whole", "tiled"))
    assert a.shape == (150, 203, 3)
    assert np.abs(a - b).mean() < 2  # 8-bit levels; only borders of tiles differ, and prompts of their size
    scores = ("--input", reside / "test" / "hazy", "--target", reside / "test" / "gt", "--output", tmp_path / "scores")
    assert run_script("test.py", "--weights", weights, *scores).returncode == 0
    safe = tmp_path / "mine.safetensors"
    assert run_script("-m models.convert", weights, safe).returncode == 0
    assert run_script(*arguments[:1], "--weights", safe, *arguments[3:], "--output", tmp_path / "w").returncode == 0


@pytest.mark.slow
def test_every_kind_of_network_is_exported_or_refused_in_one_line(network, reside, tmp_path):
    assert train_tiny(reside, tmp_path / "run", "--model.name=mine", "--train.epochs=2").returncode == 0
    weights = tmp_path / "run" / "checkpoints" / "best.pt"
    result = run_script("-m inference.export", "--weights", weights, "--format", "exported-program")
    if network.__name__ == "LooksAtValues":
        assert_refused(result, "torch.export cannot trace LooksAtValues")
    else:
        assert "matches the network" in result.stdout, result.stderr


@pytest.mark.parametrize("network", BAD, ids=lambda network: network.__name__)
def test_outputs_that_break_the_contract_are_refused_before_training(network, reside, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "mine", network)
    result = train_tiny(reside, tmp_path / "run", "--model.name=mine")
    assert_refused(result, f"model: {network.__name__}", "expected")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    "options, words",
    [
        (["--model.name=mime"], ["unknown model 'mime'", "irnext, mine"]),
        (["--model.name=mine", "--model.options.width=8"], ["model: mine", "'width'"]),
        (["--model.options.width=8"], ["model.options", "network of your own"]),
        (["--model.name=mine", "--model.options.name=x"], ["model.options", "model.name"]),
        (["--model.name=mine", "--model.options=8"], ["model.options", "section"]),
    ],
)
def test_wrong_options_are_one_line(options, words, reside, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "mine", Single)
    assert_refused(train_tiny(reside, tmp_path / "run", *options), *words)


def test_a_bare_state_dict_is_loaded_with_the_options_of_a_configuration(reside, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "mine", Single)
    torch.save({"params": Single(5).state_dict()}, tmp_path / "mine.pth")
    (tmp_path / "mine.yaml").write_text(
        f"base: {ROOT}/configs/dehazing_its.yaml\ndata: {{root: {reside}}}\n"
        "model: {name: mine, options: {kernel_size: 5}}\n"
    )
    arguments = ("--config", tmp_path / "mine.yaml", "--weights", tmp_path / "mine.pth", "--output", tmp_path / "out")
    result = run_script("test.py", *arguments)
    assert (result.returncode, "228 parameters" in result.stdout) == (0, True), result.stderr
    without = run_script(
        "restore.py", "--weights", tmp_path / "mine.pth", "--input", reside, "--output", tmp_path / "r"
    )
    assert_refused(without, "weights of another network")


def test_changed_options_make_another_run(reside, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "mine", Single)
    assert train_tiny(reside, tmp_path / "run", "--model.name=mine", "--train.epochs=2").returncode == 0
    again = train_tiny(reside, tmp_path / "run", "--model.name=mine", "--model.options.kernel_size=3", "--resume=auto")
    assert_refused(again, "model.options was null and is now kernel_size=3")


def test_the_network_in_the_docs_works():
    source = re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "networks.md").read_text(), re.S)[0]
    names = {}
    exec(source, names)
    torch.manual_seed(0)
    restored = names["Single"](5)(torch.ones(1, 3, 32, 32))
    torch.manual_seed(0)
    assert torch.equal(restored, Single(5)(torch.ones(1, 3, 32, 32)))
