"""The frames of an MPEG audio stream (MP3), counted one by one, and what a Xing or VBRI header says of their number.

Source: ISO/IEC 11172-3, 2.4.2.3, and 13818-3 for the low rates; frame counts as LAME and Fraunhofer write them.
"""

from dataclasses import dataclass

from strata.extractors.audio.bytes_of import Bytes, behind_tags

_SEARCHED = 1 << 18
"""Bytes in which the first frame, and the next one behind what is no frame, is looked for."""
_KBITS = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)


@dataclass(frozen=True)
class Stream:
    """What the frames of a file are."""

    frames: int
    """Whole ones, without the one that only carries a header."""
    samples_per_frame: int
    num_bytes: int
    """From the first frame's first byte to the last one's last."""
    end: int
    """Where the last whole frame ends."""
    claim_at: int | None = None
    """Where a header has its number of frames; None where there is none, and a decoder would estimate."""
    claimed: int = 0
    """That number."""
    claimed_bytes: int = 0
    """The number of bytes beside it; 0 where there is none."""

    @property
    def samples(self) -> int:
        """Of all frames, as far as a decoder is not told of padding."""
        return self.frames * self.samples_per_frame


def walk(data: Bytes) -> Stream | None:
    """Counts the frames of a file; None where it does not begin like MPEG audio."""
    found = _next(data, behind_tags(data, 0), None)
    if found is None:
        return None
    first, lengths, samples_per_frame = found
    at, last, count, end = first, first, 0, first
    get = lengths.get
    while True:
        while length := get(data[at : at + 3]):  # some ten millionths of a second each: little beside decoding
            last = at
            at += length
            count += 1
        if at > len(data):  # the last one broke off
            count, end = count - 1, last
            break
        end = at if count else end
        onwards = _next(data, behind_tags(data, at), lengths)
        if onwards is None:
            break
        at = onwards[0]
    claim = _claim(data, first, lengths)
    if claim is None:
        return Stream(count, samples_per_frame, end - first, end)
    return Stream(count - 1, samples_per_frame, end - first, end, *claim)


def _next(data: Bytes, at: int, lengths: dict[bytes, int] | None) -> tuple[int, dict[bytes, int], int] | None:
    """The next place where two frames follow each other, or one and the end of the file.

    Args:
        data: the file.
        at: where to begin.
        lengths: of the frames of this stream; None where they are not known yet.

    Returns:
        Place, lengths of the stream's frames by their first three bytes, and samples of each.
    """
    stop = min(len(data), at + _SEARCHED)
    while (at := data.find(b"\xff", at, stop)) >= 0:
        known, samples = (lengths, 0) if lengths else _lengths(data[at : at + 3])
        if length := known.get(data[at : at + 3]):
            behind = at + length
            if behind == len(data) or data[behind : behind + 3] in known or _is_tag(data, behind):
                return at, known, samples
        at += 1
    return None


def _lengths(head: bytes) -> tuple[dict[bytes, int], int]:
    """Bytes of every frame that may follow one with this header, by their first three bytes; and samples of each."""
    if len(head) < 3 or head[1] & 0xE0 != 0xE0 or head[1] >> 3 & 3 == 1 or not head[1] >> 1 & 3:
        return {}, 0
    version, layer, rate_code = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 2 & 3
    if rate_code == 3:
        return {}, 0
    rate = _RATES[rate_code] >> {3: 0, 2: 1, 0: 2}[version]
    samples = {1: 384, 2: 1152, 3: 1152 if version == 3 else 576}[layer]
    kbits = _KBITS[1 if version == 3 else 2, layer]
    lengths = {}
    for protection in (0, 1):
        for index in range(1, 15):
            for padding in (0, 1):
                for private in (0, 1):
                    second = head[1] & 0xFE | protection
                    third = index << 4 | rate_code << 2 | padding << 1 | private
                    slots = samples // 8 * kbits[index] * 1000 // rate + padding
                    if layer == 1:
                        slots = (12 * kbits[index] * 1000 // rate + padding) * 4
                    lengths[bytes((0xFF, second, third))] = slots
    return lengths, samples


def _is_tag(data: Bytes, at: int) -> bool:
    return data[at : at + 3] in (b"TAG", b"ID3") or data[at : at + 8] == b"APETAGEX"


def _claim(data: Bytes, first: int, lengths: dict[bytes, int]) -> tuple[int, int, int] | None:
    """Place and value of the number of frames that a first frame has in the place of sound, and the number of bytes."""
    frame = data[first : first + lengths[data[first : first + 3]]]
    for mark in (b"Xing", b"Info"):
        at = frame.find(mark, 4, 48)  # behind the side information, 9 to 32 bytes, and a check of two
        if at >= 0:
            flags = int.from_bytes(frame[at + 4 : at + 8], "big")
            if not flags & 1:
                return None
            num_bytes = int.from_bytes(frame[at + 12 : at + 16], "big") if flags & 2 else 0
            return first + at + 8, int.from_bytes(frame[at + 8 : at + 12], "big"), num_bytes
    if frame[36:40] == b"VBRI":
        return first + 50, int.from_bytes(frame[50:54], "big"), int.from_bytes(frame[46:50], "big")
    return None
