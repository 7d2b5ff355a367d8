"""Lists of a split's images, as people and programs write them."""

import os

import pytest
from album import write

from data.layouts import find_pairs
from data.lists import select_listed
from utils.errors import InputError

INPUTS = ["0005_0.8_0.04.png", "0005_0.8_0.2.png", "a b.jpg", "a,b.png", "3.png", "deep/x.png", "é.png"]


@pytest.fixture
def pairs(tmp_path):
    """The pairs of ``INPUTS``."""
    for side in ("input", "target"):
        write(tmp_path, *(f"{side}/{name}" for name in INPUTS))
    return find_pairs(tmp_path, "plain")


LISTS = {
    "without suffix": ("0005_0.8_0.04\ndeep/x\n3", ["0005_0.8_0.04", "3", "deep/x"]),
    "with suffix": ("0005_0.8_0.2.png\na b.jpg\na,b.png", ["0005_0.8_0.2", "a b", "a,b"]),
    "with another suffix": ("0005_0.8_0.2.JPG\ndeep/x.jpeg", ["0005_0.8_0.2", "deep/x"]),
    "another case": ("DEEP/X.PNG\nÉ", ["deep/x", "é"]),
    "decomposed": ("e\u0301.png", ["é"]),
    "of Windows": ("C:\\data\\input\\deep\\x.png\r\n.\\input\\3.png\r\n", ["3", "deep/x"]),
    "old Mac": ("3.png\ra b.jpg\r", ["3", "a b"]),
    "blank lines": ("\n\n3.png\n  \n", ["3"]),
    "two columns": ("target/3.png input/3.png\ntarget/deep/x.png\tinput/deep/x.png", ["3", "deep/x"]),
    "csv": ('id,filename,target\n3,0005_0.8_0.04.png,1.png\n0,"a,b.png",2.png', ["0005_0.8_0.04", "a,b"]),
    "csv of paths": ("hazy;gt\ninput/3.png;target/3.png\n", ["3"]),
    "csv of one column": ("filename\na b.jpg\n", ["a b"]),
    "quoted": ('"a b.jpg"\n"deep/x.png"\n', ["a b", "deep/x"]),
    "twice": ("3.png\n3.png", ["3"]),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("kind", LISTS)
def test_a_list_names_its_images(pairs, tmp_path, kind, encoding):
    text, names = LISTS[kind]
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    assert [pair.name for pair in select_listed(pairs, tmp_path / "list.txt")] == [f"input/{name}" for name in names]


WRONG = {
    "gone": ("3.png\n4.png\n", "1 line with no matching input: 4.png"),
    "almost": ("0005_0.8", "1 line with no matching input: 0005_0.8"),
    "a part of a name": ("x.pn\nep/x.png", "2 lines with no matching input"),
    "only a heading": ("filename\n", "the list is empty"),
    "a heading further down": ("3.png\nfilename\n", "1 line with no matching input: filename"),
    "a name like a heading": ("name.png\n3.png\n", "1 line with no matching input: name.png"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_a_list_names_in_vain_is_named(pairs, tmp_path, kind):
    text, message = WRONG[kind]
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        select_listed(pairs, tmp_path / "list.txt")


def test_images_that_differ_only_in_suffix_or_folder_are_told_apart(tmp_path):
    write(tmp_path, "input/1.png", "input/1.jpg", "input/a/2.png", "input/b/2.png")
    write(tmp_path, "target/1.png", "target/a/2.png", "target/b/2.png")
    pairs = find_pairs(tmp_path, "plain")
    assert [pair.name for pair in pairs] == ["input/1.jpg", "input/1.png", "input/a/2", "input/b/2"]
    for line, name in (("1.jpg", "1.jpg"), ("input/1.png", "1.png"), ("a/2", "a/2"), ("b/2.png", "b/2")):
        (tmp_path / "list.txt").write_text(line)
        assert [pair.name for pair in select_listed(pairs, tmp_path / "list.txt")] == [f"input/{name}"]
    for line in ("1", "1.tif", "2", "2.png"):
        (tmp_path / "list.txt").write_text(line)
        with pytest.raises(InputError, match=r"1 line with several matching inputs: .* and "):
            select_listed(pairs, tmp_path / "list.txt")


def test_a_list_that_is_no_text_is_refused(pairs, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**40)
    for name in ("pipe", "binary", "large", "."):
        with pytest.raises(InputError, match="list of the split"):
            select_listed(pairs, tmp_path / name)
    with pytest.raises(InputError, match="list of the split"):
        select_listed(pairs, "/dev/zero")
