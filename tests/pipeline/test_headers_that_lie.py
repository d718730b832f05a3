"""Listing, extraction and `strata predict` decode files of any format to their ends, and refuse the same in the same
words."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import soundfile

from strata.extractors import audio
from strata.extractors.audio import mpeg
from strata.store import FeatureStore

CONTAINERS = {
    "PCM_U8": ("wav", "w64"),
    "PCM_16": ("wav", "flac"),
    "PCM_24": ("aiff", "caf"),
    "DOUBLE": ("wav", "caf"),
    "FLOAT": ("wav", "au"),
    "ULAW": ("wav", "au"),
    "ALAW": ("wav", "caf"),
    "IMA_ADPCM": ("wav", "aiff"),
    "MS_ADPCM": ("wav", "w64"),
    "GSM610": ("wav", "aiff"),
    "G721_32": ("wav", "au"),
    "VORBIS": ("ogg",),
    "OPUS": ("ogg",),
    "MPEG_LAYER_III": ("mp3",),
    "ALAC_16": ("caf",),
}
"""Eleven codecs in two containers each, and those that libsndfile writes into one."""
FORMATS = [(suffix, codec) for codec, suffixes in CONTAINERS.items() for suffix in suffixes]


def _sound(seconds, seed=0):
    return np.random.default_rng(seed).uniform(-0.3, 0.3, round(16_000 * seconds)).astype(np.float32)


def _write_streamed_mp3(path):
    """An MP3 of variable bit rate without the frame that tells its length: three seconds of which half are quiet."""
    samples = _sound(3.0)
    samples[24_000:] *= 1e-2
    soundfile.write(path, samples, 16_000, bitrate_mode="VARIABLE", compression_level=0.5)
    data = path.read_bytes()
    lengths, _ = mpeg._lengths(data[:3])
    path.write_bytes(data[lengths[data[:3]] :])


@pytest.fixture
def mixed(study):
    """A study of recordings of many codecs, a streamed MP3, and three cut copies; beside each row a segment of it."""
    rows = []
    for number, (suffix, codec) in enumerate(FORMATS):
        soundfile.write(study.recordings / f"{codec}.{suffix}", _sound(1.5, number), 16_000, subtype=codec)
        rows += [f"{codec}.{suffix},{'ab'[number % 2]},100,,", f"{codec}.{suffix},{'ab'[number % 2]},100,0.5,0.5"]
    _write_streamed_mp3(study.recordings / "streamed.mp3")
    rows += ["streamed.mp3,a,100,,", "streamed.mp3,b,100,2.0,0.5"]
    for name in ("PCM_16.flac", "VORBIS.ogg"):
        data = (study.recordings / name).read_bytes()
        (study.recordings / f"cut-{name}").write_bytes(data[: len(data) * 6 // 10])
        rows += [f"cut-{name},a,100,,"]
    rows += [f"{row},," for row in study.rows]
    (study.recordings / "metadata.csv").write_text("\n".join(["file_name,speaker,pitch,start_s,duration_s", *rows]))
    study.params["views"] = {"mfcc": {"family": "mfcc"}}
    study.params["experiments"] = {"one": study.params["experiments"]["one"]}
    study.params["eliminate"] = {}
    study.params["corpora"]["tones"]["max_failed"] = 0.2
    return study.write_params()


def test_every_codec_in_every_container_from_listing_to_predict(mixed):
    """Every file and every segment is listed with its decoded length and computed; a saved model answers to the same
    files, and what was not listed it refuses in the same words."""
    mixed.succeeds("corpus")
    manifest = pd.read_parquet(mixed.folder / "data" / "manifest.parquet").set_index("utterance")
    failures = pd.read_csv(mixed.folder / "data" / "corpus.failures.csv")
    assert sorted(failures["utterance"]) == ["tones/cut-PCM_16.flac", "tones/cut-VORBIS.ogg"]
    for suffix, codec in FORMATS:
        assert 1.5 <= manifest.loc[f"tones/{codec}.{suffix}", "duration_s"] < 1.6
        assert manifest.loc[f"tones/{codec}.{suffix}#0.5+0.5", "duration_s"] == 0.5
    assert 3.0 <= manifest.loc["tones/streamed.mp3", "duration_s"] < 3.2
    mixed.succeeds("extract")
    store = FeatureStore.open(mixed.folder / "features" / "mfcc.zarr")
    assert set(store.keys) == set(manifest["content"])
    mixed.succeeds("train")
    files = [str(mixed.recordings / name) for name in ("streamed.mp3", *(f"{c}.{s}" for s, c in FORMATS))]
    cut = [str(mixed.recordings / name) for name in ("cut-PCM_16.flac", "cut-VORBIS.ogg")]
    loud = mixed.recordings / "loud.wav"
    soundfile.write(loud, 9_830 * _sound(1.0), 16_000, subtype="FLOAT")
    model = str(mixed.folder / "results" / "one" / "model")
    status, out, _ = mixed.strata("predict", "--model", model, "--json", *files, *cut, str(loud), "--params", "unused")
    assert status == 1
    lines = [json.loads(line) for line in out.splitlines()]
    reasons = {line["file"]: line.get("error") for line in lines}
    assert [reasons[file] for file in files] == [None] * len(files)
    assert [reasons[file] for file in cut] == failures.sort_values("utterance")["reason"].tolist()
    assert reasons[str(loud)].startswith("far too loud: ")


def test_rows_of_estimated_lengths_are_computed_anew(mixed, monkeypatch):
    """A store of an earlier version, which knows a part of a recording by the hash of its bytes, gets a row for all of
    it, which is told in one line; no other row is touched."""
    with monkeypatch.context() as earlier:
        earlier.setattr(audio, "of_mended", lambda former: former)
        mixed.succeeds("corpus")
        mixed.succeeds("extract")
    path = mixed.folder / "features" / "mfcc.zarr"
    before = FeatureStore.open(path)
    former = hashlib.blake2b((mixed.recordings / "streamed.mp3").read_bytes(), digest_size=16).hexdigest()
    assert former in before.keys
    keys, values = list(before.keys), before.pooled()
    (mixed.folder / ".strata" / "inspected.parquet").unlink()  # its keys name the code, which was another
    mixed.succeeds("corpus")
    said = mixed.succeeds("extract")
    assert said.count("mfcc: 2 rows hold a part of their recordings, cut to lengths that headers only estimated") == 1
    assert "mfcc: 2 new of" in said
    after = FeatureStore.open(path)
    assert audio.of_mended(former) in after.keys
    np.testing.assert_array_equal(after.pooled(keys), values)
    assert "up to date" in mixed.succeeds("extract")


def test_a_channel_from_params(study):
    """`channel` in a corpus's section: another content, whose values are those of the channel; changed without listing
    again, nothing is computed from the wrong one."""
    left, right = _sound(1.0, 1), _sound(1.0, 2)
    soundfile.write(study.recordings / "000.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    soundfile.write(study.recordings / "001.wav", right, 16_000, subtype="FLOAT")
    study.params["views"] = {"mfcc": {"family": "mfcc"}}
    study.params["experiments"], study.params["eliminate"] = {}, {}
    (study.recordings / "metadata.csv").write_text("file_name,speaker\n000.wav,a\n")
    study.params["corpora"]["tones"]["channel"] = "right"
    study.params["corpora"]["mono"] = {"adapter": "folder", "root": "mono"}
    (study.folder / "mono").mkdir()
    (study.recordings / "001.wav").rename(study.folder / "mono" / "001.wav")
    (study.folder / "mono" / "metadata.csv").write_text("file_name,speaker\n001.wav,b\n")
    study.write_params().succeeds("corpus")
    study.succeeds("extract")
    manifest = pd.read_parquet(study.folder / "data" / "manifest.parquet")
    one, two = FeatureStore.open(study.folder / "features" / "mfcc.zarr").pooled(manifest["content"].tolist())
    np.testing.assert_array_equal(one, two)
    study.params["corpora"]["tones"]["channel"] = 0
    study.write_params()
    study.succeeds("store", "drop", str(study.folder / "features" / "mfcc.zarr"))
    study.fails("extract")
    assert "changed since `strata corpus` listed it" in (study.folder / "features" / "mfcc.failures.csv").read_text()
