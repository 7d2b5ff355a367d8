"""Write restored images in the format of their suffix, with the metadata of the input.

Metadata come from files of any origin, and each format and encoder has limits of its own. Instead of listing these
limits, every piece of metadata is tried: what a small image of the same kind does not give back when it is decoded is
left out, with a note. The reader that decodes it is that of ``photo_files``, and Pillow's.
"""

import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.decoding import jpeg, png
from data.decoding.orientation import EXIF_PREFIX
from data.decoding.pixels import decode
from data.decoding.reading import structure_of
from inference.photo_encoding import ENCODERS
from inference.photo_files import Photograph, metadata_of
from inference.photo_metadata import without_thumbnail, without_xmp_thumbnails
from inference.tiff_tags import EXIF_IFD, INTEROPERABILITY, IPTC_TAG, XMP_TAG
from utils.errors import InputError
from utils.files import write_atomically

FORMATS = {
    ".png": "PNG",
    **dict.fromkeys([".jpg", ".jpeg"], "JPEG"),
    **dict.fromkeys([".tif", ".tiff"], "TIFF"),
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".avif": "AVIF",
    ".jp2": "JPEG2000",
    **dict.fromkeys([".ppm", ".pgm", ".pbm", ".pnm"], "PPM"),
}
# Pixels per side: libjpeg's JPEG_MAX_DIMENSION, the 14 bits of a WebP frame header (RFC 6386, section 9.1), and what
# libavif decodes by default.
MAX_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 32_768}
# What each format stores besides colour; docs/restore.md has the same table.
STORED = {
    "PNG": {"16 bits", "alpha", "icc", "exif", "xmp", "dpi", "text", "png_colour"},
    "JPEG": {"icc", "exif", "xmp", "dpi", "iptc", "comment"},
    "WEBP": {"alpha", "icc", "exif", "xmp"},
    "BMP": {"alpha", "dpi"},
    "AVIF": {"alpha", "icc", "exif", "xmp"},
    "JPEG2000": {"alpha"},
    "PPM": {"16 bits"},
    "TIFF": {"16 bits", "alpha", "icc", "exif", "xmp", "dpi", "tags"},
}
LABELS = {
    "alpha": "alpha channel",
    "icc": "ICC profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "dpi": "resolution",
    "iptc": "IPTC",
    "comment": "comment",
    "text": "PNG text",
    "png_colour": "PNG chunk",
    "tags": "TIFF tag",
}
RAW_EXIF = (png.EXIF_KEY, "Raw profile type APP1")  # EXIF as hexadecimal text, written by ImageMagick
NAMED = 5  # pieces of metadata in a note
SAMPLE = 8  # side in pixels of the image on which metadata are tried

# Metadata by group ("icc", "text", ...) and, for groups with several entries, key within the group.
Pieces = dict[tuple[str, Any], Any]


def check_writable(path: str | Path, photograph: Photograph) -> None:
    """Check that the format of the suffix of ``path`` can store an image of this size and depth.

    Raises:
        InputError: it cannot; the message says which formats can.
    """
    path = Path(path)
    format = FORMATS.get(path.suffix.lower())
    if format is None:
        raise InputError(f"{path}: cannot write {path.suffix} images; use one of {', '.join(sorted(FORMATS))}")
    if photograph.colour.dtype == np.uint16 and "16 bits" not in STORED[format]:
        raise InputError(f"{path}: {path.suffix} cannot store 16-bit images; use .png or .tif")
    height, width = photograph.colour.shape[:2]
    limit = MAX_SIDE.get(format, math.inf)
    if max(height, width) > limit:
        raise InputError(
            f"{path}: {width}x{height} is too large for {path.suffix}, at most {limit:,} pixels per side; "
            "convert the input to .png or .tif"
        )


def write_photograph(path: str | Path, photograph: Photograph) -> tuple[str, ...]:
    """Write atomically, in the format given by the suffix; missing folders are created.

    Returns:
        Notes about what the file does not keep: metadata that the format cannot store, or that are damaged.

    Raises:
        InputError: the format cannot store the image.
        OSError: the file cannot be written.
    """
    path = Path(path)
    check_writable(path, photograph)
    format = FORMATS[path.suffix.lower()]
    with warnings.catch_warnings(action="ignore"):  # about damaged metadata
        photograph, lost = _storable(photograph, format)
        try:
            content = ENCODERS[format](photograph)
            _check_structure(content, photograph)
        except MemoryError:
            raise
        except Exception as error:  # encoders raise almost any exception
            raise InputError(
                f"{path}: cannot encode the image as {format} ({_reason(error)}); convert the input to .png"
            ) from None
    write_atomically(path, content)
    more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
    return (f"not kept, damaged or more than {format} can store: {', '.join(lost[:NAMED])}{more}",) if lost else ()


