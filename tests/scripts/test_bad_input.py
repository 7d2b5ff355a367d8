"""Odd names, links and outputs through the real scripts: used, or refused in one line."""

import json
import os

import numpy as np
import pytest
from album import PIXELS, SOUND
from conftest import ROOT, TINY, assert_refused, run_script, train_tiny

from data.datasets import PairedImages, TrainingSets, evaluation_loader, train_loader
from data.images import write_image
from data.layouts import find_pairs, pair_folders
from data.sampler import EpochSampler
from data.transforms import PairedCropFlip
from utils.errors import printable

NAMES = [
    "with space",
    "übung-\u4e2d\u6587-\U0001f600",
    "-dash",
    "line\nbreak",
    "quote\"'`$(true)",
    "a" * 240,
    os.fsdecode(b"no-\xff\xfe-text"),
    "comma,semi;colon:",
    "tab\tand\\backslash",
    "%s{id}*[a]?",
    "dots..",
    "\x1b[2J\x1b]0;title\x07\x9b31m",
    "\u202eright to left",
    os.fsdecode(b" first-\xff"),
]


@pytest.fixture
def oddly_named(tmp_path):
    """Pairs of images with names that file systems allow."""
    for name in NAMES:
        for side in ("input", "target"):
            write_image(tmp_path / "set" / side / f"{name}.png", np.tile(PIXELS, (6, 4, 1)))
    return tmp_path / "set"


def test_odd_names_are_paired_and_loaded(oddly_named):
    pairs = find_pairs(oddly_named, "plain")
    assert len(pairs) == len(pair_folders(oddly_named / "input", oddly_named / "target")) == len(NAMES)
    sampler = EpochSampler(len(pairs), 4, seed=0)
    sets = TrainingSets([PairedImages(pairs, PairedCropFlip((64, 64)))])
    names = [name for batch in train_loader(sets, sampler, 1) for name in batch["name"]]
    assert sorted(names) == sorted(f"input/{name}" for name in NAMES)
    assert [batch["name"] for batch in evaluation_loader(pairs, 1)] == [[pair.name] for pair in pairs]


def test_odd_names_go_through_the_scripts(oddly_named, small_weights, tmp_path):
    (oddly_named / "input" / f"{NAMES[6]}.png").write_bytes(b"broken")
    source = oddly_named / "input"
    folders = ["--input", source, "--target", oddly_named / "target", "--output", tmp_path / "out"]
    result = run_script("test.py", "--weights", small_weights, *folders, "--save-images")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert "no-\\udcff\\udcfe-text.png" in result.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"]["input"]
    assert (metrics["images"], list(metrics["failed"])) == (len(NAMES) - 1, [NAMES[6]])
    written = {path.name for path in (tmp_path / "out" / "images" / "input").iterdir()}
    assert written == {f"{name}.png" for name in NAMES if name != NAMES[6]}
    arguments = ["--weights", small_weights, "--input", source, "--output", tmp_path / "restored"]
    result = run_script("restore.py", *arguments)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert {path.name for path in (tmp_path / "restored").iterdir()} == {*written, ".irnext.jsonl"}


def test_odd_names_are_trained_on(oddly_named, tmp_path):
    (oddly_named / "input" / f"{NAMES[6]}.png").write_bytes(SOUND["deep.png"])  # another size, found at the start
    config = tmp_path / "mine.yaml"
    sets = "{train: {folder: ., layout: plain}, test: {mine: {folder: ., layout: plain}}}"
    config.write_text(f"base: {ROOT}/configs/base/recipe.yaml\ntask: mine\ndata: {sets}\n")
    common = ["--config", config, "--data.root", oddly_named, "--output", tmp_path / "run", *TINY, "--train.epochs=2"]
    assert_refused(run_script("train.py", *common), "no-\\udcff", "different size")
    content = bytearray((oddly_named / "target" / f"{NAMES[6]}.png").read_bytes())
    content[60:200] = bytes(140)
    (oddly_named / "input" / f"{NAMES[6]}.png").write_bytes(content)
    result = run_script("train.py", *common)
    assert result.returncode == 0, result.stderr
    assert f"warning: {oddly_named}/input/no-\\udcff\\udcfe-text.png: the image is damaged" in result.stderr
    resumed = run_script("train.py", *common, "--resume=auto")
    assert resumed.returncode == 0, resumed.stderr


def test_links_in_the_results_do_not_lead_out(reside, small_weights, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "20_1.png").write_text("mine")
    source = ["--input", reside / "test" / "hazy", "--target", reside / "test" / "gt"]
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "hazy").symlink_to(elsewhere)
    result = run_script("test.py", "--weights", small_weights, *source, "--output", tmp_path / "out", "--save-images")
    assert_refused(result, tmp_path / "out" / "images" / "hazy", "leads out of the output folder")
    assert [(path.name, path.read_text()) for path in elsewhere.iterdir()] == [("20_1.png", "mine")]


@pytest.mark.parametrize(
    "script, output",
    [
        ("train.py", "file/below"),
        ("train.py", "/proc/nowhere"),
        ("test.py", "a" * 300),
        ("test.py", "a\x1b[31m" * 60),
        ("restore.py", "/dev/null"),
    ],
)
def test_outputs_that_cannot_be(reside, small_weights, tmp_path, script, output):
    (tmp_path / "file").write_text("mine")
    path = tmp_path / output
    source = ["--weights", small_weights, "--output", path, "--input", reside / "test" / "hazy"]
    source += ["--target", reside / "test" / "gt"] if script == "test.py" else []
    result = train_tiny(reside, path) if script == "train.py" else run_script(script, *source)
    assert_refused(result, printable(str(path)))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("option", ["--weights", "--input", "--output"])
def test_an_empty_path_is_not_the_current_folder(reside, small_weights, tmp_path, option):
    given = {"--weights": small_weights, "--input": reside / "test" / "gt", "--output": tmp_path / "out"} | {option: ""}
    assert_refused(run_script("restore.py", *(f"{name}={value}" for name, value in given.items())), option, "empty")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", ["restore.py", "test.py", "app.py", "-m inference.export"])
def test_weights_that_do_not_exist_are_named_with_their_option(tmp_path, script):
    path = tmp_path / "\x1b[31mred.pt"
    source = {
        "restore.py": ["--input", tmp_path, "--output", tmp_path / "out"],
        "test.py": ["--input", tmp_path, "--target", tmp_path, "--output", tmp_path / "out"],
        "-m inference.export": ["--format=onnx", "--output", tmp_path / "out"],
    }.get(script, [])
    result = run_script(script, "--weights", path, *source)
    assert_refused(result, f"error: --weights {tmp_path}/\\x1b[31mred.pt: no such weights file")


@pytest.mark.parametrize("given", [["--input", "-x.png"], ["--input", "a.png", "-x.png"], ["-x.png"]])
def test_a_name_with_a_leading_dash_gets_a_hint(small_weights, tmp_path, given):
    result = run_script("restore.py", "--weights", small_weights, "--output", tmp_path / "out", *given)
    assert_refused(result, "./-x.png")
    result = run_script("restore.py", "--weights", small_weights, "--output", tmp_path / "out", "--inpt", "a.png")
    assert_refused(result, "inpt")
    assert "dash" not in result.stderr
