"""The demo: its data and, slow, the gain of training on it."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT, assert_refused, command_of, run_process, run_script

from data.layouts import find_pairs
from data.survey import check_pairs


def test_demo_data_is_shaped_like_reside_with_unseen_test_photographs(tmp_path):
    command = ("-m data.synthetic.demo", "--output", tmp_path)
    for result in (run_process(command_of(*command)), run_script(*command)):  # the second one finds the same files
        assert result.returncode == 0, result.stderr
    assert_refused(run_script("-m data.synthetic.demo", "--outptu", tmp_path), "--outptu")
    pairs = {split: find_pairs(tmp_path / split, "reside") for split in ("train", "test")}
    check_pairs(pairs["train"] + pairs["test"])
    assert [len(pairs[split]) for split in ("train", "test")] == [96, 8]
    photographs = [{pair.target.stem for pair in pairs[split]} for split in ("train", "test")]
    assert not photographs[0] & photographs[1]
    assert {"astronaut", "motorcycle-left"} < photographs[0]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_demo_restores_unseen_photographs_by_six_decibels(tmp_path):
    config = f"--config configs/demo.yaml --data.root {tmp_path / 'data'}"
    weights = tmp_path / "run" / "checkpoints" / "best.pt"
    for command in (
        f"-m data.synthetic.demo --output {tmp_path / 'data'}",
        f"train.py {config} --output {tmp_path / 'run'}",
        f"test.py {config} --weights {weights} --output {tmp_path / 'out'}",
    ):
        subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True)
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"]["photographs"]
    assert scores["restored"]["psnr"] > scores["input"]["psnr"] + 6
    assert scores["restored"]["ssim"] > scores["input"]["ssim"]
