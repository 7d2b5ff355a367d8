"""The benchmark's data under the public data sets' own layouts."""

import cv2
import numpy as np
import pytest

from data.images import read_image
from data.layouts import find_pairs
from data.sets import pairs_of_set, pairs_of_sets, subset_positions
from data.synthetic.benchmark import TASKS, write_benchmark
from data.synthetic.photographs import PHOTOGRAPHS, photographs
from utils.cli import ScriptParser, config_of

FEW = {"train": 1, "validation": 1, "test": 2}


@pytest.fixture(scope="module")
def benchmark_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    write_benchmark(folder, variants=FEW)
    return folder


def config_of_task(task):
    parser = ScriptParser()
    parser.add_config()
    return config_of(parser.instantiate(parser.parse_args(["--config", f"configs/benchmark_{task}.yaml"])))


@pytest.mark.parametrize("task", TASKS)
def test_data_pairs_up_under_the_real_layouts_with_unseen_test_photographs(benchmark_data, task):
    config = config_of_task(task)
    root = benchmark_data / task
    train = pairs_of_set(root, config.data.train)
    sets = pairs_of_sets(root, config.data.test)
    assert len(train) == len(PHOTOGRAPHS["train"]) * (2 if task == "dehazing" else 1)
    bits = np.uint16 if task == "defocus" else np.uint8
    test_images = [image for _, image, _ in photographs("test")]
    if task == "dehazing":
        test_images = [cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for p in test_images]
    for pairs in sets.values():
        assert len(pairs) == 2 * len(test_images)
        for pair in pairs:
            degraded, target = read_image(pair.input), read_image(pair.target)
            assert degraded.dtype == target.dtype == bits
            as_8bit = target // 257 if task == "defocus" else target
            assert any(np.array_equal(as_8bit, image) for image in test_images)
            assert degraded.shape == target.shape
            assert not np.array_equal(degraded, target)
    for pair in train:
        shape = read_image(pair.target).shape
        assert shape == read_image(pair.input).shape
        assert shape not in [image.shape for image in test_images]


def test_defocus_has_dpdds_labels_validation_set_and_odd_and_even_names(benchmark_data):
    config = config_of_task("defocus")
    root = benchmark_data / "defocus"
    (name,), (pairs,) = zip(*pairs_of_sets(root, config.data.test).items(), strict=True)
    for pair in pairs:
        assert int(pair.target.stem[4:]) == int(pair.input.stem[4:]) + 1
    positions = subset_positions(root, config.data.test[name], len(pairs))
    assert positions == {"indoor": [0, 1], "outdoor": [2, 3]}
    coffee = next(image for _, image, _ in photographs("test"))
    assert np.array_equal(read_image(pairs[0].target) // 257, coffee)
    assert len(find_pairs(root / "val_c", "dpdd")) == len(PHOTOGRAPHS["validation"])


def test_rain_sets_differ_in_strength(benchmark_data):
    def change(name):
        pairs = find_pairs(benchmark_data / "deraining" / "test" / name, "plain")
        return np.mean([np.abs(read_image(p.input) / 255 - read_image(p.target) / 255).mean() for p in pairs])

    assert change("Rain100H") > 3 * change("Rain100L")


def test_writing_again_changes_nothing(benchmark_data, tmp_path):
    write_benchmark(tmp_path, ["deraining"], FEW)
    written = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(written) == 2 * (6 + 3 * 4)
    for path in written:
        assert path.read_bytes() == (benchmark_data / path.relative_to(tmp_path)).read_bytes()
