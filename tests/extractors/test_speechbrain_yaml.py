"""A hyperparams.yaml is read as data, and refused where it describes another model than the one built here."""

import re
import shutil
import sys

import pytest

from strata import extractors
from strata.extractors import speechbrain
from strata.extractors.contract import ViewError
from strata.extractors.miniatures import SPEECHBRAIN, miniature
from strata.extractors.speechbrain_yaml import check

PUBLISHED = """\
# Model: x-vector trained on VoxCeleb
pretrained_path: speechbrain/spkrec-xvect-voxceleb
n_mels: 24
out_n_neurons: 7205

compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.Xvector.Xvector
    in_channels: !ref <n_mels>
    activation: !name:torch.nn.LeakyReLU
    tdnn_blocks: 5
    tdnn_channels: [512, 512, 512, 512, 1500]
    tdnn_kernel_sizes: [5, 3, 3, 1, 1]
    tdnn_dilations: [1, 2, 3, 1, 1]
    lin_neurons: 512
classifier: !new:speechbrain.lobes.models.Xvector.Classifier
    input_shape: [null, null, 512]
    activation: !name:torch.nn.LeakyReLU
    lin_blocks: 1
    lin_neurons: 512
    out_neurons: !ref <out_n_neurons>
mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    std_norm: False
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    mean_var_norm_emb: !ref <mean_var_norm_emb>
    classifier: !ref <classifier>
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        mean_var_norm_emb: !ref <mean_var_norm_emb>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
        mean_var_norm_emb: !ref <pretrained_path>/mean_var_norm_emb.ckpt
        classifier: !ref <pretrained_path>/classifier.ckpt
        label_encoder: !ref <pretrained_path>/label_encoder.txt
"""


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of the miniature, to be spoilt."""
    source = miniature("miniature:xvector", SPEECHBRAIN, speechbrain.make_miniature)
    return shutil.copytree(source, tmp_path / "checkpoint")


@pytest.fixture
def refusal(checkpoint):
    """Writes a hyperparams.yaml and gives the one line with which the view is refused."""

    def refusal(text):
        (checkpoint / "hyperparams.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ViewError) as caught:
            extractors.load({"family": "speechbrain", "source": str(checkpoint)})
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"source {str(checkpoint)!r}: hyperparams.yaml")
        return str(caught.value)

    return refusal


def test_the_published_file_is_accepted(checkpoint, sounds, load, relative_error):
    """The description of speechbrain/spkrec-xvect-voxceleb passes, and so does a checkpoint without one; both give the
    same values."""
    view = {"family": "speechbrain", "source": str(checkpoint)}
    expected = load(family="speechbrain", source="miniature:xvector").extract(sounds, 16_000)
    for text in (PUBLISHED, None):
        path = checkpoint / "hyperparams.yaml"
        path.unlink() if text is None else path.write_text(text)
        for found, right in zip(extractors.load(view).extract(sounds, 16_000), expected, strict=True):
            assert relative_error(found.pooled, right.pooled) == 0
    assert check(checkpoint, "here") is None


@pytest.mark.parametrize(
    "line",
    [
        "x: !apply:pathlib.Path.touch [!new:pathlib.Path ['RAN']]",
        "x: !!python/object/apply:os.system ['touch RAN']",
        "x: !!python/name:os.system",
        "x: !applyref:os.system ['touch RAN']",
        "x: !new:subprocess.Popen [[touch, RAN]]",
        "x: !new:speechbrainy.Popen",
        "x: !new:torch.hub.load ['RAN']",
        "x: [{y: !name:os.system ''}]",
        "x: !module:os",
        "x: !include:more.yaml",
        "x: !apply:speechbrain.utils.seed_everything [7]",
        "? !name:os.system\n: 1",
    ],
)
def test_python_objects_are_refused_and_not_run(line, refusal, tmp_path):
    """Whatever would call a function or reach beyond SpeechBrain is refused by its tag; nothing is called, and
    SpeechBrain is not even imported for it."""
    before = "speechbrain" in sys.modules
    message = refusal(PUBLISHED + line.replace("RAN", str(tmp_path / "ran")))
    tag = re.search(r"!+[\w.:/]+", line)[0]
    assert f"expected plain values and objects of speechbrain and torch.nn, found '{tag}' in line" in message
    assert not (tmp_path / "ran").exists()
    assert ("speechbrain" in sys.modules) == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Xvector.Xvector", "ECAPA_TDNN.ECAPA_TDNN", "embedding_model to be speechbrain.lobes.models.Xvector.Xvector"),
        ("[1, 2, 3, 1, 1]", "[1, 2, 4, 1, 1]", "tdnn_dilations [1, 2, 3, 1, 1], found [1, 2, 4, 1, 1]"),
        ("[1, 2, 3, 1, 1]", "!ref <n_mels>", "tdnn_dilations [1, 2, 3, 1, 1], found 24"),
        ("tdnn_blocks: 5", "tdnn_blocks: 4", "tdnn_blocks 5, found 4"),
        ("tdnn_blocks: 5", "dropout: 0.1", "embedding_model with no arguments beyond tdnn_blocks, tdnn_dilations"),
        (
            "!name:torch.nn.LeakyReLU\n    tdnn",
            "!name:torch.nn.ReLU\n    tdnn",
            "torch.nn.LeakyReLU as it is, found !",
        ),
        (
            "!name:torch.nn.LeakyReLU\n    tdnn",
            "!name:torch.nn.LeakyReLU {negative_slope: 0.2}\n    tdnn",
            "torch.nn.LeakyReLU as it is, found !name:torch.nn.LeakyReLU",
        ),
        ("features.Fbank", "features.MFCC", "compute_features to be speechbrain.lobes.features.Fbank"),
        ("Fbank\n", "Fbank\n    deltas: True\n", "compute_features with n_mels alone, found deltas True"),
        ("Fbank\n    n_mels: !ref <n_mels>", "Fbank [24]", "compute_features to have its values by name"),
        ("n_mels: 24", "n_mels: many", "compute_features with a number n_mels, found 'many'"),
        ("n_mels: 24", "n_mels: !ref <n_mels>", "found references in a circle"),
        ("n_mels: 24", "n_mels: !ref <bands> + 1", "found '<bands> + 1' in line 3"),
        ("norm_type: sentence", "norm_type: batch", "mean_var_norm with norm_type 'sentence', found 'batch'"),
        ("    norm_type: sentence\n", "", "norm_type sentence and std_norm False, found norm_type global"),
        ("std_norm: False", "std_norm: True", "mean_var_norm with std_norm False, found True"),
        ("std_norm: False", "std_norm: 0", "mean_var_norm with std_norm False, found 0"),
        ("    std_norm: False\n", "", "norm_type sentence and std_norm False, found std_norm True"),
        ("    compute_features: !ref <compute_features>\n", "", "speechbrain.lobes.features.Fbank, found none"),
        ("    compute_features: !ref <compute_features>", "    compute_features: !ref <n_mels>", "Fbank, found 24"),
        ("n_mels: 24", "n_mels: 24\nn_mels: 80", "each name once in the file"),
    ],
)
def test_another_model_is_refused(old, new, message, refusal):
    """Whatever changes the values is told by what is expected, what the file says, and what to do."""
    assert old in PUBLISHED
    found = refusal(PUBLISHED.replace(old, new, 1))
    assert message in found
    assert found.endswith("; choose a checkpoint of the plain x-vector, as speechbrain/spkrec-xvect-voxceleb")


def test_modules_are_what_counts(refusal):
    """A second encoder that `modules` names instead is seen."""
    other = "other: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN\n"
    text = PUBLISHED.replace("    embedding_model: !ref <embedding_model>\n", "    embedding_model: !ref <other>\n", 1)
    assert "found !new:speechbrain.lobes.models.ECAPA_TDNN" in refusal(text + other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "is not YAML (line 1: expected ',' or ']'"),
        ("a: b: c", "is not YAML (line 1: mapping values are not allowed here)"),
        (b"a: \xff\xfe\x00", "is not YAML"),
        ("[" * 5_000, "is not YAML"),
        ("a: 1\n---\nb: 2", "is not YAML"),
        ("", "expected embedding_model to be"),
        ("- a", "expected the file to have its values by name, found a list"),
        (PUBLISHED.replace("[1, 2, 3, 1, 1]", "&a [*a]"), "is nested without end"),
    ],
)
def test_a_broken_file_is_one_line(text, message, refusal):
    """What is no YAML, or no description, is said with its place."""
    assert message in refusal(text)


@pytest.mark.parametrize("value", ["!!int ''", "!!float ''", "!!int '-'", "!!bool maybe", "!!timestamp x", "!!int x"])
def test_a_value_that_its_tag_does_not_fit_is_one_line(value, refusal):
    """PyYAML has another error for each; here it is a value that differs, like any other."""
    assert "tdnn_blocks 5, found '" in refusal(PUBLISHED.replace("tdnn_blocks: 5", f"tdnn_blocks: {value}"))
    assert "with a number n_mels, found '" in refusal(PUBLISHED.replace("n_mels: 24", f"n_mels: {value}"))


def test_bands_that_are_not_the_tensors(checkpoint, sounds):
    """A number of mel bands other than the first convolution's is refused before anything is computed."""
    (checkpoint / "hyperparams.yaml").write_text(PUBLISHED.replace("n_mels: 24", "n_mels: 40"))
    extractor = extractors.load({"family": "speechbrain", "source": str(checkpoint)})
    with pytest.raises(ViewError, match=r"expected n_mels 24 in hyperparams\.yaml, as wide as .*, found 40; take both"):
        extractor.extract(sounds, 16_000)
