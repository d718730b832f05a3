"""Files are read as they are meant, and bad ones are told apart before any model sees them."""

import importlib.util
import os
import shutil
import subprocess
import tracemalloc
from hashlib import blake2b

import numpy as np
import pytest
import soundfile

from strata.extractors.audio import Inspection, content, inspect, read
from strata.extractors.contract import UnusableAudio
from strata.extractors.resampling import resample


@pytest.fixture
def write(tmp_path):
    """Writes samples to a file and gives its path."""

    def write(samples, rate=16_000, name="a.wav", subtype=None):
        soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
        return tmp_path / name

    return write


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_U8", "FLOAT"])
def test_integers_are_scaled_to_one(write, sound, subtype):
    """Whatever the format, full scale is ±1."""
    samples = sound(4_801)
    found = read(write(samples, subtype=subtype))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, samples, atol=1 / 100 if subtype == "PCM_U8" else 1e-4)


def test_channels_are_averaged(write, sound):
    """Stereo becomes the mean of its channels."""
    left, right = sound(4_801, seed=1), sound(4_801, seed=2)
    found = read(write(np.stack([left, right], axis=1), subtype="FLOAT"))
    np.testing.assert_allclose(found, (left + right) / 2, atol=1e-6)


def test_a_segment_is_cut_out(write, sound):
    """Start and duration are in seconds of the file, whatever its rate."""
    samples = sound(48_000)
    path = write(samples, rate=24_000, subtype="FLOAT")
    found = read(path, start_s=0.5, duration_s=0.25, sampling_rate=24_000)
    np.testing.assert_array_equal(found, samples[12_000:18_000])
    assert len(read(path, start_s=0.5, duration_s=0.25)) == 4_000
    assert inspect(path, 0.5, 0.25) == Inspection(0.25, 24_000, 1)


@pytest.mark.parametrize("num_samples", [1, 7, 4_801, 16_001])
@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampled_length_is_the_formula(num_samples, rate):
    """`unusable` and the resampler agree on the number of samples, to the sample."""
    assert len(resample(np.ones(num_samples), rate, 16_000)) == round(num_samples * 16_000 / rate)


def test_inspection_of_a_good_file(write, sound):
    """A usable file gives its duration, rate and channels."""
    path = write(np.stack([sound(11_027)] * 2, axis=1), rate=44_100, name="a.flac")
    assert inspect(path) == Inspection(11_027 / 44_100, 44_100, 2)


def test_missing_file(tmp_path):
    """A file that is not there."""
    with pytest.raises(UnusableAudio, match=r"^no such file$"):
        inspect(tmp_path / "none.wav")


def test_links_that_lead_nowhere(tmp_path, write, sound):
    """The recording's own and its folder's are told as such, with the target as written."""
    (tmp_path / "a.wav").symlink_to("gone/a.wav")
    (tmp_path / "disk").symlink_to("../shared")
    step = r"; mend the link, or copy what it meant$"
    for look in (inspect, read, content):
        with pytest.raises(UnusableAudio, match=rf"^a link that leads nowhere, to gone/a\.wav{step}"):
            look(tmp_path / "a.wav")
        with pytest.raises(
            UnusableAudio, match=rf"^in a folder, disk, that is a link that leads nowhere, to \.\./shared{step}"
        ):
            look(tmp_path / "disk" / "x" / "b.wav")
    (tmp_path / "b.wav").symlink_to(write(sound(16_001), name="c.wav"))
    assert inspect(tmp_path / "b.wav") == inspect(tmp_path / "c.wav")


def test_not_audio(tmp_path):
    """A file of something else, by whatever name; one without a byte is empty."""
    (tmp_path / "a.wav").write_bytes(b"not a recording " * 100)
    with pytest.raises(UnusableAudio, match=r"^unreadable: Format not recognised"):
        inspect(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"")
    with pytest.raises(UnusableAudio, match=r"^empty$"):
        inspect(tmp_path / "b.wav")


