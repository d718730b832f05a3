"""A small source–filter synthesiser: words, a voice and a manner of speaking in, a waveform out.

Glottal pulses with jitter and shimmer go through a cascade of formant resonators whose targets change from sound to
sound; consonants add noise through a resonator of their own. The result is synthetic: it is meant to have speech's
structure, so that labels can be learnt from it and for the right reasons, not to sound like anyone.

Feeds `demo.py`. Knows no corpus, no labels and no files. All chance comes from the generator handed in.

Sources: Klatt, "Software for a cascade/parallel formant synthesizer", JASA 67 (1980), eq. 2 for the resonators.
Rosenberg, "Effect of glottal pulse shape on the quality of natural vowels", JASA 49 (1971), pulse C.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strata.pipeline.corpora.phones import PHONES, Phone

SAMPLING_RATE = 16_000
"""Of everything made here, in Hz."""

_FRAME = 80
"""Samples for which the resonators stand still: 5 ms, as in Klatt's synthesiser."""
_HIGH_FORMANTS_HZ = (3500.0, 4500.0)
_BANDWIDTHS_HZ = np.array([60.0, 90.0, 150.0, 250.0, 300.0])
_NOISE_BANDWIDTH_HZ = 1500.0
_SPEECH_RMS = 0.05


@dataclass(frozen=True)
class Voice:
    """What one speaker brings to every utterance."""

    pitch_hz: float
    """Mean rate of the glottal pulses."""
    formant_scales: tuple[float, float, float, float, float]
    """Factors on F1 to F5 of an adult male; a shorter vocal tract raises all of them."""
    jitter: float
    """Standard deviation of a pulse's period, relative; a pulse's amplitude varies four times as much."""
    breathiness: float
    """Amplitude of the noise of the breath, relative to the pulses."""
    open_quotient: float
    """Part of a period in which the glottis is open; a smaller one makes a brighter voice."""
    tempo: float
    """Factor on the speed of speaking."""


@dataclass(frozen=True)
class Manner:
    """How one utterance is said and recorded."""

    tempo: float = 1.0
    """Factor on the voice's tempo."""
    pitch: float = 1.0
    """Factor on the voice's pitch."""
    pitch_range: float = 2.5
    """Standard deviation of the melody, in semitones."""
    tension: float = 0.0
    """Added to the glottis' closed part: above 0 pressed, below 0 lax."""
    gain_db: float = 0.0
    """Level relative to ordinary speech."""
    formants: float = 1.0
    """Factor on all of the voice's formants."""
    snr_db: float = 40.0
    """Level of ordinary speech over the noise of the room."""
    tilt: float = 0.0
    """Colour of the microphone, from -1 (dull) to 1 (bright)."""


def synthesise(words: Sequence[Sequence[str]], voice: Voice, manner: Manner, rng: np.random.Generator) -> np.ndarray:
    """The words, spoken one after the other.

    Args:
        words: each word's sounds, by their names in `PHONES`.
        voice: who speaks.
        manner: how.
        rng: source of all variation beyond that; the same state gives the same samples.

    Returns:
        float64 [samples] at 16 kHz, within ±1, a short silence at both ends.
    """
    phones = [phone for word in words for sound in word for phone in PHONES[sound]]
    durations_s = np.array([phone.duration_s for phone in phones]) * rng.lognormal(0, 0.12, len(phones))
    edges_s = np.concatenate([[0.0], np.cumsum(durations_s / (voice.tempo * manner.tempo))])
    edges_s += rng.uniform(0.15, 0.25)
    num_frames = int(np.ceil((edges_s[-1] + rng.uniform(0.15, 0.25)) * SAMPLING_RATE / _FRAME))
    frames_s = (np.arange(num_frames) + 0.5) * _FRAME / SAMPLING_RATE
    times_s = np.arange(num_frames * _FRAME) / SAMPLING_RATE

    pulses, openness = _glottis(_melody(words, edges_s, times_s, voice, manner, rng), voice, manner, rng)
    breath = voice.breathiness * openness * rng.standard_normal(len(times_s))
    voicing = _glide(times_s, edges_s, [phone.voicing for phone in phones], 0.1, outside=0.0)
    tract_hz = _formants(frames_s, edges_s, phones) * np.array(voice.formant_scales) * manner.formants
    speech = _through((pulses + breath) * voicing, _resonators(tract_hz, _BANDWIDTHS_HZ))

    frication = _glide(times_s, edges_s, [phone.frication for phone in phones], 0.1, outside=0.0)
    noise_hz = _glide(frames_s, edges_s, [phone.noise_hz for phone in phones], 0.1) * voice.formant_scales[3]
    noise = _through(rng.standard_normal(len(times_s)), _band_passes(np.minimum(noise_hz, 7000.0)))
    # The voiced part's level depends on the formants; the consonants' is set against it. A mere hiss has no such part.
    speech = speech / (_rms(speech) or 1.0) + noise / _rms(noise) * frication
    return _recorded(speech, manner, rng)


