"""What a file is that is not decoded here, by how it begins, so that its refusal says what was found and what helps.

Decodes nothing, and is asked only of what no decoder takes.
"""

import re

CONVERT = "convert it to WAV or FLAC"
READ = "expected WAV, FLAC, Ogg, MP3, M4A or the like"
NO_HEADER = (
    f"unreadable: no header that tells rate and format; {CONVERT}, giving both (`sox -t raw -r RATE -e CODING -b BITS`)"
)

FILMS = (b"0&\xb2u", b"#!AMR", b"\xff\xf0", b"\xff\xf1", b"\xff\xf9")
"""How files begin that PyAV and ffmpeg know, and decode alike, and libsndfile does not: ASF (WMA), AMR, ADTS (AAC);
those of MP4's kin have `ftyp` behind their first four bytes. Of Matroska they do not make the same samples, nor do both
notice a cut copy: a value would follow from which of them is installed."""

_FOREIGN = (
    (rb"\x1aE\xdf\xa3", "Matroska or WebM"),
    (rb"wvpk", "WavPack"),
    (rb"MAC ", "Monkey's Audio"),
    (rb"TTA[12]", "True Audio (TTA)"),
    (rb"OFR ", "OptimFROG"),
    (rb"ajkg", "Shorten"),
    (rb"MP\+|MPCK", "Musepack"),
    (rb"\x0bw|w\x0b", "AC-3 or E-AC-3"),
    (rb"\x7f\xfe\x80\x01|\xfe\x7f\x01\x80|\x1f\xff\xe8\0|\xff\x1f\0\xe8", "DTS"),
    (rb".{4}\xf8ro[\xba\xbb]", "TrueHD or MLP"),
    (rb"r\xf8\x1fN", "S/PDIF"),
    (rb"V[\xe0-\xff]", "AAC in LATM"),
    (rb"G.{187}G.{187}G|.{4}G.{191}G.{191}G", "an MPEG transport stream"),
    (rb"\0\0\x01[\xba\xb3]", "an MPEG program stream"),
    (rb"RIFF.{4}AVI ", "AVI"),
    (rb"FLV", "Flash video"),
    (rb"\.RMF", "RealMedia"),
    (rb".{4}(moov|mdat|moof|styp|wide|free|skip)", "a part of a QuickTime or MP4 file"),
    (rb"\xb7\xd8\0 ", "WTV"),
    (rb"nut/multimedia", "NUT"),
    (rb"\x02?#!SILK", "SILK"),
    (rb"\xc0\xde\xc2", "Codec 2"),
    (rb"DSD |FRM8", "DSD"),
    (rb"\.SoX|XoS\.", "SoX's own format"),
    (rb"STRM", "AST"),
    (rb"KVAG|ASF\0", "a sound of a game"),
    (rb"FORM.{4}MAUD", "MAUD"),
    (rb"LM8953", "Yamaha TX-16W"),
    (rb"Extended Instrument: ", "a FastTracker instrument, which tells no rate"),
    (rb"MMMD", "SMAF"),
    (rb"MThd|RIFF.{4}RMID", "MIDI"),
)
"""Beginnings, and the formats that have them."""
_NOTHING_TO_HEAR = (
    (rb"version https://git-lfs", "a pointer of Git LFS, not the recording; fetch it by `git lfs pull`"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ", "an archive; unpack it"),
    (rb"(?i:\s*<(!doctype|html))", "a page of the web, as a failed download leaves it; download the recording anew"),
    (rb"#EXTM3U|\[playlist\]", "a playlist; name the recordings themselves"),
)
_KNOWN = (
    (rb"RIFF|RIFX|RF64|riff", "WAV"),
    (rb"FORM", "AIFF"),
    (rb"caff", "CAF"),
    (rb"\.snd|dns\.", "Sun AU"),
    (rb"fLaC", "FLAC"),
    (rb"OggS", "Ogg"),
    (rb"Creative Voice File", "VOC"),
    (rb"NIST_1A", "NIST SPHERE"),
    (rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff][\x10-\xef]", "MP3"),
    (rb".{4}ftyp", "MP4"),
    (rb"0&\xb2u", "WMA"),
    (rb"#!AMR", "AMR"),
    (rb"\xff[\xf0\xf1\xf8\xf9]", "AAC"),
)
"""Formats that are decoded here, where a file of them is whole and of a usual kind."""
_CODED = (
    (rb"RIFF.{4}WAVE.*?fmt ....(..)", "format tag 0x{:04x}"),
    (rb"caff.{4}desc.{16}(.{4})", "'{}'"),
    (rb"FORM.{4}AIFC.*?COMM.{22}(.{4})", "'{}'"),
    (rb"OggS.{24,}?(Speex|\x7fFLAC|\x80theora|CELT)", "{}"),
)
"""Where a container has the name of the way in which its sound is coded."""


def refusal(start: bytes) -> str:
    """Why a file that no decoder knows is refused: what was found, and the next step.

    Args:
        start: the file's first bytes, a few hundred, behind a tag of a name and the like.
    """
    if what := _first(_NOTHING_TO_HEAR, start):
        return f"unreadable: {what}"
    if what := _first(_FOREIGN, start):
        return f"unreadable: {what}, {READ}; {CONVERT}"
    if _first(_KNOWN, start):
        return damage(start)
    return f"unreadable: Format not recognised, {READ}; {CONVERT}"


def damage(start: bytes, at_s: float | None = None) -> str:
    """Why a file is refused that begins as a format which is decoded here, but cannot be decoded.

    Args:
        start: as above.
        at_s: up to where it was decoded; None: nothing was.
    """
    name, there = _first(_KNOWN, start) or "a file", "" if at_s is None else f", decoded up to {at_s:.2f} s"
    coded = next((_code(found[1], text) for mark, text in _CODED if (found := re.match(mark, start, re.DOTALL))), "")
    return f"unreadable: {name}{coded} that is damaged or coded in an unknown way{there}; copy it anew, or {CONVERT}"


def _first(table: tuple[tuple[bytes, str], ...], start: bytes) -> str | None:
    return next((what for mark, what in table if re.match(mark, start, re.DOTALL)), None)


def _code(code: bytes, text: str) -> str:
    if "x}" in text:
        return f" ({text.format(int.from_bytes(code, 'little'))})"
    return f" ({text.format(re.sub(rb'[^ -~]', b'', code).decode().strip())})"
