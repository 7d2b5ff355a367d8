"""Folders with links and service files, and names in other spellings."""

import json
import os
import unicodedata
from pathlib import Path

import pytest
from album import write
from conftest import ITS, assert_refused, run_script

from data.folders import find_below, walk
from data.layouts import find_clean, find_pairs, pair_folders
from data.sets import pairs_of_set
from inference.folders import find_jobs
from utils.config import SetConfig
from utils.errors import InputError

SERVICE = [".ipynb_checkpoints", ".hidden", "__MACOSX", "@eaDir", "$RECYCLE.BIN"]
SERVICE_FILES = ["._1.png", ".1.png", "Thumbs.db", ".DS_Store", "desktop.ini", "Desktop.ini"]
NAMES = {"é", "größe", "한국", "Å"}


def inputs_of(source: Path | str) -> list[str]:
    """What restore.py would write for a folder or pattern, relative to its output folder."""
    output = Path("/nowhere")
    return sorted(str(job.output.relative_to(output)) for job in find_jobs([str(source)], output, {}).jobs)


def test_service_files_and_folders_are_passed_over_everywhere(tmp_path):
    write(tmp_path, "input/1.png", "target/1.png", "input/__macosx.png", "target/__macosx.png")
    for side in ("input", "target"):
        for name in SERVICE:
            write(tmp_path, f"{side}/{name}/{side}.png", f"{name}/{side}/2.png")
        for name in SERVICE_FILES:
            (tmp_path / side / name).write_text("not an image")
    expected = ["input/1", "input/__macosx"]
    assert [pair.name for pair in find_pairs(tmp_path, "plain")] == expected
    assert [pair.name for pair in find_clean(tmp_path / "input")] == ["1", "__macosx"]
    assert [pair.name for pair in pair_folders(tmp_path / "input", tmp_path / "target")] == ["1", "__macosx"]
    assert inputs_of(tmp_path / "input") == ["1.png", "__macosx.png"]
    assert inputs_of(f"{tmp_path}/**/*1.png") == ["input/1.png", "target/1.png"]
    assert inputs_of(f"{tmp_path}/*/*") == inputs_of(f"{tmp_path}/*") == inputs_of(tmp_path)
    with pytest.raises(InputError, match="no images or videos found"):
        inputs_of(f"{tmp_path}/*/*/*.png")


def test_links_are_followed_and_loops_end(tmp_path):
    write(tmp_path / "elsewhere", "1.png", "deep/2.png")
    data = tmp_path / "data"
    data.mkdir()
    (data / "input").symlink_to(tmp_path / "elsewhere")
    (data / "target").symlink_to(tmp_path / "elsewhere")  # the same folder twice is no loop
    for name in ("loop", "other", "third"):
        (data / name).symlink_to(data)
        (tmp_path / "elsewhere" / name).symlink_to(data)
    (data / "itself").symlink_to("itself")
    (data / "gone").symlink_to("nowhere")
    assert [pair.name for pair in find_pairs(data, "plain")] == ["input/1", "input/deep/2"]
    assert inputs_of(data) == ["input/1.png", "input/deep/2.png", "target/1.png", "target/deep/2.png"]
    assert inputs_of(f"{data}/**/*.png") == inputs_of(data)


def test_links_without_end_are_refused(tmp_path, monkeypatch):
    for level in range(12):
        (tmp_path / str(level)).mkdir()
        for name in "ab":
            (tmp_path / str(level) / name).symlink_to(tmp_path / str(level + 1))
    monkeypatch.setattr("data.folders.MAX_FOLDERS", 1000)
    with pytest.raises(InputError, match="more than 1000 folders"):
        list(walk(tmp_path / "0"))