def _melody(words, edges_s, times_s, voice: Voice, manner: Manner, rng: np.random.Generator) -> np.ndarray:
    """Pitch in Hz [samples]: it falls over the utterance, and every word bears an accent of random height."""
    targets = np.array([sum(len(PHONES[sound]) for sound in word) for word in words])
    first = np.cumsum(targets) - targets
    middles_s = (edges_s[first] + edges_s[first + targets]) / 2
    heights = rng.normal(1.0, 0.5, len(words))
    # Not a matrix product: how BLAS adds up may depend on its threads, and the corpus must be the same to the bit.
    accents = (heights[:, None] * np.exp(-0.5 * ((times_s - middles_s[:, None]) / 0.07) ** 2)).sum(axis=0)
    fall = 0.8 * (0.5 - times_s / times_s[-1])
    return voice.pitch_hz * manner.pitch * 2 ** (manner.pitch_range * (accents + fall - 0.3) / 12)


def _glottis(pitch_hz, voice: Voice, manner: Manner, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sound pressure of the pulses and openness of the glottis, 0 to 1; both [samples]."""
    cycle = (np.cumsum(pitch_hz) / SAMPLING_RATE).astype(int)
    jitter = 1 + voice.jitter * rng.standard_normal(cycle[-1] + 1)
    phase = np.cumsum(pitch_hz * jitter[cycle]) / SAMPLING_RATE
    cycle = phase.astype(int)
    shimmer = 1 + 4 * voice.jitter * rng.standard_normal(cycle[-1] + 1)
    open_quotient = np.clip(voice.open_quotient - manner.tension, 0.3, 0.9)
    rise, fall = 0.7 * open_quotient, 0.3 * open_quotient
    position = phase % 1
    opening = 0.5 * (1 - np.cos(np.pi * position / rise))
    closing = np.cos(0.5 * np.pi * np.minimum((position - rise) / fall, 1))
    flow = np.where(position < rise, opening, closing)
    # Radiation from the lips is close to a derivative.
    return np.diff(flow, prepend=flow[0]) * shimmer[cycle], flow


def _glide(times_s, edges_s, targets, margin: float, outside: float | None = None) -> np.ndarray:
    """Targets [sounds] as a track [times]: constant within a sound but for the margins, where it moves on.

    Args:
        times_s: where to evaluate.
        edges_s: [sounds + 1] where the sounds begin and end.
        targets: the value of each sound.
        margin: part of a sound at either end that is spent on the way from and to its neighbours.
        outside: value before the first sound and after the last, reached at their outer edges; None: theirs.
    """
    lengths_s = np.diff(edges_s)
    knots_s = np.column_stack([edges_s[:-1] + margin * lengths_s, edges_s[1:] - margin * lengths_s]).ravel()
    values = np.repeat(np.asarray(targets, float), 2)
    if outside is not None:
        knots_s = np.concatenate([edges_s[:1], knots_s, edges_s[-1:]])
        values = np.concatenate([[outside], values, [outside]])
    return np.interp(times_s, knots_s, values)


def _formants(frames_s, edges_s, phones: Sequence[Phone]) -> np.ndarray:
    """Tracks of F1 to F5 of an adult male, in Hz [frames, 5]."""
    tracks = [
        _glide(frames_s, edges_s, targets, 0.35) for targets in zip(*(p.formants_hz for p in phones), strict=True)
    ]
    return np.column_stack([*tracks, *(np.full(len(frames_s), high_hz) for high_hz in _HIGH_FORMANTS_HZ)])


def _resonators(centres_hz, bandwidths_hz) -> np.ndarray:
    """Second-order sections [frames, formants, 6] of Klatt's digital resonators, each with unit gain at 0 Hz."""
    radius = np.exp(-np.pi * bandwidths_hz / SAMPLING_RATE)
    sections = np.zeros((*centres_hz.shape, 6))
    sections[..., 3] = 1
    sections[..., 4] = -2 * radius * np.cos(2 * np.pi * centres_hz / SAMPLING_RATE)
    sections[..., 5] = radius**2
    sections[..., 0] = sections[..., 3:].sum(axis=-1)
    return sections


def _band_passes(centres_hz) -> np.ndarray:
    """Second-order sections [frames, 1, 6] that let through a band of noise, with nothing at 0 Hz and at Nyquist."""
    sections = _resonators(centres_hz[:, None], _NOISE_BANDWIDTH_HZ)
    sections[..., 0], sections[..., 2] = 1, -1
    return sections


def _through(signal, sections) -> np.ndarray:
    """The signal [samples] filtered by sections [frames, formants, 6] that change every frame, their state kept."""
    from scipy.signal import sosfilt  # slow to import, and a corpus that is there needs none of it

    state = np.zeros((sections.shape[1], 2))
    filtered = np.empty_like(signal)
    for frame, frame_sections in enumerate(sections):
        span = slice(frame * _FRAME, (frame + 1) * _FRAME)
        filtered[span], state = sosfilt(frame_sections, signal[span], zi=state)
    return filtered


def _recorded(speech, manner: Manner, rng: np.random.Generator) -> np.ndarray:
    """The speech at its level, in the room's noise, through the microphone."""
    from scipy.signal import lfilter

    level = _SPEECH_RMS * 10 ** (manner.gain_db / 20) / _rms(speech)
    # The room does not fall silent when the speaker does: its level follows ordinary speech, not this one.
    room = lfilter([0.3], [1, -0.7], rng.standard_normal(len(speech)))
    noise_level = _SPEECH_RMS * 10 ** (-manner.snr_db / 20) / _rms(room)
    recording = lfilter([1, -0.6 * manner.tilt], [1], level * speech + noise_level * room)
    return recording * min(1.0, 0.99 / np.abs(recording).max())


def _rms(signal) -> float:
    return float(np.sqrt(np.mean(signal**2)))
