"""openSMILE's values are those of its own Python package, for every feature set, however they were asked for."""

import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile

from strata import extractors
from strata.extractors.opensmile import MIN_SAMPLES, _opensmile
from strata.extractors.view import OpenSmileView

if find_spec("opensmile") is None:
    pytest.skip("needs the extra opensmile", allow_module_level=True)
opensmile = _opensmile()

SIZES = {
    "eGeMAPSv02": (88, 25),
    "eGeMAPSv01b": (88, 23),
    "eGeMAPSv01a": (88, 23),
    "GeMAPSv01b": (62, 18),
    "GeMAPSv01a": (62, 18),
    "ComParE_2016": (6373, 65),
    "emobase": (988, 26),
    "IS09": (384, 16),
    "IS10": (1582, 38),
    "IS11": (4368, 59),
    "IS12": (6125, 64),
    "IS13": (6373, 65),
}
"""Numbers of functionals and of low-level descriptors, as openSMILE's documentation and configurations have them."""


def official(feature_set="eGeMAPSv02", level="Functionals"):
    """The package's own extractor."""
    return opensmile.Smile(opensmile.FeatureSet[feature_set], opensmile.FeatureLevel[level])


def view(feature_set="eGeMAPSv02", **more):
    """A view of one feature set."""
    return {"family": "opensmile", "feature_set": feature_set, **more}


@pytest.mark.parametrize("feature_set", ["eGeMAPSv02", "ComParE_2016"])
def test_equals_the_official_call(feature_set, load, sounds, tmp_path):
    """To the bit, on signals and on a file, in one call with others and in calls before and after them."""
    process = official(feature_set)
    found = load(**view(feature_set)).extract(sounds, 16_000)
    for states, waveform in zip(found, sounds, strict=True):
        expected = process.process_signal(waveform, 16_000).to_numpy()
        assert states.pooled.dtype == expected.dtype == np.float32
        np.testing.assert_array_equal(states.pooled, expected)
    path = tmp_path / "sound.wav"
    soundfile.write(path, sounds[3], 16_000, subtype="PCM_16")
    decoded, _ = soundfile.read(path, dtype="float32")
    from_file = process.process_file(path).to_numpy()
    np.testing.assert_array_equal(load(**view(feature_set)).extract([decoded], 16_000)[0].pooled, from_file)


@pytest.mark.filterwarnings("ignore:.*is deprecated")  # of the library's own extractor, below
@pytest.mark.parametrize("feature_set", SIZES)
def test_every_feature_set_has_its_size_and_its_shortest_audio(feature_set, sound):
    """Widths are the published ones. At `min_samples` sound and silence give numbers; with one sample less the
    library has none."""
    extractor = extractors.load(view(feature_set, frames=["lld"]))
    assert (extractor.dim, extractor.frame_dim) == SIZES[feature_set]
    shortest = [sound(extractor.min_samples), np.zeros(extractor.min_samples, np.float32)]
    for waveform, states in zip(shortest, extractor.extract(shortest, 16_000), strict=True):
        assert np.isfinite(states.pooled).all()
        assert np.isfinite(states.frames["lld"]).all()
        with pytest.warns(UserWarning, match="too short"):
            assert np.isnan(official(feature_set)(waveform[:-1], 16_000)).all()


def test_all_feature_sets_are_known_everywhere():
    """What a view may name, what has a shortest length, and what is tested."""
    assert get_args(OpenSmileView.model_fields["feature_set"].annotation) == tuple(MIN_SAMPLES) == tuple(SIZES)


@pytest.mark.parametrize("feature_set", ["eGeMAPSv02", "ComParE_2016"])
def test_low_level_descriptors_are_frames_of_their_own(feature_set, load, sounds):
    """A hundred per second, as the library gives them; the functionals stay as they are."""
    extractor, plain = load(**view(feature_set, frames=["lld"])), load(**view(feature_set))
    process = official(feature_set, "LowLevelDescriptors")
    assert (extractor.frame_rate_hz, extractor.frame_layers) == (100.0, ("lld",))
    found, alone = extractor.extract(sounds[:3], 16_000), plain.extract(sounds[:3], 16_000)
    for states, without, waveform in zip(found, alone, sounds, strict=False):
        assert states.frames["lld"].shape == (states.num_frames, extractor.frame_dim)
        assert states.num_frames == (len(waveform) - 960) // 160 + 2  # windows of 60 ms, and one more at the end
        np.testing.assert_array_equal(states.frames["lld"], process.process_signal(waveform, 16_000).to_numpy())
        np.testing.assert_array_equal(states.pooled, without.pooled)
        assert without.num_frames == 0


