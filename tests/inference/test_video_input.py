"""Hostile, damaged and oddly named videos."""

import os
import random
import struct
import zlib

import av
import pytest
from clips import Decoded, pan, write_clip
from conftest import errors_of, run_script

from inference.video_reading import VideoReader


@pytest.fixture
def hostile(tmp_path):
    """Files that are called videos but make some readers open other files, which lie beside them."""
    secret = write_clip(tmp_path / "secret" / "secret.mp4", pan(8))
    for index in range(3):
        write_clip(tmp_path / "in" / "clip.mp4", pan(1), "png", "rgb24", muxer="image2pipe").rename(
            tmp_path / "secret" / f"frame{index:03}.png"
        )
    folder = tmp_path / "in"
    (folder / "script.mp4").write_text(f"ffconcat version 1.0\nfile '{secret}'\n")
    (folder / "plain_script.mkv").write_text(f"file '{secret}'\n")
    (folder / "playlist.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n")
    (folder / "session.avi").write_text("v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n")
    (folder / "dash.mp4").write_text(f"<?xml version='1.0'?><MPD><BaseURL>{secret}</BaseURL></MPD>")
    (folder / "frame%03d.mkv").write_bytes((tmp_path / "secret" / "frame000.png").read_bytes())
    (folder / "gif.mp4").write_bytes(b"GIF89a" + bytes(100))
    (folder / "reference.mov").write_bytes(with_reference(secret.read_bytes(), secret))
    os.mkfifo(folder / "pipe.mp4")
    (folder / "folder.mp4").mkdir()
    return folder


