"""Networks with other pooling sizes are trained, scored and restore images, though they accept other sizes of image."""

import json

import cv2
import pytest
from conftest import assert_refused, run_script, train_tiny, write_reside


@pytest.mark.parametrize("pool_sizes, crop", [("[6, 3]", 48), ("[64, 4, 2]", 512), ("[]", 64)])
def test_every_script_asks_the_network_for_its_sizes(tmp_path, pool_sizes, crop):
    reside = write_reside(tmp_path / "reside", hazes=1, test_hazes=1)
    sizes = [f"--model.pool_sizes={pool_sizes}", f"--data.crop_size={crop}", "--train.epochs=1"]
    result = train_tiny(reside, tmp_path, *sizes, "--train.warmup_epochs=0", "--train.log_every=100")
    assert result.returncode == 0, result.stderr
    weights = ["--weights", tmp_path / "checkpoints" / "best.pt", "--output", tmp_path / "out"]
    source = reside / "test" / "hazy"
    result = run_script("test.py", *weights, "--input", source, "--target", reside / "test" / "gt")
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["gmacs_256x256"] > 0
    result = run_script("restore.py", *weights, "--input", source, "--tile=64")
    assert result.returncode == 0, result.stderr
    assert cv2.imread(tmp_path / "out" / "20_1.png").shape == (70, 100, 3)


@pytest.mark.parametrize(
    "option", ["pool_sizes=[2, 4]", "pool_sizes=[17, 16]", "pool_sizes=[0]", "channels=12", "num_blocks=256"]
)
def test_options_that_no_network_has_are_one_line(reside, tmp_path, option):
    more = ["--model.channels=128"] if option.startswith("num_blocks") else []
    result = train_tiny(reside, tmp_path / "out", f"--model.{option}", *more)
    assert_refused(result, option.split("=")[0])
    assert not (tmp_path / "out").exists()
