"""The segments of a JPEG file (ITU-T T.81, annex B) and their metadata."""

import re
from typing import Any

from data.decoding.orientation import EXIF_PREFIX, entries, orientation_of, without_prefix
from data.decoding.structure import Content, Structure, Unreadable

# Within entropy-coded data, FF 00 stands for the byte FF, and FF D0 to FF D7 restart the decoder: neither ends a scan.
MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15 without DHT, JPG and DAC
SEQUENTIAL, PROGRESSIVE = {0xC0, 0xC1}, 0xC2
COEFFICIENTS = 64  # of a block
KEPT = {0xE0, 0xE1, 0xE2, 0xED, 0xFE}  # JFIF; EXIF and XMP; ICC profile and index of pages; IPTC; comments
END, SCAN, WITHOUT_CONTENT = 0xD9, 0xDA, {0x01, 0xD8}
MODES = {1: "L", 3: "RGB", 4: "CMYK"}
WINDOW = 2**18  # bytes searched at once
TAIL = 4096  # bytes at the end of a file in which an end marker is looked for first

# A progressive image is decoded once per scan, so that a file of a few hundred kB could keep a decoder busy for
# minutes. Encoders write 10 to 20 scans, rarely more; the limit for large images follows from MAX_WORK.
MAX_SCANS, SURE_SCANS = 100, 20
MAX_WORK = 2e9  # pixels times scans

XMP_PREFIX, ICC_PREFIX = b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
FURTHER_XMP_PREFIX = b"http://ns.adobe.com/xmp/extension/\0"
FURTHER_XMP = "XMP beyond 64 kB is not kept"
RESOURCES_PREFIX, RESOURCE, IPTC_RESOURCE = b"Photoshop 3.0\0", b"8BIM", 0x0404
PAGES_TAG = 0xB001  # of the index of a multi-picture file (CIPA DC-007)


def parse(content: Content) -> Structure:
    """Follow the segments to the end marker of the first image; what comes after it is not looked at."""
    position, scans, frame, segments, finished = 2, 0, None, [], set()
    while True:
        code, position = _next_marker(content, position)
        if code is None or code == END:
            break
        if code in WITHOUT_CONTENT:
            continue
        length = int.from_bytes(content[position : position + 2])
        if length < 2:
            raise Unreadable("not a readable image: a JPEG segment without a length")
        body = content[position + 2 : position + length]
        position += length
        if code in FRAMES and frame is None:
            frame = code, body
        elif code == SCAN:
            scans += 1
            if frame is None:
                raise Unreadable("not a readable image: JPEG data without a frame header")
            if frame[0] in SEQUENTIAL and body[0] == frame[1][5] and b"\xff\xd9" in content[_tail(content, position) :]:
                code = END  # one scan: any marker after its start ends the image
                break
            finished |= _finished(body)
            if scans > MAX_SCANS:
                raise Unreadable(f"more than {MAX_SCANS} JPEG scans: save the image again")
        elif code in KEPT:
            segments.append((code, body))
    if frame is None or len(frame[1]) < 6:
        raise Unreadable("not a readable image: a JPEG without a frame header")
    structure = _structure(frame[1], segments)
    structure.truncated = code != END or scans == 0
    if frame[0] == PROGRESSIVE and len(finished) < COEFFICIENTS * frame[1][5]:
        structure.truncated = True  # the last scans are missing, only a coarse version is there
    if scans > max(SURE_SCANS, MAX_WORK / (structure.width * structure.height)):
        raise Unreadable(f"{scans} JPEG scans of {structure.width}x{structure.height} pixels: save the image again")
    return structure


def _finished(scan: bytes) -> set[tuple[int, int]]:
    """The coefficients that a progressive scan brings to their last bit, as (component, number)."""
    count = scan[0]
    first, last, bits = scan[1 + 2 * count : 4 + 2 * count]
    if bits & 15:  # less significant bits follow in other scans
        return set()
    return {(scan[1 + 2 * index], number) for index in range(count) for number in range(first, last + 1)}


