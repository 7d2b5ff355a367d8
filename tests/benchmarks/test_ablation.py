"""The ablations: what each variant changes, their table and, slow, trainings that are stopped and go on."""

import json
import signal
import subprocess
import sys
import time

import cv2
import pytest
import scipy.stats
import skimage.data
from conftest import assert_refused, command_of, run_process, run_script

from benchmarks.ablation import COMPLETE, TASKS, VARIANTS, difference, run_of, tables, training_of
from benchmarks.embedded import read_config
from data.images import write_image
from models import build_model
from utils.errors import InputError

CHANGED = {
    COMPLETE: {},
    "no multi-scale module": {"model.pool_sizes": ()},
    "no local attention": {"model.local_attention": False},
    "no frequency modulation": {"model.frequency_modulation": False},
    "pooling size 2": {"model.pool_sizes": (2,)},
    "pooling sizes 4, 2": {"model.pool_sizes": (4, 2)},
    "no FFT loss": {"loss.fft_weight": 0},
}


def keys_of(values: dict, prefix: str = "") -> dict:
    """Nested dicts flattened: {"model.channels": 16}."""
    found = {}
    for key, value in values.items():
        found |= keys_of(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_differs_from_the_complete_network_in_what_it_is_named_after(task, variant, tmp_path):
    of_variant, complete = (
        keys_of(read_config(list(training_of(tmp_path, tmp_path, task, name, 1, None).recipe)).to_dict())
        for name in (variant, COMPLETE)
    )
    different = {key: value for key, value in of_variant.items() if value != complete[key]}
    assert different == {key: list(v) if isinstance(v, tuple) else v for key, v in CHANGED[variant].items()}
    model = {key.removeprefix("model."): value for key, value in of_variant.items() if key.startswith("model.")}
    assert sum(p.numel() for p in build_model(**model).parameters()) < 10**6


def run(variant: str, seed: int, psnr: float) -> dict:
    sets = {"SOTS-Indoor": {"images": 70, "protocol": "dehazing", "input": {"psnr": 13.4}, "restored": {"psnr": psnr}}}
    return {"task": "dehazing", "variant": variant, "seed": seed, "sets": sets} | {
        "parameters": 812313,
        "gmacs_256x256": 3.25,
    }


def test_the_table_shows_mean_spread_and_the_difference_from_the_complete_network():
    scores = {COMPLETE: [20.0, 20.2, 20.4], "no FFT loss": [19.9, 19.8, 19.7], "pooling size 2": [20.1]}
    runs = [run(variant, seed, psnr) for variant, values in scores.items() for seed, psnr in enumerate(values)]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in tables(runs).splitlines()[4:]]
    assert lines[0] == ["input", "", "", "", "13.40", ""]
    assert lines[1] == [COMPLETE, "3", "812,313", "3.25", "20.20 ± 0.20", ""]
    assert lines[2][4] == "19.80 ± 0.10"
    assert lines[2][5].startswith("-0.40 (")
    assert lines[3][4:] == ["20.10", "-0.10"]


def test_the_interval_of_a_difference_is_welchs():
    one, other = [19.9, 19.8, 19.7], [20.0, 20.2, 20.4]
    low, high = (float(part) for part in difference(one, other).split("(")[1].rstrip(")").split(" to "))
    variances = [scipy.stats.tvar(values) / 3 for values in (one, other)]
    freedom = sum(variances) ** 2 / sum(v**2 / 2 for v in variances)
    half = scipy.stats.t.ppf(0.975, freedom) * sum(variances) ** 0.5
    assert (low, high) == pytest.approx((-0.4 - half, -0.4 + half), abs=0.006)


def test_a_folder_of_another_configuration_is_refused(tmp_path):
    training = training_of(tmp_path / "out", tmp_path, "dehazing", COMPLETE, 0, None)
    training.folder.mkdir(parents=True)
    other = training_of(tmp_path / "out", tmp_path, "dehazing", COMPLETE, 0, 7)
    (training.folder / "config.yaml").write_text(read_config(list(other.recipe)).to_yaml())
    result = run_script("-m benchmarks.ablation", "--data", tmp_path, "--output", tmp_path / "out")
    assert_refused(result, "another configuration", training.folder)


def test_a_damaged_result_is_refused(tmp_path):
    training = training_of(tmp_path, tmp_path, "dehazing", COMPLETE, 0, None)
    training.folder.mkdir(parents=True)
    training.result.write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        run_of(training)


@pytest.mark.slow
def test_trainings_stop_on_a_signal_go_on_and_are_not_run_again(tmp_path):
    data = tmp_path / "data"
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        write_image(data / "train" / f"{name}.png", cv2.resize(getattr(skimage.data, name)(), (160, 160)))
    for number, name in ((1400, "coffee"), (1415, "chelsea")):
        image = cv2.resize(getattr(skimage.data, name)(), (96, 80))
        write_image(data / "SOTS-Indoor" / "gt" / f"{number}.png", image)
        write_image(data / "SOTS-Indoor" / "hazy" / f"{number}_3.png", image // 2 + 127)
    chosen = ["--tasks", "dehazing", "--variants", COMPLETE, "no FFT loss", "--seeds", 1, "--jobs", 2]
    command = command_of("-m benchmarks.ablation", "--data", data, "--output", tmp_path / "out", *chosen)
    command["args"] += ["--epochs", "60"]
    folders = [tmp_path / "out" / "dehazing" / name / "seed-0" for name in ("complete", "no-FFT-loss")]

    with subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=sys.stderr) as process:
        while not all((folder / "checkpoints" / "last.pt").exists() for folder in folders):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        printed = process.communicate(timeout=60)[0]
    assert process.returncode == 75
    assert "the same command continues" in printed
    assert not any((folder / "metrics.json").exists() for folder in folders)

    refused = run_process(command | {"args": [*command["args"][:-1], "6"]})
    assert_refused(refused, "another configuration")
    finished = run_process(command)
    assert finished.returncode == 0, finished.stderr
    assert all("resuming" in (folder / "log.txt").read_text() for folder in folders)
    rows = [line for line in finished.stdout.splitlines() if line.startswith(("| complete", "| no FFT loss"))]
    assert len(rows) == 2
    runs = json.loads((tmp_path / "out" / "ablation.json").read_text())["runs"]
    assert [run["variant"] for run in runs] == [COMPLETE, "no FFT loss"]
    again = run_process(command)
    assert again.returncode == 0
    assert " of " not in again.stdout.split("**")[0]


@pytest.mark.slow
def test_a_failure_is_reported_with_its_reason(tmp_path):
    result = run_process(command_of("-m benchmarks.ablation", "--data", tmp_path, "--output", tmp_path / "out"))
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "dehazing, complete, seed 0: error:" in line
    assert "no such folder" in line
    assert "log.txt" in line