def _storable(photograph: Photograph, format: str) -> tuple[Photograph, list[str]]:
    """The photograph with the metadata that survive writing and reading; the others are named."""
    pieces = dict(_pieces(photograph))
    known = {piece: value for piece, value in pieces.items() if piece[0] in STORED[format]}
    lost = [
        _label((group, key), value)
        for (group, key), value in pieces.items()
        if (group, key) not in known and not (group == "tags" and key != IPTC_TAG and "exif" in STORED[format])
    ]  # EXIF has the TIFF tags, but for IPTC
    if photograph.alpha is not None and "alpha" not in STORED[format]:
        photograph = replace(photograph, alpha=None)
        lost.insert(0, LABELS["alpha"])
    corner = (slice(SAMPLE), slice(SAMPLE))
    alpha = None if photograph.alpha is None else photograph.alpha[corner]
    sample = replace(photograph, colour=photograph.colour[corner], alpha=alpha)
    if not _survives(sample, known, format):
        failed = [piece for piece, value in known.items() if not _survives(sample, {piece: value}, format)]
        lost += [_label(piece, known.pop(piece)) for piece in failed]
    if known and not _survives(sample, known, format):  # each alone, but not together
        lost += [_label(piece, value) for piece, value in known.items()]
        known = {}
    return _with_pieces(photograph, known), lost


def _pieces(photograph: Photograph) -> Iterator[tuple[tuple[str, Any], Any]]:
    """The metadata to write, piece by piece; without thumbnails, which show the image before it was restored."""
    more = photograph.more
    exif = without_thumbnail(photograph.exif.removeprefix(EXIF_PREFIX))
    if photograph.icc:
        yield ("icc", None), photograph.icc
    if exif:
        yield ("exif", None), exif
    if photograph.xmp:
        yield ("xmp", None), without_xmp_thumbnails(photograph.xmp)
    if any(more.get("dpi", ())):  # zero means unknown
        yield ("dpi", None), more["dpi"]
    for group in ("iptc", "comment"):
        if more.get(group):
            yield (group, None), more[group]
    for key, value in more.get("text", {}).items():
        if key != png.XMP_KEY and not (exif and key in RAW_EXIF):
            yield ("text", key), value
    for key, value in more.get("tags", {}).items():
        if not (photograph.xmp and key == XMP_TAG):
            yield ("tags", key), value
    for kind, content in more.get("png_colour", {}).items():
        yield ("png_colour", kind), content


def _with_pieces(photograph: Photograph, pieces: Pieces) -> Photograph:
    """The photograph with these metadata instead of its own."""
    more: dict[str, Any] = {"text": {}, "png_colour": {}, "tags": {}}
    if "lossless" in photograph.more:
        more["lossless"] = photograph.more["lossless"]
    for (group, key), value in pieces.items():
        if key is not None:
            more[group][key] = value
    more |= {group: pieces[group, None] for group in ("dpi", "iptc", "comment") if (group, None) in pieces}
    icc, exif, xmp = (pieces.get((group, None)) for group in ("icc", "exif", "xmp"))
    return replace(photograph, icc=icc, exif=exif or b"", xmp=xmp, more=more)


def _label(piece: tuple[str, Any], value: Any) -> str:
    group, key = piece
    if group == "dpi":
        return f"{LABELS[group]} {' x '.join(map(str, value))}"
    if key is not None:
        return f"{LABELS[group]} {key.decode() if isinstance(key, bytes) else str(key)[:79]}"
    return f"{LABELS[group]} ({len(value):,} bytes)" if isinstance(value, bytes) else LABELS[group]


def _survives(sample: Photograph, pieces: Pieces, format: str) -> bool:
    """Whether a small image with these metadata can be encoded, and gives them back when decoded."""
    try:
        content = ENCODERS[format](_with_pieces(sample, pieces))
        structure = structure_of(content)
        pixels = decode(content, structure)
        more = metadata_of(content, structure)
        if pixels.notes or structure.notes:
            return False
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            image.getexif()  # raises if EXIF is damaged
            return all(_gives_back(image, more, *piece, value) for piece, value in pieces.items())
    except MemoryError:
        raise
    except Exception:  # encoders and decoders raise almost any exception
        return False


def _gives_back(image: Image.Image, more: dict[str, Any], group: str, key: Any, value: Any) -> bool:
    if group == "dpi":  # formats round it
        found = image.info.get("dpi", (0, 0))
        return all(abs(a - b) <= max(0.5, 0.01 * b) for a, b in zip(found, map(float, value), strict=True))
    if group == "exif":
        found, wanted = image.getexif(), Image.Exif()
        wanted.load(value)
        return len(found) > 0 and found.get_ifd(EXIF_IFD).keys() >= wanted.get_ifd(EXIF_IFD).keys() - {INTEROPERABILITY}
    if group == "text":
        return image.text.get(key) == value
    if group == "png_colour":
        return more["png_colour"].get(key) == value
    if group == "iptc":
        return image.info.get("photoshop", {}).get(jpeg.IPTC_RESOURCE) == value
    if group == "tags":
        return image.tag_v2.get(key) == value or (key == IPTC_TAG and key in image.tag_v2)
    return image.info.get({"icc": "icc_profile"}.get(group, group)) == value


def _check_structure(content: bytes, photograph: Photograph) -> None:
    """Raises ValueError if the encoded image has another size or is incomplete, another exception if it is damaged."""
    structure = structure_of(content)
    if structure.upright_size != photograph.colour.shape[:2] or structure.truncated:
        raise ValueError(f"only {structure.width}x{structure.height} pixels were written")


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:120]
