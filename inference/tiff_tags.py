"""The metadata of a TIFF file, apart from the tags that describe the storage of its pixels."""

import contextlib
import io
import struct
from typing import Any

from PIL import Image

from data.decoding.structure import Structure

# Tags that describe the image: description, make, model, software, date, artist, copyright, XMP, IPTC.
DESCRIPTIVE_TAGS = (270, 271, 272, 305, 306, 315, 33432, 700, 33723)
XMP_TAG, IPTC_TAG, ICC_TAG = 700, 33723, 34675
EXIF_IFD, GPS_IFD, INTEROPERABILITY = 0x8769, 0x8825, 0xA005
RESOLUTIONS, UNIT = (282, 283), 296
UNITS = {2: 1, 3: 2.54}  # pixels per inch in a pixel per inch, and in one per cm


def tiff_metadata(content: bytes, structure: Structure) -> dict[str, Any]:
    """ICC profile, EXIF block, resolution and descriptive tags: keys ``icc``, ``exif``, ``dpi``, ``tags``.

    Pillow reads the tags, but as those of an EXIF block: it opens only images of the kinds that it can decode.
    """
    exif = Image.Exif()
    if content[2:4] == b"+\0":  # BigTIFF
        exif.bigtiff, exif.endian = True, "<"
        exif.load_from_fp(io.BytesIO(content), struct.unpack_from("<Q", content, 8)[0])
    else:
        exif.load(content)
    tags = {tag: exif[tag] for tag in DESCRIPTIVE_TAGS if tag in exif}
    if IPTC_TAG in structure.parts["tags"]:  # stored as 32-bit integers, of which Pillow reads the first
        tags[IPTC_TAG] = structure.parts["tags"][IPTC_TAG]
    found = {"tags": tags, "icc": exif.get(ICC_TAG)}
    with contextlib.suppress(TypeError, ValueError):  # not numbers
        scale = UNITS.get(exif.get(UNIT, 2))
        if scale and all(tag in exif for tag in RESOLUTIONS):
            found["dpi"] = tuple(float(exif[tag]) * scale for tag in RESOLUTIONS)
    try:
        found["exif"] = _exif_block(exif)
    except Exception:  # Pillow raises almost any exception on values of the wrong type
        structure.notes.append("damaged EXIF data are not kept")
    return found


def _exif_block(exif: Image.Exif) -> bytes:
    kept = Image.Exif()
    for tag in DESCRIPTIVE_TAGS:
        if tag in exif and tag not in (XMP_TAG, IPTC_TAG) and isinstance(exif[tag], str):
            kept[tag] = exif[tag]
    for pointer in (EXIF_IFD, GPS_IFD):
        if directory := exif.get_ifd(pointer):
            kept[pointer] = dict(directory)
    return kept.tobytes() if len(kept) else b""
