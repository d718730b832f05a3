import os
import wave
from collections import Counter, defaultdict

import numpy as np
import pytest
import soundfile

from strata.pipeline.corpora import demo
from strata.pipeline.corpora.demo import STYLES, Demo, utterances
from strata.pipeline.corpora.phones import CARRIERS, KEYWORDS


def contents(folder):
    """The bytes of every file in the folder, by relative path."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small corpus, made once."""
    folder = tmp_path_factory.mktemp("study")
    return folder, list(utterances(Demo(speakers=3, utterances_per_speaker=11), folder))


def test_same_bytes_on_every_run(made, tmp_path):
    """A corpus made anew is the same to the bit."""
    folder, items = made
    again = list(utterances(Demo(speakers=3, utterances_per_speaker=11), tmp_path))
    assert contents(tmp_path) == contents(folder)
    assert [(item.name, item.labels) for item in again] == [(item.name, item.labels) for item in items]


def test_a_larger_corpus_holds_the_smaller_one(made, tmp_path):
    """More speakers and more utterances change none of those that were there."""
    folder, items = made
    smaller = list(utterances(Demo(speakers=2, utterances_per_speaker=5), tmp_path))
    assert contents(tmp_path).items() <= contents(folder).items()
    labels = {item.name: item.labels for item in items}
    assert all(labels[item.name] == item.labels for item in smaller)


def test_another_seed_is_another_corpus(made, tmp_path):
    """Another seed makes other files, in a place of their own."""
    folder, _ = made
    list(utterances(Demo(speakers=1, utterances_per_speaker=2, seed=7), tmp_path))
    assert set(contents(tmp_path)).isdisjoint(contents(folder))
    assert set(contents(tmp_path).values()).isdisjoint(contents(folder).values())


def test_audio_format(made):
    """Each file is 16 kHz mono 16-bit WAV of 0.5 to 4 s, neither silent nor clipped, for two independent readers."""
    for item in made[1]:
        samples, sampling_rate = soundfile.read(item.audio, dtype="int16")
        assert sampling_rate == 16_000
        assert 0.5 < len(samples) / sampling_rate < 4
        assert 0.05 < np.abs(samples / 32768).max() < 1
        with wave.open(str(item.audio)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
            assert np.array_equal(np.frombuffer(file.readframes(len(samples)), "<i2"), samples)


def test_says_that_it_is_synthetic(made):
    """CorpusSection, documentation and each single file say so."""
    assert Demo.synthetic
    assert "synthetic" in demo.__doc__
    with soundfile.SoundFile(made[1][0].audio) as file:
        assert file.comment.startswith("Synthetic speech, spoken by nobody")


def test_labels_agree_with_each_other(made):
    """One keyword among one to three carriers, one gender and one age per speaker, every style for everyone."""
    for item in made[1]:
        words = item.labels["transcript"].split()
        assert 2 <= len(words) <= 4
        assert [word for word in words if word in KEYWORDS] == [item.labels["keyword"]]
        assert all(word in CARRIERS for word in words if word != item.labels["keyword"])
        assert 20 <= item.labels["age"] <= 70
        assert item.labels["split"] in {"train", "validation", "test"}
    traits = {(item.labels["speaker"], item.labels["gender"], item.labels["age"]) for item in made[1]}
    assert len(traits) == 3
    styles = Counter((item.labels["speaker"], item.labels["style"]) for item in made[1])
    assert set(styles) == {(f"s{index:02d}", style) for index in (1, 2, 3) for style in STYLES}
    assert set(styles.values()) <= {2, 3}


def test_labels_are_heard(made):
    """Women's pitch is above men's, and sad words last longer than angry ones."""

    def pitch_hz(samples):
        spectrum = np.abs(np.fft.rfft(samples, 1 << 17)) ** 2
        lags = np.arange(16_000 // 400, 16_000 // 70)
        return 16_000 / lags[np.argmax(np.fft.irfft(spectrum)[lags])]

    pitches_hz, word_s = defaultdict(list), defaultdict(list)
    for item in made[1]:
        samples, _ = soundfile.read(item.audio)
        pitches_hz[item.labels["gender"]].append(pitch_hz(samples))
        word_s[item.labels["style"]].append(len(samples) / 16_000 / len(item.labels["transcript"].split()))
    assert np.median(pitches_hz["female"]) > 1.3 * np.median(pitches_hz["male"])
    assert np.mean(word_s["sad"]) > 1.2 * np.mean(word_s["angry"])


def test_every_speaker_is_in_every_split(made):
    """The split is within speakers, so that a speaker can be recognised in the test part."""
    splits = Counter((item.labels["speaker"], item.labels["split"]) for item in made[1])
    assert len(splits) == 9


def test_second_run_makes_nothing(made):
    """Files that are there are left alone."""
    folder, items = made
    before = [item.audio.stat().st_mtime_ns for item in items]
    again = list(utterances(Demo(speakers=3, utterances_per_speaker=11), folder))
    assert again == items
    assert [item.audio.stat().st_mtime_ns for item in again] == before


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "grown"])
def test_damage_is_repaired(tmp_path, damage):
    """A file that is missing or not of its right length is made again, and only that one."""
    section = Demo(speakers=1, utterances_per_speaker=3)
    victim, *others = [item.audio for item in utterances(section, tmp_path)]
    whole = victim.read_bytes()
    untouched = [path.stat().st_ino for path in others]
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes({"empty": b"", "cut": whole[:-13], "grown": whole + b"\0\0"}[damage])
    list(utterances(section, tmp_path))
    assert victim.read_bytes() == whole
    assert [path.stat().st_ino for path in others] == untouched


def test_another_recipe_is_made_anew(tmp_path, monkeypatch):
    """Files of an older recipe are replaced, and say which recipe they are of."""
    section = Demo(speakers=1, utterances_per_speaker=2)
    with monkeypatch.context() as patched:
        patched.setattr(demo, "RECIPE", demo.RECIPE - 1)
        list(utterances(section, tmp_path))
    for item in utterances(section, tmp_path):
        with soundfile.SoundFile(item.audio) as file:
            assert f"recipe {demo.RECIPE}, 0/{item.name}" in file.comment


def test_killed_while_writing(tmp_path, monkeypatch):
    """A run that dies before a file is whole leaves none under its name, and the next one makes it."""
    section = Demo(speakers=1, utterances_per_speaker=1)

    def die(*paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            list(utterances(section, tmp_path))
    assert not list(tmp_path.rglob("*.wav"))
    (item,) = utterances(section, tmp_path)
    assert soundfile.info(item.audio).frames > 0
    assert not list(tmp_path.rglob("*.partial"))


def test_no_global_chance(tmp_path):
    """The corpus does not depend on NumPy's global generator, nor touches it."""
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    list(utterances(Demo(speakers=1, utterances_per_speaker=2), tmp_path))
    assert np.array_equal(np.random.get_state()[1], state)
