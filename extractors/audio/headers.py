"""What a file's header claims of its length, held against the bytes that are there. Decodes nothing.

A claim is never believed: `look` tells the promise where the format makes one exactly (sizes of sample data that are no
placeholders of a streamed file, FLAC's total, a frame count of an MP3 that its byte count bears out), and how the
header must read for a decoder that does believe it to go on to the end. Files of other formats claim nothing.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from strata.extractors.audio import flac, mpeg
from strata.extractors.audio.bytes_of import Bytes, Patches

_STREAMED_32 = 0x7F000000
"""From here on a 32-bit size is what programs write that cannot know it: 0x7FFFF000, 0x80000000, 0xFFFFFFFF, …"""
_STREAMED_64 = 1 << 62
_MOST_CHUNKS = 10_000
_NIST_COUNT = re.compile(rb"^sample_count -i (\d+)", re.MULTILINE)
_TAGS = (b"TAG", b"APETAGEX", b"ID3", b"LYRICSBEGIN")
_NAME = re.compile(rb"[A-Za-z0-9 _(\xa9-][A-Za-z0-9 _.)-]{3}")
_KNOWN = (
    *(b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"fact", b"smpl", b"inst", b"PEAK", b"iXML", b"JUNK", b"_PMX"),
    *(b"COMT", b"MARK", b"INST", b"APPL", b"NAME", b"AUTH", b"ANNO", b"(c) "),
)
"""Chunks that follow sample data, believed by their names where they are cut off."""
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


@dataclass(frozen=True)
class Header:
    """A header held against its file."""

    patches: Patches = field(default_factory=dict)
    """What must stand at which place for a believing decoder to reach the end of the file; empty where it does."""
    claimed: float | None = None
    """What is promised exactly, in the unit of `held`; None where nothing is, or not exactly."""
    held: float = 0.0
    """What is there: bytes of sample data, or frames; 0 where only a decoder can tell, the claim being of frames."""
    frames: int | None = None
    """How many frames a decoder will find, where counting them needs no decoder."""
    endless: bool = False
    """Whether the header tells no length, so that a decoder estimates one unless it is not told the file's size."""
    data_end: int | None = None
    """Where the last whole packet ends, for `endless` files."""
    is_mpeg: bool = False
    """Whether the file is a stream of MPEG audio, which libsndfile knows by its name where not by its beginning."""
    broken_off: bool = False
    """Whether the file ends in the middle of a packet that a whole copy would not end in."""


def look(data: Bytes) -> Header:
    """Holds the header of a file against its bytes; a header that makes no sense claims nothing."""
    start = bytes(data[:12])
    try:
        if start[:4] in (b"RIFF", b"RIFX", b"RF64"):
            return _riff(data, start[:4])
        if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
            return _aiff(data)
        if start[:4] in (b".snd", b"dns."):
            return _au(data, ">" if start[:4] == b".snd" else "<")
        if start[:4] == b"caff":
            return _caf(data)
        if start[:4] == b"riff":
            return _w64(data)
        if start[:7] == b"NIST_1A":
            return _nist(data)
        if start[:4] == b"OggS":
            return _ogg(data)
        if (begin := flac.begin(data)) is not None:
            return _flac(data, begin)
        return _mpeg(data)
    except (struct.error, IndexError, ValueError, OverflowError):
        return Header()


def _riff(data: Bytes, kind: bytes) -> Header:
    order = ">" if kind == b"RIFX" else "<"
    wide: int | None = None  # place of RF64's own size
    for at, name, size in _chunks(data, 12, order + "I", 2):
        if name == b"ds64":
            wide = at + 16
        if name == b"data":
            if kind == b"RF64" and wide is not None:
                (size,) = struct.unpack("<Q", data[wide : wide + 8])
                return _sized(data, at + 8, size, wide, "<Q", _STREAMED_64, careful=True)
            return _sized(data, at + 8, size, at + 4, order + "I", _STREAMED_32, whole=_whole(data, order))
    return Header()


def _whole(data: Bytes, order: str) -> int:
    """Where the file ends, as RIFF and AIFF say at their beginning."""
    return 8 + struct.unpack(order + "I", data[4:8])[0]


def _aiff(data: Bytes) -> Header:
    for at, name, size in _chunks(data, 12, ">I", 2):
        if name == b"SSND":
            (skipped,) = struct.unpack(">I", data[at + 8 : at + 12])
            begin = 8 + skipped
            whole = _whole(data, ">")
            return _sized(data, at + 8 + begin, size - begin, at + 4, ">I", _STREAMED_32, extra=begin, whole=whole)
    return Header()


def _au(data: Bytes, order: str) -> Header:
    begin, size = struct.unpack(order + "II", data[4:12])
    signed = 0x80000000 <= size < 0xFFFFFFFF  # libsndfile takes those for negative and finds nothing
    return _sized(data, begin, size, 8, order + "I", _STREAMED_32, careful=signed, chunked=False)


def _caf(data: Bytes) -> Header:
    for at, name, size in _chunks(data, 8, ">Q", 1):
        if name == b"data":
            return _sized(data, at + 16, max(size - 4, 0), at + 4, ">Q", _STREAMED_64, extra=4, careful=True)
    return Header()


