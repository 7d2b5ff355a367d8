"""Videos through restore.py, with a network that changes nothing: what comes out is what went in."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import SIZE, Decoded, pan, write_clip
from conftest import assert_refused, run_script
from PIL import Image

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
def restored(identity_weights, tmp_path_factory):
    """The folders of SOURCES and of their results."""
    root = tmp_path_factory.mktemp("videos")
    for name, arguments in SOURCES.items():
        arguments = dict(arguments)
        write_clip(root / "in" / name, pan(8, arguments.pop("size", SIZE)), **arguments)
    result = run_script("restore.py", "--weights", identity_weights, "--input", root / "in", "--output", root / "out")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert {path.name for path in (root / "out").iterdir()} == {".irnext.jsonl", *map(result_of, SOURCES)}
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


def test_sound_subtitles_chapters_and_tags_are_copied(identity_weights, tmp_path):
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
    result = run_script(
        "restore.py", "--weights", identity_weights, "--input", tmp_path / "in", "--output", tmp_path / "out"
    )
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


def test_what_the_container_cannot_hold_is_named(identity_weights, tmp_path):
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
    result = run_script("restore.py", "--weights", identity_weights, "--input", *inputs, "--output", tmp_path / "out")
    assert result.returncode == 0
    first, second = result.stderr.splitlines()
    assert first == f"note: {inputs[0]}: not copied: video stream 1 (only one video stream is restored)"
    assert second.startswith(f"note: {inputs[1]}: colour is stored at half the resolution")


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


def remux(source, path, extend, **options):
    """Copy a video without encoding; ``extend`` adds to the container, given with its copied streams."""
    with av.open(str(source)) as plain, av.open(str(path), "w", **options) as container:
        copies = [container.add_stream_from_template(stream, opaque=True) for stream in plain.streams]
        added = extend(container, copies)
        for packet in [*plain.demux(), *added]:
            if packet.size:
                packet.stream = copies[packet.stream.index] if packet.stream in plain.streams else packet.stream
                container.mux(packet)
    return path


def test_covers_attachments_and_tags_of_phones_are_copied(identity_weights, tmp_path):
    cover = io.BytesIO()
    Image.fromarray(pan(1)[0]).save(cover, "JPEG")
    tags = {"com.apple.quicktime.make": "Maker", "com.apple.quicktime.location.ISO6709": "+48.1+011.5/"}

    def attach(container, _):
        container.add_attachment("cover.jpg", "image/jpeg", cover.getvalue())
        container.add_attachment("font.ttf", "application/x-truetype-font", b"letters")
        return []

    def tag(container, _):
        container.metadata.update(tags)
        return []

    (tmp_path / "in").mkdir()
    remux(write_clip(tmp_path / "a.mkv", pan(4), sound=True), tmp_path / "in" / "a.mkv", attach)
    phone = {"container_options": {"movflags": "use_metadata_tags"}}
    remux(write_clip(tmp_path / "b.mov", pan(4), sound=True), tmp_path / "in" / "b.mov", tag, **phone)
    folders = ("--input", tmp_path / "in", "--output", tmp_path / "out")
    result = run_script("restore.py", "--weights", identity_weights, *folders)
    assert (result.returncode, result.stderr) == (0, "")
    with av.open(str(tmp_path / "out" / "a.mkv")) as container:
        _, image = container.streams.video
        assert image.disposition == av.stream.Disposition.attached_pic
        assert bytes(next(container.demux(image))) == cover.getvalue()
        (font,) = container.streams.attachments
        assert (font.name, font.data) == ("font.ttf", b"letters")
    assert tags.items() <= Decoded(tmp_path / "out" / "b.mov").metadata.items()


def test_a_timecode_is_kept_and_one_that_cannot_be_written_costs_no_sound(identity_weights, tmp_path):
    def start(container, copies):
        copies[0].metadata["timecode"] = "01:02:03:04"
        return []

    def no_start(container, copies):
        for copy in copies:
            copy.metadata.pop("timecode", None)
        return []

    (tmp_path / "in").mkdir()
    plain = write_clip(tmp_path / "plain.mov", pan(4), sound=True)
    sound = remux(plain, tmp_path / "in" / "sound.mov", start)
    # A track of timecodes without any: it is disguised as one of a camera while libav copies it.
    content = sound.read_bytes().replace(b"mhlrtmcd", b"mhlrmeta")
    entry = content.rindex(b"tmcd")
    (tmp_path / "disguised.mov").write_bytes(content[:entry] + b"gpmd" + content[entry + 4 :])
    broken = remux(tmp_path / "disguised.mov", tmp_path / "in" / "broken.mov", no_start)
    broken.write_bytes(broken.read_bytes().replace(b"gpmd", b"tmcd"))
    folders = ("--input", tmp_path / "in", "--output", tmp_path / "out")
    result = run_script("restore.py", "--weights", identity_weights, *folders)
    assert result.returncode == 0, result.stderr
    left_out, why = result.stderr.splitlines()
    assert left_out == f"note: {broken}: not copied: data stream 2 (left out)"
    assert why.startswith(f"note: {broken}: more than what is written cannot be copied together")
    with av.open(str(tmp_path / "out" / "sound.mov")) as container:
        assert container.streams.video[0].metadata["timecode"] == "01:02:03:04"
    for name in ("sound.mov", "broken.mov"):
        assert Decoded(tmp_path / "out" / name).others == Decoded(tmp_path / "in" / name).others


def test_ac3_in_avi_keeps_its_times(identity_weights, tmp_path):
    source = write_clip(tmp_path / "clip.avi", pan(12), "mpeg4", sound="ac3")
    folders = ("--input", source, "--output", tmp_path / "out")
    assert run_script("restore.py", "--weights", identity_weights, *folders).returncode == 0
    assert Decoded(tmp_path / "out" / "clip.avi").others == Decoded(source).others


def test_the_quality_is_an_option_and_part_of_the_record(identity_weights, tmp_path):
    source = write_clip(tmp_path / "clip.mp4", pan(8))

    def restore(*options):
        folders = ("--input", source, "--output", tmp_path / "out")
        return run_script("restore.py", "--weights", identity_weights, *folders, *options)

    sizes = []
    for crf in (0, 13, 30):
        assert restore("--crf", crf, "--overwrite").returncode == 0
        sizes.append((tmp_path / "out" / "clip.mp4").stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    assert restore("--crf", 30).stdout.startswith("0 restored, 1 skipped")
    assert_refused(restore("--crf", 20), "crf 30 instead of 20")
    for wrong in ("52", "-1", "high"):
        assert_refused(restore("--crf", wrong), "--crf", "from 0 to 51")
