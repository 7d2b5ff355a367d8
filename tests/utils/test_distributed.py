"""Starting the processes of a run: what torchrun and Slurm say about them in the environment."""

import os

import pytest
from conftest import assert_refused, run_process, tiny_training

from utils.distributed import join_group
from utils.errors import InputError

TORCHRUN = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29511"}

# What Slurm 22.05 sets: in tasks of srun, in the shell of salloc, in a batch script.
SRUN_OF_2 = {"SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NTASKS": "2", "SLURM_NPROCS": "2"}
SRUN_OF_2 |= {"SLURM_STEPID": "0", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}
SRUN_OF_1 = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "1", "SLURM_NPROCS": "1"}
SRUN_OF_1 |= {"SLURM_STEPID": "0", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}
SALLOC_OF_4 = {"SLURM_NTASKS": "4", "SLURM_NPROCS": "4"}
SBATCH_OF_4 = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4"}


@pytest.fixture
def started_with(monkeypatch):
    """Sets the variables of torchrun and Slurm, and no others."""

    def put(variables: dict[str, str]) -> None:
        for name in list(os.environ):
            if name in TORCHRUN or name.startswith("SLURM_"):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize("missing", ["LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_a_variable_of_torchrun_that_is_missing_is_named(started_with, missing):
    started_with({name: value for name, value in TORCHRUN.items() if name != missing})
    with pytest.raises(InputError, match=f"^{missing}: not set, although RANK is; start .* torchrun"):
        join_group()


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"])
@pytest.mark.parametrize("value", ["", "one", "-1", "1.5", "$SLURM_PROCID"])
def test_a_variable_of_torchrun_that_is_no_number_is_named(started_with, name, value):
    started_with(TORCHRUN | {name: value})
    with pytest.raises(InputError, match=f"^{name}: "):
        join_group()


def test_a_rank_outside_the_group_is_refused(started_with):
    started_with(TORCHRUN | {"RANK": "8", "WORLD_SIZE": "8"})
    with pytest.raises(InputError, match="RANK: expected less than WORLD_SIZE, 8, got 8"):
        join_group()


def test_more_processes_than_gpus_are_refused(started_with, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    started_with(TORCHRUN | {"RANK": "4", "LOCAL_RANK": "4", "WORLD_SIZE": "8"})
    with pytest.raises(InputError, match=r"LOCAL_RANK: 4 needs 5 GPUs, but this process sees 4; .*--nproc-per-node 4"):
        join_group()


@pytest.mark.parametrize("variables", [{}, SRUN_OF_1, SALLOC_OF_4, SBATCH_OF_4])
def test_a_single_process_is_a_group_of_one(started_with, variables):
    started_with(variables)
    assert join_group().size == 1


def test_the_scripts_say_how_to_start_several_processes(reside, tmp_path):
    train = tiny_training(reside, tmp_path / "run")
    rank_alone = train | {"env": train["env"] | SRUN_OF_2 | {"RANK": "1", "WORLD_SIZE": "2"}}
    assert_refused(run_process(rank_alone), "LOCAL_RANK", "srun --ntasks-per-node 1 torchrun")
    tasks = train | {"env": train["env"] | SRUN_OF_2}
    assert_refused(run_process(tasks), "2 tasks", "srun --ntasks-per-node 1 torchrun")
    assert not (tmp_path / "run").exists()
