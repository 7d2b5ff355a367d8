"""Videos through restore.py, with a network that changes nothing: what comes out is what went in."""

import contextlib
import errno
import os
import pty
import random
import signal
import struct
import subprocess
import termios
import time
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from clips import SIZE, Decoded, pan, write_clip
from conftest import SMALL, command_of, errors_of, run_process, run_script, save_model
from scripts.test_full_disk import limited

from inference.video_restoring import restore_video
from models import build_model

ODD = (45, 63)
UNEVEN = [0, 3, 4, 9, 15, 16, 30, 47]  # timestamps of a variable frame rate
MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
FULL = {"pixel_format": "yuvj420p", "colour_range": 2}

# Sources by the name of the file, with the arguments of ``write_clip``.
SOURCES = {
    **{
        f"{matrix}_{name}.mp4": {"matrix": number, "primaries": number, "transfer": number, "colour_range": limits}
        for matrix, number in (("bt601", 6), ("bt709", 1))
        for name, limits in (("limited", 1), ("full", 2))
    },
    **{
        f"odd_{matrix}_{name}.mkv": {"matrix": number, "colour_range": limits, "codec": "ffv1", "size": ODD}
        for matrix, number in (("bt601", 6), ("bt709", 1))
        for name, limits in (("limited", 1), ("full", 2))
    },
    "untagged.mp4": {"matrix": 2, "primaries": 2, "transfer": 2, "colour_range": 0},
    "grey.mkv": {"codec": "ffv1", "pixel_format": "gray", "matrix": 2, "colour_range": 2},
    "variable.mp4": {"time_base": Fraction(1, 600), "times": [20 * time for time in UNEVEN]},
    "late.mp4": {"time_base": Fraction(1, 30000), "times": [1001 * (time + 7) for time in UNEVEN]},
    "variable.mkv": {"time_base": Fraction(1, 1000), "times": [33 * time for time in UNEVEN]},
    "turned.mov": {"rotation": 90},
    "upside_down.mp4": {"rotation": 180},
    "anamorphic.mp4": {"aspect": Fraction(4, 3)},
    "anamorphic.mkv": {"aspect": Fraction(16, 11)},
    "hdr10.mp4": {
        "codec": "libx265",
        "pixel_format": "yuv420p10le",
        "matrix": 9,
        "primaries": 9,
        "transfer": 16,
        "options": {"x265-params": f"log-level=none:master-display={MASTERING}:max-cll=1000,400"},
    },
    "av1.mkv": {"codec": "libsvtav1", "options": {"svtav1-params": "fast-decode=0", "preset": "12", "crf": "20"}},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "mpeg4.avi": {"codec": "mpeg4", "matrix": 2, "primaries": 2, "transfer": 2, "colour_range": 0},
    "mjpeg.mkv": {"codec": "mjpeg", "matrix": 5, "primaries": 2, "transfer": 2, **FULL},
    "broadcast.ts": {"codec": "mpeg2video", "sound": True},
    "dvd.mpg": {"codec": "mpeg2video", "sound": True},
    "sound.mp4": {"sound": True},
    "a:b|%03d.mp4": {"sound": True},
}


def result_of(name):
    return f"{name}.mkv" if name.endswith((".webm", ".mpg")) else name


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """Weights of a network that returns its input."""
    torch.manual_seed(0)
    model = build_model(**SMALL)
    with torch.no_grad():
        model.heads[2].weight.zero_()
        model.heads[2].bias.zero_()
    return save_model(tmp_path_factory.mktemp("identity") / "identity.pt", model, SMALL)


@pytest.fixture(scope="module")
def restored(identity, tmp_path_factory):
    """The folders of SOURCES and of their results."""
    root = tmp_path_factory.mktemp("videos")
    for name, arguments in SOURCES.items():
        arguments = dict(arguments)
        write_clip(root / "in" / name, pan(8, arguments.pop("size", SIZE)), **arguments)
    result = run_script("restore.py", "--weights", identity, "--input", root / "in", "--output", root / "out")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert {path.name for path in (root / "out").iterdir()} == {".irnext.json", *map(result_of, SOURCES)}
    return root / "in", root / "out"


