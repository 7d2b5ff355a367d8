"""The number of cores, on Linux and where its functions do not exist."""

import os

import pytest

from data.datasets import evaluation_loader
from data.layouts import find_pairs
from data.survey import image_hashes
from utils.cpus import cpu_count


def test_only_the_cores_of_this_process_count():
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("the system does not bind processes to cores")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert cpu_count() == 1
    finally:
        os.sched_setaffinity(0, cores)
    assert cpu_count() == len(cores)


def test_images_are_loaded_and_surveyed_where_the_system_is_not_linux(reside, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert cpu_count() == os.cpu_count()
    pairs = find_pairs(reside / "test", "reside")
    assert len(list(evaluation_loader(pairs, 2))) == len(pairs) == 2
    assert len(image_hashes(pairs)) == 3
