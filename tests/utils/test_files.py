"""The one way in which files are written: whole or not at all, through no link, and nothing is left behind."""

import os
import signal
import subprocess

import pytest
from conftest import command_of, disk_full

from utils.errors import InputError
from utils.files import check_inside, replacing, write_atomically

NAMES = ["a.png", "last.pt", "n" * 250 + ".pkl", os.fsdecode(b"no-\xff\xfe-text"), "line\nbreak", "-"]

WRITE_AND_WAIT = """
import sys
from pathlib import Path
from utils.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sync", [False, True])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, name, sync):
    path = tmp_path / "new" / name
    write_atomically(path, "old", sync=sync)
    assert path.read_text() == "old"
    with disk_full(100), pytest.raises(OSError, match="File too large") as error:
        write_atomically(path, bytes(1000), sync=sync)
    assert error.value.filename == str(path)
    with pytest.raises(InputError), replacing(path, sync=sync) as file:
        raise InputError(f"found after {file.write(b'half')} bytes")
    assert path.read_text() == "old"
    write_atomically(path, b"new", sync=sync)
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == [name]


def test_no_link_is_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    output = tmp_path / "output"
    output.mkdir()
    for name in ("a.png", ".a.png.part", "a.png.tmp", "a.png.part"):
        (output / name).symlink_to(tmp_path / "mine")
    write_atomically(output / "a.png", "image")
    assert (output / "a.png").read_text() == "image"
    assert not (output / "a.png").is_symlink()
    assert (tmp_path / "mine").read_text() == "mine"


def test_every_temporary_name_is_another(tmp_path):
    names = set()
    for _ in range(20):
        with replacing(tmp_path / "a.mp4") as file:
            names.add(os.path.basename(file.name))
            assert os.listdir(tmp_path) == [os.path.basename(file.name)]
        (tmp_path / "a.mp4").unlink()
    assert len(names) == 20


def test_what_killed_processes_leave_is_removed_and_what_others_are_writing_is_not(tmp_path):
    killed, writing = (
        subprocess.Popen(
            **command_of("-c", WRITE_AND_WAIT, tmp_path / name), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in ("killed.png", "writing.png")
    )
    with killed, writing:
        assert killed.stdout.readline() == writing.stdout.readline() == "writing\n"
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        (tmp_path / ".mine.part").write_text("not a name of ours")
        (tmp_path / f".link.png.{'0' * 16}.part").symlink_to(tmp_path / "mine")
        (tmp_path / "mine").write_text("mine")
        assert len(list(tmp_path.glob(".*.png.*.part"))) == 3
        write_atomically(tmp_path / "new.png", "new")
        kept = {path.name.split(".")[1] for path in tmp_path.glob(".*.part")}
        assert kept == {"mine", "link", "writing"}
        assert writing.communicate("")[0] == ""
    assert (tmp_path / "writing.png").read_text() == "half"
    assert (tmp_path / "mine").read_text() == "mine"


def test_links_that_lead_out_of_the_output_are_named(tmp_path):
    output = tmp_path / "link"
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    output.symlink_to(tmp_path / "folder")
    (output / "within").symlink_to(output / "inside")
    (output / "out").symlink_to(tmp_path)
    (output / "gone.json").symlink_to(tmp_path / "missing")
    for path in ("metrics.json", "inside/a.png", "within/a.png", "new/a.png"):
        check_inside(output / path, output)
    for path, named in (("gone.json", "gone.json"), ("out/a.png", "out"), ("out/b/c.png", "out/b"), ("../a.png", "..")):
        with pytest.raises(InputError) as error:
            check_inside(output / path, output)
        assert str(error.value).startswith(f"{output / named}: a symbolic link or '..' leads out")