@pytest.mark.parametrize("name", ["a.raw", "a.RAW", "a.gsm", "a.vox", "a.au"])
def test_samples_without_a_header(tmp_path, name):
    """Where only the name of a file could tell what its samples mean, it is refused rather than guessed."""
    (tmp_path / name).write_bytes(b"not a recording " * 100)
    for look in (inspect, read):
        with pytest.raises(UnusableAudio, match=r"^unreadable: no header that tells rate and format; .*`sox -t raw"):
            look(tmp_path / name)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UnusableAudio, match=r"^empty$"):
        read(tmp_path / name)


def test_what_is_no_file_at_all(tmp_path):
    """A directory, a name too long, a name with a zero, a path through a file: each is a reason, of every function."""
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "file").write_text("text")
    reasons = {
        tmp_path / "folder.wav": "not a file",
        tmp_path / ("a" * 300): "unreadable: File name too long",
        tmp_path / "a\0.wav": "no such file",
        tmp_path / "file" / "a.wav": "no such file",
    }
    for path, reason in reasons.items():
        for look in (inspect, read, content):
            with pytest.raises(UnusableAudio, match=f"^{reason}$"):
                look(path)


@pytest.mark.parametrize("value", [1e308, -1e308, float("nan"), float("inf"), -1.0, np.float64(1e308)])
def test_absurd_segments(write, sound, value):
    """A time that is none is said, whichever of the two it is."""
    path = write(sound(16_001))
    for look in (inspect, read, content):
        with pytest.raises(UnusableAudio, match=r"^no such segment: its start is .+ s$"):
            look(path, value)
        with pytest.raises(UnusableAudio, match=r"^no such segment: its duration is .+ s$"):
            look(path, 0.0, value)


def test_rounding_below_zero_is_forgiven(write, sound):
    """A start that misses zero by less than half a frame is zero."""
    path = write(sound(16_001), subtype="FLOAT")
    np.testing.assert_array_equal(read(path, -1e-9), read(path))


def test_truncated_files(write, sound):
    """A file that breaks off: WAV tells by its header, FLAC by its decoder."""
    wav, flac = write(sound(16_001)), write(sound(160_001), name="a.flac")
    wav.write_bytes(wav.read_bytes()[:20_000])
    flac.write_bytes(flac.read_bytes()[:60_000])
    with pytest.raises(UnusableAudio, match=r"^wrong header"):
        inspect(wav)
    for look in (inspect, read):
        with pytest.raises(UnusableAudio, match=r"^(unreadable|wrong header): "):
            look(flac)


def test_empty_and_silent(write):
    """No sample at all; all zeros; and the dither of recorded silence."""
    with pytest.raises(UnusableAudio, match=r"^empty$"):
        inspect(write(np.zeros(0)))
    with pytest.raises(UnusableAudio, match=r"^silent: peak zero$"):
        inspect(write(np.zeros(4_801)))
    dither = np.resize([0, 2, -2, 1], 8_001).astype(np.int16)
    with pytest.raises(UnusableAudio, match=r"^silent: peak -84 dBFS$"):
        inspect(write(dither, rate=8_000))
    assert inspect(write(dither, rate=8_000), silence_dbfs=-90).num_channels == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(write, sound, value):
    """Floating-point files can hold what is not a number."""
    samples = sound(200_003)
    samples[150_001] = value
    with pytest.raises(UnusableAudio, match=r"^not finite$"):
        inspect(write(samples, subtype="FLOAT"))


def test_segment_beyond_the_file(write, sound):
    """A segment that the file does not reach is refused with both; ten milliseconds of rounding are not."""
    path = write(sound(16_000))
    with pytest.raises(UnusableAudio, match=r"segment beyond the file: 0\.50 to 1\.50 s of 1\.00 s"):
        inspect(path, 0.5, 1.0)
    assert inspect(path, 0.5, 0.505).duration_s == 0.5