def with_reference(movie, target):
    """A movie whose samples lie in another file, named by an alias record as QuickTime writes it."""
    path = str(target).encode()
    record = bytes(150) + struct.pack(">HH", 2, len(path)) + path + bytes(len(path) % 2) + b"\xff\xff\0\0"
    alias = struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record
    own = movie.index(b"\0\0\0\x0curl \0\0\0\1")
    content = bytearray(movie[:own] + alias + movie[own + 12 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = content.rindex(box, 0, own) - 4
        size = int.from_bytes(content[start : start + 4], "big") + len(alias) - 12
        content[start : start + 4] = size.to_bytes(4, "big")
    samples = content.index(b"mdat")
    content[samples + 4 : content.index(b"moov") - 4] = bytes(content.index(b"moov") - 8 - samples)
    return bytes(content)


def test_a_careless_reader_would_read_another_file(hostile):
    for name, options in (
        ("reference.mov", {"enable_drefs": "1", "use_absolute_path": "1"}),
        ("script.mp4", {"safe": "0"}),
    ):
        with av.open(str(hostile / name), options=options) as container:
            frames = list(container.decode(video=0))
            assert len(frames) == 8
            assert frames[0].to_ndarray(format="rgb24").std() > 10


def test_nothing_but_the_file_itself_is_read(hostile, identity_weights, tmp_path):
    files = sorted(path for path in hostile.iterdir())
    result = run_script("restore.py", "--weights", identity_weights, "--input", hostile, "--output", tmp_path / "out")
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert len(lines) == len(files)
    for path, line in zip(files, lines, strict=True):
        assert line.startswith(f"error: {path}: ")
    assert list((tmp_path / "out").glob("*")) == []


@pytest.mark.parametrize(
    "name", ["12:30.mp4", "concat:a|b.mp4", "pipe:.mkv", "http:__x.avi", "%03d.mov", "-x.mp4", "日本.ts"]
)
def test_a_file_may_have_any_name(identity_weights, tmp_path, name):
    write_clip(tmp_path / "in" / name, pan(4), "mpeg4")
    arguments = ("--weights", identity_weights, "--input", tmp_path / "in", "--output", tmp_path / "out", "--compare")
    result = run_script("restore.py", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(Decoded(tmp_path / "out" / name).images) == 4
    assert len(list((tmp_path / "out").glob("*compare*"))) == 1


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_video_is_restored_as_far_as_it_can_be_read_or_refused(identity_weights, tmp_path, seed):
    suffix = (".mp4", ".mkv", ".avi", ".ts")[seed % 4]
    path = write_clip(tmp_path / "in" / f"bad{suffix}", pan(20), "mpeg4" if suffix == ".avi" else "libx264", sound=True)
    write_clip(tmp_path / "in" / "good.mp4", pan(4))
    content = bytearray(path.read_bytes())
    rng = random.Random(seed)
    if seed % 3 == 0:
        del content[rng.randrange(len(content) // 4, len(content)) :]
    else:
        for _ in range(10 if seed % 3 == 1 else 300):
            content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content)
    result = run_script(
        "restore.py", "--weights", identity_weights, "--input", tmp_path / "in", "--output", tmp_path / "out"
    )
    assert len(Decoded(tmp_path / "out" / "good.mp4").images) == 4
    lines = result.stderr.splitlines()
    if result.returncode:
        assert (result.returncode, len(errors_of(result))) == (2, 1)
        assert not (tmp_path / "out" / path.name).exists()
    else:
        assert 0 < len(Decoded(tmp_path / "out" / path.name).images) <= 20
    assert all(
        line.startswith((f"note: {path}: ", f"error: {path}: ", "error: " + str(tmp_path / "out"))) for line in lines
    )


def box(kind, *parts):
    """A box of a MOV or MP4 file; a list among its parts is of big-endian integers of four bytes."""
    body = b"".join(struct.pack(f">{len(part)}I", *part) if isinstance(part, list) else part for part in parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def one_size(movie, count, position=0):
    """All samples of a track have one size, and are many."""
    table, chunks = movie.index(b"stsz", position), movie.index(b"stsc", position)
    struct.pack_into(">II", movie, table + 8, 1, count)
    struct.pack_into(">III", movie, chunks + 12, 1, count, 1)


def fragment(movie, count):
    """A fragment of many samples without properties of their own."""
    head = movie.index(b"moov") - 4
    (length,) = struct.unpack_from(">I", movie, head)
    defaults = box(b"mvex", box(b"trex", [0, 1, 1, 1, 1, 0]))
    movie[head + length : head + length] = defaults
    struct.pack_into(">I", movie, head, length + len(defaults))
    run = box(b"tfhd", [0, 1]) + box(b"trun", [0, count])
    movie += box(b"moof", box(b"mfhd", [0, 1]), box(b"traf", run))


def compressed(movie, count):
    """A compressed header, as QuickTime once wrote it."""
    one_size(movie, count)
    head = movie.index(b"moov") - 4
    (length,) = struct.unpack_from(">I", movie, head)
    header = bytes(movie[head : head + length])
    method = box(b"dcom", b"zlib")
    movie[head : head + length] = box(b"moov", box(b"cmov", method, box(b"cmvd", [length], zlib.compress(header))))


CLAIMS = {
    "one size": one_size,
    "one size, sound": lambda movie, count: one_size(movie, count, movie.index(b"soun")),
    "a fragment": fragment,
    "a compressed header": compressed,
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_a_table_of_samples_that_cannot_be_there_is_refused_before_ffmpeg_reads_it(identity_weights, tmp_path, kind):
    clip = write_clip(tmp_path / "clip.mp4", pan(5), sound="sound" in kind)
    movie = bytearray(clip.read_bytes())
    CLAIMS[kind](movie, 30_000_000)  # 2 GB in FFmpeg
    clip.write_bytes(movie)
    arguments = ("--weights", identity_weights, "--input", clip, "--output", tmp_path / "out")
    (line,) = errors_of(run_script("restore.py", *arguments))
    assert str(clip) in line
    assert "its tables claim 30,000,0" in line


def test_sound_that_is_not_compressed_may_have_any_number_of_samples(tmp_path):
    clip = write_clip(tmp_path / "clip.mov", pan(5), sound="pcm_u8")
    movie = bytearray(clip.read_bytes())
    table = movie.index(b"stsz", movie.index(b"soun"))
    assert struct.unpack_from(">I", movie, table + 8) == (2,)  # bytes: two channels
    struct.pack_into(">I", movie, table + 12, 150_000_000)  # as in an hour
    clip.write_bytes(movie)
    with VideoReader(clip) as video:
        assert len(list(video.frames())) == 5
