"""Files are read as they are meant, and bad ones are told apart before any model sees them."""

import tracemalloc

import numpy as np
import pytest
import soundfile

from extractors.audio import Inspection, inspect, read
from extractors.contract import UnusableAudio
from extractors.resampling import resample


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
    with pytest.raises(UnusableAudio, match=r"^missing$"):
        inspect(tmp_path / "none.wav")


def test_not_audio(tmp_path):
    """A file of something else, by whatever name; one without a byte is empty."""
    (tmp_path / "a.wav").write_bytes(b"not a recording " * 100)
    with pytest.raises(UnusableAudio, match=r"^unreadable: Format not recognised"):
        inspect(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"")
    with pytest.raises(UnusableAudio, match=r"^empty$"):
        inspect(tmp_path / "b.wav")


def test_truncated_files(write, sound):
    """A file that breaks off: WAV tells by its header, FLAC by its decoder."""
    wav, flac = write(sound(16_001)), write(sound(160_001), name="a.flac")
    wav.write_bytes(wav.read_bytes()[:20_000])
    flac.write_bytes(flac.read_bytes()[:60_000])
    with pytest.raises(UnusableAudio, match=r"^wrong header"):
        inspect(wav)
    with pytest.raises(UnusableAudio, match=r"^(unreadable|wrong header): "):
        inspect(flac)


def test_empty_and_silent(write):
    """No sample at all; all zeros; and the dither of recorded silence."""
    with pytest.raises(UnusableAudio, match=r"^empty$"):
        inspect(write(np.zeros(0)))
    with pytest.raises(UnusableAudio, match=r"^silent: peak all zero$"):
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
    path = write(np.full(16_000 * 600, 1_000, dtype=np.int16))
    tracemalloc.start()
    inspect(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000
