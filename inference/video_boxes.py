"""The tables of MOV and MP4 files (ISO/IEC 14496-12), which may claim far more samples than there are.

FFmpeg keeps some 60 bytes for each sample of a table, before it reads any. A table that lists its samples is as long
as their number demands; one that gives all samples one size, in 20 bytes, may claim hundreds of millions.
"""

import zlib
from collections.abc import Iterator

from data.decoding.structure import Content, FileBytes, Unreadable

CONTAINERS = {b"moov", b"trak", b"edts", b"mdia", b"minf", b"dinf", b"stbl", b"udta", b"meta", b"mvex", b"moof"}
CONTAINERS |= {b"traf", b"wave", b"tref", b"ilst", b"sinf", b"schi", b"cmov"}
MAX_DEPTH = 10  # of nested boxes, as in FFmpeg
MAX_BOXES = 10**6
MAX_SAMPLES = 10**7  # at 60 frames per second, two days
MAX_HEADER = 2**26  # bytes of a compressed header
LISTED = (0x100, 0x200, 0x400, 0x800)  # flags of "trun" for four bytes each per sample


def check_tables(file: FileBytes) -> None:
    """Raises Unreadable if the tables claim more samples than a file of this size can have, or than anyone films."""
    claimed, limit = _Tables().claims(file, 0, len(file)), min(len(file), MAX_SAMPLES)
    if claimed > limit:
        raise Unreadable(f"its tables claim {claimed:,} samples, more than the {limit:,} that there can be")


class _Tables:
    """Counts samples that are claimed and not listed.

    Attributes:
        boxes: number of boxes seen.
    """

    def __init__(self) -> None:
        self.boxes = 0

    def claims(self, content: Content, start: int, end: int, sound: bool = False, depth: int = 0) -> int:
        """The samples claimed between two positions; ``sound``: of a track of sound."""
        parts = list(self._parts(content, start, end))
        sound = sound or any(kind == b"hdlr" and content[at + 8 : at + 12] == b"soun" for kind, at, _ in parts)
        # Of sound that is not compressed, each value is a sample, and FFmpeg does not keep them one by one.
        units = [content[at : at + 16] for kind, at, _ in parts if kind == b"stts"]
        raw = sound and units != [] and all(unit[4:8] == unit[12:] == b"\0\0\0\1" for unit in units)
        total = 0
        for kind, at, to in parts:
            if kind in CONTAINERS and depth < MAX_DEPTH:
                total += self.claims(content, at + 4 * (kind == b"meta"), to, sound, depth + 1)
            elif kind == b"cmvd":
                header = _inflated(content[at + 4 : to])
                total += self.claims(header, 0, len(header), sound, depth + 1)
            elif kind in (b"stsz", b"stz2", b"trun"):
                count, bits = _table(kind, content[at : at + 12])
                if not (raw and kind == b"stsz") and (not bits or bits * count > 8 * (to - at)):
                    total += count
        return total

    def _parts(self, content: Content, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Type of each box, and where its content starts and ends."""
        while start + 8 <= end:
            head = content[start : start + 16]
            length, at = int.from_bytes(head[:4]), start + 8
            if length == 1:
                length, at = int.from_bytes(head[8:16]), start + 16
            elif length == 0:
                length = end - start
            if length < at - start:
                return
            self.boxes += 1
            if self.boxes > MAX_BOXES:
                raise Unreadable(f"more than {MAX_BOXES:,} boxes")
            yield head[4:8], at, min(start + length, end)
            start += length


def _table(kind: bytes, head: bytes) -> tuple[int, int]:
    """The number of samples of a table, and the bits that each takes in it."""
    if kind == b"trun":
        flags = int.from_bytes(head[1:4])
        return int.from_bytes(head[4:8]), 32 * sum(bool(flags & flag) for flag in LISTED)
    bits = (0 if any(head[4:8]) else 32) if kind == b"stsz" else head[7]
    return int.from_bytes(head[8:12]), bits


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        header = inflater.decompress(data, MAX_HEADER)
    except zlib.error:
        return b""
    if not inflater.eof:
        raise Unreadable("damaged, or a compressed header of more than 64 MB")
    return header
