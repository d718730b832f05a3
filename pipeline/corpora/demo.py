"""The embedded corpus: synthetic speech, made in seconds with no download.

Nobody ever said these utterances. A small synthesiser makes them, and the labels cause the acoustics:

- `speaker` → the lengths of the vocal tract's parts, the pitch, the tempo, the glottis;
- `gender` and `age` (years, one of each per speaker) → pitch and formants; age also jitter, breath and tempo;
- `style` → tempo, pitch, pitch range, tension and energy, more or less pronounced;
- `keyword` and `transcript` (two to four words, one of them the keyword) → the sounds.

Beyond that every utterance varies in pitch, formants, tempo, level, room noise and microphone, so that some tasks are
harder than others. A score on this corpus says that a pipeline works. It says nothing about speech.

Below the study's folder it writes `data/corpora/demo/seed-<seed>/<speaker>/<number>.wav` (16 kHz, mono, 16 bit), each
as it is asked for and only where it is missing, damaged or of an older recipe. Everything follows from the seed and
from names: a larger corpus holds the smaller one, bit for bit.
"""

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from pydantic import Field

from strata.pipeline.corpora.contract import CorpusSection, Utterance

if TYPE_CHECKING:
    import numpy as np

    from strata.pipeline.corpora.synthesiser import Manner, Voice

# NumPy and SciPy are imported where they are used: whoever only reads params.yaml should not wait for them.

RECIPE = 1
"""To be raised with every change of what is heard: files of another recipe are made anew."""


class Demo(CorpusSection):
    """`{adapter: demo}`."""

    synthetic: ClassVar[bool] = True

    adapter: Literal["demo"] = "demo"
    speakers: int = Field(24, ge=1, le=999)
    """How many voices; every other one is female."""
    utterances_per_speaker: int = Field(20, ge=1, le=999)
    """How many utterances of each."""
    seed: int = Field(0, ge=0)
    """Another seed makes other voices and other utterances."""


class Style(NamedTuple):
    """What a style does to a manner when it is fully pronounced."""

    tempo: float
    """Factor."""
    pitch: float
    """Factor."""
    pitch_range: float
    """Factor."""
    tension: float
    """Summand."""
    gain_db: float
    """Summand."""


STYLES = {
    "neutral": Style(1.0, 1.0, 1.0, 0.0, 0.0),
    "happy": Style(1.12, 1.15, 1.9, 0.02, 3.0),
    "sad": Style(0.78, 0.93, 0.5, -0.12, -5.0),
    "angry": Style(1.2, 1.1, 1.4, 0.15, 6.0),
}
"""The directions follow Murray & Arnott, "Toward the simulation of emotion in synthetic speech", JASA 93 (1993)."""


class Speaker(NamedTuple):
    """One synthetic voice and its labels."""

    name: str
    gender: str
    age: float
    """In years."""
    voice: "Voice"


def utterances(section: Demo, folder: Path) -> Iterator[Utterance]:
    """All synthetic utterances, speaker by speaker; each one's file is there when it is yielded.

    Labels: `speaker`, `split` (the same speakers in "train", "validation" and "test"), `gender`, `age`, `style`,
    `keyword` and `transcript`.
    """
    root = folder / "data" / "corpora" / "demo" / f"seed-{section.seed}"
    for speaker in (_speaker(section.seed, index) for index in range(section.speakers)):
        for index in range(section.utterances_per_speaker):
            yield _utterance(section.seed, speaker, index, root)


