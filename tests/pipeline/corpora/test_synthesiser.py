import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import freqz_sos, sosfilt

from strata.pipeline.corpora.phones import CARRIERS, KEYWORDS, PHONES
from strata.pipeline.corpora.synthesiser import (
    SAMPLING_RATE,
    Manner,
    Voice,
    _band_passes,
    _glide,
    _resonators,
    _through,
    synthesise,
)

VOICE = Voice(
    pitch_hz=113.0, formant_scales=(1.0,) * 5, jitter=0.0, breathiness=0.0, open_quotient=0.6, tempo=0.2
)  # slow, so that a single vowel is long enough to measure
FLAT = Manner(pitch_range=0.0, snr_db=60.0)


def say(*words, voice=VOICE, manner=FLAT, seed=3):
    """The words as the plainest voice says them."""
    return synthesise(words, voice, manner, np.random.default_rng(seed))


def steady(samples):
    """The middle quarter of a second of a lone sound."""
    middle = len(samples) // 2
    return samples[middle - SAMPLING_RATE // 8 : middle + SAMPLING_RATE // 8]


def pitch_hz(samples):
    """Pitch by autocorrelation."""
    spectrum = np.abs(np.fft.rfft(samples, 1 << 16)) ** 2
    correlation = np.fft.irfft(spectrum)
    lags = np.arange(SAMPLING_RATE // 500, SAMPLING_RATE // 60)
    return SAMPLING_RATE / lags[np.argmax(correlation[lags])]


def power(samples, low_hz, high_hz):
    """Energy in a band."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    frequencies_hz = np.fft.rfftfreq(len(samples), 1 / SAMPLING_RATE)
    return spectrum[(frequencies_hz >= low_hz) & (frequencies_hz < high_hz)].sum()


@pytest.mark.parametrize("expected_hz", [83.0, 127.0, 211.0])
def test_the_voice_sets_the_pitch(expected_hz):
    """The waveform repeats at the pitch asked for."""
    assert pitch_hz(steady(say(["aa"], voice=replace(VOICE, pitch_hz=expected_hz)))) == pytest.approx(
        expected_hz, rel=0.02
    )


def test_the_vowel_sets_the_formants():
    """The second formant of "iy" lies near 2,290 Hz, that of "aa" near 1,090 Hz."""
    high, low = steady(say(["iy"])), steady(say(["aa"]))
    assert power(high, 2000, 2600) > 5 * power(high, 800, 1400)
    assert power(low, 800, 1400) > 5 * power(low, 2000, 2600)


def test_a_shorter_vocal_tract_raises_the_formants():
    """The same vowel at the same pitch has its energy higher up."""
    short = replace(VOICE, formant_scales=(1.3,) * 5)
    assert power(steady(say(["aa"], voice=short)), 1300, 1600) > 2 * power(steady(say(["aa"])), 1300, 1600)


def test_a_sibilant_is_noise_high_up():
    """Most of an "s" lies above 4 kHz, which is where a vowel has next to nothing."""
    sibilant, vowel = steady(say(["s"])), steady(say(["aa"]))
    assert power(sibilant, 4000, 8000) > power(sibilant, 0, 4000)
    assert power(vowel, 4000, 8000) < 0.1 * power(vowel, 0, 4000)


def test_jitter_makes_a_voice_less_regular():
    """With jitter, one pulse resembles the next less."""

    def regularity(samples):
        period = round(SAMPLING_RATE / VOICE.pitch_hz)
        return np.corrcoef(samples[:-period], samples[period:])[0, 1]

    assert regularity(steady(say(["aa"], voice=replace(VOICE, jitter=0.03)))) < regularity(steady(say(["aa"]))) - 0.02


@pytest.mark.parametrize(
    ("manner", "measure"),
    [
        (replace(FLAT, tempo=1.5), lambda samples: 1 / len(samples)),
        (replace(FLAT, pitch=1.3), lambda samples: pitch_hz(steady(samples))),
        (replace(FLAT, pitch_range=5.0), lambda samples: pitch_hz(steady(samples))),
        (replace(FLAT, gain_db=6.0), lambda samples: np.sqrt(np.mean(samples**2))),
        (
            replace(FLAT, tension=0.2),
            lambda samples: power(steady(samples), 500, 4000) / power(steady(samples), 0, 150),
        ),
        (replace(FLAT, tilt=0.6), lambda samples: power(samples, 2000, 8000) / power(samples, 0, 1000)),
    ],
)
def test_a_manner_is_heard(manner, measure):
    """Tempo, pitch, melody, level, tension and microphone each raise what they are named for."""
    assert measure(say(["aa"], manner=manner)) > 1.05 * measure(say(["aa"]))


def test_all_words_can_be_said():
    """Every word is made of known sounds, within full scale and finite, and no word is both keyword and carrier."""
    assert set(KEYWORDS).isdisjoint(CARRIERS)
    for sounds in [*KEYWORDS.values(), *CARRIERS.values(), *([sound] for sound in PHONES)]:
        samples = say(sounds, manner=Manner(gain_db=30.0))
        assert np.isfinite(samples).all()
        assert 0.01 < np.abs(samples).max() < 1


def test_same_generator_same_samples():
    """The same state of the generator gives the same samples, another one others."""
    assert np.array_equal(say(["y", "eh", "s"]), say(["y", "eh", "s"]))
    assert not np.array_equal(say(["y", "eh", "s"]), say(["y", "eh", "s"], seed=5))


def test_resonator_has_its_peak_at_the_formant():
    """A section has unit gain at 0 Hz and its peak at the centre, as wide as its bandwidth."""
    (section,) = _resonators(np.array([[1100.0]]), np.array([70.0]))
    frequencies_hz, response = freqz_sos(section, worN=np.linspace(0, 8000, 8001), fs=SAMPLING_RATE)
    gain = np.abs(response)
    assert gain[0] == pytest.approx(1)
    assert frequencies_hz[gain.argmax()] == pytest.approx(1100, abs=3)
    assert np.sum(gain > gain.max() / np.sqrt(2)) == pytest.approx(70, abs=3)


def test_band_of_noise_has_nothing_at_either_end():
    """The noise's filter is silent at 0 Hz and at Nyquist, and loudest near the centre."""
    (section,) = _band_passes(np.array([4000.0]))
    frequencies_hz, response = freqz_sos(section, worN=np.linspace(0, 8000, 801), fs=SAMPLING_RATE)
    assert np.abs(response)[[0, -1]] == pytest.approx([0, 0], abs=1e-9)
    assert frequencies_hz[np.abs(response).argmax()] == pytest.approx(4000, abs=150)


def test_filters_that_stand_still_are_one_filter():
    """Frame by frame with the state kept is the same as SciPy's filter over the whole signal."""
    centres_hz = np.tile([500.0, 1500.0, 2500.0], (7, 1))
    sections = _resonators(centres_hz, np.array([60.0, 90.0, 150.0]))
    signal = np.random.default_rng(5).standard_normal(7 * 80)
    np.testing.assert_allclose(_through(signal, sections), sosfilt(sections[0], signal))


def test_glide_by_hand():
    """A track holds its target, moves on across the margins, and starts and ends at the value outside."""
    track = _glide([-1.0, 0.5, 5.0, 10.0, 12.5, 20.0, 31.0], np.array([0.0, 10.0, 30.0]), [2.0, 6.0], 0.1, outside=0.0)
    np.testing.assert_allclose(track, [0, 1, 2, 2 + 4 / 3, 6, 6, 0])


def test_filters_are_loaded_when_there_is_something_to_make():
    """A corpus that is up to date waits for no import of SciPy, which takes as long as all the rest."""
    code = (
        "import sys, strata.pipeline.corpora.synthesiser, strata.pipeline.stages.corpus; "
        "sys.exit(any(name.startswith('scipy') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
