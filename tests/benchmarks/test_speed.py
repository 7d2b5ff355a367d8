"""The benchmark of speed: its textbook network, and its table."""

import json

import numpy as np
import torch
from conftest import REFERENCE, assert_outputs, assert_refused, command_of, formula_images, run_process, run_script

from benchmarks.textbook import TextbookIRNeXt
from models import IRNeXt, load_weights


def test_the_textbook_agrees_with_the_released_network(released_file):
    model = IRNeXt()
    load_weights(model, released_file)
    with torch.no_grad():
        outputs = TextbookIRNeXt(model).eval()(formula_images(7))
    assert_outputs(outputs, np.load(REFERENCE / "irnext_n4.npz"), "eval_out")


def test_the_benchmark_prints_and_writes_its_table(tmp_path):
    small = ["--num_blocks=1", "--channels=8", "--side=64", "--rounds=1", "--matrix=64"]
    result = run_process(command_of("-m benchmarks.speed", *small, "--json", tmp_path / "rows.json"))
    assert result.returncode == 0, result.stderr
    rows = [line.split("|")[1].strip() for line in result.stdout.splitlines() if line.startswith("|")]
    assert rows.count("textbook, float32") == rows.count("ours, bf16") == 2
    written = json.loads((tmp_path / "rows.json").read_text())
    assert {(row["blocks"], row["kind"]) for row in written} == {(1, "forward"), (1, "training step")}
    assert [row["network"] for row in written] == [row for row in rows if row not in ("network", "---")]
    assert all(row["ms"] > 0 for row in written)
    assert_refused(run_script("-m benchmarks.speed", "--rounds", "many"), "rounds")