def test_memory_does_not_grow_with_the_file(write):
    """Ten minutes are inspected in a small part of their size."""
    path = write(np.tile(np.array([1_000, -1_000], dtype=np.int16), 8_000 * 600))
    tracemalloc.start()
    inspect(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_channels_are_mixed_as_they_are_decoded(write, rate):
    """A long file of several channels is never held whole: little more than one channel and the result."""
    samples = np.random.default_rng(0).integers(-9_999, 9_999, (rate * 60, 4)).astype(np.int16)
    path = write(samples, rate=rate)
    mono_bytes = 4 * len(samples)
    del samples
    tracemalloc.start()
    read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < mono_bytes + 4 * 16_000 * 60 + 4_000_000


@pytest.mark.parametrize(
    ("name", "channels"), [("a.wav", 1), ("a.wav", 2), ("a.wav", 11), ("a.flac", 2), ("a.flac", 7), ("a.ogg", 2)]
)
def test_blocks_leave_no_seam(write, sound, name, channels, monkeypatch):
    """To the bit, the values are those of a file that is decoded, mixed and resampled at once."""
    path = write(np.stack([sound(44_101, seed=seed) for seed in range(channels)], axis=1), rate=44_100, name=name)
    decoded, _ = soundfile.read(path, dtype="float32", always_2d=True)
    mono = decoded[:, 0] if channels == 1 else decoded.mean(axis=1, dtype=np.float32)
    monkeypatch.setattr("strata.extractors.audio.segments.BLOCK_FRAMES", 997)
    np.testing.assert_array_equal(read(path), resample(mono, 44_100, 16_000))


def test_content_of_a_segment(write, sound):
    """The bytes and the segment as it is given, in a form that never changes: stores are keyed by it."""
    path = write(sound(24_001), rate=24_000)
    whole = blake2b(path.read_bytes(), digest_size=16)
    assert content(path) == whole.hexdigest()
    for start_s, duration_s, written in [(0.5, 0.25, "#0.5+0.25"), (0.25, None, "#0.25+None"), (0.0, 0.5, "#0.0+0.5")]:
        expected = whole.copy()
        expected.update(written.encode())
        assert content(path, start_s, duration_s) == expected.hexdigest()
    assert content(path, np.float64(0.5), np.float64(0.25)) == content(path, 0.5, 0.25)


def test_content_of_a_segment_that_is_the_whole(write, sound):
    """What comes to all frames of the file is the file, by whatever figures; one frame less is not."""
    path = write(sound(24_001), rate=24_000)
    for duration_s in (24_001 / 24_000, 1.00004, 1.005):  # exact, rounded, past the end by as much as is forgiven
        assert content(path, 0.0, duration_s) == content(path, 0, duration_s) == content(path)
    assert content(path, 1e-9) == content(path)
    assert content(path, 0.0, 24_000 / 24_000) != content(path)
    assert content(path, 1 / 24_000) != content(path)


def test_content_is_of_bytes(write, sound, tmp_path):
    """A copy is the same, by whatever name; a changed byte is not; a segment beyond the file has none."""
    path = write(sound(16_001))
    before = content(path)
    copy = tmp_path / "copy.wav"
    copy.write_bytes(path.read_bytes())
    assert content(copy) == before
    os.truncate(copy, 32_000)
    assert content(copy) != before
    with pytest.raises(UnusableAudio, match="segment beyond the file"):
        content(path, 0.5, 2.0)


def test_level_without_the_mean(write, sound):
    """A constant is no sound, however large; sound around a constant is."""
    reason = r"^silent: peak zero around a constant 0\.25$"
    path = write(np.full(16_001, 0.25, np.float32), subtype="FLOAT")
    with pytest.raises(UnusableAudio, match=reason):
        inspect(path)
    with pytest.raises(UnusableAudio, match=reason):
        read(path, silence_dbfs=-60.0)
    assert inspect(write(0.25 + 0.1 * sound(16_001), subtype="FLOAT")).duration_s > 1


@pytest.mark.parametrize(("scale", "is_refused"), [(1.0, False), (2.0, False), (9_830.0, True), (-150.0, True)])
def test_far_beyond_full_scale(write, scale, is_refused):
    """Floats in the scale of integers are refused by listing and checked reading alike; an overshoot is not."""
    tone = np.sin(np.arange(16_001) / 5).astype(np.float32)
    path = write(scale * tone, subtype="FLOAT")
    for look in (inspect, lambda path: read(path, silence_dbfs=-60.0)):
        if is_refused:
            with pytest.raises(
                UnusableAudio, match=f"^far too loud: peak {abs(scale):.4g}, expected samples within ±1"
            ):
                look(path)
        else:
            look(path)


def test_a_channel_is_chosen(write, sound):
    """By side or by number; it is another content than the mean, and the same by either name."""
    left, right = sound(16_001, seed=1), sound(16_001, seed=2)
    path = write(np.stack([left, right], axis=1), subtype="FLOAT")
    for channel, expected in [("left", left), (0, left), ("right", right), (1, right)]:
        np.testing.assert_array_equal(read(path, channel=channel), expected)
    assert content(path, channel="right") == content(path, channel=1)
    assert len({content(path), content(path, channel=0), content(path, channel=1)}) == 3
    for look in (inspect, read, content):
        with pytest.raises(UnusableAudio, match=r"^no channel 2: the file has 2, counted from 0$"):
            look(path, channel=2)
    mono = write(left, name="mono.wav")
    assert content(mono, channel="left") == content(mono)
    with pytest.raises(UnusableAudio, match=r"^no channel right: the file has one, which is 0 or left$"):
        read(mono, channel="right")


def test_channels_that_cancel_out(write):
    """Where the mean of sounding channels is silence, the reason names the way out, and that is one."""
    tone = 0.5 * np.sin(np.arange(16_001) / 5).astype(np.float32)
    path = write(np.stack([tone, -tone], axis=1), subtype="FLOAT")
    with pytest.raises(UnusableAudio, match=r"^silent: peak zero; its channels, -6 dBFS each, .*`--channel left`"):
        inspect(path)
    assert inspect(path, channel="left").num_channels == 2


def _m4a(path):
    """A second and a half of AAC, encoded by whatever is at hand; None where nothing is."""
    if importlib.util.find_spec("av"):
        import av

        tone = np.sin(2 * np.pi * 440 * np.arange(24_000) / 16_000, dtype=np.float32)
        with av.open(str(path), "w") as file:
            stream = file.add_stream("aac", rate=16_000, layout="mono")
            for start in range(0, len(tone), 1_024):
                frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1_024], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 16_000, start
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        return path
    if shutil.which("ffmpeg"):
        source = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=16000:duration=1.5"]
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *source, str(path)], check=True)
        return path
    return None