@pytest.mark.parametrize("on_disk, asked", [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_match_in_both_unicode_forms(tmp_path, on_disk, asked):
    stored, wanted = ({unicodedata.normalize(form, name) for name in NAMES} for form in (on_disk, asked))
    folder = unicodedata.normalize(on_disk, "Bücher")
    write(
        tmp_path,
        *(f"{folder}/input/{name}.png" for name in stored),
        *(f"{folder}/target/{name}.png" for name in wanted),
    )
    (tmp_path / unicodedata.normalize(on_disk, "prüfung.txt")).write_text("\n".join(wanted))
    only = unicodedata.normalize(asked, "PRÜFUNG.txt")
    part = SetConfig(folder=unicodedata.normalize(asked, "bücher"), only=only)
    assert len(pairs_of_set(tmp_path, part)) == len(NAMES)
    assert find_below(tmp_path, f"{part.folder}/INPUT") == tmp_path / folder / "input"


def test_inputs_that_differ_in_suffix_case_or_folder_are_not_confused(small_weights, tmp_path):
    inputs = ["1.png", "1.PNG", "1.jpg", "1.png.png", "a/1.png", "A/1.png", "b.png", "B.png"]
    write(tmp_path, *(f"input/{name}" for name in inputs))
    write(tmp_path, *(f"target/{name}" for name in ("1.png", "1.png.png", "a/1.png", "b.png")))
    (tmp_path / "input" / "1.jpg").write_bytes(b"broken")
    folders = ["--input", tmp_path / "input", "--target", tmp_path / "target", "--output", tmp_path / "out"]
    result = run_script("test.py", "--weights", small_weights, *folders, "--save-images")
    assert result.returncode == 2, result.stderr
    scored = json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"]["input"]
    assert (scored["images"], list(scored["failed"])) == (7, ["1.jpg"])
    saved = {str(path.relative_to(tmp_path / "out/images/input")) for path in (tmp_path / "out/images").rglob("*.png")}
    assert len(saved) == 7
    rows = (tmp_path / "out" / "per_image.csv").read_text().splitlines()[1:]
    assert {f"{row.split(',')[2]}.png" for row in rows} == saved


def test_a_tilde_is_the_home_folder_in_every_option_that_takes_a_path(small_weights, reside, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    os.symlink(small_weights, tmp_path / "best.pt")
    source = ["--input=~/reside/test/hazy", "--target=~/reside/test/gt"]
    result = run_script("test.py", "--weights=~/best.pt", *source, "--output=~/scores")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "scores" / "metrics.json").exists()
    result = run_script(
        "restore.py", "--weights=~/best.pt", "--input", "~/reside/test/*/20_1.png", "--output=~/restored"
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "restored" / "hazy" / "20_1.png").exists()
    text = "base: {}\ndata: {{root: ~/reside, test: {{a: {{folder: ~/reside/test, only: ~/list.txt}}}}}}"
    (tmp_path / "mine.yaml").write_text(text.format(ITS))
    (tmp_path / "list.txt").write_text("20_1.png")
    result = run_script("-m data.check", "--config=~/mine.yaml", "--data.test.a.layout=reside")
    assert result.returncode == 0, result.stderr + result.stdout


def test_names_that_look_like_something_else_are_restored(small_weights, tmp_path):
    names = ["-dash.png", "12:30.png", "--output.png", "[1].png", "*.png", "~.png", "a b.png", "http:__x.png", "\\.png"]
    write(tmp_path, *names)
    given = [f"--input={tmp_path / name}" for name in names[:1]]
    result = run_script("restore.py", "--weights", small_weights, *given, "--output", tmp_path / "one")
    assert result.returncode == 0, result.stderr
    given = ["--input", *(tmp_path / name for name in names)]
    result = run_script("restore.py", "--weights", small_weights, *given, "--output", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == set(names)


def test_a_folder_that_cannot_be_used_as_a_name_is_refused(reside, small_weights, tmp_path):
    result = run_script("restore.py", "--weights", small_weights, "--input", "~nobody-here/x", "--output", tmp_path)
    assert_refused(result, "~nobody-here/x", "no such file or folder")
