"""Existing results are reused only if the same weights and options made them: restore.py, run by run."""

import itertools
import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_refused, disk_full, run_script
from hypothesis import given
from hypothesis import strategies as st

from data.images import write_image
from inference.manifest import HEADER, NAME, OLD_NAME, Manifest, settings_of
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
    assert Manifest(results / "out", {}).known.keys() == {"sub/b.png"}


DAMAGED = ["", "{", "[]\n", "{}\n", '{"settings": [], "results": {"a.png": 0}}', "\xff"]
ENTRIES = [
    "{\n",
    "5\n",
    "[]\n",
    "{}\n",
    '{"result": "a", "settings": 5}\n',
    '{"result": "a", "scores": {"NIQE": [1]}}\n',
]


@pytest.mark.parametrize(
    "name, text",
    [
        *((name, text) for name in (NAME, OLD_NAME) for text in DAMAGED),
        *((NAME, f"{json.dumps(HEADER)}\n{entry}") for entry in ENTRIES),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=rf"{re.escape(str(tmp_path / name))}: .*remove it"):
        Manifest(tmp_path, {})


SETTINGS = {"weights": "a.pt", "sha256": "0" * 64, "precision": "float32", "self_ensemble": False}
SCORES = {"NIQE": (3.0, 2.5), "BRISQUE": (None, None)}
CALLS = st.tuples(
    st.sampled_from(["record", "forget", "scores", "reopen", "full disk"]),
    st.sampled_from(["a.png", "ä/b.png", "clip.mp4", "\udcff\n.png"]),
    st.sampled_from(["0" * 64, "1" * 64]),
)


@given(st.lists(CALLS, max_size=12))
def test_what_a_folder_says_of_its_results_is_what_was_recorded_last(calls):
    """Whatever the order of jobs, results, and disks that are full in between."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest, known, scores = Manifest(folder, SETTINGS), {}, {}
        for call, result, sha256 in calls:
            manifest.settings = SETTINGS | {"sha256": sha256}
            if call == "record":
                manifest.record(folder / result)
                known[result] = manifest.settings
            elif call == "forget":
                manifest.forget(folder / result)
                scores.pop(result, None)
                if known.get(result) != manifest.settings:
                    known.pop(result, None)
            elif call == "scores":
                manifest.record_scores(folder / result, SCORES)
                scores[result] = SCORES
            elif call == "full disk":
                most = manifest.path.stat().st_size + 20 if manifest.appends else 60  # within a line
                with disk_full(most), pytest.raises(OSError) as error:
                    manifest.record_scores(folder / result, SCORES)
                assert error.value.filename == str(manifest.path)
            else:
                manifest = Manifest(folder, SETTINGS)
            for reader in (manifest, Manifest(folder, SETTINGS)):
                assert (reader.known, reader.scores) == (known, scores)


def test_a_result_is_recorded_without_writing_the_others_again(tmp_path):
    manifest = Manifest(tmp_path, SETTINGS)
    contents = []
    for index in range(4):
        manifest.record(tmp_path / f"{index}.png")
        contents.append((manifest.path.stat().st_ino, manifest.path.read_bytes()))
    for (file, before), (same, after) in itertools.pairwise(contents):
        assert same == file
        assert after.startswith(before)
    again = Manifest(tmp_path, SETTINGS)
    again.forget(tmp_path / "0.png")  # of the same settings: nothing to say
    assert manifest.path.read_bytes() == contents[-1][1]
    again.settings = SETTINGS | {"sha256": "1" * 64}
    again.record(tmp_path / "0.png")
    assert manifest.path.read_bytes().count(b"0.png") == 1  # what is outdated is left out


def test_of_a_job_killed_while_it_recorded_all_but_the_last_line_is_read(tmp_path):
    manifest = Manifest(tmp_path, SETTINGS)
    for name in ("a.png", "b.png"):
        manifest.record(tmp_path / name)
    content = manifest.path.read_bytes()
    for end in range(content.index(b"\n") + 1, len(content) + 1):
        manifest.path.write_bytes(content[:end])
        lines = content[:end].count(b"\n")
        later = Manifest(tmp_path, SETTINGS)
        assert list(later.known) == ["a.png", "b.png"][: lines - 1]
        later.record(tmp_path / "c.png")
        assert Manifest(tmp_path, SETTINGS).known == later.known


def test_a_manifest_removed_during_a_job_is_written_anew(tmp_path):
    manifest = Manifest(tmp_path, SETTINGS)
    for name in ("a.png", "b.png"):
        manifest.record(tmp_path / name)
        manifest.path.unlink()
    manifest.record(tmp_path / "c.png")
    assert list(Manifest(tmp_path, SETTINGS).known) == ["a.png", "b.png", "c.png"]


def test_a_link_in_the_place_of_the_manifest_is_replaced_and_not_followed(tmp_path):
    outside, folder = tmp_path / "outside.txt", tmp_path / "out"
    outside.write_text("mine")
    manifest = Manifest(folder, SETTINGS)
    manifest.record(folder / "a.png")
    manifest.path.unlink()
    manifest.path.symlink_to(outside)
    manifest.record(folder / "b.png")
    assert outside.read_text() == "mine"
    assert list(Manifest(folder, SETTINGS).known) == ["a.png", "b.png"]


def test_the_results_of_older_versions_are_known(results, small_weights, tmp_path):
    """They wrote one object."""
    out = results / "out"
    first = Manifest(out, {})
    content = {"settings": [first.known["a.png"]], "results": {"a.png": 0, "sub/b.png": 0}}
    content["scores"] = {"a.png": {"NIQE": [3.0, 2.5], "BRISQUE": [None, None]}}
    (out / NAME).unlink()
    (out / OLD_NAME).write_text(json.dumps(content, indent=1) + "\n")
    old = Manifest(out, {})
    assert (old.known, old.scores) == (first.known, {"a.png": SCORES})
    weights = other_weights(small_weights, tmp_path / "other.pt")
    assert_refused(restore(results, weights), out, "2 existing results: a.png, sub/b.png")
    assert restore(results, weights, "--overwrite").returncode == 0
    assert not (out / OLD_NAME).exists()
    new = Manifest(out, {})
    assert (new.known.keys(), new.scores) == (first.known.keys(), {})
    assert restore(results, weights).stdout.startswith("0 restored, 2 skipped, 0 failed")


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
