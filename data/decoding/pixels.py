"""Decode an image file's pixels: one set of rules for training, test and restoring."""

import contextlib
import io
import re
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageFile

from data.decoding import heif, jpeg, png, tiff
from data.decoding.deep_tiff import decode_tiff
from data.decoding.orientation import upright
from data.decoding.others import opened
from data.decoding.quiet import captured_messages, no_warnings
from data.decoding.structure import NOT_FILLED, TRUNCATED, Structure, Unreadable

# OpenCV refuses more (CV_IO_MAX_IMAGE_WIDTH, _HEIGHT and _PIXELS).
OPENCV_SIDE, OPENCV_PIXELS = 2**20, 2**30

# What libjpeg reports when it has filled blocks with grey or lost its place, and what leaves the image whole.
JPEG_DAMAGE = re.compile(r"premature end|bad \w+ code|instead of RST", re.IGNORECASE)
JPEG_DOUBTS = re.compile(r"^Corrupt JPEG data|progressi")
FILLED = "the image is truncated; the missing part is filled"


@dataclass
class Pixels:
    """Upright pixels.

    Attributes:
        colour: (H, W, 3) RGB or (H, W) greyscale, uint8 or uint16.
        alpha: (H, W), not premultiplied, same dtype, or None.
        notes: messages about conversions and damage.
        converted: the colours were converted to sRGB, and the file's ICC profile does not apply any more.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    converted: bool = False


def decode(content: bytes, structure: Structure, accept_truncated: bool = False) -> Pixels:
    """Decode a whole file or, with ``accept_truncated``, what is there of its pixels, with a note.

    Raises:
        Unreadable: the pixels are damaged, incomplete, or of a kind that is not supported.
    """
    if structure.truncated and not accept_truncated:
        raise Unreadable(TRUNCATED)
    with captured_messages() as messages, no_warnings():
        pixels = _incomplete(content, structure) if structure.truncated else _decoded(content, structure)
    if structure.format in ("JPEG", "TIFF"):
        _judge(messages, pixels, accept_truncated)
    pixels.colour = upright(pixels.colour, structure.orientation)
    pixels.alpha = upright(pixels.alpha, structure.orientation)
    if pixels.colour.shape[:2] != structure.upright_size:
        raise Unreadable("the image is damaged (its pixels are not as many as its header says)")
    return pixels


def _judge(messages: list[str], pixels: Pixels, accept_truncated: bool) -> None:
    """Refuse what libjpeg had to fill, and note what it found odd."""
    for message in messages:
        if JPEG_DAMAGE.search(message):
            if not accept_truncated:
                raise Unreadable(f"the image is damaged ({message})")
            pixels.notes.append(f"{FILLED} ({message})")
        elif JPEG_DOUBTS.search(message):
            pixels.notes.append(f"the image may be damaged ({message})")


def _incomplete(content: bytes, structure: Structure) -> Pixels:
    """What is there of a file that ends too early, the rest filled by the decoder."""
    if structure.bits > 8 or structure.format not in ("PNG", "JPEG", "BMP"):
        raise Unreadable(f"{TRUNCATED} ({NOT_FILLED})")
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # only here: Pillow would fill damaged images as well
    try:
        pixels = _pillow(content, structure)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    pixels.notes.append(FILLED)
    return pixels


def _decoded(content: bytes, structure: Structure) -> Pixels:
    match structure.format:
        case "PNG":
            return _png(content, structure)
        case "JPEG" if structure.bits == 8 and _fits_opencv(structure):
            rgb = _opencv(content, {"L": cv2.IMREAD_GRAYSCALE}.get(structure.mode, cv2.IMREAD_COLOR_RGB))
            return Pixels(rgb) if structure.mode != "CMYK" else _pillow(content, structure)  # the former is a check
        case "TIFF" if structure.bits > 8 or content[:4] == tiff.BIG_ENDIAN_BIG:  # which Pillow cannot read
            return Pixels(*decode_tiff(content, structure))
        case "HEIF":
            return Pixels(*heif.decode(content, structure))
        case "PPM" if structure.parts["kind"] in (2, 3, 5, 6):
            return _netpbm(content, structure)
        case "JPEG2000" if structure.bits == 16 and structure.mode in ("I;16", "RGB") and _fits_opencv(structure):
            flags = cv2.IMREAD_COLOR_RGB if structure.mode == "RGB" else cv2.IMREAD_GRAYSCALE
            return Pixels(_opencv(content, flags | cv2.IMREAD_ANYDEPTH))
        case "TIFF":
            _decode_jpeg_streams(content, structure)
            return _pillow(tiff.upright(content, structure), structure)
    if structure.bits > 8:
        raise Unreadable(f"{structure.bits} bits per channel in this format are not supported: save it as PNG or TIFF")
    return _pillow(content, structure)


def _fits_opencv(structure: Structure) -> bool:
    return max(structure.width, structure.height) <= OPENCV_SIDE and (
        structure.width * structure.height <= OPENCV_PIXELS
    )


def _opencv(content: bytes, flags: int) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise Unreadable("the image is damaged")
    return image


def _png(content: bytes, structure: Structure) -> Pixels:
    colour_type, bits = structure.parts["colour"], structure.bits
    key = png.transparent_colour(content, structure)
    content = png.pixels_only(content, structure)
    if not _fits_opencv(structure) and bits == 16:
        raise Unreadable(f"{structure.width}x{structure.height} pixels of 16 bits are too large for the decoder")
    if not _fits_opencv(structure) or bits < 8 or colour_type == png.PALETTE:
        pixels = _pillow(content, structure)
    elif colour_type in (png.GREY_ALPHA, png.RGBA):
        image = _opencv(content, cv2.IMREAD_UNCHANGED)
        colour = cv2.cvtColor(image, cv2.COLOR_BGRA2RGB) if colour_type == png.RGBA else image[..., 0].copy()
        pixels = Pixels(colour, image[..., 3].copy())
    else:
        flags = cv2.IMREAD_GRAYSCALE if colour_type == png.GREY else cv2.IMREAD_COLOR_RGB
        pixels = Pixels(_opencv(content, flags | (cv2.IMREAD_ANYDEPTH if bits == 16 else 0)))
    if key is not None:  # decoders differ in what they make of it
        colour = pixels.colour
        full = np.iinfo(colour.dtype).max
        values = np.array(key) * (full // (2**bits - 1))
        is_key = (colour.reshape(*colour.shape[:2], -1) == values).all(-1)
        pixels.alpha = np.where(is_key, 0, full).astype(colour.dtype)
    return pixels


def _decode_jpeg_streams(content: bytes, structure: Structure) -> None:
    """Let libjpeg report what it has to fill in a TIFF compressed as JPEG; libtiff would not say so."""
    left = 4 * structure.width * structure.height + 2**22  # pixels, for planes, and tiles that a small image overlaps
    for stream in tiff.jpeg_streams(content, structure):
        try:
            part = jpeg.parse(stream)
        except Unreadable:  # libtiff reports it
            continue
        left -= part.width * part.height
        if left < 0:
            return
        cv2.imdecode(np.frombuffer(stream, np.uint8), cv2.IMREAD_GRAYSCALE)


def _netpbm(content: bytes, structure: Structure) -> Pixels:
    """PGM and PPM, binary or as text: values from 0 to the file's maximum, scaled to the whole range."""
    start, maximum, samples = (structure.parts[key] for key in ("start", "maximum", "samples"))
    count = structure.width * structure.height * samples
    stored, dtype = (">u2", np.uint16) if structure.bits == 16 else (np.uint8, np.uint8)
    if structure.parts["kind"] >= 5:
        values = np.frombuffer(content, stored, count, start)
    else:
        text = re.sub(rb"#[^\n]*", b"", content[start:])
        values = np.fromstring(text, np.int64, count, sep=" ")
        if len(values) < count:
            raise Unreadable(TRUNCATED)
    if values.max() > maximum or values.min() < 0:
        raise Unreadable(f"the image is damaged (values above its maximum of {maximum})")
    full = np.iinfo(dtype).max
    if maximum != full:
        values = (values.astype(np.uint32) * full + maximum // 2) // maximum
    shape = (structure.height, structure.width, 3)[: 3 if samples == 3 else 2]
    return Pixels(values.astype(dtype).reshape(shape))


def _pillow(content: bytes, structure: Structure) -> Pixels:
    """Colour or greyscale, and alpha, uint8, from any 8-bit mode; CMYK becomes sRGB."""
    with opened(structure.parts.get("hidden", content), structure.format) as image:
        image.load()
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            raise Unreadable(f"pixels of mode {image.mode}; only 8 and 16 bits per channel are supported")
        if image.mode == "CMYK":
            colour = np.asarray(_cmyk_to_rgb(image, image.info.get("icc_profile")))
            return Pixels(colour, notes=["converted from CMYK to RGB"], converted=True)
        transparent = image.has_transparency_data
        grey = image.mode in ("1", "L", "LA", "La")
        image = image.convert(("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB"))
        pixels = np.array(image)
    if not transparent:
        return Pixels(pixels)
    colour = pixels[..., 0] if grey else pixels[..., :3]
    return Pixels(np.ascontiguousarray(colour), pixels[..., -1].copy())


def _cmyk_to_rgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Convert to sRGB with the embedded profile if it is valid, otherwise with Pillow's formula."""
    if icc:
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return image.convert("RGB")
