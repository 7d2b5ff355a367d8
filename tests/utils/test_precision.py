"""What makes the network fast, by its structure and not by the clock; and that the fast ways give the same images."""

import json

import numpy as np
import pytest
from conftest import (
    ROOT,
    SHORT,
    run_script,
    train_tiny,
    write_reside,
)

from data.images import read_image

ITS = ["--config", ROOT / "configs" / "dehazing_its.yaml"]


def test_mixed_precision_restores_in_tiles_as_it_does_whole(small_weights, reside, tmp_path):
    image = reside / "test" / "hazy" / "20_1.png"
    restored = []
    for name, options in (("exact", []), ("whole", ["--precision=bf16"]), ("tiles", ["--precision=bf16", "--tile=64"])):
        arguments = ["--weights", small_weights, "--input", image, "--output", tmp_path / name, *options]
        result = run_script("restore.py", *arguments)
        assert result.returncode == 0, result.stderr
        restored.append(read_image(tmp_path / name / image.name).astype(int))
    exact, whole, tiles = restored
    assert (whole != exact).any()
    for fast in (whole, tiles):
        assert np.abs(fast - exact).mean() < 2


@pytest.fixture(scope="module")
def short_runs(tmp_path_factory):
    """A data set, and the folders of the same short training in float32 and in bf16."""
    root = write_reside(tmp_path_factory.mktemp("precision") / "reside", hazes=6)
    for precision in ("float32", "bf16"):
        result = train_tiny(root, root / precision, *SHORT, f"--train.precision={precision}")
        assert result.returncode == 0, result.stderr
    return root


def scores(root, trained, precision, tmp_path) -> dict:
    weights = ["--weights", root / trained / "checkpoints" / "last.pt", "--output", tmp_path / precision]
    result = run_script(
        "test.py", *ITS, "--data.root", root, *weights, "--precision", precision, "--data.num_workers=0"
    )
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / precision / "metrics.json").read_text())
    assert metrics["precision"] == precision
    return metrics["sets"]["SOTS-Indoor"]


def test_bf16_moves_the_scores_of_a_trained_network_by_less_than_a_fiftieth_of_a_decibel(short_runs, tmp_path):
    exact, fast = (scores(short_runs, "float32", precision, tmp_path) for precision in ("float32", "bf16"))
    assert exact["restored"]["psnr"] > exact["input"]["psnr"] + 1  # it has learnt something
    assert 0 < abs(exact["restored"]["psnr"] - fast["restored"]["psnr"]) < 0.02
