"""Weights files whose archive, pickle or header does harm: refused quickly, in little memory, in one short line."""

import os
import random
import shutil
import struct
import warnings
import zipfile

import pytest
import torch
from conftest import (
    SMALL,
    command_of,
    run_process,
    save_model,
)
from test_hostile_weights import NAME, TENSORS, refused, state_dict

from models import build_model, load_model
from models.convert import convert
from utils.errors import InputError, printable


def rewritten(path, source, **changes) -> None:
    """A copy of the archive ``source`` whose entries with these last parts of the name are changed by a function."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w") as copy:
        for entry in archive.infolist():
            change = changes.get(entry.filename.rpartition("/")[2].replace(".", "_"), lambda content: content)
            copy.writestr(entry.filename, change(archive.read(entry)))


@pytest.fixture
def sound(tmp_path):
    """A sound checkpoint."""
    return save_model(tmp_path / "sound.pt", build_model(**SMALL), SMALL)


def as_archive(path, structure: bytes, source) -> None:
    """A checkpoint with this pickle and the tensors of ``source``."""
    rewritten(path, source, data_pkl=lambda _: structure)


def doubling(levels: int, key: bool) -> bytes:
    """A pickle of a few bytes that unfolds to 2^levels lists or, as the key of a mapping, tuples."""
    each = [b"h%ch%c\x86q%c" % (n, n, n + 1) if key else b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(levels)]
    start = b"\x80\x02}q\xff" + (b")q\x00" if key else b"]q\x00")
    return start + b"".join(each) + (b"K\x01s." if key else b".")


def call(function: str, argument: bytes) -> bytes:
    """A pickle that calls a function."""
    return b"\x80\x02c" + function.replace(".", "\n", 1).encode() + b"\n" + argument + b"\x85R."


def encoded(codec: bytes, times: int) -> bytes:
    """A pickle that makes bytes of 300,000 characters, many times."""
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 20_000))).encode() * 15 if codec == b"punycode" else b"a" * 300_000
    each = b"h\x00h\x01h\x02\x86R" * times
    load = b"c_codecs\nencode\nq\x00X" + struct.pack("<I", len(text)) + text + b"q\x01"
    return b"\x80\x02" + load + b"X" + struct.pack("<I", len(codec)) + codec + b"q\x02](" + each + b"e."


PICKLES = {
    "gigabytes of bytes": encoded(b"latin1", 30_000),
    "a slow codec": encoded(b"punycode", 1),
    "a slow codec with errors": encoded(b"punycode", 1).replace(
        b"h\x01h\x02\x86R", b"h\x01h\x02X\x06\0\0\0latin1\x87R"
    ),
    "nested tuples as a key": doubling(60, key=True),
    "nested lists": doubling(60, key=False),
    "nested without end": b"\x80\x02" + b"](" * 100_000 + b"e" * 100_000 + b".",
    "a call for bytes": call("__builtin__.bytearray", b"\x8a\x05\x00\x00\x00\x00\x10"),
    "a call for a tensor": call("torch.Tensor", b"\x8a\x05\x00\x00\x00\x00\x10"),
    "a call for a storage": call("torch.FloatStorage", b"\x8a\x05\x00\x00\x00\x00\x10"),
    "a call for counts": call("collections.Counter", b"X\x01\x00\x00\x00a"),
    "a set of nested tuples": b"\x80\x02c__builtin__\nset\n(" + doubling(60, key=True)[3:-3] + b"t\x85R.",
    "a text of a claimed length": b"\x80\x02X\xff\xff\xff\xffabc.",
    "a memo of a billion entries": b"\x80\x02]r\xff\xff\xff\x7f.",
    "sets of a later protocol": b"\x80\x04" + b"\x8f" * 6_000_000 + b".",
    "no end": b"\x80\x02]",
    "no stack": b"\x80\x02R.",
    "no mark": b"\x80\x02t.",
    "nothing": b"",
    "a name with escapes": b"\x80\x02c\x1b[2J\nx\n.",
    "a long name": b"\x80\x02c" + b"a" * 100_000 + b"\nx\n.",
}


@pytest.mark.parametrize("kind", PICKLES)
def test_structures_made_to_unfold_are_refused(tmp_path, sound, kind):
    as_archive(tmp_path / "w.pt", PICKLES[kind], sound)
    refused(tmp_path / "w.pt")
    (tmp_path / "w.pkl").write_bytes(PICKLES[kind])
    refused(tmp_path / "w.pkl")


def test_structures_of_millions_of_parts_are_refused(tmp_path, sound):
    as_archive(tmp_path / "w.pt", b"\x80\x02" + b"]" * 2_500_000 + b".", sound)
    refused(tmp_path / "w.pt")


def compressed(path, source) -> None:
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as copy:
        for entry in archive.infolist():
            copy.writestr(entry.filename, archive.read(entry))


def of_zeros(path, source) -> None:
    """700 MB of zeros in a file of a few megabytes."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as copy:
        for entry in archive.infolist():
            with copy.open(entry.filename, "w", force_zip64=True) as file:
                for _ in range(700 if entry.filename.endswith("data.pkl") else 0):
                    file.write(bytes(2**20))


