"""The pictures of README.md."""

import re

import pytest
from conftest import ROOT, run_script

from benchmarks.pictures import COLOURED, REGION, captioned, examples_of
from data.images import read_image


def test_every_photograph_gains_from_deraining_and_a_region_of_it_is_shown():
    examples = examples_of("deraining")
    assert [example.name for example in examples] == list(COLOURED)
    assert all(1 < example.gain < 30 for example in examples)
    cells = captioned("deraining", examples[0])
    assert [image.shape for image, _ in cells] == [(*REGION, 3)] * 3
    assert [caption for _, caption in cells] == ["rainy", f"restored, {examples[0].gain:+.1f} dB", "original"]
    input, restored, target = (image.astype(float) for image, _ in cells)
    assert abs(restored - target).mean() < abs(input - target).mean()


@pytest.mark.slow
def test_the_pictures_of_the_readme_are_what_the_script_makes(tmp_path):
    result = run_script("-m benchmarks.pictures", "--output", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    for line in result.stdout.splitlines():
        gains = re.findall(r"(\S+) ([+-]\d+\.\d+)", line)
        assert [float(gain) for _, gain in gains] == sorted(float(gain) for _, gain in gains)
        assert line.endswith(f"; {gains[2][0]} is shown")
    for name in ("restored.jpg", "tasks.jpg"):
        made, kept = (read_image(folder / name) for folder in (tmp_path, ROOT / "docs"))
        assert abs(made.astype(float) - kept).mean() < 1  # of 255: the rounding of other CPUs