def _w64(data: Bytes) -> Header:
    at = 40
    for _ in range(_MOST_CHUNKS):
        name, (size,) = bytes(data[at : at + 16]), struct.unpack("<Q", data[at + 16 : at + 24])
        if name == _W64_DATA:
            size, held = size - 24, len(data) - at - 24
            exact = 0 < size < _STREAMED_64 and size > held  # libsndfile itself goes on to the end of the file
            return Header(claimed=size if exact else None, held=held)
        at += max(24, (size + 7) // 8 * 8)
    return Header()


def _nist(data: Bytes) -> Header:
    count = _NIST_COUNT.search(bytes(data[: int(bytes(data[8:16]))]))
    return Header(claimed=int(count[1]) or None) if count else Header()


def _ogg(data: Bytes) -> Header:
    """Ogg ends with a page; what lies behind the last whole one is a page that broke off."""
    tail = max(0, len(data) - (1 << 16))
    at = data.rfind(b"OggS", tail, len(data))
    if at < 0:
        return Header(broken_off=True)
    head = bytes(data[at : at + 27])
    lacing = bytes(data[at + 27 : at + 27 + head[26]]) if len(head) == 27 else b""
    whole = len(head) == 27 and len(lacing) == head[26] and at + 27 + head[26] + sum(lacing) <= len(data)
    return Header(broken_off=not whole)


def _flac(data: Bytes, begin: int) -> Header:
    claimed, found = flac.total(data, begin), flac.found(data, begin)
    if found is None:
        return Header()
    patches = flac.told(data, begin, found) if claimed != found else {}
    return Header(patches, claimed if 0 < claimed < flac.MOST else None, held=found, frames=found)


def _mpeg(data: Bytes) -> Header:
    stream = mpeg.walk(data)
    if stream is None:
        return Header()
    if stream.claim_at is None:
        return Header(held=stream.samples, frames=stream.samples, endless=True, data_end=stream.end, is_mpeg=True)
    if stream.claimed == stream.frames:
        return Header(is_mpeg=True)
    is_cut = stream.claimed > stream.frames and stream.claimed_bytes and stream.claimed_bytes > stream.num_bytes
    claimed = stream.claimed * stream.samples_per_frame if is_cut else None
    patches = {stream.claim_at: struct.pack(">I", stream.frames)}
    return Header(patches, claimed, held=stream.samples, is_mpeg=True)


def _sized(
    data: Bytes,
    begin: int,
    claimed: int,
    place: int,
    number: str,
    streamed: int,
    extra: int = 0,
    careful: bool = False,
    chunked: bool = True,
    whole: int | None = None,
) -> Header:
    """A stretch of sample data that is said to be so many bytes long.

    Args:
        data: the file.
        begin: where the samples begin.
        claimed: their bytes, as the header has it.
        place: where it does.
        number: how it is written there, as `struct` calls it.
        streamed: from here on a size is a placeholder, as 0 is.
        extra: what the header counts among them and is not.
        careful: whether libsndfile takes no size that goes beyond the file.
        chunked: whether other chunks may follow.
        whole: where the file ends by another size in its header. Two that agree leave out what a program put behind the
            samples, unless it is as much as a hundredth of them: then both were left behind while more was recorded.
    """
    held = len(data) - begin
    if claimed > held:
        patches = {place: struct.pack(number, held + extra)} if careful else {}
        exact = claimed < streamed
        return Header(patches, claimed if exact else None, max(held, 0))
    agreed = whole is not None and 0 <= whole - begin - claimed <= 1
    if claimed == held or (agreed and held - claimed < claimed / 100):
        return Header()
    if _is_else(data, begin + claimed, chunked, number[0]):
        return Header()
    return Header({place: struct.pack(number, min(held + extra, (1 << 8 * struct.calcsize(number)) - 1))})


def _is_else(data: Bytes, at: int, chunked: bool, order: str) -> bool:
    """Whether what comes after the sample data is something else: chunks, tags, padding. If not, it is sample data."""
    for begin in (at, at + at % 2):
        rest = bytes(data[begin : begin + 12])
        if len(rest) < 8 or rest.startswith(_TAGS):
            return True
        if chunked and _NAME.match(rest):
            (size,) = struct.unpack(order + "I", rest[4:8])
            if size <= len(data) - begin or rest.startswith(_KNOWN):
                return True
    return not any(any(data[place : place + (1 << 20)]) for place in range(at, len(data), 1 << 20))


def _chunks(data: Bytes, at: int, number: str, align: int) -> Iterator[tuple[int, bytes, int]]:
    """Place, name and size of chunk after chunk, as far as the sizes lead."""
    width = struct.calcsize(number)
    for _ in range(_MOST_CHUNKS):
        head = bytes(data[at : at + 4 + width])
        if len(head) < 4 + width:
            return
        (size,) = struct.unpack(number, head[4:])
        yield at, head[:4], size
        at += 4 + width + (size + align - 1) // align * align