@pytest.mark.parametrize("name", SOURCES)
def test_frames_times_and_description_are_those_of_the_source(restored, name):
    source, result = Decoded(restored[0] / name), Decoded(restored[1] / result_of(name))
    assert result.worst_psnr(source) >= 45
    assert abs(result.mean() - source.mean()) <= 0.2
    assert result.codec == "h264"
    depth = "10le" if name == "hdr10.mp4" else ""
    assert result.pixel_format.replace("yuvj", "yuv") == f"yuv{'444' if name.startswith('odd') else '420'}p{depth}"
    if name.endswith(".avi"):  # decoders count differently from the first frame's decoding on
        source.times, result.times = ([t - video.times[0] for t in video.times] for video in (source, result))
    if name == "dvd.mpg":  # Matroska counts milliseconds
        source.round_times()
    assert result.times == source.times
    assert result.others == source.others
    expected = source.traits | ({"colour": result.traits["colour"], "range": 2} if name == "grey.mkv" else {})
    assert result.traits == expected
    if name == "hdr10.mp4":
        for kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"):
            assert result.side_data[kind] == source.side_data[kind]


def spans(video):
    """The chapters with their start and end in seconds."""
    return [(c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]) for c in video.chapters]


def test_sound_subtitles_chapters_and_tags_are_copied(identity, tmp_path):
    tags = {"title": "Holiday", "creation_time": "2024-05-06T07:08:09.000000Z", "comment": "by hand"}
    chapters = [
        {
            "id": number,
            "start": 160 * number,
            "end": 160 * number + 160,
            "time_base": Fraction(1, 1000),
            "metadata": tag,
        }
        for number, tag in enumerate([{"title": "First"}, {"title": "Second"}])
    ]
    for suffix in (".mp4", ".mkv"):
        plain = write_clip(tmp_path / f"plain{suffix}", pan(8), sound=True)
        path = tmp_path / "in" / f"film{suffix}"
        path.parent.mkdir(exist_ok=True)
        with av.open(str(plain)) as source, av.open(str(path), "w") as container:
            container.metadata.update(tags)
            container.set_chapters(chapters)
            copies = [container.add_stream_from_template(stream, opaque=True) for stream in source.streams]
            text = container.add_mux_stream("mov_text" if suffix == ".mp4" else "subrip", time_base=Fraction(1, 1000))
            copies[1].metadata["language"] = text.metadata["language"] = "deu"
            for packet in source.demux():
                if packet.size:
                    packet.stream = copies[packet.stream.index]
                    container.mux(packet)
            for start in (0, 160):
                words = b"Guten Tag"
                packet = av.Packet(len(words).to_bytes(2, "big") + words if suffix == ".mp4" else words)
                packet.stream, packet.time_base = text, Fraction(1, 1000)
                packet.pts = packet.dts = start
                packet.duration = 100
                container.mux(packet)
    result = run_script("restore.py", "--weights", identity, "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    for suffix in (".mp4", ".mkv"):
        source, restored = (Decoded(tmp_path / folder / f"film{suffix}") for folder in ("in", "out"))
        assert source.others.keys() == {"audio", "subtitle"}
        assert restored.others == source.others
        assert [chapter["metadata"] for chapter in source.chapters] == [{"title": "First"}, {"title": "Second"}]
        assert spans(restored) == spans(source)
        for key, value in tags.items():
            assert restored.metadata.get(key, restored.metadata.get(key.upper())) == value
        with av.open(str(tmp_path / "out" / f"film{suffix}")) as container:
            kinds = [(stream.type, stream.language) for stream in container.streams if stream.type != "data"]
            assert kinds[1:] == [("audio", "deu"), ("subtitle", "deu")]


def test_what_the_container_cannot_hold_is_named(identity, tmp_path):
    write_clip(tmp_path / "plain.mkv", pan(4), options={"bf": "0"})
    with av.open(str(tmp_path / "plain.mkv")) as source, av.open(str(tmp_path / "two.mkv"), "w") as container:
        copies = [container.add_stream_from_template(source.streams[0], opaque=True) for _ in range(2)]
        for packet in source.demux():
            if packet.size:
                for copy in copies:
                    again = av.Packet(bytes(packet))
                    again.stream, again.pts, again.dts = copy, packet.pts, packet.dts
                    again.time_base, again.is_keyframe = packet.time_base, packet.is_keyframe
                    container.mux(again)
    write_clip(tmp_path / "fine.mkv", pan(4), "libx264", "yuv444p")
    inputs = [tmp_path / "two.mkv", tmp_path / "fine.mkv"]
    result = run_script("restore.py", "--weights", identity, "--input", *inputs, "--output", tmp_path / "out")
    assert result.returncode == 0
    first, second = result.stderr.splitlines()
    assert first == f"note: {inputs[0]}: video stream 1 is not copied: only one video stream is restored"
    assert second.startswith(f"note: {inputs[1]}: colour is stored at half the resolution")


class Interrupted(Exception):
    pass


@pytest.fixture
def resumable(tmp_path):
    """Calls ``restore_video`` on a clip of 70 frames; returns which frames were restored, however it ended."""
    source = write_clip(tmp_path / "clip.mp4", pan(70, (32, 48)), sound=True)

    def run(name="out.mp4", stop_after=10**9, weights="a", crf=13):
        indices = []

        def restore(frame, index):
            if frame is None:
                return None
            if len(indices) == stop_after:
                raise Interrupted
            indices.append(index)
            return frame[::-1]

        try:
            restore_video(source, tmp_path / name, restore, {"sha256": weights}, crf, lambda: None)
        except Interrupted:
            assert not (tmp_path / name).exists()
        return indices

    return run


def test_a_stopped_video_goes_on_and_ends_the_same(resumable, tmp_path):
    assert resumable("whole.mp4") == list(range(70))
    parts = [resumable(stop_after=count) for count in (5, 0, 40, 7)]
    parts.append(resumable())
    assert [len(part) for part in parts] == [5, 0, 40, 7, 18]
    assert [index for part in parts for index in part] == list(range(70))
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "out.mp4", "whole.mp4"}


