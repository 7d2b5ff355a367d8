"""Checkpoint files: a failed write keeps the old one."""

import pickle

import pytest
from conftest import ABLATION, save_model

from models import build_model
from utils.checkpoint_files import save_checkpoint


def test_a_failed_write_keeps_the_old_checkpoint(tmp_path):
    path = save_model(tmp_path / "last.pt", build_model(**ABLATION))
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(path, {"model": lambda: None})  # cannot be written
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