def _structure(frame: bytes, segments: list[tuple[int, bytes]]) -> Structure:
    bits, height, width, components = frame[0], int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5]), frame[5]
    if not width or not height or components not in MODES:
        raise Unreadable(f"not a readable image: a JPEG of {width}x{height} pixels and {components} components")
    structure = Structure("JPEG", width, height, MODES[components], bits, parts={"segments": segments})
    for code, body in segments:
        if code == 0xE1 and body.startswith(EXIF_PREFIX) and not structure.exif:
            structure.exif = without_prefix(body)
            if not structure.exif:
                structure.notes.append("damaged EXIF data are not kept")
        elif code == 0xE1 and body.startswith(XMP_PREFIX) and not structure.xmp:
            structure.xmp = body.removeprefix(XMP_PREFIX)
        elif code == 0xE1 and body.startswith(FURTHER_XMP_PREFIX) and FURTHER_XMP not in structure.notes:
            structure.notes.append(FURTHER_XMP)
        elif code == 0xE2 and body.startswith(b"MPF\0"):
            index = body[4:]
            pages = [
                int.from_bytes(index[at : at + 4], "little" if kind[0] == "<" else "big")
                for tag, at, kind in entries(index)
                if tag == PAGES_TAG and kind[1] == "I"
            ]
            structure.pages = pages[0] if pages else 1
    structure.orientation = orientation_of(structure.exif, structure.xmp)
    return structure


def metadata(structure: Structure) -> dict[str, Any]:
    """ICC profile, resolution, IPTC data and comment, if there: keys ``icc``, ``dpi``, ``iptc``, ``comment``."""
    found: dict[str, Any] = {}
    profile = {}
    resources, comments = b"", []
    for code, body in structure.parts["segments"]:
        if code == 0xE2 and body.startswith(ICC_PREFIX) and len(body) > 14:
            profile[body[12]] = body[14:]
        elif code == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 12 and body[7] in (1, 2):
            scale = 1 if body[7] == 1 else 2.54  # per inch or per cm
            dpi = tuple(int.from_bytes(body[at : at + 2]) * scale for at in (8, 10))
            if all(dpi):
                found["dpi"] = dpi
        elif code == 0xED and body.startswith(RESOURCES_PREFIX):
            resources += body.removeprefix(RESOURCES_PREFIX)
        elif code == 0xFE:
            comments.append(body)
    if iptc := _iptc(resources):
        found["iptc"] = iptc
    if comments:
        found["comment"] = b"\n".join(comments)
    if profile:
        found["icc"] = b"".join(profile[number] for number in sorted(profile))
    return found


def _iptc(resources: bytes) -> bytes:
    """The IPTC data among Photoshop's image resources; empty if there are none."""
    position = 0
    while resources[position : position + 4] == RESOURCE and position + 12 <= len(resources):
        kind = int.from_bytes(resources[position + 4 : position + 6])
        position += 6 + 2 * (resources[position + 6] // 2 + 1)  # the name, padded to an even length with its length
        length = int.from_bytes(resources[position : position + 4])
        if kind == IPTC_RESOURCE:
            return resources[position + 4 : position + 4 + length]
        position += 4 + length + length % 2
    return b""


def iptc_segment(iptc: bytes) -> bytes:
    """The segment APP13 with IPTC data.

    Raises:
        OverflowError: they are too long for a segment.
    """
    resource = RESOURCE + IPTC_RESOURCE.to_bytes(2) + bytes(2) + len(iptc).to_bytes(4) + iptc + bytes(len(iptc) % 2)
    body = RESOURCES_PREFIX + resource
    return b"\xff\xed" + (2 + len(body)).to_bytes(2) + body


def _next_marker(content: Content, position: int) -> tuple[int | None, int]:
    """The next marker's code and the position behind it; (None, end) if there is none."""
    near = content[position : position + 2]
    if MARKER.match(near):
        return near[1], position + 2
    while position < len(content):
        window = content[position : position + WINDOW]
        if found := MARKER.search(window):
            return window[found.end() - 1], position + found.end()
        position += max(1, len(window) - 1)  # the last byte may begin a marker
    return None, len(content)


def _tail(content: Content, position: int) -> int:
    return max(position, len(content) - TAIL)
