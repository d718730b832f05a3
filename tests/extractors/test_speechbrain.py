"""The x-vector is SpeechBrain's own, less its noise."""

import pickle
import shutil
import sys

import numpy as np
import pytest
import torch

from strata import extractors
from strata.extractors import speechbrain as ours
from strata.extractors.contract import ViewError
from strata.extractors.miniatures import SPEECHBRAIN, miniature
from strata.extractors.torch_setup import without_compiled_torchaudio

VIEW = {"family": "speechbrain", "source": "miniature:xvector"}


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of the miniature, to be read or spoilt."""
    source = miniature("miniature:xvector", SPEECHBRAIN, ours.make_miniature)
    return shutil.copytree(source, tmp_path / "checkpoint")


@pytest.fixture
def _without_stand_ins():
    """SpeechBrain leaves stand-ins of deprecated modules behind, which fail at the touch: Hypothesis, which looks at
    every module there is, would fall over them in later tests."""
    yield
    for name, module in list(sys.modules.items()):
        if type(module).__module__ == "speechbrain.utils.importutils":
            del sys.modules[name]


@pytest.mark.usefixtures("_without_stand_ins")
@pytest.mark.parametrize("num_samples", [481, 4_801, 31_991, 61 * 16_000 + 7])
def test_equals_speechbrain(checkpoint, load, sound, num_samples, monkeypatch):
    """Features and embedding, of short audio and of audio that goes through in pieces, are those of the modules that
    the checkpoint's hyperparams.yaml names, built by SpeechBrain from that file and run as
    `EncoderClassifier.encode_batch` does. Left out is the noise that its statistics pooling adds: it is set to zero."""
    without_compiled_torchaudio()
    from hyperpyyaml import load_hyperpyyaml
    from speechbrain.nnet.pooling import StatisticsPooling

    monkeypatch.setattr(StatisticsPooling, "_get_gauss_noise", lambda self, shape, device: torch.zeros(shape))
    modules = load_hyperpyyaml((checkpoint / "hyperparams.yaml").read_text())
    modules["embedding_model"].load_state_dict(torch.load(checkpoint / "embedding_model.ckpt", weights_only=True))
    modules["embedding_model"].eval()
    waveform = sound(num_samples)
    with torch.inference_mode():
        batch = torch.from_numpy(waveform)[None]
        features = modules["mean_var_norm"](modules["compute_features"](batch), torch.ones(1))
        expected = modules["embedding_model"](features, torch.ones(1))[0, 0].numpy()
        found = ours.filterbanks(batch, 24)
    np.testing.assert_allclose(found, features, atol=1e-3 * float(features.abs().max()))
    embedding = load(**VIEW).extract([waveform], 16_000)[0].pooled[0]
    assert np.abs(embedding - expected).max() / np.abs(expected).max() < 1e-4


@pytest.mark.usefixtures("_without_stand_ins")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_equals_the_encoder_classifier(checkpoint, sounds, monkeypatch):
    """SpeechBrain's own way in, `EncoderClassifier.from_hparams` on a local directory, gives the same embeddings
    but for its noise, which stays below a hundredth."""
    without_compiled_torchaudio()
    from speechbrain.inference.classifiers import EncoderClassifier
    from speechbrain.nnet.pooling import StatisticsPooling

    hyperparams = checkpoint / "hyperparams.yaml"
    hyperparams.write_text(hyperparams.read_text() + REST_OF_A_PUBLISHED_FILE)
    official = EncoderClassifier.from_hparams(str(checkpoint), savedir=str(checkpoint), run_opts={"device": "cpu"})
    found = extractors.load(VIEW | {"source": str(checkpoint)}, device="cpu").extract(sounds, 16_000)

    def largest_error():
        expected = [official.encode_batch(torch.from_numpy(waveform)[None])[0, 0].numpy() for waveform in sounds]
        pairs = zip(found, expected, strict=True)
        return max(np.abs(one.pooled[0] - other).max() / np.abs(other).max() for one, other in pairs)

    assert largest_error() < 1e-2
    monkeypatch.setattr(StatisticsPooling, "_get_gauss_noise", lambda self, shape, device: torch.zeros(shape))
    assert largest_error() < 1e-4


REST_OF_A_PUBLISHED_FILE = """
classifier: !new:speechbrain.lobes.models.Xvector.Classifier
    input_shape: [null, null, 128]
    activation: !name:torch.nn.LeakyReLU
    lin_blocks: 1
    lin_neurons: 16
    out_neurons: 7
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
"""


def test_long_audio_in_pieces_is_as_in_one(load, sound, relative_error, monkeypatch):
    """The pieces that bound the memory leave no seam: neither in the features nor in the statistics."""
    extractor, waveform = load(**VIEW), sound(79_999)
    whole = extractor.extract([waveform], 16_000)[0].pooled
    monkeypatch.setattr(ours, "_CHUNK_FRAMES", 97)
    assert relative_error(extractor.extract([waveform], 16_000)[0].pooled, whole) < 1e-5


def test_the_embedding_has_the_published_width(load):
    """One layer of 128, and no frames."""
    extractor = load(**VIEW)
    assert (extractor.dim, extractor.layer_names, extractor.frame_rate_hz) == (128, ("embedding",), 0.0)


def test_a_pickle_with_a_payload_is_not_run(checkpoint, sounds):
    """A checkpoint that would run a program is refused, and the program does not run."""

    class Payload:
        def __reduce__(self):
            return (open, (str(checkpoint / "ran"), "w"))

    (checkpoint / "embedding_model.ckpt").write_bytes(pickle.dumps({"x": Payload()}, protocol=2))
    with pytest.raises(ViewError, match="holds more than tensors"):
        extractors.load(VIEW | {"source": str(checkpoint)}).extract(sounds, 16_000)
    assert not (checkpoint / "ran").exists()


def test_another_network(checkpoint, sounds):
    """Tensors of another architecture are refused by what was expected."""
    torch.save({"weight": torch.zeros(3)}, checkpoint / "embedding_model.ckpt")
    with pytest.raises(ViewError, match="expected the tensors of SpeechBrain's Xvector"):
        extractors.load(VIEW | {"source": str(checkpoint)}).extract(sounds, 16_000)
