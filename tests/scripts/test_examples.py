"""The configurations in configs/examples, each as train.py runs it."""

import pytest
import yaml
from conftest import ROOT, TINY, run_script, write_reside

EXAMPLES = sorted((ROOT / "configs" / "examples").glob("*.yaml"))
SMALLER = [*TINY, "--train.batch_size=4", "--train.epochs=2", "--model.num_blocks=1"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_trains_and_resumes(path, tmp_path):
    options = ["--config", path, "--data.root", write_reside(tmp_path / "data"), "--output", tmp_path / "run", *SMALLER]
    for epochs in (2, 3):
        result = run_script("train.py", *options, f"--train.epochs={epochs}", "--resume=auto")
        assert result.returncode == 0, result.stderr
    resolved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    keys = yaml.safe_load(path.read_text())
    assert all(key in resolved["train"] for key in keys["train"])
