"""python -m data.preview: the samples of training, from all sets, with what was drawn for each."""

from itertools import islice

import numpy as np
import pytest
import torch
from conftest import ITS, ROOT, assert_refused, few, run_script, write_reside
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont
from shapes import write_shape

from data.datasets import train_loader, training_sets
from data.images import read_image
from data.preview import FONT_SIZE, GAP, caption, samples, wrapped
from data.sampler import EpochSampler
from data.sets import training_pairs
from utils.cli import ScriptParser, config_of


def parsed(*arguments):
    parser = ScriptParser()
    parser.add_config()
    return config_of(parser.instantiate(parser.parse_args([*map(str, arguments)])))


def test_the_sheet_shows_the_first_samples_of_training_pixel_by_pixel(tmp_path):
    root = write_reside(tmp_path / "reside", hazes=9)
    options = ["--config", ITS, "--data.root", root, "--data.crop_size=64"]
    result = run_script("-m data.preview", *options, "--output", tmp_path / "new" / "sheet.png")
    assert (result.returncode, result.stderr) == (0, "")
    sheet = read_image(tmp_path / "new" / "sheet.png")
    config = parsed(*options)
    pairs = training_pairs(root, config.data.train)
    sampler = EpochSampler(len(pairs[0]), 16, config.seed)
    batch = next(iter(train_loader(training_sets(config, pairs), sampler, 0)))
    expected = (torch.cat([batch["input"], batch["target"]], dim=2) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for place, image in enumerate(expected[:8]):
        left = GAP + place * (64 + GAP)
        np.testing.assert_array_equal(sheet[GAP : GAP + 128, left : left + 64], image)


def test_several_sets_take_turns_and_have_their_parameters(tmp_path):
    root = write_shape("all_in_one_five", tmp_path / "data")
    config = ["--config", ROOT / "configs" / "all_in_one_five.yaml", "--data.root", root]
    result = run_script("-m data.preview", *config, "--output", tmp_path / "sheet.png")
    assert (result.returncode, result.stderr) == (0, "")
    shown = list(islice(samples(parsed(*config), epoch=1), 16))
    assert [label.split()[0] for label, _ in shown] == [f"[{place % 7}]" for place in range(16)]
    assert [sample["drawn"] for _, sample in shown[2:5]] == [[("noise", {"sigma": sigma})] for sigma in (15, 25, 50)]
    assert caption(shown[3][0], shown[3][1]["drawn"])[1:] == ["noise: sigma 25"]


def test_a_set_of_one_image_gives_sixteen_different_crops(tmp_path):
    root = write_shape("deraining_rain13k", tmp_path / "data")
    options = ["--data.train.folder=train/target", "--data.train.only=[1, 1]", "--data.train.degrade=[rain, noise]"]
    config = parsed("--config", ROOT / "configs" / "deraining_rain13k.yaml", "--data.root", root, *options)
    shown = [sample for _, sample in islice(samples(config, epoch=3), 16)]
    assert len({sample["input"].sum().item() for sample in shown}) == 16


def test_a_broken_image_is_named(tmp_path):
    root = write_reside(tmp_path / "reside")
    broken = root / "train" / "gt" / "10.png"
    broken.write_bytes(broken.read_bytes()[:500])
    options = ["--config", ITS, "--data.root", root, "--data.crop_size=64", "--output", tmp_path / "sheet.png"]
    result = run_script("-m data.preview", *options)
    assert result.returncode == 0, result.stderr
    assert f"warning: {broken}" in result.stderr
    for path in (root / "train" / "gt").iterdir():
        path.write_bytes(broken.read_bytes())
    (tmp_path / "sheet.png").unlink()
    assert run_script("-m data.preview", *options).returncode == 2
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("name", ["sheet", "sheet.pdf", "folder.png"])
def test_another_output_than_an_image_is_refused(tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    root = write_reside(tmp_path / "reside")
    result = run_script("-m data.preview", "--config", ITS, "--data.root", root, "--output", tmp_path / name)
    assert_refused(result, name, "image file")


@few
@given(st.lists(st.text(max_size=80), max_size=5), st.integers(1, 300))
def test_text_is_broken_to_the_width_and_nothing_is_lost(lines, width):
    font = ImageFont.load_default(FONT_SIZE)
    lines = [" ".join(line.split()) for line in lines]
    broken = wrapped(lines, width, font)
    assert "".join(broken).replace(" ", "") == "".join(lines).replace(" ", "")
    assert all(font.getlength(line) <= width or len(line) == 1 for line in broken)
