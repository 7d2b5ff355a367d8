"""What restore.py writes: metadata of every kind, kept or named, in files that can be read again."""

import io
import random
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from album import PROFILE
from conftest import ROOT, errors_of, run_script
from PIL import Image, JpegImagePlugin, PngImagePlugin

from data.decoding import png
from data.decoding.jpeg import iptc_segment
from inference.photo_files import read_photograph
from inference.photo_metadata import is_lossless_webp
from inference.photo_writing import FORMATS, write_photograph

HEIGHT, WIDTH = 40, 56
COLOUR = cv2.resize(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8), (WIDTH, HEIGHT))
GREY = COLOUR[..., 1].copy()
ALPHA = np.linspace(3, 255, WIDTH).astype(np.uint8)[None].repeat(HEIGHT, 0)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">%s</x:xmpmeta>'
ARTIST, EXPOSURE, EXIF_IFD, IPTC = 315, 33434, 0x8769, 33723
IPTC_DATA = b"\x1c\x02\x19\0\4haze"
CHUNKS = {
    b"gAMA": struct.pack(">I", 100_000),
    b"cHRM": struct.pack(">8I", *range(30_000, 30_008)),
    b"sRGB": b"\1",
    b"cICP": bytes([9, 16, 0, 1]),
}
THUMBNAIL = b"\xff\xd8 thumbnail of the degraded image \xff\xd9"


def exif_of(artist: str = "Artist", size: int = 0) -> bytes:
    """An EXIF block with an artist, an exposure time, a thumbnail and a comment of ``size`` bytes."""
    exif = Image.Exif()
    exif[ARTIST] = artist
    exif.get_ifd(EXIF_IFD)[EXPOSURE] = 0.01
    if size:
        exif.get_ifd(EXIF_IFD)[37510] = b"x" * size
    block = bytearray(exif.tobytes().removeprefix(b"Exif\0\0"))
    order = "<" if block[:2] == b"II" else ">"
    (count,) = struct.unpack_from(f"{order}H", block, 8)
    struct.pack_into(f"{order}I", block, 10 + 12 * count, len(block))
    start = len(block) + 2 + 2 * 12 + 4
    block += struct.pack(f"{order}H", 2)
    for tag, value in ((0x0201, start), (0x0202, len(THUMBNAIL))):
        block += struct.pack(f"{order}HHII", tag, 4, 1, value)
    return b"Exif\0\0" + bytes(block) + bytes(4) + THUMBNAIL


def saved(path: Path, pixels: np.ndarray, kind: str, **options: object) -> Path:
    """Write a file of a format that its name need not tell."""
    Image.fromarray(pixels).save(path, kind, **options)
    return path


def tiff_with(path: Path, resolution: tuple[int, int] = (300, 1), tags: list[tuple] = ()) -> Path:
    """A TIFF with any tags, and a resolution that is any fraction."""
    content = io.BytesIO()
    options = {"resolution": (77, 77), "resolutionunit": "INCH", "extratags": tags, "metadata": None, "software": False}
    tifffile.imwrite(content, COLOUR, photometric="rgb", byteorder="<", **options)
    written = struct.pack("<II", 77, 1)
    assert content.getvalue().count(written) == 2
    path.write_bytes(content.getvalue().replace(written, struct.pack("<II", *resolution)))
    return path


def restore(weights: Path, source: Path, output: Path, *options: str):
    return run_script("restore.py", "--weights", weights, "--input", source, "--output", output, *options)