def overlapping(path, source) -> None:
    """All entries of the archive's directory point to the largest one."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w") as copy:
        entries = [entry for entry in archive.infolist() if not entry.filename.endswith("data.pkl")]
        copy.writestr(
            "archive/data.pkl", archive.read(next(e for e in archive.infolist() if e.filename.endswith("data.pkl")))
        )
        copy.writestr("archive/data/0", bytes(2**20))
        first = copy.infolist()[1]
        for entry in entries:
            double = zipfile.ZipInfo(entry.filename)
            double.header_offset, double.CRC = first.header_offset, first.CRC
            double.file_size = double.compress_size = first.file_size
            copy.filelist.append(double)


def two_structures(path, source) -> None:
    shutil.copyfile(source, path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(
            next(name for name in archive.namelist() if name.endswith("data.pkl")), PICKLES["nested tuples as a key"]
        )


@pytest.mark.parametrize("make", [compressed, overlapping, two_structures])
def test_archives_made_to_unfold_are_refused(tmp_path, sound, make):
    make(tmp_path / "w.pt", sound)
    refused(tmp_path / "w.pt")


SIZES = b"(K\x10K\x10K\x03K\x03t"  # of the tensor NAME, as pickled
CLAIMS = {
    "more rows": (SIZES, b"(J\xff\xff\xff\x7fK\x10K\x03K\x03t"),
    "more rows than fit": (SIZES, b"(K\x20K\x10K\x03K\x03t"),
    "negative rows": (SIZES, b"(J\xff\xff\xff\xffK\x10K\x03K\x03t"),
    "more dimensions": (SIZES, b"(K\x10K\x10K\x03K\x03" + b"M\xff\xff" * 5 + b"t"),
    "a storage of gigabytes": (b"M\x00\x09", b"J\xff\xff\xff\x7f"),
    "a storage of exabytes": (b"M\x00\x09", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x1f"),
    "a smaller storage": (b"M\x00\x09", b"M\x00\x08"),
    "a larger storage": (b"M\x00\x09", b"M\x00\x0a"),
    "another type": (b"ctorch\nFloatStorage", b"ctorch\nQInt8Storage"),
    "a wider type": (b"ctorch\nFloatStorage", b"ctorch\nDoubleStorage"),
    "an untyped storage": (b"ctorch\nFloatStorage", b"ctorch.storage\nUntypedStorage"),
}


def test_claims_beyond_the_file_are_refused_in_little_memory(tmp_path, sound):
    old_format, files = tmp_path / "old.pt", []
    torch.save({"model": state_dict(), "model_config": SMALL}, old_format, _use_new_zipfile_serialization=False)
    load_model(old_format)
    for kind, (honest, claimed) in CLAIMS.items():
        files += [tmp_path / f"{kind}.pt", tmp_path / f"{kind} in the old format.pt"]
        assert honest in old_format.read_bytes()
        rewritten(files[-2], sound, data_pkl=lambda pickle, a=honest, b=claimed: pickle.replace(a, b, 1))
        files[-1].write_bytes(old_format.read_bytes().replace(honest, claimed, 1))
    files.remove(tmp_path / "a smaller storage in the old format.pt")  # torch takes the size beside the values
    files += [tmp_path / "terabytes.pt", tmp_path / "zeros.pt"]
    torch.save({"model": state_dict() | {NAME: TENSORS["terabytes of one value"]}, "model_config": SMALL}, files[-2])
    of_zeros(files[-1], sound)
    result = run_process(command_of("-c", IN_LITTLE_MEMORY, sound, *files))
    assert result.returncode == 0, result.stderr[-2000:]
    lines = [line.split(":")[0] for line in result.stdout.splitlines()]
    assert lines == list(map(str, files))


# Half a gigabyte of address space beyond what the imports take.
IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from models import load_model
from utils.errors import InputError
sound, *names = sys.argv[1:]
load_model(sound)
here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (here + 2**29, -1))
for name in names:
    try:
        load_model(name)
    except InputError as error:
        print(error)
"""


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "loop.pt").symlink_to("loop.pt")
    (tmp_path / "zero.pt").symlink_to("/dev/zero")
    (tmp_path / "zero.safetensors").symlink_to("/dev/zero")
    for name in ("pipe.pt", "pipe.safetensors", "zero.pt", "zero.safetensors"):
        assert "is not a regular file" in refused(tmp_path / name)
    assert "is a folder" in refused(tmp_path / "folder.pt")
    for name in ("loop.pt", "gone.pt", "folder.pt/below.pt", "a" * 300, "null\0.pt"):
        refused(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**62),
        struct.pack("<Q", 10**8) + b"{" * 1000,
        struct.pack("<Q", 0),
        struct.pack("<Q", 50_000) + b'{"a":' * 10_000,
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[4000000000],"data_offsets":[0,4]}}',
        struct.pack("<Q", 66) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,40000000000000]}}',
    ],
    ids=range(6),
)
def test_safetensors_with_other_headers_are_refused(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    refused(tmp_path / "w.safetensors")


def mutants(content: bytes, count: int, seed: int):
    """The content cut off, and with bytes changed, most of them in its structure."""
    generator = random.Random(seed)
    for _ in range(count):
        mutant = bytearray(content[: generator.choice([len(content), len(content), generator.randrange(len(content))])])
        for _ in range(generator.choice([1, 1, 2, 8])):
            place = generator.randrange(len(content) if generator.random() < 0.5 else 4000)
            if place < len(mutant):
                mutant[place] = generator.choice([0, 0xFF, generator.randrange(256), mutant[place] ^ 1])
        yield bytes(mutant)


@pytest.mark.parametrize("name", ["w.pt", "legacy.pt", "w.pkl", "w.safetensors", "structure"])
def test_mutants_are_read_as_they_are_or_refused(tmp_path, sound, released, name):
    source = tmp_path / name
    if name == "legacy.pt":
        torch.save({"model": state_dict(), "model_config": SMALL}, source, _use_new_zipfile_serialization=False)
    else:
        convert(released if name == "w.pkl" else sound, source if name != "structure" else tmp_path / "w.pt")
    if name == "structure":  # changed within a sound archive
        with zipfile.ZipFile(sound) as archive:
            content = archive.read("archive/data.pkl")
    else:
        content = source.read_bytes()
    outcomes, whole = [], load_model(source if source.exists() else sound).state_dict()
    for mutant in mutants(content, 25, seed=1):
        path = tmp_path / f"mutant{source.suffix or '.pt'}"
        as_archive(path, mutant, sound) if name == "structure" else path.write_bytes(mutant)
        try:
            model = load_model(path)
        except InputError as error:
            outcomes.append(printable(str(error)))
            assert len(outcomes[-1]) < 500
        else:
            weights = model.state_dict()
            assert all(value.isfinite().all() for value in weights.values())
            if source.suffix in (".pt", ".pkl") and name != "legacy.pt":  # an archive has checksums
                assert all(torch.equal(value, whole[key]) for key, value in weights.items())
    assert len(outcomes) > 8


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A small network as the authors would have saved it."""
    folder = tmp_path_factory.mktemp("released")
    convert(save_model(folder / "w.pt", build_model(**SMALL), SMALL), folder / "w.pkl")
    return folder / "w.pkl"
