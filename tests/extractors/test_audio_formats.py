"""Every format gives the array that was written, as nearly as it can hold it."""

import numpy as np
import pytest
import soundfile

from strata.extractors.audio import inspect, read

LOSSLESS = [
    *(("wav", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    *(("flac", subtype) for subtype in ("PCM_S8", "PCM_16", "PCM_24")),
    ("aiff", "PCM_16"),
]
LOSSY = [("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III")]
STEP = {"PCM_U8": 2**-7, "PCM_S8": 2**-7, "PCM_16": 2**-15, "PCM_24": 2**-23}
"""Distance between neighbouring values; in the other formats it is below float32's own."""


@pytest.fixture(params=[8_000, 16_000, 22_050, 44_100, 48_000])
def rate(request):
    """The usual rates, in Hz."""
    return request.param


@pytest.fixture(params=[1, 2])
def samples(request, rate, sound):
    """A second and a sample of mono or stereo sound [samples, channels]."""
    return np.stack([sound(rate + 1, seed=seed) for seed in range(request.param)], axis=1)


@pytest.mark.parametrize(("extension", "subtype"), LOSSLESS)
def test_lossless_formats(samples, rate, extension, subtype, tmp_path):
    """Within the step of its numbers, the file has the array's values; at 16 kHz, the number of samples of its
    duration."""
    path = tmp_path / f"a.{extension}"
    soundfile.write(path, samples, rate, subtype=subtype)
    found = read(path, sampling_rate=rate)
    np.testing.assert_allclose(found, samples.mean(axis=1), rtol=0, atol=STEP.get(subtype, 0) + 1e-6)
    assert len(read(path)) == round((rate + 1) * 16_000 / rate)
    assert inspect(path).sampling_rate == rate


@pytest.mark.parametrize(("extension", "subtype"), LOSSY)
def test_lossy_formats(samples, rate, extension, subtype, tmp_path):
    """What a codec loses is inaudible: finite values close to the array's and in step with it. Its frames are padded
    to full length; decoders that are told drop that again, others leave two frames of MP3 at most."""
    path = tmp_path / f"a.{extension}"
    soundfile.write(path, samples, rate, subtype=subtype)
    found, mono = read(path, sampling_rate=rate), samples.mean(axis=1)
    assert np.isfinite(found).all()
    assert 0 <= len(found) - len(mono) <= 2 * 1_152
    assert np.corrcoef(found[: len(mono)], mono)[0, 1] > 0.97
    assert np.isfinite(read(path)).all()