@pytest.mark.parametrize("changed", ["weights", "crf", "time", "content"])
def test_frames_of_other_weights_options_or_input_are_not_joined(resumable, tmp_path, changed):
    assert resumable(stop_after=40) == list(range(40))
    if changed == "time":
        os.utime(tmp_path / "clip.mp4", (1, 1))
    elif changed == "content":
        write_clip(tmp_path / "clip.mp4", pan(70, (48, 32)))
    options = {"weights": {"weights": "b"}, "crf": {"crf": 20}}.get(changed, {})
    assert resumable(**options) == list(range(70))
    assert resumable("again.mp4", **options) == list(range(70))
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "again.mp4").read_bytes()


@pytest.mark.parametrize("seed", range(6))
def test_damaged_leftovers_are_restored_again(resumable, tmp_path, seed):
    resumable("whole.mp4")
    resumable(stop_after=50)
    rng = random.Random(seed)
    (folder,) = tmp_path.glob(".out*")
    path = rng.choice(sorted(folder.iterdir()))
    content = bytearray(path.read_bytes())
    if seed % 2:
        del content[rng.randrange(len(content)) :]
    else:
        start = rng.randrange(len(content) // 2, len(content) - 8)
        content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    path.write_bytes(content)
    resumable()
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_linked_folder_of_leftovers_is_refused(identity, tmp_path):
    write_clip(tmp_path / "clip.mp4", pan(4))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept.txt").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".clip.mp4.parts").symlink_to(tmp_path / "elsewhere")
    arguments = ("--weights", identity, "--input", tmp_path / "clip.mp4", "--output", tmp_path / "out")
    result = run_script("restore.py", *arguments)
    assert len(errors_of(result)) == 1
    assert result.returncode == 2
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["kept.txt"]


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


def test_nothing_but_the_file_itself_is_read(hostile, identity, tmp_path):
    files = sorted(path for path in hostile.iterdir())
    result = run_script("restore.py", "--weights", identity, "--input", hostile, "--output", tmp_path / "out")
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert len(lines) == len(files)
    for path, line in zip(files, lines, strict=True):
        assert line.startswith(f"error: {path}: ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == []


@pytest.mark.parametrize(
    "name", ["12:30.mp4", "concat:a|b.mp4", "pipe:.mkv", "http:__x.avi", "%03d.mov", "-x.mp4", "日本.ts"]
)
def test_a_file_may_have_any_name(identity, tmp_path, name):
    write_clip(tmp_path / "in" / name, pan(4), "mpeg4")
    arguments = ("--weights", identity, "--input", tmp_path / "in", "--output", tmp_path / "out", "--compare")
    result = run_script("restore.py", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(Decoded(tmp_path / "out" / name).images) == 4
    assert len(list((tmp_path / "out").glob("*compare*"))) == 1


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_video_is_restored_as_far_as_it_can_be_read_or_refused(identity, tmp_path, seed):
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
    result = run_script("restore.py", "--weights", identity, "--input", tmp_path / "in", "--output", tmp_path / "out")
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


def test_a_full_disk_ends_in_one_line_and_the_next_job_goes_on(identity, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), np.uint8)
    path = write_clip(tmp_path / "clip.mp4", noise, sound=True, options={"crf": "0"})
    arguments = ("--weights", identity, "--input", path, "--output", tmp_path / "out", "--crf", 0)
    # Room for a part of one segment, of one segment, and for both segments but not for the whole.
    for most in (100_000, 300_000, 330_000):
        result = run_process(limited(command_of("restore.py", *arguments), most))
        assert result.returncode == 2, most
        assert len(errors_of(result)) == len(result.stderr.splitlines()) == 1
        assert os.strerror(errno.EFBIG) in result.stderr
        assert not (tmp_path / "out" / "clip.mp4").exists()
    assert run_script("restore.py", *arguments).returncode == 0
    assert len(Decoded(tmp_path / "out" / "clip.mp4").images) == 40


def test_a_killed_job_goes_on_and_ends_the_same(identity, tmp_path):
    path = write_clip(tmp_path / "in" / "clip.mp4", pan(50, (48, 64)), sound=True)
    arguments = ("--weights", identity, "--input", tmp_path / "in", "--self-ensemble", "--output")
    assert run_script("restore.py", *arguments, tmp_path / "whole").returncode == 0
    output, kept = tmp_path / "out", []
    for number in (signal.SIGKILL, signal.SIGTERM):
        with subprocess.Popen(**command_of("restore.py", *arguments, output), stdout=subprocess.PIPE) as run:
            before = kept[-1] if kept else 0
            while run.poll() is None and frames_kept(output) < before + 12:
                time.sleep(0.01)
            run.send_signal(number)
            message = run.communicate(timeout=60)[0]
        kept.append(frames_kept(output))
        assert run.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 75}[number]
        assert not (output / "clip.mp4").exists()
    assert message == f"stopped; run the same command again to continue {output}\n"
    assert 0 < kept[0] < kept[1] < 50
    assert run_script("restore.py", *arguments, output).returncode == 0
    assert (output / "clip.mp4").read_bytes() == (tmp_path / "whole" / "clip.mp4").read_bytes()
    assert Decoded(output / "clip.mp4").times == Decoded(path).times


def frames_kept(output):
    """The number of frames in the hidden folder of clip.mp4, 64 x 48."""
    parts = output / ".clip.mp4.parts"
    frames = sum(path.stat().st_size // (64 * 48 * 3 // 2) for path in parts.glob("*.frames"))
    return 32 * len(list(parts.glob("*.nut"))) + frames


def test_the_bar_names_the_file_and_its_speed(identity, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / "in" / name, pan(12))
    shown, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 120))
    command = command_of("restore.py", "--weights", identity, "--input", tmp_path / "in", "--output", tmp_path / "out")
    with subprocess.Popen(**command, stdout=subprocess.DEVNULL, stderr=terminal) as run:
        os.close(terminal)
        text = b""
        with contextlib.suppress(OSError):  # the other side closes at the end
            while chunk := os.read(shown, 4096):
                text += chunk
    os.close(shown)
    assert run.wait() == 0
    assert b"file 1 of 2: a.mp4" in text
    assert b"file 2 of 2: b.mp4" in text
    assert b" frames/s" in text


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_comparison_shows_the_source_on_the_left_and_the_result_on_the_right(small_weights, tmp_path, rotation):
    source = write_clip(tmp_path / "clip.mov", pan(4), rotation=rotation, sound=True)
    arguments = ("--weights", small_weights, "--input", source, "--output", tmp_path / "out", "--compare")
    assert run_script("restore.py", *arguments).returncode == 0
    before, after = Decoded(source), Decoded(tmp_path / "out" / "clip.mov")
    path = tmp_path / "out" / "clip.mov.compare.mov"
    both, content = Decoded(path), path.read_bytes()
    path.unlink()
    again = run_script("restore.py", *arguments)
    assert again.stdout.startswith("0 restored, 1 skipped, 0 failed, 1 missing comparison(s) added")
    assert path.read_bytes() == content
    assert before.worst_psnr(after) < 35
    assert both.times == before.times
    assert both.traits["rotation"] == after.traits["rotation"] == before.traits["rotation"]
    for image, restored, pair in zip(before.images, after.images, both.images, strict=True):
        shown = np.rot90(pair, both.traits["rotation"] // 90).astype(int)
        for half, whole in zip(np.split(shown, 2, axis=1), (image, restored), strict=True):
            assert np.abs(half - np.rot90(whole, both.traits["rotation"] // 90)).mean() < 2