def hostile_files(root: Path) -> dict[str, str]:
    """Files whose metadata no encoder takes, or no decoder gives back; what a note says about each ("": nothing)."""
    root.mkdir()
    big, huge = XMP % (b"x" * 70_000), np.random.default_rng(0).bytes(17_000_000)
    expected = {"big.webp": ""}
    saved(root / "big.webp", COLOUR, "WEBP", xmp=big, exif=exif_of(size=70_000), icc_profile=huge[:100_000])
    for suffix, lost in (("jpg", "EXIF (7"), ("bmp", "XMP (70"), ("png", "")):  # another format behind the suffix
        saved(root / f"big_webp.{suffix}", COLOUR, "WEBP", xmp=big, exif=exif_of(size=70_000))
        expected[f"big_webp.{suffix}"] = lost
    saved(root / "profile.jpg", COLOUR, "TIFF", icc_profile=huge)
    expected["profile.jpg"] = "ICC profile (17,000,000 bytes)"
    saved(root / "profile.png", COLOUR, "WEBP", icc_profile=huge[:2_000_000])
    expected["profile.png"] = "ICC profile (2,000,000 bytes)"
    for name, resolution in (("zero", (0, 0)), ("infinite", (1, 0)), ("large", (4_000_000_000, 1))):
        for suffix in ("tif", "png", "jpg", "bmp"):
            tiff_with(root / f"{name}.{suffix}", resolution)
            expected[f"{name}.{suffix}"] = "" if (name, suffix) == ("large", "tif") else "resolution "
    text = ("hällo \u4e2d\u6587".encode(), "Grüße".encode("latin-1"))
    for name, tag, lost in (
        ("utf8", (270, "s", len(text[0]) + 1, text[0] + b"\0", True), ""),
        ("latin1", (270, "s", len(text[1]) + 1, text[1] + b"\0", True), ""),
        ("iptc", (IPTC, "I", 3, (0x0005021C, 0x7A616805, 0x00000065), True), ""),
        ("numbers", (305, "d", 2, (1.0, float("nan")), True), "TIFF tag 305"),
        ("fraction", (306, "2I", 1, (0, 0), True), "TIFF tag 306"),
        ("number", (270, "H", 1, 7, True), "TIFF tag 270"),
        ("profile_of_a_number", (34675, "I", 1, 7, True), "ICC profile"),
        ("signed", (IPTC, "i", 2, (-1, -2), True), f"TIFF tag {IPTC}"),
    ):
        tiff_with(root / f"{name}.tif", tags=[tag])
        expected[f"{name}.tif"] = lost
    saved(root / "invalid_exif.jpg", COLOUR, "JPEG", exif=b"Exif\0\0no header of a TIFF")
    content = (root / "invalid_exif.jpg").read_bytes()
    (root / "invalid_exif.jpg").write_bytes(content[:2] + content[20:])  # without JFIF, the resolution is that of EXIF
    expected["invalid_exif.jpg"] = "EXIF"
    info = PngImagePlugin.PngInfo()
    info.add_text("k" * 90, "keyword too long")
    info.add_itxt("Title", "\u4e2d\u6587", "zh", "\u9898")
    saved(root / "text.png", COLOUR, "PNG", pnginfo=info)
    expected["text.png"] = "PNG text"
    return expected


