"""Existing results are reused only if the same weights and options made them: restore.py, run by run."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import assert_refused, run_script

from data.images import write_image
from inference.manifest import NAME, Manifest, settings_of
from utils.errors import InputError


@pytest.fixture(scope="module")
def first_run(small_weights, tmp_path_factory):
    """Two images, and the folder of their results."""
    root = tmp_path_factory.mktemp("manifest")
    rng = np.random.default_rng(0)
    for name in ("a.png", "sub/b.png"):
        write_image(root / "in" / name, rng.integers(0, 256, (64, 64, 3), np.uint8))
    result = run_script("restore.py", "--weights", small_weights, "--input", root / "in", "--output", root / "out")
    assert result.returncode == 0, result.stderr
    return root


@pytest.fixture
def results(first_run, tmp_path):
    """A copy of that run."""
    shutil.copytree(first_run, tmp_path / "run")
    return tmp_path / "run"


def restore(root, weights, *options):
    return run_script("restore.py", "--weights", weights, "--input", root / "in", "--output", root / "out", *options)


def content(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def other_weights(weights, path):
    checkpoint = torch.load(weights, weights_only=True)
    checkpoint["model"]["heads.2.bias"] += 0.1
    torch.save(checkpoint, path)
    return path


@pytest.mark.parametrize(
    "options, mentions",
    [
        ([], ["weights best.pt (SHA-256 ", "instead of other.pt (SHA-256 "]),
        (["--precision=bf16"], ["precision float32 instead of bf16"]),
        (["--self-ensemble"], ["self-ensemble False instead of True"]),
    ],
)
def test_results_made_otherwise_are_not_taken_for_the_same(results, small_weights, tmp_path, options, mentions):
    weights = small_weights if options else other_weights(small_weights, tmp_path / "other.pt")
    before = content(results)
    refused = without_emulation_warning(restore(results, weights, *options))
    assert_refused(
        refused, results / "out", "2 existing results: a.png, sub/b.png", *mentions, "--overwrite", "--output"
    )
    assert content(results) == before
    assert restore(results, weights, *options, "--overwrite").stdout.startswith("2 restored, 0 skipped")
    after = content(results / "out")
    assert all(after[path] != before[path] for path in after)
    again = without_emulation_warning(restore(results, weights, *options))
    assert (again.stdout.split(";")[0], again.stderr) == ("0 restored, 2 skipped, 0 failed", "")


def without_emulation_warning(result):
    """The result of a script without the line that a CPU without bf16 instructions adds."""
    lines = result.stderr.splitlines(keepends=True)
    result.stderr = "".join(line for line in lines if "bf16 is emulated" not in line)
    return result


def test_what_changes_no_pixel_changes_nothing(results, small_weights, tmp_path):
    shutil.copy(small_weights, tmp_path / "renamed.pt")
    before = content(results)
    again = restore(results, tmp_path / "renamed.pt", "--tile=64", "--compare", "--max-megapixels=1")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.startswith("0 restored, 2 skipped, 0 failed, 2 missing comparison(s) added")
    assert {path: value for path, value in content(results).items() if "compare" not in path.name} == before


def test_new_images_join_whatever_made_the_others(results, small_weights, tmp_path):
    shutil.copy(results / "in" / "a.png", tmp_path / "c.png")
    weights = other_weights(small_weights, tmp_path / "other.pt")
    command = ("--weights", weights, "--input", tmp_path / "c.png", "--output", results / "out")
    for expected in ("1 restored, 0 skipped", "0 restored, 1 skipped"):
        result = run_script("restore.py", *command)
        assert result.stdout.startswith(expected), result.stderr
    assert restore(results, small_weights).stdout.startswith("0 restored, 2 skipped")


def test_older_results_are_skipped_with_a_note(results, small_weights):
    (results / "out" / NAME).unlink()
    (results / "out" / "sub" / "b.png").unlink()
    mixed = restore(results, small_weights)
    assert mixed.returncode == 0
    assert mixed.stdout.startswith("1 restored, 1 skipped")
    (note,) = mixed.stderr.splitlines()
    assert note.startswith(f"note: skipping 1 existing file: {results / 'out' / 'a.png'}; made with unknown weights")
    assert json.loads((results / "out" / NAME).read_text())["results"] == {"sub/b.png": 0}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"settings": [], "results": {"a.png": 0}}', "\xff"])
def test_a_damaged_manifest_is_named(tmp_path, text):
    (tmp_path / NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=rf"{re.escape(str(tmp_path / NAME))}: .*remove it"):
        Manifest(tmp_path, {})


def test_nothing_is_replaced_beside_a_damaged_manifest(results, small_weights):
    (results / "out" / NAME).write_text("{")
    before = content(results)
    assert_refused(restore(results, small_weights, "--overwrite"), results / "out" / NAME, "remove it")
    assert content(results) == before


def test_a_job_killed_while_it_replaces_results_leaves_no_wrong_record(results, small_weights, tmp_path):
    """Between the two calls the file may be of either settings."""
    out = results / "out"
    other = Manifest(out, settings_of(other_weights(small_weights, tmp_path / "other.pt"), "float32", False))
    other.forget(out / "a.png")
    first = Manifest(out, settings_of(small_weights, "float32", False))
    for manifest in (first, other):
        assert manifest.check([out / "a.png"]) == [out / "a.png"]
    assert first.check([out / "sub" / "b.png"]) == []
    other.record(out / "a.png")
    assert other.check([out / "a.png"]) == []
