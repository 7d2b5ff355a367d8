"""Weights files: which are read, which are refused, and with what words."""

import pickle

import pytest

from models import build_model
from utils.checkpoint_files import save_checkpoint

OPTIONS = {"name": "irnext", "num_blocks": 1, "channels": 8, "pool_sizes": [4, 2]}


def saved(path, model, **more):
    save_checkpoint(path, {"model": model.state_dict(), "model_config": OPTIONS, **more})
    return path


def test_a_failed_write_keeps_the_old_checkpoint(tmp_path):
    path = saved(tmp_path / "last.pt", build_model(**OPTIONS))
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(path, {"model": lambda: None})  # cannot be written
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