def test_metadata_that_cannot_be_written_are_named_and_the_image_is_written(small_weights, tmp_path):
    expected = hostile_files(tmp_path / "in")
    first = restore(small_weights, tmp_path / "in", tmp_path / "out")
    assert first.returncode == 0, first.stderr
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == expected.keys()
    for name, lost in expected.items():
        lines = [line for line in first.stderr.splitlines() if f"/{name}: " in line]
        named = [lost.lower() in line.lower() and re.search("not kept|dropped", line) is not None for line in lines]
        assert named == [True] * bool(lost), lines
        with Image.open(tmp_path / "out" / name) as image:
            image.load()
            assert image.size == (WIDTH, HEIGHT)
            assert image.format == FORMATS[Path(name).suffix]
    # What was written can be read, and has lost all that cannot be written.
    second = restore(small_weights, tmp_path / "out", tmp_path / "again")
    assert (second.returncode, second.stderr) == (0, "")
    with Image.open(tmp_path / "again" / "utf8.tif") as image:
        assert image.tag_v2[270].encode("latin-1").decode() == "hällo \u4e2d\u6587"
    with Image.open(tmp_path / "again" / "iptc.tif") as image:
        assert image.tag_v2[IPTC] == b"\x1c\x02\x05\0\5haze\0\0\0"
    with Image.open(tmp_path / "again" / "text.png") as image:
        assert (image.text["Title"], image.text["Title"].lang) == ("\u4e2d\u6587", "zh")
    with Image.open(tmp_path / "again" / "big.webp") as image:
        assert len(image.info["xmp"]) > 70_000
        assert len(image.info["icc_profile"]) == 100_000


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Up to four bytes replaced, removed or added."""
    content = bytearray(content)
    for _ in range(rng.randint(0, 4)):
        start = rng.randrange(len(content) + 1)
        content[start : start + rng.choice([0, 1, 1, 1, 4, 20])] = rng.randbytes(rng.choice([0, 1, 1, 1, 4, 30]))
    return bytes(content)


def mutated_tags(content: bytes, rng: random.Random) -> bytes:
    """A TIFF of which up to three tags, but for those that describe the pixels, have another type, count or value."""
    content = bytearray(content)
    (directory,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, directory)
    for entry in rng.sample(range(directory + 2, directory + 2 + 12 * count, 12), 3):
        if content[entry + 1] == 1 and content[entry] < 26:  # tags 256 to 281
            continue
        format, position, values = rng.choice(
            [("<H", 2, range(14)), ("<I", 4, (0, 1, 2, 5, 100, 2**31)), ("<I", 8, (0, 1, 8, 300, len(content) - 1))]
        )
        struct.pack_into(format, content, entry + position, rng.choice(values))
    return bytes(content)


def test_mutated_metadata_never_end_a_job_and_what_is_written_can_be_read(small_weights, tmp_path):
    (tmp_path / "in").mkdir()
    rng = random.Random(0)
    kinds = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
    for index in range(60):
        suffix = rng.choice([*kinds, "tif"])
        path = tmp_path / "in" / f"{index}.{rng.choice([*kinds, 'tif', 'bmp', suffix, suffix, suffix])}"
        if suffix == "tif":
            write_tiff(path, COLOUR, {ICC, EXIF, XMP_ROW, RESOLUTION, TAGS, IPTC_ROW})
            path.write_bytes(mutated_tags(path.read_bytes(), rng))
        else:
            exif = b"Exif\0\0" + mutated(exif_of().removeprefix(b"Exif\0\0"), rng)
            options = {"exif": exif, "icc_profile": mutated(PROFILE, rng), "xmp": mutated(XMP % b"here", rng)}
            saved(path, COLOUR, kinds[suffix], **options)
    first = restore(small_weights, tmp_path / "in", tmp_path / "out")
    lines = first.stderr.splitlines()
    assert all(re.match(r"(note|error): /.*/\d+\.\w+: ", line) for line in lines), first.stderr
    refused = {re.search(r"/(\d+\.\w+): ", line)[1] for line in errors_of(first)}
    assert len(refused) == len(errors_of(first)) < 20, first.stderr
    assert not re.search(r"\w+Error", first.stderr), first.stderr
    assert first.returncode == (2 if refused else 0)
    written = {path.name for path in (tmp_path / "out").glob("[!.]*")}
    assert written == {path.name for path in (tmp_path / "in").iterdir()} - refused
    second = restore(small_weights, tmp_path / "out", tmp_path / "again")
    assert (second.returncode, second.stderr) == (0, "")


@pytest.mark.parametrize(
    "name, size, limit", [("wide.webp", (17_000, 2), "16,383"), ("high.jpg", (2, 65_501), "65,500")]
)
def test_an_image_too_large_for_its_format_is_refused_with_advice(small_weights, tmp_path, name, size, limit):
    (tmp_path / "in").mkdir()
    Image.new("RGB", size).save(tmp_path / "in" / name, "PNG")
    saved(tmp_path / "in" / "sound.png", COLOUR, "PNG")
    result = restore(small_weights, tmp_path / "in", tmp_path / "out")
    assert result.returncode == 2
    (line,) = errors_of(result)
    for mention in (name, f"{size[0]}x{size[1]}", limit, "convert the input to .png or .tif"):
        assert mention in line
    assert "1 restored, 0 skipped, 1 failed" in result.stdout
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["sound.png"]


def table_of_the_docs() -> dict[str, dict[str, bool]]:
    """What each format keeps, as docs/restore.md says: format -> row -> whether."""
    text = (ROOT / "docs" / "restore.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    start = next(index for index, row in enumerate(rows) if row[1:3] == ["PNG", "JPEG"])
    formats = [name.upper().replace(" ", "") for name in rows[start][1:]]
    assert set(formats) == set(FORMATS.values())
    answers = [row for row in rows[start + 2 :] if set(row[1:]) <= {"yes", "no"} and len(row) == len(rows[start])]
    return {format: {row[0]: row[1 + index] == "yes" for row in answers} for index, format in enumerate(formats)}


TABLE = table_of_the_docs()
DEPTH, AS_GREY, HAS_ALPHA, ICC, EXIF, XMP_ROW, RESOLUTION, TEXTS, COLOUR_CHUNKS, TAGS, IPTC_ROW, COMMENT = TABLE["PNG"]
DESCRIPTION = {270: "sunset", 305: "Camera 1.0", 306: "2024:01:02 03:04:05", 33432: "Grüße"}


def write_input(path: Path, rng: random.Random, has: set[str]) -> None:
    """A file with these properties, written by Pillow, OpenCV or tifffile."""
    format = FORMATS[path.suffix]
    pixels = GREY if AS_GREY in has else COLOUR
    alpha = ALPHA
    if DEPTH in has:
        pixels, alpha = pixels.astype(np.uint16) * 257 + 5, ALPHA.astype(np.uint16) * 257 + 3
    if HAS_ALPHA in has:
        pixels = np.dstack([pixels, alpha])
    options: dict[str, object] = {}
    if ICC in has:
        options["icc_profile"] = PROFILE
    if EXIF in has:
        options["exif"] = exif_of("Artist")
    if XMP_ROW in has and format != "PNG":
        options["xmp"] = XMP % b"here"
    if RESOLUTION in has:
        options["dpi"] = (300, 150)
    if format == "PNG":
        options["pnginfo"] = info = PngImagePlugin.PngInfo()
        if TEXTS in has:
            info.add_text("Author", "Grüße")
            info.add_itxt("Title", "\u4e2d\u6587")
        if XMP_ROW in has:
            info.add_itxt("XML:com.adobe.xmp", (XMP % b"here").decode())
        if COLOUR_CHUNKS in has:
            for kind, content in CHUNKS.items():
                info.add(kind, content)
    if format == "TIFF":
        write_tiff(path, pixels, has)
    elif format == "PPM":
        path.write_bytes(cv2.imencode(".pnm", pixels)[1])
    elif format == "BMP" and HAS_ALPHA in has:
        _, content = cv2.imencode(".bmp", np.dstack([COLOUR, ALPHA]))
        if RESOLUTION in has:
            content[38:46] = np.frombuffer(struct.pack("<II", 11811, 5906), np.uint8)
        path.write_bytes(content)
    elif DEPTH in has:  # Pillow writes the metadata, OpenCV the pixels
        whole = io.BytesIO()
        Image.fromarray(GREY).save(whole, "PNG", **options)
        parts = whole.getvalue()
        first, last = parts.index(b"IDAT") - 4, parts.index(b"IEND") - 4
        between = parts[33:first] + parts[first + 12 + struct.unpack(">I", parts[first : first + 4])[0] : last]
        swapped = pixels[..., [0, 0, 0, 1]] if pixels.ndim == 3 and pixels.shape[2] == 2 else pixels
        deep = cv2.imencode(".png", swapped)[1].tobytes()
        path.write_bytes(deep[:33] + between + deep[33:])
    else:
        if COMMENT in has:
            options["comment"] = b"taken in fog"
        if IPTC_ROW in has:
            options["extra"] = iptc_segment(IPTC_DATA)
        lossless = {"lossless": True} if format == "WEBP" and rng.random() < 0.5 else {}
        Image.fromarray(pixels).save(path, format, **options, **lossless)


def write_tiff(path: Path, pixels: np.ndarray, has: set[str]) -> None:
    tags = []
    if TAGS in has:
        for tag, text in DESCRIPTION.items():
            tags.append((tag, "s", 0, text.encode("latin-1") + b"\0", True))
    if IPTC_ROW in has:
        tags.append((IPTC, "I", 2, (0x0005021C, 5), True))
    if XMP_ROW in has:
        tags.append((700, "B", len(XMP % b"here"), XMP % b"here", True))
    grey = pixels.ndim == 2 or pixels.shape[2] == 2
    tifffile.imwrite(
        path,
        pixels,
        photometric="minisblack" if grey else "rgb",
        extrasamples=["unassalpha"] if HAS_ALPHA in has else [],
        planarconfig="contig",
        iccprofile=PROFILE if ICC in has else None,
        resolution=(300, 150) if RESOLUTION in has else None,
        resolutionunit="INCH" if RESOLUTION in has else None,
        software=False,
        metadata=None,
        extratags=[*tags, ("ExifTag", "I", 1, 8, True)] if EXIF in has else tags,
    )
    if EXIF in has:  # the directory is appended
        content = bytearray(path.read_bytes())
        entry = content.index(struct.pack("<HHI", EXIF_IFD, 4, 1))
        struct.pack_into("<I", content, entry + 8, len(content))
        content += struct.pack("<HHHIII", 1, EXPOSURE, 5, 1, len(content) + 18, 0) + struct.pack("<II", 1, 100)
        path.write_bytes(content)


def found_in(path: Path) -> set[str]:
    """The rows of the table that hold for a file, found by Pillow and in the bytes."""
    found = set()
    content = path.read_bytes()
    with Image.open(path) as image:
        info, format = dict(image.info), image.format
        image.load()
        texts = getattr(image, "text", {})
        exif = image.getexif()
        chunks = CHUNKS if "icc_profile" not in info else {kind: CHUNKS[kind] for kind in CHUNKS.keys() - {b"sRGB"}}
        holds = {
            DEPTH: (format == "PNG" and content[24] == 16)
            or (format == "TIFF" and image.tag_v2[258][0] == 16)
            or (format == "PPM" and content.split()[3] == b"65535"),
            AS_GREY: image.mode in ("L", "LA", "I;16", "I"),
            HAS_ALPHA: image.mode in ("LA", "RGBA"),
            ICC: info.get("icc_profile") == PROFILE,
            EXIF: float(exif.get_ifd(EXIF_IFD).get(EXPOSURE, 0)) == 0.01,
            XMP_ROW: info.get("xmp") == XMP % b"here",
            RESOLUTION: info.get("dpi", (0, 0)) == pytest.approx((300, 150), abs=0.05),
            TEXTS: (texts.get("Author"), texts.get("Title")) == ("Grüße", "\u4e2d\u6587"),
            COLOUR_CHUNKS: format == "PNG" and png.metadata(content, png.parse(content))["png_colour"] == chunks,
            TAGS: format == "TIFF" and all(image.tag_v2.get(tag) == text for tag, text in DESCRIPTION.items()),
            IPTC_ROW: (format == "TIFF" and image.tag_v2.get(IPTC) == b"\x1c\x02\x05\0\5\0\0\0")
            or info.get("photoshop") == {0x0404: IPTC_DATA},
            COMMENT: format == "JPEG" and info.get("comment") == b"taken in fog",
        }
    found = {row for row, holds_here in holds.items() if holds_here}
    assert THUMBNAIL not in content
    assert image.size == (WIDTH, HEIGHT)
    return found


def properties(suffix: str, rng: random.Random) -> set[str]:
    """Properties that a file of this format can have, at random."""
    kept = [row for row, answer in TABLE[FORMATS[suffix]].items() if answer]
    has = {row for row in kept if rng.random() < 0.6}
    return has - {AS_GREY} if HAS_ALPHA in has and suffix == ".bmp" else has


@pytest.fixture(scope="module")
def generated(small_weights, tmp_path_factory) -> tuple[Path, dict[str, set[str]]]:
    """Files of every format with properties at random, restored; their folder, and the properties by name."""
    root, rng = tmp_path_factory.mktemp("generated"), random.Random(0)
    (root / "in").mkdir()
    has = {}
    for suffix in (".png", ".jpg", ".tif", ".webp", ".bmp", ".avif", ".jp2", ".ppm", ".pgm"):
        for index in range(14):
            name = f"{index}{suffix}"
            has[name] = properties(suffix, rng)
            write_input(root / "in" / name, rng, has[name])
    result = restore(small_weights, root / "in", root / "out")
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    return root, has


def test_each_format_keeps_what_the_table_says(generated):
    root, has = generated
    for name, wanted in has.items():
        expected = set(wanted)
        if HAS_ALPHA in wanted and not (name.endswith((".png", ".jp2")) and DEPTH not in wanted):
            expected -= {AS_GREY}  # greyscale with alpha becomes RGBA
        found = found_in(root / "out" / name)
        assert found == expected, (name, wanted)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "avif"])
def test_no_thumbnail_shows_the_image_before_it_was_restored(small_weights, tmp_path, suffix):
    """EXIF thumbnails, compressed and uncompressed, in either byte order, and those of XMP."""
    (tmp_path / "in").mkdir()
    small = b"9j4AAQSkZJRg"
    xmp = XMP % (b"<xmp:Thumbnails><rdf:Alt>%s</rdf:Alt></xmp:Thumbnails><b/>" % small)
    for order in "<>":
        for number, tags in enumerate([(0x0201, 0x0202), (0x0111, 0x0117)]):
            block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
            block += struct.pack(f"{order}HHHI4sI", 1, ARTIST, 2, 4, b"abc\0", 26)
            block += struct.pack(f"{order}H", 2)
            for tag, value in zip(tags, (56, len(THUMBNAIL)), strict=True):
                block += struct.pack(f"{order}HHII", tag, 4, 1, value)
            block += bytes(4) + THUMBNAIL
            name = f"{number}{'II' if order == '<' else 'MM'}.{suffix}"
            kind = "WEBP" if suffix == "tif" else FORMATS[f".{suffix}"]  # Pillow writes no EXIF block into a TIFF
            options = {"exif": b"Exif\0\0" + block, "xmp": xmp}
            if kind == "PNG":
                options["pnginfo"] = info = PngImagePlugin.PngInfo()
                info.add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode())
            saved(tmp_path / "in" / name, COLOUR, kind, **options)
            assert THUMBNAIL in (tmp_path / "in" / name).read_bytes()
    result = restore(small_weights, tmp_path / "in", tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    for path in (tmp_path / "out").glob("[!.]*"):
        content = path.read_bytes()
        assert THUMBNAIL not in content
        assert small not in content
        with Image.open(path) as image:
            assert image.info["xmp"] == XMP % b"<b/>"
            image.load()
            assert image.getexif()[ARTIST] == "abc"
            assert len(image.getexif().get_ifd(1)) == 0  # IFD1


def test_a_webp_stays_lossless_or_lossy_whatever_its_profile_contains(small_weights, tmp_path):
    (tmp_path / "in").mkdir()
    for lossless in (False, True):
        for number, profile in enumerate((PROFILE, b"VP8L" * 30, b"x" * 5001 + b"VP8L", np.random.bytes(9000))):
            name = f"{number}_{lossless}.webp"
            saved(tmp_path / "in" / name, COLOUR, "WEBP", lossless=lossless, icc_profile=profile, xmp=b"VP8L VP8X")
    assert restore(small_weights, tmp_path / "in", tmp_path / "out").returncode == 0
    for path in (tmp_path / "out").glob("*.webp"):
        content = path.read_bytes()
        assert is_lossless_webp(content) == ("True" in path.name), path.name
        assert bool(re.search(rb"VP8L.{4}\x2f", content, re.DOTALL)) == ("True" in path.name)


def test_alpha_of_a_bmp_survives_a_second_reading(small_weights, tmp_path):
    (tmp_path / "in").mkdir()
    for name, pixels in (("colour.bmp", np.dstack([COLOUR, ALPHA])), ("grey.bmp", np.dstack([GREY, ALPHA]))):
        saved(tmp_path / "in" / name, pixels, "PNG")  # Pillow writes no alpha into a BMP
    for output in ("once", "twice"):
        source = tmp_path / ("in" if output == "once" else "once")
        result = restore(small_weights, source, tmp_path / output)
        assert (result.returncode, result.stderr) == (0, "")
    for name in ("colour.bmp", "grey.bmp"):
        np.testing.assert_array_equal(read_photograph(tmp_path / "twice" / name).alpha, ALPHA)


def test_alpha_that_a_format_cannot_store_is_announced(small_weights, tmp_path):
    (tmp_path / "in").mkdir()
    saved(tmp_path / "in" / "a.jpg", np.dstack([COLOUR, ALPHA]), "PNG")
    result = restore(small_weights, tmp_path / "in", tmp_path / "out")
    assert result.returncode == 0
    assert "alpha channel" in result.stderr
    assert write_photograph(tmp_path / "b.jpg", read_photograph(tmp_path / "out" / "a.jpg")) == ()


@pytest.mark.parametrize("subsampling, tolerance", [("4:4:4", 8), ("4:2:2", 16), ("4:2:0", 16)])
def test_a_jpeg_keeps_all_detail_of_colour_that_its_source_has(identity_weights, tmp_path, subsampling, tolerance):
    """Red and blue stripes of two pixels, which survive subsampling, though not twice with other phases."""
    (tmp_path / "in").mkdir()
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, (np.arange(64) // 2) % 2 == 0] = (180, 60, 60)
    stripes[:, (np.arange(64) // 2) % 2 == 1] = (60, 60, 180)
    saved(tmp_path / "in" / "a.jpg", stripes, "JPEG", quality=98, subsampling=subsampling)
    result = restore(identity_weights, tmp_path / "in", tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    before, after = (read_photograph(tmp_path / folder / "a.jpg").colour.astype(int) for folder in ("in", "out"))
    assert abs(after - before).max() <= tolerance
    with Image.open(tmp_path / "out" / "a.jpg") as image:
        assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4


def test_comments_and_iptc_of_a_jpeg_are_kept_or_named(small_weights, tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    thumbnail = b"8BIM\x04\x0c\0\0" + struct.pack(">I", len(THUMBNAIL)) + THUMBNAIL + bytes(len(THUMBNAIL) % 2)
    resources = b"Photoshop 3.0\0" + thumbnail + iptc_segment(IPTC_DATA)[18:]
    more = {"comment": b"taken in fog", "extra": b"\xff\xed" + struct.pack(">H", 2 + len(resources)) + resources}
    for name in ("a.jpg", "a.png", "a.tif"):
        saved(source / name, COLOUR, "JPEG", **more)
    packet = b"http://ns.adobe.com/xmp/extension/\0" + bytes(100)
    saved(source / "xmp.jpg", COLOUR, "JPEG", extra=b"\xff\xe1" + struct.pack(">H", 2 + len(packet)) + packet)
    saved(source / "b.gif", GREY, "GIF", comment=b"taken in fog")
    result = restore(small_weights, source, output)
    assert result.returncode == 0, result.stderr
    lines = [line.rpartition("/")[2] for line in result.stderr.splitlines()]
    kept = "not kept, damaged or more than {} can store: IPTC (9 bytes), comment (12 bytes)"
    assert lines == [
        f"a.png: {kept.format('PNG')}",
        f"a.tif: {kept.format('TIFF')}",
        "b.gif.png: not kept, damaged or more than PNG can store: comment (12 bytes)",
        "xmp.jpg: XMP beyond 64 kB is not kept",
    ]
    with Image.open(output / "a.jpg") as image:
        assert image.info["comment"] == b"taken in fog"
        assert image.info["photoshop"] == {0x0404: IPTC_DATA}
    assert THUMBNAIL not in (output / "a.jpg").read_bytes()
