"""The loader's worker processes: how many a machine starts."""

import os

import pytest
from conftest import ROOT, TINY, command_of, run_process

ITS = ["--config", ROOT / "configs" / "dehazing_its.yaml"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not bind processes to cores")
@pytest.mark.parametrize("script", ["train.py", "test.py"])
@pytest.mark.parametrize("processes, workers, warned", [(3, 8, True), (2, 8, False), (3, 0, False)])
def test_more_than_two_workers_per_core_are_warned_of_once(
    script, processes, workers, warned, reside, small_weights, tmp_path
):
    """On one core, where each process starts one worker at most."""
    command = f"-m torch.distributed.run --standalone --nproc_per_node {processes} {script}"
    own = [*TINY, "--train.batch_size=3", "--train.epochs=2"] if script == "train.py" else ["--weights", small_weights]
    arguments = [*ITS, "--data.root", reside, *own, f"--data.num_workers={workers}", "--output", tmp_path / "out"]
    core = min(os.sched_getaffinity(0))
    on_one_core = {"preexec_fn": lambda: os.sched_setaffinity(0, {core})}
    result = run_process(command_of(command, *arguments) | on_one_core)
    assert result.returncode == 0, result.stderr
    warning = "warning: data.num_workers is per process: 3 processes start 3 loader workers on 1 core"
    assert result.stderr.count("data.num_workers") == 2 * warned, result.stderr
    assert result.stderr.count(f"{warning}; pass --data.num_workers 1") == warned
