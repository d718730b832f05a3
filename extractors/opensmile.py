"""openSMILE's hand-crafted feature sets, eGeMAPS and ComParE among them: one vector of functionals per utterance.

The one file that imports openSMILE, an optional extra: its licence forbids commercial use of the features
(`extractors.NOTICES` says so wherever they are computed or reported). Nothing is trained and nothing is downloaded: a
feature set is a configuration that comes with the library.

Values are those of `opensmile.Smile(feature_set).process_signal(waveform, 16000)`, but for one thing: the library turns
samples into 16-bit integers without a limit, so that a sample of +1.0, where clipped audio has many, becomes -1.0. Here
such samples stay at the largest integer, as they do in a 16-bit file.

Functionals are statistics over the whole utterance, quantiles among them, so it is never windowed: openSMILE takes
some 35 MB per minute of audio while it computes.

Source: Eyben, Wöllmer, Schuller, *openSMILE: the Munich versatile and fast open-source audio feature extractor*, 2010;
Eyben et al., *The Geneva minimalistic acoustic parameter set (GeMAPS) for voice research and affective computing*,
2016; Schuller et al., *The INTERSPEECH 2016 computational paralinguistics challenge* (ComParE), 2016.
"""

import ctypes
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from strata.extractors.contract import SAMPLING_RATE, AudioExtractor, HiddenStates, ViewError
from strata.extractors.sources import hash_files
from strata.extractors.view import OpenSmileView

MIN_SAMPLES = {
    "eGeMAPSv02": 960,
    "eGeMAPSv01b": 960,
    "eGeMAPSv01a": 960,
    "GeMAPSv01b": 960,
    "GeMAPSv01a": 960,
    "ComParE_2016": 960,
    "emobase": 640,
    "IS09": 400,
    "IS10": 1120,
    "IS11": 1120,
    "IS12": 1120,
    "IS13": 960,
}
"""Fewest samples at 16 kHz from which a feature set gives numbers, sound or silence: its longest window, and for some
one step more. Below, the library fills the vector with NaN."""

_LARGEST = 32767 / 32768


class OpenSmileExtractor(AudioExtractor):
    """One of openSMILE's feature sets. Runs on the CPU, one utterance per thread, so batches do not matter.

    The one layer holds the functionals. They are no mean of frames, so there are none unless the view keeps the
    low-level descriptors: then `num_frames` counts those, a hundred per second.
    """

    layer_names = ("functionals",)

    def __init__(self, view: OpenSmileView, *, device: str, batch_s: float | None, folder: Path = Path()):
        library = find_spec("opensmile")
        if library is None:
            raise ViewError("views of family opensmile need openSMILE: pip install 'strata-speech[opensmile]'")
        self._view = view
        self.frame_layers = view.frames
        self.frame_rate_hz = 100.0 if view.frames else 0.0
        self.min_samples = MIN_SAMPLES[view.feature_set]
        # All that a feature set consists of beside the library's code: another version of it has other files.
        self.checkpoint = Path(library.origin).parent / "core" / "config"

    @property
    def dim(self) -> int:
        """Number of functionals: 88 for eGeMAPSv02, 6373 for ComParE_2016. Loads the library: only it knows."""
        return self._functionals.num_features

    @property
    def frame_dim(self) -> int:
        """Number of low-level descriptors where they are kept: 25 for eGeMAPSv02, 65 for ComParE_2016."""
        return self._descriptors.num_features if self.frame_layers else self.dim

    @property
    def feature_names(self) -> list[str]:
        """openSMILE's name of each functional, in the order of the values."""
        return list(self._functionals.feature_names)

    @cached_property
    def fingerprint(self) -> dict[str, object]:
        """See `Extractor.fingerprint`. In the place of weights stand the library's configuration files, the sets' and
        those that they include; the revision is the library's version, since its code computes the values."""
        return {
            "family": "opensmile",
            "source": self._view.feature_set,
            "revision": f"opensmile {version('opensmile')}",
            "weights": hash_files(sorted(self.checkpoint.rglob("*.conf*"))),
            "preprocessing": f"{SAMPLING_RATE} Hz mono, 16 bits, limited to ±1",
            "masking": "one utterance at a time",
            "compute_dtype": "float32",
            "layers": list(self.layer_names),
            "frames": list(self.frame_layers),
            "pooling": "functionals of the feature set",
        }

    def _extract(self, waveforms: Sequence[np.ndarray]) -> list[HiddenStates]:
        smiles = [self._functionals, self._descriptors] if self.frame_layers else [self._functionals]

        def compute(waveform: np.ndarray) -> HiddenStates:
            samples = np.clip(waveform, -1.0, _LARGEST)
            # openSMILE's axes are channel, feature, time.
            pooled, *kept = (np.ascontiguousarray(smile(samples, SAMPLING_RATE)[0].T) for smile in smiles)
            num_frames = len(kept[0]) if kept else 0
            return HiddenStates(pooled, num_frames, dict(zip(self.frame_layers, kept, strict=True)))

        # The library computes outside Python's lock, and each of its calls makes and frees a state of its own.
        with ThreadPoolExecutor(_num_threads()) as threads:
            return list(threads.map(compute, waveforms))

    @cached_property
    def _functionals(self) -> Any:
        return _smile(self._view.feature_set, "Functionals")

    @cached_property
    def _descriptors(self) -> Any:
        return _smile(self._view.feature_set, "LowLevelDescriptors")


def _smile(feature_set: str, level: str) -> Any:
    """openSMILE's own extractor of one feature set and level."""
    library = _opensmile()
    with warnings.catch_warnings():
        # The library advises against old versions of GeMAPS: a view that names one means it.
        warnings.simplefilter("ignore")
        return library.Smile(library.FeatureSet[feature_set], library.FeatureLevel[level])


@cache
def _opensmile() -> ModuleType:
    """openSMILE, quietly, and apart from TensorFlow.

    TensorFlow shows its symbols to everybody, and among them is a Fourier transform in double precision by the names
    that openSMILE's in single precision goes by (Ooura's `rdft`, `cdft` and more). openSMILE, if it is loaded later,
    would call that one and end the process. So its C library is loaded here, told to prefer its own, before its Python
    half loads it without that. Only the GNU C library needs this, and has it.
    """
    if hasattr(os, "RTLD_DEEPBIND"):
        for library in Path(find_spec("opensmile").origin).parent.glob("core/bin/*/libSMILEapi.so"):
            ctypes.CDLL(str(library), mode=os.RTLD_DEEPBIND)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import opensmile

        return opensmile


def _num_threads() -> int:
    """The share of the cores that this process was given, as PyTorch would take it; else all that it may use."""
    share = os.environ.get("OMP_NUM_THREADS", "")
    if share.isdecimal() and int(share) > 0:
        return int(share)
    # Where there is no affinity (macOS), all cores.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
