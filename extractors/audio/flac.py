"""The length of a FLAC file: what its header says, and what its last frame says, which is where it ends.

Source: RFC 9639, sections 8.2 (streaminfo) and 9.1 (frame header).
"""

from strata.extractors.audio.bytes_of import Bytes, Patches, behind_tags

MOST = (1 << 36) - 1
"""The largest total that the header has room for: no recording's."""
_TAIL = 1 << 16
_MOST_TAIL = 1 << 24  # a frame is never longer: its size in the header has 24 bits
_BLOCK_SIZES = {1: 192, **{n: 144 << n for n in range(2, 6)}, **{n: 1 << n for n in range(8, 16)}}


def begin(data: Bytes) -> int | None:
    """Where the file's mark `fLaC` stands, behind an ID3 tag if there is one; None where the file is no FLAC."""
    at = behind_tags(data, 0)
    return at if data[at : at + 4] == b"fLaC" and data[at + 4] & 0x7F == 0 else None


def total(data: Bytes, begin: int) -> int:
    """Frames that the header promises; 0: it does not say."""
    return int.from_bytes(data[begin + 18 : begin + 26], "big") & MOST


def told(data: Bytes, begin: int, frames: int) -> Patches:
    """What must stand in the header for it to promise so many."""
    kept = int.from_bytes(data[begin + 18 : begin + 26], "big") >> 36 << 36
    return {begin + 18: (kept | frames).to_bytes(8, "big")}


def found(data: Bytes, begin: int) -> int | None:
    """Frames up to the end of the last one whose header is there; None where there is none."""
    largest = int.from_bytes(data[begin + 15 : begin + 18], "big") or _TAIL
    window = max(_TAIL, 2 * largest)
    while True:
        lowest = max(begin + 42, len(data) - window)
        at = len(data)
        while (at := data.rfind(b"\xff", lowest, at)) >= 0:
            if (end := _end(bytes(data[at : at + 16]), data, begin)) is not None:
                return end
        if lowest == begin + 42 or window >= _MOST_TAIL:
            return None
        window *= 8


def _end(head: bytes, data: Bytes, begin: int) -> int | None:
    """The sample behind a frame, by its header; None where this is none."""
    if len(head) < 6 or head[1] not in (0xF8, 0xF9):
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    ones = 8 - (head[4] ^ 0xFF).bit_length()
    if size_code == 0 or rate_code == 15 or head[3] >> 4 > 10 or head[3] & 1 or ones in (1, 8):
        return None
    length = max(ones, 1)
    at = 4 + length
    number = head[4] & (0x7F >> ones)
    for byte in head[5:at]:
        if byte >> 6 != 2:
            return None
        number = number << 6 | byte & 63
    size = _BLOCK_SIZES.get(size_code)
    if size is None:
        width = size_code - 5  # 6: one byte follows, 7: two
        size = int.from_bytes(head[at : at + width], "big") + 1
        at += width
    at += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    is_variable = head[1] & 1
    block = int.from_bytes(data[begin + 8 : begin + 10], "big")
    return (number if is_variable else number * block) + size


def _crc8(values: bytes) -> int:
    """The check of a frame's header: polynomial x⁸ + x² + x + 1."""
    crc = 0
    for value in values:
        crc ^= value
        for _ in range(8):
            crc = (crc << 1 ^ 0x107) if crc & 0x80 else crc << 1
    return crc
