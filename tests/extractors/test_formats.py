"""What is no audio that is decoded here: every refusal tells what was found and the next step, in our own words."""

import random
import re
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from strata.extractors.audio import content, inspect, read
from strata.extractors.contract import UnusableAudio

_STEP = r"; (copy it anew, or )?convert it to WAV or FLAC$"


def _reason(path) -> str:
    """Why a file is refused, listing and reading alike."""
    with pytest.raises(UnusableAudio) as listed:
        inspect(path)
    with pytest.raises(UnusableAudio) as decoded:
        read(path)
    assert str(listed.value) == str(decoded.value)
    return str(listed.value)


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\x1aE\xdf\xa3", "Matroska or WebM"),
        (b"wvpk", "WavPack"),
        (b"TTA1\1\0\1\0", r"True Audio \(TTA\)"),
        (b"ID3\4\0\0\0\0\0\5title" + b"TTA1\1\0\1\0", r"True Audio \(TTA\)"),
        (b"\x0bw\xab\xbe", "AC-3 or E-AC-3"),
        (b"\x7f\xfe\x80\1", "DTS"),
        (b"V\xe2B ", "AAC in LATM"),
        ((b"G@\x11\x10" + bytes(184)) * 3, "an MPEG transport stream"),
        ((b"\0\0\0\0G@\x11\x10" + bytes(184)) * 3, "an MPEG transport stream"),
        (b"\0\0\1\xba", "an MPEG program stream"),
        (b"RIFF\x10\0\0\0AVI LIST", "AVI"),
        (b"FLV\1", "Flash video"),
        (b"\0\0\1\0moov", "a part of a QuickTime or MP4 file"),
        (b"\2#!SILK_V3", "SILK"),
        (b"MThd\0\0\0\6", "MIDI"),
    ],
)
def test_formats_that_other_programs_convert(tmp_path, start, what):
    """By how they begin, behind a tag too: what a cached value is does not follow from the decoder at hand."""
    (tmp_path / "a.bin").write_bytes(start + bytes(300))
    assert re.match(f"unreadable: {what}, expected WAV, .*{_STEP}", _reason(tmp_path / "a.bin"))


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS.*`git lfs pull`"),
        ("\n<!DOCTYPE html><html>", "a page of the web.*; download the recording anew"),
        ("#EXTM3U\na.wav\n", "a playlist; name the recordings"),
        ("PK\3\4", "an archive; unpack it"),
        ("\x7f" * 40 + "\xff" * 40, f"Format not recognised, expected WAV.*{_STEP}"),
    ],
)
def test_what_is_no_recording_at_all(tmp_path, text, step):
    """What downloads and repositories leave in the place of a recording has its own cure."""
    (tmp_path / "a.wav").write_bytes(text.encode("latin-1") * 9)
    assert re.match(f"unreadable: {step}", _reason(tmp_path / "a.wav"))


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        (
            "a.wav",
            b"RIFF\x30\0\0\0WAVEfmt \x10\0\0\0\x61\x01\1\0\x40\x1f\0\0" + bytes(40),
            r"WAV \(format tag 0x0161\)",
        ),
        ("a.caf", b"caff\0\1\0\0desc" + bytes(16) + b"alac" + bytes(40), r"CAF \('alac'\)"),
        ("a.spx", b"OggS\0\2" + bytes(20) + b"\1\x50Speex   1.2" + bytes(70), r"Ogg \(Speex\)"),
    ],
)
def test_codings_that_a_known_container_holds(tmp_path, name, data, what):
    """The refusal tells how the sound is coded."""
    (tmp_path / name).write_bytes(data)
    assert re.match(f"unreadable: {what} that is damaged or coded in an unknown way{_STEP}", _reason(tmp_path / name))


@pytest.mark.parametrize(
    "container", ["mpegts", "ac3", "eac3", "tta", "avi", "flv", "matroska", "vob", "latm", "caf", "spx"]
)
def test_what_ffmpeg_writes(tmp_path, sound, container):
    """Files as they are in the world are refused by name, not only their first bytes."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs the program ffmpeg")
    path, special = tmp_path / "a.bin", {"caf": ["-c:a", "alac"], "flv": ["-ar", "44100"]}
    soundfile.write(tmp_path / "a.wav", sound(16_000), 16_000)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(tmp_path / "a.wav")]
    made = subprocess.run(
        [*command, "-ar", "32000", *special.get(container, []), "-f", container, str(path)], check=False
    )
    if made.returncode:
        pytest.skip(f"this ffmpeg writes no {container}")
    reason = _reason(path)
    assert re.match(f"unreadable: .+{_STEP}", reason)
    assert "not recognised" not in reason


@pytest.mark.parametrize("container", ["MP3", "FLAC", "OGG", "WAV", "AIFF", "VOC", "NIST", "CAF", "AU"])
def test_damaged_files(tmp_path, container):
    """Bytes that are changed, zeroed or lost leave a file that is decoded, or one reason with a next step."""
    path = tmp_path / f"a.{container.lower()}"
    tone = 0.4 * np.sin(np.arange(48_000) / 9) * np.random.default_rng(1).uniform(0.5, 1, 48_000)
    soundfile.write(path, tone, 16_000, format=container)
    whole = path.read_bytes()
    for seed in range(12):
        drawn, data = random.Random(seed), bytearray(whole)
        if seed % 3 == 0:
            for _ in range(100):
                data[drawn.randrange(len(data))] = drawn.randrange(256)
        elif seed % 3 == 1:
            begin = drawn.randrange(len(data))
            data[begin : begin + 3_000] = bytes(len(data[begin : begin + 3_000]))
        else:
            for _ in range(20):
                data[drawn.randrange(200)] = drawn.randrange(256)
        path.write_bytes(data)
        reason = ""
        try:
            inspect(path)
        except UnusableAudio as error:
            reason = str(error)
        ours = r"unreadable: .*(copy|convert) it |wrong (header|end): .*copy it anew|silent|far too loud|not finite|$"
        assert re.match(ours, reason), (seed, reason)


def test_a_damaged_mp3_tells_how_far_it_is_good(tmp_path):
    """Where decoding stops in the middle, the reason says where."""
    path = tmp_path / "a.mp3"
    soundfile.write(path, 0.4 * np.sin(np.arange(160_000) / 9), 16_000)
    data, drawn = bytearray(path.read_bytes()), random.Random(0)
    half = len(data) // 2
    data[half:] = drawn.randbytes(len(data) - half)
    path.write_bytes(data)
    assert re.match(rf"unreadable: MP3 that is damaged .*, decoded up to \d\.\d\d s{_STEP}|wrong header", _reason(path))


def test_a_file_that_may_not_be_read(tmp_path, sound, monkeypatch):
    """The system's reason, in one line."""
    path = tmp_path / "a.wav"
    soundfile.write(path, sound(16_000), 16_000)

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("strata.extractors.audio.sound.mmap.mmap", refused)
    for look in (inspect, read, content):
        with pytest.raises(UnusableAudio, match=r"^unreadable: Permission denied$"):
            look(path)