@pytest.mark.parametrize("decoder", ["av", "ffmpeg"])
def test_m4a(tmp_path, monkeypatch, decoder):
    """Decoded by PyAV or by ffmpeg, as a whole and in segments; a file of another content is another."""
    path = _m4a(tmp_path / "a.m4a")
    if path is None or not (importlib.util.find_spec("av") if decoder == "av" else shutil.which("ffmpeg")):
        pytest.skip(f"needs {'PyAV' if decoder == 'av' else 'the program ffmpeg'}")
    if decoder == "ffmpeg":
        monkeypatch.setattr("strata.extractors.audio.sound.find_spec", lambda name: None)
    whole = read(path)
    assert abs(len(whole) - 24_000) <= 1_024
    assert inspect(path).duration_s == len(whole) / 16_000
    np.testing.assert_array_equal(read(path, 0.5, 0.25), whole[8_000:12_000])
    assert content(path, 0.0, len(whole) / 16_000) == content(path) != content(path, 0.0, 1.0)
    with pytest.raises(UnusableAudio, match=r"segment beyond the file: 1\.00 to 3\.00 s of 1\.5"):
        read(path, 1.0, 2.0)


def test_m4a_where_nothing_decodes_it(tmp_path, monkeypatch):
    """The reason names what is to be installed."""
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    monkeypatch.setattr("strata.extractors.audio.sound.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UnusableAudio, match=r"PyAV or ffmpeg is installed; `pip install 'strata-speech\[m4a\]'`"):
        inspect(tmp_path / "a.m4a")