def _speaker(seed: int, index: int) -> Speaker:
    from strata.pipeline.corpora.synthesiser import Voice

    name = f"s{index + 1:02d}"
    rng = _rng(seed, name)
    female = index % 2 == 0
    # The golden ratio spreads any number of speakers evenly over the years, the same ones first.
    aged = (0.5 + (index // 2) * 0.6180339887 + 0.5 * female) % 1
    length = rng.normal(1.16 if female else 1.0, 0.025) * (1 - 0.08 * aged)
    voice = Voice(
        pitch_hz=(215 * (1 - 0.18 * aged) if female else 112 * (1 + 0.12 * aged)) * rng.lognormal(0, 0.08),
        formant_scales=tuple(length * rng.normal(1, 0.03, 5)),
        jitter=0.004 * 10**aged * rng.lognormal(0, 0.1),
        breathiness=0.01 * 20**aged * rng.lognormal(0, 0.1),
        open_quotient=0.56 + 0.1 * aged + rng.normal(0, 0.025),
        tempo=(0.9 - 0.2 * aged) * rng.lognormal(0, 0.05),
    )
    return Speaker(name, "female" if female else "male", 20.0 + round(50 * aged), voice)


def _utterance(seed: int, speaker: Speaker, index: int, root: Path) -> Utterance:
    from strata.pipeline.corpora.phones import KEYWORDS

    name = f"{speaker.name}/{index + 1:03d}"
    rng = _rng(seed, name)
    style = _dealt(seed, speaker, "style", index, STYLES)
    keyword = _dealt(seed, speaker, "keyword", index, KEYWORDS)
    words = _words(keyword, rng)
    audio = root / f"{name}.wav"
    _ensure(audio, words, speaker, style, f"{seed}/{name}", rng)
    labels = {
        "speaker": speaker.name if seed == 0 else f"{seed}-{speaker.name}",  # another seed's s01 is somebody else
        "split": ("train", "train", "train", "validation", "test")[index % 5],
        "transcript": " ".join(words),
        "gender": speaker.gender,
        "age": speaker.age,
        "style": style,
        "keyword": keyword,
    }
    return Utterance(name, audio, labels)


def _dealt(seed: int, speaker: Speaker, label: str, index: int, values) -> str:
    """Values as if dealt from a shuffled deck: random, balanced for every speaker, unchanged when more are dealt."""
    deck, position = divmod(index, len(values))
    return sorted(values)[_rng(seed, speaker.name, label, deck).permutation(len(values))[position]]


def _words(keyword: str, rng: "np.random.Generator") -> list[str]:
    from strata.pipeline.corpora.phones import CARRIERS

    words = [str(word) for word in rng.choice(sorted(CARRIERS), rng.integers(1, 4), replace=False)]
    words.insert(rng.integers(len(words) + 1), keyword)
    return words


def _manner(style: Style, rng: "np.random.Generator") -> "Manner":
    from strata.pipeline.corpora.synthesiser import Manner

    strength = rng.uniform(0.5, 1.2)
    return Manner(
        tempo=style.tempo**strength * rng.lognormal(0, 0.07),
        pitch=style.pitch**strength * rng.lognormal(0, 0.06),
        pitch_range=2.5 * style.pitch_range**strength,
        tension=style.tension * strength + rng.normal(0, 0.03),
        gain_db=style.gain_db * strength + rng.normal(0, 1.5),
        formants=rng.normal(1, 0.02),
        snr_db=rng.uniform(20, 40),
        tilt=rng.uniform(-0.6, 0.6),
    )


def _ensure(audio: Path, words: list[str], speaker: Speaker, style: str, origin: str, rng: "np.random.Generator"):
    """Make the file unless it is there, whole and of this recipe."""
    import numpy as np

    from strata.pipeline.corpora.phones import CARRIERS, KEYWORDS
    from strata.pipeline.corpora.synthesiser import synthesise

    comment = f"Synthetic speech, spoken by nobody: Strata demo corpus, recipe {RECIPE}, {origin}"
    if _is_current(audio, comment):
        return
    sounds = [{**CARRIERS, **KEYWORDS}[word] for word in words]
    samples = synthesise(sounds, speaker.voice, _manner(STYLES[style], rng), rng)
    data = np.round(samples * 32767).astype("<i2").tobytes()
    audio.parent.mkdir(parents=True, exist_ok=True)
    partial = audio.with_suffix(".partial")
    partial.write_bytes(_header(comment, len(data)) + data)
    os.replace(partial, audio)


def _is_current(audio: Path, comment: str) -> bool:
    """Whether the file begins as it would if it were made now, so that its size and recipe are right."""
    try:
        size = audio.stat().st_size
        with audio.open("rb") as file:
            found = file.read(len(_header(comment, 0)))
    except FileNotFoundError:
        return False
    return size > len(found) and found == _header(comment, size - len(found))


def _header(comment: str, num_bytes: int) -> bytes:
    """All of a WAV file up to its samples, with a comment, so that the file itself says what it is."""
    from strata.pipeline.corpora.synthesiser import SAMPLING_RATE

    text = comment.encode("ascii") + b"\0"
    text += b"\0" * (len(text) % 2)
    info = b"INFO" + struct.pack("<4sI", b"ICMT", len(text)) + text
    chunks = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLING_RATE, 2 * SAMPLING_RATE, 2, 16)
    chunks += struct.pack("<4sI", b"LIST", len(info)) + info + struct.pack("<4sI", b"data", num_bytes)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks) + num_bytes, b"WAVE") + chunks


def _rng(*names: object) -> "np.random.Generator":
    """A generator of its own for whatever the names call."""
    import numpy as np

    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
