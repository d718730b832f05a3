"""Many segments of one file: the file is read and decoded once, and each is judged as if it were alone."""

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

from strata.extractors import audio
from strata.extractors.audio import remembered
from strata.extractors.audio import sound as decoding
from strata.extractors.contract import UnusableAudio

RATE = 16_000


@pytest.fixture
def counted(monkeypatch):
    """How many frames were decoded, how often bytes were hashed and headers looked at; files count as old."""
    counts = {"frames": 0, "digests": 0, "headers": 0}
    monkeypatch.setattr(remembered, "FRESH_S", -1e9)
    blocks = decoding._Sndfile.blocks

    def decode(self, *arguments):
        for block in blocks(self, *arguments):
            counts["frames"] += len(block)
            yield block

    def counting(function, name):
        def call(path):
            counts[name] += 1
            return function(path)

        return remembered.PerFile(call)

    monkeypatch.setattr(decoding._Sndfile, "blocks", decode)
    monkeypatch.setattr(audio, "_digest", counting(audio._digest._find, "digests"))
    monkeypatch.setattr(decoding, "_looked_at", counting(decoding._looked_at._find, "headers"))
    return counts


def _speech(path, seconds, sound, channels=1):
    """Sound with a silent second, a second that is not finite and one that is far too loud."""
    samples = np.stack([sound(seconds * RATE, seed=seed) for seed in range(channels)], axis=1)
    samples[2 * RATE : 3 * RATE] = 0
    if path.suffix == ".wav":
        samples[4 * RATE : 5 * RATE] *= 30 / np.abs(samples).max()
        samples[6 * RATE] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


def _told(outcome):
    return str(outcome) if isinstance(outcome, UnusableAudio) else outcome


def _alone(path, segment, channel=None):
    try:
        return audio.inspect(path, *segment, channel=channel)
    except UnusableAudio as error:
        return str(error)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
@pytest.mark.parametrize("channel", [None, "right"])
def test_each_is_judged_as_if_it_were_alone(tmp_path, sound, name, channel):
    """Overlapping, repeated, in any order, silent, too loud, not finite, beyond the file, empty, and the whole."""
    path = _speech(tmp_path / name, 40, sound, channels=2)
    drawn = np.random.default_rng(3)
    segments = [(float(start), float(length)) for start, length in drawn.uniform((0, 0.01), (39, 1.5), (60, 2))]
    segments += [(2.2, 0.5), (4.2, 0.5), (5.8, 0.5), (39.5, 3.0), (50.0, 1.0), (1.0, 0.0), (0.0, None), (-1.0, 1.0)]
    segments += [segments[0], (0.0, 40.0), (38.0, None), (39.0, 1.005)]
    found = audio.inspect_all(path, segments, channel=channel)
    assert [_told(each) for each in found] == [_alone(path, segment, channel) for segment in segments]
    usable = [segment for segment, each in zip(segments, found, strict=True) if isinstance(each, audio.Inspection)]
    together = audio.contents(path, usable, channel)
    assert together == [audio.content(path, *segment, channel) for segment in usable]


def test_identities_are_those_of_the_bytes_and_the_segment(tmp_path, sound):
    """In the form by which stores are keyed, whatever is remembered of the file."""
    path = _speech(tmp_path / "a.flac", 20, sound)
    of_file = path.read_bytes()
    segments = [(0.25 * number, 0.5) for number in range(30)]
    for segment, found in zip(segments, audio.contents(path, segments), strict=True):
        wanted = hashlib.blake2b(of_file + f"#{segment[0]!r}+0.5".encode(), digest_size=16)
        assert found == wanted.hexdigest()
    assert audio.contents(path, [(0.0, None)]) == [hashlib.blake2b(of_file, digest_size=16).hexdigest()]


def test_a_file_is_read_once(tmp_path, sound, counted):
    """Decoded once, hashed once, its header looked at once: for listing, and for reading segment after segment."""
    path = _speech(tmp_path / "a.flac", 60, sound)
    segments = [(0.2 * number, 0.2) for number in range(300)]
    audio.inspect_all(path, segments)
    assert counted["frames"] <= 1.05 * 60 * RATE
    audio.contents(path, segments)
    counted["frames"] = 0
    for segment in segments:
        audio.read(path, *segment)
        audio.content(path, *segment)
    assert counted["frames"] <= 1.05 * 60 * RATE
    assert (counted["digests"], counted["headers"]) == (1, 1)


def test_what_lies_far_apart_is_not_decoded_on_the_way(tmp_path, sound, counted):
    """Two short segments of a long file cost their own length."""
    path = _speech(tmp_path / "a.wav", 120, sound)
    audio.inspect_all(path, [(0.0, 1.0), (100.0, 1.0)])
    assert counted["frames"] == 2 * RATE


def test_a_damaged_place_costs_the_segments_there(tmp_path, sound):
    """What lies before it and what can be sought behind it is judged as alone."""
    path = _speech(tmp_path / "a.flac", 60, sound)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20_000] = bytes(20_000)
    path.write_bytes(data)
    segments = [(float(start), 1.0) for start in range(8, 60)]
    found = [_told(each) for each in audio.inspect_all(path, segments)]
    assert found == [_alone(path, segment) for segment in segments]
    assert any(isinstance(each, str) for each in found)
    assert isinstance(found[0], audio.Inspection)


def test_a_changed_file_is_read_anew(tmp_path, sound, counted):
    """Of the same size and at the same place: nothing that was remembered is told of it."""
    path = tmp_path / "a.wav"
    soundfile.write(path, sound(RATE, seed=1), RATE)
    before = audio.content(path)
    soundfile.write(path, sound(RATE, seed=2), RATE)
    os.utime(path, (time.time(), time.time() + 60))
    assert audio.content(path) != before
    assert counted["digests"] == 2


def test_a_file_written_just_now_is_not_remembered(tmp_path, sound):
    """Its times would not tell that it was written again."""
    path = tmp_path / "a.wav"
    seen = set()
    for seed in range(5):
        soundfile.write(path, sound(RATE, seed=seed), RATE)
        seen.add(audio.content(path))
    assert len(seen) == 5


def test_who_asks_meanwhile_waits_and_an_error_is_not_kept(tmp_path, monkeypatch):
    """Several threads compute once; what failed is tried again."""
    monkeypatch.setattr(remembered, "FRESH_S", -1e9)
    path, calls = tmp_path / "a", []
    path.write_text("x")

    def find(path):
        calls.append(path)
        if len(calls) == 1:
            raise OSError("away")
        time.sleep(0.05)
        return path.read_text()

    per_file = remembered.PerFile(find)
    with pytest.raises(OSError, match="away"):
        per_file(path)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(per_file, [path] * 8)) == ["x"] * 8
    assert len(calls) == 2