def test_names_are_in_the_order_of_the_values(load, sound):
    """A value can be looked up by openSMILE's name of it."""
    extractor, waveform = load(**view()), sound(16_001)
    row = official().process_signal(waveform, 16_000).iloc[0]
    found = dict(zip(extractor.feature_names, extractor.extract([waveform], 16_000)[0].pooled[0], strict=True))
    assert found == row.to_dict()
    assert found["F0semitoneFrom27.5Hz_sma3nz_amean"] > 0


def test_full_scale_stays_full_scale(load, sound):
    """A sample of +1.0 and more is the largest 16-bit number, not the smallest."""
    loud = 8 * sound(16_001)
    assert (loud >= 1.0).any()
    assert (loud < -1.0).any()
    found = load(**view()).extract([loud], 16_000)[0].pooled
    as_file = official().process_signal(np.clip(loud, -1.0, 32_767 / 32_768), 16_000).to_numpy()
    np.testing.assert_array_equal(found, as_file)
    assert not np.array_equal(found, official().process_signal(np.clip(loud, -1.0, 1.0), 16_000).to_numpy())


def test_threads_change_nothing(monkeypatch, sounds):
    """As many at a time as there are threads, the same values to the bit."""
    one_by_one = extractors.load(view(frames=["lld"]))
    together = extractors.load(view(frames=["lld"]))
    seen = set()
    compute = together._functionals

    def watched(*arguments):
        seen.add(threading.get_ident())
        return compute(*arguments)

    monkeypatch.setattr(together, "_functionals", watched)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    expected = one_by_one.extract(sounds * 2, 16_000)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    for found, right in zip(together.extract(sounds * 2, 16_000), expected, strict=True):
        np.testing.assert_array_equal(found.pooled, right.pooled)
        np.testing.assert_array_equal(found.frames["lld"], right.frames["lld"])
    assert 1 < len(seen) <= 4


def test_nothing_is_lost_of_long_audio(load, sound):
    """Half a minute gives frames to its end: of the silence in its second half, and of the sound behind that."""
    waveform = np.zeros(30 * 16_000, np.float32)
    waveform[: 15 * 16_000] = sound(15 * 16_000)
    waveform[-8_000:] = sound(8_000)
    frames = load(**view(frames=["lld"])).extract([waveform], 16_000)[0].frames["lld"]
    assert len(frames) == (len(waveform) - 960) // 160 + 2
    loudness = frames[:, official(level="LowLevelDescriptors").feature_names.index("Loudness_sma3")]
    assert (loudness[:1_400] > 0.1).all()
    assert (loudness[1_600:2_900] < 0.01).all()
    assert (loudness[-40:] > 0.1).all()


def test_tensorflow_does_not_get_in_between(load, sound):
    """TensorFlow has functions of the same names, in everybody's sight: openSMILE calls its own nevertheless."""
    tensorflow = find_spec("tensorflow") or pytest.skip("needs the extra tfhub")
    theirs = Path(tensorflow.origin).with_name("libtensorflow_framework.so.2")
    if not theirs.exists():
        pytest.skip("this system has no libtensorflow_framework.so.2")
    code = (
        "import ctypes, hashlib  # whose OpenSSL TensorFlow has names of as well\n"
        f"ctypes.CDLL({str(theirs)!r}, mode=ctypes.RTLD_GLOBAL).cdft\n"
        "import sys, numpy as np, extractors\n"
        "sound = np.frombuffer(sys.stdin.buffer.read(), np.float32)\n"
        f"found = extractors.load({view()!r}).extract([sound], 16_000)[0].pooled\n"
        "sys.stdout.buffer.write(found.tobytes())\n"
    )
    waveform = sound(16_001)
    done = subprocess.run([sys.executable, "-c", code], input=waveform.tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == load(**view()).extract([waveform], 16_000)[0].pooled.tobytes()


def test_another_version_is_another_fingerprint(monkeypatch):
    """The library's code computes the values, so its version is part of what identifies them."""
    found = extractors.load(view()).fingerprint
    assert found["revision"] == f"opensmile {opensmile.__version__}"
    assert found["weights"].startswith("blake2b:")
    monkeypatch.setattr("strata.extractors.opensmile.version", lambda name: "99.0")
    assert extractors.load(view()).fingerprint == found | {"revision": "opensmile 99.0"}


def test_the_files_that_a_feature_set_is_read_from_are_watched(load):
    """The folder that stands for a checkpoint holds the set's configuration: other files, another fingerprint."""
    folder = load(**view()).checkpoint
    assert os.path.samefile(folder, official().default_config_root)
    assert folder in type(folder)(official().config_path).parents
