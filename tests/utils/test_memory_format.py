"""The memory format follows the machine and the use."""

import shutil

import torch
from conftest import command_of, run_process, tiny_training, weights_of

from utils.memory_format import memory_format

OLDER_CPU = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
PRINTED = "import torch; from utils.memory_format import memory_format as f; c = torch.device('cpu'); print(f(c, {}))"


def on_older_cpu(command: dict) -> dict:
    return command | {"env": command["env"] | OLDER_CPU}


def test_only_training_without_avx512_is_contiguous():
    for training, expected in ((True, torch.contiguous_format), (False, torch.channels_last)):
        command = on_older_cpu(command_of("-c", PRINTED.format(training)))
        assert run_process(command).stdout.strip() == str(expected)
    assert memory_format(torch.device("cpu"), training=False) == torch.channels_last
    assert memory_format(torch.device("cuda"), training=True) == torch.channels_last


def test_a_run_moves_between_kinds_of_cpu(reside, tmp_path):
    """Weights and optimizer state of one memory format go on in the other, and come to the same end."""
    options = ["--train.ema_decay=0.9", "--train.validate_every=3", "--train.keep_checkpoints=9", "--train.lr=3e-3"]
    whole = run_process(on_older_cpu(tiny_training(reside, tmp_path / "whole", *options)))
    assert whole.returncode == 0, whole.stderr
    moved = tmp_path / "moved" / "checkpoints"
    moved.mkdir(parents=True)
    (first,) = (
        path
        for path in (tmp_path / "whole" / "checkpoints").glob("last*.pt")
        if weights_of(tmp_path / "whole", path.name)["progress"]["step"] == 3
    )
    shutil.copy(first, moved / "last.pt")
    result = run_process(tiny_training(reside, tmp_path / "moved", *options, "--resume=auto"))
    assert result.returncode == 0, result.stderr
    assert "resuming" in result.stdout
    for key in ("model", "ema"):
        ours, theirs = weights_of(tmp_path / "moved")[key], weights_of(tmp_path / "whole")[key]
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-4)
